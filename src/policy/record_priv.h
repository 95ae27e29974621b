/*
 * What a run leaves behind: results by check name, and events of the trace.
 */
#ifndef POLICY_RECORD_PRIV_H
#define POLICY_RECORD_PRIV_H

#include "policy/run.h"

/* run->step said this. */
void policy_record_verdict(struct policy_run *run, struct verdict verdict);

/* The deadline of run->step has passed. */
void policy_record_deadline(struct policy_run *run);

#endif
