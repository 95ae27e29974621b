/*
 * One connection of the load: a client that does its steps one by one, each in one write, and
 * takes nothing but the expected reply for an answer.
 */
#ifndef BENCH_CLIENT_H
#define BENCH_CLIENT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/str.h"
#include "channel.h"
#include "header.h"

#define REPLY_KEPT 160

struct load;

enum step {
	STEP_CLOSED,
	STEP_CONNECT,   /* not yet connected */
	STEP_HANDSHAKE, /* of TLS */
	STEP_BANNER,
	STEP_HELLO,
	STEP_STARTTLS,
	STEP_MAIL,
	STEP_RCPT,
	STEP_DATA,
	STEP_BODY,
	STEP_QUIT,
	STEP_HELD,
	STEPS
};

struct client {
	struct load *load;
	struct channel channel;
	enum step step; /* whose reply is awaited */
	uint32_t messages;
	uint32_t rcpt;
	uint32_t interest;
	bool is_body_written; /* of HOLD_IN_BODY: the half of it */
	struct str out;       /* still to be written */
	char header[HEADER_MAX];
	char line[REPLY_KEPT]; /* the beginning of the reply line that is being read */
	size_t column;
	uint64_t connected_us, handshake_us, begun_us;
};

/* Connects; the client must be STEP_CLOSED. */
void client_open(struct client *client, struct load *load);

/* The socket is ready. Afterwards the client may be STEP_CLOSED. */
void client_event(struct client *client, uint32_t events);

void client_close(struct client *client);

/* Closes it and counts an error. */
void client_fail(struct client *client, struct str what);

#endif
