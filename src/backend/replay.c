#include "backend/replay.h"

void replay_init(struct replay *replay, struct replay_budget *budget)
{
	*replay = (struct replay){ .budget = budget };
}

static void drop(struct replay *replay)
{
	replay->budget->used -= buf_memory(&replay->bytes);
	buf_free(&replay->bytes);
}

void replay_begin(struct replay *replay, size_t max)
{
	drop(replay);
	buf_init(&replay->bytes, max);
	replay->is_whole = true;
}

/* More memory than its bytes need: what it grows by counts, not what they are. */
static bool fits(const struct replay *replay, size_t n)
{
	size_t left = replay->budget->max - replay->budget->used;

	if (n > buf_room(&replay->bytes))
		return false;
	return buf_memory_with(&replay->bytes, n) - buf_memory(&replay->bytes) <= left;
}

void replay_add(struct replay *replay, struct str bytes)
{
	if (!replay->is_whole || bytes.n == 0)
		return;
	if (!fits(replay, bytes.n)) {
		drop(replay);
		replay->is_whole = false;
		return;
	}
	replay->budget->used -= buf_memory(&replay->bytes);
	buf_write(&replay->bytes, bytes);
	replay->budget->used += buf_memory(&replay->bytes);
}
