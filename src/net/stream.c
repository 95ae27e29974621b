#include "net/stream.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

#include "base/assert.h"
#include "presence_priv.h"
#include "stream_priv.h"

/* Unread bytes that are thrown away before a close, so that it does not become a reset. */
#define DISCARD_MAX (1 << 20)
/* Reads of what TLS holds already, so that a flood of small records does not keep the others
 * waiting; the rest follows in the next turn. */
#define READS_AN_EVENT 8
#define GATHERED_MIN 256 /* memory for output, before it grows */

/* ---- Transport: the socket alone --------------------------------------------------------------- */

static ssize_t plain_read(struct stream *stream, char *out, size_t size)
{
	ssize_t n;

	do
		n = recv(stream->fd, out, size, 0);
	while (n < 0 && errno == EINTR);
	return n;
}

static ssize_t send_one(int fd, struct str piece)
{
	ssize_t n;

	do
		n = send(fd, piece.p, piece.n, MSG_NOSIGNAL | MSG_DONTWAIT);
	while (n < 0 && errno == EINTR);
	return n;
}

static ssize_t plain_send(struct stream *stream, struct str first, struct str second)
{
	if (second.n == 0)
		return send_one(stream->fd, first);
	/* The kernel does not write through iov_base; the cast only drops the const. */
	struct iovec pieces[2] = {
		{ .iov_base = (void *)(uintptr_t)first.p, .iov_len = first.n },
		{ .iov_base = (void *)(uintptr_t)second.p, .iov_len = second.n },
	};
	struct msghdr message = { .msg_iov = pieces, .msg_iovlen = 2 };
	ssize_t n;

	do
		n = sendmsg(stream->fd, &message, MSG_NOSIGNAL | MSG_DONTWAIT);
	while (n < 0 && errno == EINTR);
	return n;
}

static ssize_t plain_peek(const struct stream *stream)
{
	char byte;

	return recv(stream->fd, &byte, 1, MSG_PEEK | MSG_DONTWAIT);
}

static void plain_finish(struct stream *stream)
{
	if (!stream->is_fin_sent)
		(void)shutdown(stream->fd, SHUT_WR);
	stream->is_fin_sent = true;
}

/* Linux sends RST instead of FIN when unread bytes are left, and the peer may then lose the last
 * reply. MSG_TRUNC discards without copying. */
static void plain_close(struct stream *stream, bool reset)
{
	struct linger abort = { .l_onoff = 1, .l_linger = 0 };

	if (reset)
		(void)setsockopt(stream->fd, SOL_SOCKET, SO_LINGER, &abort, sizeof(abort));
	else if (stream->is_input_ignored)
		(void)recv(stream->fd, NULL, DISCARD_MAX, MSG_TRUNC | MSG_DONTWAIT);
	close(stream->fd);
}

const struct stream_transport stream_plain = {
	.read = plain_read,
	.send = plain_send,
	.peek = plain_peek,
	.finish = plain_finish,
	.close = plain_close,
};

bool stream_is_full(ssize_t result)
{
	return result < 0 && (errno == EAGAIN || errno == EWOULDBLOCK);
}

/* What the transport holds back: nothing, without TLS. */
static size_t unsent(const struct stream *stream)
{
	return stream->tls != NULL ? stream_tls_unsent(stream->tls) : 0;
}

static bool is_ready(const struct stream *stream)
{
	return stream->tls != NULL && stream_tls_is_ready(stream->tls);
}

/* ---- Watching the socket ------------------------------------------------------------------------ */

/* EV_READ and EV_WRITE, of which the loop watches the socket for. */
static int watched(const struct stream *stream)
{
	/* The macros of libev only look, but know no const. */
	ev_io *watcher = (ev_io *)(uintptr_t)&stream->watcher;

	return ev_is_active(watcher) ? watcher->events & (EV_READ | EV_WRITE) : 0;
}

