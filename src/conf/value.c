#include "value_priv.h"

#include <inttypes.h>
#include <string.h>

#include "base/assert.h"
#include "base/idn.h"
#include "base/ipaddr.h"

static const struct conf_value_type types[CONF_DOMAIN + 1];

static bool refuse_form(const struct conf_field *field, struct err *why)
{
	err_set(why, "must be %s", types[field->type].form);
	return false;
}

/* ---- Numbers with a unit ---- */

struct unit {
	const char *suffix;
	uint64_t factor;
};

/* Smallest first; a value is printed in the largest that divides it. */
static const struct unit number_units[] = { { "", 1 }, { NULL } };
static const struct unit size_units[] = {
	{ "", 1 },
	{ "B", 1 },
	{ "KB", 1024 },
	{ "MB", 1024 * 1024 },
	{ "GB", 1024 * 1024 * 1024 },
	{ NULL },
};
static const struct unit duration_units[] = {
	{ "ms", 1 },
	{ "s", 1000 },
	{ "m", 60 * 1000 },
	{ "h", 60 * 60 * 1000 },
	{ "d", 24 * 60 * 60 * 1000 },
	{ NULL },
};

static const struct unit *units_of(enum conf_type type)
{
	if (type == CONF_SIZE)
		return size_units;
	return type == CONF_DURATION ? duration_units : number_units;
}

static const struct unit *find_unit(const struct unit *units, struct str suffix)
{
	for (; units->suffix; units++)
		if (str_eq(suffix, str_from(units->suffix)))
			return units;
	return NULL;
}

/* A leading zero is refused: to some it means octal. */
static bool parse_quantity(const struct unit *units, struct str text, uint64_t *value)
{
	size_t digits = 0;

	while (digits < text.n && ascii_is_digit(text.p[digits]))
		digits++;
	if (digits > 1 && text.p[0] == '0')
		return false;
	if (!str_to_u64(str_range(text, 0, digits), UINT64_MAX, value))
		return false;
	if (*value == 0 && digits == text.n)
		return true; /* nothing needs no unit */
	const struct unit *unit = find_unit(units, str_from_pos(text, digits));
	return unit && !__builtin_mul_overflow(*value, unit->factor, value);
}

static void print_quantity(const struct unit *units, uint64_t value, struct buf *out)
{
	const struct unit *best = units;

	for (; units->suffix; units++)
		if (value % units->factor == 0 && units->factor > best->factor)
			best = units;
	buf_printf(out, "%" PRIu64 "%s", value == 0 ? 0 : value / best->factor,
		value == 0 ? "" : best->suffix);
}

void conf_value_range(const struct conf_field *field, struct buf *out)
{
	const struct unit *units = units_of(field->type);

	if (field->max == 0 && field->min == 0)
		return;
	if (field->max == 0)
		buf_write(out, STR("at least "));
	if (field->max == 0 || field->min > 0)
		print_quantity(units, field->min, out);
	if (field->max == 0)
		return;
	buf_write(out, field->min > 0 ? STR(" to ") : STR("at most "));
	print_quantity(units, field->max, out);
}

static void say_range(const struct conf_field *field, struct err *why)
{
	struct buf range;

	buf_init(&range, 128);
	conf_value_range(field, &range);
	err_set(why, "must be %.*s", STR_ARG(buf_view(&range)));
	buf_free(&range);
}

static bool quantity_parse(
	const struct conf_field *field, struct str text, void *value, struct err *why)
{
	uint64_t number;

	if (!parse_quantity(units_of(field->type), text, &number))
		return refuse_form(field, why);
	if (number < field->min || (field->max > 0 && number > field->max)) {
		say_range(field, why);
		return false;
	}
	*(uint64_t *)value = number;
	return true;
}

static void quantity_print(const struct conf_field *field, const void *value, struct buf *out)
{
	print_quantity(units_of(field->type), *(const uint64_t *)value, out);
}

/* ---- Words ---- */

static const struct {
	const char *word;
	bool value;
} bool_words[] = {
	{ "true", true },
	{ "false", false },
	{ "yes", true },
	{ "no", false },
	{ "on", true },
	{ "off", false },
};

static bool bool_parse(
	const struct conf_field *field, struct str text, void *value, struct err *why)
{
	for (size_t i = 0; i < sizeof(bool_words) / sizeof(bool_words[0]); i++) {
		if (!str_eq(text, str_from(bool_words[i].word)))
			continue;
		*(bool *)value = bool_words[i].value;
		return true;
	}
	return refuse_form(field, why);
}

static void bool_print(const struct conf_field *field, const void *value, struct buf *out)
{
	(void)field;
	buf_printf(out, "%s", *(const bool *)value ? "true" : "false");
}

