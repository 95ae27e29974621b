#include "trace_transaction.h"

#include "connection/transaction.h"

void trace_text_write(struct json *json, struct str text)
{
	if (str_is_empty(text))
		json_null(json);
	else
		json_str(json, text);
}

void trace_counts_write(struct json *json, const struct rcpt_count *count)
{
	json_object_begin(json);
	json_key_uint(json, "accept", count->accept);
	json_key_uint(json, "tempfail", count->tempfail);
	json_key_uint(json, "reject", count->reject);
	json_object_end(json);
}

static void write_path(struct json *json, const struct smtp_path *path)
{
	json_key_str(json, "original", path->original);
	json_key_str(json, "user", path->user);
	json_key_str(json, "host", path->host);
	json_key_str(json, "address", path->address);
}

/* The key and the text, unless it is empty. */
static void write_given(struct json *json, const char *key, struct str text)
{
	if (!str_is_empty(text))
		json_key_str(json, key, text);
}

static void write_mail_params(struct json *json, const struct smtp_mail_params *params)
{
	json_key(json, STR("params"));
	json_object_begin(json);
	if (params->has_size)
		json_key_uint(json, "size", params->size);
	if (params->body != SMTP_BODY_ABSENT)
		json_key_str(json, "body",
			params->body == SMTP_BODY_7BIT ? STR("7BIT") : STR("8BITMIME"));
	if (params->smtputf8)
		json_key_bool(json, "smtputf8", true);
	write_given(json, "ret", params->ret);
	if (params->has_envid)
		json_key_str(json, "envid", params->envid);
	json_object_end(json);
}

static void write_rcpt_params(struct json *json, const struct smtp_rcpt_params *params)
{
	json_key(json, STR("params"));
	json_object_begin(json);
	write_given(json, "notify", params->notify);
	write_given(json, "orcpt", params->orcpt);
	json_object_end(json);
}

static void write_uuid(struct json *json, const struct transaction *transaction)
{
	json_str(json, str_from(transaction->uuid));
}

static void write_mail_from(struct json *json, const struct transaction *transaction)
{
	json_object_begin(json);
	write_path(json, &transaction->mail_from);
	write_mail_params(json, &transaction->mail_params);
	json_object_end(json);
}

static void write_rcpt_to(struct json *json, const struct transaction *transaction)
{
	const struct recipient *recipient;

	json_array_begin(json);
	STAILQ_FOREACH(recipient, &transaction->rcpt_to, link)
	{
		json_object_begin(json);
		write_path(json, &recipient->path);
		write_rcpt_params(json, &recipient->params);
		json_object_end(json);
	}
	json_array_end(json);
}

static void write_rcpt_count(struct json *json, const struct transaction *transaction)
{
	trace_counts_write(json, &transaction->rcpt_count);
}

static void write_relaying(struct json *json, const struct transaction *transaction)
{
	json_bool(json, transaction->relaying);
}

static void write_data_bytes(struct json *json, const struct transaction *transaction)
{
	json_uint(json, transaction->data_bytes);
}

static bool is_open(const struct transaction *transaction)
{
	return transaction->outcome == OUTCOME_NONE;
}

static void write_outcome(struct json *json, const struct transaction *transaction)
{
	if (is_open(transaction))
		json_null(json);
	else
		json_str(json, str_from(outcome_word(transaction->outcome)));
}

static void write_by(struct json *json, const struct transaction *transaction)
{
	if (is_open(transaction))
		json_null(json);
	else
		json_str(json, str_from(outcome_by_word(transaction->by)));
}

static void write_backend(struct json *json, const struct transaction *transaction)
{
	trace_text_write(json, transaction->backend);
}

static void write_server(struct json *json, const struct transaction *transaction)
{
	trace_text_write(json, transaction->server);
}

static void write_reply(struct json *json, const struct transaction *transaction)
{
	trace_text_write(json, transaction->reply);
}

static void write_ms(struct json *json, const struct transaction *transaction)
{
	if (is_open(transaction))
		json_null(json);
	else
		json_uint(json, transaction->end_ms - transaction->start_ms);
}

static void write_notes(struct json *json, const struct transaction *transaction)
{
	notes_write(&transaction->notes, json);
}

static void write_results(struct json *json, const struct transaction *transaction)
{
	results_write(&transaction->results, json);
}

static const struct field {
	struct str name;
	void (*write)(struct json *json, const struct transaction *transaction);
} fields[] = {
#define TRANSACTION(name, type, help) { STR_INIT(#name), write_##name },
#include "tables/transaction.def"
#undef TRANSACTION
};

void trace_transaction_write(struct json *json, const struct transaction *transaction)
{
	json_object_begin(json);
	for (size_t i = 0; i < sizeof(fields) / sizeof(fields[0]); i++) {
		json_key(json, fields[i].name);
		fields[i].write(json, transaction);
	}
	json_object_end(json);
}
