/*
 * A process that checks passwords: one check takes tens of milliseconds, which the event loop does
 * not have. It is forked from this one, and sees no socket but the one to us. Checks are made one
 * after the other; those that wait are in a bounded queue.
 *
 * The process is started in the first turn of the loop (after privileges were given up), and anew
 * when it dies: the check that it was at has failed (and is not repeated, as it may be the reason),
 * those behind it go on. It ends when we do.
 *
 * It has our rights, and what was in our memory when it was forked. It is neither dumped to core
 * nor read by a debugger, and passwords are wiped.
 */
#ifndef AUTH_CRYPT_WORKER_H
#define AUTH_CRYPT_WORKER_H

#include <stdint.h>
#include <sys/types.h>

#include "base/str.h"
#include "net/loop.h"

#define CRYPT_WORKER_QUEUE_MAX 64
#define CRYPT_WORKER_DEADLINE_MS 30000 /* of one check; then the process is killed */
#define CRYPT_WORKER_REST_MS 1000      /* between two starts */

enum crypt_answer {
	CRYPT_MATCH,
	CRYPT_NO_MATCH,
	CRYPT_FAILED, /* the process died, or could not be started */
};

struct crypt_worker;
struct crypt_job;

struct crypt_worker *crypt_worker_new(struct loop *loop);

/* Forgets what waits, without an answer. Not from inside `answered`. */
void crypt_worker_free(struct crypt_worker **worker);

/*
 * Whether `password` belongs to `hash` (see auth/password.h); both are copied. The answer comes
 * once, from the loop, never from inside; the handle is good until then. NULL: the queue is full.
 */
struct crypt_job *crypt_worker_ask(struct crypt_worker *worker, struct str hash,
	struct str password, void (*answered)(void *ctx, enum crypt_answer answer), void *ctx);

/* No answer follows; *job becomes NULL; NULL is allowed. */
void crypt_worker_abandon(struct crypt_job **job);

/* Checks handed to the process so far, and the process; 0 when there is none. */
uint64_t crypt_worker_checks(const struct crypt_worker *worker);
pid_t crypt_worker_pid(const struct crypt_worker *worker);

#endif
