/*
 * What is beneath a stream: the socket alone, or TLS on it. stream.c knows of TLS only what is
 * said here.
 */
#ifndef NET_STREAM_PRIV_H
#define NET_STREAM_PRIV_H

#include <sys/types.h>

#include "net/stream.h"
#include "net/tls.h"

/* Counts of bytes, 0 for the end, -1 and errno: as read(2) and send(2) say it. */
struct stream_transport {
	ssize_t (*read)(struct stream *stream, char *out, size_t size);
	/* Two pieces in one call; the second may be empty. */
	ssize_t (*send)(struct stream *stream, struct str first, struct str second);
	/* What a read would say, without taking anything: above 0, there is input. */
	ssize_t (*peek)(const struct stream *stream);
	/* The peer sees the end of what was sent. May be called again when not all was sent. */
	void (*finish)(struct stream *stream);
	void (*close)(struct stream *stream, bool reset);
};

extern const struct stream_transport stream_plain, stream_tls;

/* Did the last call say "not now"? */
bool stream_is_full(ssize_t result);

/* ---- stream_tls.c: the object a TLS stream owns beside its struct ---------------------------------- */

struct stream_tls;

/* stream->tls is freed by stream_tls.close. */
struct stream_tls *stream_tls_new(struct stream *stream, struct tls_context *context,
	void (*done)(void *ctx, const struct err *err), void *ctx);

/* What the stream has kept is TLS; what it has gathered goes out before TLS. */
void stream_tls_take_input(struct stream_tls *tls, struct buf *in);
void stream_tls_take_output(struct stream_tls *tls, struct buf *out);

/* One step: 1 it has succeeded, 0 it goes on, -1 and errno. */
int stream_tls_handshake(struct stream_tls *tls);

/* Calls `done`. */
void stream_tls_tell(struct stream_tls *tls, const struct err *err);

/* The text of EPROTO. False: there is none. */
bool stream_tls_problem(const struct stream_tls *tls, struct err *err);

/* Bytes for the socket that it did not take yet. */
size_t stream_tls_unsent(const struct stream_tls *tls);

/* Would a read say something without the socket becoming readable? */
bool stream_tls_is_ready(const struct stream_tls *tls);

/* Has the stream's input task run again, in the next turn. */
void stream_tls_postpone(struct stream_tls *tls);

/* False: there is none. */
bool stream_tls_bind(const struct stream_tls *tls, char out[TLS_CHANNEL_BINDING]);

const struct tls_state *stream_tls_negotiated(const struct stream_tls *tls);

#endif
