/*
 * What all sessions of a process share: settings, backends and routes, the resolver, counts. Made
 * by app/ from one snapshot of the settings; outlives every session.
 */
#ifndef EDGE_EDGE_H
#define EDGE_EDGE_H

#include <stdbool.h>
#include <sys/queue.h>

#include "auth/auth.h"
#include "backend/env.h"
#include "backend/route.h"
#include "base/str.h"
#include "edge/auth_guard.h"
#include "edge/clients.h"
#include "edge/local_names.h"
#include "edge/sender_slot.h"
#include "edge/settings.h"
#include "net/listener.h"
#include "net/loop.h"
#include "net/resolver.h"
#include "net/tls_slot.h"
#include "policy/checks/relay.h"
#include "policy/plan.h"
#include "smtp/server.h"

struct session;
LIST_HEAD(session_list, session);

struct edge {
	struct loop *loop;
	struct resolver *resolver;
	struct str hostname;
	struct smtp_server_settings smtp;
	const struct limits_settings *limits;
	const struct timeouts_settings *timeouts;
	const struct relay_settings *relay;
	struct backend_env backend;
	struct route_table routes;
	struct clients clients;
	struct auth_guard auth_guard;
	size_t handshakes;          /* under way */
	struct clients handshakers; /* … and whose */
	struct local_names local_names;
	struct session_list sessions;
	size_t session_count;
	size_t client_count; /* of them, those of clients: neither in the intake nor restricted */
	int trace_fd;        /* -1: no trace */
	bool traces_restricted;
};

/* One listening socket; several may share their settings. */
struct edge_listener {
	struct edge *edge;
	const struct listener_settings *settings;
	const struct policy_plan *plan;
	const struct tls_slot *tls; /* with tls.mode other than off */
	struct auth_service *auth;  /* NULL: no AUTH here */
	const struct sender_slot *senders;
	struct listener listener;
};

#endif
