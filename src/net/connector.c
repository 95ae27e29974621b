#include "net/connector.h"

#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
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

/* Commands go out as soon as they are written. A Unix socket has no such option and needs none. */
static void send_without_delay(int fd, sa_family_t family)
{
	int on = 1;

	if (family != AF_UNIX)
		(void)setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
}

/* An interrupted connect goes on in the background like one that would block. */
static bool begin(struct connector *connector, const struct sockaddr *sa, socklen_t n)
{
	connector->fd = socket(sa->sa_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	if (connector->fd < 0) {
		err_errno(&connector->err, "socket");
		return false;
	}
	send_without_delay(connector->fd, sa->sa_family);
	if (connect(connector->fd, sa, n) == 0 || errno == EINPROGRESS || errno == EINTR)
		return true;
	err_errno(&connector->err, "connect");
	return false;
}

static void prepare(struct connector *connector, struct loop *loop,
	void (*done)(void *ctx, int fd, const struct err *err), void *ctx)
{
	*connector = (struct connector){ .loop = loop, .fd = -1, .done = done, .ctx = ctx };
	timer_init(&connector->deadline, loop, on_deadline, connector);
	task_init(&connector->failure, on_failure, connector);
	ev_init(&connector->watcher, on_writable);
}

static void wait_for(struct connector *connector, bool has_begun, uint64_t timeout_ms)
{
	if (!has_begun) {
		task_defer(&connector->failure, connector->loop);
		return;
	}
	ev_io_set(&connector->watcher, connector->fd, EV_WRITE);
	connector->watcher.data = connector;
	ev_io_start(loop_ev(connector->loop), &connector->watcher);
	timer_set(&connector->deadline, timeout_ms);
}

void connector_start(struct connector *connector, struct loop *loop, const struct endpoint *address,
	uint64_t timeout_ms, void (*done)(void *ctx, int fd, const struct err *err), void *ctx)
{
	struct sockaddr_storage sa;
	socklen_t n = endpoint_to_sockaddr(address, &sa);

	prepare(connector, loop, done, ctx);
	wait_for(connector, begin(connector, (struct sockaddr *)&sa, n), timeout_ms);
}

/* A path that fills sun_path has no terminator, which Linux takes; a longer one is refused. */
void connector_start_unix(struct connector *connector, struct loop *loop, struct str path,
	uint64_t timeout_ms, void (*done)(void *ctx, int fd, const struct err *err), void *ctx)
{
	struct sockaddr_un sa = { .sun_family = AF_UNIX };

	prepare(connector, loop, done, ctx);
	if (path.n == 0 || path.n > sizeof(sa.sun_path) || path.p[0] == '\0') {
		err_set(&connector->err, "connect: not the path of a socket");
		wait_for(connector, false, timeout_ms);
		return;
	}
	memcpy(sa.sun_path, path.p, path.n);
	wait_for(connector, begin(connector, (struct sockaddr *)&sa, sizeof(sa)), timeout_ms);
}

void connector_fail(struct connector *connector, struct loop *loop, const struct err *err,
	void (*done)(void *ctx, int fd, const struct err *err), void *ctx)
{
	prepare(connector, loop, done, ctx);
	connector->err = *err;
	wait_for(connector, false, 0);
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
