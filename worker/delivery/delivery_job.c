/* delivery_job.c - one message from take to answer: read it, send it, and the attempt record between
 * The attempt is submitted when the far side has accepted MAIL, and the final dot is let go when it is synced; so a
 * message that may have been delivered is always known by name. */
#include "worker/delivery/delivery_int.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "shm/base/crc32c.h"
#include "shm/base/fault.h"
#include "shm/base/log.h"
#include "shm/base/mem.h"
#include "shm/shm_area.h"

enum { TROUBLE_AGAIN = 60 }; /* seconds */

static void
finger(const struct job *j, bool on)
{
	if (j->d->slot == NULL)
		return;
	if (on)
		slot_finger_message(j->d->slot, j->m->id);
	else
		slot_finger_clear(j->d->slot);
}

/* ---- life ---- */

static void
job_holds(struct job *j, uint64_t n)
{
	j->d->bytes += n - j->holds;
	j->holds = n;
}

/* Its message is there. */
static void
job_is_as_large(struct job *j, const struct spool_fetched *got)
{
	struct delivery *d = j->d;
	uint64_t n = sizeof *j + sizeof *got;

	n += got->header.n + got->body.n + got->conn_ctx.n + got->ctx.n;
	job_holds(j, n);
	d->usual = (d->usual * 7 + n) / 8;
}

void
job_free(struct job *j)
{
	struct delivery *d = j->d;
	struct dqueue *q = j->q;

	dqueue_job_gone(q, j);
	if (j->conn != NULL)
		j->conn->job = NULL;
	spool_fetch_cancel(&j->fetch);
	job_holds(j, 0);
	if (j->feed != NULL && j->feed->busy) {
		j->feed->job = NULL;
	} else {
		spool_fetched_free(&j->got);
		free(j->feed);
	}
	loop_timer_stop(d->env.loop, &j->retry);
	bounce_free(&j->bounce);
	if (j->errand)
		q->errands--;
	else
		q->in_hand--;
	TAILQ_REMOVE(&d->jobs, j, all);
	d->njobs--;
	bytes_fini(&j->reason);
	bytes_fini(&j->out.text);
	bytes_fini(&j->out.detail);
	if (j->in_flight > 0)
		j->orphan = true;
	else
		free(j);
	delivery_room(d);
}

bool
job_landed(struct job *j)
{
	bool orphan = j->orphan;

	j->in_flight--;
	if (orphan && j->in_flight == 0)
		free(j);
	return orphan;
}

void
job_release(struct job *j, usec_t not_before)
{
	struct owner_msg *m = j->m;

	require_that(!j->gate, "delivery");
	job_free(j);
	owner_release(m, not_before);
}

/* ---- loading ---- */

/* What is damaged does not heal by itself: out of the queue, for the operator. */
static void
set_aside(struct job *j, const char *what)
{
	char id[ID_TEXT];

	id_text(j->m->id, id);
	log_error("delivery", "%s %s: it is quarantined", id, what);
	owner_set_aside(j->m, slice_str(what));
}

static bool
is_damage(enum err why)
{
	return why == ERR_DAMAGED || why == ERR_SYNTAX || why == ERR_RANGE || why == ERR_VERSION;
}

/* The errand, once the message is there, or is not needed. */
static void
run_errand(struct job *j)
{
	struct sched_retry retry = delivery_retry(delivery_view(j->d, j->q));
	usec_t now = clock_real();

	switch (j->what) {
	case OWNER_FAIL:
		job_end(j, OUTCOME_BOUNCED, j->reason.n > 0 ? slice_bytes(&j->reason) : SLICE(TEXT_PURGED), true);
		break;
	case OWNER_DROP:
		job_end(j, OUTCOME_DISCARDED, SLICE(TEXT_PURGED), false);
		break;
	case OWNER_DOUBT_DONE:
		j->n = j->m->tries;
		job_end(j, OUTCOME_DELIVERED, SLICE("250 [internal] taken as delivered"), false);
		break;
	case OWNER_LOOK_EXPIRY:
		if (sched_deadline(&retry, j->got->message.received_at) <= now)
			job_end(j, OUTCOME_EXPIRED, SLICE(TEXT_TOO_OLD), true);
		else
			job_release(j, 0);
		break;
	}
}

/* To be rid of it, or to take it as delivered, nobody needs to read it: the record names it by its id. */
static bool
errand_needs_text(enum owner_errand what)
{
	return what != OWNER_DROP && what != OWNER_DOUBT_DONE;
}

static void
on_trouble(struct job *j, enum err why)
{
	char id[ID_TEXT];
	struct owner_msg *m = j->m;
	struct owner_queue *oq = j->q->oq;

	id_text(m->id, id);
	if (j->errand && !errand_needs_text(j->what)) {
		log_warn("delivery", "%s cannot be read (%s): it ends unread, as was asked for", id, err_text(why));
		run_errand(j);
		return;
	}
	if (why == ERR_NOTFOUND) {
		job_free(j);
		owner_lost(m);
	} else {
		if (is_damage(why))
			set_aside(j, "has a damaged record");
		else
			log_error("delivery", "%s cannot be read: %s", id, err_text(why));
		job_release(j, clock_real() + (usec_t)TROUBLE_AGAIN * USEC_PER_SEC);
	}
	owner_kick(oq); /* no connection ends with it: nobody else would ask for the next one */
}

