/*
 * AUTH as a server (RFC 4954), for one user: PLAIN, LOGIN, SCRAM-SHA-256. What the client answers
 * is never recorded, only who was authenticated by what, and how it ended.
 */
#ifndef BACKEND_AUTH_H
#define BACKEND_AUTH_H

#include "verbs.h"

#define AUTH_MECHANISMS "PLAIN LOGIN SCRAM-SHA-256"

struct auth; /* an exchange that is going on */

/* The command: answers by itself and returns code 0 when there is nothing wrong with it. */
struct reply auth_check(struct session *s, struct command *command);

/* PHASE_AUTH: a line of the exchange. */
size_t auth_take(struct session *s, struct str input);

void auth_free(struct auth **auth);

/* How much of a command line may be recorded: all but an initial response. */
size_t auth_visible(struct str line);

#endif
