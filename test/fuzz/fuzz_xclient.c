/*
 * XCLIENT and XFORWARD with any bytes in any of the texts: two bytes for the attributes announced, one
 * of settings, then the texts, one a line (LF; the last takes the rest, LF and all). What must hold:
 * each command is one line of at most 512 bytes of printable ASCII, values have 1-255 bytes, nothing is
 * said that was not announced or was said before, and there is an end of it.
 */
#include <stdint.h>

#include "base/assert.h"
#include "proto/smtp_params.h"
#include "proto/xclient.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static unsigned check_value(struct str attribute, bool is_xclient)
{
	struct str name = str_cut(&attribute, '=');
	unsigned bit =
		is_xclient ? xclient_attributes_parse(name) : xforward_attributes_parse(name);

	ASSERT(bit != 0 && attribute.n > 0 && attribute.n <= 255 && smtp_is_xtext(attribute));
	return bit;
}

/* The set of attributes that a line says. */
static unsigned check_line(struct str line, bool is_xclient)
{
	unsigned set = 0;

	ASSERT(line.n <= XCLIENT_LINE_MAX && line.n > 12);
	ASSERT(line.p[line.n - 2] == '\r' && line.p[line.n - 1] == '\n');
	line.n -= 2;
	for (size_t i = 0; i < line.n; i++)
		ASSERT(line.p[i] >= ' ' && line.p[i] <= '~');
	ASSERT(str_eq(str_cut(&line, ' '), is_xclient ? STR("XCLIENT") : STR("XFORWARD")));
	while (line.n > 0) {
		unsigned bit = check_value(str_cut(&line, ' '), is_xclient);
		ASSERT(!(set & bit));
		set |= bit;
	}
	return set;
}

static void check_commands(
	const struct xclient_identity *identity, unsigned announced, bool is_xclient)
{
	char memory[XCLIENT_LINE_MAX];
	unsigned due = is_xclient ? xclient_attributes(identity, announced) : announced;

	ASSERT(!(due & ~announced));
	for (int commands = 0; due != 0; commands++) {
		struct buf out = buf_on(memory, sizeof(memory));
		unsigned rest = is_xclient ? xclient_print(identity, due, &out)
					   : xforward_print(identity, due, &out);
		unsigned set = check_line(buf_view(&out), is_xclient);
		ASSERT(!(set & ~due) && !(rest & set) && !(rest & ~due) && commands < 4);
		ASSERT((due & ~(unsigned)XCLIENT_HELO & ~set) == (rest & ~(unsigned)XCLIENT_HELO));
		/* What a later one would make the server forget, or refuse, is in the last. */
		ASSERT(!is_xclient || rest == 0 ||
			!(set & (XCLIENT_ADDR | XCLIENT_LOGIN | XCLIENT_PROTO)));
		due = rest;
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct str rest = str_make((const char *)data, size);
	unsigned xclient_all = xclient_attributes_parse(
		STR("NAME REVERSE_NAME ADDR PORT DESTADDR DESTPORT PROTO HELO LOGIN SESSION"));
	unsigned xforward_all =
		xforward_attributes_parse(STR("NAME ADDR PORT PROTO HELO IDENT SOURCE"));

	ASSERT(!(xclient_attributes_parse(rest) & ~xclient_all));
	ASSERT(!(xforward_attributes_parse(rest) & ~xforward_all));
	if (size < 3)
		return 0;
	unsigned announced = data[0] | (unsigned)data[1] << 8;
	struct endpoint address = { { { [0] = 0x20, [15] = data[2] } }, data[2] };
	struct xclient_identity identity = {
		.name_failed = data[2] & 1,
		.reverse_name_failed = data[2] & 2,
		.address = data[2] & 4 ? &address : NULL,
		.destination = data[2] & 8 ? &address : NULL,
		.protocol = data[2] % 3,
		.source = data[2] / 3 % 3,
	};
	rest = str_from_pos(rest, 3);
	identity.name = str_cut(&rest, '\n');
	identity.reverse_name = str_cut(&rest, '\n');
	identity.login = str_cut(&rest, '\n');
	identity.session = str_cut(&rest, '\n');
	identity.ident = str_cut(&rest, '\n');
	identity.hello = rest;
	check_commands(&identity, announced & xclient_all, true);
	check_commands(&identity, announced & xforward_all, false);
	return 0;
}
