/*
 * What only the whole configuration shows: names that must be known or unique, and set-ups that
 * would be an open relay. Reports every mistake with its place.
 */
#ifndef APP_SETTINGS_CHECK_H
#define APP_SETTINGS_CHECK_H

#include "conf/schema.h"

/* `value` is the struct settings; rows with mistakes are zero in it. */
void settings_check(const void *value, struct conf_node *root, struct conf_errors *errors);

#endif
