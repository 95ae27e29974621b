#include "conf/schema.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>
#include <cmocka.h>

#include "base/ipaddr.h"
#include "sample.h"
#include "support/guard.h"

#define GOOD "hostname: mx.example.com\nlisteners: [{bind: '0.0.0.0:25'}]\n"

static int read_sample(struct str text, struct sample *sample, struct buf *report)
{
	buf_init(report, 1 << 20);
	return conf_read_text("f", text, sample_table, sample, sizeof(*sample), report);
}

/* ---- Mistakes: the whole report, line and column included ---- */

struct vector {
	const char *text;
	const char *report;
};

static const struct vector mistakes[] = {
	/* Keys. */
	{ GOOD "greting: hi\n", "f:3:1: greting: unknown key; did you mean \"greeting\"?\n" },
	{ GOOD "hmoe: hi\n", "f:3:1: hmoe: unknown key; did you mean \"home\"?\n" },
	{ GOOD "zzzzzz: hi\n", "f:3:1: zzzzzz: unknown key\n" },
	{ GOOD "limits: {recipents: 3}\n",
		"f:3:10: limits.recipents: unknown key; did you mean \"recipients\"?\n" },
	{ GOOD "limits:\n  deadlien: 3s\n",
		"f:4:3: limits.deadlien: unknown key; did you mean \"deadline\"?\n" },
	{ GOOD "quiet: yes\nquiet: no\n", "f:4:1: quiet: given twice, first in line 3\n" },
	{ GOOD "home: 10.0.0.0/8\nquiet: yes\nhome: 10.0.0.0/8\nquiet: no\nhome: x\n",
		"f:5:1: home: given twice, first in line 3\n"
		"f:6:1: quiet: given twice, first in line 4\n"
		"f:7:1: home: given twice, first in line 3\n" },
	{ GOOD "limits: {pause: 1s, pause: 2s}\n",
		"f:3:21: limits.pause: given twice, first in line 3\n" },
	{ "listeners: [{bind: '0.0.0.0:25'}]\n", "f:1:1: hostname: missing\n" },
	{ "hostname: a.example\nlisteners:\n  - name: x\n  - bind: '0.0.0.0:25'\n",
		"f:3:5: listeners[0].bind: missing\n" },
	{ "hostname: a.example\nlisteners: []\n", "f:2:12: listeners: must not be empty\n" },
	{ "hostname: a.example\nlisteners: [{bind: []}]\n",
		"f:2:20: listeners[0].bind: must not be empty\n" },
	{ GOOD "? [a]\n: b\n", "f:3:3: a key must be a word, not a list or a mapping\n" },

	/* A scalar for a mapping: as if the key were there. */
	{ GOOD "routes: [a, \"\"]\n", "f:3:13: routes[1].backend: must not be empty, not \"\"\n" },
	{ GOOD "routes: \"\"\n", "f:3:9: routes.backend: must not be empty, not \"\"\n" },
	{ GOOD "routes:\n  - [a]\n",
		"f:4:5: routes[0]: must be a mapping (key: value), not a list\n" },
	{ GOOD "routes: [{weight: 2}]\n", "f:3:10: routes[0].backend: missing\n" },

	/* Kinds. */
	{ "[]\n", "f:1:1: must be a mapping (key: value), not a list\n" },
	{ "hello\n", "f:1:1: must be a mapping (key: value), not a single value\n" },
	{ GOOD "quiet: [yes]\n", "f:3:8: quiet: must be true or false, not a list\n" },
	{ GOOD "quiet: {a: yes}\n", "f:3:8: quiet: must be true or false, not a mapping\n" },
	{ GOOD "quiet:\n", "f:3:7: quiet: must be true or false, not nothing\n" },
	{ GOOD "limits: 3\n",
		"f:3:9: limits: must be a mapping (key: value), not a single value\n" },
	{ GOOD "domains:\n",
		"f:3:9: domains: must be a list (write [] for an empty one), not nothing\n" },
	{ GOOD "domains: {a: b}\n",
		"f:3:10: domains: must be a list (write [] for an empty one), not a mapping\n" },
	{ GOOD "domains: [a.example, [b.example]]\n",
		"f:3:22: domains[1]: must be a domain such as example.com or .example.com, not a "
		"list\n" },
	{ "hostname: a.example\nlisteners: {bind: '0.0.0.0:25'}\n",
		"f:2:12: listeners: must be a list (write [] for an empty one), not a mapping\n" },
	{ "hostname: a.example\nlisteners: [x]\n",
		"f:2:13: listeners[0]: must be a mapping (key: value), not a single value\n" },

	/* Types. */
	{ GOOD "quiet: maybe\n", "f:3:8: quiet: must be true or false, not \"maybe\"\n" },
	{ GOOD "quiet: True\n", "f:3:8: quiet: must be true or false, not \"True\"\n" },
	{ GOOD "limits: {recipients: many}\n",
		"f:3:22: limits.recipients: must be a whole number, not \"many\"\n" },
	{ GOOD "limits: {recipients: -1}\n",
		"f:3:22: limits.recipients: must be a whole number, not \"-1\"\n" },
	{ GOOD "limits: {recipients: 010}\n",
		"f:3:22: limits.recipients: must be a whole number, not \"010\"\n" },
	{ GOOD "limits: {recipients: 1.5}\n",
		"f:3:22: limits.recipients: must be a whole number, not \"1.5\"\n" },
	{ GOOD "limits: {recipients: 18446744073709551616}\n",
		"f:3:22: limits.recipients: must be a whole number, not "
		"\"18446744073709551616\"\n" },
	{ GOOD "limits: {recipients: 0}\n",
		"f:3:22: limits.recipients: must be 1 to 100000, not \"0\"\n" },
	{ GOOD "limits: {recipients: 100001}\n",
		"f:3:22: limits.recipients: must be 1 to 100000, not \"100001\"\n" },
	{ GOOD "limits: {message_size: 25 MB}\n",
		"f:3:24: limits.message_size: must be a size such as 512, 64KB, 25MB or 2GB,"
		" not \"25 MB\"\n" },
	{ GOOD "limits: {message_size: 25mb}\n",
		"f:3:24: limits.message_size: must be a size such as 512, 64KB, 25MB or 2GB,"
		" not \"25mb\"\n" },
	{ GOOD "limits: {message_size: 17179869184GB}\n",
		"f:3:24: limits.message_size: must be a size such as 512, 64KB, 25MB or 2GB,"
		" not \"17179869184GB\"\n" },
	{ GOOD "limits: {message_size: 512}\n",
		"f:3:24: limits.message_size: must be 1KB to 2GB, not \"512\"\n" },
	{ GOOD "limits: {deadline: 30}\n", "f:3:20: limits.deadline: must be a duration with its "
					   "unit, such as 500ms, 30s, 5m, 2h or"
					   " 7d, not \"30\"\n" },
	{ GOOD "limits: {deadline: 1.5s}\n", "f:3:20: limits.deadline: must be a duration with its "
					     "unit, such as 500ms, 30s, 5m, 2h or"
					     " 7d, not \"1.5s\"\n" },
	{ GOOD "limits: {deadline: 213503982335d}\n", "f:3:20: limits.deadline: must be a duration "
						      "with its unit, such as 500ms, 30s, 5m, 2h or"
						      " 7d, not \"213503982335d\"\n" },
	{ GOOD "limits: {deadline: s}\n", "f:3:20: limits.deadline: must be a duration with its "
					  "unit, such as 500ms, 30s, 5m, 2h or"
					  " 7d, not \"s\"\n" },
	{ GOOD "limits: {deadline: 0}\n",
		"f:3:20: limits.deadline: must be 1s to 1h, not \"0\"\n" },
	{ GOOD "limits: {deadline: 2h}\n",
		"f:3:20: limits.deadline: must be 1s to 1h, not \"2h\"\n" },
	{ GOOD "modes: [startls]\n",
		"f:3:9: modes[0]: must be off, starttls or implicit, not \"startls\";"
		" did you mean \"starttls\"?\n" },
	{ GOOD "modes: [always]\n",
		"f:3:9: modes[0]: must be off, starttls or implicit, not \"always\"\n" },
	{ GOOD "home: 10.0.0.1/8\n",
		"f:3:7: home: must be a network: the bits behind the prefix must be zero,"
		" not \"10.0.0.1/8\"\n" },
	{ GOOD "home: 10.0.0.0/33\n",
		"f:3:7: home: must be a network such as 192.0.2.0/24 or 2001:db8::/32,"
		" not \"10.0.0.0/33\"\n" },
	{ GOOD "metrics: 127.0.0.1\n", "f:3:10: metrics: must be an address and port such as "
				       "192.0.2.1:25 or [2001:db8::1]:25,"
				       " not \"127.0.0.1\"\n" },
	{ GOOD "metrics: localhost:25\n", "f:3:10: metrics: must be an address and port such as "
					  "192.0.2.1:25 or [2001:db8::1]:25,"
					  " not \"localhost:25\"\n" },
	{ GOOD "domains: [a..example, '', example.com., 192.0.2.1]\n",
		"f:3:11: domains[0]: must be a domain such as example.com or .example.com,"
		" not \"a..example\"\n"
		"f:3:23: domains[1]: must be a domain such as example.com or .example.com, not "
		"\"\"\n"
		"f:3:27: domains[2]: must be a domain such as example.com or .example.com,"
		" not \"example.com.\"\n"
		"f:3:41: domains[3]: must be a domain such as example.com or .example.com,"
		" not \"192.0.2.1\"\n" },
	{ GOOD "greeting: \"a\\nb\"\n",
		"f:3:11: greeting: must be text without control characters and line ends,"
		" not \"a\\x0ab\"\n" },

	/* YAML itself, and what of it is refused. */
	{ "", "f:1:1: the file says nothing\nf:1:1: hostname: missing\nf:1:1: listeners: "
	      "missing\n" },
	{ "# a comment\n---\n", "f:1:1: the file says nothing\nf:1:1: hostname: missing\nf:1:1: "
				"listeners: missing\n" },
	{ GOOD "a: [1, 2\n", "f:4:1: did not find expected ',' or ']'\n" },
	{ GOOD "limits:\n\tpause: 1s\n", "f:4:1: this character cannot begin a value: indent with "
					 "spaces, not tabs, and quote text"
					 " that begins with @, ` or %\n" },
	{ GOOD "domains: *.example\n", "f:3:11: not the name of an anchor or alias: quote text "
				       "that begins with * or &\n" },
	{ GOOD "domains: *all\n", "f:3:10: an alias (*name) without its anchor (&name); quote text "
				  "that begins with *\n" },
	{ GOOD "domains: &all [a.example, *all]\n",
		"f:3:27: an alias (*name) inside what it names\n" },
	{ GOOD "greeting: a: b\n", "f:3:12: a second \": \" in the line, or a key indented too "
				   "far: quote text that contains"
				   " \": \"\n" },
	{ GOOD "greeting\n", "f:4:1: a key without \":\" behind it\n" },
	{ GOOD "quiet: !!bool yes\n",
		"f:3:8: tags (!name) are not supported; quote text that begins with !\n" },
	{ "--- "
	  "{hostname: a.example, listeners: [{bind: '0.0.0.0:25'}]}\n--- {}\n",
		"f:2:1: a second document (---) in the file; only one is read\n" },
	{ GOOD "limits: &l {pause: 1s}\n<<: *l\n",
		"f:4:1: <<: merge keys are not supported; write the keys out\n" },
	{ GOOD "greeting: h\xe9h\xe9\n", "f:3:12: not UTF-8 text\n" },
	{ GOOD "greeting: h\xc3\xa9\xff\n", "f:3:13: not UTF-8 text\n" },
	{ GOOD "greeting: \xed\xa0\x80\n", "f:3:11: not UTF-8 text\n" },
	{ GOOD "greeting: \x1b[31m\n", "f:3:11: a control character\n" },
	{ "\xff\xfeh\n", "f:1:1: not UTF-8 text\n" },
	/* A mistake behind an alias: the place of the text, the path of the use. */
	{ "hostname: a.example\nlisteners:\n- bind: &b [x]\n- bind: *b\n",
		"f:3:13: listeners[0].bind[0]: must be an address and port such as 192.0.2.1:25 or"
		" [2001:db8::1]:25, not \"x\"\n"
		"f:3:13: listeners[1].bind[0]: must be an address and port such as 192.0.2.1:25 or"
		" [2001:db8::1]:25, not \"x\"\n" },

	/* Variables. */
	{ GOOD "greeting: ${GATEPOST_UNSET}\n",
		"f:3:11: greeting: the variable GATEPOST_UNSET is not set\n" },
	{ GOOD "greeting: ${GATEPOST_UNSET\n", "f:3:11: greeting: \"${\" without its \"}\"\n" },
	{ GOOD "greeting: ${}\n", "f:3:11: greeting: \"${}\" is not a variable; write ${NAME}, "
				  "${NAME:-default}, or $$ for a"
				  " dollar sign\n" },
	{ GOOD "greeting: ${A:+b}\n", "f:3:11: greeting: \"${A:+b}\" is not a variable; write "
				      "${NAME}, ${NAME:-default}, or $$"
				      " for a dollar sign\n" },
	{ GOOD "greeting: ${1A}\n", "f:3:11: greeting: \"${1A}\" is not a variable; write ${NAME}, "
				    "${NAME:-default}, or $$ for"
				    " a dollar sign\n" },
	{ GOOD "greeting: ${GATEPOST_LATIN}\n",
		"f:3:11: greeting: the variable GATEPOST_LATIN is not UTF-8 text\n" },
	{ GOOD "quiet: ${GATEPOST_WORD}\n", "f:3:8: quiet: must be true or false, not \"word\"\n" },
	{ GOOD "secret: sesame${GATEPOST_UNSET}\n",
		"f:3:9: secret: a variable that is not set, or a dollar sign not written as $$\n" },
	{ GOOD "secret: sesa${me\n",
		"f:3:9: secret: a variable that is not set, or a dollar sign not written as $$\n" },
	{ GOOD "greeting: &s sesa${me}\nsecret: *s\n",
		"f:3:11: secret: a variable that is not set, or a dollar sign not written as "
		"$$\n" },
	/* Said once, also where a reader of its own looks at it. */
	{ GOOD "plan: [&x '${GATEPOST_UNSET}', *x]\n",
		"f:3:8: plan[0]: the variable GATEPOST_UNSET is not set\n" },

	/* Offending text: cleaned, and cut to what a line can hold. */
	{ GOOD "quiet: \"\\e[31m\\0\\x9b\"\n",
		"f:3:8: quiet: must be true or false, not \"\\x1b[31m\\x00\\x9b\"\n" },
	{ GOOD "quiet: "
	       "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
	       "aaaa\n",
		"f:3:8: quiet: must be true or false, not "
		"\"aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa..."
		"\"\n" },
	{ GOOD "\"a\\tb\": 1\n", "f:3:1: a\\x09b: unknown key\n" },

	/* Secrets are not quoted. */
	{ GOOD "secret: \"sesame\\n\"\n",
		"f:3:9: secret: must be text without control characters and line ends\n" },

	/* What rows cannot say, and readers of their own. */
	{ "hostname: a.example\nlisteners: [{bind: '0.0.0.0:25', tls: {mode: starttls}}]\n",
		"f:2:46: listeners[0].tls.mode: needs a certificate\n" },
	{ "hostname: a.example\nlisteners: [{bind: '0.0.0.0:25', tls: {mode: starttls, x: y}}]\n",
		"f:2:56: listeners[0].tls.x: unknown key\n" },
	{ GOOD "plan: [limits, {}, {acl: [x]}]\n",
		"f:3:16: plan[1]: must be a check, or one check with its settings\n"
		"f:3:27: plan[2].acl[0]: must be a network such as 192.0.2.0/24 or 2001:db8::/32,"
		" not \"x\"\n" },
	{ GOOD "workers: 5000\n", "f:3:10: workers: must be 1 to 1024, not \"5000\"\n" },

	/* Several, in order of line. */
	{ "limits: {recipients: x}\nhostname: '-'\nquite: yes\nlisteners: [{bind: a}]\nhostname: "
	  "b\n",
		"f:1:22: limits.recipients: must be a whole number, not \"x\"\n"
		"f:2:11: hostname: must be a domain such as example.com or .example.com, not "
		"\"-\"\n"
		"f:3:1: quite: unknown key; did you mean \"quiet\"?\n"
		"f:4:20: listeners[0].bind: must be an address and port such as 192.0.2.1:25 or"
		" [2001:db8::1]:25, not \"a\"\n"
		"f:5:1: hostname: given twice, first in line 2\n" },
};

