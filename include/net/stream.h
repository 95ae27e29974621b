/*
 * A buffered, non-blocking byte stream over a connected socket. Input is given to the owner as
 * views and kept when the owner does not take it; output is gathered and written once a turn.
 * Both buffers have a maximum; an idle stream owns no buffer. The socket has TCP_NODELAY from whoever
 * made it (net/listener.h, net/connector.h).
 *
 * Back-pressure: the owner stops reading (stream_read_stop) when it is not the peer's turn, and
 * looks at stream_room() before it produces output; `drained` tells when there is room again.
 *
 * The stream never closes by itself: at end of file or failure it tells the owner once, always
 * from the loop, never from inside a call of the owner.
 *
 * The struct is embedded in its owner. It may be closed inside any callback, but its memory must
 * stay until the end of the turn (loop_retire).
 */
#ifndef NET_STREAM_H
#define NET_STREAM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/err.h"
#include "base/str.h"
#include "net/loop.h"

struct stream_events {
	/*
	 * Bytes have arrived. Returns how many were taken; the rest is kept (up to the maximum given
	 * to stream_init) and offered again, with more, when more arrives, or at the next
	 * stream_read_start(). Taking nothing while the kept input is at its maximum is a bug of the
	 * owner unless it has stopped reading. `bytes` is good until the call returns, also when
	 * the stream is closed meanwhile. May close the stream.
	 */
	size_t (*input)(void *ctx, struct str bytes);
	/*
	 * The peer will send nothing more. Called once, after all input was offered, while reading is
	 * started; output can still be written. With TLS: close_notify, or the end of the connection
	 * without it (then what had arrived of an unfinished record is dropped). What follows a
	 * close_notify is never read.
	 */
	void (*eof)(void *ctx);
	/*
	 * Reset, broken pipe, or another error of the socket ("connection: …"), or of TLS ("TLS: …":
	 * a record that is not authentic, an alert). Called once; nothing follows. When a
	 * write fails because the peer has closed, what it said last is read and offered before, if
	 * reading is started: a server's final reply is not lost.
	 */
	void (*failed)(void *ctx, const struct err *err);
	/*
	 * While reading was paused the peer has closed its side, and everything that it sent before
	 * was offered and taken. Once a pause; `eof` follows if reading is started after it. NULL
	 * where nothing pauses.
	 */
	void (*left)(void *ctx);
	/*
	 * Output that had filled the buffer beyond half, or was refused, is below a quarter of it.
	 * May be NULL.
	 */
	void (*drained)(void *ctx);
};

struct tls_context;
struct tls_state;

struct stream {
	struct loop *loop;
	int fd;              /* -1: closed */
	uint32_t asked_turn; /* in which it was asked whether the peer has gone; 0: never */
	const struct stream_events *events;
	void *ctx;
	const struct stream_transport *transport; /* the socket alone, or TLS on it */
	struct stream_tls *tls;                   /* NULL: plain */
	ev_io watcher;
	struct task input_task, flush_task;
	struct buf in, out;
	bool is_paused; /* not reading, and a peer that leaves is told */
	bool wants_input, saw_eof, told_eof, has_failed, is_offering, wants_drained;
	bool is_offer_due;     /* kept input waits for input_task */
	bool was_refused;      /* the kept input was offered again without anything being taken */
	bool is_drained_due;   /* `drained` waits for input_task */
	bool is_finished;      /* stream_finish was called */
	bool is_fin_sent;      /* … and the socket was told */
	bool is_handshaking;   /* of TLS: neither input nor output is the owner's yet */
	bool is_input_ignored; /* something arrived while reading was stopped */
	bool is_dry; /* the last read has left nothing; counts while the socket is watched for input */
	bool is_secret;                     /* see stream_set_secret */
	bool was_gone;                      /* the answer of asked_turn */
	uint8_t seat;                       /* for presence.c: one more than its place; 0: none */
	int error;                          /* errno of the failure, when there was one */
	uint64_t bytes_read, bytes_written; /* of the owner's; with TLS before encryption */
};

#define STREAM_IN_MAX LOOP_SCRATCH_SIZE /* bound of in_max */
#define STREAM_PUSH_MIN 16384           /* "much" for stream_push */

/*
 * Takes over `fd`, which must be connected and non-blocking. Reading is stopped at first. No
 * read takes more than there is room for in what may be kept, so `in_max` bounds a read as well:
 * use STREAM_IN_MAX where bulk is read.
 */
void stream_init(struct stream *stream, struct loop *loop, int fd, size_t in_max, size_t out_max,
	const struct stream_events *events, void *ctx);

