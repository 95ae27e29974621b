#include "net/listener.h"

#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/assert.h"

#define TELL_EVERY_MS 1000

/* ---- Accepting ------------------------------------------------------------------------------- */

/* accept(2) hands on pending errors of the new connection; those concern nobody but that one. */
static bool is_of_one_connection(int error)
{
	switch (error) {
	case EINTR:
	case ECONNABORTED:
	case EPROTO:
	case EPERM:
	case ENETDOWN:
	case ENETUNREACH:
	case ENOPROTOOPT:
	case EHOSTDOWN:
	case EHOSTUNREACH:
	case ENONET:
	case EOPNOTSUPP:
		return true;
	default:
		return false;
	}
}

/* The socket stays readable while nothing can be accepted, so the watcher must rest. */
static void back_off(struct listener *listener)
{
	uint64_t now = loop_now_ms(listener->loop);
	struct err err;

	err_errno(&err, "accept");
	ev_io_stop(loop_ev(listener->loop), &listener->watcher);
	timer_set(&listener->backoff, LISTENER_BACKOFF_MS);
	if (listener->last_told_ms != 0 && now - listener->last_told_ms < TELL_EVERY_MS)
		return;
	listener->last_told_ms = now;
	listener->events->failed(listener->ctx, &err);
}

static void resume(void *ctx)
{
	struct listener *listener = ctx;

	if (listener->is_accepting)
		ev_io_start(loop_ev(listener->loop), &listener->watcher);
}

/* Only a socket bound to all addresses has to ask which one was meant. */
static struct endpoint own_end(const struct listener *listener, int fd)
{
	struct sockaddr_storage sa;
	socklen_t n = sizeof(sa);
	struct endpoint local = listener->address;

	if (ipaddr_is_unspecified(&listener->address.ip) &&
		getsockname(fd, (struct sockaddr *)&sa, &n) == 0)
		endpoint_from_sockaddr((struct sockaddr *)&sa, &local);
	return local;
}

/* Returns false when there is nothing more to accept now. */
static bool accept_one(struct listener *listener)
{
	struct sockaddr_storage sa;
	socklen_t n = sizeof(sa);
	struct endpoint peer;
	int fd = accept4(listener->fd, (struct sockaddr *)&sa, &n, SOCK_NONBLOCK | SOCK_CLOEXEC);

	if (fd < 0 && (errno == EAGAIN || errno == EWOULDBLOCK))
		return false;
	if (fd < 0 && is_of_one_connection(errno))
		return true;
	if (fd < 0) {
		back_off(listener);
		return false;
	}
	if (!endpoint_from_sockaddr((struct sockaddr *)&sa, &peer)) {
		close(fd);
		return true;
	}
	struct endpoint local = own_end(listener, fd);
	listener->events->accepted(listener->ctx, fd, &peer, &local);
	return true;
}

/* The owner may stop or close the listener from inside `accepted`. */
static void on_readable(struct ev_loop *ev, ev_io *watcher, int revents)
{
	struct listener *listener = watcher->data;

	(void)ev;
	(void)revents;
	for (unsigned i = 0; i < LISTENER_ACCEPTS_A_TURN && listener->is_accepting; i++)
		if (!accept_one(listener))
			return;
}

/* ---- Opening and closing --------------------------------------------------------------------- */

static bool set_option(int fd, int level, int option, struct err *err)
{
	int on = 1;

	if (setsockopt(fd, level, option, &on, sizeof(on)) == 0)
		return true;
	err_errno(err, "setsockopt");
	return false;
}

/* Sockets inherit TCP_NODELAY from the one that accepts them. */
static bool set_options(int fd, int family, struct err *err)
{
	if (!set_option(fd, SOL_SOCKET, SO_REUSEADDR, err) ||
		!set_option(fd, IPPROTO_TCP, TCP_NODELAY, err))
		return false;
	return family != AF_INET6 || set_option(fd, IPPROTO_IPV6, IPV6_V6ONLY, err);
}

static bool bind_and_listen(int fd, const struct sockaddr *sa, socklen_t n, struct err *err)
{
	if (bind(fd, sa, n) != 0) {
		err_errno(err, "bind");
		return false;
	}
	if (listen(fd, LISTENER_BACKLOG) != 0) {
		err_errno(err, "listen");
		return false;
	}
	return true;
}

static int open_socket(const struct endpoint *address, struct endpoint *bound, struct err *err)
{
	struct sockaddr_storage sa;
	socklen_t n = endpoint_to_sockaddr(address, &sa);
	int fd = socket(sa.ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);

	if (fd < 0)
		return err_errno(err, "socket");
	if (!set_options(fd, sa.ss_family, err) ||
		!bind_and_listen(fd, (struct sockaddr *)&sa, n, err)) {
		close(fd);
		return -1;
	}
	*bound = *address;
	n = sizeof(sa);
	if (getsockname(fd, (struct sockaddr *)&sa, &n) == 0)
		endpoint_from_sockaddr((struct sockaddr *)&sa, bound);
	return fd;
}

int listener_open(struct listener *listener, struct loop *loop, const struct endpoint *address,
	const struct listener_events *events, void *ctx, struct err *err)
{
	char text[ENDPOINT_TEXT_MAX];

	*listener = (struct listener){ .loop = loop, .events = events, .ctx = ctx };
	listener->fd = open_socket(address, &listener->address, err);
	timer_init(&listener->backoff, loop, resume, listener);
	ev_io_init(&listener->watcher, on_readable, listener->fd, EV_READ);
	listener->watcher.data = listener;
	if (listener->fd < 0)
		return err_prefix(err, "%s", endpoint_print(address, text));
	return 0;
}

void listener_start(struct listener *listener)
{
	ASSERT(listener->fd >= 0);
	if (listener->is_accepting)
		return;
	listener->is_accepting = true;
	ev_io_start(loop_ev(listener->loop), &listener->watcher);
}

void listener_stop(struct listener *listener)
{
	if (!listener->is_accepting)
		return;
	listener->is_accepting = false;
	timer_stop(&listener->backoff);
	ev_io_stop(loop_ev(listener->loop), &listener->watcher);
}

void listener_close(struct listener *listener)
{
	if (listener->loop == NULL || listener->fd < 0)
		return;
	listener_stop(listener);
	close(listener->fd);
	listener->fd = -1;
}
