/* The sockets that are listened on, and the loop. */
#ifndef BACKEND_SERVER_H
#define BACKEND_SERVER_H

#include "backend.h"
#include "base/err.h"

/* "127.0.0.1:0", "[::1]:2525", "unix:/path"; prints the JSON line that says where it listens. */
int server_listen(struct backend *backend, const char *address, struct err *err);

/* From now on signals wait for server_run(). Before server_listen(): whoever reads that it
 * listens may send one. */
int server_catch_signals(struct backend *backend, struct err *err);

/* Removes the unix sockets. */
void server_close(struct backend *backend);

/* Runs until SIGTERM or SIGINT; SIGHUP reads the file of faults again. */
int server_run(struct backend *backend, struct err *err);

#endif