/* What the loop has seen and not told yet it would forget with a change. */
static void watch(struct stream *stream, int events)
{
	struct ev_loop *ev = loop_ev(stream->loop);

	if (events == watched(stream))
		return;
	int seen = ev_clear_pending(ev, &stream->watcher) & events;
	ev_io_stop(ev, &stream->watcher);
	ev_io_modify(&stream->watcher, events);
	if (events != 0)
		ev_io_start(ev, &stream->watcher);
	if (seen != 0)
		ev_feed_event(ev, &stream->watcher, seen);
}

/* The loop knows nothing yet of a socket that it was not watching. */
static void start_reading(struct stream *stream)
{
	if (watched(stream) & EV_READ)
		return;
	stream->is_dry = false;
	watch(stream, watched(stream) | EV_READ);
}

static void stop_reading(struct stream *stream)
{
	watch(stream, watched(stream) & ~EV_READ);
}

static void watch_input(struct stream *stream)
{
	bool has_room = buf_room(&stream->in) > 0;

	if (stream->fd < 0 || stream->has_failed)
		return;
	if (stream->is_handshaking || (stream->wants_input && !stream->saw_eof && has_room))
		start_reading(stream);
	else if (stream->saw_eof || !has_room)
		stop_reading(stream);
}

static void watch_output(struct stream *stream, bool is_needed)
{
	watch(stream, is_needed ? watched(stream) | EV_WRITE : watched(stream) & ~EV_WRITE);
}

static bool is_socket_full(const struct stream *stream)
{
	return (watched(stream) & EV_WRITE) != 0;
}

/* What TLS says of its own accord (an alert, its part of the handshake) may have to wait. */
static void watch_unsent(struct stream *stream)
{
	if (unsent(stream) > 0)
		watch_output(stream, true);
}

/* ---- Failure --------------------------------------------------------------------------------- */

/* Is there something to do for which the owner's calls are needed? Then a task does it. */
static void tell_later(struct stream *stream)
{
	task_defer(&stream->input_task, stream->loop);
}

static void fail(struct stream *stream, int error)
{
	if (stream->has_failed)
		return;
	stream->has_failed = true;
	if (stream->error == 0)
		stream->error = error;
	watch(stream, 0);
	task_cancel(&stream->flush_task, stream->loop);
	buf_free(&stream->out);
	tell_later(stream);
}

/* A peer that closes before it has read everything makes our writes fail, but what it sent
 * before that can still be read; the end of that input then becomes the failure. */
static void fail_write(struct stream *stream, int error)
{
	bool is_peer_gone = error == EPIPE || error == ECONNRESET;

	if (!is_peer_gone || !stream->wants_input || !(watched(stream) & EV_READ)) {
		fail(stream, error);
		return;
	}
	stream->error = error;
	watch_output(stream, false);
	task_cancel(&stream->flush_task, stream->loop);
	buf_free(&stream->out);
}

static bool is_output_dead(const struct stream *stream)
{
	return stream->fd < 0 || stream->error != 0;
}

/* ---- Input ----------------------------------------------------------------------------------- */

/* Gives the owner what is kept, or `fresh` when nothing is. Kept input stays in its memory
 * during the call, whatever the owner does to the stream. */
static size_t offer(struct stream *stream, struct str fresh)
{
	bool is_kept = buf_used(&stream->in) > 0;
	struct str bytes = is_kept ? buf_view(&stream->in) : fresh;

	stream->is_offer_due = false;
	stream->is_offering = true;
	size_t taken = stream->events->input(stream->ctx, bytes);
	stream->is_offering = false;
	ASSERT(taken <= bytes.n);
	if (stream->fd < 0) {
		buf_free(&stream->in);
		return taken;
	}
	if (is_kept)
		buf_consume(&stream->in, taken);
	else
		buf_write(&stream->in, str_from_pos(fresh, taken));
	if (stream->is_handshaking)
		stream_tls_take_input(stream->tls, &stream->in);
	buf_release(&stream->in);
	ASSERT(taken > 0 || buf_room(&stream->in) > 0 || !stream->wants_input);
	watch_input(stream);
	return taken;
}

