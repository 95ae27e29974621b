#include "base/file_state.h"

struct stat file_state_look(const char *path)
{
	struct stat now = { 0 };

	(void)stat(path, &now);
	return now;
}

bool file_state_is_same(const struct stat *a, const struct stat *b)
{
	return a->st_ino == b->st_ino && a->st_dev == b->st_dev && a->st_size == b->st_size &&
	       a->st_ctim.tv_sec == b->st_ctim.tv_sec && a->st_ctim.tv_nsec == b->st_ctim.tv_nsec;
}