static bool is_as_expected(const struct vector *vector)
{
	struct sample sample;
	const struct sample zero = { 0 };
	struct buf report;

	int rc = read_sample(str_from(vector->text), &sample, &report);
	bool is_good = rc == -1 && str_eq(buf_view(&report), str_from(vector->report)) &&
		       memcmp(&sample, &zero, sizeof(sample)) == 0;
	if (!is_good)
		print_error("%s\nsaid:\n%.*sbut should say:\n%s\n", vector->text,
			STR_ARG(buf_view(&report)), vector->report);
	conf_free(sample_table, &sample, sizeof(sample));
	buf_free(&report);
	return is_good;
}

static void test_mistakes(void **state)
{
	size_t bad = 0;

	(void)state;
	for (size_t i = 0; i < sizeof(mistakes) / sizeof(mistakes[0]); i++)
		bad += !is_as_expected(&mistakes[i]);
	assert_int_equal(bad, 0);
}

/* ---- Values ---- */

static void read_good(const char *text, struct sample *sample)
{
	struct buf report;

	int rc = read_sample(str_from(text), sample, &report);
	if (rc != 0)
		print_error("%.*s", STR_ARG(buf_view(&report)));
	assert_int_equal(rc, 0);
	assert_int_equal(buf_used(&report), 0);
	buf_free(&report);
}

