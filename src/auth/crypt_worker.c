#include "auth/crypt_worker.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/queue.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "auth/password.h"
#include "auth/sasl.h"
#include "auth/secret.h"
#include "base/assert.h"
#include "base/err.h"
#include "base/log.h"
#include "base/xalloc.h"
#include "net/stream.h"

/* One request is one packet, and one answer is one byte. Both ends are the same program in the
 * same state, so the struct is the format. */
struct request {
	size_t hash_n, password_n;
	char hash[PASSWORD_HASH_MAX];
	char password[SASL_PASSWORD_MAX];
};

struct crypt_job {
	TAILQ_ENTRY(crypt_job) link;
	struct crypt_worker *worker;
	struct request request;
	void (*answered)(void *ctx, enum crypt_answer answer); /* NULL: abandoned */
	void *ctx;
};

struct crypt_worker {
	struct loop *loop;
	pid_t pid; /* 0: none */
	struct stream stream;
	struct task starting;
	struct timer timer; /* of the check that is made, or until the next start */
	uint64_t started_ms;
	TAILQ_HEAD(, crypt_job) jobs;
	size_t count;
	bool is_checking; /* the first job is with the process */
	uint64_t checks;
};

/* ---- In the process ------------------------------------------------------------------------- */

#define CHILD_FD 3 /* behind the standard ones */

/* Signals are ours alone again: the loop's handlers would write into its pipe. */
static void reset_signals(void)
{
	sigset_t none;

	for (int signum = 1; signum < NSIG; signum++)
		(void)signal(signum, SIG_DFL);
	/* The terminal's ^C is for the parent, whose end is ours. */
	(void)signal(SIGINT, SIG_IGN);
	(void)signal(SIGTERM, SIG_IGN);
	(void)signal(SIGHUP, SIG_IGN);
	(void)signal(SIGUSR1, SIG_IGN);
	sigemptyset(&none);
	(void)sigprocmask(SIG_SETMASK, &none, NULL);
}

static void lock_up(int fd)
{
	const struct rlimit no_core = { 0, 0 };

	(void)prctl(PR_SET_NAME, "gatepost-crypt");
	if (prctl(PR_SET_DUMPABLE, 0) < 0 || prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0 ||
		setrlimit(RLIMIT_CORE, &no_core) < 0)
		_exit(1);
	if (fd != CHILD_FD && dup2(fd, CHILD_FD) < 0)
		_exit(1);
	if (close_range(CHILD_FD + 1, ~0u, 0) < 0)
		_exit(1);
}

static bool receive(struct request *request)
{
	ssize_t n;

	do
		n = recv(CHILD_FD, request, sizeof(*request), 0);
	while (n < 0 && errno == EINTR);
	return n == (ssize_t)sizeof(*request) && request->hash_n <= sizeof(request->hash) &&
	       request->password_n <= sizeof(request->password);
}

/* Until the parent closes its end. */
static _Noreturn void serve(int fd)
{
	struct request request;

	lock_up(fd);
	reset_signals();
	while (receive(&request)) {
		bool matches = password_matches(str_make(request.hash, request.hash_n),
			str_make(request.password, request.password_n));
		secret_wipe(&request, sizeof(request));
		char answer = matches ? CRYPT_MATCH : CRYPT_NO_MATCH;
		if (send(CHILD_FD, &answer, 1, MSG_NOSIGNAL) != 1)
			break;
	}
	_exit(0);
}

/* ---- Jobs ----------------------------------------------------------------------------------- */

static void take_out(struct crypt_job *job)
{
	TAILQ_REMOVE(&job->worker->jobs, job, link);
	job->worker->count--;
}

/* The job, which was taken out, is gone before its owner hears of it. */
static void answer(struct crypt_job *job, enum crypt_answer what)
{
	void (*answered)(void *, enum crypt_answer) = job->answered;
	void *ctx = job->ctx;

	secret_free(job, sizeof(*job));
	if (answered != NULL)
		answered(ctx, what);
}

