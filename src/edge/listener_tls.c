#include "edge/listener_tls.h"

#include <stdlib.h>

#include "base/xalloc.h"

/* The single certificate, if there is one, and then the list. */
static struct tls_context *make(const void *of, struct err *err)
{
	const struct tls_settings *settings = of;
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

int listener_tls_open(
	struct tls_slot *slot, const struct listener_settings *listener, struct err *err)
{
	*slot = (struct tls_slot){ 0 };
	if (listener->tls.mode == TLS_MODE_OFF)
		return 0;
	return tls_slot_open(slot, listener->name, make, &listener->tls, err);
}
