/*
 * gatepostctl(8): what an administrator does beside the running program. For now: lines for a file
 * of users.
 */
#include <errno.h>
#include <getopt.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sysexits.h>
#include <termios.h>
#include <unistd.h>

#include "auth/password.h"
#include "auth/sasl.h"
#include "auth/secret.h"
#include "base/err.h"
#include "base/str.h"

static const char usage[] =
	"usage: gatepostctl hash-password [--method METHOD] [NAME]\n"
	"       gatepostctl -v | -h\n"
	"Prints NAME:HASH, a line for the file of users (without NAME: the hash alone).\n"
	"METHOD is yescrypt (the default), bcrypt, sha512, or scram, which SCRAM-SHA-256 needs.\n"
	"The password is asked for twice, or is the first line of the standard input.\n";

/* One more than there may be, so that a longer one is seen; and its line end. */
struct password {
	char bytes[SASL_PASSWORD_MAX + 2];
	size_t n;
};

/* ---- Reading -------------------------------------------------------------------------------- */

#define INTERRUPT '\003' /* ^C */

/* Byte by byte, so that nothing of it is in a buffer of stdio. -1: no line, or it is too long. */
static int read_line(struct password *password, struct err *err)
{
	char c;

	password->n = 0;
	for (;;) {
		ssize_t n = read(STDIN_FILENO, &c, 1);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return err_errno(err, "cannot read the password");
		if (n == 0 && password->n == 0)
			return err_set(err, "no password was given");
		if (n == 0 || c == '\n')
			return 0;
		if (c == INTERRUPT)
			return err_set(err, "interrupted");
		if (password->n == sizeof(password->bytes))
			return err_set(
				err, "the password is longer than %d bytes", SASL_PASSWORD_MAX);
		password->bytes[password->n++] = c;
	}
}

static struct str view(const struct password *password)
{
	return str_make(password->bytes, password->n);
}

/* ^C comes as a character that ends the line, not as a signal: the terminal is always restored. */
static int read_silently(const char *prompt, struct password *password, struct err *err)
{
	struct termios before, silent;

	if (tcgetattr(STDIN_FILENO, &before) < 0)
		return err_errno(err, "cannot ask for the terminal's settings");
	silent = before;
	silent.c_lflag &= ~(tcflag_t)(ECHO | ISIG);
	silent.c_cc[VEOL] = INTERRUPT;
	if (tcsetattr(STDIN_FILENO, TCSAFLUSH, &silent) < 0)
		return err_errno(err, "cannot switch the echo off");
	fputs(prompt, stderr);
	int rc = read_line(password, err);
	(void)tcsetattr(STDIN_FILENO, TCSAFLUSH, &before);
	fputs("\n", stderr);
	return rc;
}

static int read_twice(struct password *password, struct err *err)
{
	struct password again;

	int rc = read_silently("Password: ", password, err);
	if (rc == 0)
		rc = read_silently("Again: ", &again, err);
	if (rc == 0 && !str_eq(view(password), view(&again)))
		rc = err_set(err, "the two are not the same");
	secret_wipe(&again, sizeof(again));
	return rc;
}

/* ---- Commands ------------------------------------------------------------------------------- */

static int check_name(struct str name, struct err *err)
{
	bool is_name = name.n > 0 && name.n <= SASL_NAME_MAX && sasl_is_text(name) &&
		       str_find(name, ':') == name.n && name.p[0] != '#' && name.p[0] != ' ' &&
		       name.p[name.n - 1] != ' ';

	for (size_t i = 0; i < name.n; i++)
		is_name &= !ascii_is_control(name.p[i]);
	if (!is_name)
		return err_set(err,
			"NAME must be 1 to %d bytes of UTF-8 without colons, control characters, "
			"space around it and # in front",
			SASL_NAME_MAX);
	return 0;
}

static bool is_ascii(struct str s)
{
	for (size_t i = 0; i < s.n; i++)
		if ((unsigned char)s.p[i] >= 0x80)
			return false;
	return true;
}

static int make_hash(enum password_method method, char hash[PASSWORD_HASH_MAX + 1], struct err *err)
{
	struct password password;
	bool is_terminal = isatty(STDIN_FILENO);

	int rc = is_terminal ? read_twice(&password, err) : read_line(&password, err);
	if (rc == 0)
		rc = password_hash_make(method, view(&password), hash, err);
	if (rc == 0 && method == PASSWORD_SCRAM && !is_ascii(view(&password)))
		fputs("gatepostctl: the password is not ASCII; it is taken as it is, and clients "
		      "may "
		      "normalise theirs\n",
			stderr);
	secret_wipe(&password, sizeof(password));
	return rc;
}

static int hash_password(enum password_method method, const char *name)
{
	char hash[PASSWORD_HASH_MAX + 1];
	struct err err;

	if ((name != NULL && check_name(str_from(name), &err) < 0) ||
		make_hash(method, hash, &err) < 0) {
		fprintf(stderr, "gatepostctl: %s\n", err.text);
		return EX_DATAERR;
	}
	printf("%s%s%s\n", name ? name : "", name ? ":" : "", hash);
	return fflush(stdout) == 0 ? EX_OK : EX_IOERR;
}

static int run_hash_password(int argc, char **argv)
{
	static const struct option options[] = { { "method", required_argument, NULL, 'm' },
		{ 0 } };
	enum password_method method = PASSWORD_YESCRYPT;
	int option;

	while ((option = getopt_long(argc, argv, "m:", options, NULL)) != -1) {
		if (option != 'm' || !password_method_find(str_from(optarg), &method)) {
			fputs(usage, stderr);
			return EX_USAGE;
		}
	}
	if (argc - optind > 1) {
		fputs(usage, stderr);
		return EX_USAGE;
	}
	return hash_password(method, argv[optind]);
}

/* Nothing of what is typed here ends in a core file. */
static void forbid_cores(void)
{
	const struct rlimit none = { 0, 0 };

	(void)prctl(PR_SET_DUMPABLE, 0);
	(void)setrlimit(RLIMIT_CORE, &none);
}

int main(int argc, char **argv)
{
	const char *command = argc > 1 ? argv[1] : "";

	forbid_cores();
	if (strcmp(command, "hash-password") == 0)
		return run_hash_password(argc - 1, argv + 1);
	if (strcmp(command, "-v") == 0) {
		printf("gatepostctl %s\n", GATEPOST_VERSION);
		return EX_OK;
	}
	bool is_help = strcmp(command, "-h") == 0;
	fputs(usage, is_help ? stdout : stderr);
	return is_help ? EX_OK : EX_USAGE;
}
