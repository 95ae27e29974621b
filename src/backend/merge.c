#include "backend/merge.h"

#include "base/assert.h"

/* Three of them and the rest fit a record of the log. */
#define LIST_MAX 16384
/* Of a reply in a list. */
#define REPLY_SHOWN 120
/* Behind a list that is not complete. */
#define MORE " ..."

void merge_init(struct merge *merge)
{
	*merge = (struct merge){ .count = 0 };
	buf_init(&merge->delivered_list, LIST_MAX);
	buf_init(&merge->refused_list, LIST_MAX);
	buf_init(&merge->unknown_list, LIST_MAX);
	buf_init(&merge->reply_text, SMTP_REPLY_TEXT_MAX);
}

void merge_free(struct merge *merge)
{
	buf_free(&merge->delivered_list);
	buf_free(&merge->refused_list);
	buf_free(&merge->unknown_list);
	buf_free(&merge->reply_text);
	merge_init(merge);
}

/* ---- Who ---------------------------------------------------------------------------------------- */

static bool is_full(const struct buf *list)
{
	return str_ends_with_nocase(buf_view(list), STR(MORE));
}

/* "a@example.com, b@example.com"; of refusals with the reply: "a@example.com (550 Unknown)". */
static void list_add(struct buf *list, struct str recipient, const struct smtp_reply *reply)
{
	const char *comma = buf_used(list) > 0 ? ", " : "";
	size_t before = buf_used(list);
	bool fits;

	if (is_full(list))
		return;
	if (reply == NULL)
		fits = buf_printf(list, "%s%.*s", comma, STR_ARG(recipient));
	else
		fits = buf_printf(list, "%s%.*s (%d %.*s)", comma, STR_ARG(recipient), reply->code,
			STR_ARG(str_range(reply->text, 0, REPLY_SHOWN)));
	if (fits && buf_room(list) >= sizeof(MORE))
		return;
	buf_truncate(list, before);
	buf_write(list, STR(MORE));
}

/* ---- What ----------------------------------------------------------------------------------------- */

/* A refusal for now comes before one for good, and both before a 250. */
static int rank(const struct smtp_reply *reply, bool is_for_now)
{
	if (is_for_now)
		return 3;
	return smtp_reply_class(reply) == 5 ? 2 : 1;
}

static int rank_of_kept(const struct merge *merge)
{
	if (merge->reply.code == 0)
		return 0;
	return rank(&merge->reply, merge->deferred > 0);
}

static void keep(struct merge *merge, const struct smtp_reply *reply)
{
	merge->reply = *reply;
	buf_truncate(&merge->reply_text, 0);
	buf_write(&merge->reply_text, reply->text);
	merge->reply.text = buf_view(&merge->reply_text);
}

void merge_add(struct merge *merge, struct str recipient, const struct smtp_reply *reply,
	const struct answer *verdict)
{
	bool is_for_now = verdict->blames_us || smtp_reply_class(reply) == 4;

	ASSERT(!verdict->is_senseless);
	merge->count++;
	merge->server_is_done = merge->server_is_done || verdict->server_is_done;
	if (rank(reply, is_for_now) > rank_of_kept(merge))
		keep(merge, reply);
	if (smtp_reply_class(reply) == 2) {
		merge->delivered++;
		list_add(&merge->delivered_list, recipient, NULL);
	} else {
		merge->refused++;
		merge->deferred += is_for_now;
		list_add(&merge->refused_list, recipient, reply);
	}
}

void merge_add_unknown(struct merge *merge, struct str recipient)
{
	merge->count++;
	merge->unknown++;
	list_add(&merge->unknown_list, recipient, NULL);
}

enum merge_result merge_result(const struct merge *merge)
{
	if (merge->unknown > 0)
		return MERGE_UNKNOWN;
	if (merge->refused == 0)
		return MERGE_ALL;
	return merge->delivered > 0 ? MERGE_PARTLY : MERGE_NONE;
}
