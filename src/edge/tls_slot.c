#include "edge/tls_slot.h"

#include <stdlib.h>

#include "base/log.h"
#include "base/xalloc.h"

/* The single certificate, if there is one, and then the list. */
static struct tls_context *make_server(const struct tls_settings *settings, struct err *err)
{
	size_t count = settings->certificates.count + (settings->certificate.n > 0);
	struct tls_certificate *all = xcalloc(count, sizeof(*all));
	const struct tls_certificate *more = settings->certificates.items;
	size_t n = 0;

	if (settings->certificate.n > 0)
		all[n++] = (struct tls_certificate){ settings->certificate, settings->key };
	for (size_t i = 0; i < settings->certificates.count; i++)
		all[n++] = more[i];
	struct tls_server_settings server = {
		.certificates = all,
		.certificate_count = n,
		.min_version = (enum tls_version)settings->min_version,
		.client_ca = settings->client_ca,
	};
	struct tls_context *context = tls_server_context(&server, err);
	free(all);
	return context;
}

static struct tls_context *make_client(const struct backend_tls_settings *settings, struct err *err)
{
	struct tls_client_settings client = {
		.min_version = (enum tls_version)settings->min_version,
		.verify = (enum tls_verify)settings->verify,
		.ca = settings->ca,
		.name = settings->name,
		.fingerprint = settings->fingerprint,
		.certificate = settings->certificate,
		.key = settings->key,
	};

	return tls_client_context(&client, err);
}

static struct tls_context *make(const struct tls_slot *slot, struct err *err)
{
	return slot->server ? make_server(slot->server, err) : make_client(slot->client, err);
}

static int open_slot(struct tls_slot *slot, struct err *err)
{
	slot->context = make(slot, err);
	if (slot->context == NULL)
		return err_prefix(err, "%.*s: tls", STR_ARG(slot->name));
	slot->files_state = tls_context_files_state(slot->context);
	return 0;
}

int tls_slot_open_server(struct tls_slot *slot, struct str name,
	const struct tls_settings *settings, struct err *err)
{
	*slot = (struct tls_slot){ .name = name, .server = settings };
	return settings->mode == TLS_MODE_OFF ? 0 : open_slot(slot, err);
}

int tls_slot_open_client(struct tls_slot *slot, struct str name,
	const struct backend_tls_settings *settings, struct err *err)
{
	*slot = (struct tls_slot){ .name = name, .client = settings };
	return settings->mode == BACKEND_TLS_OFF ? 0 : open_slot(slot, err);
}

void tls_slot_close(struct tls_slot *slot)
{
	if (slot->context != NULL)
		tls_context_release(&slot->context);
}

void tls_slot_refresh(struct tls_slot *slot, bool always)
{
	struct err err = { "" };

	if (slot->context == NULL)
		return;
	uint64_t state = tls_context_files_state(slot->context);
	if (state == slot->files_state && !always)
		return;
	slot->files_state = state;
	struct tls_context *fresh = make(slot, &err);
	if (fresh == NULL) {
		LOG(FILES_KEPT, log_str("name", slot->name), log_text("kind", "tls"),
			log_text("error", err.text));
		return;
	}
	tls_context_release(&slot->context);
	slot->context = fresh;
	LOG(FILES_READ, log_str("name", slot->name), log_text("kind", "tls"));
}
