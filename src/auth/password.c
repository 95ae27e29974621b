#include "auth/password.h"

#include <crypt.h>
#include <errno.h>
#include <string.h>

#include "auth/sasl.h"
#include "auth/scram.h"
#include "auth/secret.h"
#include "base/assert.h"
#include "base/xalloc.h"

#define BCRYPT_PASSWORD_MAX 72
#define SCRAM_ITERATIONS 65536 /* about as long as the others */
#define SCRAM_SALT_SIZE 16

static bool is_yescrypt_cost(struct str s);
static bool is_bcrypt_cost(struct str s);
static bool is_sha512_cost(struct str s);

/*
 * crypt(5): prefix, parameters, salt and hash. `tail` counts what is behind the last "$"; with
 * bcrypt that is the salt and the hash, elsewhere there is a salt of at most `salt` before it.
 */
static const struct form {
	struct str prefix;
	enum password_method method;
	const char *name;
	bool (*is_cost)(struct str parameters);
	size_t salt, tail;
} forms[] = {
	{ STR_INIT("$y$"), PASSWORD_YESCRYPT, "yescrypt", is_yescrypt_cost, 86, 43 },
	{ STR_INIT("$2b$"), PASSWORD_BCRYPT, "bcrypt", is_bcrypt_cost, 0, 22 + 31 },
	{ STR_INIT("$2y$"), PASSWORD_BCRYPT, "bcrypt", is_bcrypt_cost, 0, 22 + 31 },
	{ STR_INIT("$6$"), PASSWORD_SHA512, "sha512", is_sha512_cost, 16, 86 },
};

/* What password_hash_make writes; 0 is the library's default. */
static const struct {
	const char *name;
	const char *prefix;
	unsigned long cost;
} methods[] = {
	[PASSWORD_YESCRYPT] = { "yescrypt", "$y$", 0 },
	[PASSWORD_BCRYPT] = { "bcrypt", "$2b$", 10 },
	[PASSWORD_SHA512] = { "sha512", "$6$", 100000 },
	[PASSWORD_SCRAM] = { "scram", NULL, 0 },
};

_Static_assert(PASSWORD_HASH_MAX < CRYPT_OUTPUT_SIZE, "crypt(3) has room for a hash");
_Static_assert(SASL_PASSWORD_MAX < CRYPT_MAX_PASSPHRASE_SIZE, "crypt(3) takes the password");
_Static_assert(SCRAM_VERIFIER_TEXT_MAX <= PASSWORD_HASH_MAX + 1, "a verifier is not longer");

/* ---- What there is -------------------------------------------------------------------------- */

static const struct form *find_form(struct str hash)
{
	for (size_t i = 0; i < sizeof(forms) / sizeof(forms[0]); i++)
		if (str_starts_with(hash, forms[i].prefix))
			return &forms[i];
	return NULL;
}

static bool is_hash64(struct str s)
{
	for (size_t i = 0; i < s.n; i++)
		if (!ascii_is_alnum(s.p[i]) && s.p[i] != '.' && s.p[i] != '/')
			return false;
	return true;
}

static bool is_whole(const struct form *form, struct str hash)
{
	struct str tail = str_from_pos(hash, str_rfind(hash, '$') + 1);

	return tail.n == form->tail && is_hash64(tail);
}

static bool is_yescrypt_cost(struct str s)
{
	return s.n > 0 && is_hash64(s);
}

static bool is_bcrypt_cost(struct str s)
{
	uint64_t cost;

	return s.n == 2 && str_to_u64(s, 31, &cost) && cost >= 4;
}

static bool is_sha512_cost(struct str s)
{
	uint64_t rounds;

	return s.n == 0 || (str_to_u64(str_from_pos(s, STR("rounds=").n), 999999999, &rounds) &&
				   rounds >= 1000);
}

/* "rounds=…" of sha512 may be missing; then the salt follows the prefix. Takes it off *rest, and the
 * "$" behind it. */
static struct str take_parameters(const struct form *form, struct str *rest)
{
	if (form->method == PASSWORD_SHA512 && !str_starts_with(*rest, STR("rounds=")))
		return str_range(*rest, 0, 0);
	return str_cut(rest, '$');
}

/* Parameters that cannot be make crypt(3) fail at once: nobody could log in, and it would show. */
static bool is_setting(const struct form *form, struct str hash, struct str *parameters)
{
	struct str rest = str_from_pos(hash, form->prefix.n);

	*parameters = take_parameters(form, &rest);
	struct str salt = form->salt > 0 ? str_cut(&rest, '$') : str_make("", 0);
	return form->is_cost(*parameters) && salt.n <= form->salt && is_hash64(salt) &&
	       rest.n == form->tail;
}

static int look_at_scram(struct str hash, struct password_cost *cost, struct err *err)
{
	struct scram_verifier verifier;
	size_t digits = 0;

	if (scram_verifier_parse(hash, &verifier, err) < 0)
		return -1;
	/* The iterations stand behind the method's word, which ends in "}" or "$". */
	struct str rest = str_from_pos(hash, STR("SCRAM-SHA-256$").n);
	if (hash.p[0] == '{')
		rest = str_from_pos(hash, STR("{SCRAM-SHA-256}").n);
	while (digits < rest.n && ascii_is_digit(rest.p[digits]))
		digits++;
	*cost = (struct password_cost){ PASSWORD_SCRAM, str_range(rest, 0, digits) };
	return 0;
}

