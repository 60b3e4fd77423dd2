/* Commands: the table of verbs, and the objects in the queue. */
#include <stdlib.h>

#include "shm/base/log.h"
#include "shm/base/mem.h"
#include "worker/reception/esmtp_int.h"
#include "worker/reception/reception_options.h"

enum {
	SPARE_MAX = 256,  /* commands kept for reuse */
	REPLY_KEPT = 512, /* bytes of reply memory that a spare one keeps */
	TARPIT_MAX = 3600,
};

static void run_rset(struct esmtp_cmd *c, struct slice args);
static void run_noop(struct esmtp_cmd *c, struct slice args);
static void run_vrfy(struct esmtp_cmd *c, struct slice args);
static void run_help(struct esmtp_cmd *c, struct slice args);
static void run_quit(struct esmtp_cmd *c, struct slice args);

static const struct esmtp_verb verbs[] = {
	{ "MAIL", IN(ES_BANNER) | IN(ES_READY), VERB_DRAINS, NULL, esmtp_run_mail },
	{ "RCPT", IN_MAIL_TXN, 0, NULL, esmtp_run_rcpt },
	{ "DATA", IN(ES_RCPT), VERB_BARE, esmtp_check_data, esmtp_run_data },
	{ "EHLO", IN_ANY, 0, esmtp_check_ehlo, esmtp_run_ehlo },
	{ "HELO", IN_ANY, 0, esmtp_check_helo, esmtp_run_helo },
	{ "RSET", IN_ANY, VERB_BARE | VERB_DRAINS, NULL, run_rset },
	{ "NOOP", IN_ANY, 0, NULL, run_noop },
	{ "QUIT", IN_ANY, VERB_BARE, NULL, run_quit },
	{ "VRFY", IN_ANY, 0, NULL, run_vrfy },
	{ "HELP", IN_ANY, 0, NULL, run_help },
};

/* Objects. */

struct esmtp_cmd *
esmtp_cmd_new(struct esmtp *s, const struct esmtp_verb *verb)
{
	struct reception *r = s->r;
	struct esmtp_cmd *c = STAILQ_FIRST(&r->spare);

	if (c != NULL) {
		STAILQ_REMOVE_HEAD(&r->spare, link);
		r->nspare--;
	} else {
		c = mem_zalloc(sizeof *c);
	}
	require_that(s->current == NULL, "esmtp");
	c->s = s;
	c->verb = verb;
	c->state = CMD_NEW;
	STAILQ_INSERT_TAIL(&s->cmds, c, link);
	s->current = c;
	return c;
}

void
esmtp_cmd_free(struct esmtp_cmd *c)
{
	struct reception *r = c->s->r;
	struct bytes reply = c->reply;

	loop_timer_stop(r->env.loop, &c->late);
	if (r->nspare >= SPARE_MAX) {
		bytes_fini(&c->reply);
		free(c);
		return;
	}
	if (reply.cap > REPLY_KEPT)
		bytes_fini(&reply);
	reply.n = 0;
	*c = (struct esmtp_cmd){ .reply = reply };
	STAILQ_INSERT_HEAD(&r->spare, c, link);
	r->nspare++;
}

void
esmtp_cmd_detach(struct esmtp_cmd *c, struct esmtp_sent *sent)
{
	struct esmtp *s = c->s;

	c->sent = sent;
	if (c->tarpit == 0) {
		s->current = NULL;
		esmtp_go_on(s);
	}
}

/* Asking policy. */

static void
note_answer(struct esmtp *s)
{
	unsigned tarpit = s->run.verdict.tarpit;

	s->asking = false;
	s->run.str = slice_of(NULL, 0);
	if (tarpit > s->current->tarpit)
		s->current->tarpit = tarpit < TARPIT_MAX ? tarpit : TARPIT_MAX;
}

static void
on_policy_done(struct policy_run *run, void *arg)
{
	struct esmtp *s = arg;
	struct reception *r = s->r;

	(void)run;
	if (r->slot != NULL)
		slot_finger_peer(r->slot, slice_str(s->peer_ip));
	note_answer(s);
	s->answered(s);
	if (r->slot != NULL)
		slot_finger_clear(r->slot);
}

enum err
esmtp_ask(struct esmtp *s, enum policy_phase phase, struct policy_msg *msg, struct slice str,
	  void (*answered)(struct esmtp *s))
{
	require_that(!s->asking && s->current != NULL, "esmtp");
	s->current->state = CMD_RUNNING;
	s->run.phase = phase;
	s->run.session = msg != NULL ? policy_msg_session(msg) : s->policy;
	s->run.msg = msg;
	s->run.str = str;
	s->run.done = on_policy_done;
	s->run.arg = s;
	s->answered = answered;
	s->asking = true;
	if (s->r->ask.run(&s->run) != OK)
		return ERR_AGAIN;
	note_answer(s);
	return OK;
}

