#include "auth/users.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "auth/crypt_worker.h"
#include "auth/scram.h"
#include "base/log.h"
#include "support/auth_record.h"
#include "support/scram_client.h"

/* Passwords: "geheim", and "anders" for the second bcrypt hash. */
#define YESCRYPT "$y$j75$saltsaltsaltsalt$CxOuvnYwwvilQD8GapWZJgCb5ioIdZEV.HBFjYVHC3A"
#define BCRYPT "$2b$04$saltsaltsaltsaltsaltse0lRRfppzNCAGvc140pTHijoqQ96dfCa"
#define BCRYPT_OTHER "$2b$04$anderssaltanderssaltaej/trk3VWDx/I5rTGTr/LS2OkUB/XyWy"
#define SHA512 \
	"$6$rounds=1000$saltsalt$vqVEzhF1x7x2p0VCWCzOM1GGIpJ62KqdREyqdHXfkzvqLwi." \
	"vIVwX0AcTW9cDubiR4wA.zOlJTle4lioqe99c1"
#define SCRAM \
	"{SCRAM-SHA-256}4096,MDEyMzQ1Njc4OWFiY2RlZg==," \
	"/9srkpCZFdtWLXRAADOKgRnMQpl58WpEivSExJTOesY=," \
	"0mIFhPwAtOwAvLSfKJk8lK+/BvPftYQ7ttxlepTn8Yc="
#define SCRAM_POSTGRESQL \
	"SCRAM-SHA-256$4096:MDEyMzQ1Njc4OWFiY2RlZg==$" \
	"/9srkpCZFdtWLXRAADOKgRnMQpl58WpEivSExJTOesY=:" \
	"0mIFhPwAtOwAvLSfKJk8lK+/BvPftYQ7ttxlepTn8Yc="

#define FILE_TEXT \
	"# users\n" \
	"\n" \
	"yes:" YESCRYPT "\n" \
	"b@example.com:" BCRYPT "\n" \
	"other:" BCRYPT_OTHER "\n" \
	"sha:" SHA512 "\n" \
	"both:" SCRAM "\n" \
	"  \t\n" \
	"both:" BCRYPT "\n" \
	"scram:" SCRAM_POSTGRESQL "\n" \
	"locked:!" BCRYPT "\n" \
	"gone:*\n" \
	"half:" SCRAM "\n" \
	"half:!\n" \
	"m\xc3\xbcller:" BCRYPT "\n"

struct world {
	struct loop *loop;
	struct auth_service *service;
	struct auth_client client;
	char path[64];
};

static void write_file(const char *path, const char *text)
{
	FILE *file = fopen(path, "w");

	assert_non_null(file);
	assert_true(fputs(text, file) >= 0);
	assert_int_equal(fclose(file), 0);
}

static int setup(void **state)
{
	struct world *world = calloc(1, sizeof(*world));
	struct err err;

	snprintf(world->path, sizeof(world->path), "/tmp/gatepost-users-XXXXXX");
	int fd = mkstemp(world->path);
	assert_true(fd >= 0);
	close(fd);
	write_file(world->path, FILE_TEXT);
	world->loop = loop_new();
	world->service = auth_users_new(world->loop, world->path, &err);
	assert_non_null(world->service);
	*state = world;
	return 0;
}

static int teardown(void **state)
{
	struct world *world = *state;

	if (world->service != NULL)
		world->service->kind->free(world->service);
	loop_free(&world->loop);
	unlink(world->path);
	free(world);
	return 0;
}

static void begin(struct world *world, struct auth_record *record, unsigned mechanism,
	const struct str *initial)
{
	auth_record_begin(record, world->loop, world->service, mechanism, initial, &world->client);
	assert_non_null(record->attempt);
}

static void begin_plain(
	struct world *world, struct auth_record *record, const char *name, const char *password)
{
	char text[1024];
	int n = snprintf(text, sizeof(text), "%c%s%c%s", 0, name, 0, password);
	struct str initial = str_make(text, (size_t)n);

	begin(world, record, AUTH_PLAIN, &initial);
	memset(text, 'x', sizeof(text)); /* views are good during the call only */
}

static enum auth_result try_plain(struct world *world, const char *name, const char *password)
{
	struct auth_record record;

