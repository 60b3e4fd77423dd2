/* fake_spool.h - the spool and the owner of queues, in memory, for the tests of delivery
 * Defines spool_ and owner_ calls as the real headers promise them: callbacks come later, in order, and the test
 * decides when the disk has synced, what fails, and whether a message may be written about. */
#ifndef T_FAKE_SPOOL_H
#define T_FAKE_SPOOL_H

#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "shm/base/mem.h"
#include "spool/spool.h"
#include "spool/spool_owner.h"
#include "worker/net/loop.h"

enum { FAKE_MSGS = 256, FAKE_QUEUES = 4 };

struct spool_proof {
	struct place place;
};

struct fake_msg {
	struct owner_msg m;
	struct spool_message message;
	char *header, *body;
	int body_fd;
	uint64_t body_len;
	uint32_t body_crc;
	bool cold, taken, gate_closed, written;
	/* what became of it */
	unsigned attempts, outcomes, dones, releases, lost, aside;
	bool attempt_synced, attempt_patient, outcome_patient;
	enum outcome_kind kind;
	uint8_t stage;
	uint32_t n;
	usec_t next_due;
	char text[300], remote[80];
	unsigned notices;
	char notice_to[100];
	struct bytes notice;
	usec_t not_before;
};

struct owner_queue {
	struct spool *sp;
	struct slice binding, domain;
	void *role;
	usec_t wait_until;
	bool shown;
	bool borrowed;
	unsigned lent_to; /* workers that borrow of it */
};

struct spool_txn {
	struct spool *sp;
	struct fake_msg *about;
	struct spool_attempt attempt;
	struct spool_outcome outcome;
	bool has_attempt, has_outcome, has_notice, patient;
	char *text, *remote, *to;
	struct bytes notice;
	spool_done *done;
	void *arg;
	struct spool_txn *next;
};

struct spool_fetch {
	struct spool *sp;
	struct fake_msg *m;
	spool_fetch_done *done;
	void *arg;
	struct spool_fetch *next;
};

struct cold_job {
	void (*fn)(void *arg);
	void (*done)(void *arg);
	void *arg;
	struct cold_job *next;
};

struct spool {
	struct loop *loop;
	struct ev_later later;
	struct fake_msg msgs[FAKE_MSGS];
	size_t n;
	struct owner_queue queues[FAKE_QUEUES]; /* the first is the one that most tests have */
	const struct owner_ops *ops;
	struct owner_ops ops_copy;
	void *ops_arg;
	msgid_t last_id;
	struct spool_txn *txns, **txns_end;
	struct spool_fetch *fetches;
	struct cold_job *colds;
	bool hold_sync;                        /* nothing is synced until it is false again */
	unsigned fail_attempts, fail_outcomes; /* so many answers are ERR_DAMAGED */
	unsigned kicks;
};

static struct spool *fake_spool;

static inline struct fake_msg *
fake_find(struct spool *sp, msgid_t id)
{
	for (size_t i = 0; i < sp->n; i++) {
		if (sp->msgs[i].m.id == id)
			return &sp->msgs[i];
	}
	return NULL;
}

static inline struct fake_msg *
fake_add_to(struct owner_queue *q, const char *sender, const char *rcpt)
{
	struct spool *sp = q->sp;
	struct fake_msg *f = &sp->msgs[sp->n++];

	f->m = (struct owner_msg){ .id = sp->n, .place = { 1, (uint32_t)sp->n * 64 }, .queue = q };
	f->message = (struct spool_message){ .id = f->m.id,
					     .batch = 7,
					     .received_at = clock_real(),
					     .origin = ORIGIN_ACCEPTED,
					     .protocol = PROTOCOL_ESMTP,
					     .sender = slice_str(sender),
					     .rcpt = slice_str(rcpt),
					     .binding = q->binding,
					     .domain = q->domain,
					     .size = 20 };
	f->header = mem_strdup("Subject: test\r\n");
	f->body = mem_strdup("\r\nhello\r\n");
	f->body_fd = -1;
	q->shown = false;
	return f;
}

static inline struct fake_msg *
fake_add(struct spool *sp, const char *sender, const char *rcpt)
{
	return fake_add_to(&sp->queues[0], sender, rcpt);
}

/* ---- spool.h ---- */

static inline void fake_run(void *arg);

static inline void
fake_soon(struct spool *sp)
{
	loop_later(sp->loop, &sp->later, fake_run, sp);
}

msgid_t
spool_new_id(struct spool *sp)
{
	return 1000 + ++sp->last_id;
}

struct spool_txn *
spool_txn_new(struct spool *sp)
{
	struct spool_txn *t = mem_zalloc(sizeof(*t));

	t->sp = sp;
	return t;
}

uint16_t
spool_txn_blob(struct spool_txn *t, struct slice bytes)
{
	bytes_add_slice(&t->notice, bytes);
	return 0;
}

uint16_t
spool_txn_message(struct spool_txn *t, const struct spool_message *m)
{
	t->has_notice = true;
	t->to = slice_dup(m->rcpt);
	return 0;
}

