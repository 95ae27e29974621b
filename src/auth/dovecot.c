#include "auth/dovecot.h"

#include <stdlib.h>
#include <string.h>
#include <sys/queue.h>
#include <unistd.h>

#include "auth/sasl.h"
#include "auth/secret.h"
#include "base/assert.h"
#include "base/base64.h"
#include "base/log.h"
#include "base/xalloc.h"
#include "dovecot_line_priv.h"
#include "net/connector.h"
#include "net/stream.h"

#define OUT_MAX 65536
#define REST_MIN_MS 500
#define REST_MAX_MS 30000

/*
 * Bytes of a client's message that are handed on, but for tokens: older servers take lines of 8192
 * characters and close the connection, everybody's, at longer ones.
 */
#define MESSAGE_MAX 4096

/* What can be handed on as it is. */
#define MECHANISMS (AUTH_PLAIN | AUTH_LOGIN | AUTH_SCRAM_SHA_256 | AUTH_OAUTHBEARER | AUTH_XOAUTH2)

enum state {
	STATE_RESTING,
	STATE_CONNECTING,
	STATE_GREETING, /* connected; the server introduces itself */
	STATE_READY,
};

struct dovecot {
	struct auth_service service; /* first: this is what others hold */
	struct loop *loop;
	char *name; /* the address, as it was given */
	struct auth_dovecot_address address;
	uint64_t timeout_ms;
	enum state state;
	struct task starting;
	struct timer timer; /* the rest, or the deadline of the handshake */
	uint64_t rest_ms;
	bool is_failure_told; /* in the log; not again before it was ready */
	struct connector connector;
	struct stream stream;
	bool has_version;
	unsigned told, mechanisms; /* in this handshake so far; in the last whole one */
	uint32_t last_id;
	LIST_HEAD(, auth_attempt) attempts;
	size_t count;
};

/*
 * The owner is given one answer for `begin` and for each `respond`; is_owed says that he waits. What
 * the server says otherwise (it has its own deadlines) is kept until he asks.
 */
struct auth_attempt {
	LIST_ENTRY(auth_attempt) link;
	struct dovecot *dovecot;
	const struct auth_port *port;
	void *ctx;
	unsigned mechanism;
	uint32_t id; /* 0: the server knows nothing of it */
	bool is_owed, is_over;
	enum auth_result result;
	char user[SASL_NAME_MAX];
	size_t user_n;
	struct timer deadline;
	struct task finishing;
};

/* ---- Attempts ------------------------------------------------------------------------------- */

static void free_attempt(struct auth_attempt *attempt)
{
	struct dovecot *dovecot = attempt->dovecot;

	LIST_REMOVE(attempt, link);
	dovecot->count--;
	timer_stop(&attempt->deadline);
	task_cancel(&attempt->finishing, dovecot->loop);
	secret_free(attempt, sizeof(*attempt));
}

static void finish(void *ctx)
{
	struct auth_attempt *attempt = ctx;
	const struct auth_port *port = attempt->port;
	void *owner = attempt->ctx;
	enum auth_result result = attempt->result;
	char name[SASL_NAME_MAX] = "";
	struct str user = str_make(name, result == AUTH_UNAVAILABLE ? 0 : attempt->user_n);

	memcpy(name, attempt->user, user.n);
	free_attempt(attempt);
	port->done(owner, result, user);
}

/* Told at the end of this turn, or when the owner asks next. */
static void end(struct auth_attempt *attempt, enum auth_result result)
{
	timer_clear(&attempt->deadline);
	attempt->id = 0;
	if (attempt->is_over)
		return;
	attempt->is_over = true;
	attempt->result = result;
	if (attempt->is_owed)
		task_defer(&attempt->finishing, attempt->dovecot->loop);
}

static struct auth_attempt *find_attempt(struct dovecot *dovecot, uint32_t id)
{
	struct auth_attempt *attempt;

