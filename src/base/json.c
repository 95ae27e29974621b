#include "base/json.h"

#include <stdio.h>
#include <string.h>

#include "base/chars.h"
#include "base/utf8.h"

void json_init(struct json *json, struct buf *out)
{
	*json = (struct json){ .out = out };
}

bool json_ok(const struct json *json)
{
	return !json->failed;
}

static void put(struct json *json, struct str bytes)
{
	if (!json->failed && !buf_write(json->out, bytes))
		json->failed = true;
}

/* Room for bytes that are written in place; NULL: it does not fit. */
static char *reserve(struct json *json, size_t n)
{
	char *room = json->failed ? NULL : buf_reserve(json->out, n);

	if (room == NULL)
		json->failed = true;
	else
		buf_commit(json->out, n);
	return room;
}

static void put_char(struct json *json, char c)
{
	put(json, str_make(&c, 1));
}

static void begin_value(struct json *json)
{
	if (json->needs_comma)
		put_char(json, ',');
	json->needs_comma = true;
}

static void open_level(struct json *json, struct str bracket)
{
	begin_value(json);
	put(json, bracket);
	json->needs_comma = false;
}

static void close_level(struct json *json, struct str bracket)
{
	put(json, bracket);
	json->needs_comma = true;
}

void json_object_begin(struct json *json)
{
	open_level(json, STR("{"));
}

void json_object_end(struct json *json)
{
	close_level(json, STR("}"));
}

void json_array_begin(struct json *json)
{
	open_level(json, STR("["));
}

void json_array_end(struct json *json)
{
	close_level(json, STR("]"));
}

/* May the character stand in a string as it is? RFC 8259 section 7, and what terminals and
 * JavaScript take as control characters or line ends. */
static bool is_plain(uint32_t code)
{
	if (code < 0x20 || (code >= 0x7f && code <= 0x9f))
		return false;
	return code != '"' && code != '\\' && code != 0x2028 && code != 0x2029;
}

static void put_escape(struct json *json, uint32_t code)
{
	char text[8];
	int n;

	if (code == '"' || code == '\\')
		n = snprintf(text, sizeof(text), "\\%c", (char)code);
	else
		n = snprintf(text, sizeof(text), "\\u%04x", (unsigned)(code & 0xffff));
	put(json, str_make(text, (size_t)n));
}

/* Length of the text at the front that needs no escape. */
static size_t plain_length(struct str s)
{
	size_t at = chars_span_json(s); /* nearly everything is ASCII */

	while (at < s.n) {
		uint32_t code;
		size_t n = utf8_decode(str_from_pos(s, at), &code);
		if (n == 0 || !is_plain(code))
			break;
		at += n;
		at += chars_span_json(str_from_pos(s, at));
	}
	return at;
}

/* The rest of a string, from what needs an escape on. */
static void put_escaped(struct json *json, struct str s)
{
	while (s.n > 0 && !json->failed) {
		uint32_t code = (unsigned char)s.p[0];
		size_t n = utf8_decode(s, &code);
		put_escape(json, code);
		s = str_from_pos(s, n ? n : 1);
		size_t plain = plain_length(s);
		put(json, str_range(s, 0, plain));
		s = str_from_pos(s, plain);
	}
}

static char *put_quoted(char *out, struct str plain)
{
	*out++ = '"';
	if (plain.n > 0)
		memcpy(out, plain.p, plain.n);
	out += plain.n;
	*out++ = '"';
	return out;
}

static void put_string(struct json *json, struct str s)
{
	size_t plain = plain_length(s);

	if (plain == s.n) {
		char *out = reserve(json, s.n + STR("\"\"").n);
		if (out != NULL)
			put_quoted(out, s);
		return;
	}
	put_char(json, '"');
	put(json, str_range(s, 0, plain));
	put_escaped(json, str_from_pos(s, plain));
	put_char(json, '"');
}

/* The name, and where the `n` bytes of its value go; NULL: they do not fit. */
static char *put_name(struct json *json, struct str name, size_t n)
{
	size_t comma = json->needs_comma ? 1 : 0;
	char *out = reserve(json, comma + name.n + STR("\"\":").n + n);

	if (out == NULL)
		return NULL;
	*out = ',';
	out = put_quoted(out + comma, name);
	*out++ = ':';
	json->needs_comma = false;
	return out;
}

void json_name(struct json *json, struct str name)
{
	put_name(json, name, 0);
}

void json_name_str(struct json *json, struct str name, struct str value)
{
	if (plain_length(value) < value.n) {
		put_name(json, name, 0);
		json_str(json, value);
		return;
	}
	char *out = put_name(json, name, value.n + STR("\"\"").n);
	if (out == NULL)
		return;
	put_quoted(out, value);
	json->needs_comma = true;
}

void json_key(struct json *json, struct str key)
{
	begin_value(json);
	put_string(json, key);
	put_char(json, ':');
	json->needs_comma = false;
}

void json_str(struct json *json, struct str value)
{
	begin_value(json);
	put_string(json, value);
}

static void put_number(struct json *json, uint64_t value)
{
	if (!json->failed && !buf_write_number(json->out, value, 0))
		json->failed = true;
}

void json_int(struct json *json, int64_t value)
{
	begin_value(json);
	if (value < 0)
		put_char(json, '-');
	put_number(json, value < 0 ? 0 - (uint64_t)value : (uint64_t)value);
}

void json_uint(struct json *json, uint64_t value)
{
	begin_value(json);
	put_number(json, value);
}

void json_bool(struct json *json, bool value)
{
	begin_value(json);
	put(json, value ? STR("true") : STR("false"));
}

void json_null(struct json *json)
{
	begin_value(json);
	put(json, STR("null"));
}

void json_hex(struct json *json, struct str bytes)
{
	static const char digits[] = "0123456789abcdef";

	begin_value(json);
	put(json, STR("\""));
	for (size_t i = 0; i < bytes.n && !json->failed; i++) {
		unsigned char byte = (unsigned char)bytes.p[i];
		char pair[2] = { digits[byte >> 4], digits[byte & 15] };

		put(json, str_make(pair, sizeof(pair)));
	}
	put(json, STR("\""));
}

void json_key_str(struct json *json, const char *key, struct str value)
{
	json_key(json, str_from(key));
	json_str(json, value);
}

void json_key_uint(struct json *json, const char *key, uint64_t value)
{
	json_key(json, str_from(key));
	json_uint(json, value);
}

void json_key_bool(struct json *json, const char *key, bool value)
{
	json_key(json, str_from(key));
	json_bool(json, value);
}
