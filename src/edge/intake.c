#include "edge/intake.h"

static enum intake_decision refuse(
	struct intake *intake, enum ending ending, const char *word, const char *text)
{
	intake->ending = ending;
	intake->word = word;
	intake->text = text;
	return INTAKE_REFUSED;
}

static enum intake_decision without_header(const struct intake *intake)
{
	return intake->is_checker ? INTAKE_RESTRICTED : INTAKE_DIRECT;
}

enum intake_decision intake_begin(
	struct intake *intake, const struct listener_settings *settings, const struct ipaddr *peer)
{
	*intake = (struct intake){ .settings = settings };
	/* The list has a default, which says nothing on a listener without proxies. */
	intake->is_trusted = settings->proxy != PROXY_MODE_OFF &&
			     ipnet_list_find(&settings->trusted_proxies, peer) != NULL;
	intake->is_checker = ipnet_list_find(&settings->health_checkers, peer) != NULL;
	if (intake->is_trusted)
		return INTAKE_WAIT;
	if (settings->proxy == PROXY_MODE_REQUIRED && !intake->is_checker)
		return refuse(intake, ENDING_PROXY_UNTRUSTED, "untrusted",
			"the peer is not in trusted_proxies");
	return without_header(intake);
}

static enum intake_decision header_complete(struct intake *intake, struct proxy_header *header)
{
	intake->header = header;
	intake->taken = header->length;
	if (header->command == PROXY_COMMAND_PROXY &&
		(header->family == PROXY_FAMILY_UDP4 || header->family == PROXY_FAMILY_UDP6 ||
			header->family == PROXY_FAMILY_UNIX_DGRAM))
		return refuse(intake, ENDING_PROXY_INVALID, "datagram",
			"the header announces a datagram protocol");
	return proxy_has_client(header) ? INTAKE_CLIENT : INTAKE_RESTRICTED;
}

enum intake_decision intake_feed(
	struct intake *intake, struct str bytes, struct proxy_header *header)
{
	enum proxy_error error = PROXY_ERROR_NONE;
	bool may_lack = intake->is_checker || intake->settings->proxy == PROXY_MODE_OPTIONAL;

	if (bytes.n == 0)
		return INTAKE_WAIT;
	if (may_lack && !proxy_looks_like_header(bytes))
		return without_header(intake);
	int complete = proxy_parse(bytes, header, &error);
	if (complete == 0)
		return INTAKE_WAIT;
	if (complete < 0)
		return refuse(intake, ENDING_PROXY_INVALID, proxy_error_word(error),
			proxy_error_text(error));
	return header_complete(intake, header);
}

uint64_t intake_silence_ms(const struct intake *intake, const struct timeouts_settings *timeouts)
{
	if (intake->is_checker || intake->settings->proxy == PROXY_MODE_OPTIONAL)
		return timeouts->proxy_wait;
	return 0;
}

enum intake_decision intake_silence(struct intake *intake)
{
	return without_header(intake);
}

enum intake_decision intake_timeout(struct intake *intake)
{
	return refuse(intake, ENDING_PROXY_TIMEOUT, "timeout",
		"no complete header within timeouts.proxy");
}

enum intake_decision intake_eof(struct intake *intake, bool any_bytes)
{
	return refuse(intake, ENDING_PROXY_CLOSED, any_bytes ? "cut_short" : "closed",
		any_bytes ? "the peer closed within the header"
			  : "the peer closed before a header");
}