	LIST_FOREACH(attempt, &dovecot->attempts, link)
	if (attempt->id == id && id != 0)
		return attempt;
	return NULL;
}

/* ---- The connection's end ------------------------------------------------------------------- */

static void close_connection(struct dovecot *dovecot)
{
	connector_cancel(&dovecot->connector);
	stream_close(&dovecot->stream, false);
	timer_clear(&dovecot->timer);
}

/* May be called from anywhere: owners hear of it later. */
static void lose(struct dovecot *dovecot, const char *why)
{
	struct auth_attempt *attempt;

	close_connection(dovecot);
	dovecot->state = STATE_RESTING;
	if (!dovecot->is_failure_told)
		LOG(AUTH_SERVICE_FAILED, log_text("service", dovecot->name),
			log_text("error", why));
	dovecot->is_failure_told = true;
	LIST_FOREACH(attempt, &dovecot->attempts, link)
	end(attempt, AUTH_UNAVAILABLE);
	timer_set(&dovecot->timer, dovecot->rest_ms);
	dovecot->rest_ms *= 2;
	if (dovecot->rest_ms > REST_MAX_MS)
		dovecot->rest_ms = REST_MAX_MS;
}

/* ---- Sending -------------------------------------------------------------------------------- */

static void send_line(struct dovecot *dovecot, struct dovecot_line *line)
{
	bool is_taken = stream_write(&dovecot->stream, dovecot_line_end(line));

	secret_wipe(line->bytes, line->n);
	if (!is_taken)
		lose(dovecot, "the server does not read");
}

static void send_cancel(struct dovecot *dovecot, uint32_t id)
{
	struct dovecot_line line;

	if (dovecot->state != STATE_READY || id == 0)
		return;
	dovecot_line_begin(&line, "CANCEL");
	dovecot_line_add_number(&line, "", id);
	send_line(dovecot, &line);
}

/* The server is asked, and has its time to answer. */
static void ask(struct auth_attempt *attempt, struct dovecot_line *line)
{
	if (line->is_too_long) {
		send_cancel(attempt->dovecot, attempt->id);
		end(attempt, AUTH_MALFORMED);
		secret_wipe(line->bytes, line->n);
		return;
	}
	timer_set(&attempt->deadline, attempt->dovecot->timeout_ms);
	send_line(attempt->dovecot, line);
}

static bool is_too_much(const struct auth_attempt *attempt, size_t n)
{
	return n > MESSAGE_MAX && !(attempt->mechanism & (AUTH_OAUTHBEARER | AUTH_XOAUTH2));
}

static void on_deadline(void *ctx)
{
	struct auth_attempt *attempt = ctx;

	send_cancel(attempt->dovecot, attempt->id);
	end(attempt, AUTH_UNAVAILABLE);
}

/* ---- What the server says: false is the end of the connection -------------------------------- */

/* VERSION TAB major TAB minor; any minor version will do. */
static bool take_version(struct dovecot *dovecot, struct str fields)
{
	struct str major = str_cut(&fields, '\t');

	dovecot->has_version = true;
	return str_eq(major, STR("1"));
}

static bool is_flagged(struct str fields, struct str flag)
{
	struct str value;

	return dovecot_parameter(fields, flag, &value);
}

/* MECH TAB name [TAB flag]…; private ones are for Dovecot's own. */
static bool take_mechanism(struct dovecot *dovecot, struct str fields)
{
	struct str name = str_cut(&fields, '\t');

	if (!is_flagged(fields, STR("private")))
		dovecot->told |= auth_mechanism_find(name) & MECHANISMS;
	return true;
}

