/*
 * One server of a backend at run time: where it is, what it offers, how it is.
 *
 * Health. Whoever talks to a server says how it went: server_note(), server_learn(). A server that
 * fails is *avoided* for SERVER_AVOIDED_MS: it comes after the others. After `health.fall` failures
 * without a success between them (SERVER_DOUBTED is not counted) it is *down*, for a time that doubles from outage to outage. Then
 * it is *probing*: one connection is let through, that of a probe, or a client's where nobody probes
 * it, and its outcome decides. `health.rise` successes bring it up again, and its weight grows over
 * `health.slow_start`. Avoided and down only mean "after all others": when no other server is left
 * it is tried all the same (backend/backend.h).
 *
 * Addresses. A server given by name has all addresses of that name (backend/names.h), until its first
 * look-up has ended well none; others have the one of the settings, and unix sockets need none.
 *
 * Times are milliseconds of loop_now_ms().
 */
#ifndef BACKEND_SERVER_H
#define BACKEND_SERVER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/queue.h>

#include "backend/settings.h"
#include "base/ipaddr.h"
#include "proto/smtp_reply.h"

/* A server that failed once is tried after the others for this long; so is an address of a name. */
#define SERVER_AVOIDED_MS 10000
/* How long the first outage lasts before the server is tried again, and the longest. */
#define SERVER_DOWN_MS 10000
#define SERVER_DOWN_MAX_MS 300000
/* A server that was up for so long has its next outage counted as the first. */
#define SERVER_STEADY_MS 300000
/* When nobody has told how the one trial connection went, another is let through; so it is when the
 * probe that should be the trial does not come. */
#define SERVER_TRIAL_MS 60000
#define SERVER_ADDRESSES_MAX 16
/* Weights are counted in hundredths, for slow start. */
#define SERVER_WEIGHT_ONE 100

enum server_event {
	SERVER_READY, /* a new connection was greeted, EHLO answered: said by server_learn() */
	/* Of a transaction one of these, as its share is looked at: */
	SERVER_OK,         /* the answer to the dot, 5xx included; 5xx to MAIL or DATA */
	SERVER_TEMPFAILED, /* 4xx to MAIL, DATA or the dot; to RCPT it says nothing (greylisting) */
	/* Failures: */
	SERVER_CONNECT_FAILED, /* refused, unreachable, no answer in time; TLS that does not work */
	SERVER_BAD_GREETING,   /* no banner, a refusing one (421, 554), EHLO refused */
	SERVER_DOUBTED, /* no greeting for a client whom a PROXY header names: a probe is to say whose it is */
	SERVER_GONE,     /* closed or reset in a dialogue; not one that was idle */
	SERVER_STALLED,  /* no answer in time */
	SERVER_GOODBYE,  /* 421 in a dialogue */
	SERVER_PROTOCOL, /* what it says makes no sense */
};

enum server_state { SERVER_UP, SERVER_DOWN, SERVER_PROBING };

/* Answers of the last minute, for the share of 4xx. */
#define SERVER_SLICES 6
#define SERVER_SLICE_MS 10000
struct server_slice {
	uint64_t number; /* of time */
	unsigned answers, tempfailed;
};

struct server_health {
	enum server_state state;
	unsigned failures;  /* since the last success */
	unsigned successes; /* since the last failure, while not UP */
	unsigned outages;   /* of late: the next one lasts longer */
	bool is_dialogue; /* the last failure came after the greeting: a greeting disproves nothing */
	uint64_t avoided_until_ms;
	uint64_t suspected_until_ms; /* a probe comes by then */
	uint64_t retry_ms;           /* DOWN: a trial is due; PROBING: another one is */
	uint64_t up_since_ms;        /* after an outage; 0: there was none */
	struct server_slice slices[SERVER_SLICES];
};

struct server_target {
	struct endpoint endpoint;
	uint64_t avoided_until_ms;
};

#define SERVER_WITHHELD_MS (10 * 60 * 1000)

struct backend;
struct link;

