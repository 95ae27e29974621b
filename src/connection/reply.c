#include "connection/reply.h"

#include <string.h>

#include "base/assert.h"
#include "connection/connection.h"
#include "connection/transaction.h"
#include "proto/smtp_reply.h"

#define HOLE_MAX 256  /* bytes of what stands in one hole */
#define TEXT_MAX 2048 /* of a reply's text with its holes filled */

struct row {
	const char *id;
	int code;
	struct str enhanced, text;
	const char *remark;
};

static const struct row rows[REPLY_COUNT] = {
#define REPLY(id, code, enhanced, text, remark) \
	{ #id, code, STR_INIT(enhanced), STR_INIT(text), remark },
#include "tables/replies.def"
#undef REPLY
};

/* What holes are filled from. */
struct source {
	const struct connection *connection;
	const struct transaction *transaction; /* NULL: none */
	struct str hostname, detail;
	char address[IPADDR_TEXT_MAX];
};

static struct str fill_hostname(struct source *source)
{
	return source->hostname;
}

static struct str fill_client(struct source *source)
{
	const struct remote *remote = &source->connection->remote;

	if (!remote->is_known)
		return STR("unknown");
	return str_from(ipaddr_print(&remote->address.ip, source->address));
}

static struct str fill_sender(struct source *source)
{
	return source->transaction ? source->transaction->mail_from.address : STR("");
}

static struct str fill_recipient(struct source *source)
{
	const struct transaction *transaction = source->transaction;

	if (transaction == NULL || transaction->candidate == NULL)
		return STR("");
	return transaction->candidate->path.address;
}

static struct str fill_hello(struct source *source)
{
	return source->connection->hello.host;
}

static struct str fill_id(struct source *source)
{
	return str_from(source->transaction ? source->transaction->uuid : source->connection->uuid);
}

static struct str fill_detail(struct source *source)
{
	return source->detail;
}

static const struct hole {
	struct str name;
	struct str (*fill)(struct source *source);
	const char *meaning;
} holes[] = {
	{ STR_INIT("hostname"), fill_hostname, "our name, the setting `hostname`" },
	{ STR_INIT("client"), fill_client, "the client's address" },
	{ STR_INIT("sender"), fill_sender, "the address given with MAIL" },
	{ STR_INIT("recipient"), fill_recipient, "the recipient under question" },
	{ STR_INIT("hello"), fill_hello, "the name given with HELO or EHLO" },
	{ STR_INIT("id"), fill_id, "the transaction's id; without one, the connection's" },
	{ STR_INIT("detail"), fill_detail, "what is particular to the case" },
};

static const struct hole *find_hole(struct str name)
{
	for (size_t i = 0; i < sizeof(holes) / sizeof(holes[0]); i++)
		if (str_eq(holes[i].name, name))
			return &holes[i];
	return NULL;
}

struct text {
	char bytes[TEXT_MAX];
	size_t n;
};

static void append(struct text *text, struct str s)
{
	ASSERT(s.n <= sizeof(text->bytes) - text->n);
	if (s.n > 0)
		memcpy(text->bytes + text->n, s.p, s.n);
	text->n += s.n;
}

/* Appends foreign text: what is not printable ASCII becomes "?", no more than HOLE_MAX bytes. */
static void append_cleaned(struct text *text, struct str s)
{
	s = str_range(s, 0, HOLE_MAX);
	for (size_t i = 0; i < s.n; i++) {
		bool is_shown = s.p[i] >= 0x20 && s.p[i] < 0x7f;

		append(text, is_shown ? str_make(s.p + i, 1) : STR("?"));
	}
}

static void expand(struct str template, struct source *source, struct text *text)
{
	while (template.n > 0) {
		size_t brace = str_find(template, '{');

		append(text, str_range(template, 0, brace));
		template = str_from_pos(template, brace + 1);
		if (template.n == 0)
			break;
		const struct hole *hole = find_hole(str_cut(&template, '}'));
		ASSERT(hole);
		append_cleaned(text, hole->fill(source));
	}
}

int reply_code(enum reply_id id)
{
	ASSERT((size_t)id < REPLY_COUNT);
	return rows[id].code;
}

static void print_filled(const struct row *row, const struct connection *connection,
	struct str hostname, struct str detail, struct buf *out)
{
	struct source source = {
		.connection = connection,
		.transaction = connection->transaction,
		.hostname = hostname,
		.detail = detail,
	};
	struct text text;

	text.n = 0;
	expand(row->text, &source, &text);
	smtp_reply_print(out, row->code, row->enhanced, str_make(text.bytes, text.n));
}

void reply_print(enum reply_id id, const struct connection *connection, struct str hostname,
	struct str detail, struct buf *out)
{
	ASSERT((size_t)id < REPLY_COUNT);
	const struct row *row = &rows[id];

	if (str_find(row->text, '{') == row->text.n)
		smtp_reply_print(out, row->code, row->enhanced, row->text);
	else
		print_filled(row, connection, hostname, detail, out);
}

void reply_print_reference(struct buf *out)
{
	buf_write(out, STR("# Replies\n\n"
			   "Every reply that gatepost gives of itself. Replies of a backend are "
			   "passed on with their own text.\n\n"
			   "| reply | id | remark |\n|---|---|---|\n"));
	for (size_t i = 0; i < REPLY_COUNT; i++)
		buf_printf(out, "| `%d %s%s%s` | %s | %s |\n", rows[i].code, rows[i].enhanced.p,
			rows[i].enhanced.n ? " " : "", rows[i].text.p, rows[i].id, rows[i].remark);
	buf_write(out, STR("\n## What stands in the holes\n\n"
			   "Foreign text is shown with `?` for every byte that is not printable "
			   "ASCII, and at most 256 bytes of it.\n\n"
			   "| hole | meaning |\n|---|---|\n"));
	for (size_t i = 0; i < sizeof(holes) / sizeof(holes[0]); i++)
		buf_printf(out, "| `{%s}` | %s |\n", holes[i].name.p, holes[i].meaning);
}
