#include "net/tls_slot.h"

#include "base/log.h"

int tls_slot_open(struct tls_slot *slot, struct str name, tls_slot_make *make, const void *settings,
	struct err *err)
{
	*slot = (struct tls_slot){ .name = name, .make = make, .settings = settings };
	slot->context = make(settings, err);
	if (slot->context == NULL)
		return err_prefix(err, "%.*s: tls", STR_ARG(slot->name));
	slot->files_state = tls_context_files_state(slot->context);
	return 0;
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
	struct tls_context *fresh = slot->make(slot->settings, &err);
	if (fresh == NULL) {
		LOG(FILES_KEPT, log_str("name", slot->name), log_text("kind", "tls"),
			log_text("error", err.text));
		return;
	}
	tls_context_release(&slot->context);
	slot->context = fresh;
	LOG(FILES_READ, log_str("name", slot->name), log_text("kind", "tls"));
}
