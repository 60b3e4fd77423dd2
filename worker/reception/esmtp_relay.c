/* Who may send mail to whom through us. Default deny: a recipient's domain is one of relay_domains, or the client is one
 * that may relay. Only the domain decides: the left side of an address is never looked into (no %, no !, no quotes), an
 * address literal is a domain like any other and matches no name, and a name with a dot at its end is no address. */
#include "worker/reception/esmtp_int.h"
#include "worker/reception/reception_options.h"

void
esmtp_relay_client(struct esmtp *s, const struct sockaddr *peer)
{
	bool may =
		conf_bool(s->view, OPT_OPEN_RELAY) || (peer != NULL && conf_has_addr(s->view, OPT_RELAY_HOSTS, peer));

	if (may)
		(void)policy_context_set(policy_session_conn(s->policy), SLICE("can_relay"), SLICE("true"));
}

static bool
sender_relays(struct esmtp *s)
{
	struct addr sender;

	return addr_parse(s->txn->sender, ADDR_UTF8, &sender) == OK && !sender.literal &&
	       conf_has_domain(s->view, OPT_RELAY_FOR_SENDING_DOMAINS, sender.domain);
}

bool
esmtp_relay_allowed(struct esmtp *s, const struct addr *rcpt)
{
	struct slice can_relay;

	/* <postmaster> is ours (RFC 5321 4.5.1). */
	if (rcpt->domain.n == 0)
		return true;
	if (policy_context_get(policy_session_conn(s->policy), SLICE("can_relay"), &can_relay) &&
	    slice_eq(can_relay, SLICE("true")))
		return true;
	if (!rcpt->literal && conf_has_domain(s->view, OPT_RELAY_DOMAINS, rcpt->domain))
		return true;
	return sender_relays(s);
}
