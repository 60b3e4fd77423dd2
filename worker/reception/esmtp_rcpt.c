/* RCPT: a recipient, if the client may send to it, the limits have room, and policy agrees. */
#include "worker/reception/esmtp_int.h"
#include "worker/reception/reception_options.h"

/* Bounds of ours, where the configuration has none: a record has at most 65,535 items. */
enum { RCPTS_HARD_MAX = 50000 };

static bool
reached(const struct esmtp *s, enum opt_id id, size_t n)
{
	int64_t max = conf_int(s->view, id);

	return max > 0 && n >= (size_t)max;
}

/* True: replied. The recipients accepted so far stay (RFC 5321 4.5.3.1.10). */
static bool
refused_now(struct esmtp_cmd *c, const struct addr *rcpt)
{
	struct esmtp *s = c->s;

	if (reached(s, OPT_MAX_RECIPIENTS_PER_MESSAGE, s->txn->n) || s->txn->n >= RCPTS_HARD_MAX)
		esmtp_reply(c, 452, "4.5.3 Service unavailable, recipients per message limit reached");
	else if (reached(s, OPT_MAX_RECIPIENTS_PER_CONNECTION, s->rcpts))
		esmtp_reply(c, 452, "4.5.3 Service unavailable, recipients per connection limit reached");
	else if (!esmtp_relay_allowed(s, rcpt))
		esmtp_reply(c, 550, "5.7.1 relaying denied");
	else
		return false;
	return true;
}

static void
set_number(struct policy_context *to, struct slice key, size_t n)
{
	char room[DECIMAL_TEXT];

	(void)policy_context_set(to, key, decimal_text(n, room));
}

static void
set_contexts(struct esmtp *s, const struct addr *a)
{
	struct policy_context *mess = policy_session_mess(s->policy);

	set_number(policy_session_conn(s->policy), SLICE("connection_rcpt_count"), s->rcpts);
	set_number(mess, SLICE("message_rcpt_count"), s->txn->tried);
	(void)policy_context_set(mess, SLICE("rcptto_string"), s->line);
	(void)policy_context_set(mess, SLICE("rcptto_localpart"), a->local);
	(void)policy_context_set(mess, SLICE("rcptto_domain"), a->domain);
}

/* The last one added is the one policy was asked about. */
static void
rcpt_answered(struct esmtp *s)
{
	const struct policy_verdict *v = &s->run.verdict;

	if (policy_verdict_refuses(v))
		s->txn->n--;
	else
		esmtp_enter(s, ES_RCPT);
	esmtp_reply_verdict(s->current, v, 250, "2.1.5 RCPT TO accepted");
}

/* <postmaster> gets a domain, so that it can be routed like all others. */
static struct slice
whole_address(struct esmtp *s, const struct addr *a)
{
	const char *host;

	if (a->domain.n > 0)
		return a->text;
	host = policy_hostname(s->r->env.policy);
	return slice_str(arena_printf(s->txn->arena, "%.*s@%s", (int)a->local.n, a->local.p, host));
}

void
esmtp_run_rcpt(struct esmtp_cmd *c, struct slice args)
{
	struct esmtp *s = c->s;
	struct esmtp_rcpt *rcpt;
	struct addr a;
	enum args_result r = args_rcpt(args, s->txn->utf8, &a);

	if (r != ARGS_OK) {
		esmtp_bad_args(c, r, "RCPT TO");
		return;
	}
	s->rcpts++;
	s->txn->tried++;
	set_contexts(s, &a);
	if (refused_now(c, &a))
		return;
	rcpt = esmtp_txn_add(s->txn, whole_address(s, &a), s->line);
	policy_msg_set_rcpt(s->txn->msg, rcpt->addr);
	if (esmtp_ask(s, PHASE_RCPTTO, s->txn->msg, rcpt->addr, rcpt_answered) == OK)
		rcpt_answered(s);
}