/* Lines. */

static const struct esmtp_verb *
find_verb(struct slice name)
{
	for (size_t i = 0; i < sizeof verbs / sizeof verbs[0]; i++)
		if (slice_ieq(name, slice_str(verbs[i].name)))
			return &verbs[i];
	return NULL;
}

/* A verb where it is not legal. Texts as Momentum's. */
static void
out_of_order(struct esmtp_cmd *c)
{
	enum esmtp_state state = c->s->state;

	if (strcmp(c->verb->name, "MAIL") == 0)
		esmtp_reply(c, 501, "5.5.1 MAIL FROM already established");
	else if (strcmp(c->verb->name, "RCPT") == 0)
		esmtp_reply(c, 503, "5.5.1 RCPT TO without MAIL FROM");
	else if (strcmp(c->verb->name, "DATA") == 0)
		esmtp_reply(c, 503, state == ES_MAIL ? "5.5.1 DATA without RCPT TO" : "5.5.1 DATA without MAIL FROM");
	else
		esmtp_reply(c, 503, "5.5.1 bad sequence of commands");
}

static void
unwanted_argument(struct esmtp_cmd *c)
{
	if (strcmp(c->verb->name, "DATA") == 0)
		esmtp_reply(c, 501, "5.5.4 unexpected argument to DATA");
	else if (strcmp(c->verb->name, "RSET") == 0)
		esmtp_reply(c, 501, "5.5.4 invalid arguments to RSET");
	else
		esmtp_reply(c, 501, "5.5.4 Syntax error (no parameters allowed)");
}

static void
run_verb(struct esmtp_cmd *c, struct slice args)
{
	struct esmtp *s = c->s;

	if (s->draining && (c->verb->flags & VERB_DRAINS))
		esmtp_reply(c, 421, conf_str(s->view, OPT_RECONFIG_MESSAGE));
	else if ((c->verb->states & IN(s->state)) == 0)
		out_of_order(c);
	else if ((c->verb->flags & VERB_BARE) && args.n != 0)
		unwanted_argument(c);
	else if (c->verb->check == NULL || c->verb->check(c, args))
		c->verb->run(c, args);
}

void
esmtp_command(struct esmtp *s, enum line_kind kind, struct slice line)
{
	struct slice name = { 0 }, args = { 0 };
	struct esmtp_cmd *c;

	if (kind == LINE_GOOD)
		args_split(line, &name, &args);
	c = esmtp_cmd_new(s, find_verb(name));
	s->line = line;
	if (kind == LINE_LONG)
		esmtp_reply(c, 500, "5.5.2 line too long");
	else if (kind == LINE_BAD)
		esmtp_reply(c, 500, "5.5.2 lone CR, lone LF or NUL in command");
	else if (c->verb == NULL)
		esmtp_reply(c, 500, "5.5.2 unrecognized command");
	else
		run_verb(c, args);
	s->line = slice_of(NULL, 0);
}

/* Verbs without a file of their own. */

static void
run_rset(struct esmtp_cmd *c, struct slice args)
{
	struct esmtp *s = c->s;

	(void)args;
	esmtp_txn_drop(s);
	if (s->state == ES_MAIL || s->state == ES_RCPT)
		esmtp_enter(s, ES_READY);
	esmtp_reply(c, 250, "2.0.0 OK");
}

static void
run_noop(struct esmtp_cmd *c, struct slice args)
{
	(void)args;
	esmtp_reply(c, 250, "2.0.0 OK");
}

static void
run_vrfy(struct esmtp_cmd *c, struct slice args)
{
	if (args.n == 0)
		esmtp_reply(c, 501, "5.5.4 VRFY needs an argument");
	else
		esmtp_reply(c, 252, "2.5.2 Cannot VRFY user, but will accept message and attempt delivery");
}

static void
run_help(struct esmtp_cmd *c, struct slice args)
{
	(void)args;
	esmtp_reply(c, 214, "2.0.0 EHLO HELO MAIL RCPT DATA RSET NOOP VRFY HELP QUIT");
}

static void
run_quit(struct esmtp_cmd *c, struct slice args)
{
	(void)args;
	c->last = c->quit = true;
	esmtp_replyf(c, 221, "2.3.0 %s closing connection", policy_hostname(c->s->r->env.policy));
}
