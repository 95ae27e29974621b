#include "connection/results.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

/* Lists and texts are kept in the order in which they came. */
struct item {
	struct item *next;
	struct str text;
};

enum value_type { VALUE_TEXT, VALUE_NUMBER, VALUE_LIST };

struct value {
	struct value *next;
	struct str key;
	enum value_type type;
	struct str text;
	int64_t number;
	struct item *items;
};

#define LIST_COUNT (RESULT_ERR + 1)

struct result {
	struct result *next;
	struct str check;
	struct value *values; /* free keys */
	struct item *lists[LIST_COUNT];
};

static const struct str list_names[LIST_COUNT] = {
	[RESULT_PASS] = STR_INIT("pass"),
	[RESULT_FAIL] = STR_INIT("fail"),
	[RESULT_MSG] = STR_INIT("msg"),
	[RESULT_SKIP] = STR_INIT("skip"),
	[RESULT_ERR] = STR_INIT("err"),
};

void results_init(struct results *results, struct arena *arena)
{
	*results = (struct results){ .arena = arena };
}

static struct result *find_result(const struct results *results, struct str check)
{
	struct result *result = results->first;

	while (result && !str_eq(result->check, check))
		result = result->next;
	return result;
}

static struct result *make_result(struct results *results, struct str check)
{
	struct result *result = find_result(results, check);
	struct result **end = &results->first;

	if (result)
		return result;
	result = arena_alloc(results->arena, sizeof(*result));
	if (result == NULL || !arena_str(results->arena, check, &result->check))
		return NULL;
	while (*end)
		end = &(*end)->next;
	*end = result;
	return result;
}

static struct value *find_value(const struct result *result, struct str key)
{
	struct value *value = result ? result->values : NULL;

	while (value && !str_eq(value->key, key))
		value = value->next;
	return value;
}

static struct value *make_value(struct results *results, struct result *result, struct str key)
{
	struct value *value = find_value(result, key);
	struct value **end = &result->values;

	if (value)
		return value;
	value = arena_alloc(results->arena, sizeof(*value));
	if (value == NULL || !arena_str(results->arena, key, &value->key))
		return NULL;
	while (*end)
		end = &(*end)->next;
	*end = value;
	return value;
}

/* The list of that name, or LIST_COUNT. */
static size_t find_list(struct str name)
{
	size_t list = 0;

	while (list < LIST_COUNT && !str_eq(list_names[list], name))
		list++;
	return list;
}

static struct item *make_item(struct results *results, struct str text)
{
	struct item *item = arena_alloc(results->arena, sizeof(*item));

	return item && arena_str(results->arena, text, &item->text) ? item : NULL;
}

static void append(struct item **list, struct item *item)
{
	while (*list)
		list = &(*list)->next;
	*list = item;
}

bool results_add(struct results *results, struct str check, enum result_list list, struct str text)
{
	struct item *item = make_item(results, text);
	struct result *result = item ? make_result(results, check) : NULL;

	if (result == NULL)
		return false;
	append(&result->lists[list], item);
	return true;
}

/* The free key, made on demand; NULL for the name of a list, and when the arena is full. */
static struct value *free_key(struct results *results, struct str check, struct str key)
{
	struct result *result = NULL;

	if (find_list(key) == LIST_COUNT)
		result = make_result(results, check);
	return result ? make_value(results, result, key) : NULL;
}

bool results_set(struct results *results, struct str check, struct str key, struct str value)
{
	struct str copy;

	if (!arena_str(results->arena, value, &copy))
		return false;
	struct value *kept = free_key(results, check, key);
	if (kept == NULL)
		return false;
	kept->type = VALUE_TEXT;
	kept->text = copy;
	return true;
}

/* A counter that would run over stays where it is at its end. */
static int64_t sum(int64_t a, int64_t b)
{
	int64_t result;

	if (__builtin_add_overflow(a, b, &result))
		return b > 0 ? INT64_MAX : INT64_MIN;
	return result;
}

bool results_incr(struct results *results, struct str check, struct str key, int64_t by)
{
	struct value *value = free_key(results, check, key);

	if (value == NULL)
		return false;
	value->number = value->type == VALUE_NUMBER ? sum(value->number, by) : by;
	value->type = VALUE_NUMBER;
	return true;
}