void
spool_txn_patient(struct spool_txn *txn)
{
	txn->patient = true;
}

uint16_t
spool_txn_attempt(struct spool_txn *t, const struct spool_attempt *a)
{
	t->has_attempt = true;
	t->attempt = *a;
	t->about = fake_find(t->sp, a->id);
	t->about->attempts++;
	return 0;
}

uint16_t
spool_txn_outcome(struct spool_txn *t, const struct spool_outcome *o)
{
	t->has_outcome = true;
	t->outcome = *o;
	t->text = slice_dup(o->text);
	t->remote = slice_dup(o->remote);
	t->about = fake_find(t->sp, o->id);
	return 0;
}

enum err
spool_submit(struct spool_txn *t, spool_done *done, void *arg)
{
	struct spool_txn **at = &t->sp->txns;

	while (*at != NULL)
		at = &(*at)->next;
	*at = t;
	t->done = done;
	t->arg = arg;
	fake_soon(t->sp);
	return OK;
}

struct place
proof_place(const struct spool_proof *p)
{
	return p->place;
}

struct spool_fetch *
spool_fetch(struct spool *sp, msgid_t id, struct place place, uint16_t item, spool_fetch_done *done, void *arg)
{
	struct spool_fetch *f = mem_zalloc(sizeof(*f)), **at = &sp->fetches;

	(void)place;
	(void)item;
	*f = (struct spool_fetch){ .sp = sp, .m = fake_find(sp, id), .done = done, .arg = arg };
	while (*at != NULL)
		at = &(*at)->next;
	*at = f;
	fake_soon(sp);
	return f;
}

void
spool_fetch_cancel(struct spool_fetch **f)
{
	struct spool_fetch **at;

	if (*f == NULL)
		return;
	for (at = &(*f)->sp->fetches; *at != *f;)
		at = &(*at)->next;
	*at = (*f)->next;
	free(*f);
	*f = NULL;
}

void
spool_fetched_free(struct spool_fetched **got)
{
	free(*got);
	*got = NULL;
}

enum err
spool_body_read(const struct spool_fetched *got, uint64_t at, void *to, size_t n, size_t *have)
{
	ssize_t r;

	if (fake_find(fake_spool, got->message.id)->cold)
		return ERR_AGAIN;
	r = pread(got->body_fd, to, n, (off_t)at);
	if (r < 0)
		return ERR_IO;
	*have = (size_t)r;
	return OK;
}

void
spool_run_cold(struct spool *sp, void (*fn)(void *arg), void (*done)(void *arg), void *arg)
{
	struct cold_job *c = mem_zalloc(sizeof(*c)), **at = &sp->colds;

	*c = (struct cold_job){ fn, done, arg, NULL };
	while (*at != NULL)
		at = &(*at)->next;
	*at = c;
	fake_soon(sp);
}

static inline void
fake_fetched(struct spool_fetch *f)
{
	struct fake_msg *m = f->m;
	struct spool_fetched *got;

	if (m->lost) {
		m->lost = 0;
		f->done(f->arg, ERR_NOTFOUND, NULL);
		free(f);
		return;
	}
	got = mem_zalloc(sizeof(*got));
	got->message = m->message;
	got->header = slice_str(m->header);
	got->body_fd = m->body_fd;
	if (m->body_fd < 0)
		got->body = slice_str(m->body);
	got->body_len = m->body_len;
	got->body_crc = m->body_crc;
	f->done(f->arg, OK, got);
	free(f);
}

static inline void
fake_synced(struct spool_txn *t)
{
	struct spool_proof proof = { .place = { 2, 8 } };
	unsigned *fail = t->has_outcome ? &t->sp->fail_outcomes : &t->sp->fail_attempts;
	enum err why = OK;
	struct fake_msg *m = t->about;

	if (*fail > 0) {
		(*fail)--;
		why = ERR_DAMAGED;
	}
	if (why == OK && t->has_attempt) {
		m->attempt_synced = true;
		m->attempt_patient = t->patient;
	}
	if (why == OK && t->has_outcome) {
		m->outcomes++;
		m->outcome_patient = t->patient;
		m->kind = (enum outcome_kind)t->outcome.kind;
		m->stage = t->outcome.stage;
		m->n = t->outcome.n;
		m->next_due = t->outcome.next_due;
		snprintf(m->text, sizeof(m->text), "%s", t->text);
		snprintf(m->remote, sizeof(m->remote), "%s", t->remote);
		if (t->has_notice) {
			m->notices++;
			snprintf(m->notice_to, sizeof(m->notice_to), "%s", t->to);
			bytes_add_slice(&m->notice, slice_bytes(&t->notice));
		}
	}
	t->done(t->arg, why, why == OK ? &proof : NULL);
}

static inline void
fake_txn_free(struct spool_txn *t)
{
	free(t->text);
	free(t->remote);
	free(t->to);
	bytes_fini(&t->notice);
	free(t);
}

