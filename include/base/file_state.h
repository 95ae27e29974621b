/*
 * Has a file changed since it was read? For files that are read anew when they do. All of a struct stat
 * that is zero: there is no such file.
 */
#ifndef BASE_FILE_STATE_H
#define BASE_FILE_STATE_H

#include <stdbool.h>
#include <sys/stat.h>

/* To be taken before the reading: what is written meanwhile is then seen the next time. */
struct stat file_state_look(const char *path);
/* By the change time: the mending of an owner or of permissions must be seen, too. */
bool file_state_is_same(const struct stat *a, const struct stat *b);

#endif