static void offer_fresh(struct stream *stream, struct str fresh)
{
	stream->was_refused = false;
	if (buf_used(&stream->in) > 0) {
		bool is_kept = buf_write(&stream->in, fresh);
		ASSERT(is_kept);
	}
	offer(stream, fresh);
}

static void offer_again(struct stream *stream)
{
	if (buf_used(&stream->in) == 0) {
		stream->is_offer_due = false;
		return;
	}
	stream->was_refused = offer(stream, str_make(NULL, 0)) == 0;
	/* An owner that stops and starts inside `input` would be called for ever otherwise. */
	if (stream->was_refused)
		stream->is_offer_due = false;
}

static void tell_eof(struct stream *stream)
{
	if (!stream->saw_eof || stream->told_eof || !stream->wants_input || stream->is_offer_due)
		return;
	stream->told_eof = true;
	stream->events->eof(stream->ctx);
}

static void tell_failed(struct stream *stream)
{
	struct err err;

	errno = stream->error;
	err_errno(&err, "connection");
	if (stream->tls != NULL && stream->error == EPROTO)
		stream_tls_problem(stream->tls, &err);
	if (stream->is_handshaking)
		stream_tls_tell(stream->tls, &err);
	else
		stream->events->failed(stream->ctx, &err);
}

static void tell_drained(struct stream *stream)
{
	stream->is_drained_due = false;
	if (stream->events->drained != NULL)
		stream->events->drained(stream->ctx);
}

static void end_input(struct stream *stream)
{
	stream->saw_eof = true;
	watch_input(stream);
	if (stream->error != 0)
		fail(stream, stream->error);
	else
		tell_eof(stream);
}

/* Stopping does not touch the watcher: usually nothing arrives before the next start. */
static void ignore_input(struct stream *stream)
{
	stream->is_input_ignored = true;
	stop_reading(stream);
}

/* Whose last words were not heard yet has not left: they may be the end of a batch, whose answers
 * are waited for. */
static void tell_left(struct stream *stream)
{
	if (!stream->is_paused || buf_used(&stream->in) > 0)
		return;
	stream->is_paused = false;
	stream->events->left(stream->ctx);
}

/* What has arrived in the pause: input, which waits; the end; or nothing that counts (of TLS). */
static void look_in_pause(struct stream *stream)
{
	ssize_t n = stream->transport->peek(stream);

	watch_unsent(stream);
	if (stream_is_full(n))
		return;
	ignore_input(stream);
	if (n < 0)
		fail(stream, errno);
	else if (n == 0)
		tell_left(stream);
}

static void read_once(struct stream *stream)
{
	char *scratch = loop_scratch(stream->loop);
	size_t room = buf_room(&stream->in);
	ssize_t n = stream->transport->read(stream, scratch, room);

	stream->is_dry = n < (ssize_t)room;
	watch_unsent(stream);
	if (stream_is_full(n))
		return;
	if (n < 0) {
		fail(stream, errno);
		return;
	}
	if (n == 0) {
		end_input(stream);
		return;
	}
	stream->bytes_read += (uint64_t)n;
	offer_fresh(stream, str_make(scratch, (size_t)n));
	if (stream->is_secret)
		explicit_bzero(scratch, (size_t)n);
}

static bool can_read(const struct stream *stream)
{
	return stream->fd >= 0 && !stream->has_failed && stream->wants_input && !stream->saw_eof &&
	       buf_room(&stream->in) > 0;
}

/* The socket becomes readable once for what TLS then gives in several reads. */
static void read_ready(struct stream *stream)
{
	for (int i = 0; i < READS_AN_EVENT; i++) {
		if (!can_read(stream) || !is_ready(stream))
			return;
		read_once(stream);
	}
	if (can_read(stream) && is_ready(stream))
		stream_tls_postpone(stream->tls);
}

