#include "backend/queue.h"

#include "base/assert.h"

static void leave(struct server_wait *wait)
{
	struct backend *backend = wait->backend;

	TAILQ_REMOVE(&backend->waiting, wait, link);
	backend->waiting_count--;
	wait->backend = NULL;
	timer_stop(&wait->deadline);
}

/* The owner may wait anew, or be gone after the call. */
static void end(struct server_wait *wait, bool in_time)
{
	leave(wait);
	wait->over(wait->ctx, in_time);
}

static void on_deadline(void *ctx)
{
	struct server_wait *wait = ctx;

	/* Those behind it do not wait for the same servers, maybe. */
	backend_wake(wait->backend);
	end(wait, false);
}

bool backend_wait(struct backend *backend, struct server_wait *wait, struct loop *loop,
	uint64_t timeout_ms, struct server_choice *choice, void (*over)(void *ctx, bool in_time),
	void *ctx)
{
	uint64_t now_ms = loop_now_ms(loop);

	ASSERT(wait->backend == NULL);
	if (choice->wait_until_ms == 0)
		choice->wait_until_ms = now_ms + timeout_ms;
	if (backend->waiting_count >= backend->settings->queue || choice->wait_until_ms <= now_ms)
		return false;
	*wait = (struct server_wait){
		.backend = backend,
		.choice = choice,
		.round = backend->waking_round,
		.over = over,
		.ctx = ctx,
	};
	backend->loop = loop;
	timer_init(&wait->deadline, loop, on_deadline, wait);
	timer_set(&wait->deadline, choice->wait_until_ms - now_ms);
	if (choice->has_waited)
		TAILQ_INSERT_HEAD(&backend->waiting, wait, link);
	else
		TAILQ_INSERT_TAIL(&backend->waiting, wait, link);
	choice->has_waited = false;
	backend->waiting_count++;
	return true;
}

void backend_wait_cancel(struct server_wait *wait)
{
	struct backend *backend = wait->backend;

	if (backend == NULL)
		return;
	leave(wait);
	backend_wake(backend);
}

void backend_wake(struct backend *backend)
{
	if (backend->waiting_count > 0)
		task_defer(&backend->waking, backend->loop);
}

static struct server_wait *first_with_room(struct backend *backend, uint64_t now_ms)
{
	struct server_wait *wait;

	TAILQ_FOREACH(wait, &backend->waiting, link)
	if (wait->round != backend->waking_round && backend_has_room(backend, wait->choice, now_ms))
		break;
	return wait;
}

/* Each takes what there is before the next is looked for. One that waits anew meanwhile is not called
 * a second time. */
void backend_call_waiting(struct backend *backend)
{
	uint64_t now_ms = loop_now_ms(backend->loop);
	struct server_wait *wait;

	backend->waking_round++;
	while ((wait = first_with_room(backend, now_ms)) != NULL) {
		wait->choice->has_waited = true;
		end(wait, true);
	}
}
