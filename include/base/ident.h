/*
 * Names for connections: random UUIDs (version 4, libuuid) in upper case. One a connection;
 * its transactions are called UUID.1, UUID.2, and so on.
 */
#ifndef BASE_IDENT_H
#define BASE_IDENT_H

#define IDENT_TEXT_MAX 37 /* 36 characters and the terminator */

void ident_make(char out[IDENT_TEXT_MAX]);

#endif