/* ---- Handshake ----------------------------------------------------------------------------------- */

static void end_handshake(struct stream *stream)
{
	stream->is_handshaking = false;
	watch_input(stream);
	if (buf_used(&stream->out) > 0 || stream->is_finished)
		task_defer_flush(&stream->flush_task, stream->loop);
	if (stream->is_drained_due)
		tell_later(stream);
	stream_tls_tell(stream->tls, NULL);
}

static void shake_hands(struct stream *stream)
{
	int rc = stream_tls_handshake(stream->tls);

	if (rc < 0) {
		fail(stream, errno);
		return;
	}
	watch_output(stream, unsent(stream) > 0);
	if (rc > 0)
		end_handshake(stream);
}

/* ---- Events ---------------------------------------------------------------------------------------- */

/* Everything that is told outside of the socket's own events. Each call may close the stream. */
static void tell(void *ctx)
{
	struct stream *stream = ctx;

	if (stream->has_failed) {
		tell_failed(stream);
		return;
	}
	if (stream->is_handshaking) {
		shake_hands(stream);
		return;
	}
	if (stream->is_drained_due)
		tell_drained(stream);
	if (stream->fd >= 0 && !stream->has_failed && stream->wants_input && stream->is_offer_due)
		offer_again(stream);
	read_ready(stream);
	if (stream->fd >= 0 && !stream->has_failed)
		tell_eof(stream);
	if (stream->fd >= 0 && stream->saw_eof && !stream->told_eof)
		tell_left(stream);
}

static void on_readable(struct stream *stream)
{
	if (stream->is_handshaking) {
		shake_hands(stream);
		return;
	}
	if (stream->is_paused) {
		look_in_pause(stream);
		return;
	}
	if (!stream->wants_input) {
		ignore_input(stream);
		return;
	}
	read_once(stream);
	read_ready(stream);
}

void stream_read_start(struct stream *stream)
{
	bool is_new = !stream->wants_input;

	if (stream->fd < 0 || stream->has_failed)
		return;
	stream->wants_input = true;
	stream->is_input_ignored = stream->is_paused = false;
	if (is_new)
		watch_input(stream);
	/* Inside `input` the rest is not known yet; if there is none the task finds nothing. */
	bool has_rest = buf_used(&stream->in) > 0 || stream->is_offering;
	if (has_rest && (is_new || (!stream->was_refused && !stream->is_offering)))
		stream->is_offer_due = true;
	if (stream->is_offer_due || (stream->saw_eof && !stream->told_eof) || is_ready(stream))
		tell_later(stream);
}

void stream_read_stop(struct stream *stream)
{
	stream->wants_input = stream->is_paused = false;
	if (stream->fd >= 0 && stream->error != 0)
		fail(stream, stream->error);
}

void stream_read_pause(struct stream *stream)
{
	ASSERT(stream->events->left != NULL);
	stream_read_stop(stream);
	stream->is_paused = stream->fd >= 0 && !stream->has_failed;
}

/* The last read left nothing, and the loop, which has watched since, has not seen anything come. */
static bool is_known_dry(const struct stream *stream)
{
	return stream->tls == NULL && stream->is_dry && (watched(stream) & EV_READ) != 0 &&
	       ((const ev_watcher *)&stream->watcher)->pending == 0;
}

bool stream_has_more(const struct stream *stream)
{
	return stream->fd >= 0 && !is_known_dry(stream) && stream->transport->peek(stream) > 0;
}

bool stream_has_input(const struct stream *stream)
{
	return buf_used(&stream->in) > 0 || stream_has_more(stream);
}

struct str stream_kept(const struct stream *stream)
{
	return buf_view(&stream->in);
}

/* ---- Output ---------------------------------------------------------------------------------- */