static void free_sample(struct sample *sample)
{
	const struct sample zero = { 0 };

	conf_free(sample_table, sample, sizeof(*sample));
	assert_memory_equal(sample, &zero, sizeof(zero));
}

static void assert_str(struct str s, const char *expected)
{
	assert_non_null(s.p);
	assert_string_equal(s.p, expected); /* terminated, too */
	assert_int_equal(s.n, strlen(expected));
}

static void assert_endpoint(const struct endpoint *endpoint, const char *expected)
{
	char text[ENDPOINT_TEXT_MAX];

	assert_string_equal(endpoint_print(endpoint, text), expected);
}

static void assert_network(const struct ipnet *net, const char *expected)
{
	char text[IPNET_TEXT_MAX];

	assert_string_equal(ipnet_print(net, text), expected);
}

static void assert_listener_defaults(const struct sample_listener *listener)
{
	assert_str(listener->name, "mx");
	assert_int_equal(listener->bind.count, 1);
	assert_endpoint(listener->bind.items, "0.0.0.0:25");
	assert_int_equal(listener->trusted.count, 2);
	assert_network(&listener->trusted.items[0], "127.0.0.0/8");
	assert_network(&listener->trusted.items[1], "::1/128");
	assert_int_equal(listener->tls.mode, SAMPLE_OFF);
	assert_int_equal(listener->tls.certificate.n, 0);
}

