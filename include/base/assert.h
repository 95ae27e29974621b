/*
 * Assertions that stay in release builds. A failed one is a bug of gatepost, never a peer's
 * mistake; the process says where and aborts.
 */
#ifndef BASE_ASSERT_H
#define BASE_ASSERT_H

_Noreturn void assert_failed(const char *what, const char *file, int line);

#define ASSERT(what) ((what) ? (void)0 : assert_failed(#what, __FILE__, __LINE__))

#endif
