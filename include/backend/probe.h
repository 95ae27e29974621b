/*
 * Asks every server of every backend what it offers: connects, says EHLO and QUIT, at the start and
 * then again and again. What is learned decides what EHLO may offer to clients, and a server that
 * cannot be reached is tried after the others.
 *
 * A backend that expects a PROXY header gets the LOCAL one (version 2), or one with our own
 * addresses (version 1 has no other form that every receiver takes).
 */
#ifndef BACKEND_PROBE_H
#define BACKEND_PROBE_H

#include "backend/backend.h"
#include "backend/env.h"

struct probes;

/* Begins at once. `first_round` is called once, when every server was asked for the first time,
 * successfully or not. */
struct probes *probes_new(const struct backend_env *env, struct backend *backends, size_t count,
	void (*first_round)(void *ctx), void *ctx);
void probes_free(struct probes **probes);

#endif
