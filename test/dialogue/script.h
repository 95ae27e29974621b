/*
 * A conversation as text, and what becomes of it.
 *
 *	# what happened, or why this matters
 *	C: EHLO client.example.org
 *	S: 250-mx.example.net
 *	S: 250 …
 *
 * Behind the letter and one space stands the line. In lines of the client and of messages \r \n
 * \0 \\ \xHH and <<U*N>> (U, N times) are understood.
 *
 *	C: line      the client sends it, with CR LF
 *	C-: text     … without a line end
 *	C+: line     … with CR LF, in one segment with the next line of the client
 *	S: line      the next line that the client got; a "…" at its end: what begins so
 *	P: verdict   of the policy, for the next question: "next", "allow", "reject ID", "defer ID",
 *	             "hangup ID", each perhaps with "hold"; or "later", then
 *	V: verdict   … is given now
 *	B: reply     of the backend to what was forwarded last; "own ID [edge|backend]": what stands in
 *	             its place; "lost …": in the middle of the message
 *	F: what      was forwarded next: "recipient a@b", "data", "end", "abandon"
 *	M: line      the next line that the backend got of a message, canonical
 *	R: line      the next refusal that was reported: "RCPT 550 …"
 *	O: word by   outcome of the next transaction
 *	T: ms        the deadline, so far away (any without a number), passes; "none": there is none
 *	TLS: what    the handshake ends: "ok", "fail"
 *	A: answer    of the authentication service to what it was asked last: "challenge TEXT",
 *	             "ok USER", "refused", "malformed", "unavailable", "expired"
 *	Q: line      what it was asked next: "begin PLAIN <…>", "respond <…>", "cancel"
 *	X: what      eof, reset, start, wait MS (nothing passes in it), room N, full, drained, gone, stop ID, expire (of the policy),
 *	             pending (bytes in the kernel), tls-unavailable, auth started|no-mechanism|needs-tls|
 *	             not-here|not-available (how it begins), auth-lost
 *	=: name v    a value of the connection; "data_follows", "others_follow": of the recipients forwarded,
 *	             how many had DATA, or another command, behind them
 *	E: word      the session ended so
 *	SET name v   limits, timeouts, and: restricted, normalise, relay_domains, relaying, backend auto,
 *	             sender_login (a line; behind relay_domains), unlisted_senders, unauthenticated_senders,
 *	             offer, size, one_destination, room, auth (mechanisms), requires_auth, and secret:
 *	             what must be nowhere in current_line, last_response, refusals and trace; before the
 *	             session starts
 *	ONCE         byte by byte the conversation means something else: only run it whole
 *
 * A script without SET relay_domains says the verdicts; without P the policy has no objection.
 * Whatever the client got, and every outcome, must stand in the script; what was forwarded, message
 * lines, refusals and questions to the authentication service when the script has any of them.
 */
#ifndef TEST_DIALOGUE_SCRIPT_H
#define TEST_DIALOGUE_SCRIPT_H

#include <stdbool.h>

#include "base/str.h"

/* Ends the program with file and line when the script does not hold. */
void script_run(const char *path, struct str text, bool is_byte_by_byte);

/* Does it say ONCE? */
bool script_is_once(struct str text);

#endif
