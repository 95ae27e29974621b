#include "auth/secret_file.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "auth/secret.h"
#include "base/assert.h"
#include "base/file_state.h"
#include "base/log.h"

/* A password, a line end of either kind, and one byte that is too many. */
#define TEXT_MAX (SASL_PASSWORD_MAX + 3)

static int read_bytes(int fd, char *bytes, size_t *got, struct err *err)
{
	*got = 0;
	while (*got < TEXT_MAX) {
		ssize_t n = read(fd, bytes + *got, TEXT_MAX - *got);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return err_errno(err, "cannot read");
		if (n == 0)
			break;
		*got += (size_t)n;
	}
	return 0;
}

/* Not blocking: it may be a pipe that nobody writes to. */
static int read_text(const char *path, char *bytes, size_t *got, struct err *err)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
	struct stat status;

	if (fd < 0)
		return err_errno(err, "cannot open");
	int rc = fstat(fd, &status);
	if (rc < 0)
		err_errno(err, "cannot ask what it is");
	else if (!S_ISREG(status.st_mode))
		rc = err_set(err, "not a file");
	else
		rc = read_bytes(fd, bytes, got, err);
	close(fd);
	return rc;
}

static struct str without_line_end(struct str text)
{
	if (text.n > 0 && text.p[text.n - 1] == '\n')
		text.n--;
	if (text.n > 0 && text.p[text.n - 1] == '\r')
		text.n--;
	return text;
}

/* One line; a password with a line end in it is nobody's, and most likely two. */
static int check(struct str password, struct err *err)
{
	if (password.n == 0)
		return err_set(err, "there is no password in it");
	if (str_find(password, '\n') < password.n)
		return err_set(err, "it must have the password and nothing else, in one line");
	if (password.n > SASL_PASSWORD_MAX)
		return err_set(err, "a password has at most %d bytes", SASL_PASSWORD_MAX);
	if (!sasl_is_text(password))
		return err_set(err, "a password is UTF-8, without NUL");
	return 0;
}

static int read_password(struct secret_file *file, struct err *err)
{
	char text[TEXT_MAX];
	size_t n = 0;
	int rc = read_text(file->path, text, &n, err);
	struct str password = without_line_end(str_make(text, n));

	if (rc == 0)
		rc = check(password, err);
	if (rc == 0) {
		secret_wipe(file->password, sizeof(file->password));
		memcpy(file->password, password.p, password.n);
		file->n = password.n;
	}
	secret_wipe(text, sizeof(text));
	return rc < 0 ? err_prefix(err, "%s", file->path) : 0;
}

static void notice_readers(const struct secret_file *file)
{
	struct err detail;

	if (!(file->state.st_mode & S_IROTH))
		return;
	err_set(&detail, "%s: everybody on this machine can read it", file->path);
	LOG(CONFIG_NOTICE, log_text("detail", detail.text));
}

int secret_file_open(struct secret_file *file, struct err *err)
{
	file->state = file_state_look(file->path);
	file->is_open = read_password(file, err) == 0;
	if (!file->is_open)
		return -1;
	notice_readers(file);
	return 0;
}

void secret_file_close(struct secret_file *file)
{
	secret_wipe(file->password, sizeof(file->password));
	file->is_open = false;
}

bool secret_file_refresh(struct secret_file *file, bool always)
{
	struct err err = { "" };

	if (!file->is_open)
		return false;
	struct stat now = file_state_look(file->path);
	if (file_state_is_same(&now, &file->state) && !always)
		return false;
	file->state = now;
	if (read_password(file, &err) < 0) {
		LOG(FILES_KEPT, log_str("name", file->name), log_text("kind", "password"),
			log_text("error", err.text));
		return false;
	}
	notice_readers(file);
	LOG(FILES_READ, log_str("name", file->name), log_text("kind", "password"));
	return true;
}

struct str secret_file_password(const struct secret_file *file)
{
	ASSERT(file->is_open);
	return str_make(file->password, file->n);
}