static void note_fill(struct stream *stream)
{
	size_t used = stream_pending(stream);

	if (used > stream->out.max / 2)
		stream->wants_drained = true;
	if (!stream->wants_drained || used >= stream->out.max / 4)
		return;
	stream->wants_drained = false;
	stream->is_drained_due = true;
	tell_later(stream);
}

/* Writes what is gathered and then `more`, and returns how much of `more` was taken. A short
 * write means that the socket is full: the watcher takes over without another attempt. */
static size_t send_now(struct stream *stream, struct str more)
{
	struct str gathered = buf_view(&stream->out);

	if (stream->is_handshaking)
		gathered = more = str_make(NULL, 0);
	size_t total = gathered.n + more.n;
	ssize_t n = gathered.n > 0 ? stream->transport->send(stream, gathered, more)
				   : stream->transport->send(stream, more, gathered);

	if (n < 0 && !stream_is_full(n)) {
		fail_write(stream, errno);
		return more.n;
	}
	size_t sent = n > 0 ? (size_t)n : 0;
	stream->bytes_written += sent;
	watch_output(stream, sent < total || unsent(stream) > 0);
	if (sent < gathered.n) {
		buf_consume(&stream->out, sent);
		return 0;
	}
	buf_consume(&stream->out, gathered.n);
	return sent - gathered.n;
}

static void send_fin(struct stream *stream)
{
	if (!stream->is_finished || stream->is_handshaking || stream_pending(stream) > 0)
		return;
	stream->transport->finish(stream);
	watch_unsent(stream);
}

static void flush(struct stream *stream)
{
	if (is_output_dead(stream))
		return;
	/* With TLS it may have been a read that sent what waited. */
	if (stream_pending(stream) > 0)
		send_now(stream, str_make(NULL, 0));
	else
		watch_output(stream, false);
	if (is_output_dead(stream))
		return;
	buf_release(&stream->out);
	send_fin(stream);
	note_fill(stream);
}

static void flush_at_end(void *ctx)
{
	struct stream *stream = ctx;

	if (!is_socket_full(stream))
		flush(stream);
}

static void on_writable(struct stream *stream)
{
	flush(stream);
	if (stream->is_handshaking && !is_output_dead(stream))
		shake_hands(stream);
}

/* Reading may end what was to be written, or close the stream. */
static void on_event(struct ev_loop *ev, ev_io *watcher, int revents)
{
	struct stream *stream = watcher->data;

	(void)ev;
	if (revents & EV_READ)
		on_readable(stream);
	if (revents & EV_WRITE && is_socket_full(stream))
		on_writable(stream);
}

/* What is said first in a turn is seldom all of it. */
static void begin_gathering(struct stream *stream, size_t n)
{
	if (buf_memory(&stream->out) == 0 && n < GATHERED_MIN &&
		GATHERED_MIN <= buf_room(&stream->out))
		buf_reserve(&stream->out, GATHERED_MIN);
}

static void gather(struct stream *stream, struct str bytes)
{
	if (bytes.n == 0)
		return;
	begin_gathering(stream, bytes.n);
	bool is_gathered = buf_write(&stream->out, bytes);

	ASSERT(is_gathered);
	if (!is_socket_full(stream))
		task_defer_flush(&stream->flush_task, stream->loop);
}

bool stream_write(struct stream *stream, struct str bytes)
{
	if (is_output_dead(stream) || stream->is_finished)
		return true;
	if (bytes.n > buf_room(&stream->out)) {
		stream->wants_drained = true;
		return false;
	}
	gather(stream, bytes);
	note_fill(stream);
	return true;
}

size_t stream_push(struct stream *stream, struct str bytes)
{
	size_t taken = 0;

	if (is_output_dead(stream) || stream->is_finished)
		return bytes.n;
	bool is_much = buf_used(&stream->out) + bytes.n >= STREAM_PUSH_MIN;
	if (is_much && !is_socket_full(stream) && !stream->is_handshaking) {
		taken = send_now(stream, bytes);
		if (is_output_dead(stream))
			return bytes.n;
	}
	size_t room = buf_room(&stream->out);
	struct str fitting = str_range(str_from_pos(bytes, taken), 0, room);
	gather(stream, fitting);
	buf_release(&stream->out);
	note_fill(stream);
	return taken + fitting.n;
}