static void log_ready(const struct dovecot *dovecot)
{
	char text[128];
	size_t n = 0;

	for (unsigned bit = 1; bit <= AUTH_XOAUTH2; bit <<= 1)
		if (dovecot->mechanisms & bit) {
			struct str word = auth_mechanism_word(bit);
			text[n++] = ' ';
			memcpy(text + n, word.p, word.n);
			n += word.n;
		}
	LOG(AUTH_SERVICE_READY, log_text("service", dovecot->name),
		log_str("mechanisms", str_trim(str_make(text, n))));
}

static bool take_done(struct dovecot *dovecot, struct str fields)
{
	(void)fields;
	timer_clear(&dovecot->timer);
	dovecot->state = STATE_READY;
	dovecot->mechanisms = dovecot->told;
	dovecot->rest_ms = REST_MIN_MS;
	dovecot->is_failure_told = false;
	log_ready(dovecot);
	return true;
}

/* The number in front of an answer. NULL in *attempt: it was cancelled meanwhile. */
static bool take_id(struct dovecot *dovecot, struct str *fields, struct auth_attempt **attempt)
{
	uint64_t id;

	if (!str_to_u64(str_cut(fields, '\t'), UINT32_MAX, &id))
		return false;
	*attempt = find_attempt(dovecot, (uint32_t)id);
	return true;
}

/* CONT TAB id TAB base64 */
static bool take_challenge(struct dovecot *dovecot, struct str fields)
{
	char bytes[AUTH_DOVECOT_LINE_MAX / 4 * 3];
	struct auth_attempt *attempt;
	size_t n;

	if (!take_id(dovecot, &fields, &attempt) ||
		!base64_decode(str_cut(&fields, '\t'), bytes, sizeof(bytes), &n))
		return false;
	if (attempt == NULL)
		return true;
	if (!attempt->is_owed)
		return false;
	timer_clear(&attempt->deadline);
	attempt->is_owed = false;
	attempt->port->challenge(attempt->ctx, str_make(bytes, n));
	return true;
}

/* The name goes into the log, and may go into messages. */
static bool is_user(struct str user)
{
	for (size_t i = 0; i < user.n; i++)
		if (ascii_is_control(user.p[i]))
			return false;
	return user.n > 0 && sasl_is_text(user);
}

/*
 * The server's last word of a mechanism (SCRAM: its signature), which comes along with the success. RFC
 * 4954 has no room for it in the 235, so it is a challenge, and the result waits for the answer to it.
 */
static bool tell_last_word(struct auth_attempt *attempt, struct str base64)
{
	char bytes[AUTH_DOVECOT_LINE_MAX / 4 * 3];
	size_t n;

	if (!base64_decode(base64, bytes, sizeof(bytes), &n))
		return false;
	attempt->is_owed = false;
	end(attempt, AUTH_OK);
	attempt->port->challenge(attempt->ctx, str_make(bytes, n));
	return true;
}

/* OK TAB id TAB user=name [TAB parameter]… */
static bool take_success(struct dovecot *dovecot, struct str fields)
{
	struct auth_attempt *attempt;
	struct str value = { 0 }, last = { 0 };

	if (!take_id(dovecot, &fields, &attempt))
		return false;
	if (attempt == NULL)
		return true;
	if (!attempt->is_owed || !dovecot_parameter(fields, STR("user"), &value) ||
		!dovecot_unescape(value, attempt->user, sizeof(attempt->user), &attempt->user_n) ||
		!is_user(str_make(attempt->user, attempt->user_n))) {
		end(attempt, AUTH_UNAVAILABLE);
		return true;
	}
	struct str user = str_make(attempt->user, attempt->user_n);
	/* What only the right password gets must not tell that it is. */
	if (attempt->mechanism == AUTH_SCRAM_SHA_256 &&
		dovecot_parameter(fields, STR("resp"), &last) && last.n > 0 &&
		!attempt->port->is_put_off(attempt->ctx, user))
		return tell_last_word(attempt, last);
	end(attempt, AUTH_OK);
	return true;
}

