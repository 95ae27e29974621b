#include "maildir.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

static int make_directory(int at, const char *path, struct err *err)
{
	if (mkdirat(at, path, 0755) < 0 && errno != EEXIST)
		return err_errno(err, "cannot make %s", path);
	return 0;
}

int maildir_open(struct maildir *maildir, const char *path, struct err *err)
{
	static const char *const parts[] = { "cur", "new", "tmp" };

	if (make_directory(AT_FDCWD, path, err) < 0)
		return -1;
	maildir->fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (maildir->fd < 0)
		return err_errno(err, "cannot open %s", path);
	for (int i = 0; i < 3; i++)
		if (make_directory(maildir->fd, parts[i], err) < 0)
			return err_prefix(err, "%s", path);
	return 0;
}

void maildir_close(struct maildir *maildir)
{
	if (maildir->fd >= 0)
		close(maildir->fd);
	maildir->fd = -1;
}

void maildir_begin(struct maildir *maildir, struct maildir_file *file)
{
	if (maildir->fd < 0)
		return;
	/* The first four letters are the directory: tmp/ is overwritten by new/ on delivery. */
	snprintf(file->name, sizeof(file->name), "tmp/%ld.P%dQ%lu.backend", (long)time(NULL),
		(int)getpid(), (unsigned long)++maildir->delivered);
	file->fd = openat(maildir->fd, file->name, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0644);
	file->is_open = true;
	file->is_broken = file->fd < 0;
}

void maildir_write(struct maildir_file *file, struct str bytes)
{
	while (file->is_open && !file->is_broken && bytes.n > 0) {
		ssize_t n = write(file->fd, bytes.p, bytes.n);
		file->is_broken = n <= 0;
		if (n > 0)
			bytes = str_from_pos(bytes, (size_t)n);
	}
}

bool maildir_commit(struct maildir *maildir, struct maildir_file *file)
{
	char target[sizeof(file->name) + 4];

	if (!file->is_open)
		return true;
	snprintf(target, sizeof(target), "new/%s", file->name + 4);
	if (file->is_broken || renameat(maildir->fd, file->name, maildir->fd, target) < 0) {
		maildir_abort(maildir, file);
		return false;
	}
	close(file->fd);
	file->is_open = false;
	return true;
}

void maildir_abort(struct maildir *maildir, struct maildir_file *file)
{
	if (!file->is_open)
		return;
	if (file->fd >= 0) {
		unlinkat(maildir->fd, file->name, 0);
		close(file->fd);
	}
	file->is_open = false;
}
