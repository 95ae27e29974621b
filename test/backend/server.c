#include "server.h"

#include <errno.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/signalfd.h>
#include <sys/stat.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include "session.h"

#define BACKLOG 4096
#define ACCEPTS_A_TURN 64
#define EVENTS 256
#define UNIX STR("unix:")

struct listener {
	struct watch watch;
	struct backend *backend;
	int fd;
};

static struct listener listeners[LISTEN_MAX]; /* epoll points at them: for good */
static size_t listener_count;

static struct signals {
	struct watch watch;
	struct backend *backend;
	int fd;
} signals;

static int watch(struct backend *backend, int fd, struct watch *watch, struct err *err)
{
	struct epoll_event event = { .events = EPOLLIN, .data.ptr = watch };

	if (epoll_ctl(backend->epoll, EPOLL_CTL_ADD, fd, &event) < 0)
		return err_errno(err, "epoll_ctl");
	return 0;
}

/* ---- Listening -------------------------------------------------------------------------------- */

static void accept_some(struct watch *watch, uint32_t events)
{
	struct listener *listener = (struct listener *)watch;

	(void)events;
	for (int i = 0; i < ACCEPTS_A_TURN; i++) {
		int fd = accept4(listener->fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
		if (fd < 0)
			return;
		session_open(listener->backend, fd);
	}
}

static int resolve(const char *address, struct addrinfo **list, struct err *err)
{
	const struct addrinfo hints = { .ai_flags = AI_PASSIVE | AI_NUMERICHOST | AI_NUMERICSERV,
		.ai_socktype = SOCK_STREAM };
	struct str text = str_from(address);
	size_t colon = str_rfind(text, ':');
	char host[64], port[8];

	if (colon == text.n)
		return err_set(err, "%s: not ADDRESS:PORT", address);
	struct str name = str_range(text, 0, colon);
	if (name.n > 1 && name.p[0] == '[')
		name = str_range(name, 1, name.n - 1);
	str_copy_to(name, host, sizeof(host));
	str_copy_to(str_from_pos(text, colon + 1), port, sizeof(port));
	if (getaddrinfo(host, port, &hints, list) != 0)
		return err_set(err, "%s: not an address", address);
	return 0;
}

/* Accepted sockets inherit TCP_NODELAY. */
static int bind_socket(const struct sockaddr *address, socklen_t size)
{
	int on = 1;
	int fd = socket(address->sa_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);

	if (fd < 0)
		return -1;
	setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
	setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
	if (bind(fd, address, size) == 0 && listen(fd, BACKLOG) == 0)
		return fd;
	close(fd);
	return -1;
}

static int bind_tcp(const char *address, struct err *err)
{
	struct addrinfo *list;

	if (resolve(address, &list, err) < 0)
		return -1;
	int fd = bind_socket(list->ai_addr, list->ai_addrlen);
	freeaddrinfo(list);
	return fd < 0 ? err_errno(err, "cannot listen on %s", address) : fd;
}

/* In place of a socket that an earlier process has left behind. */
static int bind_unix(const char *path, struct err *err)
{
	struct sockaddr_un sa = { .sun_family = AF_UNIX };
	struct stat st;

	if (strlen(path) >= sizeof(sa.sun_path))
		return err_set(err, "%s: too long for a socket", path);
	str_copy_to(str_from(path), sa.sun_path, sizeof(sa.sun_path));
	if (lstat(path, &st) == 0 && S_ISSOCK(st.st_mode))
		unlink(path);
	int fd = bind_socket((const struct sockaddr *)&sa, sizeof(sa));
	return fd < 0 ? err_errno(err, "cannot listen on %s", path) : fd;
}

static void print_address(int fd)
{
	struct sockaddr_storage sa;
	socklen_t size = sizeof(sa);
	char host[NI_MAXHOST] = "", port[NI_MAXSERV] = "";

	getsockname(fd, (struct sockaddr *)&sa, &size);
	getnameinfo((struct sockaddr *)&sa, size, host, sizeof(host), port, sizeof(port),
		NI_NUMERICHOST | NI_NUMERICSERV);
	printf(strchr(host, ':') ? "{\"listening\":\"[%s]:%s\"}\n" : "{\"listening\":\"%s:%s\"}\n",
		host, port);
}

int server_listen(struct backend *backend, const char *address, struct err *err)
{
	struct str text = str_from(address);
	bool is_unix = str_starts_with(text, UNIX);
	int fd = is_unix ? bind_unix(address + UNIX.n, err) : bind_tcp(address, err);

	if (fd < 0)
		return -1;
	struct listener *listener = &listeners[listener_count++];
	*listener = (struct listener){ { accept_some }, backend, fd };
	if (watch(backend, fd, &listener->watch, err) < 0)
		return -1;
	if (is_unix)
		printf("{\"listening\":\"%s\"}\n", address);
	else
		print_address(fd);
	fflush(stdout);
	return 0;
}

void server_close(struct backend *backend)
{
	for (size_t i = 0; i < listener_count; i++) {
		struct str address = str_from(backend->options.listen[i]);
		if (str_starts_with(address, UNIX))
			unlink(address.p + UNIX.n);
		close(listeners[i].fd);
	}
}

/* ---- Signals ------------------------------------------------------------------------------------ */

static void read_faults_again(struct backend *backend)
{
	struct err err;

	if (!backend->options.fault_file)
		return;
	if (faults_read_file(&backend->faults, backend->options.fault_file, &err) < 0)
		fprintf(stderr, "smtp-backend: %s; nothing changed\n", err.text);
	else
		fprintf(stdout, "{\"faults\":\"read\"}\n");
	fflush(stdout);
}

static void take_signal(struct watch *unused, uint32_t events)
{
	struct signalfd_siginfo info;

	(void)unused;
	(void)events;
	if (read(signals.fd, &info, sizeof(info)) != sizeof(info))
		return;
	if (info.ssi_signo == SIGHUP)
		read_faults_again(signals.backend);
	else if (info.ssi_signo == SIGUSR1)
		signals.backend->is_dropping = true;
	else
		signals.backend->is_ending = true;
}

int server_catch_signals(struct backend *backend, struct err *err)
{
	sigset_t set;

	sigemptyset(&set);
	sigaddset(&set, SIGTERM);
	sigaddset(&set, SIGINT);
	sigaddset(&set, SIGHUP);
	sigaddset(&set, SIGUSR1);
	sigprocmask(SIG_BLOCK, &set, NULL);
	signals = (struct signals){ { take_signal }, backend, signalfd(-1, &set, SFD_CLOEXEC) };
	if (signals.fd < 0)
		return err_errno(err, "signalfd");
	return watch(backend, signals.fd, &signals.watch, err);
}

/* ---- The loop ------------------------------------------------------------------------------------- */

int64_t backend_now(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

/* A session may end when it goes on, and it may wait anew: then it is at the head, and its time
 * has not come. */
static void resume_due(struct backend *backend)
{
	int64_t now = backend_now();
	struct session *s, *next;

	if (now < backend->next_due)
		return;
	backend->next_due = INT64_MAX;
	for (s = LIST_FIRST(&backend->waiting); s; s = next) {
		next = LIST_NEXT(s, in_waiting);
		int64_t due = session_due(s);
		if (due <= now)
			session_resume(s);
		else if (due < backend->next_due)
			backend->next_due = due;
	}
}

static int time_to_wait(const struct backend *backend)
{
	if (LIST_EMPTY(&backend->waiting))
		return -1;
	int64_t ms = backend->next_due - backend_now();
	return ms <= 0 ? 0 : ms > 60000 ? 60000 : (int)ms;
}

static void drop_sessions(struct backend *backend, const char *how)
{
	backend->is_dropping = false;
	while (!LIST_EMPTY(&backend->sessions))
		session_close(LIST_FIRST(&backend->sessions), how);
}

static int turn(struct backend *backend, struct err *err)
{
	struct epoll_event events[EVENTS];
	int n = epoll_wait(backend->epoll, events, EVENTS, time_to_wait(backend));

	if (n < 0 && errno != EINTR)
		return err_errno(err, "epoll_wait");
	for (int i = 0; i < n; i++) {
		struct watch *watch = events[i].data.ptr;
		watch->ready(watch, events[i].events);
	}
	if (!LIST_EMPTY(&backend->waiting))
		resume_due(backend);
	if (backend->is_dropping) { /* not before: events may point at sessions */
		drop_sessions(backend, "dropped");
		puts("{\"connections\":\"dropped\"}");
		fflush(stdout);
	}
	return 0;
}

int server_run(struct backend *backend, struct err *err)
{
	while (!backend->is_ending)
		if (turn(backend, err) < 0)
			return -1;
	drop_sessions(backend, "shutdown");
	return 0;
}
