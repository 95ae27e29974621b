#include "policy/policy.h"

#include "policy/checks/client_acl.h"
#include "policy/checks/early_talker.h"
#include "policy/checks/hello.h"
#include "policy/checks/limits.h"
#include "policy/checks/relay.h"
#include "policy/checks/sender_login.h"

const struct policy_check *const policy_checks[] = {
	&limits_check,
	&client_acl_check,
	&early_talker_check,
	&hello_check,
	&sender_login_check,
	&relay_check,
	NULL,
};

const struct policy_check *policy_check_find(struct str name)
{
	for (size_t i = 0; policy_checks[i]; i++)
		if (str_eq(name, str_from(policy_checks[i]->name)))
			return policy_checks[i];
	return NULL;
}
