/*
 * The reference pages that the program prints of itself (`gatepost -d TOPIC`). The files under
 * docs/ and config/ are these pages; a test compares them.
 */
#ifndef APP_TOPICS_H
#define APP_TOPICS_H

#include <stdbool.h>

#include "base/buf.h"
#include "base/str.h"

/* Enough for each page. */
#define TOPIC_MAX (1024 * 1024)

/* False when there is no such topic. */
bool topic_print(struct str name, struct buf *out);

/* The names with what each is, one a line. */
void topic_list(struct buf *out);

#endif