static void test_defaults(void **state)
{
	struct sample sample;

	(void)state;
	read_good(GOOD, &sample);
	assert_str(sample.hostname, "mx.example.com");
	assert_str(sample.greeting, "ready");
	assert_false(sample.is_quiet);
	assert_int_equal(sample.workers, 0);
	assert_int_equal(sample.listeners.count, 1);
	assert_listener_defaults(sample.listeners.items);
	assert_int_equal(sample.domains.count, 0);
	assert_int_equal(sample.modes.count, 2);
	assert_int_equal(((int *)sample.modes.items)[1], SAMPLE_IMPLICIT);
	assert_network(&sample.home, "10.0.0.0/8");
	assert_int_equal(sample.metrics.port, 0);
	assert_int_equal(sample.plan.count, 2);
	const struct sample_step *steps = sample.plan.items;
	assert_str(steps[0].name, "limits");
	assert_str(steps[1].name, "client_acl");
	assert_network(&steps[1].reject.items[0], "198.51.100.0/24");
	assert_int_equal(sample.limits.message_size, 25 << 20);
	assert_int_equal(sample.limits.recipients, 100);
	assert_int_equal(sample.limits.deadline_ms, 300000);
	assert_int_equal(sample.limits.pause_ms, 0);
	assert_null(sample.secret.p);
	free_sample(&sample);
}

