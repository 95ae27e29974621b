/*
 * Recipients that misbehave by name, without any option: the beginning of the local part says
 * what happens at RCPT or, with "dot" in front, in place of the final reply: in LMTP of that for this
 * recipient, in SMTP of the one for all.
 */
#ifndef BACKEND_SPECIALS_H
#define BACKEND_SPECIALS_H

#include "backend.h"
#include "faults.h"

void specials_init(struct backend *backend);

/* What strikes at RCPT or at the dot for this address, or NULL. */
struct fault *specials_find(struct backend *backend, enum fault_state at, struct str address);

/* Adds it to what strikes anyhow, which has the precedence. */
void specials_join(struct fault_choice *choice, struct fault *special);

#endif
