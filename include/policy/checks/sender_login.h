/*
 * sender_login: which user may use which sender. See docs/policy/sender_login.md.
 *
 * The step has no settings: what it needs belongs to the listener and comes by
 * policy_services.sender_login. Plans of listeners that have it get the step by policy_plan_add().
 */
#ifndef POLICY_CHECKS_SENDER_LOGIN_H
#define POLICY_CHECKS_SENDER_LOGIN_H

#include <stdbool.h>

#include "base/map.h"
#include "policy/policy.h"

/* Of a listener. */
struct sender_login {
	const struct map *owners;     /* address or @domain: names of users, "*" for all of them */
	bool takes_unlisted;          /* a user may use senders that nobody owns */
	bool refuses_unauthenticated; /* who did not authenticate may not use those that somebody
	                                 owns */
};

extern const struct policy_check sender_login_check;

/* Whether an entry can be one of `owners`, for whoever reads the map. */
int sender_login_accepts(void *ctx, struct str key, struct str value, struct err *err);

#endif
