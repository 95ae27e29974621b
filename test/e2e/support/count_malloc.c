/*
 * For LD_PRELOAD: counts what a program takes of malloc(3), in the file that COUNT_MALLOC names, as one
 * number of eight bytes that others may read at any time.
 */
#include <fcntl.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

/* What is beneath the functions of glibc that are replaced here. */
void *__libc_malloc(size_t size);
void *__libc_calloc(size_t count, size_t size);
void *__libc_realloc(void *old, size_t size);

static uint64_t before; /* until the file is there */
static volatile uint64_t *taken = &before;

__attribute__((constructor)) static void open_file(void)
{
	const char *path = getenv("COUNT_MALLOC");
	int fd = path ? open(path, O_RDWR | O_CLOEXEC) : -1;

	if (fd < 0)
		return;
	void *shared = mmap(NULL, sizeof(*taken), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	close(fd);
	if (shared != MAP_FAILED)
		taken = shared;
}

void *malloc(size_t size)
{
	++*taken;
	return __libc_malloc(size);
}

void *calloc(size_t count, size_t size)
{
	++*taken;
	return __libc_calloc(count, size);
}

void *realloc(void *old, size_t size)
{
	++*taken;
	return __libc_realloc(old, size);
}