	begin_plain(world, &record, name, password);
	enum auth_result result = auth_record_result(&record);
	if (result == AUTH_OK)
		assert_true(str_eq(auth_record_user(&record), str_from(name)));
	return result;
}

static uint64_t checks(struct world *world)
{
	return auth_users_counted(world->service).checks;
}

/* ---- Passwords in clear ---- */

static const struct {
	const char *name, *password;
	enum auth_result result;
} logins[] = {
	{ "yes", "geheim", AUTH_OK },
	{ "yes", "geheim2", AUTH_REFUSED },
	{ "b@example.com", "geheim", AUTH_OK },
	{ "B@example.com", "geheim", AUTH_REFUSED },
	{ "b@example.co", "geheim", AUTH_REFUSED },
	{ "other", "anders", AUTH_OK },
	{ "other", "geheim", AUTH_REFUSED },
	{ "sha", "geheim", AUTH_OK },
	{ "both", "geheim", AUTH_OK },
	{ "scram", "geheim", AUTH_OK },
	{ "scram", "Geheim", AUTH_REFUSED },
	{ "m\xc3\xbcller", "geheim", AUTH_OK },
	{ "locked", "geheim", AUTH_REFUSED },
	{ "locked", "!geheim", AUTH_REFUSED },
	{ "gone", "geheim", AUTH_REFUSED },
	{ "half", "geheim", AUTH_REFUSED },
	{ "nobody", "geheim", AUTH_REFUSED },
	{ "nobody", "anders", AUTH_REFUSED },
	{ "# users", "geheim", AUTH_REFUSED },
};

/* Each costs one check, whoever it is. */
static void test_plain(void **state)
{
	struct world *world = *state;

	for (size_t i = 0; i < sizeof(logins) / sizeof(logins[0]); i++) {
		uint64_t before = checks(world);
		assert_int_equal(
			try_plain(world, logins[i].name, logins[i].password), logins[i].result);
		assert_int_equal(checks(world) - before, 1);
	}
}

static void test_plain_prompted(void **state)
{
	struct world *world = *state;
	struct auth_record record;

	begin(world, &record, AUTH_PLAIN, NULL);
	assert_int_equal(auth_record_challenged(&record).n, 0);
	auth_record_respond(&record, STR("\0sha\0geheim"));
	assert_int_equal(auth_record_result(&record), AUTH_OK);
	assert_true(str_eq(auth_record_user(&record), STR("sha")));
}

static void test_plain_malformed(void **state)
{
	const struct {
		struct str message;
		enum auth_result result;
	} messages[] = {
		{ STR_INIT(""), AUTH_MALFORMED },
		{ STR_INIT("\0user\0pass\0extra"), AUTH_MALFORMED },
		{ STR_INIT("\0sha\0geheim\0"), AUTH_MALFORMED },
		{ STR_INIT("\0sha\0"), AUTH_MALFORMED },
		{ STR_INIT("other\0sha\0geheim"), AUTH_REFUSED },
	};
	struct world *world = *state;

	for (size_t i = 0; i < sizeof(messages) / sizeof(messages[0]); i++) {
		struct auth_record record;
		uint64_t before = checks(world);

		begin(world, &record, AUTH_PLAIN, &messages[i].message);
		assert_int_equal(auth_record_result(&record), messages[i].result);
		assert_int_equal(checks(world), before);
	}
}