bool results_push(struct results *results, struct str check, struct str key, struct str text)
{
	size_t list = find_list(key);

	if (list < LIST_COUNT)
		return results_add(results, check, (enum result_list)list, text);
	struct item *item = make_item(results, text);
	struct value *value = item ? free_key(results, check, key) : NULL;
	if (value == NULL)
		return false;
	if (value->type != VALUE_LIST)
		value->items = NULL;
	value->type = VALUE_LIST;
	append(&value->items, item);
	return true;
}

static struct str number_text(int64_t number, char scratch[24])
{
	int n = snprintf(scratch, 24, "%" PRId64, number);

	return str_make(scratch, (size_t)n);
}

bool results_get(const struct results *results, struct str check, struct str key, struct str *value,
	char scratch[24])
{
	const struct value *found = find_value(find_result(results, check), key);

	if (found == NULL || found->type == VALUE_LIST)
		return false;
	*value = found->type == VALUE_NUMBER ? number_text(found->number, scratch) : found->text;
	return true;
}

static bool list_has(const struct item *item, struct str needle)
{
	while (item && !str_eq(item->text, needle))
		item = item->next;
	return item != NULL;
}

bool results_has(const struct results *results, struct str check, struct str key, struct str needle)
{
	const struct result *result = find_result(results, check);
	size_t list = find_list(key);
	char scratch[24];
	struct str text;

	if (result == NULL)
		return false;
	if (list < LIST_COUNT)
		return list_has(result->lists[list], needle);
	const struct value *value = find_value(result, key);
	if (value && value->type == VALUE_LIST)
		return list_has(value->items, needle);
	return results_get(results, check, key, &text, scratch) && str_eq(text, needle);
}

/* A summary is one line, whatever the texts hold. */
static void put_cleaned(struct buf *out, struct str text)
{
	for (size_t i = 0; i < text.n; i++) {
		char c = ascii_is_control(text.p[i]) ? '?' : text.p[i];

		buf_write(out, str_make(&c, 1));
	}
}

static void put_key(struct buf *out, size_t start, struct str key)
{
	if (buf_used(out) > start)
		buf_write(out, STR(", "));
	put_cleaned(out, key);
	buf_write(out, STR(": "));
}

static void put_list(struct buf *out, size_t start, struct str key, const struct item *item)
{
	if (item == NULL)
		return;
	put_key(out, start, key);
	for (; item; item = item->next) {
		put_cleaned(out, item->text);
		if (item->next)
			buf_write(out, STR(", "));
	}
}

static void put_value(struct buf *out, size_t start, const struct value *value)
{
	char scratch[24];

	if (value->type == VALUE_LIST) {
		put_list(out, start, value->key, value->items);
		return;
	}
	put_key(out, start, value->key);
	put_cleaned(
		out, value->type == VALUE_TEXT ? value->text : number_text(value->number, scratch));
}

void results_collate(const struct results *results, struct str check, struct buf *out)
{
	static const enum result_list order[LIST_COUNT] = { RESULT_MSG, RESULT_PASS, RESULT_FAIL,
		RESULT_SKIP, RESULT_ERR };
	const struct result *result = find_result(results, check);
	size_t start = buf_used(out);

	if (result == NULL)
		return;
	for (const struct value *value = result->values; value; value = value->next)
		if (!str_starts_with(value->key, STR("_")))
			put_value(out, start, value);
	for (size_t i = 0; i < LIST_COUNT; i++)
		put_list(out, start, list_names[order[i]], result->lists[order[i]]);
}

static void write_list(struct json *json, const struct item *item)
{
	json_array_begin(json);
	for (; item; item = item->next)
		json_str(json, item->text);
	json_array_end(json);
}

static void write_value(struct json *json, const struct value *value)
{
	json_key(json, value->key);
	if (value->type == VALUE_TEXT)
		json_str(json, value->text);
	else if (value->type == VALUE_NUMBER)
		json_int(json, value->number);
	else
		write_list(json, value->items);
}

static void write_result(struct json *json, const struct result *result)
{
	json_object_begin(json);
	for (size_t i = 0; i < LIST_COUNT; i++) {
		if (result->lists[i] == NULL)
			continue;
		json_key(json, list_names[i]);
		write_list(json, result->lists[i]);
	}
	for (const struct value *value = result->values; value; value = value->next)
		write_value(json, value);
	json_object_end(json);
}

void results_write(const struct results *results, struct json *json)
{
	json_object_begin(json);
	for (const struct result *result = results->first; result; result = result->next) {
		json_key(json, result->check);
		write_result(json, result);
	}
	json_object_end(json);
}