static void test_values(void **state)
{
	static const char text[] =
		"%YAML 1.1\n"
		"---\n"
		"hostname: MX.Example.COM\n"
		"greeting: 'no'\n"
		"quiet: on\n"
		"workers: 4\n"
		"listeners:\n"
		"  - name: a\n"
		"    bind: ['192.0.2.1:25', '[2001:db8::1]:465']\n"
		"    trusted_proxies: []\n"
		"    tls: {mode: implicit, certificate: /a, password: ~}\n"
		"  - bind: 127.0.0.1:2525\n"
		"    tls:\n"
		"domains: [.example.com, b\xc3\xbc"
		"cher.example]\n"
		"modes: starttls\n"
		"home: 2001:db8::/32\n"
		"metrics: '[::1]:9125'\n"
		"plan: [a, {b: 192.0.2.0/24}]\n"
		"limits: {message_size: 1GB, recipients: 1, deadline: 1500ms, pause: 0}\n"
		"secret: ''\n";
	struct sample sample;

	(void)state;
	read_good(text, &sample);
	assert_str(sample.hostname, "mx.example.com");
	assert_str(sample.greeting, "no");
	assert_true(sample.is_quiet);
	assert_int_equal(sample.workers, 4);
	assert_int_equal(sample.listeners.count, 2);
	const struct sample_listener *listeners = sample.listeners.items;
	assert_str(listeners[0].name, "a");
	assert_int_equal(listeners[0].bind.count, 2);
	assert_endpoint((struct endpoint *)listeners[0].bind.items + 1, "[2001:db8::1]:465");
	assert_int_equal(listeners[0].trusted.count, 0);
	assert_int_equal(listeners[0].tls.mode, SAMPLE_IMPLICIT);
	assert_str(listeners[0].tls.password, "~");
	assert_endpoint(listeners[1].bind.items, "127.0.0.1:2525");
	assert_int_equal(sample.domains.count, 2);
	assert_str(((struct str *)sample.domains.items)[0], ".example.com");
	assert_str(((struct str *)sample.domains.items)[1], "xn--bcher-kva.example");
	assert_int_equal(sample.modes.count, 1);
	assert_int_equal(*(int *)sample.modes.items, SAMPLE_STARTTLS);
	assert_network(&sample.home, "2001:db8::/32");
	assert_endpoint(&sample.metrics, "[::1]:9125");
	assert_int_equal(sample.plan.count, 2);
	assert_int_equal(sample.limits.message_size, 1 << 30);
	assert_int_equal(sample.limits.recipients, 1);
	assert_int_equal(sample.limits.deadline_ms, 1500);
	assert_int_equal(sample.limits.pause_ms, 0);
	assert_str(sample.secret, "");
	free_sample(&sample);
}

/* A scalar stands for a mapping, in a list and for a list. */
static void test_short_mappings(void **state)
{
	static const struct {
		const char *text;
		size_t count;
		const char *last;
		uint64_t weight;
	} rows[] = {
		{ GOOD "routes: a\n", 1, "a", 0 },
		{ GOOD "routes: [a, b]\n", 2, "b", 0 },
		{ GOOD "routes:\n  - a\n  - {backend: c, weight: 7}\n", 2, "c", 7 },
		{ GOOD "routes: [{backend: c, weight: 7}, \"no\"]\n", 2, "no", 0 },
	};

	(void)state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		struct sample sample;
		struct buf report;
		assert_int_equal(read_sample(str_from(rows[i].text), &sample, &report), 0);
		const struct sample_route *routes = sample.routes.items;
		assert_int_equal(sample.routes.count, rows[i].count);
		assert_string_equal(routes[rows[i].count - 1].backend.p, rows[i].last);
		assert_int_equal(routes[rows[i].count - 1].weight, rows[i].weight);
		assert_int_equal(routes[rows[i].count - 1].domains.count, 0);
		conf_free(sample_table, &sample, sizeof(sample));
		buf_free(&report);
	}
}

