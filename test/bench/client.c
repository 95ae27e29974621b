#include "client.h"

#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "load.h"

#define READ_MAX 65536

static const struct {
	const char *name;
	unsigned code; /* the only good reply */
} steps[STEPS] = {
	[STEP_CONNECT] = { "connect", 0 },
	[STEP_BANNER] = { "banner", 220 },
	[STEP_HELLO] = { "EHLO", 250 },
	[STEP_MAIL] = { "MAIL", 250 },
	[STEP_RCPT] = { "RCPT", 250 },
	[STEP_DATA] = { "DATA", 354 },
	[STEP_BODY] = { "body", 250 },
	[STEP_QUIT] = { "QUIT", 221 },
	[STEP_HELD] = { "held", 0 },
};

static const struct workload *workload_of(const struct client *c)
{
	return &c->load->options->workload;
}

void client_close(struct client *c)
{
	if (c->step == STEP_CLOSED)
		return;
	close(c->fd);
	c->load->open--;
	if (c->step == STEP_HELD)
		c->load->held--;
	else
		c->load->on_the_way--;
	c->step = STEP_CLOSED;
}

void client_fail(struct client *c, struct str what)
{
	stats_error(&c->load->stats, steps[c->step].name, what);
	client_close(c);
}

static void fail_errno(struct client *c)
{
	client_fail(c, str_from(strerror(errno)));
}

/* ---- Writing ---------------------------------------------------------------------------------- */

static void set_interest(struct client *c)
{
	uint32_t wanted = EPOLLIN | (c->out.n || c->step == STEP_CONNECT ? (uint32_t)EPOLLOUT : 0);
	struct epoll_event event = { .events = wanted, .data.ptr = c };

	if (c->step == STEP_CLOSED || wanted == c->interest)
		return;
	epoll_ctl(c->load->epoll, EPOLL_CTL_MOD, c->fd, &event);
	c->interest = wanted;
}

static void hold(struct client *c)
{
	c->step = STEP_HELD;
	c->load->on_the_way--;
	c->load->held++;
}

static void write_more(struct client *c)
{
	if (c->out.n > 0) {
		ssize_t n = send(c->fd, c->out.p, c->out.n, MSG_NOSIGNAL);
		if (n < 0 && errno != EAGAIN) {
			fail_errno(c);
			return;
		}
		c->out = str_from_pos(c->out, n > 0 ? (size_t)n : 0);
	}
	if (c->out.n == 0 && c->step == STEP_BODY && workload_of(c)->hold == HOLD_IN_BODY)
		hold(c);
}

static void go_to(struct client *c, enum step step, const struct buf *bytes)
{
	c->step = step;
	c->out = buf_view(bytes);
	write_more(c);
}

/* ---- The steps -------------------------------------------------------------------------------- */

static void begin_message(struct client *c)
{
	struct load *load = c->load;

	bool is_counted = c->messages == 0; /* when the connection was opened */

	if (c->messages >= workload_of(c)->messages || !(is_counted || load_begin(load))) {
		go_to(c, STEP_QUIT, &load->quit);
		return;
	}
	c->messages++;
	c->rcpt = 0;
	c->begun_us = stats_now();
	go_to(c, STEP_MAIL, workload_of(c)->pipelines ? &load->envelope : &load->mail);
}

/* In a pipelined envelope the next step has been written already. */
static void next_of_envelope(struct client *c, enum step step, const struct buf *bytes)
{
	if (workload_of(c)->pipelines)
		c->step = step;
	else
		go_to(c, step, bytes);
}

static void next_rcpt(struct client *c)
{
	struct load *load = c->load;

	if (c->rcpt < load->options->recipient_count)
		next_of_envelope(c, STEP_RCPT, &load->rcpt[c->rcpt++]);
	else
		next_of_envelope(c, STEP_DATA, &load->data);
}

static void finish_message(struct client *c)
{
	struct stats *stats = &c->load->stats;

	stats->ended_us = c->load->progress_us = stats_now();
	stats->messages++;
	stats->bytes += workload_of(c)->size;
	stats_sample(&stats->latency, stats->ended_us - c->begun_us);
	begin_message(c);
}

static void after_banner(struct client *c)
{
	struct stats *stats = &c->load->stats;

	c->load->progress_us = stats_now();
	stats_sample(&stats->greetings, c->load->progress_us - c->connected_us);
	if (workload_of(c)->says_hello)
		go_to(c, STEP_HELLO, &c->load->hello);
	else
		go_to(c, STEP_QUIT, &c->load->quit);
}

