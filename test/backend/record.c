#include "record.h"

#include <fcntl.h>
#include <netdb.h>
#include <string.h>
#include <stddef.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <openssl/evp.h>

#include "base/xalloc.h"
#include "identity.h"
#include "proxy.h"
#include "transaction.h"

#define LINE_MAX_BYTES (1024UL * 1024 * 1024)

void record_init(struct record *record)
{
	*record = (struct record){ .fd = -1 };
	buf_init(&record->line, LINE_MAX_BYTES);
}

int record_open(struct record *record, const char *path, bool with_body, struct err *err)
{
	record->with_body = with_body;
	record->fd = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644);
	return record->fd < 0 ? err_errno(err, "cannot open %s", path) : 0;
}

void record_close(struct record *record)
{
	if (record->fd >= 0)
		close(record->fd);
	buf_free(&record->line);
	record->fd = -1;
}

/* ---- JSON, one code point a byte ------------------------------------------------------------ */

static void put(struct record *record, const char *text)
{
	buf_write(&record->line, str_from(text));
}

static void put_text(struct record *record, struct str bytes)
{
	put(record, "\"");
	for (size_t i = 0; i < bytes.n; i++) {
		unsigned char c = (unsigned char)bytes.p[i];
		if (c < 0x20 || c > 0x7e || c == '"' || c == '\\')
			buf_printf(&record->line, "\\u%04x", c);
		else
			buf_write(&record->line, str_range(bytes, i, i + 1));
	}
	put(record, "\"");
}

static void put_key(struct record *record, const char *key)
{
	buf_printf(&record->line, ",\"%s\":", key);
}

static void put_pair(struct record *record, const char *key, const char *text)
{
	put_key(record, key);
	put_text(record, str_from(text));
}

static void put_number(struct record *record, const char *key, uint64_t value)
{
	put_key(record, key);
	buf_printf(&record->line, "%lu", (unsigned long)value);
}

static void put_hex(struct record *record, struct str bytes)
{
	put(record, "\"");
	for (size_t i = 0; i < bytes.n; i++)
		buf_printf(&record->line, "%02x", (unsigned char)bytes.p[i]);
	put(record, "\"");
}

static void put_base64(struct record *record, struct str bytes)
{
	unsigned char in[3 * 256], out[4 * 256 + 1];

	put(record, "\"");
	for (size_t at = 0; at < bytes.n; at += sizeof(in)) {
		struct str piece = str_range(bytes, at, at + sizeof(in));
		memcpy(in, piece.p, piece.n);
		int n = EVP_EncodeBlock(out, in, (int)piece.n);
		buf_write(&record->line, str_make((const char *)out, (size_t)n));
	}
	put(record, "\"");
}

static bool begin(struct record *record, const char *event, uint64_t id)
{
	if (!record_is_on(record))
		return false;
	buf_printf(&record->line, "{\"event\":\"%s\",\"id\":%lu", event, (unsigned long)id);
	return true;
}

static void finish(struct record *record)
{
	put(record, "}\n");
	struct str line = buf_view(&record->line);
	while (line.n > 0) {
		ssize_t n = write(record->fd, line.p, line.n);
		if (n <= 0)
			break; /* the tests will miss the record */
		line = str_from_pos(line, (size_t)n);
	}
	buf_free(&record->line);
}

/* ---- Events ----------------------------------------------------------------------------------- */

/* The path of a unix socket, as far as it has one. */
static const char *path_of(const struct sockaddr_storage *sa, socklen_t size)
{
	const struct sockaddr_un *un = (const struct sockaddr_un *)sa;

	return size > offsetof(struct sockaddr_un, sun_path) ? un->sun_path : "";
}

static void put_endpoint(struct record *record, const char *key, int fd,
	int (*name)(int, struct sockaddr *, socklen_t *))
{
	struct sockaddr_storage sa = { 0 };
	socklen_t size = sizeof(sa);
	char host[NI_MAXHOST] = "", port[NI_MAXSERV] = "";
	char text[NI_MAXHOST + NI_MAXSERV + 4];

	if (name(fd, (struct sockaddr *)&sa, &size) == 0 && sa.ss_family != AF_UNIX)
		getnameinfo((struct sockaddr *)&sa, size, host, sizeof(host), port, sizeof(port),
			NI_NUMERICHOST | NI_NUMERICSERV);
	if (sa.ss_family == AF_UNIX)
		snprintf(text, sizeof(text), "unix:%s", path_of(&sa, size));
	else
		snprintf(text, sizeof(text), strchr(host, ':') ? "[%s]:%s" : "%s:%s", host, port);
	put_pair(record, key, text);
}

static void put_tlvs(struct record *record, struct str tlvs)
{
	const char *comma = "";
	struct str value;
	uint8_t type;

	put_key(record, "tlvs");
	put(record, "[");
	while (proxy_next_tlv(&tlvs, &type, &value)) {
		buf_printf(&record->line, "%s{\"type\":%u,\"hex\":", comma, type);
		put_hex(record, value);
		put(record, "}");
		comma = ",";
	}
	put(record, "]");
}

static void put_header(struct record *record, const struct proxy_header *header, struct str raw)
{
	buf_printf(&record->line, ",\"proxy\":{\"version\":%d", header->version);
	if (header->command)
		put_pair(record, "command", header->command);
	if (header->family)
		put_pair(record, "family", header->family);
	if (header->has_addresses) {
		put_pair(record, "source", header->source);
		put_pair(record, "destination", header->destination);
	}
	if (header->error)
		put_pair(record, "error", header->error);
	put_key(record, "hex");
	put_hex(record, raw);
	put_tlvs(record, header->tlvs);
	put(record, "}");
}