static const struct {
	struct str code;
	enum auth_result result;
} failures[] = {
	{ STR_INIT("temp_fail"), AUTH_UNAVAILABLE },
	{ STR_INIT("pass_expired"), AUTH_EXPIRED },
	{ STR_INIT("invalid_base64"), AUTH_MALFORMED },
};

/* Newer servers say it by a code, older ones by a word. */
static enum auth_result failure(struct str fields)
{
	struct str code;

	if (is_flagged(fields, STR("temp")))
		return AUTH_UNAVAILABLE;
	if (!dovecot_parameter(fields, STR("code"), &code))
		return AUTH_REFUSED;
	for (size_t i = 0; i < sizeof(failures) / sizeof(failures[0]); i++)
		if (str_eq(code, failures[i].code))
			return failures[i].result;
	return AUTH_REFUSED;
}

/* For the limits of a user; the server need not say it. */
static void keep_tried_user(struct auth_attempt *attempt, struct str fields)
{
	struct str value;

	if (!dovecot_parameter(fields, STR("user"), &value) ||
		!dovecot_unescape(value, attempt->user, sizeof(attempt->user), &attempt->user_n) ||
		!is_user(str_make(attempt->user, attempt->user_n)))
		attempt->user_n = 0;
}

/* FAIL TAB id [TAB parameter]… */
static bool take_failure(struct dovecot *dovecot, struct str fields)
{
	struct auth_attempt *attempt;

	if (!take_id(dovecot, &fields, &attempt))
		return false;
	if (attempt == NULL)
		return true;
	keep_tried_user(attempt, fields);
	end(attempt, failure(fields));
	return true;
}

/* Others are ignored, as the protocol wants it: SPID, CUID, COOKIE, and what newer servers have. */
static const struct {
	struct str word;
	enum state state;
	bool (*take)(struct dovecot *dovecot, struct str fields);
} commands[] = {
	{ STR_INIT("VERSION"), STATE_GREETING, take_version },
	{ STR_INIT("MECH"), STATE_GREETING, take_mechanism },
	{ STR_INIT("DONE"), STATE_GREETING, take_done },
	{ STR_INIT("CONT"), STATE_READY, take_challenge },
	{ STR_INIT("OK"), STATE_READY, take_success },
	{ STR_INIT("FAIL"), STATE_READY, take_failure },
};

/* VERSION comes first: whoever says something else is not a Dovecot auth server. */
static bool take_line(struct dovecot *dovecot, struct str line)
{
	struct str word = str_cut(&line, '\t');

	if (!dovecot->has_version && !str_eq(word, STR("VERSION")))
		return false;
	for (size_t i = 0; i < sizeof(commands) / sizeof(commands[0]); i++)
		if (str_eq(word, commands[i].word))
			return dovecot->state == commands[i].state &&
			       commands[i].take(dovecot, line);
	return true;
}

/* ---- Receiving ------------------------------------------------------------------------------ */

static bool is_connected(const struct dovecot *dovecot)
{
	return dovecot->state == STATE_GREETING || dovecot->state == STATE_READY;
}

/* Owners are called in between, and what they send may lose the connection. */
static size_t on_input(void *ctx, struct str bytes)
{
	struct dovecot *dovecot = ctx;
	struct str rest = bytes;

	while (is_connected(dovecot)) {
		size_t n = str_find(rest, '\n');
		if (n == rest.n)
			break;
		struct str line = str_range(rest, 0, n);
		rest = str_from_pos(rest, n + 1);
		if (!take_line(dovecot, line))
			lose(dovecot, "the server does not speak Dovecot's auth protocol");
	}
	if (is_connected(dovecot) && rest.n >= AUTH_DOVECOT_LINE_MAX)
		lose(dovecot, "the server has sent a line that is too long");
	return is_connected(dovecot) ? bytes.n - rest.n : bytes.n;
}

static void on_eof(void *ctx)
{
	lose(ctx, "the server has closed the connection");
}

