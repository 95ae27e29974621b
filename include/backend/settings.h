/*
 * The settings of backends and routes: plain structs, filled by the tables of backend/settings.c.
 * They belong to one immutable snapshot and outlive every connection.
 */
#ifndef BACKEND_SETTINGS_H
#define BACKEND_SETTINGS_H

#include <stdbool.h>
#include <stdint.h>

#include "backend/address.h"
#include "base/ipaddr.h"
#include "base/str.h"
#include "conf/schema.h"

enum identity {
	IDENTITY_NONE,
	IDENTITY_PROXY_V1,
	IDENTITY_PROXY_V2,
	IDENTITY_XCLIENT,
	IDENTITY_XFORWARD,
	IDENTITY_LOCAL_XCLIENT,
};
/* What a PROXY header of version 2 says besides the addresses; words of `proxy_tlvs`. */
enum proxy_tlv_word {
	PROXY_TLV_WORD_AUTHORITY,
	PROXY_TLV_WORD_SSL,
	PROXY_TLV_WORD_UNIQUE_ID,
	PROXY_TLV_WORD_CRC32C,
};
enum backend_hello { BACKEND_HELLO_OWN, BACKEND_HELLO_CLIENT };
/* Whether a message goes to servers that offer CHUNKING by BDAT. */
enum chunking { CHUNKING_AUTO, CHUNKING_OFF };
/* Whether connections are used for other clients: safe where identity and hello tell nothing of them. */
enum reuse_mode { REUSE_SAFE, REUSE_NEVER };
enum backend_protocol { PROTOCOL_SMTP, PROTOCOL_LMTP };
enum balance { BALANCE_FIRST, BALANCE_ROUNDROBIN, BALANCE_LEASTCONN, BALANCE_SOURCE };
enum backend_tls_mode {
	BACKEND_TLS_OFF,
	BACKEND_TLS_OPPORTUNISTIC,
	BACKEND_TLS_REQUIRED,
	BACKEND_TLS_IMPLICIT,
};
/* When opportunistic TLS towards a backend may end in plaintext. */
enum tls_fallback { TLS_FALLBACK_NOT_OFFERED, TLS_FALLBACK_ALWAYS };

/* TLS towards a backend. */
struct backend_tls_settings {
	int mode;        /* enum backend_tls_mode */
	int verify;      /* enum tls_verify */
	int fallback;    /* enum tls_fallback */
	int min_version; /* enum tls_version */
	struct str ca, name, fingerprint, certificate, key;
};

/* Connections to a server that outlive a client. */
struct reuse_settings {
	int mode;          /* enum reuse_mode */
	uint64_t idle;     /* connections kept, a server */
	uint64_t messages; /* of one connection */
	uint64_t age;      /* in milliseconds */
};

/* AUTH at a backend. */
struct backend_auth_settings {
	struct str user, password_file; /* empty: no credentials of ours */
	struct conf_list mechanisms;    /* of struct str: the first that a server offers is used */
	bool allow_plaintext;           /* without TLS; also the credentials of clients */
};

#define BACKEND_SERVERS_MAX 64

struct server_settings {
	struct backend_address address;
	uint64_t weight; /* 0: never chosen */
	bool is_backup;
	uint64_t max_connections; /* 0: no limit */
};

/* How the health of servers is judged. */
struct health_settings {
	int check;                   /* enum health_check */
	uint64_t rise, fall;         /* successes, failures one after the other */
	uint64_t slow_start;         /* ms */
	uint64_t max_tempfail_share; /* percent; 0: not looked at */
};
/* How far a probe goes. */
enum health_check { HEALTH_CHECK_EHLO, HEALTH_CHECK_BANNER, HEALTH_CHECK_CONNECT };

struct backend_settings {
	struct str name;
	struct conf_list servers;    /* of struct server_settings */
	int protocol;                /* enum backend_protocol */
	bool one_recipient;          /* a transaction has no more */
	int balance;                 /* enum balance */
	int identity;                /* enum identity */
	bool identity_required;      /* no mail through a server that does not take it */
	bool wait_for_name;          /* XCLIENT, XFORWARD: not before the look-up is over */
	struct conf_list proxy_tlvs; /* of int: enum proxy_tlv_word */
	int hello;                   /* enum backend_hello */
	struct backend_tls_settings tls;
	struct backend_auth_settings auth;
	struct health_settings health;
	uint64_t queue; /* sessions that may wait for a connection */
	int chunking;   /* enum chunking */
	uint64_t replay_buffer;
	struct reuse_settings reuse;
};

/* First match counts; an empty list matches everything. */
struct route_settings {
	struct conf_list listeners;  /* of struct str: names */
	struct conf_list domains;    /* of struct str: of the recipient; ".example.org" */
	struct conf_list recipients; /* of struct str: whole addresses */
	struct conf_list senders;    /* of struct str: whole addresses, or domains */
	struct ipnet_list networks;  /* of the client */
	struct conf_list users;      /* of struct str: who authenticated; "@domain", "*" */
	struct str backend;          /* name; empty: by the map */
	struct str map;              /* path: recipients and their backends; empty: none */
};

/* Of the section `timeouts`, in milliseconds: those towards servers. */
struct backend_timeouts {
	uint64_t connect, greeting, command, data, final, idle, probe, queue;
};

extern const struct conf_field backend_fields[];
/* What the rows of a backend cannot say; for the row that holds the table. */
void backend_accepts(const void *value, struct conf_node *node, struct conf_errors *errors);
extern const struct conf_field route_fields[];
/* Likewise of a route. */
void route_accepts(const void *value, struct conf_node *node, struct conf_errors *errors);

#endif