static void test_units(void **state)
{
	static const struct {
		const char *size;
		uint64_t bytes;
		const char *duration;
		uint64_t ms;
	} units[] = {
		{ "1024", 1024, "1000ms", 1000 },
		{ "2048B", 2048, "2s", 2000 },
		{ "1KB", 1024, "3m", 180000 },
		{ "3MB", 3 << 20, "1h", 3600000 },
		{ "2GB", 2147483648, "60m", 3600000 },
	};

	(void)state;
	for (size_t i = 0; i < sizeof(units) / sizeof(units[0]); i++) {
		char text[256];
		struct sample sample;

		snprintf(text, sizeof(text),
			GOOD "limits: {message_size: %s, deadline: %s, pause: 7d}\n", units[i].size,
			units[i].duration);
		read_good(text, &sample);
		assert_int_equal(sample.limits.message_size, units[i].bytes);
		assert_int_equal(sample.limits.deadline_ms, units[i].ms);
		assert_int_equal(sample.limits.pause_ms, 604800000);
		free_sample(&sample);
	}
}

static void test_variables(void **state)
{
	static const struct {
		const char *written;
		const char *read;
	} rows[] = {
		{ "${GATEPOST_WORD}", "word" },
		{ "a${GATEPOST_WORD}b${GATEPOST_WORD}", "awordbword" },
		{ "${GATEPOST_WORD:-x}", "word" },
		{ "${GATEPOST_UNSET:-x}", "x" },
		{ "${GATEPOST_UNSET:-}", "" },
		{ "${GATEPOST_EMPTY:-x y}", "x y" },
		{ "'${GATEPOST_EMPTY}'", "" },
		{ "${GATEPOST_DOLLAR}", "${GATEPOST_WORD}" }, /* replaced once, not again */
		{ "'$'", "$" },
		{ "$$", "$" },
		{ "$$$$", "$$" },
		{ "$${GATEPOST_WORD}", "${GATEPOST_WORD}" },
		{ "a$b", "a$b" },
		{ "\"${GATEPOST_WORD}\\x24\"", "word$" },
	};

	(void)state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		char text[256];
		struct sample sample;

		snprintf(text, sizeof(text), GOOD "greeting: %s\n", rows[i].written);
		read_good(text, &sample);
		assert_str(sample.greeting, rows[i].read);
		free_sample(&sample);
	}
}

static void test_aliases(void **state)
{
	struct sample sample;

	(void)state;
	read_good("hostname: &h mx.example.com\ndomains: [*h, *h]\nlisteners:\n"
		  "- &l {bind: '0.0.0.0:25', tls: &t {mode: off}}\n- *l\n- {bind: '0.0.0.0:26', "
		  "tls: *t}\n",
		&sample);
	assert_int_equal(sample.domains.count, 2);
	assert_str(((struct str *)sample.domains.items)[1], "mx.example.com");
	assert_int_equal(sample.listeners.count, 3);
	assert_endpoint(
		((struct sample_listener *)sample.listeners.items)[1].bind.items, "0.0.0.0:25");
	free_sample(&sample);
}

/* As editors of other systems write them. */
static void test_byte_order_mark_and_crlf(void **state)
{
	struct sample sample;

	(void)state;
	read_good("\xef\xbb\xbf" GOOD, &sample);
	free_sample(&sample);
	read_good("hostname: mx.example.com\r\nlisteners:\r\n- bind: '0.0.0.0:25'\r\n", &sample);
	assert_str(sample.hostname, "mx.example.com");
	free_sample(&sample);
}

/* ---- Bounds ---- */

/* Of our own: what else the machine does is no matter. */
static double seconds(void)
{
	struct timespec now;

	clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &now);
	return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

/* Reads a text that must be refused, soon, with this report. */
static void assert_refused(struct str text, const char *expected)
{
	struct sample sample;
	struct buf report;
	double start = seconds();

	assert_int_equal(read_sample(text, &sample, &report), -1);
	char *said = str_dup(buf_view(&report));
	assert_string_equal(said, expected);
	free(said);
	buf_free(&report);
	assert_true(seconds() - start < 20); /* with sanitizers */
}

/* libyaml takes minutes for this when it is let. */
static void test_deep_nesting_is_fast(void **state)
{
	static char brackets[200000];

	(void)state;
	memset(brackets, '[', sizeof(brackets));
	assert_refused(str_make(brackets, sizeof(brackets)),
		"f:1:65: lists and mappings nested too deeply\n");
	memset(brackets, '{', sizeof(brackets));
	assert_refused(str_make(brackets, sizeof(brackets)),
		"f:1:2: a key must be a word, not a list or a mapping\n");
	for (size_t i = 0; i < sizeof(brackets); i++)
		brackets[i] = "[\n"[i % 2];
	assert_refused(str_make(brackets, sizeof(brackets)),
		"f:65:1: lists and mappings nested too deeply\n");
	for (size_t i = 0; i < sizeof(brackets); i++)
		brackets[i] = "- "[i % 2];
	assert_refused(str_make(brackets, sizeof(brackets)),
		"f:1:129: lists and mappings nested too deeply\n");
}

