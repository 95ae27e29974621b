/*
 * Lists of domains in settings (CONF_DOMAIN): "example.com" is that name alone, ".example.org"
 * every name below it, but not example.org itself.
 */
#ifndef POLICY_DOMAIN_LIST_H
#define POLICY_DOMAIN_LIST_H

#include <stdbool.h>

#include "base/str.h"
#include "conf/schema.h"

/* `list` is of struct str. Whole labels, ASCII letters in any case. */
bool domain_list_holds(const struct conf_list *list, struct str domain);

#endif
