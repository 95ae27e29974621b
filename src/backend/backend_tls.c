#include "backend/backend_tls.h"

static struct tls_context *make(const void *of, struct err *err)
{
	const struct backend_tls_settings *settings = of;
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

int backend_tls_open(struct backend *backend, struct err *err)
{
	const struct backend_settings *settings = backend->settings;

	if (settings->tls.mode == BACKEND_TLS_OFF)
		return 0;
	return tls_slot_open(&backend->tls, settings->name, make, &settings->tls, err);
}

enum tls_step backend_tls_step(
	const struct backend *backend, const struct smtp_capabilities *capabilities, bool is_tls)
{
	bool is_offered = capabilities->extensions & SMTP_EXT_STARTTLS;

	if (is_tls)
		return TLS_STEP_NONE;
	switch ((enum backend_tls_mode)backend->settings->tls.mode) {
	case BACKEND_TLS_OFF:
	case BACKEND_TLS_IMPLICIT:
		return TLS_STEP_NONE;
	case BACKEND_TLS_OPPORTUNISTIC:
		return is_offered ? TLS_STEP_STARTTLS : TLS_STEP_PLAINTEXT;
	case BACKEND_TLS_REQUIRED:
		return is_offered ? TLS_STEP_STARTTLS : TLS_STEP_REFUSE;
	}
	return TLS_STEP_REFUSE;
}

enum tls_step backend_tls_failed(const struct backend *backend)
{
	const struct backend_tls_settings *tls = &backend->settings->tls;
	bool may_fall_back =
		tls->mode == BACKEND_TLS_OPPORTUNISTIC && tls->fallback == TLS_FALLBACK_ALWAYS;

	return may_fall_back ? TLS_STEP_PLAINTEXT : TLS_STEP_REFUSE;
}