static void test_login(void **state)
{
	const struct str name = STR("sha"), empty = STR(""), with_nul = STR("sha\0x");
	struct world *world = *state;
	struct auth_record record;

	begin(world, &record, AUTH_LOGIN, NULL);
	assert_true(str_eq(auth_record_challenged(&record), STR("Username:")));
	auth_record_respond(&record, name);
	assert_true(str_eq(auth_record_challenged(&record), STR("Password:")));
	auth_record_respond(&record, STR("geheim"));
	assert_int_equal(auth_record_result(&record), AUTH_OK);
	assert_true(str_eq(auth_record_user(&record), name));

	begin(world, &record, AUTH_LOGIN, &name);
	assert_true(str_eq(auth_record_challenged(&record), STR("Password:")));
	auth_record_respond(&record, STR("falsch"));
	assert_int_equal(auth_record_result(&record), AUTH_REFUSED);

	/* Who does not exist is asked for a password as well. */
	begin(world, &record, AUTH_LOGIN, NULL);
	auth_record_wait(&record);
	auth_record_respond(&record, STR("nobody"));
	assert_true(str_eq(auth_record_challenged(&record), STR("Password:")));
	auth_record_respond(&record, STR("geheim"));
	assert_int_equal(auth_record_result(&record), AUTH_REFUSED);

	begin(world, &record, AUTH_LOGIN, &empty);
	assert_int_equal(auth_record_result(&record), AUTH_MALFORMED);
	begin(world, &record, AUTH_LOGIN, &with_nul);
	assert_int_equal(auth_record_result(&record), AUTH_MALFORMED);
	begin(world, &record, AUTH_LOGIN, &name);
	auth_record_wait(&record);
	auth_record_respond(&record, STR("geheim\0"));
	assert_int_equal(auth_record_result(&record), AUTH_MALFORMED);
}

/* ---- SCRAM ---- */

struct dance {
	struct auth_record record;
	struct scram_client client;
	char challenge[1024];
	size_t challenge_n;
};

static enum auth_result dance_with(struct world *world, struct dance *dance, unsigned mechanism,
	const char *name, const char *password)
{
	bool is_plus = mechanism == AUTH_SCRAM_SHA_256_PLUS;

	dance->client = (struct scram_client){ .gs2 = is_plus ? "p=tls-exporter,," : "n,,",
		.name = str_from(name),
		.password = str_from(password),
		.nonce = "nonce",
		.binding = is_plus ? STR("binding") : STR("") };
	struct str first = scram_client_first_message(&dance->client);
	begin(world, &dance->record, mechanism, &first);
	struct str challenge = auth_record_challenged(&dance->record);
	memcpy(dance->challenge, challenge.p, challenge.n);
	dance->challenge_n = challenge.n;
	auth_record_respond(&dance->record, scram_client_final_message(&dance->client, challenge));
	auth_record_wait(&dance->record);
	if (dance->record.is_done)
		return dance->record.result;
	assert_true(scram_client_accepts(&dance->client, auth_record_challenged(&dance->record)));
	auth_record_respond(&dance->record, STR(""));
	return auth_record_result(&dance->record);
}

static void test_scram(void **state)
{
	struct world *world = *state;
	struct dance dance;
	uint64_t before = checks(world);

	assert_int_equal(dance_with(world, &dance, AUTH_SCRAM_SHA_256, "both", "geheim"), AUTH_OK);
	assert_true(str_eq(auth_record_user(&dance.record), STR("both")));
	assert_int_equal(dance_with(world, &dance, AUTH_SCRAM_SHA_256, "scram", "geheim"), AUTH_OK);
	assert_int_equal(
		dance_with(world, &dance, AUTH_SCRAM_SHA_256, "both", "falsch"), AUTH_REFUSED);
	assert_int_equal(
		dance_with(world, &dance, AUTH_SCRAM_SHA_256, "half", "geheim"), AUTH_REFUSED);
	assert_int_equal(
		dance_with(world, &dance, AUTH_SCRAM_SHA_256, "sha", "geheim"), AUTH_REFUSED);
	assert_int_equal(checks(world), before);
}

/* The signature would tell a guesser that the password is right, though he is refused. */
static void test_scram_put_off(void **state)
{
	struct world *world = *state;
	struct dance dance;

	dance.client = (struct scram_client){ .gs2 = "n,,",
		.name = STR("both"),
		.password = STR("geheim"),
		.nonce = "nonce",
		.binding = STR("") };
	struct str first = scram_client_first_message(&dance.client);
	begin(world, &dance.record, AUTH_SCRAM_SHA_256, &first);
	struct str challenge = auth_record_challenged(&dance.record);
	dance.record.is_put_off = true;
	auth_record_respond(&dance.record, scram_client_final_message(&dance.client, challenge));
	assert_int_equal(auth_record_result(&dance.record), AUTH_OK);
	assert_int_equal(dance.record.answers, 2);
}

