#include "base/crc32c.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

static const struct {
	struct str bytes;
	uint32_t crc;
} rows[] = {
	{ STR_INIT(""), 0 },
	{ STR_INIT("123456789"), 0xe3069283 },
	/* RFC 3720 appendix B.4 */
	{ STR_INIT("\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0"),
		0x8a9136aa },
	{ STR_INIT("\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff"
		   "\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff"),
		0x62a8ab43 },
	{ STR_INIT("\x00\x01\x02\x03\x04\x05\x06\x07\x08\x09\x0a\x0b\x0c\x0d\x0e\x0f"
		   "\x10\x11\x12\x13\x14\x15\x16\x17\x18\x19\x1a\x1b\x1c\x1d\x1e\x1f"),
		0x46dd794e },
};

static void test_known_sums(void **state)
{
	(void)state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(*rows); i++)
		assert_int_equal(crc32c_add(0, rows[i].bytes), rows[i].crc);
}

static void test_in_two_pieces(void **state)
{
	(void)state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(*rows); i++) {
		for (size_t at = 0; at <= rows[i].bytes.n; at++) {
			uint32_t first = crc32c_add(0, str_range(rows[i].bytes, 0, at));
			struct str rest = str_from_pos(rows[i].bytes, at);
			assert_int_equal(crc32c_add(first, rest), rows[i].crc);
		}
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_known_sums),
		cmocka_unit_test(test_in_two_pieces),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
