#include "client.h"

#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>

#include "load.h"

#define READ_MAX 65536
#define WRITES_AN_EVENT 16

static const struct {
	const char *name;
	unsigned code; /* the only good reply */
} steps[STEPS] = {
	[STEP_CONNECT] = { "connect", 0 },
	[STEP_HANDSHAKE] = { "TLS handshake", 0 },
	[STEP_BANNER] = { "banner", 220 },
	[STEP_HELLO] = { "EHLO", 250 },
	[STEP_STARTTLS] = { "STARTTLS", 220 },
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
	channel_close(&c->channel, c->step == STEP_QUIT);
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

static void fail_channel(struct client *c)
{
	client_fail(c, str_from(c->channel.error));
}

/* ---- Writing ---------------------------------------------------------------------------------- */

static void set_interest(struct client *c)
{
	bool writes = c->out.n > 0 || c->step == STEP_CONNECT || c->channel.wants_write;
	uint32_t wanted = EPOLLIN | (writes ? (uint32_t)EPOLLOUT : 0);
	struct epoll_event event = { .events = wanted, .data.ptr = c };

	if (c->step == STEP_CLOSED || wanted == c->interest)
		return;
	epoll_ctl(c->load->epoll, EPOLL_CTL_MOD, c->channel.fd, &event);
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
	ssize_t n = 0;

	/* Under TLS a call takes no more than a record. */
	for (int i = 0; i < WRITES_AN_EVENT && c->out.n > 0; i++) {
		n = channel_send(&c->channel, c->out);
		if (n < 0) {
			fail_channel(c);
			return;
		}
		c->out = str_from_pos(c->out, (size_t)n);
		if (n == 0 || c->channel.ssl == NULL)
			break;
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

/* ---- TLS --------------------------------------------------------------------------------------- */

static void after_handshake(struct client *c)
{
	struct stats *stats = &c->load->stats;

	stats_sample(&stats->handshakes, stats_now() - c->handshake_us);
	if (stats->tls.n == 0)
		stats->tls = channel_describe(&c->channel, stats->tls_text);
	if (workload_of(c)->tls == LOAD_TLS_STARTTLS)
		go_to(c, STEP_HELLO, &c->load->hello);
	else
		c->step = STEP_BANNER;
}

/* The PROXY header comes before TLS. */
static void shake_hands(struct client *c)
{
	if (c->out.n > 0)
		return;
	if (c->channel.ssl == NULL) {
		c->handshake_us = stats_now();
		channel_start_tls(&c->channel, c->load->tls);
	}
	int rc = channel_shake_hands(&c->channel);
	if (rc < 0)
		fail_channel(c);
	else if (rc > 0)
		after_handshake(c);
}

static void start_handshake(struct client *c)
{
	c->step = STEP_HANDSHAKE;
	shake_hands(c);
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

static void after_hello(struct client *c)
{
	const struct workload *workload = workload_of(c);

	if (workload->tls == LOAD_TLS_STARTTLS && c->channel.ssl == NULL)
		go_to(c, STEP_STARTTLS, &c->load->starttls);
	else if (workload->hold == HOLD_AFTER_HELLO)
		hold(c);
	else
		begin_message(c);
}

static void advance(struct client *c)
{
	switch (c->step) {
	case STEP_BANNER:
		after_banner(c);
		break;
	case STEP_HELLO:
		after_hello(c);
		break;
	case STEP_STARTTLS:
		start_handshake(c);
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

	do {
		ssize_t n = channel_receive(&c->channel, bytes, sizeof(bytes));
		if (n < 0)
			fail_channel(c);
		if (n <= 0)
			return;
		take(c, str_make(bytes, (size_t)n));
	} while (c->step != STEP_CLOSED && channel_has_more(&c->channel));
}

/* ---- The socket --------------------------------------------------------------------------------- */

static enum step first_step(const struct client *c)
{
	return workload_of(c)->tls == LOAD_TLS_IMPLICIT ? STEP_HANDSHAKE : STEP_BANNER;
}

void client_event(struct client *c, uint32_t events)
{
	int error = 0;
	socklen_t size = sizeof(error);

	if (c->step == STEP_CONNECT) {
		getsockopt(c->channel.fd, SOL_SOCKET, SO_ERROR, &error, &size);
		if (error) {
			client_fail(c, str_from(strerror(error)));
			return;
		}
		c->step = first_step(c);
	}
	if (events & EPOLLOUT)
		write_more(c);
	bool is_readable = events & (EPOLLIN | EPOLLERR | EPOLLHUP);
	if (c->step == STEP_HANDSHAKE) {
		shake_hands(c);
		/* The banner may have come together with the end of the handshake. */
		is_readable = channel_has_more(&c->channel);
	}
	if (is_readable && c->step != STEP_CLOSED && c->step != STEP_HANDSHAKE)
		read_some(c);
	set_interest(c);
}

static int start_connect(struct client *c, const struct endpoint *target)
{
	struct sockaddr_storage sa;
	socklen_t size = endpoint_to_sockaddr(target, &sa);
	int on = 1;

	c->channel.fd = socket(sa.ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	if (c->channel.fd < 0)
		return -1;
	setsockopt(c->channel.fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
	return connect(c->channel.fd, (struct sockaddr *)&sa, size);
}

void client_open(struct client *c, struct load *load)
{
	*c = (struct client){ .load = load, .step = STEP_CONNECT };
	load->open++;
	load->on_the_way++;
	c->connected_us = stats_now();
	c->out = header_make(load->options->proxy, load->opened++, c->header);
	if (start_connect(c, &load->options->target) == 0)
		c->step = first_step(c);
	else if (errno != EINPROGRESS) {
		fail_errno(c);
		return;
	}
	c->interest = EPOLLIN | (c->step == STEP_CONNECT ? (uint32_t)EPOLLOUT : 0);
	struct epoll_event event = { .events = c->interest, .data.ptr = c };
	if (epoll_ctl(load->epoll, EPOLL_CTL_ADD, c->channel.fd, &event) < 0) {
		fail_errno(c);
		return;
	}
	if (c->step != STEP_CONNECT)
		write_more(c);
	if (c->step == STEP_HANDSHAKE)
		shake_hands(c);
	set_interest(c);
}