/* Nine levels of nine: 387 million words if it were let. */
static void test_alias_bomb_is_bounded(void **state)
{
	struct buf text;

	(void)state;
	buf_init(&text, 65536);
	buf_printf(&text, "a0: &a0 [x, x, x, x, x, x, x, x, x]\n");
	for (int i = 1; i < 9; i++) {
		buf_printf(&text, "a%d: &a%d [", i, i);
		for (int j = 0; j < 9; j++)
			buf_printf(&text, "%s*a%d", j ? ", " : "", i - 1);
		buf_printf(&text, "]\n");
	}
	assert_refused(
		buf_view(&text), "f:6:40: too many values in the file, aliases counted in full\n");
	buf_free(&text);
}

/* Depth adds up through aliases. */
static void test_deep_aliases_are_bounded(void **state)
{
	struct buf text;

	(void)state;
	buf_init(&text, 65536);
	buf_printf(&text, "a0: &a0 [[[[[[[[[[x]]]]]]]]]]\n");
	for (int i = 1; i < 9; i++)
		buf_printf(&text, "a%d: &a%d [[[[[[[[[[*a%d]]]]]]]]]]\n", i, i, i - 1);
	assert_refused(buf_view(&text),
		"f:7:19: the alias leads to lists and mappings nested too deeply\n");
	buf_free(&text);
}

static void test_anchors_are_bounded(void **state)
{
	struct buf text;

	(void)state;
	buf_init(&text, 65536);
	buf_printf(&text, "domains:\n");
	for (int i = 0; i < 257; i++)
		buf_printf(&text, "- &a%d x\n", i);
	assert_refused(buf_view(&text), "f:258:3: too many anchors (&name)\n");
	buf_free(&text);
}

static void test_size_is_bounded(void **state)
{
	size_t size = (4 << 20) + 1;
	char *text = malloc(size);

	(void)state;
	memset(text, '\n', size);
	assert_refused(str_make(text, size), "f:1:1: larger than 4 MiB\n");
	assert_refused(str_make(text, size - 1), "f:1:1: the file says nothing\nf:1:1: hostname: "
						 "missing\nf:1:1: listeners: missing\n");
	free(text);
}

/* As many values as fit: refused, and soon. */
static void test_values_are_bounded(void **state)
{
	size_t size = 4 << 20;
	char *text = malloc(size);

	(void)state;
	for (size_t i = 0; i < size; i++)
		text[i] = "x,"[i % 2];
	memcpy(text, "a: [", 4);
	assert_refused(str_make(text, size),
		"f:1:999999: too many values in the file, aliases counted in full\n");
	free(text);
}

/* Many mistakes: the first are named, the rest is counted. */
static void test_mistakes_are_bounded(void **state)
{
	struct sample sample;
	struct buf text, report;

	(void)state;
	buf_init(&text, 1 << 20);
	buf_printf(&text, GOOD);
	for (int i = 0; i < 1000; i++)
		buf_printf(&text, "x%d: 1\n", i);
	assert_int_equal(read_sample(buf_view(&text), &sample, &report), -1);
	struct str said = buf_view(&report);
	assert_true(str_starts_with(said, STR("f:3:1: x0: unknown key\n")));
	assert_true(str_ends_with_nocase(said, STR("\nf: and 800 more mistakes\n")));
	buf_free(&report);
	buf_free(&text);
}

static void test_large_list_is_fast(void **state)
{
	struct sample sample;
	struct buf text;
	double start = seconds();

	(void)state;
	buf_init(&text, 4 << 20);
	buf_printf(&text, GOOD "domains:\n");
	for (int i = 0; i < 50000; i++)
		buf_printf(&text, "- a%d.example\n", i);
	char *copy = str_dup(buf_view(&text));
	read_good(copy, &sample);
	assert_int_equal(sample.domains.count, 50000);
	free_sample(&sample);
	free(copy);
	buf_free(&text);
	assert_true(seconds() - start < 20);
}

/* ---- Every text cut at each position, against a guard page ---- */

static void read_cut(struct guard *guard, struct str text)
{
	struct sample sample;
	struct buf report;

	int rc = read_sample(guard_put(guard, text), &sample, &report);
	assert_int_equal(rc == 0, buf_used(&report) == 0);
	conf_free(sample_table, &sample, sizeof(sample));
	buf_free(&report);
}

static void test_cut_anywhere(void **state)
{
	struct guard guard = guard_make(4096);

	(void)state;
	for (size_t i = 0; i < sizeof(mistakes) / sizeof(mistakes[0]); i++) {
		struct str text = str_from(mistakes[i].text);
		for (size_t n = 0; n <= text.n; n++)
			read_cut(&guard, str_range(text, 0, n));
	}
	guard_free(&guard);
}