static void
notify_text(uint8_t notify, char *out, size_t size)
{
	out[0] = '\0';
	if ((notify & NOTIFY_NEVER) != 0)
		snprintf(out, size, "NEVER");
	else if (notify != 0)
		snprintf(out, size, "%s%s%s", (notify & NOTIFY_SUCCESS) != 0 ? "SUCCESS," : "",
			 (notify & NOTIFY_FAILURE) != 0 ? "FAILURE," : "",
			 (notify & NOTIFY_DELAY) != 0 ? "DELAY," : "");
	if (out[0] != '\0' && out[strlen(out) - 1] == ',')
		out[strlen(out) - 1] = '\0';
}

static void
prepare_mail(struct job *j)
{
	const struct spool_message *m = &j->got->message;
	bool address8 = slice_has_8bit(m->sender) || slice_has_8bit(m->rcpt);

	notify_text(m->notify, j->notify, sizeof(j->notify));
	j->rcpt = (struct smtp_rcpt){ .address = m->rcpt, .orcpt = m->orcpt, .notify = slice_str(j->notify) };
	j->mail = (struct smtp_mail){
		.sender = m->sender,
		.rcpts = &j->rcpt,
		.n = 1,
		.size = m->size,
		.eight_bit = (m->flags & MSG_8BITMIME) != 0 || address8,
		.utf8 = address8 || ((m->flags & MSG_SMTPUTF8) != 0 && slice_has_8bit(j->got->header)),
		.envid = m->envid,
		.ret = m->ret,
	};
	j->mail.eight_bit = j->mail.eight_bit || j->mail.utf8;
}

static void
on_loaded(struct job *j)
{
	const struct conf_view *v = delivery_view(j->d, j->q);

	finger(j, true);
	fault_header(j->got->header.p, j->got->header.n);
	prepare_mail(j);
	finger(j, false);
	if (j->errand) {
		run_errand(j);
		return;
	}
	switch (conf_int(v, OPT_BLACKHOLE)) {
	case BLACKHOLE_INTERNAL:
		job_end(j, OUTCOME_DISCARDED, SLICE("554 5.7.0 [internal] Blackholed"), false);
		break;
	case BLACKHOLE_INLINE:
		job_end(j, OUTCOME_BOUNCED, SLICE("551 5.7.1 recipient blackholed"), true);
		break;
	default:
		dqueue_job_ready(j->q, j);
	}
}

static void
on_fetched(void *arg, enum err why, struct spool_fetched *got)
{
	struct job *j = arg;

	j->fetch = NULL;
	j->got = got;
	if (why != OK) {
		on_trouble(j, why);
		return;
	}
	job_is_as_large(j, got);
	if (j->d->draining && !j->errand)
		job_release(j, 0);
	else
		on_loaded(j);
}

static struct job *
job_make(struct dqueue *q, struct owner_msg *m)
{
	struct delivery *d = q->d;
	struct job *j = mem_zalloc(sizeof(*j));

	j->d = d;
	j->q = q;
	j->m = m;
	j->n = m->tries + 1;
	j->state = JOB_LOADING;
	m->role = j;
	TAILQ_INSERT_TAIL(&d->jobs, j, all);
	d->njobs++;
	job_holds(j, d->usual);
	j->fetch = spool_fetch(d->env.spool, m->id, m->place, m->item, on_fetched, j);
	return j;
}

struct job *
job_new(struct dqueue *q, struct owner_msg *m)
{
	q->in_hand++;
	return job_make(q, m);
}

struct job *
job_new_errand(struct dqueue *q, struct owner_msg *m, enum owner_errand what, struct slice reason)
{
	struct job *j = job_make(q, m);

	q->errands++;
	j->errand = true;
	j->what = what;
	bytes_add_slice(&j->reason, reason);
	return j;
}

/* ---- sending ---- */

void
job_start(struct job *j, struct dconn *c)
{
	j->state = JOB_SENDING;
	j->conn = c;
	j->since = clock_real();
	c->job = j;
	c->id = spool_new_id(j->d->env.spool);
	j->header_given = false;
	j->body_crc = 0;
	if (j->feed != NULL)
		j->feed->at = 0;
	delivery_trace(j->d, j->m->id, "attempt", slice_str(c->remote));
	smtp_client_send(c->client, &j->mail);
}

bool
job_gate(struct job *j)
{
	if (!j->gate)
		j->gate = owner_may_write(j->m);
	return j->gate;
}

static void
on_attempt_synced(void *arg, enum err why, const struct spool_proof *proof)
{
	struct job *j = arg;

	if (job_landed(j))
		return;
	if (why != OK) {
		if (j->conn != NULL)
			smtp_client_break(j->conn->client, 451, "4.3.0 [internal] attempt not on disk");
		return;
	}
	j->attempt_synced = true;
	owner_attempted(j->m, proof_place(proof));
	fault_point("delivery.before_dot");
	if (j->conn != NULL && j->state == JOB_SENDING)
		smtp_client_dot(j->conn->client);
}

