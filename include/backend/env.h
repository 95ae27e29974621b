/*
 * What all connections to servers share. Made by app/ from one snapshot of the settings; outlives
 * every connection.
 */
#ifndef BACKEND_ENV_H
#define BACKEND_ENV_H

#include <stdint.h>

#include "backend/replay.h"
#include "backend/settings.h"
#include "base/str.h"
#include "net/loop.h"

struct backend_env {
	struct loop *loop;
	struct str hostname;
	const struct backend_timeouts *timeouts;
	uint64_t tls_handshake_ms;
	struct replay_budget *replays;
};

#endif