static void answer_first(struct crypt_worker *worker, enum crypt_answer what)
{
	struct crypt_job *job = TAILQ_FIRST(&worker->jobs);

	take_out(job);
	answer(job, what);
}

static void hand_over(struct crypt_worker *worker)
{
	struct crypt_job *job = TAILQ_FIRST(&worker->jobs);

	if (job == NULL || worker->pid == 0 || worker->is_checking)
		return;
	/* Past the stream, whose buffer would keep the password. There is room: it is the only packet
	 * under way. A failure is the end of the process, which the stream sees. */
	(void)send(worker->stream.fd, &job->request, sizeof(job->request),
		MSG_NOSIGNAL | MSG_DONTWAIT);
	secret_wipe(job->request.password, sizeof(job->request.password));
	worker->is_checking = true;
	worker->checks++;
	timer_set(&worker->timer, CRYPT_WORKER_DEADLINE_MS);
}

/* ---- The process, seen from outside --------------------------------------------------------- */

/* It has closed its socket, or is to be gone: the wait is short. */
static void reap(struct crypt_worker *worker)
{
	stream_close(&worker->stream, false);
	(void)kill(worker->pid, SIGKILL);
	while (waitpid(worker->pid, NULL, 0) < 0 && errno == EINTR)
		continue;
	worker->pid = 0;
	timer_clear(&worker->timer);
}

static void lost(struct crypt_worker *worker, const char *why)
{
	bool was_checking = worker->is_checking;
	uint64_t now_ms = loop_now_ms(worker->loop);
	uint64_t next_ms = worker->started_ms + CRYPT_WORKER_REST_MS;

	reap(worker);
	LOG(AUTH_SERVICE_FAILED, log_text("service", "users"), log_text("error", why));
	worker->is_checking = false;
	timer_set(&worker->timer, next_ms > now_ms ? next_ms - now_ms : 0);
	if (was_checking)
		answer_first(worker, CRYPT_FAILED);
}

static size_t on_input(void *ctx, struct str bytes)
{
	struct crypt_worker *worker = ctx;
	bool is_answer = bytes.n == 1 && worker->is_checking &&
			 (bytes.p[0] == CRYPT_MATCH || bytes.p[0] == CRYPT_NO_MATCH);

	if (!is_answer) {
		lost(worker, "the process that checks passwords said something else");
		return bytes.n;
	}
	worker->is_checking = false;
	timer_clear(&worker->timer);
	struct crypt_job *job = TAILQ_FIRST(&worker->jobs);
	take_out(job);
	hand_over(worker); /* the process need not wait for what the owner does */
	answer(job, (enum crypt_answer)bytes.p[0]);
	return bytes.n;
}

static void on_eof(void *ctx)
{
	lost(ctx, "the process that checks passwords has died");
}

static void on_failed(void *ctx, const struct err *err)
{
	(void)err;
	on_eof(ctx);
}

static const struct stream_events events = {
	.input = on_input,
	.eof = on_eof,
	.failed = on_failed,
};

/* ---- Starting ------------------------------------------------------------------------------- */

/* No handler of the loop may run in the child before it has its own. The child must not hold our
 * end, or it would never see that we are gone. */
static pid_t fork_quietly(int own_fd, int child_fd)
{
	sigset_t all, before;

	sigfillset(&all);
	(void)sigprocmask(SIG_SETMASK, &all, &before);
	pid_t pid = fork();
	if (pid == 0) {
		close(own_fd);
		serve(child_fd);
	}
	(void)sigprocmask(SIG_SETMASK, &before, NULL);
	return pid;
}

