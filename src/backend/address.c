#include "backend/address.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/un.h>

#include "base/assert.h"
#include "base/idn.h"

#define UNIX STR("unix:")
#define PORT_TEXT_MAX 6

static bool refuse(struct err *why)
{
	err_set(why, "must be an address and port such as 192.0.2.1:25 or [2001:db8::1]:25, a name "
		     "and port such as mx.internal:25, or the path of a socket such as "
		     "unix:/run/mta.sock");
	return false;
}

static void set_text(struct backend_address *address, struct str text)
{
	address->text = str_make(str_dup(text), text.n);
}

static bool parse_unix(struct str text, struct backend_address *address, struct err *why)
{
	struct str path = str_from_pos(text, UNIX.n);

	if (path.n == 0 || path.p[0] != '/')
		return refuse(why);
	if (path.n > sizeof((struct sockaddr_un){ 0 }.sun_path)) {
		err_set(why, "must be a path of at most %zu bytes",
			sizeof((struct sockaddr_un){ 0 }.sun_path));
		return false;
	}
	for (size_t i = 0; i < path.n; i++)
		if (ascii_is_control(path.p[i]))
			return refuse(why);
	*address = (struct backend_address){ .kind = ADDRESS_UNIX };
	set_text(address, text);
	address->path = str_from_pos(address->text, UNIX.n);
	return true;
}

static void take_ip(const struct endpoint *endpoint, struct backend_address *address)
{
	char text[ENDPOINT_TEXT_MAX];

	*address = (struct backend_address){ .kind = ADDRESS_IP, .endpoint = *endpoint };
	set_text(address, str_from(endpoint_print(endpoint, text)));
}

/* "10.0.0.300" is a mistyped address and no name: top-level domains are not numeric. */
static bool ends_in_number(struct str host)
{
	size_t dot = str_rfind(host, '.');
	struct str last = dot < host.n ? str_from_pos(host, dot + 1) : host;

	for (size_t i = 0; i < last.n; i++)
		if (!ascii_is_digit(last.p[i]))
			return false;
	return true;
}

/* RFC 1123 section 2.1, but for the underscore, which names inside of networks have. */
static bool is_host(struct str host)
{
	struct str rest = host;

	while (rest.n > 0) {
		struct str label = str_cut(&rest, '.');
		if (label.n == 0 || label.p[0] == '-' || label.p[label.n - 1] == '-')
			return false;
	}
	return !ends_in_number(host);
}

static bool parse_name(struct str text, struct backend_address *address, struct err *why)
{
	char host[IDN_NAME_MAX], canonical[IDN_NAME_MAX + PORT_TEXT_MAX];
	size_t colon = str_rfind(text, ':');
	uint64_t port;

	if (colon >= text.n || !idn_to_ascii(str_range(text, 0, colon), host) ||
		!is_host(str_from(host)))
		return refuse(why);
	struct str digits = str_from_pos(text, colon + 1);
	if (!str_to_u64(digits, UINT16_MAX, &port) || port == 0 || digits.p[0] == '0')
		return refuse(why);
	snprintf(canonical, sizeof(canonical), "%s:%u", host, (unsigned)port);
	*address = (struct backend_address){ .kind = ADDRESS_NAME };
	set_text(address, str_from(canonical));
	address->host = str_range(address->text, 0, strlen(host));
	address->endpoint.port = (uint16_t)port;
	return true;
}

bool backend_address_parse(struct str text, struct backend_address *address, struct err *why)
{
	struct endpoint endpoint;

	if (str_starts_with(text, UNIX))
		return parse_unix(text, address, why);
	if (!endpoint_parse(text, &endpoint))
		return parse_name(text, address, why);
	take_ip(&endpoint, address);
	return true;
}

void backend_address_free(struct backend_address *address)
{
	free((void *)(uintptr_t)address->text.p);
	*address = (struct backend_address){ 0 };
}

/* ---- Settings ----------------------------------------------------------------------------------- */

static const struct conf_field text_field = { .type = CONF_STRING };

void backend_address_read(
	struct conf_node *node, void *value, const void *arg, struct conf_errors *errors)
{
	struct str text = { 0 };
	struct err why;

	(void)arg;
	conf_read_value(node, &text_field, &text, errors);
	if (text.p == NULL)
		return;
	if (!backend_address_parse(text, value, &why))
		conf_error(errors, node, "%s", why.text);
	free((void *)(uintptr_t)text.p);
}

void backend_address_clear(void *value, const void *arg)
{
	(void)arg;
	backend_address_free(value);
}

void backend_address_print(const void *value, const void *arg, struct buf *out)
{
	const struct backend_address *address = value;

	(void)arg;
	conf_print_value(&text_field, &address->text, out);
}

const char backend_address_schema[] =
	"{\"anyOf\":[{\"type\":\"string\",\"pattern\":"
	"\"^(unix:/.+|\\\\[[0-9A-Fa-f:.]+\\\\]:[0-9]+|[^\\\\s:/@\\\\[\\\\]]+:[0-9]+)$\"},"
	"{\"$ref\":\"#/$defs/variable\"}]}";
