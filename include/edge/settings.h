/*
 * The settings of listeners, limits and timeouts: plain structs, filled by the
 * tables of edge/settings.c. They belong to one immutable snapshot and outlive every session.
 */
#ifndef EDGE_SETTINGS_H
#define EDGE_SETTINGS_H

#include <stdbool.h>
#include <stdint.h>

#include "backend/settings.h"
#include "base/ipaddr.h"
#include "base/str.h"
#include "conf/schema.h"
#include "net/tls.h"
#include "smtp/server.h"

enum proxy_mode { PROXY_MODE_REQUIRED, PROXY_MODE_OPTIONAL, PROXY_MODE_OFF };
enum bare_newline { BARE_NEWLINE_REJECT, BARE_NEWLINE_NORMALISE };
/* Where clients are told that all servers are down. AUTO: at MAIL where AUTH is required. */
enum unavailable { UNAVAILABLE_AUTO, UNAVAILABLE_BANNER, UNAVAILABLE_MAIL, UNAVAILABLE_RCPT };
enum tls_mode { TLS_MODE_OFF, TLS_MODE_STARTTLS, TLS_MODE_IMPLICIT };

/* TLS towards clients. */
struct tls_settings {
	int mode;                      /* enum tls_mode */
	struct str certificate, key;   /* paths: one certificate, … */
	struct conf_list certificates; /* of struct tls_certificate: … or several, chosen by SNI */
	int min_version;               /* enum tls_version */
	struct str client_ca;          /* path; empty: no client certificates */
};

/* A user with a sender that nobody owns; somebody else with one that is a user's. */
enum unlisted_senders { UNLISTED_SENDERS_REJECT, UNLISTED_SENDERS_ACCEPT };
enum unauthenticated_senders { UNAUTHENTICATED_SENDERS_IGNORE, UNAUTHENTICATED_SENDERS_REJECT };

/* AUTH on a listener; without a service there is none. */
struct auth_settings {
	bool required;      /* no MAIL without it */
	struct str users;   /* a file … */
	struct str sasl;    /* … or a Dovecot auth server: "unix:PATH", "inet:ADDRESS:PORT" */
	struct str backend; /* … or a backend, by name */
	struct conf_list mechanisms;       /* of struct str; empty: all that the service has */
	struct ipnet_list allow_plaintext; /* networks that may use it without TLS */
	uint64_t failure_delay_ms, timeout_ms;
	uint64_t failures_per_client, failures_per_user, failure_window_ms;
	struct str sender_login; /* path: senders and the users that may use them; empty: all may */
	int unlisted_senders;    /* enum unlisted_senders */
	int unauthenticated_senders; /* enum unauthenticated_senders */
};

struct listener_settings {
	struct str name;
	struct conf_list bind; /* of struct endpoint */
	int proxy;             /* enum proxy_mode */
	struct ipnet_list trusted_proxies;
	struct ipnet_list health_checkers;
	struct tls_settings tls;
	struct auth_settings auth;
	struct str plan;  /* name; empty: the default plan */
	int unavailable;  /* enum unavailable; see listener_unavailable() */
	int bare_newline; /* enum bare_newline, for everybody */
	struct ipnet_list normalise_networks;
};

/* The section `limits`: those of the dialogue, and those of connections. */
struct limits_settings {
	struct smtp_limits smtp;
	uint64_t replay_buffers;         /* bytes, all messages together */
	uint64_t connections;            /* open at a time, all clients */
	uint64_t handshakes_per_client;  /* of these, of one client */
	uint64_t handshakes;             /* TLS handshakes under way at a time */
	uint64_t connections_per_client; /* 0: no limit */
};

/* The section `timeouts`, in milliseconds. */
struct timeouts_settings {
	uint64_t proxy, proxy_wait, tls_handshake, command, data, session, linger;
	struct backend_timeouts backend;
};

extern const struct conf_field listener_fields[];
/* What the rows of a listener cannot say; for the row that holds the table. */
void listener_accepts(const void *value, struct conf_node *node, struct conf_errors *errors);
/* What AUTO stands for on this listener. */
enum unavailable listener_unavailable(const struct listener_settings *listener);
extern const struct conf_field limits_fields[];
extern const struct conf_field timeouts_fields[];

#endif