static int start(struct crypt_worker *worker, struct err *err)
{
	int fds[2];

	worker->started_ms = loop_now_ms(worker->loop);
	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, fds) < 0)
		return err_errno(err, "socketpair");
	pid_t pid = fork_quietly(fds[0], fds[1]);
	close(fds[1]);
	if (pid < 0) {
		close(fds[0]);
		return err_errno(err, "fork");
	}
	int flags = fcntl(fds[0], F_GETFL);
	(void)fcntl(fds[0], F_SETFL, flags | O_NONBLOCK);
	worker->pid = pid;
	stream_init(&worker->stream, worker->loop, fds[0], 64, 64, &events, worker);
	stream_read_start(&worker->stream);
	hand_over(worker);
	return 0;
}

static void fail_all(struct crypt_worker *worker)
{
	for (size_t left = worker->count; left > 0 && worker->count > 0; left--)
		answer_first(worker, CRYPT_FAILED);
}

static void try_start(void *ctx)
{
	struct crypt_worker *worker = ctx;
	struct err err;

	if (worker->pid != 0 || start(worker, &err) == 0)
		return;
	LOG(AUTH_SERVICE_FAILED, log_text("service", "users"), log_text("error", err.text));
	timer_set(&worker->timer, CRYPT_WORKER_REST_MS);
	fail_all(worker);
}

static void on_timer(void *ctx)
{
	struct crypt_worker *worker = ctx;

	if (worker->pid == 0)
		try_start(worker);
	else if (worker->is_checking)
		lost(worker, "the process that checks passwords does not answer");
}

/* ---- The interface -------------------------------------------------------------------------- */

struct crypt_worker *crypt_worker_new(struct loop *loop)
{
	struct crypt_worker *worker = xcalloc(1, sizeof(*worker));

	worker->loop = loop;
	TAILQ_INIT(&worker->jobs);
	timer_init(&worker->timer, loop, on_timer, worker);
	task_init(&worker->starting, try_start, worker);
	task_defer(&worker->starting, loop);
	return worker;
}

void crypt_worker_free(struct crypt_worker **freed)
{
	struct crypt_worker *worker = *freed;
	struct crypt_job *job;

	*freed = NULL;
	if (worker == NULL)
		return;
	while ((job = TAILQ_FIRST(&worker->jobs)) != NULL) {
		take_out(job);
		secret_free(job, sizeof(*job));
	}
	if (worker->pid != 0)
		reap(worker);
	timer_stop(&worker->timer);
	task_cancel(&worker->starting, worker->loop);
	loop_retire(worker->loop, free, worker);
}

struct crypt_job *crypt_worker_ask(struct crypt_worker *worker, struct str hash,
	struct str password, void (*answered)(void *ctx, enum crypt_answer answer), void *ctx)
{
	ASSERT(hash.n <= PASSWORD_HASH_MAX && password.n <= SASL_PASSWORD_MAX);
	if (worker->count == CRYPT_WORKER_QUEUE_MAX)
		return NULL;
	struct crypt_job *job = xcalloc(1, sizeof(*job));
	*job = (struct crypt_job){ .worker = worker, .answered = answered, .ctx = ctx };
	job->request.hash_n = hash.n;
	memcpy(job->request.hash, hash.p, hash.n);
	job->request.password_n = password.n;
	memcpy(job->request.password, password.p, password.n);
	TAILQ_INSERT_TAIL(&worker->jobs, job, link);
	worker->count++;
	hand_over(worker);
	return job;
}

/* What the process is at stays at the front, so that its answer finds it. */
void crypt_worker_abandon(struct crypt_job **abandoned)
{
	struct crypt_job *job = *abandoned;

	*abandoned = NULL;
	if (job == NULL)
		return;
	job->answered = NULL;
	if (job->worker->is_checking && job == TAILQ_FIRST(&job->worker->jobs))
		return;
	take_out(job);
	secret_free(job, sizeof(*job));
}

uint64_t crypt_worker_checks(const struct crypt_worker *worker)
{
	return worker->checks;
}

pid_t crypt_worker_pid(const struct crypt_worker *worker)
{
	return worker->pid;
}
