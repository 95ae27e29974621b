/* The process: its log and trace, its limits, and whose it is. */
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <pwd.h>
#include <sys/resource.h>
#include <unistd.h>

#include "base/log.h"
#include "program_priv.h"

int program_open_log(struct program *program, struct err *err)
{
	const struct log_settings *log = &program->settings->log;

	return log_open(log->target.p, (enum log_format)log->format, (enum log_level)log->level,
		program->settings->hostname.p, err);
}

/* Two sockets a session, and one more process may not be what the administrator thought of. */
int program_raise_descriptors(struct program *program, struct err *err)
{
	struct rlimit limit;

	(void)program;
	if (getrlimit(RLIMIT_NOFILE, &limit) < 0)
		return err_errno(err, "cannot ask for the limit of open files");
	limit.rlim_cur = limit.rlim_max;
	(void)setrlimit(RLIMIT_NOFILE, &limit);
	return 0;
}

/* A core dump would hold passwords, keys and mail. */
int program_forbid_cores(struct program *program, struct err *err)
{
	struct rlimit none = { 0, 0 };

	(void)program;
	if (setrlimit(RLIMIT_CORE, &none) < 0)
		return err_errno(err, "cannot forbid core dumps");
	return 0;
}

int program_open_trace(struct program *program, struct err *err)
{
	struct str path = program->settings->log.trace;

	program->edge.trace_fd = -1;
	if (path.n == 0)
		return 0;
	program->edge.trace_fd = open(path.p, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0640);
	if (program->edge.trace_fd < 0)
		return err_errno(err, "log.trace: cannot open %s", path.p);
	return 0;
}

/* What root has made must stay ours when it is opened anew. */
static int give_files(const struct program *program, uid_t user, gid_t group, struct err *err)
{
	if (program->edge.trace_fd >= 0 && fchown(program->edge.trace_fd, user, group) < 0)
		return err_errno(err, "user: cannot give the trace away");
	return log_give_to(user, group, err);
}

/* Nothing that comes from outside is handled as root. */
int program_give_up_privileges(struct program *program, struct err *err)
{
	struct str user = program->settings->user;

	if (user.n == 0 || geteuid() != 0)
		return 0;
	errno = 0;
	const struct passwd *entry = getpwnam(user.p);
	if (entry == NULL)
		return err_set(err, "user: there is no user %s", user.p);
	if (give_files(program, entry->pw_uid, entry->pw_gid, err) < 0)
		return -1;
	if (initgroups(user.p, entry->pw_gid) < 0 || setgid(entry->pw_gid) < 0 ||
		setuid(entry->pw_uid) < 0)
		return err_errno(err, "user: cannot become %s", user.p);
	return 0;
}
