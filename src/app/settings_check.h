/*
 * What only the whole configuration shows: names that must be known or unique, and set-ups that
 * would be an open relay. Reports every mistake with its place.
 */
#ifndef APP_SETTINGS_CHECK_H
#define APP_SETTINGS_CHECK_H

#include "app/settings.h"
#include "conf/schema.h"

/* `value` is the struct settings; rows with mistakes are zero in it. */
void settings_check(const void *value, struct conf_node *root, struct conf_errors *errors);

/* The same, and the files that it names, as the start reads them: certificates and keys, users,
 * passwords, maps; and the user to become. */
void settings_check_files(const void *value, struct conf_node *root, struct conf_errors *errors);

/* For the two. The node of an element of a list, NULL when the file has none. */
struct conf_node *settings_element(struct conf_node *root, const char *list, size_t index);
/* NULL: there is none. Names that are not given count. */
const struct backend_settings *settings_find_backend(
	const struct settings *settings, struct str name);

#endif
