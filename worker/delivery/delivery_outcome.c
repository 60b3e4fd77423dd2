/* delivery_outcome.c - what an answer means for a message, and the record of it
 * One place decides between delivered, deferred, bounced, expired and doubtful. The record is repeated until the disk
 * has it: a message whose attempt is written is owed an outcome. */
#include "worker/delivery/delivery_int.h"

#include <stdio.h>
#include <stdlib.h>

#include "shm/base/fault.h"
#include "shm/base/log.h"

#define TEXT_TOO_MANY "554 5.4.7 [internal] exceeded max retries without delivery"

enum { AGAIN_MS = 1000, OUTCOME_TEXT_MAX = 4096 };

struct sched_retry
delivery_retry(const struct conf_view *v)
{
	int64_t max = conf_int(v, OPT_MAX_RETRIES);

	return (struct sched_retry){
		.retry_interval = (uint32_t)conf_int(v, OPT_RETRY_INTERVAL),
		.max_retry_interval = (uint32_t)conf_int(v, OPT_MAX_RETRY_INTERVAL),
		.message_expiration = (uint32_t)conf_int(v, OPT_MESSAGE_EXPIRATION),
		.max_retries = max < 0 ? SCHED_RETRIES_ANY : (int32_t)max, /* auto and none */
	};
}

static void
set_text(struct bytes *to, struct slice text)
{
	to->n = 0;
	bytes_add(to, text.p, text.n < OUTCOME_TEXT_MAX ? text.n : OUTCOME_TEXT_MAX);
}

static void
set_far_side(struct job *j, const struct dconn *c)
{
	struct settled *o = &j->out;

	o->remote[0] = o->ip[0] = o->host[0] = '\0';
	o->conn = 0;
	o->sent = 0;
	if (c == NULL)
		return;
	memcpy(o->remote, c->remote, sizeof(o->remote));
	memcpy(o->ip, c->ip, sizeof(o->ip));
	o->conn = c->id;
	if (c->hop < c->nhops)
		snprintf(o->host, sizeof(o->host), "%s", c->hops[c->hop].name);
	if (c->client != NULL)
		o->sent = smtp_client_sent(c->client);
}

/* No delivery, but perhaps later. */
static void
settle_later(struct job *j, struct slice text)
{
	const struct spool_message *m = &j->got->message;
	struct sched_retry retry = delivery_retry(delivery_view(j->d, j->q));
	usec_t now = clock_real();
	enum sched_fate fate = sched_fate(&retry, j->n, m->received_at, now);

	set_text(&j->out.text, text);
	if (fate == SCHED_GOES_ON) {
		j->out.kind = OUTCOME_DEFERRED;
		j->out.next_due = sched_next_try(&retry, j->n, m->received_at, now);
		return;
	}
	j->out.kind = OUTCOME_EXPIRED;
	j->out.notice = true;
	set_text(&j->out.text, fate == SCHED_TOO_OLD ? SLICE(TEXT_TOO_OLD) : SLICE(TEXT_TOO_MANY));
	set_text(&j->out.detail, slice_bytes(&j->out.text));
	bytes_add_str(&j->out.detail, "; last answer: ");
	bytes_add_slice(&j->out.detail, text);
}

static void
decide(struct job *j, const struct smtp_result *r)
{
	struct settled *o = &j->out;

	o->stage = r->stage;
	o->remote_said = !r->internal && r->how == SMTP_REPLY;
	o->notice = false;
	o->detail.n = 0;
	if (r->how == SMTP_REPLY && r->code < 300) {
		o->kind = OUTCOME_DELIVERED;
		set_text(&o->text, r->text);
	} else if (r->how == SMTP_REPLY && r->code >= 500) {
		o->kind = OUTCOME_BOUNCED;
		o->notice = true;
		set_text(&o->text, r->text);
	} else {
		settle_later(j, r->text);
		if (r->how == SMTP_DOUBT) {
			/* Whatever the schedule says: what became of it is not known, so it did not fail. And only
			 * another try has to wait: to hold it, or to take it as delivered, is due at once. */
			if (o->kind != OUTCOME_DEFERRED ||
			    conf_int(conf_global(j->d->conf), OPT_IN_DOUBT) != IN_DOUBT_RETRY)
				o->next_due = clock_real();
			o->kind = OUTCOME_DOUBTFUL;
			o->notice = false;
			set_text(&o->text, r->text);
		}
	}
}

/* The decision stands: the notice first, if there is one to be made. */
static void
conclude(struct job *j)
{
	j->state = JOB_SETTLING;
	if (!job_gate(j)) {
		job_release(j, 0);
		return;
	}
	if (j->out.notice && bounce_wanted(j))
		bounce_begin(j);
	else
		job_submit(j);
}

void
job_settle(struct job *j, const struct dconn *c, const struct smtp_result *r)
{
	set_far_side(j, c);
	decide(j, r);
	conclude(j);
}

void
job_end(struct job *j, enum outcome_kind kind, struct slice text, bool notice)
{
	set_far_side(j, NULL);
	j->out.kind = kind;
	j->out.stage = SMTP_NOT_CONNECTED;
	j->out.remote_said = false;
	j->out.notice = notice;
	j->out.detail.n = 0;
	set_text(&j->out.text, text);
	conclude(j);
}

/* ---- the record ---- */

static void
on_again(void *arg)
{
	job_submit(arg);
}

static void
submit_again(struct job *j)
{
	loop_timer_set(j->d->env.loop, &j->retry, loop_now(j->d->env.loop) + AGAIN_MS * USEC_PER_MS, on_again, j);
}

/* The outcome is on disk: everybody may know. The notice, when there is one, is the record's first item. */
static void
job_done(struct job *j, struct place place)
{
	struct dqueue *q = j->q;
	struct owner_msg *m = j->m;
	enum outcome_kind kind = j->out.kind;
	usec_t next_due = j->out.next_due;

	if (j->bounce != NULL)
		bounce_made(j->bounce, place, 0);
	log_outcome(j);
	count_outcome(j);
	job_free(j);
	owner_done(m, kind, next_due, place);
	(void)dqueue_refill(q);
}

static void
on_outcome_synced(void *arg, enum err why, const struct spool_proof *proof)
{
	struct job *j = arg;

	if (job_landed(j))
		return;
	if (why != OK) {
		log_error("delivery", "an outcome is not on disk yet (%s): again", err_text(why));
		submit_again(j);
		return;
	}
	fault_point("delivery.after_outcome");
	job_done(j, proof_place(proof));
}

void
job_submit(struct job *j)
{
	struct spool_txn *txn = spool_txn_new(j->d->env.spool);
	struct spool_outcome o = {
		.id = j->m->id,
		.n = j->n,
		.item = j->m->item,
		.kind = (uint8_t)j->out.kind,
		.stage = (uint8_t)j->out.stage,
		.place = j->m->place,
		.at = clock_real(),
		.next_due = j->out.kind == OUTCOME_DEFERRED || j->out.kind == OUTCOME_DOUBTFUL ? j->out.next_due : 0,
		.text = slice_bytes(&j->out.text),
		.remote = slice_str(j->out.remote),
	};

	fault_point("delivery.before_outcome");
	if (j->bounce != NULL)
		(void)bounce_add(j->bounce, txn);
	spool_txn_outcome(txn, &o);
	if (j->bounce == NULL && dqueue_has_time(j->q))
		spool_txn_patient(txn);
	if (spool_submit(txn, on_outcome_synced, j) == OK)
		j->in_flight++;
	else
		submit_again(j);
}