int password_hash_look(struct str hash, struct password_cost *cost, struct err *err)
{
	const struct form *form = find_form(hash);
	struct str parameters;

	if (hash.n > PASSWORD_HASH_MAX)
		return err_set(err, "the hash is too long");
	if (scram_verifier_is(hash))
		return look_at_scram(hash, cost, err);
	if (form == NULL)
		return err_set(err,
			"not a hash that can be checked: it must be yescrypt ($y$), bcrypt ($2b$), "
			"sha512crypt ($6$) or {SCRAM-SHA-256}");
	if (!is_whole(form, hash))
		return err_set(
			err, "the %s hash is cut short, or has something behind it", form->name);
	if (!is_setting(form, hash, &parameters))
		return err_set(
			err, "the %s hash has parameters or a salt that cannot be", form->name);
	*cost = (struct password_cost){ form->method, parameters };
	return 0;
}

bool password_method_find(struct str name, enum password_method *method)
{
	for (size_t i = 0; i < sizeof(methods) / sizeof(methods[0]); i++) {
		if (str_eq(name, str_from(methods[i].name))) {
			*method = (enum password_method)i;
			return true;
		}
	}
	return false;
}

/* ---- Checking and making -------------------------------------------------------------------- */

/* crypt(3) into `out`; false when it does not take the setting. The state holds the password. */
static bool run_crypt(struct str password, const char *setting, char out[CRYPT_OUTPUT_SIZE])
{
	struct crypt_data *data = xcalloc(1, sizeof(*data));
	char phrase[SASL_PASSWORD_MAX + 1];

	str_copy_to(password, phrase, sizeof(phrase));
	const char *made = crypt_rn(phrase, setting, data, (int)sizeof(*data));
	str_copy_to(str_from(made ? made : ""), out, CRYPT_OUTPUT_SIZE);
	secret_wipe(phrase, sizeof(phrase));
	secret_free(data, sizeof(*data));
	return made != NULL;
}

static bool crypt_matches(struct str hash, struct str password)
{
	char setting[PASSWORD_HASH_MAX + 1], made[CRYPT_OUTPUT_SIZE];

	str_copy_to(hash, setting, sizeof(setting));
	bool matches =
		run_crypt(password, setting, made) && secret_eq(str_from(made), str_from(setting));
	secret_wipe(made, sizeof(made));
	return matches;
}

bool password_matches(struct str hash, struct str password)
{
	struct scram_verifier verifier;
	struct password_cost cost;

	ASSERT(password.n <= SASL_PASSWORD_MAX);
	if (password_hash_look(hash, &cost, NULL) < 0)
		return false;
	if (cost.method != PASSWORD_SCRAM)
		return crypt_matches(hash, password);
	bool matches = scram_verifier_parse(hash, &verifier, NULL) == 0 &&
		       scram_verifier_matches(&verifier, password);
	secret_wipe(&verifier, sizeof(verifier));
	return matches;
}

static int check_password(enum password_method method, struct str password, struct err *err)
{
	if (password.n == 0)
		return err_set(err, "the password is empty");
	if (password.n > SASL_PASSWORD_MAX)
		return err_set(err, "the password is longer than %d bytes", SASL_PASSWORD_MAX);
	for (size_t i = 0; i < password.n; i++)
		if (ascii_is_control(password.p[i]))
			return err_set(err, "the password has a control character in it");
	if (!sasl_is_text(password))
		return err_set(err, "the password is not UTF-8");
	if (method == PASSWORD_BCRYPT && password.n > BCRYPT_PASSWORD_MAX)
		return err_set(err, "bcrypt looks at %d bytes of a password; this one is longer",
			BCRYPT_PASSWORD_MAX);
	return 0;
}

static void make_scram(struct str password, char out[PASSWORD_HASH_MAX + 1])
{
	char salt[SCRAM_SALT_SIZE];
	struct scram_verifier verifier;

	secret_make(salt, sizeof(salt));
	scram_verifier_make(password, str_make(salt, sizeof(salt)), SCRAM_ITERATIONS, &verifier);
	scram_verifier_print(&verifier, out);
	secret_wipe(&verifier, sizeof(verifier));
}

int password_hash_make(enum password_method method, struct str password,
	char out[PASSWORD_HASH_MAX + 1], struct err *err)
{
	char setting[CRYPT_GENSALT_OUTPUT_SIZE], made[CRYPT_OUTPUT_SIZE];

	if (check_password(method, password, err) < 0)
		return -1;
	if (method == PASSWORD_SCRAM) {
		make_scram(password, out);
		return 0;
	}
	if (crypt_gensalt_rn(methods[method].prefix, methods[method].cost, NULL, 0, setting,
		    (int)sizeof(setting)) == NULL)
		return err_errno(err, "%s: no salt", methods[method].name);
	if (!run_crypt(password, setting, made))
		return err_errno(err, "%s: crypt", methods[method].name);
	str_copy_to(str_from(made), out, PASSWORD_HASH_MAX + 1);
	return 0;
}