static void on_failed(void *ctx, const struct err *err)
{
	lose(ctx, err->text);
}

static const struct stream_events events = {
	.input = on_input,
	.eof = on_eof,
	.failed = on_failed,
};

/* ---- Connecting ----------------------------------------------------------------------------- */

/* The server's introduction may come only after ours, so it is not waited for. */
static void connected(void *ctx, int fd, const struct err *err)
{
	struct dovecot *dovecot = ctx;
	struct dovecot_line line;

	if (fd < 0) {
		lose(dovecot, err->text);
		return;
	}
	dovecot->state = STATE_GREETING;
	dovecot->has_version = false;
	dovecot->told = 0;
	stream_init(&dovecot->stream, dovecot->loop, fd, AUTH_DOVECOT_LINE_MAX, OUT_MAX, &events,
		dovecot);
	stream_set_secret(&dovecot->stream);
	stream_read_start(&dovecot->stream);
	timer_set(&dovecot->timer, dovecot->timeout_ms);
	dovecot_line_begin(&line, "VERSION");
	dovecot_line_add(&line, "", STR("1"));
	dovecot_line_add(&line, "", STR("1"));
	send_line(dovecot, &line);
	dovecot_line_begin(&line, "CPID");
	dovecot_line_add_number(&line, "", (unsigned long)getpid());
	send_line(dovecot, &line);
}

static void start(void *ctx)
{
	struct dovecot *dovecot = ctx;

	dovecot->state = STATE_CONNECTING;
	if (dovecot->address.path.n > 0)
		connector_start_unix(&dovecot->connector, dovecot->loop, dovecot->address.path,
			dovecot->timeout_ms, connected, dovecot);
	else
		connector_start(&dovecot->connector, dovecot->loop, &dovecot->address.endpoint,
			dovecot->timeout_ms, connected, dovecot);
}

static void on_timer(void *ctx)
{
	struct dovecot *dovecot = ctx;

	if (dovecot->state == STATE_RESTING)
		start(dovecot);
	else if (dovecot->state == STATE_GREETING)
		lose(dovecot, "the server does not introduce itself in time");
}

/* ---- The interface -------------------------------------------------------------------------- */

static unsigned offered(struct auth_service *service)
{
	return ((struct dovecot *)service)->mechanisms;
}

/* Unique among those under way: there are far fewer than numbers. 0 is nobody's. */
static uint32_t next_id(struct dovecot *dovecot)
{
	do
		dovecot->last_id++;
	while (dovecot->last_id == 0 || find_attempt(dovecot, dovecot->last_id) != NULL);
	return dovecot->last_id;
}

static struct auth_attempt *begin(struct auth_service *service, unsigned mechanism,
	const struct str *initial, const struct auth_client *client, const struct auth_port *port,
	void *ctx)
{
	struct dovecot *dovecot = (struct dovecot *)service;
	struct dovecot_line line;

	if (dovecot->count >= AUTH_DOVECOT_REQUESTS_MAX)
		return NULL;
	struct auth_attempt *attempt = xcalloc(1, sizeof(*attempt));
	*attempt = (struct auth_attempt){ .dovecot = dovecot, .port = port, .ctx = ctx };
	attempt->mechanism = mechanism;
	attempt->is_owed = true;
	timer_init(&attempt->deadline, dovecot->loop, on_deadline, attempt);
	task_init(&attempt->finishing, finish, attempt);
	LIST_INSERT_HEAD(&dovecot->attempts, attempt, link);
	dovecot->count++;
	if (dovecot->state != STATE_READY || !(dovecot->mechanisms & mechanism)) {
		end(attempt, AUTH_UNAVAILABLE);
		return attempt;
	}
	/* An empty one ("=") is no message of any mechanism; the server would take it for none. */
	if (initial != NULL && (initial->n == 0 || is_too_much(attempt, initial->n))) {
		end(attempt, AUTH_MALFORMED);
		return attempt;
	}
	attempt->id = next_id(dovecot);
	dovecot_line_auth(&line, attempt->id, mechanism, client, initial);
	ask(attempt, &line);
	return attempt;
}

