/*
 * early_talker: clients that speak out of turn. See docs/policy/early_talker.md.
 */
#ifndef POLICY_CHECKS_EARLY_TALKER_H
#define POLICY_CHECKS_EARLY_TALKER_H

#include "policy/policy.h"

extern const struct policy_check early_talker_check;

#endif
