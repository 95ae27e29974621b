#include "net/connector.h"

#include <errno.h>
#include <sys/socket.h>
#include <unistd.h>

/* After this the owner may free or reuse the connector from inside `done`. */
static void finish(struct connector *connector, bool is_connected)
{
	struct err err = connector->err;
	int fd = connector->fd;

	if (is_connected)
		connector->fd = -1; /* it is the owner's now */
	else
		fd = -1;
	connector_cancel(connector);
	connector->done(connector->ctx, fd, &err);
}

static void on_writable(struct ev_loop *ev, ev_io *watcher, int revents)
{
	struct connector *connector = watcher->data;
	int error = 0;
	socklen_t n = sizeof(error);

	(void)ev;
	(void)revents;
	if (getsockopt(connector->fd, SOL_SOCKET, SO_ERROR, &error, &n) != 0)
		error = errno;
	if (error != 0) {
		errno = error;
		err_errno(&connector->err, "connect");
	}
	finish(connector, error == 0);
}

static void on_deadline(void *ctx)
{
	struct connector *connector = ctx;

	err_set(&connector->err, "connect: no answer in time");
	finish(connector, false);
}

static void on_failure(void *ctx)
{
	finish(ctx, false);
}

/* An interrupted connect goes on in the background like one that would block. */
static bool begin(struct connector *connector, const struct endpoint *address)
{
	struct sockaddr_storage sa;
	socklen_t n = endpoint_to_sockaddr(address, &sa);

	connector->fd = socket(sa.ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	if (connector->fd < 0) {
		err_errno(&connector->err, "socket");
		return false;
	}
	if (connect(connector->fd, (struct sockaddr *)&sa, n) == 0 || errno == EINPROGRESS ||
		errno == EINTR)
		return true;
	err_errno(&connector->err, "connect");
	return false;
}

void connector_start(struct connector *connector, struct loop *loop, const struct endpoint *address,
	uint64_t timeout_ms, void (*done)(void *ctx, int fd, const struct err *err), void *ctx)
{
	*connector = (struct connector){ .loop = loop, .fd = -1, .done = done, .ctx = ctx };
	timer_init(&connector->deadline, loop, on_deadline, connector);
	task_init(&connector->failure, on_failure, connector);
	ev_init(&connector->watcher, on_writable);
	if (!begin(connector, address)) {
		task_defer(&connector->failure, loop);
		return;
	}
	ev_io_set(&connector->watcher, connector->fd, EV_WRITE);
	connector->watcher.data = connector;
	ev_io_start(loop_ev(loop), &connector->watcher);
	timer_set(&connector->deadline, timeout_ms);
}

void connector_cancel(struct connector *connector)
{
	if (connector->loop == NULL)
		return;
	ev_io_stop(loop_ev(connector->loop), &connector->watcher);
	timer_stop(&connector->deadline);
	task_cancel(&connector->failure, connector->loop);
	if (connector->fd >= 0)
		close(connector->fd);
	connector->fd = -1;
}
