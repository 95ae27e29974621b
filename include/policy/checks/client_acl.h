/*
 * client_acl: clients by address and by confirmed name. See docs/policy/client_acl.md.
 */
#ifndef POLICY_CHECKS_CLIENT_ACL_H
#define POLICY_CHECKS_CLIENT_ACL_H

#include "policy/policy.h"

extern const struct policy_check client_acl_check;

#endif
