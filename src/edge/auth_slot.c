#include "edge/auth_slot.h"

#include "auth/dovecot.h"
#include "auth/users.h"
#include "base/assert.h"
#include "base/log.h"
#include "edge/auth_backend.h"

/* The change time, as the mending of an owner or of permissions must be seen, too. */
static bool is_same_file(const struct stat *a, const struct stat *b)
{
	return a->st_ino == b->st_ino && a->st_dev == b->st_dev && a->st_size == b->st_size &&
	       a->st_ctim.tv_sec == b->st_ctim.tv_sec && a->st_ctim.tv_nsec == b->st_ctim.tv_nsec;
}

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
		(void)stat(settings->users.p, &slot->users);
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

void auth_slot_close(struct auth_slot *slot)
{
	if (slot->service != NULL)
		slot->service->kind->free(slot->service);
	slot->service = NULL;
}

void auth_slot_refresh(struct auth_slot *slot, bool always)
{
	struct stat now = { 0 };
	struct err err = { "" };

	if (slot->service == NULL || slot->settings->users.n == 0)
		return;
	(void)stat(slot->settings->users.p, &now);
	if (is_same_file(&now, &slot->users) && !always)
		return;
	slot->users = now;
	if (auth_users_reload(slot->service, &err) < 0)
		LOG(FILES_KEPT, log_str("name", slot->name), log_text("kind", "users"),
			log_text("error", err.text));
	else
		LOG(FILES_READ, log_str("name", slot->name), log_text("kind", "users"));
}