struct server {
	const struct server_settings *settings;
	struct backend *backend;
	unsigned index;
	const char *name;                      /* its address as the settings say it */
	struct smtp_capabilities capabilities; /* without what is withheld */
	unsigned offered;                      /* extensions, as it offers them to all */
	unsigned withheld; /* of these: not offered to a client of whom it was told, of late */
	uint64_t withheld_until_ms;
	bool is_known;     /* it has answered EHLO at least once */
	bool is_looked_up; /* an answer to its name has come, be it that there is none */
	bool is_ourselves; /* nothing but listeners of ours is at its addresses: mail would go round */
	bool has_own; /* there are such among its addresses; where there are others, not used */
	unsigned connections;   /* open from us or being opened now: server_acquire() */
	unsigned idle;          /* of these: kept for whoever comes; they do not count as taken */
	LIST_HEAD(, link) pool; /* for backend/pool.c: those, and what is on its way there */

	struct server_target targets[SERVER_ADDRESSES_MAX];
	unsigned target_count, next_target;

	/* Who probes it: told when a probe may be due earlier than it was (server_next_probe_ms()), from
	 * inside of server_note() or server_refused_client(). NULL: nobody does. */
	void (*probe_due)(void *ctx);
	void *probe_ctx;

	struct server_health health;
	int64_t turn;         /* of roundrobin */
	uint64_t chosen_last; /* of leastconn: by number of the choice */
};

/* ---- Health: backend/health.c ---- */

void server_note(struct server *server, enum server_event event, uint64_t now_ms);
/* It has refused a client in place of the greeting: a probe is to see soon whether it means all. */
void server_refused_client(struct server *server, uint64_t now_ms);
/* Its EHLO reply; also notes SERVER_READY. */
void server_learn(
	struct server *server, const struct smtp_capabilities *capabilities, uint64_t now_ms);
/* Its EHLO reply to a client of whom it was told: what is missing is promised to no other for
 * SERVER_WITHHELD_MS, or until it offers something else to all. Also notes SERVER_READY. */
void server_learn_less(
	struct server *server, const struct smtp_capabilities *capabilities, uint64_t now_ms);
/* A connection is about to be tried: of a server that is down it is the one that decides. Called by
 * backend_choose(); a probe calls it itself. */
void server_begin_trial(struct server *server, uint64_t now_ms);

/* Neither avoided nor down, and with an address. */
bool server_is_usable(const struct server *server, uint64_t now_ms);
/* Known to be of no use: down because it cannot be connected to or does not greet, or without an
 * address although its name was looked up. Not one that nobody has tried yet; not one that greets,
 * whatever it does then: that may be for what clients send. */
bool server_is_out(const struct server *server);
/* In hundredths; 0: it gets nothing. */
uint64_t server_weight(const struct server *server, uint64_t now_ms);
/* When a probe should come, from now; at most `interval_ms`: sooner for a server that is not up. */
uint64_t server_next_probe_ms(const struct server *server, uint64_t interval_ms, uint64_t now_ms);

/* ---- Connections ---- */

/* Before a connection is begun; and when it was closed, or could not be made. A slot that becomes
 * free is given to who waits (backend/queue.h), from the loop. */
void server_acquire(struct server *server);
void server_release(struct server *server);
/* An open connection is kept for whoever comes, or taken again. */
void server_idle(struct server *server);
void server_busy(struct server *server);

/* ---- Addresses ---- */

bool server_is_unix(const struct server *server);
/* Can it be connected to at all? */
bool server_has_address(const struct server *server);
/* The next of its addresses, in turn; those that failed a moment ago come last. False: it has none,
 * or is a unix socket. */
bool server_address(struct server *server, uint64_t now_ms, struct endpoint *out);
/* Is a connection to this address still one to it? Not when its name has led elsewhere since. Of a
 * unix socket: yes. */
bool server_is_at(const struct server *server, const struct endpoint *address);
/* One of its addresses could not be connected to. */
void server_address_failed(struct server *server, const struct endpoint *address, uint64_t now_ms);
/* What the name has led to; those of listeners of ours are left out (backend_guard()), unless there
 * are no others. True: they are others than before. */
bool server_set_addresses(struct server *server, const struct ipaddr *addresses, size_t count);

#endif
