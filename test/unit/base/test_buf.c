#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdlib.h>
#include <string.h>

#include "base/block.h"
#include "base/buf.h"

static void assert_holds(const struct buf *buf, struct str want)
{
	struct str held = buf_view(buf);

	assert_int_equal(buf_used(buf), want.n);
	assert_int_equal(held.n, want.n);
	assert_memory_equal(held.p, want.p, want.n);
}

static void an_idle_one_has_no_memory(void **state)
{
	struct buf buf;

	(void)state;
	buf_init(&buf, 10);
	assert_null(buf.data);
	assert_int_equal(buf_used(&buf), 0);
	assert_int_equal(buf_room(&buf), 10);
	assert_non_null(buf_view(&buf).p);
	assert_true(buf_write(&buf, str_make(NULL, 0)));
	buf_consume(&buf, 0);
	buf_truncate(&buf, 0);
	assert_null(buf.data);
	buf_free(&buf);
}

static void queues(void **state)
{
	struct buf buf;

	(void)state;
	buf_init(&buf, 10);
	assert_true(buf_write(&buf, STR("abc")));
	assert_true(buf_printf(&buf, "%d", 45));
	assert_holds(&buf, STR("abc45"));
	buf_consume(&buf, 2);
	assert_holds(&buf, STR("c45"));
	buf_truncate(&buf, 2);
	assert_holds(&buf, STR("c4"));
	assert_int_equal(buf_room(&buf), 8);
	buf_free(&buf);
	assert_int_equal(buf.max, 10);
}

static void in_memory_of_the_caller(void **state)
{
	char memory[8];
	struct buf buf = buf_on(memory, sizeof(memory));

	(void)state;
	assert_true(buf_write(&buf, STR("abcd")));
	assert_false(buf_write(&buf, STR("efghi")));
	assert_true(buf_printf(&buf, "%d", 4567));
	assert_int_equal(buf_room(&buf), 0);
	assert_memory_equal(memory, "abcd4567", 8);
	buf_truncate(&buf, 7);
	buf_consume(&buf, 2);
	assert_true(buf_write(&buf, STR("xyz")));
	assert_holds(&buf, STR("cd456xyz"));
	assert_ptr_equal(buf.data, memory);
}

static void refuses_whole_what_does_not_fit(void **state)
{
	struct buf buf;

	(void)state;
	buf_init(&buf, 5);
	assert_true(buf_write(&buf, STR("abc")));
	assert_false(buf_write(&buf, STR("def")));
	assert_false(buf_printf(&buf, "%s", "def"));
	assert_holds(&buf, STR("abc"));
	assert_true(buf_write(&buf, STR("de")));
	assert_holds(&buf, STR("abcde"));
	assert_int_equal(buf_room(&buf), 0);
	assert_false(buf_write(&buf, STR("f")));
	assert_true(buf_write(&buf, STR("")));
	buf_consume(&buf, 1);
	assert_true(buf_write(&buf, STR("f")));
	assert_holds(&buf, STR("bcdef"));
	buf_free(&buf);
}

static void a_maximum_of_zero_takes_nothing(void **state)
{
	struct buf buf;

	(void)state;
	buf_init(&buf, 0);
	assert_false(buf_write(&buf, STR("a")));
	assert_true(buf_write(&buf, STR("")));
	buf_free(&buf);
}

static void memory_never_exceeds_the_maximum(void **state)
{
	struct buf buf;

	(void)state;
	buf_init(&buf, 1000);
	for (int i = 0; i < 1000; i++)
		assert_true(buf_write(&buf, STR("x")));
	assert_false(buf_write(&buf, STR("x")));
	assert_true(buf.capacity <= 1000);
	buf_free(&buf);
}

/* What is kept for long is written in one piece. */
static void the_first_memory_is_no_larger_than_needed(void **state)
{
	struct buf buf;
	char text[1000] = { 0 };

	(void)state;
	buf_init(&buf, 65536);
	for (size_t n = 1; n <= sizeof(text); n++) {
		assert_true(buf_write(&buf, str_make(text, n)));
		assert_int_equal(buf.capacity, block_size(n));
		buf_free(&buf);
	}
}

static void printf_longer_than_its_own_room(void **state)
{
	struct buf buf;
	char text[2000];

	(void)state;
	memset(text, 'y', sizeof(text) - 1);
	text[sizeof(text) - 1] = '\0';
	buf_init(&buf, 4000);
	/* Around the length at which the text leaves the stack. */
	for (int n = 510; n <= 514; n++) {
		assert_true(buf_printf(&buf, "%.*s", n, text));
		assert_holds(&buf, str_make(text, (size_t)n));
		buf_truncate(&buf, 0);
	}
	assert_true(buf_printf(&buf, "%s", text));
	assert_int_equal(buf_used(&buf), sizeof(text) - 1);
	buf_free(&buf);
}