void record_connection(struct record *record, uint64_t id, int fd,
	const struct proxy_header *header, struct str raw)
{
	if (!begin(record, "connection", id))
		return;
	put_endpoint(record, "peer", fd, getpeername);
	put_endpoint(record, "local", fd, getsockname);
	if (header)
		put_header(record, header, raw);
	else
		put(record, ",\"proxy\":null");
	finish(record);
}

static bool has_control(struct str line)
{
	return str_find(line, '\0') < line.n || str_find(line, '\r') < line.n ||
	       str_find(line, '\n') < line.n;
}

void record_command(
	struct record *record, uint64_t id, struct str line, size_t visible, struct str end)
{
	if (!begin(record, "command", id))
		return;
	put_key(record, "line");
	put_text(record, str_range(line, 0, visible));
	if (visible < line.n)
		put(record, ",\"secret\":true");
	if (has_control(line))
		put(record, ",\"control\":true");
	if (!str_eq(end, STR("\r\n"))) {
		put_key(record, "end");
		put_text(record, end);
	}
	finish(record);
}

void record_violation(struct record *record, uint64_t id, const char *what)
{
	if (!begin(record, "violation", id))
		return;
	put_pair(record, "what", what);
	finish(record);
}

void record_fault(struct record *record, uint64_t id, const char *text)
{
	if (!begin(record, "fault", id))
		return;
	put_pair(record, "fault", text);
	finish(record);
}

static void put_name(struct record *record, struct str name)
{
	put(record, "\"");
	for (size_t i = 0; i < name.n; i++) {
		char c = name.p[i];
		c = (char)(ascii_lower(c) != c || !ascii_is_alpha(c) ? c : c - ('a' - 'A'));
		buf_write(&record->line, str_make(&c, 1));
	}
	put(record, "\":");
}

/* What was checked before: names are announced ones. */
static void put_attributes(struct record *record, const char *key, struct str list)
{
	const char *comma = "";
	struct str name, text;
	char value[IDENTITY_VALUE_MAX];
	size_t n;

	put_key(record, key);
	put(record, list.n ? "{" : "null");
	while (identity_next(&list, &name, &text)) {
		identity_decode(text, value, sizeof(value), &n);
		put(record, comma);
		put_name(record, name);
		put_text(record, str_make(value, n));
		comma = ",";
	}
	put(record, *comma ? "}" : "");
}

void record_xclient(struct record *record, uint64_t id, struct str attributes)
{
	if (!begin(record, "xclient", id))
		return;
	put_attributes(record, "attributes", attributes);
	finish(record);
}

void record_auth(struct record *record, uint64_t id, const char *mechanism, struct str user,
	const char *outcome)
{
	if (!begin(record, "auth", id))
		return;
	put_pair(record, "mechanism", mechanism);
	put_key(record, "user");
	put_text(record, user);
	put_pair(record, "outcome", outcome);
	finish(record);
}

static void put_auth(struct record *record, const struct identity *identity)
{
	put_key(record, "auth");
	if (!identity->mechanism) {
		put(record, "null");
		return;
	}
	buf_printf(&record->line, "{\"mechanism\":\"%s\"", identity->mechanism);
	put_key(record, "user");
	put_text(record, buf_view(&identity->user));
	put(record, "}");
}

static void put_recipients(struct record *record, struct str rcpts, struct str granted)
{
	const char *comma = "";

	put_key(record, "rcpts");
	put(record, "[");
	while (rcpts.n > 0) {
		struct str params = str_cut(&rcpts, '\n');
		struct str address = str_cut(&params, '\0');
		buf_printf(&record->line, "%s{\"address\":", comma);
		put_text(record, address);
		put_key(record, "params");
		put_text(record, params);
		if (granted.n > 0)
			put(record, granted.p[0] == '1' ? ",\"delivered\":true"
							: ",\"delivered\":false");
		granted = str_from_pos(granted, 1);
		put(record, "}");
		comma = ",";
	}
	put(record, "]");
}

void record_message(struct record *record, uint64_t id, const struct transaction *transaction)
{
	struct str params = buf_view(&transaction->sender);

	if (!begin(record, "message", id))
		return;
	struct str address = str_cut(&params, '\0');
	put_key(record, "mail_from");
	put_text(record, address);
	put_key(record, "mail_params");
	put_text(record, params);
	put_recipients(record, buf_view(&transaction->recipients), buf_view(&transaction->granted));
	put_number(record, "size", transaction->size);
	put_number(record, "bare_cr", transaction->bare_cr);
	put_number(record, "bare_lf", transaction->bare_lf);
	put_number(record, "nul", transaction->nul);
	put_number(record, "eight_bit", transaction->eight_bit);
	put_pair(record, "framing", transaction->is_bdat ? "bdat" : "data");
	if (transaction->is_bdat)
		put_number(record, "chunks", transaction->chunks);
	put_attributes(record, "xclient", buf_view(&transaction->identity->xclient));
	put_attributes(record, "xforward", buf_view(&transaction->xforward));
	put_auth(record, transaction->identity);
	put_key(record, "sha256");
	put_hex(record, str_make((const char *)transaction->sha256, sizeof(transaction->sha256)));
	if (record->with_body) {
		put_key(record, "body");
		put_base64(record, buf_view(&transaction->body));
	}
	finish(record);
}

void record_end(
	struct record *record, uint64_t id, const char *how, const char *phase, uint64_t messages)
{
	if (!begin(record, "end", id))
		return;
	put_pair(record, "how", how);
	put_pair(record, "phase", phase);
	put_number(record, "messages", messages);
	finish(record);
}
