/*
 * What only the whole configuration shows: names that must be known or unique, and set-ups that
 * would be an open relay, or that are probably not meant. Reports each with its place.
 */
#ifndef APP_SETTINGS_CHECK_H
#define APP_SETTINGS_CHECK_H

#include "app/settings.h"
#include "conf/schema.h"

/* `value` is the struct settings; rows with mistakes are zero in it. */
void settings_check(const void *value, struct conf_node *root, struct conf_errors *errors);

/* The same, and the files that it names, as the start reads them: certificates and keys, users,
 * passwords, maps; whether log and trace can be written; and the user to become, with what he may not
 * open. */
void settings_check_files(const void *value, struct conf_node *root, struct conf_errors *errors);

/* What is allowed, but probably not meant; settings_check() asks for it. Listeners and backends with
 * mistakes are no matter: notices are told when there are none. */
void settings_notice(
	const struct settings *settings, struct conf_node *root, struct conf_errors *errors);

/* Has a listener of the plan a map of senders? `plan` is empty for the default plan. */
bool settings_tie_senders(const struct settings *settings, struct str plan);

/* For the two. The node of an element of a list, NULL when the file has none. */
struct conf_node *settings_element(struct conf_node *root, const char *list, size_t index);
/* NULL: there is none. Names that are not given count. */
const struct backend_settings *settings_find_backend(
	const struct settings *settings, struct str name);

#endif
