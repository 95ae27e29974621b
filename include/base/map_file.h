/*
 * A map in a file that is read anew when it changes. A new file with a mistake in it changes
 * nothing; the log has its line (files_kept), or that the new one is in force (files_read).
 */
#ifndef BASE_MAP_FILE_H
#define BASE_MAP_FILE_H

#include <stdbool.h>
#include <sys/stat.h>

#include "base/map.h"

struct map_file {
	/* By the owner, before it is opened; they outlive it. */
	struct str name;  /* whose it is, for the log */
	const char *kind; /* what it is for, likewise: "routes" */
	const char *path;
	map_accepts *accepts; /* NULL: whatever is written */
	void *ctx;
	/* An emptied file is a mistake, too: more often it was cut short than meant. One that is empty when
	 * it is opened is none. */
	bool must_stay_filled;

	/* For map_file.c; the map may be read. It is another one after each refresh that says so. */
	struct map *map;
	struct stat state; /* when it was read last */
};

/* -1 with the reason, which begins with the path. */
int map_file_open(struct map_file *file, struct err *err);
void map_file_close(struct map_file *file);

/* Reads the file when it has changed, or in any case with `always`. True: there is another map.
 * Does nothing to one that was not opened. */
bool map_file_refresh(struct map_file *file, bool always);

#endif
