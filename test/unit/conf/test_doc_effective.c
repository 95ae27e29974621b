#include "conf/schema_doc.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "sample.h"

static void read_good(struct str text, struct sample *sample)
{
	struct buf report;

	buf_init(&report, 1 << 20);
	int rc = conf_read_text("f", text, sample_table, sample, sizeof(*sample), &report);
	if (rc < 0)
		print_error("%.*s\nof:\n%.*s", STR_ARG(buf_view(&report)), STR_ARG(text));
	assert_int_equal(rc, 0);
	buf_free(&report);
}

static void assert_prints(const char *text, const char *expected)
{
	struct sample sample;
	struct buf out;

	read_good(str_from(text), &sample);
	buf_init(&out, 1 << 20);
	conf_doc_effective(sample_table, &sample, &out);
	char *printed = str_dup(buf_view(&out));
	assert_string_equal(printed, expected);
	free(printed);
	buf_free(&out);
	conf_free(sample_table, &sample, sizeof(sample));
}

static void test_page(void **state)
{
	(void)state;
	assert_prints("hostname: mx.example.com\ngreeting: 'no'\nsecret: sesame\n"
		      "listeners: [{bind: ['0.0.0.0:25', '[::]:25'], tls: {password: x}}, {bind: "
		      "'0.0.0.0:26', name: '2', tls: {mode: starttls, certificate: '$$x y'}}]\n"
		      "routes: [{backend: a}, {backend: b, weight: 3, domains: .de}]\nhome: "
		      "2001:db8::/32\n"
		      "metrics: '[::1]:9125'\nlimits: {pause: 90s, deadline: 5m}\nquiet: yes\n",
		"hostname: mx.example.com\n"
		"greeting: \"no\"\n"
		"quiet: true\n"
		"workers: auto # default\n"
		"listeners:\n"
		"  - name: mx # default\n"
		"    bind: [\"0.0.0.0:25\", \"[::]:25\"]\n"
		"    trusted_proxies: [127.0.0.0/8, \"::1/128\"] # default\n"
		"    tls:\n"
		"      mode: \"off\" # default\n"
		"      # certificate is not set\n"
		"      password: \"***\"\n"
		"  - name: \"2\"\n"
		"    bind: [\"0.0.0.0:26\"]\n"
		"    trusted_proxies: [127.0.0.0/8, \"::1/128\"] # default\n"
		"    tls:\n"
		"      mode: starttls\n"
		"      certificate: \"$$x y\"\n"
		"      # password is not set\n"
		"domains: [] # default\n"
		"modes: [\"off\", implicit] # default\n"
		"home: \"2001:db8::/32\"\n"
		"metrics: \"[::1]:9125\"\n"
		"plan: [limits, {client_acl: [\"198.51.100.0/24\"]}] # default\n"
		"limits:\n"
		"  message_size: 25MB # default\n"
		"  recipients: 100 # default\n"
		"  deadline: 5m # default\n"
		"  pause: 90s\n"
		"routes:\n"
		"  - domains: [] # default\n"
		"    backend: a\n"
		"    # weight is not set\n"
		"  - domains: [.de]\n"
		"    backend: b\n"
		"    weight: 3\n"
		"secret: \"***\"\n");
}

/* The same in one line, without what is not set. */
static void test_flow(void **state)
{
	struct sample sample;
	struct buf out;

	(void)state;
	read_good(
		STR("hostname: a.example\nlisteners: [{bind: '0.0.0.0:25', tls: {password: x}}]\n"),
		&sample);
	buf_init(&out, 4096);
	conf_print_map(sample_listener_table, sample.listeners.items, &out);
	assert_true(str_eq(buf_view(&out), STR("{name: mx, bind: [\"0.0.0.0:25\"], "
					       "trusted_proxies: [127.0.0.0/8, \"::1/128\"],"
					       " tls: {mode: \"off\", password: \"***\"}}")));
	buf_free(&out);
	conf_free(sample_table, &sample, sizeof(sample));
}