size_t stream_room(const struct stream *stream)
{
	return buf_room(&stream->out);
}

size_t stream_pending(const struct stream *stream)
{
	return buf_used(&stream->out) + unsent(stream);
}

void stream_hold(struct stream *stream)
{
	task_hold_flush(&stream->flush_task, stream->loop);
}

void stream_flush(struct stream *stream)
{
	if (stream->fd >= 0)
		flush(stream);
}

void stream_finish(struct stream *stream)
{
	if (is_output_dead(stream) || stream->is_finished)
		return;
	stream->is_finished = true;
	if (!is_socket_full(stream))
		flush(stream);
}

/* ---- TLS ------------------------------------------------------------------------------------------- */

void stream_start_tls(struct stream *stream, struct tls_context *context,
	void (*done)(void *ctx, const struct err *err), void *ctx)
{
	if (stream->fd < 0)
		return;
	ASSERT(stream->tls == NULL && !stream->is_finished);
	stream->wants_input = stream->is_paused = stream->is_offer_due = stream->was_refused =
		false;
	stream->is_handshaking = true;
	stream->tls = stream_tls_new(stream, context, done, ctx);
	stream->transport = &stream_tls;
	/* Inside `input` what was not taken is known when the call returns. */
	if (!stream->is_offering)
		stream_tls_take_input(stream->tls, &stream->in);
	stream_tls_take_output(stream->tls, &stream->out);
	watch_input(stream);
	if (stream->error != 0)
		fail(stream, stream->error);
	tell_later(stream);
}

const struct tls_state *stream_tls_state(const struct stream *stream)
{
	if (stream->tls == NULL || stream->is_handshaking)
		return NULL;
	return stream_tls_negotiated(stream->tls);
}

bool stream_channel_binding(const struct stream *stream, char *out)
{
	return stream_tls_state(stream) != NULL && stream_tls_bind(stream->tls, out);
}

/* ---- Life ------------------------------------------------------------------------------------ */

void stream_init(struct stream *stream, struct loop *loop, int fd, size_t in_max, size_t out_max,
	const struct stream_events *events, void *ctx)
{
	ASSERT(fd >= 0 && in_max > 0 && in_max <= STREAM_IN_MAX);
	*stream = (struct stream){ .loop = loop, .fd = fd, .events = events, .ctx = ctx };
	stream->transport = &stream_plain;
	buf_init(&stream->in, in_max);
	buf_init(&stream->out, out_max);
	task_init(&stream->input_task, tell, stream);
	task_init(&stream->flush_task, flush_at_end, stream);
	ev_io_init(&stream->watcher, on_event, fd, EV_READ);
	stream->watcher.data = stream;
}

void stream_set_secret(struct stream *stream)
{
	ASSERT(stream->tls == NULL);
	stream->is_secret = true;
	buf_set_secret(&stream->in);
	buf_set_secret(&stream->out);
}

bool stream_is_open(const struct stream *stream)
{
	return stream->fd >= 0;
}

bool stream_peer_is_gone(struct stream *stream)
{
	return stream->fd < 0 || stream->error != 0 || presence_is_gone(stream);
}

void stream_close(struct stream *stream, bool reset)
{
	if (stream->loop == NULL || stream->fd < 0)
		return;
	watch(stream, 0);
	presence_leave(stream);
	task_cancel(&stream->input_task, stream->loop);
	task_cancel(&stream->flush_task, stream->loop);
	stream->transport->close(stream, reset);
	stream->fd = -1;
	stream->wants_input = stream->is_paused = false;
	buf_free(&stream->out);
	if (!stream->is_offering)
		buf_free(&stream->in);
}