static void release_keeps_what_is_held(void **state)
{
	struct buf buf;

	(void)state;
	buf_init(&buf, 10);
	buf_write(&buf, STR("ab"));
	buf_release(&buf);
	assert_holds(&buf, STR("ab"));
	buf_consume(&buf, 2);
	buf_release(&buf);
	assert_null(buf.data);
	assert_true(buf_write(&buf, STR("cd")));
	assert_holds(&buf, STR("cd"));
	buf_free(&buf);
}

/* Random writes, consumes and truncations beside the plainest model there is. */
static void behaves_as_its_model(void **state)
{
	char model[300];
	size_t held = 0;
	struct buf buf;

	(void)state;
	srandom(7);
	buf_init(&buf, sizeof(model));
	for (int step = 0; step < 20000; step++) {
		char bytes[200];
		size_t n = (size_t)random() % (sizeof(bytes) + 1);

		memset(bytes, 'a' + step % 26, sizeof(bytes));
		switch (random() % 4) {
		case 0:
			n = held ? n % (held + 1) : 0;
			buf_consume(&buf, n);
			memmove(model, model + n, held - n);
			held -= n;
			break;
		case 1:
			held = held ? n % (held + 1) : 0;
			buf_truncate(&buf, held);
			break;
		case 2:
			buf_release(&buf);
			break;
		default:
			assert_int_equal(
				buf_write(&buf, str_make(bytes, n)), n <= sizeof(model) - held);
			if (n > sizeof(model) - held)
				break;
			memcpy(model + held, bytes, n);
			held += n;
		}
		assert_holds(&buf, str_make(model, held));
		assert_int_equal(buf_room(&buf), sizeof(model) - held);
	}
	buf_free(&buf);
}

/* What is behind the bytes that are held, too. */
static bool is_in(const struct buf *buf, char c)
{
	return buf->data != NULL && memchr(buf->data, c, buf->capacity) != NULL;
}

/* The memory that a buffer outgrew, or gave back, cannot be looked at here: the tests of the whole
 * look through that of the program. */
static void a_secret_one_leaves_nothing(void **state)
{
	struct buf buf;

	(void)state;
	buf_init(&buf, 300);
	buf_set_secret(&buf);
	buf_write(&buf, STR("aabbccdd"));
	buf_consume(&buf, 2);
	assert_false(is_in(&buf, 'a'));
	buf_truncate(&buf, 4);
	assert_false(is_in(&buf, 'd'));
	assert_holds(&buf, STR("bbcc"));
	buf_consume(&buf, 2);
	/* Moved to the front, and then into larger memory. */
	for (int i = 0; i < 251; i++)
		buf_write(&buf, STR("e"));
	assert_ptr_equal(memchr(buf.data, 'c', buf.capacity), buf.data);
	assert_int_equal(buf.start, 0);
	for (int i = 0; i < 47; i++)
		buf_write(&buf, STR("f"));
	assert_int_equal(buf_used(&buf), 300);
	assert_false(buf_write(&buf, STR("g")));
	buf_consume(&buf, 300);
	assert_false(is_in(&buf, 'c') || is_in(&buf, 'e') || is_in(&buf, 'f'));
	buf_free(&buf);
	assert_true(buf.is_secret);
	assert_int_equal(buf.max, 300);
}

static void memory_is_foretold(void **state)
{
	static const size_t sizes[] = { 0, 1, 63, 1, 64, 1, 500, 700, 3000, 669 };
	char bytes[3000] = "";
	struct buf buf;

	(void)state;
	buf_init(&buf, 5000);
	assert_int_equal(buf_memory(&buf), 0);
	for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
		size_t foretold = buf_memory_with(&buf, sizes[i]);
		assert_true(buf_write(&buf, str_make(bytes, sizes[i])));
		assert_int_equal(buf_memory(&buf), foretold);
		buf_consume(&buf, buf_used(&buf) / 7);
	}
	buf_free(&buf);
	assert_int_equal(buf_memory(&buf), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(an_idle_one_has_no_memory),
		cmocka_unit_test(queues),
		cmocka_unit_test(in_memory_of_the_caller),
		cmocka_unit_test(refuses_whole_what_does_not_fit),
		cmocka_unit_test(a_maximum_of_zero_takes_nothing),
		cmocka_unit_test(memory_never_exceeds_the_maximum),
		cmocka_unit_test(memory_is_foretold),
		cmocka_unit_test(the_first_memory_is_no_larger_than_needed),
		cmocka_unit_test(printf_longer_than_its_own_room),
		cmocka_unit_test(release_keeps_what_is_held),
		cmocka_unit_test(a_secret_one_leaves_nothing),
		cmocka_unit_test(behaves_as_its_model),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
