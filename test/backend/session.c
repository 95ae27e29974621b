#include "session.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "auth.h"
#include "base/xalloc.h"

#define CHUNK (256 * 1024)
#define IN_MAX (1024 * 1024)
#define OUT_MAX (16 * 1024 * 1024)
#define KEPT 16384
#define OUT_HIGH (1024 * 1024) /* no more input is used while so much waits to be written */
#define SPLIT_MS 1

static const char *const phases[] = {
	[PHASE_PROXY] = "proxy",
	[PHASE_COMMAND] = "command",
	[PHASE_DATA] = "data",
	[PHASE_BDAT] = "bdat",
	[PHASE_AUTH] = "auth",
};

/* ---- Time --------------------------------------------------------------------------------- */

int64_t session_due(const struct session *s)
{
	if (s->resume_at && s->idle_at)
		return s->resume_at < s->idle_at ? s->resume_at : s->idle_at;
	return s->resume_at ? s->resume_at : s->idle_at;
}

/* In the list of those that wait, if it waits. */
static void enlist(struct session *s)
{
	int64_t due = session_due(s);

	if (due == 0)
		return;
	if (!s->is_waiting)
		LIST_INSERT_HEAD(&s->backend->waiting, s, in_waiting);
	s->is_waiting = true;
	if (due < s->backend->next_due)
		s->backend->next_due = due;
}

void session_hold(struct session *s, int64_t ms)
{
	s->resume_at = backend_now() + ms;
	enlist(s);
}

void session_be_idle(struct session *s)
{
	struct fault *fault = session_choose(s, AT_IDLE).fault;

	if (!fault)
		return;
	s->idle_fault = fault;
	s->idle_at = (s->resume_at ? s->resume_at : backend_now()) + (int64_t)fault->after;
	enlist(s);
}

static void strike_idle(struct session *s)
{
	struct fault_choice choice = { .fault = s->idle_fault };

	if (!session_may_go_on(s)) {
		s->idle_at = backend_now() + 1; /* the reply before it is still on its way */
		return;
	}
	s->idle_at = 0;
	session_answer(s, AT_IDLE, choice, (struct reply){ 421, "4.4.2", "Idle for too long" });
}

/* ---- Output ------------------------------------------------------------------------------- */

static void write_out(struct session *s, struct str bytes)
{
	ssize_t n = send(s->fd, bytes.p, bytes.n, MSG_NOSIGNAL);

	if (n >= 0)
		buf_consume(&s->out, (size_t)n);
	else if (errno != EAGAIN && errno != EINTR)
		s->is_broken = true;
}

/* What a usual reply needs stays: benchmarks should not measure malloc(). */
static void release_large(struct buf *buf)
{
	if (buf->capacity > KEPT)
		buf_release(buf);
}

void session_flush(struct session *s)
{
	struct str bytes = buf_view(&s->out);

	if (s->is_held || s->is_broken || bytes.n == 0)
		return;
	write_out(s, s->is_split ? str_range(bytes, 0, 1) : bytes);
	if (buf_used(&s->out) == 0)
		s->is_split = false;
	else if (s->is_split)
		session_hold(s, SPLIT_MS);
	release_large(&s->out);
}

/* ---- Input -------------------------------------------------------------------------------- */

bool session_may_go_on(const struct session *s)
{
	return !s->is_stalled && !s->is_halved && !s->is_closing && !s->is_resetting &&
	       !s->is_dying && !s->is_broken && s->resume_at == 0 && !s->is_split &&
	       buf_used(&s->out) < OUT_HIGH;
}

static void greet(struct session *s)
{
	s->phase = PHASE_COMMAND;
	session_answer(s, AT_BANNER, session_choose(s, AT_BANNER), verbs_banner(s));
}

static size_t take_header(struct session *s, struct str input)
{
	struct proxy_header header;
	size_t length = 0;
	int rc = proxy_parse(s->backend->options.proxy, input, &header, &length);

	if (rc == 0)
		return 0;
	if (rc < 0) {
		record_connection(
			&s->backend->record, s->id, s->fd, &header, str_range(input, 0, 256));
		s->is_closing = true;
		s->how = "bad-proxy-header";
		return input.n;
	}
	record_connection(&s->backend->record, s->id, s->fd, &header, str_range(input, 0, length));
	if (length < input.n)
		record_violation(&s->backend->record, s->id, "bytes before the banner");
	greet(s);
	return length;
}

static size_t (*const takers[])(struct session *, struct str) = {
	[PHASE_PROXY] = take_header,
	[PHASE_COMMAND] = verbs_take,
	[PHASE_DATA] = data_take,
	[PHASE_BDAT] = data_take_chunk,
	[PHASE_AUTH] = auth_take,
};

/* Uses as much as it can; returns how much that was. */
static size_t process(struct session *s, struct str input)
{
	size_t used = 0;

	if (s->is_halved)
		return input.n;
	while (used < input.n && session_may_go_on(s)) {
		size_t n = takers[s->phase](s, str_from_pos(input, used));
		if (n == 0)
			break;
		used += n;
	}
	return used;
}

static void process_kept(struct session *s)
{
	buf_consume(&s->in, process(s, buf_view(&s->in)));
	release_large(&s->in);
}

static void process_fresh(struct session *s, struct str input)
{
	s->backend->bytes += input.n;
	if (buf_used(&s->in) > 0) {
		s->is_broken |= !buf_write(&s->in, input);
		process_kept(s);
		return;
	}
	size_t used = process(s, input);
	s->is_broken |= !buf_write(&s->in, str_from_pos(input, used));
}

