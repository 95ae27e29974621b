/*
 * The settings of listeners, backends, routes, limits and timeouts: plain structs, filled by the
 * tables of edge/settings.c. They belong to one immutable snapshot and outlive every session.
 */
#ifndef EDGE_SETTINGS_H
#define EDGE_SETTINGS_H

#include <stdbool.h>
#include <stdint.h>

#include "base/ipaddr.h"
#include "base/str.h"
#include "conf/schema.h"
#include "net/tls.h"
#include "smtp/server.h"

enum proxy_mode { PROXY_MODE_REQUIRED, PROXY_MODE_OPTIONAL, PROXY_MODE_OFF };
enum bare_newline { BARE_NEWLINE_REJECT, BARE_NEWLINE_NORMALISE };
enum identity { IDENTITY_NONE, IDENTITY_PROXY_V1, IDENTITY_PROXY_V2 };
enum backend_hello { BACKEND_HELLO_OWN, BACKEND_HELLO_CLIENT };
enum balance { BALANCE_FIRST, BALANCE_ROUNDROBIN, BALANCE_LEASTCONN, BALANCE_SOURCE };
enum tls_mode { TLS_MODE_OFF, TLS_MODE_STARTTLS, TLS_MODE_IMPLICIT };
enum backend_tls_mode {
	BACKEND_TLS_OFF,
	BACKEND_TLS_OPPORTUNISTIC,
	BACKEND_TLS_REQUIRED,
	BACKEND_TLS_IMPLICIT,
};
/* When opportunistic TLS towards a backend may end in plaintext. */
enum tls_fallback { TLS_FALLBACK_NOT_OFFERED, TLS_FALLBACK_ALWAYS };

/* TLS towards clients. */
struct tls_settings {
	int mode;                      /* enum tls_mode */
	struct str certificate, key;   /* paths: one certificate, … */
	struct conf_list certificates; /* of struct tls_certificate: … or several, chosen by SNI */
	int min_version;               /* enum tls_version */
	struct str client_ca;          /* path; empty: no client certificates */
};

/* TLS towards a backend. */
struct backend_tls_settings {
	int mode;        /* enum backend_tls_mode */
	int verify;      /* enum tls_verify */
	int fallback;    /* enum tls_fallback */
	int min_version; /* enum tls_version */
	struct str ca, name, fingerprint, certificate, key;
};

/* AUTH on a listener; without a service there is none. */
struct auth_settings {
	bool required;    /* no MAIL without it */
	struct str users; /* a file … */
	struct str sasl;  /* … or a Dovecot auth server: "unix:PATH", "inet:ADDRESS:PORT" */
	struct conf_list mechanisms;       /* of struct str; empty: all that the service has */
	struct ipnet_list allow_plaintext; /* networks that may use it without TLS */
	uint64_t failure_delay_ms, timeout_ms;
	uint64_t failures_per_client, failures_per_user, failure_window_ms;
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
	int bare_newline; /* enum bare_newline, for everybody */
	struct ipnet_list normalise_networks;
};

#define BACKEND_SERVERS_MAX 64

struct backend_settings {
	struct str name;
	struct conf_list servers; /* of struct endpoint */
	int balance;              /* enum balance */
	int identity;             /* enum identity */
	int hello;                /* enum backend_hello */
	struct backend_tls_settings tls;
};

/* First match counts; an empty list matches everything. */
struct route_settings {
	struct conf_list listeners;  /* of struct str: names */
	struct conf_list domains;    /* of struct str: of the recipient; ".example.org" */
	struct conf_list recipients; /* of struct str: whole addresses */
	struct conf_list senders;    /* of struct str: whole addresses, or domains */
	struct ipnet_list networks;  /* of the client */
	struct str backend;          /* name */
};

/* The section `limits`: those of the dialogue, and those of connections. */
struct limits_settings {
	struct smtp_limits smtp;
	uint64_t connections;            /* open at a time, all clients */
	uint64_t handshakes_per_client;  /* of these, of one client */
	uint64_t handshakes;             /* TLS handshakes under way at a time */
	uint64_t connections_per_client; /* 0: no limit */
};

/* The section `timeouts`, in milliseconds. */
struct timeouts_settings {
	uint64_t proxy, proxy_wait, tls_handshake, command, data, session, linger;
	uint64_t backend_connect, backend_greeting, backend_command, backend_data, backend_final;
	uint64_t backend_idle, backend_probe;
};

extern const struct conf_field listener_fields[];
/* What the rows of a listener cannot say; for the row that holds the table. */
void listener_accepts(const void *value, struct conf_node *node, struct conf_errors *errors);
extern const struct conf_field backend_fields[];
void backend_accepts(const void *value, struct conf_node *node, struct conf_errors *errors);
extern const struct conf_field route_fields[];
extern const struct conf_field limits_fields[];
extern const struct conf_field timeouts_fields[];

#endif