static void finish_connection(struct client *c)
{
	struct stats *stats = &c->load->stats;

	stats->connections++;
	stats->ended_us = c->load->progress_us = stats_now();
	if (workload_of(c)->messages == 0)
		stats_sample(&stats->latency, stats->ended_us - c->connected_us);
	client_close(c);
}

static void advance(struct client *c)
{
	switch (c->step) {
	case STEP_BANNER:
		after_banner(c);
		break;
	case STEP_HELLO:
		if (workload_of(c)->hold == HOLD_AFTER_HELLO)
			hold(c);
		else
			begin_message(c);
		break;
	case STEP_MAIL:
	case STEP_RCPT:
		next_rcpt(c);
		break;
	case STEP_DATA:
		go_to(c, STEP_BODY, &c->load->body);
		break;
	case STEP_BODY:
		finish_message(c);
		break;
	case STEP_QUIT:
		finish_connection(c);
		break;
	default:
		client_fail(c, STR("a reply to nothing"));
	}
}

/* ---- Reading ------------------------------------------------------------------------------------ */

static void take_line(struct client *c, struct str line)
{
	uint64_t code = 0;
	bool is_reply = line.n >= 3 && str_to_u64(str_make(line.p, 3), 999, &code);

	if (is_reply && line.n > 3 && line.p[3] == '-')
		return;
	c->load->stats.replies[is_reply ? code : 0]++;
	/* A reply while the body is still being written is never the expected one. */
	if (!is_reply || code != steps[c->step].code || c->out.n > 0)
		client_fail(c, line);
	else
		advance(c);
}

/* Lines are looked at only as far as REPLY_KEPT. */
static void take(struct client *c, struct str bytes)
{
	while (bytes.n > 0 && c->step != STEP_CLOSED) {
		size_t n = str_find(bytes, '\n');
		struct str piece = str_range(
			bytes, 0, n < REPLY_KEPT - c->column ? n : REPLY_KEPT - c->column);
		memcpy(c->line + c->column, piece.p, piece.n);
		c->column += piece.n;
		if (n == bytes.n)
			return;
		size_t length = c->column;
		while (length > 0 && c->line[length - 1] == '\r')
			length--;
		c->column = 0;
		take_line(c, str_make(c->line, length));
		bytes = str_from_pos(bytes, n + 1);
	}
}

static void read_some(struct client *c)
{
	static char bytes[READ_MAX];
	ssize_t n = recv(c->fd, bytes, sizeof(bytes), 0);

	if (n > 0)
		take(c, str_make(bytes, (size_t)n));
	else if (n == 0)
		client_fail(c, STR("closed by the server"));
	else if (errno != EAGAIN && errno != EINTR)
		fail_errno(c);
}

void client_event(struct client *c, uint32_t events)
{
	int error = 0;
	socklen_t size = sizeof(error);

	if (c->step == STEP_CONNECT) {
		getsockopt(c->fd, SOL_SOCKET, SO_ERROR, &error, &size);
		if (error) {
			client_fail(c, str_from(strerror(error)));
			return;
		}
		c->step = STEP_BANNER;
	}
	if (events & EPOLLOUT)
		write_more(c);
	if (events & (EPOLLIN | EPOLLERR | EPOLLHUP) && c->step != STEP_CLOSED)
		read_some(c);
	set_interest(c);
}

static int start_connect(struct client *c, const struct endpoint *target)
{
	struct sockaddr_storage sa;
	socklen_t size = endpoint_to_sockaddr(target, &sa);
	int on = 1;

	c->fd = socket(sa.ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	if (c->fd < 0)
		return -1;
	setsockopt(c->fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
	return connect(c->fd, (struct sockaddr *)&sa, size);
}

void client_open(struct client *c, struct load *load)
{
	*c = (struct client){ .load = load, .step = STEP_CONNECT };
	load->open++;
	load->on_the_way++;
	c->connected_us = stats_now();
	c->out = header_make(load->options->proxy, load->opened++, c->header);
	if (start_connect(c, &load->options->target) == 0)
		c->step = STEP_BANNER;
	else if (errno != EINPROGRESS) {
		fail_errno(c);
		return;
	}
	c->interest = EPOLLIN | (c->step == STEP_CONNECT ? (uint32_t)EPOLLOUT : 0);
	struct epoll_event event = { .events = c->interest, .data.ptr = c };
	if (epoll_ctl(load->epoll, EPOLL_CTL_ADD, c->fd, &event) < 0) {
		fail_errno(c);
		return;
	}
	if (c->step == STEP_BANNER)
		write_more(c);
	set_interest(c);
}
