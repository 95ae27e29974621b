/*
 * Delivers messages into a Maildir: written below tmp/, renamed into new/ when committed. The
 * file holds the body byte for byte; no header line is added.
 */
#ifndef BACKEND_MAILDIR_H
#define BACKEND_MAILDIR_H

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "base/str.h"

struct maildir {
	int fd; /* of the directory; -1: off */
	uint64_t delivered;
};

/* One message on its way. All functions do nothing once is_open is false. */
struct maildir_file {
	int fd;
	bool is_open;
	bool is_broken;
	char name[80];
};

/* Makes the directory with cur, new and tmp where they are missing. */
int maildir_open(struct maildir *maildir, const char *path, struct err *err);
void maildir_close(struct maildir *maildir);

void maildir_begin(struct maildir *maildir, struct maildir_file *file);
void maildir_write(struct maildir_file *file, struct str bytes);
bool maildir_commit(struct maildir *maildir, struct maildir_file *file); /* false: not delivered */
void maildir_abort(struct maildir *maildir, struct maildir_file *file);

#endif
