/*
 * What went wrong in the world outside (a refused connect, an unreadable file), as text for
 * people. Filled at the lowest place that knows, prefixed on the way up. Functions that can
 * fail so return 0 or -1 and take a struct err * last; NULL is allowed when nobody asks.
 */
#ifndef BASE_ERR_H
#define BASE_ERR_H

#define ERR_TEXT_MAX 512

struct err {
	char text[ERR_TEXT_MAX];
};

/* Sets the text, cut to ERR_TEXT_MAX - 1 bytes. Returns -1, so that callers can return it. */
int err_set(struct err *err, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* As err_set, followed by ": " and the description of errno. */
int err_errno(struct err *err, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* Puts "prefix: " in front of the text that is there. Returns -1. */
int err_prefix(struct err *err, const char *format, ...) __attribute__((format(printf, 2, 3)));

#endif
