/*
 * Runs a fuzz target over files, without libFuzzer: the corpus as an ordinary test.
 *
 *	fuzz_<codec> FILE-OR-FOLDER …
 *
 * Each file is given as it is and once more without its last byte.
 */
#include <dirent.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define FILE_MAX (1 << 20)

static size_t files_run;

/* In memory of exactly its size, so that the sanitizer sees a read behind it. */
static void run_bytes(const uint8_t *bytes, size_t size)
{
	uint8_t *exact = malloc(size ? size : 1);

	if (!exact)
		abort();
	memcpy(exact, bytes, size);
	LLVMFuzzerTestOneInput(exact, size);
	free(exact);
}

static int run_file(const char *path)
{
	static uint8_t bytes[FILE_MAX];
	FILE *file = fopen(path, "rb");

	if (!file) {
		perror(path);
		return -1;
	}
	size_t size = fread(bytes, 1, sizeof(bytes), file);
	fclose(file);
	run_bytes(bytes, size);
	if (size > 0)
		run_bytes(bytes, size - 1);
	files_run++;
	return 0;
}

static int run_folder(const char *path)
{
	DIR *folder = opendir(path);
	int rc = 0;

	if (!folder) {
		perror(path);
		return -1;
	}
	for (struct dirent *entry = readdir(folder); entry; entry = readdir(folder)) {
		char file[4096];

		if (entry->d_name[0] == '.')
			continue;
		snprintf(file, sizeof(file), "%s/%s", path, entry->d_name);
		if (run_file(file) < 0)
			rc = -1;
	}
	closedir(folder);
	return rc;
}

int main(int argc, char **argv)
{
	int rc = 0;

	for (int i = 1; i < argc; i++) {
		struct stat st;
		if (stat(argv[i], &st) < 0) {
			perror(argv[i]);
			return 1;
		}
		if ((S_ISDIR(st.st_mode) ? run_folder(argv[i]) : run_file(argv[i])) < 0)
			rc = 1;
	}
	printf("%zu files\n", files_run);
	/* A corpus that is not found must not pass for one without findings. */
	return files_run == 0 ? 1 : rc;
}