static void test_scram_plus(void **state)
{
	struct world *world = *state;
	struct dance dance;

	world->client.channel_binding = STR("binding");
	assert_int_equal(
		dance_with(world, &dance, AUTH_SCRAM_SHA_256_PLUS, "both", "geheim"), AUTH_OK);
	assert_int_equal(dance_with(world, &dance, AUTH_SCRAM_SHA_256, "both", "geheim"), AUTH_OK);
	world->client.channel_binding = STR("another");
	assert_int_equal(
		dance_with(world, &dance, AUTH_SCRAM_SHA_256_PLUS, "both", "geheim"), AUTH_REFUSED);
}

/* Who does not exist looks like somebody else, and the same each time. */
static void test_scram_unknown(void **state)
{
	const char *names[] = { "nobody", "locked", "gone", "sha" };
	struct world *world = *state;
	struct dance known, first, second;

	dance_with(world, &known, AUTH_SCRAM_SHA_256, "both", "falsch");
	for (size_t i = 0; i < 4; i++) {
		assert_int_equal(
			dance_with(world, &first, AUTH_SCRAM_SHA_256, names[i], "x"), AUTH_REFUSED);
		assert_int_equal(dance_with(world, &second, AUTH_SCRAM_SHA_256, names[i], "y"),
			AUTH_REFUSED);
		assert_int_equal(first.challenge_n, known.challenge_n);
		struct str known_one = str_make(known.challenge, known.challenge_n);
		struct str one = str_make(first.challenge, first.challenge_n);
		struct str other = str_make(second.challenge, second.challenge_n);
		assert_true(str_eq(scram_client_part(one, 's'), scram_client_part(other, 's')));
		assert_false(
			str_eq(scram_client_part(one, 's'), scram_client_part(known_one, 's')));
		assert_true(str_eq(scram_client_part(one, 'i'), scram_client_part(known_one, 'i')));
		assert_int_equal(first.record.answers, known.record.answers);
	}
}

/* The salt and the iterations that a name is shown. */
static void look_at_salt(struct world *world, const char *name, char shown[128])
{
	struct dance dance;

	dance_with(world, &dance, AUTH_SCRAM_SHA_256, name, "x");
	struct str challenge = str_make(dance.challenge, dance.challenge_n);
	struct str salt = scram_client_part(challenge, 's');
	struct str iterations = scram_client_part(challenge, 'i');
	snprintf(shown, 128, "%.*s %.*s", STR_ARG(salt), STR_ARG(iterations));
}

static const struct {
	const char *text;
	bool is_same;
} later_files[] = {
	{ FILE_TEXT "new:" BCRYPT_OTHER "\nnewer:" SCRAM "\n", true },
	{ "# nothing but a comment\n" FILE_TEXT, true },
	{ "first:*\n" FILE_TEXT, true },
	{ "yes:!" YESCRYPT "\nboth:" SCRAM "\n", true },
	{ "both:" SCRAM "\nyes:" YESCRYPT "\n", true },
	{ "both:" SCRAM "\nother:" BCRYPT_OTHER "\nyes:" YESCRYPT "\n", false },
	{ "both:" SCRAM "\n", false },
};

/*
 * Made-up salts came from a key that each service made anew: who looked at the same name at two
 * listeners, or before and after a restart, saw which users there are.
 */
static void test_made_up_salts_stay(void **state)
{
	char before[128], after[128], known[128];
	struct world *world = *state;
	struct err err;

	look_at_salt(world, "nobody", before);
	look_at_salt(world, "both", known);
	world->service->kind->free(world->service);
	world->service = auth_users_new(world->loop, world->path, &err);
	assert_non_null(world->service);
	look_at_salt(world, "nobody", after);
	assert_string_equal(before, after);
	for (size_t i = 0; i < sizeof(later_files) / sizeof(later_files[0]); i++) {
		write_file(world->path, later_files[i].text);
		assert_int_equal(auth_users_reload(world->service, &err), 0);
		look_at_salt(world, "nobody", after);
		assert_int_equal(strcmp(before, after) == 0, later_files[i].is_same);
		look_at_salt(world, "both", after);
		assert_string_equal(known, after);
	}
}

