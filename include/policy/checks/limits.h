/*
 * limits: how many connections one client may have. See docs/policy/limits.md.
 */
#ifndef POLICY_CHECKS_LIMITS_H
#define POLICY_CHECKS_LIMITS_H

#include "policy/policy.h"

extern const struct policy_check limits_check;

#endif
