/*
 * The running program: from the settings to the open sockets and back. Start-up is a list of
 * steps; each either succeeds or says why not, and what was done before it is undone.
 */
#ifndef APP_PROGRAM_H
#define APP_PROGRAM_H

#include "app/settings.h"

/* Runs until a signal ends it. `notices` are logged after the start, a record a line. Returns an
 * exit status of sysexits.h. */
int program_run(const struct settings *settings, struct str notices);

#endif
