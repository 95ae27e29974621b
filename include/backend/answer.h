/*
 * From a backend's reply to what our client is told: the backend's verdict is passed on, unless it
 * is out of protocol, or blames us rather than the client. No I/O.
 */
#ifndef BACKEND_ANSWER_H
#define BACKEND_ANSWER_H

#include <stdbool.h>

#include "smtp/client.h"
#include "smtp/server.h"

/* What the server takes for the client's, a set. */
enum answer_told {
	ANSWER_HELLO_IS_CLIENTS = 1,   /* the name in EHLO */
	ANSWER_ADDRESS_IS_CLIENTS = 2, /* the address that connects */
};

struct answer {
	struct smtp_answer answer; /* points into this struct and into the reply */
	struct smtp_reply changed;
	bool blames_us;      /* log an alarm */
	bool server_is_done; /* a 421: this server goes away; another may be tried before the dot */
	bool is_senseless;   /* out of protocol: nothing that it says can be relied on any more */
};

/*
 * What `reply` to `step` (MAIL, RCPT, DATA or DOT) means for the client:
 *  - a class that does not fit the step is our BACKEND_PROTOCOL;
 *  - 5xx that blames us is our BACKEND_OUR_FAULT: it must never bounce the client's mail;
 *  - 421 becomes 451, as our client's connection is not the backend's to close;
 *  - a 2xx or 3xx to the whole message that is not 250 is our OUTCOME_UNKNOWN;
 *  - everything else goes on as it is, by the backend.
 */
void answer_from_reply(struct answer *answer, enum smtp_client_step step,
	const struct smtp_reply *reply, unsigned told);

/* A 5xx that is about us: authentication or TLS wanted, commands not understood, relaying refused to
 * us, our name in EHLO or our address refused (unless `told` says that they are the client's). */
bool answer_blames_us(const struct smtp_reply *reply, unsigned told);

#endif
