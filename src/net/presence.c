#include "presence_priv.h"

#include <poll.h>

/* Those that have asked, the last of them; the one who has been there longest makes room. */
static struct stream *seats[PRESENCE_SEATS];
static unsigned next_seat;

void presence_leave(struct stream *stream)
{
	if (stream->seat != 0)
		seats[stream->seat - 1] = NULL;
	stream->seat = 0;
}

static void take_seat(struct stream *stream)
{
	if (stream->seat != 0)
		return;
	if (seats[next_seat] != NULL)
		presence_leave(seats[next_seat]);
	seats[next_seat] = stream;
	next_seat = (next_seat + 1) % PRESENCE_SEATS;
	stream->seat = (uint8_t)(next_seat != 0 ? next_seat : PRESENCE_SEATS);
}

static void ask(struct pollfd *asked, struct stream **streams, nfds_t count)
{
	bool is_any = poll(asked, count, 0) > 0;

	for (nfds_t i = 0; i < count; i++) {
		streams[i]->asked_turn = loop_turn(streams[i]->loop);
		streams[i]->was_gone = is_any && (asked[i].revents & (POLLERR | POLLHUP)) != 0;
	}
}

static void ask_all(const struct stream *first)
{
	struct pollfd asked[PRESENCE_SEATS];
	struct stream *streams[PRESENCE_SEATS];
	nfds_t count = 0;

	for (unsigned i = 0; i < PRESENCE_SEATS; i++) {
		struct stream *stream = seats[i];
		if (stream == NULL || (stream != first && !ev_is_pending(&stream->watcher)))
			continue;
		asked[count] = (struct pollfd){ .fd = stream->fd };
		streams[count++] = stream;
	}
	ask(asked, streams, count);
}

bool presence_is_gone(struct stream *stream)
{
	if (stream->asked_turn == loop_turn(stream->loop))
		return stream->was_gone;
	take_seat(stream);
	ask_all(stream);
	return stream->was_gone;
}