/*
 * Passwords will go through: whatever is taken or written is wiped in the buffers that it went
 * through, those of TLS and the loop's scratch included. To be called before the first byte.
 */
void stream_set_secret(struct stream *stream);

bool stream_is_open(const struct stream *stream);

/*
 * Reading: what was kept is offered again at the end of this turn, never from inside the call.
 * Starting what is started offers it once more only if that was not done before in vain. Both
 * are cheap: no system call is made for a pause in which nothing arrives.
 */
void stream_read_start(struct stream *stream);
void stream_read_stop(struct stream *stream);

/*
 * Stops reading as well, but a peer that leaves meanwhile is told, by `left` or `failed`: when something
 * arrives, the kernel is asked once whether it is the end. Not told: an end with input in front of
 * it that was not taken.
 */
void stream_read_pause(struct stream *stream);

/*
 * Input that has arrived but was not taken: kept, or still in the kernel. What is in the kernel is
 * known as of when the loop last looked, or, when that was before the last read, as of that read; the
 * kernel is asked only when the loop was not watching, or has seen something come. With TLS it is
 * asked each time, and only data count, not what TLS says for itself (tickets, new keys,
 * close_notify); false during the handshake.
 */
bool stream_has_input(const struct stream *stream);
/* The latter alone: what `input`, from inside which it may be called, has not been given. */
bool stream_has_more(const struct stream *stream);
struct str stream_kept(const struct stream *stream);

/*
 * Gathers output for the end of the turn. False (nothing taken): it would exceed the maximum.
 * Output for a stream that is closed, finished or has failed is taken and dropped.
 */
bool stream_write(struct stream *stream, struct str bytes);

/*
 * Bulk output: takes as many bytes as it can and returns their number; writes at once what is
 * gathered together with `bytes` when that is much, so that large pieces are not copied.
 */
size_t stream_push(struct stream *stream, struct str bytes);

/*
 * Output bytes that would still be taken, and that wait to be written. With TLS up to 68 KiB more
 * than the maximum may wait, encrypted: they count as waiting.
 */
size_t stream_room(const struct stream *stream);
size_t stream_pending(const struct stream *stream);

/* What is gathered waits for what is soon to be written behind it, so that both go in one piece: for
 * the next stream_write(), but no longer than LOOP_HOLD_MS. */
void stream_hold(struct stream *stream);

/* Writes what is gathered now, as far as the socket takes it. */
void stream_flush(struct stream *stream);

/*
 * Nothing more will be written (it would be dropped): the peer sees the end when what is gathered
 * has been sent. The owner goes on reading (and throwing away) until `eof`, so that the last reply
 * is not lost to a reset; a deadline of the owner bounds that. With TLS the end is close_notify and
 * then that of the connection; there is no way back to plaintext.
 */
void stream_finish(struct stream *stream);

/*
 * From here on the stream is TLS: as server or as client, by the kind of the context, which the
 * stream keeps. Input that is kept already (a ClientHello behind a PROXY header) belongs to TLS;
 * where plaintext must not be mistaken for it (STARTTLS) the owner sees to it that nothing is
 * kept; as a client, input that is there before our ClientHello makes the handshake fail. Inside
 * `input` what is not taken belongs to TLS. Output gathered before is sent in plaintext first.
 *
 * Reading is stopped during the handshake, and begins with the owner's stream_read_start() in
 * `done` or later; output is gathered, and sent after it. `done` is called once, from the loop:
 * with NULL it has succeeded, else it has failed ("TLS handshake: …", or "connection: …") and the
 * owner closes; `failed` and `eof` are not called then. The owner's deadline bounds it. Closing
 * the stream drops the call. Once a stream, not after stream_finish().
 */
void stream_start_tls(struct stream *stream, struct tls_context *context,
	void (*done)(void *ctx, const struct err *err), void *ctx);

/* What was negotiated; NULL without TLS, during the handshake and when the stream is closed. */
const struct tls_state *stream_tls_state(const struct stream *stream);

/* What binds SCRAM to the connection (TLS_CHANNEL_BINDING bytes): made anew at each call, as few ask.
 * False: there is none. */
bool stream_channel_binding(const struct stream *stream, char *out);

/* Has the peer reset or fully closed the connection (a half-close is not that)? The kernel is asked,
 * once in a turn at most. */
bool stream_peer_is_gone(struct stream *stream);

/*
 * Closes the socket and drops what is buffered; idempotent; may be called from any callback.
 * Output that must still arrive is flushed before by the owner (stream_flush). With TLS a
 * close_notify is sent when everything before it was.
 * With `reset` the connection is aborted (RST) rather than closed.
 */
void stream_close(struct stream *stream, bool reset);

#endif
