/* From the final dot to the reply: is it a message at all, what does policy say of it, recipient by recipient, and then
 * the door of the spool. Until a recipient has passed everything nothing of it is promised, and every way out of here
 * but that door is a refusal, or a discard that policy asked for. */
#include "shm/base/log.h"
#include "worker/reception/esmtp_int.h"

static void judge_answered(struct esmtp *s);

void
esmtp_judge_reply(struct esmtp *s, int code, struct slice text)
{
	esmtp_reply_slice(s->current, code, text);
	if (s->state != ES_JUDGE)
		return;
	esmtp_txn_drop(s);
	esmtp_enter(s, ES_READY);
}

static void
judge_verdict(struct esmtp *s, const struct policy_verdict *v)
{
	esmtp_blame(s, v->module);
	s->current->last = s->current->last || v->disconnect;
	esmtp_judge_reply(s, v->code, v->text);
}

/* Policy took it away: the client sees success, the rejectlog the truth. */
static void
judge_discarded(struct esmtp *s)
{
	char id[ID_TEXT];

	id_text(s->txn->id, id);
	esmtp_judge_reply(s, 250, slice_str(arena_printf(s->txn->arena, "2.0.0 OK %s", id)));
}

static void
keep_own_text(struct esmtp *s, const struct policy_verdict *v)
{
	if (v->kind == VERDICT_REPLY)
		s->txn->own_text = arena_slice(s->txn->arena, v->text);
}

/* Questions. */

static enum err
ask_stage(struct esmtp *s)
{
	struct esmtp_txn *t = s->txn;
	struct policy_msg *m = t->msg;
	static const enum policy_phase phases[] = {
		[JUDGE_DATA] = PHASE_DATA,         [JUDGE_SPOOL] = PHASE_DATA_SPOOL,
		[JUDGE_EACH] = PHASE_EACH_RCPT,    [JUDGE_BINDING] = PHASE_SET_BINDING,
		[JUDGE_FINAL] = PHASE_FINAL,       [JUDGE_NOTICE_BINDING] = PHASE_SET_BINDING,
		[JUDGE_NOTICE_FINAL] = PHASE_FINAL
	};

	if (t->stage == JUDGE_EACH)
		m = esmtp_make_clone(s, &t->rcpts[t->at]);
	else if (t->stage == JUDGE_BINDING || t->stage == JUDGE_FINAL)
		m = t->rcpts[t->at].clone;
	else if (t->stage == JUDGE_NOTICE_BINDING || t->stage == JUDGE_NOTICE_FINAL)
		m = t->notice;
	return esmtp_ask(s, phases[t->stage], m, slice_of(NULL, 0), judge_answered);
}

/* Answers. Each takes the transaction to its next stage, or ends it. */

static void
next_with_clone(struct esmtp_txn *t, size_t from)
{
	for (t->at = from; t->at < t->n && t->rcpts[t->at].clone == NULL; t->at++)
		;
}

static void
each_is_over(struct esmtp *s)
{
	struct esmtp_txn *t = s->txn;
	const struct esmtp_rcpt *refused = NULL;
	size_t n = 0;

	for (size_t i = t->n; i-- > 0;)
		if (t->rcpts[i].refused) {
			refused = &t->rcpts[i];
			n++;
		}
	if (refused != NULL && n == t->n) {
		esmtp_judge_reply(s, refused->code, refused->text);
		return;
	}
	for (size_t i = 0; i < t->n; i++)
		if (t->rcpts[i].refused)
			esmtp_log_refusal(s, t->rcpts[i].code, t->rcpts[i].text);
	s->module = "";
	if (n > 0)
		esmtp_make_notice(s);
	t->stage = JUDGE_BINDING;
	next_with_clone(t, 0);
	if (t->at == t->n)
		t->stage = t->notice != NULL ? JUDGE_NOTICE_BINDING : JUDGE_OVER;
}