static void test_scram_malformed(void **state)
{
	const struct str first = STR("n,,n=both,r=nonce"), garbage = STR("garbage");
	struct world *world = *state;
	struct auth_record record;
	struct dance dance;

	begin(world, &record, AUTH_SCRAM_SHA_256, NULL);
	assert_int_equal(auth_record_challenged(&record).n, 0);
	auth_record_respond(&record, garbage);
	assert_int_equal(auth_record_result(&record), AUTH_MALFORMED);
	begin(world, &record, AUTH_SCRAM_SHA_256, &first);
	auth_record_wait(&record);
	auth_record_respond(&record, garbage);
	assert_int_equal(auth_record_result(&record), AUTH_MALFORMED);
	/* Nothing comes behind our signature. */
	dance.client = (struct scram_client){ .gs2 = "n,,",
		.name = STR("both"),
		.password = STR("geheim"),
		.nonce = "nonce",
		.binding = STR("") };
	struct str message = scram_client_first_message(&dance.client);
	begin(world, &record, AUTH_SCRAM_SHA_256, &message);
	message = scram_client_final_message(&dance.client, auth_record_challenged(&record));
	auth_record_respond(&record, message);
	auth_record_wait(&record);
	auth_record_respond(&record, STR("x"));
	assert_int_equal(auth_record_result(&record), AUTH_MALFORMED);
}

/* ---- Mechanisms and the file ---- */

static const struct {
	const char *text;
	unsigned mechanisms;
	size_t users, locked, without_verifier;
} files[] = {
	{ FILE_TEXT, AUTH_PLAIN | AUTH_LOGIN | AUTH_SCRAM_SHA_256 | AUTH_SCRAM_SHA_256_PLUS, 10, 3,
		5 },
	{ "a:" BCRYPT, AUTH_PLAIN | AUTH_LOGIN, 1, 0, 1 },
	{ "a:" SCRAM "\n", AUTH_PLAIN | AUTH_LOGIN | AUTH_SCRAM_SHA_256 | AUTH_SCRAM_SHA_256_PLUS,
		1, 0, 0 },
	{ "", 0, 0, 0, 0 },
	{ "# nobody\n\n", 0, 0, 0, 0 },
	{ "a:!\n", 0, 1, 1, 0 },
};

static void test_mechanisms(void **state)
{
	struct world *world = *state;

	for (size_t i = 0; i < sizeof(files) / sizeof(files[0]); i++) {
		struct err err;

		write_file(world->path, files[i].text);
		world->service->kind->free(world->service);
		world->service = auth_users_new(world->loop, world->path, &err);
		assert_non_null(world->service);
		assert_int_equal(
			world->service->kind->mechanisms(world->service), files[i].mechanisms);
		struct auth_users_count count = auth_users_counted(world->service);
		assert_int_equal(count.users, files[i].users);
		assert_int_equal(count.locked, files[i].locked);
		assert_int_equal(count.without_verifier, files[i].without_verifier);
	}
}

static const struct {
	const char *text, *says; /* NULL: nothing */
} notices[] = {
	{ "a:" BCRYPT "\nb:" BCRYPT_OTHER "\n", NULL },
	{ "a:" BCRYPT "\na:" SCRAM "\nb:" BCRYPT "\nb:" SCRAM "\n", NULL },
	{ "a:" BCRYPT "\nb:!" SHA512 "\n", NULL },
	{ "a:" BCRYPT "\nb:" SHA512 "\n", "hashes are of 2 kinds or costs" },
	{ "a:" BCRYPT "\na:" SCRAM "\nb:" BCRYPT "\n", "1 users have no SCRAM verifier" },
};

static void read_log(const char *path, char *text, size_t size)
{
	FILE *file = fopen(path, "r");

	assert_non_null(file);
	text[fread(text, 1, size - 1, file)] = '\0';
	fclose(file);
}