static void say_choices(const struct conf_field *field, struct err *why)
{
	struct buf list;

	buf_init(&list, ERR_TEXT_MAX);
	for (const char *const *choice = field->choices; *choice; choice++) {
		bool is_last = choice[1] == NULL;
		const char *separator = choice == field->choices ? "" : is_last ? " or " : ", ";
		buf_printf(&list, "%s%s", separator, *choice);
	}
	err_set(why, "must be %.*s", STR_ARG(buf_view(&list)));
	buf_free(&list);
}

static bool enum_parse(
	const struct conf_field *field, struct str text, void *value, struct err *why)
{
	for (int i = 0; field->choices[i]; i++) {
		if (!str_eq(text, str_from(field->choices[i])))
			continue;
		*(int *)value = i;
		return true;
	}
	say_choices(field, why);
	return false;
}

static void enum_print(const struct conf_field *field, const void *value, struct buf *out)
{
	int index = *(const int *)value;

	for (int i = 0; i <= index; i++)
		ASSERT(field->choices[i]);
	conf_value_print_text(str_from(field->choices[index]), out);
}

/* ---- Text ---- */

static bool string_parse(
	const struct conf_field *field, struct str text, void *value, struct err *why)
{
	bool is_required = field->flags & CONF_REQUIRED && !(field->flags & CONF_LIST);

	for (size_t i = 0; i < text.n; i++) {
		if (!ascii_is_control(text.p[i]))
			continue;
		err_set(why, "must be text without control characters and line ends");
		return false;
	}
	if (text.n == 0 && is_required) {
		err_set(why, "must not be empty");
		return false;
	}
	*(struct str *)value = str_make(str_dup(text), text.n);
	return true;
}

/* A word that every reader of YAML takes for text. */
static bool is_safe_word(struct str text)
{
	static const char *const typed[] = { "true", "false", "yes", "no", "on", "off", "null", "y",
		"n", ".nan", ".inf" };

	if (text.n == 0 || !(ascii_is_alpha(text.p[0]) || text.p[0] == '/' || text.p[0] == '.'))
		return false;
	for (size_t i = 0; i < text.n; i++)
		if (!ascii_is_alnum(text.p[i]) && !memchr("_./-@+", text.p[i], 6))
			return false;
	for (size_t i = 0; i < sizeof(typed) / sizeof(typed[0]); i++)
		if (str_eq_nocase(text, str_from(typed[i])))
			return false;
	return !(text.p[0] == '.' && text.n > 1 && ascii_is_digit(text.p[1]));
}

static void print_quoted_char(char c, struct buf *out)
{
	if (c == '"' || c == '\\')
		buf_printf(out, "\\%c", c);
	else if (c == '$')
		buf_write(out, STR("$$"));
	else if (ascii_is_control(c))
		buf_printf(out, "\\x%02x", (unsigned char)c);
	else
		buf_write(out, str_make(&c, 1));
}

void conf_value_print_text(struct str text, struct buf *out)
{
	if (is_safe_word(text)) {
		buf_write(out, text);
		return;
	}
	buf_write(out, STR("\""));
	for (size_t i = 0; i < text.n; i++)
		print_quoted_char(text.p[i], out);
	buf_write(out, STR("\""));
}

static void string_print(const struct conf_field *field, const void *value, struct buf *out)
{
	(void)field;
	conf_value_print_text(*(const struct str *)value, out);
}

/* RFC 1035 section 2.3.1: a label neither begins nor ends with a hyphen. */
static bool has_stray_hyphen(struct str name)
{
	while (name.n > 0) {
		struct str label = str_cut(&name, '.');
		if (label.p[0] == '-' || label.p[label.n - 1] == '-')
			return true;
	}
	return false;
}

/* "192.0.2.1" is a name by its letters, but no domain: top-level domains are not numeric
 * (RFC 3696 section 2). */
static bool ends_in_number(struct str name)
{
	size_t dot = str_rfind(name, '.');
	struct str last = dot < name.n ? str_from_pos(name, dot + 1) : name;

	return strspn(last.p, "0123456789") == last.n;
}

/* `name` is made of labels that are not empty. */
static bool is_domain(struct str name)
{
	return !has_stray_hyphen(name) && !ends_in_number(name);
}

static bool domain_parse(
	const struct conf_field *field, struct str text, void *value, struct err *why)
{
	char name[1 + IDN_NAME_MAX] = ".";
	bool has_dot = str_starts_with(text, STR("."));

	if (!idn_to_ascii(str_from_pos(text, has_dot), name + has_dot) ||
		!is_domain(str_from(name + has_dot)))
		return refuse_form(field, why);
	*(struct str *)value = str_make(str_dup(str_from(name)), strlen(name));
	return true;
}

/* ---- Addresses ---- */

static bool address_parse(
	const struct conf_field *field, struct str text, void *value, struct err *why)
{
	if (endpoint_parse(text, value))
		return true;
	return refuse_form(field, why);
}

