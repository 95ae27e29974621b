#include "base/map_file.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/file_state.h"
#include "base/log.h"
#include "base/xalloc.h"

static int read_bytes(int fd, char *bytes, size_t size, size_t *got, struct err *err)
{
	while (*got < size) {
		ssize_t n = read(fd, bytes + *got, size - *got);
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

static int look_at_size(int fd, size_t *size, struct err *err)
{
	struct stat status;

	if (fstat(fd, &status) < 0)
		return err_errno(err, "cannot ask for its size");
	if (!S_ISREG(status.st_mode))
		return err_set(err, "not a file");
	if (status.st_size > MAP_TEXT_MAX)
		return err_set(err, "larger than %d bytes", MAP_TEXT_MAX);
	*size = (size_t)status.st_size;
	return 0;
}

/* Not blocking: it may be a pipe that nobody writes to. */
static char *read_whole(const char *path, size_t *got, struct err *err)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
	char *bytes = NULL;
	size_t size;

	*got = 0;
	if (fd < 0) {
		err_errno(err, "cannot open");
		return NULL;
	}
	if (look_at_size(fd, &size, err) == 0) {
		bytes = xcalloc(size + 1, 1);
		if (read_bytes(fd, bytes, size, got, err) < 0) {
			free(bytes);
			bytes = NULL;
		}
	}
	close(fd);
	return bytes;
}

static struct map *read_map(const struct map_file *file, struct err *err)
{
	size_t size;
	char *bytes = read_whole(file->path, &size, err);

	if (bytes == NULL) {
		err_prefix(err, "%s", file->path);
		return NULL;
	}
	struct map *map =
		map_parse(file->path, str_make(bytes, size), file->accepts, file->ctx, err);
	free(bytes);
	return map;
}

static bool is_emptied(const struct map_file *file, const struct map *fresh)
{
	return file->must_stay_filled && map_count(fresh) == 0 && map_count(file->map) > 0;
}

/* One that may take the place of what is in force; NULL with the reason. */
static struct map *read_next(const struct map_file *file, struct err *err)
{
	struct map *fresh = read_map(file, err);

	if (fresh != NULL && is_emptied(file, fresh)) {
		err_set(err, "%s: nothing is in it any more", file->path);
		map_free(&fresh);
	}
	return fresh;
}

int map_file_open(struct map_file *file, struct err *err)
{
	file->state = file_state_look(file->path);
	file->map = read_map(file, err);
	return file->map ? 0 : -1;
}

void map_file_close(struct map_file *file)
{
	map_free(&file->map);
}

bool map_file_refresh(struct map_file *file, bool always)
{
	struct err err = { "" };

	if (file->map == NULL)
		return false;
	struct stat now = file_state_look(file->path);
	if (file_state_is_same(&now, &file->state) && !always)
		return false;
	file->state = now;
	struct map *fresh = read_next(file, &err);
	if (fresh == NULL) {
		LOG(FILES_KEPT, log_str("name", file->name), log_text("kind", file->kind),
			log_text("error", err.text));
		return false;
	}
	map_free(&file->map);
	file->map = fresh;
	LOG(FILES_READ, log_str("name", file->name), log_text("kind", file->kind));
	return true;
}
