/* DATA: 354, then content until the final dot. */
#include "worker/reception/esmtp_int.h"
#include "worker/reception/reception_options.h"

/* How far beyond its limit a message is passed over before we hang up. */
enum { OVERRUN_MAX = 64 << 20 };

bool
esmtp_check_data(struct esmtp_cmd *c, struct slice args)
{
	struct esmtp *s = c->s;

	(void)args;
	if (!s->r->env.store->accepting(s->r->env.store->arg))
		esmtp_reply(c, 452, "4.3.1 Insufficient system storage");
	else if (!reception_room(s->r))
		esmtp_reply(c, 452, ESMTP_NO_MEMORY);
	else
		return true;
	return false;
}

void
esmtp_run_data(struct esmtp_cmd *c, struct slice args)
{
	struct esmtp *s = c->s;

	(void)args;
	s->content_began = loop_now(s->r->env.loop);
	esmtp_enter(s, ES_BODY);
	esmtp_reply(c, 354, "continue.  finished with \"\\r\\n.\\r\\n\"");
}

static void
add(void *arg, struct slice bytes)
{
	esmtp_body_add(arg, bytes);
}

static bool
hopeless(const struct esmtp *s)
{
	uint64_t max = (uint64_t)conf_int(s->view, OPT_MAX_MESSAGE_SIZE);

	return s->txn->body.too_big && s->txn->body.size > max + OVERRUN_MAX;
}

bool
esmtp_content(struct esmtp *s, struct slice *in)
{
	bool end;

	if (s->txn->body.size == 0)
		s->r->env.store->expect(s->r->env.store->arg);
	end = dots_feed(&s->txn->body.dots, in, add, s);

	if (end) {
		/* The final dot is answered like a command: in its turn, behind all before it. */
		(void)esmtp_cmd_new(s, NULL);
		esmtp_enter(s, ES_JUDGE);
	} else if (hopeless(s)) {
		esmtp_bye(s, "5.3.4 message size limit exceeded");
	}
	return end;
}
