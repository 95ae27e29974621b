#include "backend/replay.h"

void replay_init(struct replay *replay, struct replay_budget *budget)
{
	*replay = (struct replay){ .budget = budget };
}

static void drop(struct replay *replay)
{
	replay->budget->used -= buf_used(&replay->bytes);
	buf_free(&replay->bytes);
}

void replay_begin(struct replay *replay, size_t max)
{
	drop(replay);
	buf_init(&replay->bytes, max);
	replay->is_whole = true;
}

static size_t room(const struct replay *replay)
{
	size_t own = buf_room(&replay->bytes);
	size_t all = replay->budget->max - replay->budget->used;

	return own < all ? own : all;
}

void replay_add(struct replay *replay, struct str bytes)
{
	if (!replay->is_whole || bytes.n == 0)
		return;
	if (bytes.n > room(replay)) {
		drop(replay);
		replay->is_whole = false;
		return;
	}
	buf_write(&replay->bytes, bytes);
	replay->budget->used += bytes.n;
}