/* ---- Whatever was read is printed so that it reads back the same ---- */

static uint64_t seed = 1;

static uint64_t draw(uint64_t below)
{
	seed = seed * 6364136223846793005u + 1442695040888963407u;
	return (seed >> 33) % below;
}

static const char *const words[] = { "a", "no", "TRUE", "null", "~", "''", "\"a b\"", "'#x'",
	"'a: b'", "$$", "$${HOME}", "a$b", "'\"'", "'it''s'", "'\\'", "\"\\\\n\"", "h\xc3\xa9",
	"'- a'", "'[x]'", "'{'", "1e3", "0x10", "012", "1_000", ".5", ".inf", "'-'", "'@x'", "'%'",
	"'*a'", "'&a'", "'!'", "'|'", "2001-01-01", "'a,b'", "=", "/etc/x", "' x '", "\"\\xa0\"",
	"'a  b'" };
static const char *const domains[] = { "a.example", ".example.org", "x", "xn--bcher-kva.example",
	"_dmarc.example", "a-b.example" };
static const char *const networks[] = { "10.0.0.0/8", "'2001:db8::/32'", "192.0.2.1", "0.0.0.0/0",
	"'::/0'" };
static const char *const endpoints[] = { "'0.0.0.0:25'", "'[::]:25'", "'192.0.2.1:65535'" };
static const char *const durations[] = { "0", "1ms", "999ms", "90s", "60s", "25h", "7d", "3601s" };
static const char *const sizes[] = { "1024", "1025B", "3KB", "25MB", "1536MB", "2GB" };
static const char *const steps[] = { "a", "{acl: [10.0.0.0/8, '::1']}", "{acl: 192.0.2.0/24}" };

#define PICK(array) array[draw(sizeof(array) / sizeof(array[0]))]

static void write_list(struct buf *out, const char *const *from, size_t count)
{
	buf_write(out, STR("["));
	for (uint64_t n = draw(4); n > 0; n--)
		buf_printf(out, "%s,", from[draw(count)]);
	buf_write(out, STR("]\n"));
}

#define WRITE_LIST(out, array) write_list(out, array, sizeof(array) / sizeof(array[0]))

static void write_listener(struct buf *out)
{
	buf_printf(out, "- bind: %s\n", PICK(endpoints));
	if (draw(2))
		buf_printf(out, "  name: %s\n", PICK(words));
	if (draw(2)) {
		buf_printf(out, "  trusted_proxies: ");
		WRITE_LIST(out, networks);
	}
	if (draw(2))
		buf_printf(out, "  tls: {mode: %s, certificate: %s}\n",
			draw(2) ? "implicit" : "off", draw(2) ? "/a" : "'$$ \"'");
}

static void write_random(struct buf *out)
{
	buf_printf(out, "hostname: %s\nlisteners:\n", PICK(domains));
	for (uint64_t n = 1 + draw(3); n > 0; n--)
		write_listener(out);
	if (draw(2))
		buf_printf(out, "greeting: %s\n", PICK(words));
	if (draw(2))
		buf_printf(out, "quiet: %s\n", draw(2) ? "yes" : "off");
	if (draw(2))
		buf_printf(out, "workers: %s\n", draw(2) ? "7" : "auto");
	if (draw(2)) {
		buf_printf(out, "domains: ");
		WRITE_LIST(out, domains);
	}
	if (draw(2)) {
		buf_printf(out, "modes: ");
		write_list(out, sample_modes, 3);
	}
	if (draw(2))
		buf_printf(out, "home: %s\n", PICK(networks));
	if (draw(2))
		buf_printf(out, "metrics: %s\n", PICK(endpoints));
	if (draw(2)) {
		buf_printf(out, "plan: ");
		WRITE_LIST(out, steps);
	}
	if (draw(2))
		buf_printf(out, "limits: {message_size: %s, pause: %s}\n", PICK(sizes),
			PICK(durations));
	if (draw(2))
		buf_printf(out, "routes: [{backend: %s%s}]\n", PICK(domains),
			draw(2) ? ", weight: 2" : "");
}

