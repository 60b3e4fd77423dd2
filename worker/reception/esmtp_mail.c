/* MAIL: a transaction begins. */
#include "worker/reception/esmtp_int.h"
#include "worker/reception/reception_options.h"

void
esmtp_bad_args(struct esmtp_cmd *c, enum args_result r, const char *what)
{
	switch (r) {
	case ARGS_UNKNOWN:
		esmtp_replyf(c, 555, "5.5.4 %s parameters not recognized or not implemented", what);
		break;
	case ARGS_BAD_VALUE:
		esmtp_replyf(c, 501, "5.5.4 %s parameter with a bad value", what);
		break;
	case ARGS_NEEDS_UTF8:
		esmtp_replyf(c, 553, "5.6.7 %s address is not ASCII and SMTPUTF8 was not asked for", what);
		break;
	case ARGS_TOO_LONG:
		esmtp_replyf(c, 501, "5.1.3 %s address too long", what);
		break;
	default:
		esmtp_replyf(c, 501, "5.5.2 %s syntax error", what);
	}
}

static bool
reached(const struct esmtp *s, enum opt_id id, uint32_t n)
{
	int64_t max = conf_int(s->view, id);

	return max > 0 && n >= max;
}

/* What stands against a transaction whatever its sender. True: replied. */
static bool
refused_now(struct esmtp_cmd *c, const struct mail_args *m)
{
	struct esmtp *s = c->s;
	int64_t max = conf_int(s->view, OPT_MAX_MESSAGE_SIZE);

	if (!s->r->env.store->accepting(s->r->env.store->arg))
		esmtp_reply(c, 452, "4.3.1 Insufficient system storage");
	else if (reached(s, OPT_MAX_RECEPTIONS_PER_CONNECTION, s->accepted))
		esmtp_reply(c, 452, "4.5.3 Service unavailable, batch limit reached");
	else if (max > 0 && m->size > (uint64_t)max)
		esmtp_reply(c, 552, "5.3.4 message size limit exceeded");
	else
		return false;
	return true;
}

static void
set_number(struct policy_context *to, struct slice key, uint32_t n)
{
	char room[DECIMAL_TEXT];

	(void)policy_context_set(to, key, decimal_text(n, room));
}

static void
mail_answered(struct esmtp *s)
{
	const struct policy_verdict *v = &s->run.verdict;

	if (policy_verdict_refuses(v))
		esmtp_txn_drop(s);
	else
		esmtp_enter(s, ES_MAIL);
	esmtp_reply_verdict(s->current, v, 250, "2.1.0 MAIL FROM accepted");
}

void
esmtp_run_mail(struct esmtp_cmd *c, struct slice args)
{
	struct esmtp *s = c->s;
	struct policy_context *mess;
	struct mail_args m;
	enum args_result r = args_mail(args, &m);

	if (r != ARGS_OK) {
		esmtp_bad_args(c, r, "MAIL FROM");
		return;
	}
	if (refused_now(c, &m))
		return;
	policy_session_reset(s->policy);
	mess = policy_session_mess(s->policy);
	set_number(policy_session_conn(s->policy), SLICE("connection_message_count"), s->accepted);
	(void)policy_context_set(mess, SLICE("mailfrom_string"), s->line);
	(void)policy_context_set(mess, SLICE("mailfrom_localpart"), m.from.local);
	(void)policy_context_set(mess, SLICE("mailfrom_domain"), m.from.domain);
	(void)esmtp_txn_new(s, &m);
	if (esmtp_ask(s, PHASE_MAILFROM, s->txn->msg, s->txn->sender, mail_answered) == OK)
		mail_answered(s);
}
