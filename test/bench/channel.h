/*
 * The bytes between a client and its socket: plain, or under TLS. The client of TLS believes every
 * certificate and never resumes a session: what it measures are full handshakes.
 */
#ifndef BENCH_CHANNEL_H
#define BENCH_CHANNEL_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

#include "base/str.h"

#define CHANNEL_TEXT_MAX 160

struct ssl_st; /* SSL and SSL_CTX of OpenSSL */
struct ssl_ctx_st;

struct channel {
	int fd;
	struct ssl_st *ssl; /* NULL: plain */
	bool wants_write;
	char error[CHANNEL_TEXT_MAX]; /* after -1 */
};

/* version: 12, 13, or 0 for both. The caller frees it. */
struct ssl_ctx_st *channel_context(int version);
void channel_context_free(struct ssl_ctx_st *context);

/* From now on TLS. */
void channel_start_tls(struct channel *channel, struct ssl_ctx_st *context);

/* 1: done, and it was a full one; 0: when the socket is ready again; -1: failed. */
int channel_shake_hands(struct channel *channel);

/* How many bytes; 0: not now; -1: failed, the end of input included. */
ssize_t channel_send(struct channel *channel, struct str bytes);
ssize_t channel_receive(struct channel *channel, char *out, size_t size);

/* Would receive say something without the socket becoming readable? */
bool channel_has_more(const struct channel *channel);

/* Version, cipher and the certificate's key; empty without TLS. */
struct str channel_describe(const struct channel *channel, char out[CHANNEL_TEXT_MAX]);

/* is_orderly: says so to the peer, under TLS. */
void channel_close(struct channel *channel, bool is_orderly);

#endif
