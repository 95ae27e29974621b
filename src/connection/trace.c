#include "connection/trace.h"

#include <stdio.h>
#include <time.h>

#include "base/block.h"
#include "connection/transaction.h"
#include "connection_rows.h"
#include "trace_transaction.h"

/* ---- Writers, one for each type of row; `member` points to what the type says -------------- */

static void write_id(struct json *json, const void *member)
{
	json_str(json, str_from(member));
}

static void write_text(struct json *json, const void *member)
{
	json_str(json, *(const struct str *)member);
}

static void write_text_or_null(struct json *json, const void *member)
{
	trace_text_write(json, *(const struct str *)member);
}

static void write_word(struct json *json, const void *member)
{
	trace_text_write(json, str_from(*(const char *const *)member));
}

static void write_bytes(struct json *json, const void *member)
{
	trace_text_write(json, buf_view(member));
}

static void write_ip(struct json *json, const void *member)
{
	char text[IPADDR_TEXT_MAX];

	json_str(json, str_from(ipaddr_print(member, text)));
}

static void write_port(struct json *json, const void *member)
{
	json_uint(json, *(const uint16_t *)member);
}

static void write_version(struct json *json, const void *member)
{
	json_uint(json, *(const uint8_t *)member);
}

static void write_number(struct json *json, const void *member)
{
	json_uint(json, *(const uint64_t *)member);
}

static void write_bool(struct json *json, const void *member)
{
	json_bool(json, *(const bool *)member);
}

/* Milliseconds since 1970. */
static void write_time(struct json *json, const void *member)
{
	const struct timespec *time = member;

	json_int(json, (int64_t)time->tv_sec * 1000 + time->tv_nsec / 1000000);
}

static void write_counts(struct json *json, const void *member)
{
	trace_counts_write(json, member);
}

static void write_host_status(struct json *json, const void *member)
{
	json_str(json, str_from(host_status_word(*(const enum host_status *)member)));
}

static void write_proxy_type(struct json *json, const void *member)
{
	(void)member;
	json_str(json, STR("haproxy"));
}

static void write_proxy_command(struct json *json, const void *member)
{
	enum proxy_command command = *(const enum proxy_command *)member;

	json_str(json, command == PROXY_COMMAND_PROXY ? STR("PROXY") : STR("LOCAL"));
}

static void write_proxy_family(struct json *json, const void *member)
{
	json_str(json, str_from(proxy_family_word(*(const enum proxy_family *)member)));
}

static void write_key_text(struct json *json, const char *key, struct str text)
{
	json_key(json, str_from(key));
	trace_text_write(json, text);
}

static void write_proxy_text(struct json *json, const void *member)
{
	const struct str *text = *(const struct str *const *)member;

	if (text != NULL)
		json_str(json, *text);
	else
		json_null(json);
}

static void write_proxy_tls(struct json *json, const void *member)
{
	const struct proxy_tls *tls = *(const struct proxy_tls *const *)member;

	if (tls == NULL) {
		json_null(json);
		return;
	}
	json_object_begin(json);
	json_key_bool(json, "used", tls->used);
	write_key_text(json, "version", tls->version);
	write_key_text(json, "cipher", tls->cipher);
	json_key_bool(json, "client_certificate", tls->client_certificate);
	json_key_bool(json, "certificate_verified", tls->certificate_verified);
	json_key_uint(json, "verify", tls->verify);
	write_key_text(json, "cn", tls->cn);
	write_key_text(json, "sig_alg", tls->sig_alg);
	write_key_text(json, "key_alg", tls->key_alg);
	write_key_text(json, "group", tls->group);
	write_key_text(json, "sig_scheme", tls->sig_scheme);
	json_object_end(json);
}

static void write_tlv(struct json *json, const struct proxy_tlv *tlv)
{
	char type[8];
	int n = snprintf(type, sizeof(type), "0x%02X", tlv->type);

	json_object_begin(json);
	json_key_str(json, "type", str_make(type, (size_t)n));
	json_key(json, STR("value"));
	json_hex(json, tlv->value);
	json_object_end(json);
}

static void write_proxy_tlvs(struct json *json, const void *member)
{
	const struct proxy_info *proxy = member;

	json_array_begin(json);
	for (size_t i = 0; i < proxy->tlv_count; i++)
		write_tlv(json, &proxy->tlvs[i]);
	json_array_end(json);
}

