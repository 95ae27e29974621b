/* An SMTP server for tests and benchmarks; --help says what it can do. */
#include "backend.h"

#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sysexits.h>
#include <unistd.h>

#include "auth.h"
#include "server.h"
#include "specials.h"

#define GREETING_MAX 65536

void backend_die(void)
{
	_exit(EX_SOFTWARE);
}

/* "A,B=x" offers A and B. */
static struct str find_extension(const struct backend *backend, struct str keyword)
{
	struct str list = str_from(backend->extensions.data);

	while (list.n > 0) {
		struct str entry = str_cut(&list, ',');
		struct str value = entry;
		if (str_eq_nocase(str_cut(&value, '='), keyword))
			return entry;
	}
	return STR("");
}

bool backend_offers(const struct backend *backend, struct str keyword)
{
	return find_extension(backend, keyword).n > 0;
}

struct str backend_extension(const struct backend *backend, struct str keyword)
{
	struct str value = find_extension(backend, keyword);

	str_cut(&value, '=');
	return value;
}

static void write_greeting(struct backend *backend, struct buf *greeting, struct str without)
{
	struct str list = str_from(backend->extensions.data);

	buf_init(greeting, GREETING_MAX);
	buf_printf(greeting, "%s", backend->options.name);
	while (list.n > 0) {
		struct str value = str_cut(&list, ',');
		struct str keyword = str_cut(&value, '=');
		if (str_eq_nocase(keyword, without))
			continue;
		buf_printf(greeting, "\n%.*s%s", STR_ARG(keyword), value.n ? " " : "");
		buf_write(greeting, value);
	}
	buf_write(greeting, STR("\0"));
}

static void list_extensions(struct backend *backend)
{
	const struct options *options = &backend->options;

	buf_init(&backend->extensions, GREETING_MAX);
	buf_printf(&backend->extensions, "%s", options->extensions);
	buf_write(&backend->extensions, STR("\0"));
	if (!options->auth || backend_offers(backend, STR("AUTH")))
		return;
	buf_truncate(&backend->extensions, buf_used(&backend->extensions) - 1);
	buf_printf(
		&backend->extensions, "%sAUTH=" AUTH_MECHANISMS, *options->extensions ? "," : "");
	buf_write(&backend->extensions, STR("\0"));
}

static void read_extensions(struct backend *backend)
{
	list_extensions(backend);
	backend->offers_pipelining = backend_offers(backend, STR("PIPELINING"));
	backend->offers_enhanced_codes = backend_offers(backend, STR("ENHANCEDSTATUSCODES"));
	str_to_u64(backend_extension(backend, STR("SIZE")), UINT64_MAX, &backend->size_max);
	buf_init(&backend->banner, GREETING_MAX);
	buf_printf(&backend->banner, "%s %s", backend->options.name,
		backend->options.is_lmtp ? "LMTP" : "ESMTP");
	buf_write(&backend->banner, STR("\0"));
	write_greeting(backend, &backend->greetings[0], STR(""));
	write_greeting(backend, &backend->greetings[1], STR("XCLIENT"));
}

static int read_faults(struct backend *backend, struct err *err)
{
	const struct options *options = &backend->options;

	faults_init(&backend->faults);
	for (size_t i = 0; i < options->fault_count; i++)
		if (faults_add(&backend->faults, str_from(options->faults[i]), err) < 0)
			return -1;
	if (options->fault_file)
		return faults_read_file(&backend->faults, options->fault_file, err);
	return 0;
}

static int open_outputs(struct backend *backend, struct err *err)
{
	const struct options *options = &backend->options;

	record_init(&backend->record);
	backend->maildir.fd = -1;
	if (options->record &&
		record_open(&backend->record, options->record, options->records_body, err))
		return -1;
	return options->maildir ? maildir_open(&backend->maildir, options->maildir, err) : 0;
}

static int listen_all(struct backend *backend, struct err *err)
{
	LIST_INIT(&backend->sessions);
	LIST_INIT(&backend->waiting);
	backend->next_due = INT64_MAX;
	backend->epoll = epoll_create1(EPOLL_CLOEXEC);
	if (backend->epoll < 0)
		return err_errno(err, "epoll_create1");
	if (server_catch_signals(backend, err) < 0)
		return -1;
	for (size_t i = 0; i < backend->options.listen_count; i++)
		if (server_listen(backend, backend->options.listen[i], err) < 0)
			return -1;
	return 0;
}

static void prepare_process(const struct options *options)
{
	struct rlimit files;

	signal(SIGPIPE, SIG_IGN);
	if (options->dies_with_parent)
		prctl(PR_SET_PDEATHSIG, SIGTERM);
	getrlimit(RLIMIT_NOFILE, &files);
	files.rlim_cur = files.rlim_max;
	setrlimit(RLIMIT_NOFILE, &files);
}

static void finish(struct backend *backend)
{
	printf("{\"messages\":%lu,\"connections\":%lu,\"bytes\":%lu}\n",
		(unsigned long)backend->messages, (unsigned long)backend->connections,
		(unsigned long)backend->bytes);
	server_close(backend);
	record_close(&backend->record);
	maildir_close(&backend->maildir);
	faults_free(&backend->faults);
	faults_free(&backend->specials);
	buf_free(&backend->extensions);
	buf_free(&backend->banner);
	buf_free(&backend->greetings[0]);
	buf_free(&backend->greetings[1]);
	close(backend->epoll);
}

int main(int argc, char **argv)
{
	static struct backend backend;
	static int (*const steps[])(struct backend *, struct err *) = { read_faults, open_outputs,
		listen_all, server_run };
	struct err err;

	options_read(&backend.options, argc, argv);
	prepare_process(&backend.options);
	read_extensions(&backend);
	specials_init(&backend);
	for (size_t i = 0; i < sizeof(steps) / sizeof(steps[0]); i++) {
		if (steps[i](&backend, &err) == 0)
			continue;
		fprintf(stderr, "smtp-backend: %s\n", err.text);
		return i == 0 ? EX_USAGE : EX_OSERR;
	}
	finish(&backend);
	return EX_OK;
}
