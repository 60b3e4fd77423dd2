#include "shm/base/log.h"
#include "worker/reception/esmtp_int.h"

static const struct {
	const char *text; /* as the rejectlog puts it */
	unsigned may_become;
} states[ES_STATES] = {
	[ES_CONNECT] = { "connecting", IN(ES_BANNER) | IN(ES_CLOSING) },
	[ES_BANNER] = { "awaiting ehlo", IN(ES_READY) | IN(ES_MAIL) | IN(ES_CLOSING) },
	[ES_READY] = { "awaiting mailfrom", IN(ES_READY) | IN(ES_MAIL) | IN(ES_CLOSING) },
	[ES_MAIL] = { "awaiting rcptto", IN(ES_READY) | IN(ES_RCPT) | IN(ES_CLOSING) },
	[ES_RCPT] = { "awaiting rcptto", IN(ES_RCPT) | IN(ES_READY) | IN(ES_BODY) | IN(ES_CLOSING) },
	[ES_BODY] = { "reading body", IN(ES_JUDGE) | IN(ES_CLOSING) },
	[ES_JUDGE] = { "validating body", IN(ES_READY) | IN(ES_CLOSING) },
	[ES_CLOSING] = { "closing", IN(ES_CLOSING) },
};

void
esmtp_enter(struct esmtp *s, enum esmtp_state to)
{
	require_that((states[s->state].may_become & IN(to)) != 0, "esmtp");
	log_debug("esmtp", "%s: %s -> %s", s->peer, states[s->state].text, states[to].text);
	s->state = to;
}

const char *
esmtp_state_text(enum esmtp_state state)
{
	return states[state].text;
}