static void assert_same_str(struct str a, struct str b)
{
	if (!str_eq(a, b))
		fail_msg("\"%.*s\" became \"%.*s\"", STR_ARG(a), STR_ARG(b));
}

static void assert_same_strs(const struct conf_list *a, const struct conf_list *b)
{
	assert_int_equal(a->count, b->count);
	for (size_t i = 0; i < a->count; i++)
		assert_same_str(((struct str *)a->items)[i], ((struct str *)b->items)[i]);
}

static void assert_same_nets(const struct ipnet_list *a, const struct ipnet_list *b)
{
	assert_int_equal(a->count, b->count);
	for (size_t i = 0; i < a->count; i++)
		assert_memory_equal(&a->items[i], &b->items[i], sizeof(struct ipnet));
}

static void assert_same_listener(const struct sample_listener *a, const struct sample_listener *b)
{
	assert_same_str(a->name, b->name);
	assert_int_equal(a->bind.count, b->bind.count);
	assert_memory_equal(a->bind.items, b->bind.items, a->bind.count * sizeof(struct endpoint));
	assert_same_nets(&a->trusted, &b->trusted);
	assert_int_equal(a->tls.mode, b->tls.mode);
	assert_same_str(a->tls.certificate, b->tls.certificate);
}

static void assert_same_lists(const struct sample *a, const struct sample *b)
{
	assert_int_equal(a->listeners.count, b->listeners.count);
	for (size_t i = 0; i < a->listeners.count; i++)
		assert_same_listener((struct sample_listener *)a->listeners.items + i,
			(struct sample_listener *)b->listeners.items + i);
	assert_same_strs(&a->domains, &b->domains);
	assert_int_equal(a->modes.count, b->modes.count);
	if (a->modes.count > 0)
		assert_memory_equal(a->modes.items, b->modes.items, a->modes.count * sizeof(int));
	assert_int_equal(a->plan.count, b->plan.count);
	for (size_t i = 0; i < a->plan.count; i++) {
		const struct sample_step *x = (struct sample_step *)a->plan.items + i;
		const struct sample_step *y = (struct sample_step *)b->plan.items + i;
		assert_same_str(x->name, y->name);
		assert_same_nets(&x->reject, &y->reject);
	}
	assert_int_equal(a->routes.count, b->routes.count);
	for (size_t i = 0; i < a->routes.count; i++) {
		const struct sample_route *x = (struct sample_route *)a->routes.items + i;
		const struct sample_route *y = (struct sample_route *)b->routes.items + i;
		assert_same_str(x->backend, y->backend);
		assert_int_equal(x->weight, y->weight);
	}
}

static void assert_same(const struct sample *a, const struct sample *b)
{
	assert_same_str(a->hostname, b->hostname);
	assert_same_str(a->greeting, b->greeting);
	assert_int_equal(a->is_quiet, b->is_quiet);
	assert_int_equal(a->workers, b->workers);
	assert_memory_equal(&a->home, &b->home, sizeof(a->home));
	assert_memory_equal(&a->metrics, &b->metrics, sizeof(a->metrics));
	assert_memory_equal(&a->limits, &b->limits, sizeof(a->limits));
	assert_same_lists(a, b);
}

static void one_round_trip(void)
{
	struct buf text, printed;
	struct sample first, second;

	buf_init(&text, 1 << 20);
	buf_init(&printed, 1 << 20);
	write_random(&text);
	read_good(buf_view(&text), &first);
	conf_doc_effective(sample_table, &first, &printed);
	read_good(buf_view(&printed), &second);
	assert_same(&first, &second);
	conf_free(sample_table, &first, sizeof(first));
	conf_free(sample_table, &second, sizeof(second));
	buf_free(&printed);
	buf_free(&text);
}

static void test_reads_back(void **state)
{
	(void)state;
	for (int i = 0; i < 500; i++)
		one_round_trip();
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_page),
		cmocka_unit_test(test_flow),
		cmocka_unit_test(test_reads_back),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
