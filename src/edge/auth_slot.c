#include "edge/auth_slot.h"

#include "auth/dovecot.h"
#include "auth/users.h"
#include "base/assert.h"
#include "base/file_state.h"
#include "base/log.h"
#include "edge/auth_backend.h"

static struct auth_service *ask_backend(
	const struct edge *edge, const struct auth_settings *settings)
{
	struct backend *backend = route_backend(&edge->routes, settings->backend);

	ASSERT(backend != NULL);
	return auth_backend_new(&edge->backend, backend, settings->timeout_ms);
}

int auth_slot_open(struct auth_slot *slot, const struct edge *edge, struct str name,
	const struct auth_settings *settings, struct err *err)
{
	*slot = (struct auth_slot){ .name = name, .settings = settings };
	if (settings->users.n > 0) {
		slot->users = file_state_look(settings->users.p);
		slot->service = auth_users_new(edge->loop, settings->users.p, err);
	} else if (settings->sasl.n > 0) {
		slot->service =
			auth_dovecot_new(edge->loop, settings->sasl, settings->timeout_ms, err);
	} else if (settings->backend.n > 0) {
		slot->service = ask_backend(edge, settings);
	} else {
		return 0;
	}
	return slot->service ? 0 : err_prefix(err, "%.*s: auth", STR_ARG(name));
}

int auth_slot_check(const struct auth_settings *settings, struct err *err)
{
	return settings->users.n > 0 ? auth_users_check(settings->users.p, err) : 0;
}

void auth_slot_close(struct auth_slot *slot)
{
	if (slot->service != NULL)
		slot->service->kind->free(slot->service);
	slot->service = NULL;
}

void auth_slot_refresh(struct auth_slot *slot, bool always)
{
	struct err err = { "" };

	if (slot->service == NULL || slot->settings->users.n == 0)
		return;
	struct stat now = file_state_look(slot->settings->users.p);
	if (file_state_is_same(&now, &slot->users) && !always)
		return;
	slot->users = now;
	if (auth_users_reload(slot->service, &err) < 0)
		LOG(FILES_KEPT, log_str("name", slot->name), log_text("kind", "users"),
			log_text("error", err.text));
	else
		LOG(FILES_READ, log_str("name", slot->name), log_text("kind", "users"));
}
