#include "policy/domain_list.h"

static bool is_match(struct str entry, struct str domain)
{
	if (str_starts_with(entry, STR(".")))
		return domain.n > entry.n && str_ends_with_nocase(domain, entry);
	return str_eq_nocase(domain, entry);
}

bool domain_list_holds(const struct conf_list *list, struct str domain)
{
	const struct str *entries = list->items;

	if (str_is_empty(domain))
		return false;
	for (size_t i = 0; i < list->count; i++)
		if (is_match(entries[i], domain))
			return true;
	return false;
}
