/*
 * The connection object: everything known about a client, under names that stay the same in the
 * code, the log, the trace and the documents. One a client; it lives from accept to close.
 *
 * tables/connection.def says for each row its name, type, what resets it and what it means; the
 * trace, docs/connection.md and the one reset routine come from there. Policy checks see the
 * object as const.
 *
 * Memory: texts live in the connection's arena (bounded); an idle connection costs the struct and
 * one small block.
 */
#ifndef CONNECTION_CONNECTION_H
#define CONNECTION_CONNECTION_H

#include <stdbool.h>
#include <stdint.h>
#include <time.h>

#include "base/arena.h"
#include "base/buf.h"
#include "base/ident.h"
#include "base/ipaddr.h"
#include "base/str.h"
#include "connection/notes.h"
#include "connection/results.h"
#include "proto/proxy.h"

struct transaction;

#define CONNECTION_ARENA_MAX 65536
#define CONNECTION_TRACE_MAX (256 * 1024) /* of each of the two arrays in the trace */
#define CONNECTION_LINE_MAX 16384         /* of current_line */
#define CONNECTION_RESPONSE_MAX 16384     /* of last_response */

/* Outcome of the reverse look-up of remote.ip; words: ok none error timeout off pending. */
enum host_status {
	HOST_PENDING, /* asked, no answer yet */
	HOST_OK,
	HOST_NONE,
	HOST_ERROR,
	HOST_TIMEOUT,
	HOST_OFF,
};

struct remote {
	struct endpoint address; /* .ip and .port */
	struct str host;         /* empty: null */
	enum host_status host_status;
	bool host_confirmed;
	bool is_private, is_local; /* derived from the address, by connection_set_remote */
	bool is_known;             /* an address was set */
};

struct local {
	struct endpoint address;
	struct str host; /* empty: null; whoever sets it keeps it for as long as the connection */
	bool is_known;   /* an address was set */
};

/* What the v2 TLVs said of TLS at the balancer. */
struct proxy_tls {
	bool used; /* the client spoke TLS */
	bool client_certificate, certificate_verified;
	uint32_t verify;
	struct str version, cipher, cn, sig_alg, key_alg, group, sig_scheme;
};

struct proxy_info {
	bool allowed;            /* the socket peer is in trusted_proxies */
	bool has_header;         /* a header was accepted: ip, type, version, command hold */
	struct endpoint address; /* the balancer's: proxy.ip */
	struct endpoint local;   /* the socket's own end: proxy.local_ip, proxy.local_port */
	uint8_t version;
	enum proxy_command command;
	enum proxy_family family;
	/* What the TLVs of version 2 said, in the arena; NULL: there was none. */
	struct proxy_tls *tls;
	struct str *authority, *alpn, *unique_id, *netns;
	struct proxy_tlv *tlvs; /* the others */
	size_t tlv_count;
};

struct hello {
	const char *verb; /* "EHLO", "HELO" or NULL */
	struct str host;
};

/* TLS with the client: our own, or ended at the balancer. NULL in the connection: none. */
struct tls_info {
	bool offloaded;
	struct str version, cipher, sni;
	/* The client's certificate; from the balancer only its common name is known. */
	bool client_certificate, client_verified;
	struct str client_subject, client_fingerprint;
};

struct auth_info {
	struct str mechanism, user;
};

struct rcpt_count {
	uint64_t accept, tempfail, reject;
};

/* What the trace has gathered: JSON, elements separated by commas. */
struct traced {
	struct buf transactions, events;
};

struct connection {
	struct arena arena;
	char uuid[IDENT_TEXT_MAX];
	struct str listener; /* its name; lives as long as the configuration */
	struct remote remote;
	struct local local;
	struct proxy_info proxy;
	struct hello hello;
	struct tls_info *tls;   /* in the arena */
	struct auth_info *auth; /* in the arena */
	bool relaying;          /* the lasting grant; connection_may_relay() is the answer */
	bool relaying_by_auth;  /* … and it rests on AUTH alone: STARTTLS takes it back */
	bool is_restricted;     /* no client address, no mail (health checks, LOCAL, UNKNOWN) */
	struct notes notes;
	struct results results;
	struct transaction *transaction; /* NULL: none */
	struct buf current_line;         /* the last command line as sent, line end included */
	struct buf last_response;        /* the last reply as sent, all lines */
	bool remote_closed;
	bool early_talker;
	bool esmtp; /* the last hello was EHLO */
	bool is_traced;
	uint64_t errors;     /* protocol errors */
	uint64_t tran_count; /* transactions begun: MAIL accepted */
	struct rcpt_count rcpt_count, msg_count;
	uint64_t total_bytes;       /* of message data received */
	struct timespec start_time; /* wall clock */
	uint64_t start_ms;          /* monotonic */
	struct traced *traced;      /* NULL: nothing yet */
};

/* What happened; rows of connection.def say what each clears. */
enum connection_reset {
	CONNECTION_RESET_TLS = 1 << 0,   /* STARTTLS done: everything learned before is forgotten */
	CONNECTION_RESET_HELLO = 1 << 1, /* HELO or EHLO */
	CONNECTION_RESET_RSET = 1 << 2,  /* RSET */
	CONNECTION_RESET_MESSAGE = 1 << 3, /* a message was handed over or refused */
};

/* `now` is wall-clock time, `now_ms` monotonic. */
void connection_init(struct connection *connection, const struct timespec *now, uint64_t now_ms);
/* Frees what the connection holds, not the struct itself. An open transaction has ended before
 * (transaction_end); it is freed here. */
void connection_free(struct connection *connection);

/* Sets remote.ip and remote.port and what is derived from them; forgets the name. */
void connection_set_remote(struct connection *connection, const struct endpoint *address);
/* Likewise of local.ip and local.port. */
void connection_set_local(struct connection *connection, const struct endpoint *address);

/* The outcome of the reverse look-up; `host` counts (and is copied) only with HOST_OK. A name
 * that does not fit the arena is HOST_ERROR. */
void connection_set_remote_host(
	struct connection *connection, enum host_status status, struct str host, bool is_confirmed);

/*
 * Copies what an accepted header said, once in a connection. When it names a client, remote and
 * local are set from it; otherwise they stay. `socket_peer` and `socket_local` are the socket's
 * ends. When the client spoke TLS with the balancer, `tls` is set, offloaded. Texts that do not fit
 * the arena are left out. proxy.allowed is set by the caller.
 */
void connection_set_proxy(struct connection *connection, const struct proxy_header *header,
	const struct endpoint *socket_peer, const struct endpoint *socket_local);

/* Clears every row that `what` resets. An open transaction is ended by the caller before
 * (transaction_end) and freed here. A new hello leaves hello.* as it is: the caller sets it when
 * the hello is accepted (RFC 5321 section 4.1.4: a refused one changes nothing). */
void connection_reset(struct connection *connection, enum connection_reset what);

/* May the client send to any domain, now? */
bool connection_may_relay(const struct connection *connection);
/*
 * Within a transaction the grant ends with it; outside it lasts. `by` is a word for the trace
 * (results: relay.pass of whichever holds the grant); it is RELAYING_BY_AUTH when AUTH grants.
 */
#define RELAYING_BY_AUTH "auth"
void connection_grant_relaying(struct connection *connection, const char *by);

const char *host_status_word(enum host_status status);

/* docs/connection.md. */
void connection_print_reference(struct buf *out);

#endif
