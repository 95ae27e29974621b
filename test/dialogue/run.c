/*
 * Runs conversations against the dialogue and the policy, without sockets:
 *
 *	dialogue_run FILE.smtp …
 *
 * Each is run whole, and again with the client's bytes coming in one at a time. The first thing
 * that does not hold ends the program and names file and line. script.h says what a script is.
 */
#include <stdio.h>
#include <stdlib.h>

#include "script.h"
#include "support/vectors.h"

int main(int argc, char **argv)
{
	for (int i = 1; i < argc; i++) {
		struct str text = vectors_read(argv[i]);

		script_run(argv[i], text, false);
		if (!script_is_once(text))
			script_run(argv[i], text, true);
		free((void *)(uintptr_t)text.p);
	}
	printf("%d scripts\n", argc - 1);
	return argc > 1 ? 0 : 1;
}
