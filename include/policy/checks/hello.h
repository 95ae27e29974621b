/*
 * hello: the name that a client gives in HELO or EHLO. See docs/policy/hello.md.
 */
#ifndef POLICY_CHECKS_HELLO_H
#define POLICY_CHECKS_HELLO_H

#include "policy/policy.h"

extern const struct policy_check hello_check;

#endif
