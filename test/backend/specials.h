/*
 * Recipients that misbehave by name, without any option: the beginning of the local part says
 * what happens at RCPT.
 */
#ifndef BACKEND_SPECIALS_H
#define BACKEND_SPECIALS_H

#include "backend.h"
#include "faults.h"

void specials_init(struct backend *backend);

/* What strikes at RCPT for this address, or NULL. */
struct fault *specials_find(struct backend *backend, struct str address);

#endif
