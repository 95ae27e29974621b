#include "session.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/xalloc.h"

#define CHUNK (256 * 1024)
#define IN_MAX (1024 * 1024)
#define OUT_MAX (16 * 1024 * 1024)
#define OUT_HIGH (1024 * 1024) /* no more input is used while so much waits to be written */
#define SPLIT_MS 1

static const char *const phases[] = {
	[PHASE_PROXY] = "proxy",
	[PHASE_COMMAND] = "command",
	[PHASE_DATA] = "data",
	[PHASE_BDAT] = "bdat",
};

/* ---- Output ------------------------------------------------------------------------------- */

static void wait_until(struct session *s, int64_t when)
{
	if (s->resume_at == 0)
		LIST_INSERT_HEAD(&s->backend->waiting, s, in_waiting);
	s->resume_at = when;
	if (when < s->backend->next_due)
		s->backend->next_due = when;
}

static void write_out(struct session *s, struct str bytes)
{
	ssize_t n = send(s->fd, bytes.p, bytes.n, MSG_NOSIGNAL);

	if (n >= 0)
		buf_consume(&s->out, (size_t)n);
	else if (errno != EAGAIN && errno != EINTR)
		s->is_broken = true;
}

static void flush(struct session *s)
{
	struct str bytes = buf_view(&s->out);

	if (s->is_held || s->is_broken || bytes.n == 0)
		return;
	write_out(s, s->is_split ? str_range(bytes, 0, 1) : bytes);
	if (buf_used(&s->out) == 0)
		s->is_split = false;
	else if (s->is_split)
		wait_until(s, backend_now() + SPLIT_MS);
	buf_release(&s->out);
}

/* The step whose reply is followed at once by an early one. */
static const enum fault_state before[FAULT_STATES] = {
	[AT_BANNER] = AT_CONNECT,
	[AT_EHLO] = AT_BANNER,
	[AT_HELO] = AT_BANNER,
	[AT_MAIL] = AT_EHLO,
	[AT_RCPT] = AT_MAIL,
	[AT_DATA] = AT_RCPT,
	[AT_DOT] = AT_DATA,
	[AT_RSET] = AT_EHLO,
	[AT_NOOP] = AT_EHLO,
	[AT_QUIT] = AT_DOT,
};

static struct reply early_reply(const struct session *s, enum fault_state at)
{
	switch (at) {
	case AT_BANNER:
		return verbs_banner(s);
	case AT_DATA:
		return (struct reply){ 354, NULL, "Go ahead" };
	case AT_QUIT:
		return (struct reply){ 221, "2.0.0", "Bye" };
	default:
		return (struct reply){ 250, "2.0.0", "Ok" };
	}
}

static void answer_early(struct session *s, enum fault_state after)
{
	if (after == AT_HELO)
		after = AT_EHLO;
	for (enum fault_state at = AT_BANNER; at < FAULT_STATES; at++) {
		if (before[at] != after || !faults_is_early(&s->backend->faults, at))
			continue;
		struct reply reply = early_reply(s, at);
		reply_plain(&s->out, &reply);
		s->answered |= 1u << at;
	}
}

static void write_reply(struct session *s, const struct fault *fault, struct reply reply)
{
	if (!s->backend->offers_enhanced_codes)
		reply.enhanced = NULL;
	if (fault && fault->action->takes == VALUE_BYTES)
		buf_write(&s->out, fault->bytes);
	else if (fault && fault->action->takes == VALUE_REPLY)
		reply_plain(&s->out, &fault->reply);
	else if (fault && fault->action->write)
		fault->action->write(&s->out, &reply);
	else
		reply_plain(&s->out, &reply);
}

static void go_on_as(struct session *s, unsigned flags)
{
	s->is_stalled |= (flags & FAULT_STALLS) != 0;
	s->is_split |= (flags & FAULT_SPLITS) != 0;
	s->is_closing |= (flags & FAULT_CLOSES) != 0;
	s->is_resetting |= (flags & FAULT_RESETS) != 0;
	s->is_dying |= (flags & FAULT_DIES) != 0;
	if (flags & (FAULT_CLOSES | FAULT_RESETS | FAULT_DIES))
		s->how = "fault";
}

void session_answer(
	struct session *s, enum fault_state at, struct fault_choice choice, struct reply reply)
{
	bool is_answered = at != AT_NOWHERE && (s->answered & 1u << at);

	if (choice.delay) {
		flush(s); /* what was said before is not delayed */
		s->is_held = true;
		wait_until(s, backend_now() + choice.delay->ms);
	}
	if (choice.fault && (choice.fault->flags & FAULT_SPLITS))
		flush(s);
	if (is_answered)
		s->answered &= ~(1u << at);
	else
		write_reply(s, choice.fault, reply);
	if (choice.fault)
		go_on_as(s, choice.fault->flags);
	answer_early(s, at);
}

/* ---- Input -------------------------------------------------------------------------------- */

bool session_may_go_on(const struct session *s)
{
	return !s->is_stalled && !s->is_closing && !s->is_resetting && !s->is_dying &&
	       !s->is_broken && s->resume_at == 0 && !s->is_split && buf_used(&s->out) < OUT_HIGH;
}

static void greet(struct session *s)
{
	s->phase = PHASE_COMMAND;
	session_answer(
		s, AT_BANNER, faults_choose(&s->backend->faults, AT_BANNER), verbs_banner(s));
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
};

/* Uses as much as it can; returns how much that was. */
static size_t process(struct session *s, struct str input)
{
	size_t used = 0;

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
	buf_release(&s->in);
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
	if (s->resume_at)
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

/* The end of each turn: writes, and carries out what was decided. */
static void settle(struct session *s)
{
	flush(s);
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
	} else {
		set_interest(s);
	}
}

static void session_ready(struct watch *watch, uint32_t events)
{
	struct session *s = (struct session *)watch;

	if (events & (EPOLLERR | EPOLLHUP)) {
		session_close(s, "client-reset");
		return;
	}
	if (events & EPOLLRDHUP && s->is_stalled) {
		session_close(s, "client-eof");
		return;
	}
	if (events & EPOLLOUT) {
		flush(s);
		process_kept(s);
	} else if (events & EPOLLIN) {
		read_in(s);
	}
	settle(s);
}

void session_resume(struct session *s)
{
	s->resume_at = 0;
	LIST_REMOVE(s, in_waiting);
	s->is_held = false;
	if (s->is_split && buf_used(&s->out) <= 1)
		flush(s); /* the last byte: what came in meanwhile is due */
	if (!s->is_split)
		process_kept(s);
	settle(s);
}

static void start_dialogue(struct session *s)
{
	struct fault_choice choice = faults_choose(&s->backend->faults, AT_CONNECT);

	if (choice.delay || choice.fault)
		session_answer(s, AT_CONNECT, choice, (struct reply){ 0, NULL, "" });
	else
		answer_early(s, AT_CONNECT);
	if (s->backend->options.proxy != PROXY_NONE)
		return;
	record_connection(&s->backend->record, s->id, s->fd, NULL, STR(""));
	if (fault_grants(choice.fault))
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
	transaction_init(&s->tx, &backend->record, &backend->maildir);
	LIST_INSERT_HEAD(&backend->sessions, s, in_all);
	epoll_ctl(backend->epoll, EPOLL_CTL_ADD, fd, &event);
	start_dialogue(s);
	settle(s);
}