bool session_has_input(const struct session *s)
{
	char byte;

	return recv(s->fd, &byte, 1, MSG_PEEK | MSG_DONTWAIT) > 0;
}

static void read_in(struct session *s)
{
	static char chunk[CHUNK];
	ssize_t n = recv(s->fd, chunk, sizeof(chunk), 0);

	if (n > 0) {
		process_fresh(s, str_make(chunk, (size_t)n));
	} else if (n == 0) {
		s->is_closing = true;
		s->how = "client-eof";
	} else if (errno != EAGAIN && errno != EINTR) {
		s->is_broken = true;
	}
}

/* ---- Life ----------------------------------------------------------------------------------- */

void session_close(struct session *s, const char *how)
{
	record_end(&s->backend->record, s->id, how, phases[s->phase], s->messages);
	transaction_reset(&s->tx);
	identity_free(&s->identity);
	auth_free(&s->auth);
	if (s->is_waiting)
		LIST_REMOVE(s, in_waiting);
	LIST_REMOVE(s, in_all);
	buf_free(&s->in);
	buf_free(&s->out);
	close(s->fd);
	free(s);
}

static void reset(struct session *s)
{
	struct linger linger = { .l_onoff = 1, .l_linger = 0 };

	setsockopt(s->fd, SOL_SOCKET, SO_LINGER, &linger, sizeof(linger));
	session_close(s, s->how);
}

static void set_interest(struct session *s)
{
	struct epoll_event event = { .data.ptr = &s->watch };

	if (s->is_stalled)
		event.events = EPOLLRDHUP; /* input stays unread, the end is noticed */
	else if (s->resume_at == 0)
		event.events = buf_used(&s->out) ? EPOLLOUT : EPOLLIN;
	if (event.events == s->interest)
		return;
	epoll_ctl(s->backend->epoll, EPOLL_CTL_MOD, s->fd, &event);
	s->interest = event.events;
}

static void shut_half(struct session *s)
{
	if (!s->is_shut)
		shutdown(s->fd, SHUT_WR);
	s->is_shut = true;
	set_interest(s);
}

/* The end of each turn: writes, and carries out what was decided. */
static void settle(struct session *s)
{
	session_flush(s);
	if (s->is_broken) {
		session_close(s, "client-reset");
	} else if (s->is_held || (buf_used(&s->out) > 0 && !s->is_resetting)) {
		set_interest(s);
	} else if (s->is_dying) {
		record_end(&s->backend->record, s->id, s->how, phases[s->phase], s->messages);
		backend_die();
	} else if (s->is_resetting) {
		reset(s);
	} else if (s->is_closing) {
		session_close(s, s->how);
	} else if (s->is_halved) {
		shut_half(s);
	} else {
		set_interest(s);
	}
}

static void session_ready(struct watch *watch, uint32_t events)
{
	struct session *s = (struct session *)watch;

	if (events & (EPOLLERR | EPOLLHUP)) {
		bool is_end = s->is_shut && !(events & EPOLLERR);
		session_close(s, is_end ? "client-eof" : "client-reset");
		return;
	}
	if (events & EPOLLRDHUP && s->is_stalled) {
		session_close(s, "client-eof");
		return;
	}
	if (events & EPOLLOUT) {
		session_flush(s);
		process_kept(s);
	} else if (events & EPOLLIN) {
		read_in(s);
	}
	settle(s);
}

static void go_on(struct session *s)
{
	if (s->is_held && s->awaits && record_is_on(&s->backend->record) && session_has_input(s))
		record_violation(&s->backend->record, s->id, "bytes while a reply was due");
	s->resume_at = 0;
	s->is_held = false;
	if (s->is_split && buf_used(&s->out) <= 1)
		session_flush(s); /* the last byte: what came in meanwhile is due */
	if (!s->is_split)
		process_kept(s);
}

void session_resume(struct session *s)
{
	int64_t now = backend_now();

	LIST_REMOVE(s, in_waiting);
	s->is_waiting = false;
	if (s->resume_at && s->resume_at <= now)
		go_on(s);
	else if (s->idle_at && s->idle_at <= now)
		strike_idle(s);
	enlist(s);
	settle(s);
}

static void start_dialogue(struct session *s)
{
	struct fault_choice choice = session_choose(s, AT_CONNECT);

	session_answer(s, AT_CONNECT, choice, (struct reply){ 0 });
	if (s->backend->options.proxy != PROXY_NONE)
		return;
	s->phase = PHASE_COMMAND;
	record_connection(&s->backend->record, s->id, s->fd, NULL, STR(""));
	if (fault_grants(choice.fault, 220))
		greet(s);
}

void session_open(struct backend *backend, int fd)
{
	struct session *s = xcalloc(1, sizeof(*s));
	struct epoll_event event = { .events = EPOLLIN, .data.ptr = &s->watch };

	s->watch.ready = session_ready;
	s->backend = backend;
	s->fd = fd;
	s->id = ++backend->connections;
	s->interest = EPOLLIN;
	buf_init(&s->in, IN_MAX);
	buf_init(&s->out, OUT_MAX);
	identity_init(&s->identity);
	transaction_init(&s->tx, &backend->record, &backend->maildir, &s->identity);
	s->tx.keeps_recipients = backend->options.is_lmtp;
	LIST_INSERT_HEAD(&backend->sessions, s, in_all);
	epoll_ctl(backend->epoll, EPOLL_CTL_ADD, fd, &event);
	start_dialogue(s);
	settle(s);
}