static void
answer_each(struct esmtp *s, const struct policy_verdict *v)
{
	struct esmtp_txn *t = s->txn;
	struct esmtp_rcpt *rcpt = &t->rcpts[t->at];
	struct slice why;

	if (v->failed) {
		judge_verdict(s, v);
		return;
	}
	if (policy_verdict_refuses(v)) {
		rcpt->refused = true;
		rcpt->code = v->code;
		rcpt->text = arena_slice(t->arena, v->text);
		s->current->last = s->current->last || v->disconnect;
		esmtp_blame(s, v->module);
	} else if (policy_msg_discarded(rcpt->clone, &why)) {
		rcpt->discarded = true;
		esmtp_log_discard(s, why);
	}
	if (rcpt->refused || rcpt->discarded) {
		policy_msg_free(&rcpt->clone);
	} else {
		t->kept = true;
		keep_own_text(s, v);
	}
	if (++t->at == t->n)
		each_is_over(s);
}

static void
answer_whole(struct esmtp *s, const struct policy_verdict *v)
{
	struct esmtp_txn *t = s->txn;
	struct slice why;

	keep_own_text(s, v);
	if (policy_msg_discarded(t->msg, &why)) {
		esmtp_log_discard(s, why);
		judge_discarded(s);
		return;
	}
	t->stage = t->stage == JUDGE_DATA ? JUDGE_SPOOL : JUDGE_EACH;
}

static void
answer_final(struct esmtp_txn *t)
{
	next_with_clone(t, t->at + 1);
	if (t->at < t->n)
		t->stage = JUDGE_BINDING;
	else
		t->stage = t->notice != NULL ? JUDGE_NOTICE_BINDING : JUDGE_OVER;
}

static void
take_answer(struct esmtp *s)
{
	const struct policy_verdict *v = &s->run.verdict;
	struct esmtp_txn *t = s->txn;

	if (t->stage == JUDGE_EACH) {
		answer_each(s, v);
		return;
	}
	if (policy_verdict_refuses(v)) {
		judge_verdict(s, v);
		return;
	}
	if (t->stage == JUDGE_DATA || t->stage == JUDGE_SPOOL)
		answer_whole(s, v);
	else if (t->stage == JUDGE_FINAL)
		answer_final(t);
	else
		t->stage++;
}

/* A loop, not a recursion: there may be 50,000 recipients and no hook that waits. */
static void
judge_run(struct esmtp *s)
{
	while (!s->closed && s->txn != NULL && s->txn->stage != JUDGE_OVER) {
		if (ask_stage(s) != OK)
			return;
		take_answer(s);
	}
	if (s->closed || s->txn == NULL)
		return;
	if (s->txn->kept || s->txn->notice != NULL)
		esmtp_send_to_spool(s);
	else
		judge_discarded(s);
}

static void
judge_answered(struct esmtp *s)
{
	take_answer(s);
	judge_run(s);
}

/* Before policy: what cannot be a message of ours. */

static void
large_is_written(void *arg, enum err e, int fd, uint64_t off)
{
	struct esmtp *s = arg;

	if (e != OK) {
		esmtp_judge_reply(
			s, e == ERR_FULL ? 452 : 451,
			slice_str(e == ERR_FULL ? "4.3.1 Insufficient system storage" : "4.3.0 transaction failed"));
		return;
	}
	esmtp_make_message(s, fd, off);
	judge_run(s);
}

void
esmtp_judge(struct esmtp *s)
{
	struct esmtp_body *b = &s->txn->body;

	if (b->too_big) {
		esmtp_judge_reply(s, 552, SLICE("5.3.4 message size limit exceeded"));
	} else if (b->no_room) {
		esmtp_judge_reply(s, 452, SLICE(ESMTP_NO_MEMORY));
	} else if (b->failed != OK) {
		large_is_written(s, b->failed, -1, 0);
	} else if (esmtp_loops(s)) {
		esmtp_judge_reply(s, 554, SLICE("5.4.6 mail loop detected"));
	} else if (b->large != NULL) {
		s->current->state = CMD_RUNNING;
		s->r->env.store->body_written(b->large, large_is_written, s);
	} else {
		esmtp_make_message(s, -1, 0);
		judge_run(s);
	}
}