static inline void
fake_run(void *arg)
{
	struct spool *sp = arg;

	while (sp->fetches != NULL) {
		struct spool_fetch *f = sp->fetches;

		sp->fetches = f->next;
		fake_fetched(f);
	}
	while (!sp->hold_sync && sp->txns != NULL) {
		struct spool_txn *t = sp->txns;

		sp->txns = t->next;
		fake_synced(t);
		fake_txn_free(t);
	}
	while (sp->colds != NULL) {
		struct cold_job *c = sp->colds;

		sp->colds = c->next;
		c->fn(c->arg);
		if (c->done != NULL)
			c->done(c->arg);
		free(c);
	}
}

/* ---- spool_owner.h ---- */

void
owner_set_ops(struct spool_owner *o, const struct owner_ops *ops, void *arg)
{
	struct spool *sp = (struct spool *)o;

	sp->ops = NULL;
	if (ops != NULL) {
		sp->ops_copy = *ops;
		sp->ops = &sp->ops_copy;
	}
	sp->ops_arg = arg;
}

static inline bool
fake_ready(const struct fake_msg *f)
{
	return !f->taken && f->dones == 0 && f->not_before <= clock_real();
}

size_t
owner_queue_ready(const struct owner_queue *q)
{
	size_t n = 0;

	for (size_t i = 0; i < q->sp->n; i++)
		n += q->sp->msgs[i].m.queue == q && fake_ready(&q->sp->msgs[i]);
	return n;
}

size_t
owner_take(struct owner_queue *q, size_t max, struct owner_msg **out)
{
	size_t n = 0;

	for (size_t i = 0; i < q->sp->n && n < max; i++) {
		struct fake_msg *f = &q->sp->msgs[i];

		if (f->m.queue != q || !fake_ready(f))
			continue;
		f->taken = true;
		out[n++] = &f->m;
	}
	return n;
}

bool
owner_may_write(struct owner_msg *m)
{
	struct fake_msg *f = fake_find(fake_spool, m->id);

	f->written = f->written || !f->gate_closed;
	return f->written;
}

void
owner_attempted(struct owner_msg *m, struct place place)
{
	(void)m;
	(void)place;
}

void
owner_done(struct owner_msg *m, enum outcome_kind kind, usec_t next_due, struct place place)
{
	struct fake_msg *f = fake_find(fake_spool, m->id);

	(void)next_due;
	(void)place;
	require_that(f->written && f->taken && kind == f->kind, "fake");
	f->dones++;
	f->taken = false;
}

void
owner_release(struct owner_msg *m, usec_t not_before)
{
	struct fake_msg *f = fake_find(fake_spool, m->id);

	require_that(!f->written && f->taken, "fake");
	f->releases++;
	f->taken = false;
	f->not_before = not_before;
	if (f->gate_closed)
		f->dones++;
}

void
owner_lost(struct owner_msg *m)
{
	struct fake_msg *f = fake_find(fake_spool, m->id);

	f->lost = 1;
	f->dones++;
}

void
owner_set_aside(struct owner_msg *m, struct slice reason)
{
	(void)reason;
	fake_find(fake_spool, m->id)->aside++;
}

struct slice
owner_queue_binding(const struct owner_queue *q)
{
	return q->binding;
}

struct slice
owner_queue_domain(const struct owner_queue *q)
{
	return q->domain;
}

void
owner_queue_set_role(struct owner_queue *q, void *role)
{
	q->role = role;
}

void *
owner_queue_role(const struct owner_queue *q)
{
	return q->role;
}

bool
owner_queue_borrowed(const struct owner_queue *q)
{
	return q->borrowed;
}

unsigned
owner_queue_hands(const struct owner_queue *q)
{
	return 1 + q->lent_to;
}

void
owner_kick(struct owner_queue *q)
{
	q->shown = false;
}

void
owner_wait(struct owner_queue *q, usec_t until)
{
	q->wait_until = until;
	q->shown = false;
}

void
owner_room(struct spool_owner *o)
{
	for (int i = 0; i < FAKE_QUEUES; i++)
		((struct spool *)o)->queues[i].shown = false;
}

/* What the real owner does at the end of a turn. */
static inline void
fake_show(struct spool *sp)
{
	for (int i = 0; i < FAKE_QUEUES && sp->ops != NULL; i++) {
		struct owner_queue *q = &sp->queues[i];

		if (q->sp == NULL || q->shown || clock_mono() < q->wait_until || owner_queue_ready(q) == 0)
			continue;
		q->shown = true;
		sp->ops->queue_ready(sp->ops_arg, q);
	}
}

static inline void
fake_free(struct spool *sp)
{
	loop_later_cancel(sp->loop, &sp->later);
	while (sp->txns != NULL) {
		struct spool_txn *t = sp->txns;

		sp->txns = t->next;
		fake_synced(t); /* what is owed is told, as spool_close does */
		fake_txn_free(t);
	}
	for (size_t i = 0; i < sp->n; i++) {
		free(sp->msgs[i].header);
		free(sp->msgs[i].body);
		bytes_fini(&sp->msgs[i].notice);
	}
	free(sp);
}

#endif