void
job_opened(struct job *j)
{
	struct spool_attempt a = {
		.id = j->m->id, .n = j->n, .item = j->m->item, .place = j->m->place, .at = clock_real()
	};
	struct spool_txn *txn;

	if (!job_gate(j)) {
		smtp_client_break(j->conn->client, 451, "4.3.2 [internal] message withdrawn");
		return;
	}
	txn = spool_txn_new(j->d->env.spool);
	spool_txn_attempt(txn, &a);
	if (dqueue_has_time(j->q))
		spool_txn_patient(txn);
	delivery_count(j->d, CELL_ATTEMPTS, 1);
	if (spool_submit(txn, on_attempt_synced, j) == OK)
		j->in_flight++;
	else
		smtp_client_break(j->conn->client, 451, "4.3.0 [internal] attempt not on disk");
}

/* ---- the bytes ---- */

static void
body_damaged(struct job *j)
{
	set_aside(j, "has a damaged body");
	smtp_client_break(j->conn->client, 451, "4.3.0 [internal] message body damaged");
}

static void
body_unread(struct job *j)
{
	char id[ID_TEXT];

	id_text(j->m->id, id);
	log_error("delivery", "%s cannot be sent: its body cannot be read now", id);
	smtp_client_break(j->conn->client, 451, "4.3.0 [internal] message body cannot be read");
}

static void
give_chunk(struct job *j)
{
	struct feed *f = j->feed;
	bool last = f->at + f->n == j->got->body_len;

	j->body_crc = crc32c(j->body_crc, f->chunk, f->n);
	f->at += f->n;
	if (f->n == 0 || (last && j->body_crc != j->got->body_crc)) {
		body_damaged(j);
		return;
	}
	finger(j, true);
	smtp_client_give(j->conn->client, slice_of(f->chunk, f->n), last);
	finger(j, false);
}

/* Reading thread: touches the feed, and of `got` what does not change. */
static void
read_cold(void *arg)
{
	struct feed *f = arg;
	ssize_t n;

	f->why = ERR_IO;
	while (f->n < f->want) {
		n = pread(f->got->body_fd, f->chunk + f->n, f->want - f->n, (off_t)(f->got->body_off + f->at + f->n));
		if (n < 0 && errno == EINTR)
			continue;
		if (n == 0)
			f->why = ERR_DAMAGED; /* cut off */
		if (n <= 0)
			return;
		f->n += (size_t)n;
	}
	f->why = OK;
}

static void
on_cold_read(void *arg)
{
	struct feed *f = arg;
	struct job *j = f->job;

	f->busy = false;
	if (j == NULL) {
		spool_fetched_free(&f->got);
		free(f);
	} else if (j->conn == NULL || j->state != JOB_SENDING) {
		return; /* the connection was lost meanwhile */
	} else if (f->why == ERR_DAMAGED) {
		body_damaged(j);
	} else if (f->why != OK) {
		body_unread(j);
	} else {
		give_chunk(j);
	}
}

static void
feed_file(struct job *j)
{
	struct feed *f = j->feed;
	uint64_t left;
	enum err e;

	if (f == NULL) {
		f = j->feed = mem_zalloc(sizeof(*f));
		job_holds(j, j->holds + sizeof(*f));
		f->job = j;
		f->got = j->got;
	}
	if (f->busy)
		return;
	left = j->got->body_len - f->at;
	f->want = left < CHUNK ? (size_t)left : CHUNK;
	f->n = 0;
	e = spool_body_read(j->got, f->at, f->chunk, f->want, &f->n);
	if (e == OK && f->n > 0) {
		give_chunk(j);
	} else if (e == OK || e == ERR_AGAIN) {
		f->busy = true;
		f->n = 0;
		delivery_count(j->d, CELL_COLD_READS, 1);
		spool_run_cold(j->d->env.spool, read_cold, on_cold_read, f);
	} else {
		body_unread(j);
	}
}

void
job_want(struct job *j)
{
	struct spool_fetched *got = j->got;

	if (!j->header_given) {
		j->header_given = true;
		finger(j, true);
		smtp_client_give(j->conn->client, got->header, got->body_fd < 0 && got->body.n == 0);
		if (got->body_fd < 0 && got->body.n > 0)
			smtp_client_give(j->conn->client, got->body, true);
		finger(j, false);
	}
	if (got->body_fd >= 0)
		feed_file(j);
}

/* ---- the answer ---- */

void
job_answered(struct job *j, const struct smtp_result *r)
{
	const struct dconn *c = j->conn;
	struct dqueue *q = j->q;

	j->conn = NULL;
	delivery_trace(j->d, j->m->id, "reply", r->text);
	if (r->how == SMTP_UNTRIED && !j->gate) {
		if (j->d->draining)
			job_release(j, 0);
		else
			dqueue_job_ready(q, j);
	} else if (!job_gate(j)) {
		job_release(j, 0);
	} else {
		job_settle(j, c, r);
	}
}
