/*
 * The world around the server dialogue, without sockets and without a clock: it records what the
 * engine says and wishes, answers as it is told, and watches what must always hold:
 *
 *  - replies are well-formed lines, none after the close, and the close comes once;
 *  - one question at a time to the policy and to the backend;
 *  - the backend's side sees recipient…, DATA, body, end in this order, nothing behind an abandon;
 *  - the body keeps to its room and is canonical: only CR LF, no NUL, no line of one dot;
 *  - every transaction has one outcome, and it is "accepted" only after the backend's own 2xx;
 *  - a handshake begins behind its 220, with nothing of plaintext left over, and nothing is said
 *    during it; one AUTH exchange at a time, the service and the client in turn, none left open.
 *
 * What does not hold ends the program with the name of the test (fake_port_where).
 */
#ifndef TEST_SUPPORT_FAKE_PORT_H
#define TEST_SUPPORT_FAKE_PORT_H

#include "smtp/server.h"

#define FAKE_ROOM_PLENTY SIZE_MAX
#define FAKE_SCRIPT_MAX 16

struct fake_verdict {
	bool comes_later;
	struct verdict verdict;
	bool holds;
};

/* What the backend's side has seen of the transaction. */
enum fake_backend_state {
	FAKE_ENVELOPE,
	FAKE_DATA,
	FAKE_BODY,
	FAKE_END,
	FAKE_ABANDONED,
};

enum fake_pending { FAKE_NOTHING, FAKE_RECIPIENT, FAKE_DATA_ANSWER, FAKE_FINAL };

/* Whose turn it is in an AUTH exchange. */
enum fake_exchange { FAKE_NO_EXCHANGE, FAKE_SERVICE, FAKE_CLIENT };

struct fake_port {
	struct smtp_server server;
	struct smtp_server_settings settings;
	struct connection connection;

	/* The world; to be set at will. */
	struct smtp_offer offer;
	uint64_t now_ms;
	size_t room; /* that the backend has for the body */
	bool output_is_full;
	bool input_is_pending; /* bytes in the kernel; what stands in `input` counts anyway */
	bool tls_is_unavailable;
	enum smtp_auth_start auth_start;
	bool client_is_gone;    /* forward_end finds out */
	bool has_no_server;     /* all are down */
	bool answers_by_itself; /* the backend takes everything */
	bool is_byte_by_byte;   /* the client's bytes come in one at a time */
	/* The policy: NULL takes verdicts of the script, NEXT when it is empty. */
	void (*ask)(void *ctx, enum policy_stage stage);
	void *ask_ctx;
	struct fake_verdict script[FAKE_SCRIPT_MAX];
	size_t script_first, script_count;

	/* Recorded; tests consume what they have looked at. */
	struct buf input;       /* of the client, not taken yet */
	struct buf replies;     /* bytes to the client */
	struct buf forwarded;   /* lines: "recipient <a>", "data", "end", "abandon" */
	unsigned data_follows;  /* recipients of these behind which stood DATA */
	unsigned others_follow; /* … another command */
	struct buf body;        /* canonical bytes of all messages */
	struct buf outcomes;    /* lines: "accepted backend" */
	struct buf refusals;    /* lines: "RCPT 550 5.1.1 …" */
	struct buf auth;     /* lines: "begin PLAIN <response>", "respond <response>", "cancel" */
	struct tls_info tls; /* of the last handshake */
	bool is_started, is_closed, is_armed, is_shaking_hands;
	enum ending ending;
	uint64_t due_ms;
	size_t asked[POLICY_STAGE_COUNT];
	size_t ended, accepted;

	/* For fake_port.c. */
	bool is_asked;
	enum policy_stage stage;
	enum fake_pending pending;
	enum fake_exchange exchange;
	bool is_feeding;
	enum fake_backend_state backend;
	bool is_final_good;
	char last;          /* byte of the body */
	size_t line_length; /* of the body's current line */
	bool line_begins_with_dot, line_is_stuffed;
};

/* Named in every failure. */
extern char fake_port_where[512];
_Noreturn void fake_port_fail(const char *what, struct str detail);

/* Limits and deadlines as the settings have them, everything offered, a client at 192.0.2.10. */
void fake_port_init(struct fake_port *port);
/* The client leaves, if it has not; checks what must hold at the end. */
void fake_port_free(struct fake_port *port);

void fake_port_start(struct fake_port *port);
/* Bytes of the client arrive. Within a handshake they make it fail. */
void fake_port_client(struct fake_port *port, struct str bytes);
/* The dialogue goes on as far as it can. */
void fake_port_pump(struct fake_port *port);

/* Adds a verdict to the script. */
void fake_port_will_say(struct fake_port *port, struct fake_verdict verdict);
/* The answer to a question that was to be answered later. */
void fake_port_verdict(struct fake_port *port, struct verdict verdict, bool holds);

/* The backend's answer to what was forwarded last: its reply, without the last line end. */
void fake_port_backend(struct fake_port *port, const char *reply);
void fake_port_backend_own(struct fake_port *port, enum reply_id reply, enum outcome_by by);
/* The backend is lost in the middle of the body. */
void fake_port_lost(struct fake_port *port, const char *reply);
void fake_port_lost_own(struct fake_port *port, enum reply_id reply);

/* The handshake ends: well, or the connection with it. */
void fake_port_tls(struct fake_port *port, bool is_good);
/* What the authentication service says to what it was asked last. */
void fake_port_challenge(struct fake_port *port, struct str challenge);
void fake_port_auth_done(struct fake_port *port, enum smtp_auth_end end, struct str user);

/* The armed deadline passes. */
void fake_port_expire(struct fake_port *port);
void fake_port_eof(struct fake_port *port, bool reset);
void fake_port_give_room(struct fake_port *port, size_t room);

/* Consumes the first line of a recording; false when there is none. `line` has no line end and is
 * good until the next write to it. */
bool fake_port_take(struct buf *recording, struct str *line);
/* Drops what was recorded so far. */
void fake_port_forget(struct fake_port *port);

/* REPLY_COUNT when there is no such name. */
enum reply_id fake_reply_by_name(struct str name);

#endif
