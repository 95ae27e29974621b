/*
 * The rows of tables/connection.def as an array: what reset, trace and documentation walk.
 */
#ifndef CONNECTION_ROWS_H
#define CONNECTION_ROWS_H

#include <stddef.h>
#include <stdint.h>

/*
 * Types of rows: id, and what docs/connection.md calls it. The member is what trace.c's writer of
 * that type casts it to. A GRANT is cleared only as far as it rests on AUTH, a TRANSACTION is
 * freed; everything else is cleared to zero bytes, which is its default.
 */
#define ROW_TYPES(ROW) \
	ROW(ID, "text")                    /* char[] with a terminator */ \
	ROW(TEXT, "text")                  /* struct str */ \
	ROW(TEXT_OR_NULL, "text or null")  /* struct str, null when empty */ \
	ROW(WORD, "word or null")          /* const char * */ \
	ROW(BYTES, "text or null")         /* struct buf, null when empty */ \
	ROW(IP, "text")                    /* struct ipaddr */ \
	ROW(PORT, "number")                /* uint16_t */ \
	ROW(VERSION, "number")             /* uint8_t */ \
	ROW(NUMBER, "number")              /* uint64_t */ \
	ROW(BOOL, "bool")                  /* bool */ \
	ROW(TIME, "number")                /* struct timespec */ \
	ROW(COUNTS, "object")              /* struct rcpt_count */ \
	ROW(HOST_STATUS, "word")           /* enum host_status */ \
	ROW(PROXY_TYPE, "word")            /* any */ \
	ROW(PROXY_COMMAND, "word")         /* enum proxy_command */ \
	ROW(PROXY_FAMILY, "word")          /* enum proxy_family */ \
	ROW(PROXY_TEXT, "text or null")    /* struct str * */ \
	ROW(PROXY_TLS, "object or null")   /* struct proxy_tls * */ \
	ROW(PROXY_TLVS, "list of objects") /* struct proxy_info */ \
	ROW(TLS, "object or null")         /* struct tls_info * */ \
	ROW(AUTH, "object or null")        /* struct auth_info * */ \
	ROW(GRANT, "bool")                 /* bool */ \
	ROW(NOTES, "tree")                 /* struct notes */ \
	ROW(RESULTS, "tree")               /* struct results */ \
	ROW(TRANSACTION, "object or null") /* struct transaction * */

enum row_type {
#define ROW(id, word) ROW_##id,
	ROW_TYPES(ROW)
#undef ROW
		ROW_TYPE_COUNT
};

#define ROW_ALWAYS SIZE_MAX /* of `present`: no condition */

struct connection_row {
	const char *name;
	enum row_type type;
	size_t offset, size; /* of the member in struct connection */
	size_t present;      /* offset of the bool without which the value is null */
	unsigned resets;
	const char *known, *help;
};

extern const struct connection_row connection_rows[];
extern const size_t connection_row_count;

#endif
