#include "base/log.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "base/assert.h"
#include "base/xalloc.h"
#include "log_priv.h"

#define RECORD_MAX 65536
#define GATHERED_MAX (RECORD_MAX + 16)
#define HOSTNAME_MAX 256

static const struct event {
	const char *word;
	enum log_level level;
	const char *fields;
	const char *meaning;
} events[LOG_EVENT_COUNT] = {
#define LOGEVENT(id, word, level, fields, meaning) \
	[LOG_##id] = { word, LOG_##level##_LEVEL, fields, meaning },
#include "tables/logevents.def"
#undef LOGEVENT
};

static const char *const level_words[] = {
	[LOG_DEBUG_LEVEL] = "debug",
	[LOG_INFO_LEVEL] = "info",
	[LOG_WARNING_LEVEL] = "warning",
	[LOG_ERROR_LEVEL] = "error",
};

struct sink {
	int fd; /* -1: not open yet */
	bool is_socket, is_file;
};

static struct {
	struct sink sink;
	char *path; /* NULL: stderr */
	enum log_format format;
	enum log_level level;
	char hostname[HOSTNAME_MAX];
	uint64_t dropped;
	uint64_t reported; /* of those, told in a log_dropped record */
	bool is_torn;      /* the last write ended within a line */
	bool is_gathering; /* between log_gather() and log_release() */
	struct buf record; /* being printed; may be two lines */
	struct buf gathered;
	void (*take)(void *ctx, enum log_event event, const struct log_field *fields, size_t count);
	void *take_ctx; /* of what records are diverted to, if it is there */
} logger = {
	.sink.fd = -1,
	.level = LOG_INFO_LEVEL,
	.hostname = "localhost",
	.record.max = RECORD_MAX,
	.gathered.max = GATHERED_MAX,
};

/* ---- Where records go ---------------------------------------------------------------------- */

/*
 * A pipe that nobody reads must not hold up mail, and O_NONBLOCK on descriptor 2 would change it
 * for whoever gave us the pipe. Opening it anew gives a description of our own. Not for files:
 * there the position is to be shared with what else is written to stderr.
 */
static struct sink open_stderr(void)
{
	struct sink sink = { .fd = STDERR_FILENO };
	struct stat status;

	if (fstat(STDERR_FILENO, &status) < 0)
		return sink;
	sink.is_socket = S_ISSOCK(status.st_mode);
	sink.is_file = S_ISREG(status.st_mode);
	if (!S_ISFIFO(status.st_mode))
		return sink;
	int fd = open("/proc/self/fd/2", O_WRONLY | O_NONBLOCK | O_CLOEXEC);
	if (fd >= 0)
		sink.fd = fd;
	return sink;
}

static void close_sink(struct sink *sink)
{
	if (sink->fd > STDERR_FILENO)
		close(sink->fd);
	sink->fd = -1;
}

/* O_NONBLOCK is for named pipes: it has no effect on files. */
static int open_file(const char *path, struct sink *sink, struct err *err)
{
	int flags = O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC | O_NOCTTY | O_NONBLOCK;
	int fd = open(path, flags, 0640);
	struct stat status;

	if (fd < 0)
		return err_errno(err, "cannot open the log %s", path);
	*sink = (struct sink){ .fd = fd };
	sink->is_file = fstat(fd, &status) == 0 && S_ISREG(status.st_mode);
	return 0;
}

static int open_sink(const char *path, struct sink *sink, struct err *err)
{
	if (path)
		return open_file(path, sink, err);
	*sink = open_stderr();
	return 0;
}

static void replace_sink(struct sink sink)
{
	log_flush();
	close_sink(&logger.sink);
	logger.sink = sink;
	logger.is_torn = false;
}

/* Postfix lines carry it as a word, so it must be one. */
static void set_hostname(struct str name)
{
	size_t n = str_copy_to(name, logger.hostname, sizeof(logger.hostname));

	for (size_t i = 0; i < n; i++)
		if (!ascii_is_alnum(name.p[i]) && name.p[i] != '-' && name.p[i] != '.')
			logger.hostname[i] = '?';
	if (n == 0)
		str_copy_to(STR("localhost"), logger.hostname, sizeof(logger.hostname));
}

int log_open(const char *target, enum log_format format, enum log_level level, const char *hostname,
	struct err *err)
{
	const char *path = strcmp(target, "stderr") == 0 ? NULL : target;
	struct sink sink;

	if (open_sink(path, &sink, err) < 0)
		return -1;
	replace_sink(sink);
	free(logger.path);
	logger.path = path ? xstrdup(path) : NULL;
	logger.format = format;
	logger.level = level;
	set_hostname(str_from(hostname));
	return 0;
}

int log_give_to(uid_t user, gid_t group, struct err *err)
{
	if (logger.path != NULL && fchown(logger.sink.fd, user, group) < 0)
		return err_errno(err, "cannot give the log %s away", logger.path);
	return 0;
}

int log_reopen(struct err *err)
{
	struct sink sink;

	if (open_sink(logger.path, &sink, err) < 0)
		return -1;
	replace_sink(sink);
	return 0;
}

/* ---- JSON ---------------------------------------------------------------------------------- */

/* "YYYY-MM-DDTHH:MM:SS", printed once a second. */
static struct str utc_seconds(time_t second)
{
	static time_t printed = -1;
	static char text[32];
	static size_t n;
	struct tm tm;

	if (second != printed) {
		gmtime_r(&second, &tm);
		n = strftime(text, sizeof(text), "%Y-%m-%dT%H:%M:%S", &tm);
		printed = second;
	}
	return str_make(text, n);
}

/* The only member that is not written by way of struct json, as no string of it needs an escape. */
static void put_time(struct buf *out)
{
	struct timespec now;

	clock_gettime(CLOCK_REALTIME, &now);
	buf_write(out, STR("{\"time\":\""));
	buf_write(out, utc_seconds(now.tv_sec));
	buf_write(out, STR("."));
	buf_write_number(out, (uint64_t)(now.tv_nsec / 1000000), 3);
	buf_write(out, STR("Z\""));
}

static void put_json_pair(struct json *json, const struct log_field *field)
{
	if (field->type == LOG_FIELD_STR) {
		json_name_str(json, field->name, field->text);
		return;
	}
	json_name(json, field->name);
	switch (field->type) {
	case LOG_FIELD_INT:
		json_int(json, field->number);
		break;
	case LOG_FIELD_BOOL:
		json_bool(json, field->number);
		break;
	case LOG_FIELD_STR:
	case LOG_FIELD_NULL:
	case LOG_FIELD_NONE:
		json_null(json);
		break;
	}
}

/* False, with the record as it was before, when the field leaves no room for the tail. */
static bool put_json_field(struct json *json, const struct log_field *field)
{
	struct json before = *json;
	size_t used = buf_used(json->out);

	if (field->type == LOG_FIELD_NONE)
		return true;
	put_json_pair(json, field);
	if (json_ok(json) && buf_room(json->out) >= LOG_TAIL_ROOM)
		return true;
	buf_truncate(json->out, used);
	*json = before;
	return false;
}

static void put_json(
	struct buf *out, enum log_event event, const struct log_field *fields, size_t count)
{
	struct json json;
	bool whole = true;

	put_time(out);
	json_init(&json, out);
	json.needs_comma = true;
	json_name_str(&json, STR("level"), str_from(level_words[events[event].level]));
	json_name_str(&json, STR("event"), str_from(events[event].word));
	for (size_t i = 0; i < count; i++)
		whole &= put_json_field(&json, &fields[i]);
	if (!whole)
		json_key_bool(&json, "cut", true);
	json_object_end(&json);
	ASSERT(json_ok(&json));
}

/* ---- Writing ------------------------------------------------------------------------------- */

/* As syslog writes it: local time, English months whatever the locale, the day in two columns. */
static void put_postfix_prefix(struct buf *out)
{
	static const char months[12][4] = { "Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug",
		"Sep", "Oct", "Nov", "Dec" };
	time_t now = time(NULL);
	struct tm tm;

	localtime_r(&now, &tm);
	buf_printf(out, "%s %2d %02d:%02d:%02d %s postfix-gatepost/smtpd[%d]: ", months[tm.tm_mon],
		tm.tm_mday, tm.tm_hour, tm.tm_min, tm.tm_sec, logger.hostname, (int)getpid());
}

static ssize_t write_sink(struct str line)
{
	ssize_t n;

	do {
		if (logger.sink.is_socket)
			n = send(logger.sink.fd, line.p, line.n, MSG_DONTWAIT | MSG_NOSIGNAL);
		else
			n = write(logger.sink.fd, line.p, line.n);
	} while (n < 0 && errno == EINTR);
	return n;
}

static size_t count_lines(struct str text)
{
	size_t lines = 0;

	for (size_t at; (at = str_find(text, '\n')) < text.n; lines++)
		text = str_from_pos(text, at + 1);
	return lines;
}

/*
 * Writes what is gathered; false when some of it was lost. What a full disk or pipe left out is lost,
 * as the rest of a line has no place once another process has written behind it.
 */
static bool write_gathered(void)
{
	struct str lines = buf_view(&logger.gathered);
	ssize_t n = lines.n > 0 ? write_sink(lines) : 0;
	bool is_whole = n == (ssize_t)lines.n;

	buf_truncate(&logger.gathered, 0);
	if (n > 0)
		logger.is_torn = lines.p[n - 1] != '\n';
	if (is_whole)
		return true;
	/* The first line end may be that of a torn log. */
	struct str left = str_from_pos(lines, n > 0 ? (size_t)n : 0);
	logger.dropped += count_lines(left) - (n <= 0 && lines.p[0] == '\n');
	return false;
}

static void begin_line(void)
{
	buf_truncate(&logger.record, 0);
}

static void end_line(void)
{
	struct buf *gathered = &logger.gathered;
	bool ended = buf_write(&logger.record, STR("\n"));

	ASSERT(ended);
	struct str line = buf_view(&logger.record);
	if (buf_room(gathered) < line.n + 1)
		write_gathered();
	if (logger.is_torn && buf_used(gathered) == 0)
		buf_write(gathered, STR("\n"));
	buf_write(gathered, line);
}

static void put_postfix(enum log_event event, const struct log_field *fields, size_t count)
{
	begin_line();
	put_postfix_prefix(&logger.record);
	if (log_postfix_put_fault(&logger.record, event, fields, count)) {
		end_line();
		begin_line();
		put_postfix_prefix(&logger.record);
	}
	log_postfix_put(&logger.record, event, fields, count);
	end_line();
}

static void put_record(enum log_event event, const struct log_field *fields, size_t count)
{
	if (logger.sink.fd < 0)
		logger.sink = open_stderr();
	if (logger.format == LOG_FORMAT_POSTFIX) {
		put_postfix(event, fields, count);
		return;
	}
	begin_line();
	put_json(&logger.record, event, fields, count);
	end_line();
}

/* Called when the log works again. */
static void report_dropped(void)
{
	uint64_t dropped = logger.dropped;
	struct log_field field = log_int("count", (int64_t)(dropped - logger.reported));

	if (dropped == logger.reported || !log_wants(LOG_LOG_DROPPED))
		return;
	put_record(LOG_LOG_DROPPED, &field, 1);
	if (write_gathered())
		logger.reported = dropped;
	else
		logger.dropped = dropped; /* this record is none that anybody misses */
}

void log_flush(void)
{
	int saved = errno;

	if (buf_used(&logger.gathered) > 0 && write_gathered())
		report_dropped();
	errno = saved;
}

/* ---- Gathering ------------------------------------------------------------------------------ */

static void stop_gathering(void)
{
	logger.is_gathering = false;
}

void log_gather(bool gathers)
{
	static bool is_watching_forks;

	log_flush();
	/* What is gathered is written by one of both, and a child has no turns. */
	if (!is_watching_forks)
		is_watching_forks = pthread_atfork(log_flush, NULL, stop_gathering) == 0;
	logger.is_gathering = gathers && is_watching_forks;
}

void log_divert(
	void (*take)(void *ctx, enum log_event event, const struct log_field *fields, size_t count),
	void *ctx)
{
	logger.take = take;
	logger.take_ctx = ctx;
}

bool log_wants(enum log_event event)
{
	return events[event].level >= logger.level;
}

void log_write(enum log_event event, const struct log_field *fields, size_t count)
{
	int saved = errno;

	if (logger.take != NULL) {
		logger.take(logger.take_ctx, event, fields, count);
		return;
	}
	if (!log_wants(event))
		return;
	put_record(event, fields, count);
	if (!logger.is_gathering || !logger.sink.is_file)
		log_flush();
	errno = saved;
}

uint64_t log_dropped(void)
{
	return logger.dropped;
}

const char *log_event_word(enum log_event event)
{
	return events[event].word;
}

/* ---- Reference ----------------------------------------------------------------------------- */

static const char intro[] =
	"# Log events\n"
	"\n"
	"One record an event, one line a record. In the form `json` a record is an object that\n"
	"begins with `time` (UTC), `level` and `event`; then come the fields of the event. A "
	"field\n"
	"is missing or null when nothing is known about it. A record is at most 64 KiB; one that\n"
	"had to leave out fields carries `cut`.\n"
	"\n"
	"In the form `postfix` the events that Postfix has too are said in its words, behind\n"
	"`Nov 22 09:05:58 HOSTNAME postfix-gatepost/smtpd[PID]: `; the others are written as\n"
	"`event: name=value name=value`. Bytes that are not printable ASCII become `?`. Filters\n"
	"written for Postfix, such as fail2ban's, match these lines.\n"
	"\n";

static void print_fields(struct buf *out, struct str fields)
{
	while (fields.n > 0) {
		struct str name = str_cut(&fields, ' ');

		buf_printf(out, "`%.*s`%s", STR_ARG(name), fields.n ? ", " : "");
	}
}

static void print_event(struct buf *out, enum log_event id)
{
	const struct event *event = &events[id];
	size_t used;

	buf_printf(out, "## %s\n\n%s\n\n", event->word, event->meaning);
	buf_printf(out, "- Level: %s\n- Fields: ", level_words[event->level]);
	print_fields(out, str_from(event->fields));
	buf_write(out, STR("\n- Postfix form: `"));
	used = buf_used(out);
	log_postfix_put_wording(out, id);
	if (buf_used(out) == used)
		buf_printf(out, "%s: name=value …", event->word);
	buf_write(out, STR("`\n\n"));
}

void log_print_reference(struct buf *out)
{
	buf_write(out, str_from(intro));
	for (int id = 0; id < LOG_EVENT_COUNT; id++)
		print_event(out, (enum log_event)id);
}
