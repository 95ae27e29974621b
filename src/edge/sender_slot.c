#include "edge/sender_slot.h"

#include "base/log.h"

/* Users can send nothing then, or as anybody: see auth.unlisted_senders. */
static void notice_empty(const struct map_file *file)
{
	struct err detail;

	if (map_count(file->map) > 0)
		return;
	err_set(&detail, "%s: no sender is in it", file->path);
	LOG(CONFIG_NOTICE, log_text("detail", detail.text));
}

static int open_slot(struct sender_slot *slot, struct str name,
	const struct auth_settings *settings, struct err *err)
{
	*slot = (struct sender_slot){
		.file = {
			.name = name,
			.kind = "sender_login",
			.path = settings->sender_login.p,
			.accepts = sender_login_accepts,
			.must_stay_filled = true,
		},
		.login = {
			.takes_unlisted = settings->unlisted_senders == UNLISTED_SENDERS_ACCEPT,
			.refuses_unauthenticated = settings->unauthenticated_senders ==
						   UNAUTHENTICATED_SENDERS_REJECT,
		},
	};
	if (settings->sender_login.n == 0)
		return 0;
	if (map_file_open(&slot->file, err) < 0)
		return -1;
	notice_empty(&slot->file);
	slot->login.owners = slot->file.map;
	return 0;
}

int sender_slot_open(struct sender_slot *slot, struct str name,
	const struct auth_settings *settings, struct err *err)
{
	if (open_slot(slot, name, settings, err) < 0)
		return err_prefix(err, "%.*s: auth.sender_login", STR_ARG(name));
	return 0;
}

int sender_slot_check(const struct auth_settings *settings, struct err *err)
{
	struct sender_slot slot;
	int rc = open_slot(&slot, STR(""), settings, err);

	sender_slot_close(&slot);
	return rc;
}

void sender_slot_close(struct sender_slot *slot)
{
	map_file_close(&slot->file);
	slot->login.owners = NULL;
}

void sender_slot_refresh(struct sender_slot *slot, bool always)
{
	if (map_file_refresh(&slot->file, always))
		slot->login.owners = slot->file.map;
}

const struct sender_login *sender_slot_login(const struct sender_slot *slot)
{
	return slot->login.owners != NULL ? &slot->login : NULL;
}
