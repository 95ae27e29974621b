/*
 * What happened, for the tests to read: a file of JSON lines, one an event, written before the
 * reply that it belongs to, so that whoever has seen the reply can read the record.
 *
 *   {"event":"connection","id":1,"peer":"127.0.0.1:4711","local":"…","proxy":null}
 *       proxy: {"version","command","family","source","destination","hex","tlvs":[{"type","hex"}]},
 *       with "error" when the header was bad
 *   {"event":"command","id":1,"line":"EHLO x"}     without its line end; "control":true when a
 *       lone CR, lone LF or NUL is inside; "end" when the line end is not CR LF; "secret":true when the
 *       response of an AUTH was left out. Further lines of its exchange are not recorded
 *   {"event":"violation","id":1,"what":"…"}        bytes that came before they were allowed to
 *   {"event":"xclient","id":1,"attributes":{"ADDR":"192.0.2.1",…}}    one that was accepted
 *   {"event":"auth","id":1,"mechanism","user","outcome"}    ok, refused, malformed, cancelled, fault
 *   {"event":"message","id":1,"mail_from","mail_params","rcpts":[{"address","params"}],"size",
 *       "sha256","bare_cr","bare_lf","nul","eight_bit","framing":"data","body":"base64",
 *       "xclient":{…},"xforward":{…},"auth":{"mechanism","user"}}
 *       rcpts: in LMTP with "delivered", a bool; framing: "data" or "bdat", then with "chunks"; xclient: the last one's attributes,
 *       xforward: all of this transaction's, auth: who was authenticated; null: none
 *   {"event":"fault","id":1,"fault":"mail:stall"}     as it strikes; a delay when it begins
 *   {"event":"end","id":1,"how":"quit","phase":"command","messages":1}
 *
 * Attributes are decoded, their names in upper case. Strings hold one code point for each byte (latin-1): nothing is lost, nothing is guessed.
 */
#ifndef BACKEND_RECORD_H
#define BACKEND_RECORD_H

#include <stdbool.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/err.h"
#include "base/str.h"

struct proxy_header;
struct transaction;

struct record {
	int fd; /* -1: off */
	bool with_body;
	struct buf line;
};

void record_init(struct record *record);
int record_open(struct record *record, const char *path, bool with_body, struct err *err);
void record_close(struct record *record);

static inline bool record_is_on(const struct record *record)
{
	return record->fd >= 0;
}

/* All of these do nothing when the record is off. `header` may be NULL; `raw` are its bytes. */
void record_connection(struct record *record, uint64_t id, int fd,
	const struct proxy_header *header, struct str raw);
/* Of `line` only the first `visible` bytes are shown. */
void record_command(
	struct record *record, uint64_t id, struct str line, size_t visible, struct str end);
void record_violation(struct record *record, uint64_t id, const char *what);
void record_fault(struct record *record, uint64_t id, const char *text);
void record_auth(struct record *record, uint64_t id, const char *mechanism, struct str user,
	const char *outcome);
void record_xclient(struct record *record, uint64_t id, struct str attributes);
void record_message(struct record *record, uint64_t id, const struct transaction *transaction);
void record_end(
	struct record *record, uint64_t id, const char *how, const char *phase, uint64_t messages);

#endif