static void address_print(const struct conf_field *field, const void *value, struct buf *out)
{
	char text[ENDPOINT_TEXT_MAX];

	(void)field;
	buf_printf(out, "\"%s\"", endpoint_print(value, text));
}

/* Would it be a network but for the bits behind the prefix? */
static bool has_host_bits(struct str text)
{
	struct ipaddr ip;
	uint64_t prefix;
	struct str address = str_cut(&text, '/');

	return ipaddr_parse(address, &ip) &&
	       str_to_u64(text, str_find(address, ':') < address.n ? 128 : 32, &prefix);
}

static bool network_parse(
	const struct conf_field *field, struct str text, void *value, struct err *why)
{
	if (ipnet_parse(text, value))
		return true;
	if (!has_host_bits(text))
		return refuse_form(field, why);
	err_set(why, "must be a network: the bits behind the prefix must be zero");
	return false;
}

static void network_print(const struct conf_field *field, const void *value, struct buf *out)
{
	char text[IPNET_TEXT_MAX];

	(void)field;
	const char *quote = strchr(ipnet_print(value, text), ':') ? "\"" : "";
	buf_printf(out, "%s%s%s", quote, text, quote);
}

/* ---- The table ---- */

static const struct conf_value_type types[CONF_DOMAIN + 1] = {
	[CONF_STRING] = {
		.name = "text",
		.plural = "texts",
		.form = "text",
		.sample = "\"\"",
		.size = sizeof(struct str),
		.parse = string_parse,
		.print = string_print,
	},
	[CONF_BOOL] = {
		.name = "yes or no",
		.plural = "yes or no",
		.form = "true or false",
		.sample = "no",
		.size = sizeof(bool),
		.parse = bool_parse,
		.print = bool_print,
	},
	[CONF_NUMBER] = {
		.name = "number",
		.plural = "numbers",
		.form = "a whole number",
		.sample = "0",
		.size = sizeof(uint64_t),
		.parse = quantity_parse,
		.print = quantity_print,
	},
	[CONF_SIZE] = {
		.name = "size",
		.plural = "sizes",
		.form = "a size such as 512, 64KB, 25MB or 2GB",
		.sample = "0",
		.size = sizeof(uint64_t),
		.parse = quantity_parse,
		.print = quantity_print,
	},
	[CONF_DURATION] = {
		.name = "duration",
		.plural = "durations",
		.form = "a duration with its unit, such as 500ms, 30s, 5m, 2h or 7d",
		.sample = "0",
		.size = sizeof(uint64_t),
		.parse = quantity_parse,
		.print = quantity_print,
	},
	[CONF_ENUM] = {
		.name = "word",
		.plural = "words",
		.form = "a word",
		.size = sizeof(int),
		.parse = enum_parse,
		.print = enum_print,
	},
	[CONF_ENDPOINT] = {
		.name = "address and port",
		.plural = "addresses and ports",
		.form = "an address and port such as 192.0.2.1:25 or [2001:db8::1]:25",
		.sample = "\"127.0.0.1:25\"",
		.size = sizeof(struct endpoint),
		.parse = address_parse,
		.print = address_print,
	},
	[CONF_NETWORK] = {
		.name = "network",
		.plural = "networks",
		.form = "a network such as 192.0.2.0/24 or 2001:db8::/32",
		.sample = "192.0.2.0/24",
		.size = sizeof(struct ipnet),
		.parse = network_parse,
		.print = network_print,
	},
	[CONF_DOMAIN] = {
		.name = "domain",
		.plural = "domains",
		.form = "a domain such as example.com or .example.com",
		.sample = "example.com",
		.size = sizeof(struct str),
		.parse = domain_parse,
		.print = string_print,
	},
};

const struct conf_value_type *conf_value_type(enum conf_type type)
{
	if (type == CONF_MAP || type == CONF_CUSTOM)
		return NULL;
	return &types[type];
}

size_t conf_value_size(const struct conf_field *field)
{
	const struct conf_value_type *type = conf_value_type(field->type);

	return type ? type->size : field->element_size;
}

static bool is_zero(const char *value, size_t size)
{
	for (size_t i = 0; i < size; i++)
		if (value[i] != 0)
			return false;
	return size > 0;
}

/* A row with a default cannot be unset, a list is empty at least. */
bool conf_value_is_unset(const struct conf_field *field, const void *value)
{
	bool is_word = field->type == CONF_BOOL || field->type == CONF_ENUM;
	bool is_number = field->type == CONF_NUMBER || field->type == CONF_SIZE ||
			 field->type == CONF_DURATION;

	if (field->dflt || field->flags & CONF_LIST || field->type == CONF_MAP || is_word ||
		(is_number && field->min == 0))
		return false;
	return is_zero(value, conf_value_size(field));
}