static void write_tls(struct json *json, const void *member)
{
	const struct tls_info *tls = *(const struct tls_info *const *)member;

	if (tls == NULL) {
		json_null(json);
		return;
	}
	json_object_begin(json);
	json_key_bool(json, "offloaded", tls->offloaded);
	write_key_text(json, "version", tls->version);
	write_key_text(json, "cipher", tls->cipher);
	write_key_text(json, "sni", tls->sni);
	json_key_bool(json, "client_certificate", tls->client_certificate);
	json_key_bool(json, "client_verified", tls->client_verified);
	write_key_text(json, "client_subject", tls->client_subject);
	write_key_text(json, "client_fingerprint", tls->client_fingerprint);
	json_object_end(json);
}

static void write_auth(struct json *json, const void *member)
{
	const struct auth_info *auth = *(const struct auth_info *const *)member;

	if (auth == NULL) {
		json_null(json);
		return;
	}
	json_object_begin(json);
	json_key_str(json, "mechanism", auth->mechanism);
	json_key_str(json, "user", auth->user);
	json_object_end(json);
}

static void write_notes(struct json *json, const void *member)
{
	notes_write(member, json);
}

static void write_results(struct json *json, const void *member)
{
	results_write(member, json);
}

static void write_transaction(struct json *json, const void *member)
{
	const struct transaction *transaction = *(const struct transaction *const *)member;

	if (transaction)
		trace_transaction_write(json, transaction);
	else
		json_null(json);
}

static void (*const writers[ROW_TYPE_COUNT])(struct json *json, const void *member) = {
	[ROW_ID] = write_id,
	[ROW_TEXT] = write_text,
	[ROW_TEXT_OR_NULL] = write_text_or_null,
	[ROW_WORD] = write_word,
	[ROW_BYTES] = write_bytes,
	[ROW_IP] = write_ip,
	[ROW_PORT] = write_port,
	[ROW_VERSION] = write_version,
	[ROW_NUMBER] = write_number,
	[ROW_BOOL] = write_bool,
	[ROW_TIME] = write_time,
	[ROW_COUNTS] = write_counts,
	[ROW_HOST_STATUS] = write_host_status,
	[ROW_PROXY_TYPE] = write_proxy_type,
	[ROW_PROXY_COMMAND] = write_proxy_command,
	[ROW_PROXY_FAMILY] = write_proxy_family,
	[ROW_PROXY_TEXT] = write_proxy_text,
	[ROW_PROXY_TLS] = write_proxy_tls,
	[ROW_PROXY_TLVS] = write_proxy_tlvs,
	[ROW_TLS] = write_tls,
	[ROW_AUTH] = write_auth,
	[ROW_GRANT] = write_bool,
	[ROW_NOTES] = write_notes,
	[ROW_RESULTS] = write_results,
	[ROW_TRANSACTION] = write_transaction,
};

/* ---- The rows, nested by their dotted names ------------------------------------------------- */

static bool has_value(const struct connection *connection, const struct connection_row *row)
{
	if (row->present == ROW_ALWAYS)
		return true;
	return *(const bool *)((const char *)connection + row->present);
}

static void write_value(
	struct json *json, const struct connection *connection, const struct connection_row *row)
{
	if (has_value(connection, row))
		writers[row->type](json, (const char *)connection + row->offset);
	else
		json_null(json);
}

/* Ends the object of the rows before and begins the next one's; an empty name is the top level. */
static void change_group(struct json *json, struct str *group, struct str next)
{
	if (str_eq(*group, next))
		return;
	if (!str_is_empty(*group))
		json_object_end(json);
	if (!str_is_empty(next)) {
		json_key(json, next);
		json_object_begin(json);
	}
	*group = next;
}

static void write_rows(struct json *json, const struct connection *connection)
{
	struct str group = STR("");

	for (size_t i = 0; i < connection_row_count; i++) {
		struct str name = str_from(connection_rows[i].name);
		size_t dot = str_find(name, '.');

		change_group(json, &group, dot < name.n ? str_range(name, 0, dot) : STR(""));
		json_key(json, dot < name.n ? str_from_pos(name, dot + 1) : name);
		write_value(json, connection, &connection_rows[i]);
	}
	change_group(json, &group, STR(""));
}

/* ---- The two arrays, collected while the connection lives ----------------------------------- */

#define CUT "{\"cut\":true}"