/* ---- Files ---- */

static void test_file(void **state)
{
	char path[] = "/tmp/gatepost-conf-XXXXXX";
	int fd = mkstemp(path);
	struct sample sample;
	struct buf report;

	(void)state;
	buf_init(&report, 4096);
	assert_true(fd >= 0);
	assert_int_equal(write(fd, GOOD, strlen(GOOD)), strlen(GOOD));
	close(fd);
	assert_int_equal(conf_read_file(path, sample_table, &sample, sizeof(sample), &report), 0);
	assert_str(sample.hostname, "mx.example.com");
	free_sample(&sample);
	unlink(path);
	assert_int_equal(conf_read_file("/", sample_table, &sample, sizeof(sample), &report), -1);
	assert_int_equal(
		conf_read_file("/nonexistent/f", sample_table, &sample, sizeof(sample), &report),
		-1);
	assert_true(str_eq(buf_view(&report),
		STR("/: cannot be read: Is a directory\n"
		    "/nonexistent/f: cannot be read: No such file or directory\n")));
	buf_free(&report);
}

/* ---- Tables with a mistake ---- */

static void assert_default_refused(const char *dflt, const char *expected)
{
	const struct conf_field table[] = {
		{ .key = "pause", .type = CONF_DURATION, .dflt = dflt, .help = "x" }, CONF_END
	};
	uint64_t value;
	struct buf report;

	buf_init(&report, 4096);
	assert_int_equal(conf_read_text("f", STR("{}"), table, &value, sizeof(value), &report), -1);
	char *said = str_dup(buf_view(&report));
	assert_string_equal(said, expected);
	free(said);
	buf_free(&report);
}

static void test_default_is_checked(void **state)
{
	(void)state;
	assert_default_refused("30", "f: the default of pause: must be a duration with its unit, "
				     "such as 500ms, 30s, 5m, 2h or"
				     " 7d, not \"30\"\n");
	assert_default_refused("", "f: the default of pause: cannot be read\n");
	assert_default_refused("[1s", "f: in a default: did not find expected ',' or ']'\n"
				      "f: the default of pause: cannot be read\n");
}

static void notice_whole(const void *value, struct conf_node *root, struct conf_errors *errors)
{
	struct conf_node *second = conf_node_get(root, "b");

	(void)value;
	conf_notice(errors, second ? second : root, "that is %s", "odd");
	conf_notice(errors, root, "so is this");
}

static void assert_reported(const char *text, int rc, const char *expected)
{
	static const struct conf_field table[] = {
		{ .key = "a", .type = CONF_NUMBER, .help = "x" },
		{ .key = "b", .type = CONF_NUMBER, .offset = sizeof(uint64_t), .help = "x" },
		{ .key = NULL, .accepts = notice_whole },
	};
	uint64_t values[2];
	struct buf report;

	buf_init(&report, 4096);
	assert_int_equal(
		conf_read_text("f", str_from(text), table, values, sizeof(values), &report), rc);
	char *said = str_dup(buf_view(&report));
	assert_string_equal(said, expected);
	free(said);
	buf_free(&report);
}

/* In the order of their places, as mistakes are, and no part of a file with mistakes. */
static void test_notices(void **state)
{
	(void)state;
	assert_reported("a: 1\nb: 2\n", 0, "f:1:1: so is this\nf:2:4: b: that is odd\n");
	assert_reported("a: x\nb: 2\n", -1, "f:1:4: a: must be a whole number, not \"x\"\n");
}

static int set_environment(void **state)
{
	(void)state;
	unsetenv("GATEPOST_UNSET");
	setenv("GATEPOST_WORD", "word", 1);
	setenv("GATEPOST_EMPTY", "", 1);
	setenv("GATEPOST_DOLLAR", "${GATEPOST_WORD}", 1);
	setenv("GATEPOST_LATIN", "\xe9", 1);
	return 0;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_mistakes),
		cmocka_unit_test(test_defaults),
		cmocka_unit_test(test_values),
		cmocka_unit_test(test_short_mappings),
		cmocka_unit_test(test_units),
		cmocka_unit_test(test_variables),
		cmocka_unit_test(test_aliases),
		cmocka_unit_test(test_byte_order_mark_and_crlf),
		cmocka_unit_test(test_deep_nesting_is_fast),
		cmocka_unit_test(test_alias_bomb_is_bounded),
		cmocka_unit_test(test_deep_aliases_are_bounded),
		cmocka_unit_test(test_anchors_are_bounded),
		cmocka_unit_test(test_size_is_bounded),
		cmocka_unit_test(test_values_are_bounded),
		cmocka_unit_test(test_mistakes_are_bounded),
		cmocka_unit_test(test_large_list_is_fast),
		cmocka_unit_test(test_cut_anywhere),
		cmocka_unit_test(test_file),
		cmocka_unit_test(test_default_is_checked),
		cmocka_unit_test(test_notices),
	};

	return cmocka_run_group_tests(tests, set_environment, NULL);
}
