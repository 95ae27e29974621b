/*
 * A password in a file of its own: the first line, without its end, and nothing behind it. Read anew
 * when the file changes; a file that cannot be used changes nothing. The log has its line for
 * either (files_read, files_kept), and never the password.
 */
#ifndef AUTH_SECRET_FILE_H
#define AUTH_SECRET_FILE_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/stat.h>

#include "auth/sasl.h"
#include "base/err.h"
#include "base/str.h"

struct secret_file {
	/* By the owner, before it is opened; they outlive it. */
	struct str name; /* whose it is, for the log */
	const char *path;

	/* For secret_file.c. */
	bool is_open;
	char password[SASL_PASSWORD_MAX];
	size_t n;
	struct stat state; /* when it was read last */
};

/* -1 with the reason, which begins with the path. */
int secret_file_open(struct secret_file *file, struct err *err);
/* Wipes it. Nothing happens to one that was not opened. */
void secret_file_close(struct secret_file *file);

/* Reads the file when it has changed, or in any case with `always`. True: there is another password. */
bool secret_file_refresh(struct secret_file *file, bool always);

/* UTF-8, 1 to SASL_PASSWORD_MAX bytes; a view that is good until the next refresh. */
struct str secret_file_password(const struct secret_file *file);

#endif