/* What an operator cannot see in the file, though it tells strangers who its users are. */
static void test_notices(void **state)
{
	char path[80], text[4096];
	struct world *world = *state;
	struct err err;

	snprintf(path, sizeof(path), "%s.log", world->path);
	for (size_t i = 0; i < sizeof(notices) / sizeof(notices[0]); i++) {
		unlink(path);
		assert_int_equal(log_open(path, LOG_FORMAT_JSON, LOG_DEBUG_LEVEL, "mx", &err), 0);
		write_file(world->path, notices[i].text);
		assert_int_equal(auth_users_reload(world->service, &err), 0);
		assert_int_equal(
			log_open("stderr", LOG_FORMAT_JSON, LOG_INFO_LEVEL, "mx", &err), 0);
		read_log(path, text, sizeof(text));
		if (notices[i].says != NULL)
			assert_non_null(strstr(text, notices[i].says));
		else
			assert_int_equal(text[0], '\0');
		unlink(path);
	}
}

#define X16 "xxxxxxxxxxxxxxxx"
#define X256 X16 X16 X16 X16 X16 X16 X16 X16 X16 X16 X16 X16 X16 X16 X16 X16

static const struct {
	const char *text, *says; /* behind the path */
} mistakes[] = {
	{ "a:" BCRYPT "\nnonsense\n", ":2: must be name:hash" },
	{ "\n\na\n", ":3: must be name:hash" },
	{ ":" BCRYPT "\n", ":1: the name must be" },
	{ " a:" BCRYPT "\n", ":1: the name must be" },
	{ "a :" BCRYPT "\n", ":1: the name must be" },
	{ "a\tb:" BCRYPT "\n", ":1: the name must be" },
	{ "a\xff:" BCRYPT "\n", ":1: the name must be" },
	{ X256 ":" BCRYPT "\n", ":1: the name must be" },
	{ "a:\n", ":1: a: not a hash" },
	{ "a:geheim\n", ":1: a: not a hash" },
	{ "a:" BCRYPT "\r\n", ":1: a: the line ends with CR LF" },
	{ "\xef\xbb\xbf"
	  "a:" BCRYPT "\n",
		":1: begins with a byte order mark" },
	{ "\xef\xbb\xbf"
	  "# x\na:" BCRYPT "\n",
		":1: begins with a byte order mark" },
	{ "a:" BCRYPT ":0:0\n", ":1: a: the bcrypt hash is cut short" },
	{ "a:$6$saltsalt$abc\n", ":1: a: the sha512 hash is cut short" },
	{ "a:{SCRAM-SHA-256}1,eA==,eA==,eA==\n", ":1: a: SCRAM-SHA-256: the iterations" },
	{ "a:" BCRYPT "\nb:" BCRYPT "\na:" YESCRYPT "\n",
		":3: a has such a hash already, in line 1" },
	{ "a:" SCRAM "\n#\na:" SCRAM_POSTGRESQL "\n", ":3: a has such a hash already, in line 1" },
	{ "x\ny\nz\n", ":1: must be name:hash (and 2 more)" },
};

/* All or nothing: with a mistake the users stay as they were. */
static void test_mistakes(void **state)
{
	struct world *world = *state;

	for (size_t i = 0; i < sizeof(mistakes) / sizeof(mistakes[0]); i++) {
		struct err err;

		write_file(world->path, mistakes[i].text);
		assert_int_equal(auth_users_reload(world->service, &err), -1);
		assert_memory_equal(err.text, world->path, strlen(world->path));
		assert_memory_equal(
			err.text + strlen(world->path), mistakes[i].says, strlen(mistakes[i].says));
		assert_null(strstr(err.text, "geheim"));
		assert_null(strstr(err.text, "salt$"));
	}
	assert_int_equal(auth_users_counted(world->service).users, 10);
	assert_int_equal(try_plain(world, "sha", "geheim"), AUTH_OK);
}

static void test_unreadable(void **state)
{
	struct world *world = *state;
	struct err err;

	assert_null(auth_users_new(world->loop, "/nowhere/users", &err));
	assert_string_equal(err.text, "/nowhere/users: cannot open: No such file or directory");
	assert_null(auth_users_new(world->loop, "/tmp", &err));
	assert_string_equal(err.text, "/tmp: not a file");
	assert_null(auth_users_new(world->loop, "/dev/zero", &err));
	assert_string_equal(err.text, "/dev/zero: not a file");
	assert_int_equal(unlink(world->path), 0);
	assert_int_equal(auth_users_reload(world->service, &err), -1);
	assert_int_equal(try_plain(world, "sha", "geheim"), AUTH_OK);
}