/* No element but the mark itself can end so: theirs have more keys. */
static bool is_cut(const struct buf *list)
{
	return str_ends_with_nocase(buf_view(list), STR(CUT));
}

static struct json begin_element(struct buf *list)
{
	struct json json;

	json_init(&json, list);
	json.needs_comma = buf_used(list) > 0;
	return json;
}

/* Keeps the element that was written behind `mark`, or cuts the list off there. There is always
 * room for the mark of the cut. */
static void end_element(struct buf *list, const struct json *json, size_t mark)
{
	if (json_ok(json) && buf_room(list) >= sizeof("," CUT))
		return;
	buf_truncate(list, mark);
	buf_write(list, mark > 0 ? STR("," CUT) : STR(CUT));
}

static uint64_t since_connect(const struct connection *connection, uint64_t now_ms)
{
	return now_ms > connection->start_ms ? now_ms - connection->start_ms : 0;
}

static struct traced *traced(struct connection *connection)
{
	if (connection->traced == NULL) {
		connection->traced = block_take(sizeof(*connection->traced));
		buf_init(&connection->traced->transactions, CONNECTION_TRACE_MAX);
		buf_init(&connection->traced->events, CONNECTION_TRACE_MAX);
	}
	return connection->traced;
}

void trace_event(struct connection *connection, enum policy_stage stage, const char *check,
	const char *verdict, struct str reply, uint64_t now_ms)
{
	if (!connection->is_traced)
		return;
	struct buf *list = &traced(connection)->events;
	size_t mark = buf_used(list);
	if (is_cut(list))
		return;
	struct json json = begin_element(list);
	json_object_begin(&json);
	json_key_str(&json, "stage", str_from(policy_stage_word(stage)));
	write_key_text(&json, "check", str_from(check));
	json_key_str(&json, "verdict", str_from(verdict));
	write_key_text(&json, "reply", reply);
	json_key_uint(&json, "ms", since_connect(connection, now_ms));
	json_object_end(&json);
	end_element(list, &json, mark);
}

void trace_transaction(struct connection *connection)
{
	if (!connection->is_traced)
		return;
	struct buf *list = &traced(connection)->transactions;
	size_t mark = buf_used(list);
	if (is_cut(list))
		return;
	struct json json = begin_element(list);
	trace_transaction_write(&json, connection->transaction);
	end_element(list, &json, mark);
}

/* ---- The line ------------------------------------------------------------------------------- */

/* `elements` are JSON already. */
static void write_list(struct json *json, struct str name, struct str elements)
{
	json_key(json, name);
	json_array_begin(json);
	if (json_ok(json) && !buf_write(json->out, elements))
		json->failed = true;
	json_array_end(json);
}

static void write_end(struct json *json, const char *ending, uint64_t ms)
{
	json_key_uint(json, "ms", ms);
	json_key_str(json, "ending", str_from(ending));
	json_object_end(json);
}

static void write_line(struct json *json, const struct connection *connection,
	struct str transactions, struct str events)
{
	json_object_begin(json);
	write_rows(json, connection);
	write_list(json, STR("transactions"), transactions);
	write_list(json, STR("events"), events);
}

static void write_whole(struct json *json, const struct connection *connection)
{
	const struct traced *traced = connection->traced;

	write_line(json, connection, traced ? buf_view(&traced->transactions) : STR(""),
		traced ? buf_view(&traced->events) : STR(""));
}

static void write_without_lists(struct json *json, const struct connection *connection)
{
	write_line(json, connection, STR(CUT), STR(CUT));
}

static void write_least(struct json *json, const struct connection *connection)
{
	json_object_begin(json);
	json_key_str(json, "uuid", str_from(connection->uuid));
	json_key_bool(json, "cut", true);
}

void trace_print(
	const struct connection *connection, const char *ending, uint64_t now_ms, struct buf *out)
{
	static void (*const forms[])(struct json *, const struct connection *) = { write_whole,
		write_without_lists, write_least };
	uint64_t ms = since_connect(connection, now_ms);
	size_t mark = buf_used(out);

	for (size_t i = 0; i < sizeof(forms) / sizeof(forms[0]); i++) {
		struct json json;

		json_init(&json, out);
		forms[i](&json, connection);
		write_end(&json, ending, ms);
		if (json_ok(&json) && buf_write(out, STR("\n")))
			return;
		buf_truncate(out, mark);
	}
}
