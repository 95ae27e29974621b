#include "auth/sasl_client.h"

#include <string.h>

#include "auth/secret.h"
#include "base/assert.h"

/* ---- PLAIN and LOGIN ------------------------------------------------------------------------ */

/* RFC 4616: [authzid] UTF8NUL authcid UTF8NUL passwd */
static int say_plain(
	struct sasl_client *client, struct str challenge, struct str *message, struct err *err)
{
	struct str name = client->credentials.name, password = client->credentials.password;

	(void)challenge;
	(void)err;
	client->message[0] = '\0';
	memcpy(client->message + 1, name.p, name.n);
	client->message[1 + name.n] = '\0';
	memcpy(client->message + 2 + name.n, password.p, password.n);
	*message = str_make(client->message, 2 + name.n + password.n);
	return 0;
}

/* The prompts of servers differ; only their order counts. */
static int say_name(
	struct sasl_client *client, struct str challenge, struct str *message, struct err *err)
{
	(void)challenge;
	(void)err;
	*message = client->credentials.name;
	return 0;
}

static int say_password(
	struct sasl_client *client, struct str challenge, struct str *message, struct err *err)
{
	(void)challenge;
	(void)err;
	*message = client->credentials.password;
	return 0;
}

/* ---- SCRAM ---------------------------------------------------------------------------------- */

static int say_scram_first(
	struct sasl_client *client, struct str challenge, struct str *message, struct err *err)
{
	if (challenge.n > 0)
		return err_set(err, "the server did not wait for our message");
	*message = scram_login_first(&client->scram);
	return 0;
}

static int say_scram_final(
	struct sasl_client *client, struct str challenge, struct str *message, struct err *err)
{
	return scram_login_final(&client->scram, challenge, message, err);
}

static int check_scram(
	struct sasl_client *client, struct str challenge, struct str *message, struct err *err)
{
	client->is_proven = scram_login_verify(&client->scram, challenge);
	*message = STR("");
	if (!client->is_proven)
		return err_set(err, "the server has not proved that it knows the password");
	return 0;
}

/* ---- The exchange --------------------------------------------------------------------------- */

#define STEPS_MAX 3

static const struct mechanism {
	unsigned mechanism;
	bool has_initial;
	bool must_prove; /* the server */
	int (*steps[STEPS_MAX])(struct sasl_client *client, struct str challenge,
		struct str *message, struct err *err);
} mechanisms[] = {
	{ AUTH_PLAIN, true, false, { say_plain } },
	{ AUTH_LOGIN, false, false, { say_name, say_password } },
	{ AUTH_SCRAM_SHA_256, true, true, { say_scram_first, say_scram_final, check_scram } },
};

static const struct mechanism *find(unsigned mechanism)
{
	size_t i = 0;

	while (i < sizeof(mechanisms) / sizeof(mechanisms[0]) &&
		mechanisms[i].mechanism != mechanism)
		i++;
	ASSERT(i < sizeof(mechanisms) / sizeof(mechanisms[0]));
	return &mechanisms[i];
}

void sasl_client_begin(struct sasl_client *client, unsigned mechanism,
	struct sasl_credentials credentials, struct scram_keyring *ring)
{
	char nonce[SCRAM_NONCE_SIZE];

	ASSERT(credentials.name.n <= SASL_NAME_MAX && credentials.password.n <= SASL_PASSWORD_MAX);
	*client = (struct sasl_client){ .mechanism = find(mechanism)->mechanism };
	memcpy(client->password, credentials.password.p, credentials.password.n);
	credentials.password = str_make(client->password, credentials.password.n);
	client->credentials = credentials;
	if (mechanism != AUTH_SCRAM_SHA_256)
		return;
	scram_nonce_make(nonce);
	scram_login_begin(&client->scram, credentials, ring, str_make(nonce, sizeof(nonce)));
}

bool sasl_client_initial(struct sasl_client *client, struct str *message)
{
	const struct mechanism *mechanism = find(client->mechanism);

	return mechanism->has_initial && client->step == 0 &&
	       sasl_client_answer(client, STR(""), message, NULL) == 0;
}

int sasl_client_answer(
	struct sasl_client *client, struct str challenge, struct str *message, struct err *err)
{
	const struct mechanism *mechanism = find(client->mechanism);

	if (client->step == STEPS_MAX || mechanism->steps[client->step] == NULL)
		return err_set(err, "the server asks for more than the mechanism has");
	if (mechanism->steps[client->step++](client, challenge, message, err) < 0)
		return -1;
	client->said = *message;
	return 0;
}

struct str sasl_client_said(const struct sasl_client *client)
{
	return client->said;
}

int sasl_client_check(const struct sasl_client *client, struct err *err)
{
	const struct mechanism *mechanism = find(client->mechanism);

	if (mechanism->must_prove && !client->is_proven)
		return err_set(err, "the server has not proved that it knows the password");
	return 0;
}

void sasl_client_end(struct sasl_client *client)
{
	secret_wipe(client, sizeof(*client));
}