/* An attempt that began before a reload goes on with the users that there are now; what is with the
 * process goes on with those that there were. */
static void test_reload_between(void **state)
{
	struct world *world = *state;
	struct auth_record login, plain, scram;
	const struct str first = STR("n,,n=both,r=nonce");
	struct err err;

	begin(world, &login, AUTH_LOGIN, NULL);
	auth_record_wait(&login);
	auth_record_respond(&login, STR("sha"));
	auth_record_wait(&login);
	begin_plain(world, &plain, "sha", "geheim");
	write_file(world->path, "another:" BCRYPT "\n");
	assert_int_equal(auth_users_reload(world->service, &err), 0);
	auth_record_respond(&login, STR("geheim"));
	assert_int_equal(auth_record_result(&login), AUTH_REFUSED);
	assert_int_equal(auth_record_result(&plain), AUTH_OK);
	/* Offered before, gone now. */
	begin(world, &scram, AUTH_SCRAM_SHA_256, &first);
	assert_int_equal(auth_record_result(&scram), AUTH_REFUSED);
	assert_int_equal(try_plain(world, "another", "geheim"), AUTH_OK);
}

/* Cut short, as by `>`, or about to be written: it does not lock everybody out. Locks do. */
static void test_nobody_is_left(void **state)
{
	struct world *world = *state;
	static const char *const texts[] = { "", "\n# bob:" BCRYPT "\n" };
	char text[1024];
	struct err err;

	for (size_t i = 0; i < 2; i++) {
		write_file(world->path, texts[i]);
		assert_int_equal(auth_users_reload(world->service, &err), -1);
		snprintf(text, sizeof(text), "%s: nobody is in it any more; ", world->path);
		assert_memory_equal(err.text, text, strlen(text));
		assert_int_equal(try_plain(world, "sha", "geheim"), AUTH_OK);
	}
	write_file(world->path, "sha:!" BCRYPT "\n");
	assert_int_equal(auth_users_reload(world->service, &err), 0);
	assert_int_equal(try_plain(world, "sha", "geheim"), AUTH_REFUSED);
}

/* A start with nobody goes on, and so do reloads, until there is somebody. */
static void test_nobody_at_first(void **state)
{
	struct world *world = *state;
	struct err err;

	world->service->kind->free(world->service);
	write_file(world->path, "");
	world->service = auth_users_new(world->loop, world->path, &err);
	assert_non_null(world->service);
	assert_int_equal(world->service->kind->mechanisms(world->service), 0);
	assert_int_equal(try_plain(world, "another", "geheim"), AUTH_REFUSED);
	assert_int_equal(auth_users_reload(world->service, &err), 0);
	write_file(world->path, "another:" BCRYPT "\n");
	assert_int_equal(auth_users_reload(world->service, &err), 0);
	assert_int_equal(try_plain(world, "another", "geheim"), AUTH_OK);
}

/* ---- The queue and the process ---- */

static void test_queue_is_bounded(void **state)
{
	struct world *world = *state;
	struct auth_record records[CRYPT_WORKER_QUEUE_MAX + 3];
	size_t ok = 0, unavailable = 0;

	assert_int_equal(try_plain(world, "sha", "geheim"), AUTH_OK);
	for (size_t i = 0; i < CRYPT_WORKER_QUEUE_MAX + 3; i++)
		begin_plain(world, &records[i], "sha", "geheim");
	for (size_t i = 0; i < CRYPT_WORKER_QUEUE_MAX + 3; i++) {
		enum auth_result result = auth_record_result(&records[i]);
		ok += result == AUTH_OK;
		unavailable += result == AUTH_UNAVAILABLE;
		assert_int_equal(result, i < CRYPT_WORKER_QUEUE_MAX ? AUTH_OK : AUTH_UNAVAILABLE);
	}
	assert_int_equal(ok, CRYPT_WORKER_QUEUE_MAX);
	assert_int_equal(unavailable, 3);
	assert_int_equal(try_plain(world, "sha", "geheim"), AUTH_OK);
}

/* Cancelled at the process, in the queue, and between two lines: nothing follows, and the others
 * get their own answers. */