static void respond(struct auth_attempt *attempt, struct str bytes)
{
	struct dovecot_line line;

	ASSERT(!attempt->is_owed);
	attempt->is_owed = true;
	if (attempt->is_over) {
		/* The last word of a mechanism is answered by nothing. */
		if (attempt->result == AUTH_OK && bytes.n > 0)
			attempt->result = AUTH_MALFORMED;
		task_defer(&attempt->finishing, attempt->dovecot->loop);
		return;
	}
	dovecot_line_begin(&line, "CONT");
	dovecot_line_add_number(&line, "", attempt->id);
	dovecot_line_add_base64(&line, "", bytes);
	line.is_too_long |= is_too_much(attempt, bytes.n);
	ask(attempt, &line);
}

static void cancel(struct auth_attempt *attempt)
{
	struct dovecot *dovecot = attempt->dovecot;
	uint32_t id = attempt->id;

	free_attempt(attempt);
	send_cancel(dovecot, id);
}

static void free_memory(void *object)
{
	struct dovecot *dovecot = object;

	free(dovecot->name);
	free(dovecot);
}

static void free_dovecot(struct auth_service *service)
{
	struct dovecot *dovecot = (struct dovecot *)service;

	while (!LIST_EMPTY(&dovecot->attempts))
		free_attempt(LIST_FIRST(&dovecot->attempts));
	close_connection(dovecot);
	timer_stop(&dovecot->timer);
	task_cancel(&dovecot->starting, dovecot->loop);
	loop_retire(dovecot->loop, free_memory, dovecot);
}

static const struct auth_service_kind kind = {
	.mechanisms = offered,
	.begin = begin,
	.respond = respond,
	.cancel = cancel,
	.free = free_dovecot,
};

int auth_dovecot_address_parse(
	struct str text, struct auth_dovecot_address *address, struct err *err)
{
	struct str rest = text;
	struct str kind_word = str_cut(&rest, ':');

	*address = (struct auth_dovecot_address){ .path = str_make("", 0) };
	if (str_eq(kind_word, STR("unix")) && rest.n > 1 && rest.p[0] == '/') {
		address->path = rest;
		return 0;
	}
	if (str_eq(kind_word, STR("inet")) && endpoint_parse(rest, &address->endpoint) &&
		address->endpoint.port > 0)
		return 0;
	return err_set(err,
		"%.*s: must be unix:/path or inet:address:port (with an IP address, no name)",
		STR_ARG(text));
}

struct auth_service *auth_dovecot_new(
	struct loop *loop, struct str address, uint64_t timeout_ms, struct err *err)
{
	struct auth_dovecot_address parsed;

	if (auth_dovecot_address_parse(address, &parsed, err) < 0)
		return NULL;
	struct dovecot *dovecot = xcalloc(1, sizeof(*dovecot));
	*dovecot = (struct dovecot){ .service = { &kind }, .loop = loop, .timeout_ms = timeout_ms };
	dovecot->name = str_dup(address);
	/* The path is a view into the text, which is the caller's. */
	(void)auth_dovecot_address_parse(str_from(dovecot->name), &dovecot->address, NULL);
	dovecot->rest_ms = REST_MIN_MS;
	LIST_INIT(&dovecot->attempts);
	timer_init(&dovecot->timer, loop, on_timer, dovecot);
	task_init(&dovecot->starting, start, dovecot);
	task_defer(&dovecot->starting, loop);
	return &dovecot->service;
}

bool auth_dovecot_is_ready(const struct auth_service *service)
{
	const struct dovecot *dovecot = (const struct dovecot *)service;

	ASSERT(service->kind == &kind);
	return dovecot->state == STATE_READY;
}