static void test_cancel(void **state)
{
	struct world *world = *state;
	struct auth_record first, second, third, fourth;

	assert_int_equal(try_plain(world, "sha", "geheim"), AUTH_OK);
	begin_plain(world, &first, "sha", "geheim");
	begin_plain(world, &second, "sha", "geheim");
	begin_plain(world, &third, "sha", "falsch");
	begin(world, &fourth, AUTH_LOGIN, NULL);
	auth_record_cancel(&first);
	auth_record_cancel(&second);
	auth_record_cancel(&fourth);
	assert_int_equal(auth_record_result(&third), AUTH_REFUSED);
	begin(world, &fourth, AUTH_LOGIN, NULL);
	auth_record_wait(&fourth);
	auth_record_cancel(&fourth);
	assert_int_equal(try_plain(world, "sha", "geheim"), AUTH_OK);
	loop_run_for(world->loop, 20);
}

/* The process is stopped, so that it has the first check and cannot answer, and killed: that one
 * fails, the others are done by the next process. */
static void test_process_dies(void **state)
{
	struct world *world = *state;
	struct auth_record first, second;

	assert_int_equal(try_plain(world, "sha", "geheim"), AUTH_OK);
	pid_t pid = auth_users_counted(world->service).worker;
	assert_true(pid > 0);
	assert_int_equal(kill(pid, SIGSTOP), 0);
	begin_plain(world, &first, "sha", "geheim");
	begin_plain(world, &second, "sha", "geheim");
	loop_run_for(world->loop, 5);
	assert_false(first.is_done);
	assert_int_equal(kill(pid, SIGKILL), 0);
	assert_int_equal(auth_record_result(&first), AUTH_UNAVAILABLE);
	assert_int_equal(auth_record_result(&second), AUTH_OK);
	assert_int_not_equal(auth_users_counted(world->service).worker, pid);
	assert_int_equal(try_plain(world, "sha", "geheim"), AUTH_OK);
	assert_int_equal(waitpid(pid, NULL, WNOHANG), -1); /* no zombie */
}

/* It sees nothing of ours, and cannot be dumped. */
static void test_process_is_alone(void **state)
{
	struct world *world = *state;
	char path[64], text[64];

	assert_int_equal(try_plain(world, "sha", "geheim"), AUTH_OK);
	pid_t pid = auth_users_counted(world->service).worker;
	snprintf(path, sizeof(path), "/proc/%d/fd/3", (int)pid);
	if (readlink(path, text, sizeof(text)) < 0)
		assert_int_equal(errno, EACCES); /* not dumpable: its files are root's */
	snprintf(path, sizeof(path), "/proc/%d/fd/4", (int)pid);
	assert_int_equal(access(path, F_OK), -1);
	world->service->kind->free(world->service);
	world->service = NULL;
	assert_int_equal(waitpid(pid, NULL, WNOHANG), -1); /* it is gone, and reaped */
	assert_int_equal(errno, ECHILD);
}

/* With attempts in each state. */
static void test_free_early(void **state)
{
	struct world *world = *state;
	struct auth_record records[3];

	begin_plain(world, &records[0], "sha", "geheim");
	begin_plain(world, &records[1], "sha", "geheim");
	begin(world, &records[2], AUTH_LOGIN, NULL);
	world->service->kind->free(world->service);
	world->service = NULL;
	for (size_t i = 0; i < 3; i++)
		records[i].is_owed = false;
	loop_run_for(world->loop, 20);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_plain),
		TEST(test_plain_prompted),
		TEST(test_plain_malformed),
		TEST(test_login),
		TEST(test_scram),
		TEST(test_scram_put_off),
		TEST(test_scram_plus),
		TEST(test_scram_unknown),
		TEST(test_made_up_salts_stay),
		TEST(test_scram_malformed),
		TEST(test_mechanisms),
		TEST(test_notices),
		TEST(test_mistakes),
		TEST(test_unreadable),
		TEST(test_reload_between),
		TEST(test_nobody_is_left),
		TEST(test_nobody_at_first),
		TEST(test_queue_is_bounded),
		TEST(test_cancel),
		TEST(test_process_dies),
		TEST(test_process_is_alone),
		TEST(test_free_early),
	};

	signal(SIGPIPE, SIG_IGN);
	umask(077);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
