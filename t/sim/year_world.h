/* year_world.h - the world of test_year_sim.c: who holds a message, and twins of the loop and of the spool
 * Owners of queues, their schedule, delivery, its memory of hosts, limits and routes are the real ones. The twins here
 * and in year_net.h make the promises of the originals: callbacks come later, from the loop, in order. All of it happens
 * at moments of one clock that only the simulation moves. What they see they tell to year_check.h. */
#ifndef T_SIM_YEAR_WORLD_H
#define T_SIM_YEAR_WORLD_H

#include <arpa/inet.h>

#include "policy/conf/conf.h"
#include "worker/delivery/delivery_int.h"
#include "worker/delivery/delivery_options.h"
#include "worker/net/resolver.h"

enum {
	MAILS = 500,
	QUEUES = 7,
	HOSTS = 8,
	WORKERS = 2,
	LIVES = 256,
	PAGE_ROWS = 5,
	CLIENTS = 64,
	TIMERS = 512,
	ORIGINS = 16,
	VARIANTS = 3,
};

#include "t/sim/sim_life.h"

#define H(n) S((n)*3600)
#define D(n) H((n)*24)

static const struct queue_names names[QUEUES] = {
	{ "default", "d0.test" }, { "default", "d1.test" }, { "b1", "d1.test" },      { "b1", "d2.test" },
	{ "b2", "d3.test" },      { "b2", "d4.test" },      { "default", "d5.test" },
};

struct hand { /* of a message: whose it is, beside what the map has of it */
	const char *sender;
	bool perm;                          /* its recipient does not exist */
	usec_t greylisted;                  /* since; 0: never tried */
	int holder;                         /* life that has taken it; -1 */
	int opener;                         /* life that has begun it, and said no outcome yet; -1 */
	bool errand, loaded, sent, on_disk; /* on_disk: its attempt */
	uint64_t turn;                      /* in the order of taking */
	usec_t since;                       /* taken, or ripe and not taken */
	usec_t late;                        /* past its deadline since */
};

/* What a record says, on its way to the disk. */
struct spool_txn {
	struct spool *sp;
	struct fact facts[2];
	unsigned n;
	bool notice;
	struct spool_message message; /* the notice's; names are copies */
	char *rcpt, *binding, *domain;
	usec_t when;
	spool_done *done;
	void *arg;
	struct spool_txn *next;
};

struct spool_fetch {
	struct spool *sp;
	int mail;
	usec_t when;
	spool_fetch_done *done;
	void *arg;
	struct spool_fetch *next;
};

struct spool_proof {
	struct place place;
};

/* The spool of one life: one journal, one segment. */
struct spool {
	int life;
	struct spool_txn *txns, **txns_end;
	struct spool_fetch *fetches, **fetches_end;
	usec_t last_sync, last_fetch; /* they keep their order */
};

/* What a process is beside its owner. */
struct worker {
	struct spool spool;
	struct delivery *d;
	int variant; /* its configuration */
};

enum mode { UP, REFUSES, SILENT, GREY, BUSY, CLOSED, FLAKY, MODES };

/* A host of the network. */
struct far {
	enum mode mode;
	usec_t until;
};

struct smtp_client {
	bool used;
	struct loop *loop;
	const struct smtp_client_ops *ops;
	void *arg;
	int host, life;
	struct smtp_timeouts timeouts;
	enum { CONNECTS, RESTS, OPENS, WANTS, DOTS, TELLS, QUITS } at;
	usec_t when;
	const struct smtp_mail *mail;
	int mail_no;
	bool greeted, dot_may, quit;
	unsigned delivered;
	struct smtp_result result;
	bool lost; /* the connection ends with the result */
};

struct resolver_query {
	usec_t when;
	char name[DNS_NAME_MAX];
	enum dns_type type;
	resolver_done *done;
	void *arg;
	struct resolver_query *next, **at;
};

struct loop {
	struct ev_timer *timers[TIMERS];
	unsigned n;
	TAILQ_HEAD(, ev_later) later;
};

struct window {
	uint64_t origin;
	usec_t begun;
	uint32_t n;
};

static struct year {
	struct hand hand[MAILS];
	struct worker workers[LIVES];
	uint64_t turns, ids;
	struct loop loop;
	struct far far[HOSTS];
	struct smtp_client clients[CLIENTS];
	struct resolver_query *queries;
	struct window windows[ORIGINS];
	bool suspended[2]; /* bindings b1, b2 */
	int variant;       /* the newest configuration */
	unsigned riot;     /* troubles that follow at once */
	bool permits;      /* a connection has come or gone */
	unsigned polls;
	uint64_t sends, steps;
} year;

static struct conf *confs[VARIANTS];
static const struct conf_view *views[VARIANTS][QUEUES];
static struct sched_retry retries[VARIANTS][QUEUES];

/* By the configuration of that process. */
static const struct conf_view *
view_of(int life, int queue)
{
	return views[year.workers[life].variant][queue];
}

static struct conf *
conf_of(int life)
{
	return confs[year.workers[life].variant];
}

static struct sched_retry
retry_of(int queue)
{
	return retries[year.workers[sim.at[queue % WORKERS]].variant][queue];
}

static bool
in_hands(int mail)
{
	return year.hand[mail].holder >= 0;
}

/* The hosts of one MX preference are tried in an order that is rolled, too. */
uint32_t
arc4random_uniform(uint32_t below)
{
	return below < 2 ? 0 : (uint32_t)roll(below);
}

/* What the twins tell of, as it happens: year_check.h. */
static void on_taken(int life, int mail);
static void on_send(int life, int mail, const struct dconn *c);
static void on_connect(int life, const struct dconn *c);
static void on_attempt(int life, int mail);
static void on_dot(int life, int mail);
static void on_outcome(int life, int mail, const struct spool_outcome *o);
/* The record is on disk, whoever learns of it: year_event.h. */
static void on_landed(int life, const struct spool_txn *t, struct place place);

/* ---- loop ---- */

usec_t
loop_now(const struct loop *l)
{
	(void)l;
	return sim.now;
}

void
loop_timer_set(struct loop *l, struct ev_timer *t, usec_t at, ev_fn *fn, void *arg)
{
	if (t->place == 0) {
		MUST(l->n < TIMERS, "too many timers");
		l->timers[l->n++] = t;
		t->place = l->n;
	}
	t->at = at;
	t->fn = fn;
	t->arg = arg;
}

void
loop_timer_stop(struct loop *l, struct ev_timer *t)
{
	if (t->place != 0) {
		l->timers[t->place - 1] = l->timers[--l->n];
		l->timers[t->place - 1]->place = t->place;
	}
	t->at = 0;
	t->place = 0;
}

void
loop_later(struct loop *l, struct ev_later *later, ev_fn *fn, void *arg)
{
	if (later->queued)
		return;
	later->queued = true;
	later->fn = fn;
	later->arg = arg;
	TAILQ_INSERT_TAIL(&l->later, later, link);
}

void
loop_later_cancel(struct loop *l, struct ev_later *later)
{
	if (later->queued)
		TAILQ_REMOVE(&l->later, later, link);
	later->queued = false;
}

static void
loop_run_later(void)
{
	struct ev_later *later;

	while ((later = TAILQ_FIRST(&year.loop.later)) != NULL) {
		loop_later_cancel(&year.loop, later);
		later->fn(later->arg);
	}
}

static void
loop_run_timers(void)
{
	for (unsigned i = 0; i < year.loop.n;) {
		struct ev_timer *t = year.loop.timers[i];
		ev_fn *fn = t->fn;
		void *arg = t->arg;

		if (t->at > sim.now) {
			i++;
			continue;
		}
		loop_timer_stop(&year.loop, t);
		fn(arg);
		year.polls = 0;
		i = 0;
	}
}

/* ---- spool ---- */

msgid_t
spool_new_id(struct spool *sp)
{
	(void)sp;
	return id_at(sim_real()) + 1000 + ++year.ids;
}

struct spool_txn *
spool_txn_new(struct spool *sp)
{
	struct spool_txn *t = mem_zalloc(sizeof *t);

	t->sp = sp;
	return t;
}

static void
txn_free(struct spool_txn *t)
{
	free(t->rcpt);
	free(t->binding);
	free(t->domain);
	free(t);
}

uint16_t
spool_txn_blob(struct spool_txn *t, struct slice bytes)
{
	(void)t;
	(void)bytes;
	return 0;
}

uint16_t
spool_txn_message(struct spool_txn *t, const struct spool_message *m)
{
	t->notice = true;
	t->message = *m;
	t->message.rcpt = slice_str(t->rcpt = slice_dup(m->rcpt));
	t->message.binding = slice_str(t->binding = slice_dup(m->binding));
	t->message.domain = slice_str(t->domain = slice_dup(m->domain));
	return 0;
}

uint16_t
spool_txn_attempt(struct spool_txn *t, const struct spool_attempt *a)
{
	int mail = mail_no(a->id);

	on_attempt(t->sp->life, mail);
	t->facts[t->n++] = (struct fact){ .what = FACT_TRY, .mail = mail, .n = a->n, .due = a->at };
	return 0;
}

uint16_t
spool_txn_outcome(struct spool_txn *t, const struct spool_outcome *o)
{
	int mail = mail_no(o->id);

	on_outcome(t->sp->life, mail, o);
	t->facts[t->n++] = (struct fact){
		.what = FACT_END, .mail = mail, .n = o->n, .kind = (enum outcome_kind)o->kind, .due = o->next_due
	};
	return 0;
}

uint16_t
spool_txn_edit(struct spool_txn *t, const struct spool_edit *e)
{
	(void)t;
	(void)e;
	MUST(false, "an edit that nobody asked for");
	return 0;
}

uint16_t
spool_txn_handover(struct spool_txn *t, uint64_t owner, const msgid_t *ids, uint32_t count)
{
	(void)t;
	(void)owner;
	(void)ids;
	(void)count;
	MUST(false, "the owner's own writes go another way");
	return 0;
}

/* In company or not, the moment of a sync is any. */
void
spool_txn_patient(struct spool_txn *t)
{
	(void)t;
}

/* A moment, and never before what was asked earlier. */
static usec_t
in_order(usec_t *last, usec_t when)
{
	*last = when > *last ? when : *last;
	return *last;
}

enum err
spool_submit(struct spool_txn *t, spool_done *done, void *arg)
{
	t->done = done;
	t->arg = arg;
	t->when = in_order(&t->sp->last_sync, sim.now + MS(1 + roll(roll(16) == 0 ? 3000 : 20))); /* some stall */
	*t->sp->txns_end = t;
	t->sp->txns_end = &t->next;
	return OK;
}

struct place
proof_place(const struct spool_proof *p)
{
	return p->place;
}

/* To the journal; a notice is a new message of the same record. Its place is that of its last fact: a fold that has come
 * so far has all of it. */
static struct place
txn_write(struct spool_txn *t)
{
	int life = t->sp->life;
	struct place place = { (uint32_t)life + 1, (sim.lives[life].n + t->n + t->notice - 1) * 8 };

	for (unsigned i = 0; i < t->n; i++)
		(void)append(life, t->facts[i]);
	on_landed(life, t, place);
	return place;
}

static struct spool_txn *
txn_first(struct spool *sp)
{
	struct spool_txn *t = sp->txns;

	sp->txns = t->next;
	if (sp->txns == NULL)
		sp->txns_end = &sp->txns;
	return t;
}

static void
spool_run_synced(struct spool *sp)
{
	while (sp->txns != NULL && sp->txns->when <= sim.now) {
		struct spool_txn *t = txn_first(sp);
		struct spool_proof proof = { .place = txn_write(t) };

		year.polls = 0;
		t->done(t->arg, OK, &proof);
		txn_free(t);
	}
}

/* The process ends: of what was not synced a part may be there all the same. */
static void
spool_die(struct spool *sp)
{
	bool written = roll(2) == 0;

	while (sp->txns != NULL) {
		struct spool_txn *t = txn_first(sp);

		written = written && roll(3) > 0;
		if (written)
			(void)txn_write(t);
		t->done(t->arg, ERR_DAMAGED, NULL); /* to nobody: whoever asked is gone */
		txn_free(t);
	}
}

struct spool_fetch *
spool_fetch(struct spool *sp, msgid_t id, struct place place, uint16_t item, spool_fetch_done *done, void *arg)
{
	struct spool_fetch *f = mem_zalloc(sizeof *f);

	(void)place;
	(void)item;
	*f = (struct spool_fetch){ .sp = sp, .mail = mail_no(id), .done = done, .arg = arg };
	f->when = in_order(&sp->last_fetch, sim.now + MS(roll(roll(8) == 0 ? 4000 : 10))); /* a cold body */
	*sp->fetches_end = f;
	sp->fetches_end = &f->next;
	on_taken(sp->life, f->mail);
	return f;
}

void
spool_fetch_cancel(struct spool_fetch **fp)
{
	struct spool_fetch **at;

	if (*fp == NULL)
		return;
	for (at = &(*fp)->sp->fetches; *at != *fp;)
		at = &(*at)->next;
	*at = (*fp)->next;
	if ((*fp)->sp->fetches_end == &(*fp)->next)
		(*fp)->sp->fetches_end = at;
	free(*fp);
	*fp = NULL;
}

void
spool_fetched_free(struct spool_fetched **got)
{
	free(*got);
	*got = NULL;
}

enum err
spool_body_read(const struct spool_fetched *f, uint64_t at, void *to, size_t n, size_t *got)
{
	(void)f;
	(void)at;
	(void)to;
	(void)n;
	(void)got;
	return ERR_IO;
}

void
spool_run_cold(struct spool *sp, void (*fn)(void *arg), void (*done)(void *arg), void *arg)
{
	(void)sp;
	(void)fn;
	(void)done;
	(void)arg;
	MUST(false, "no body is a file here");
}

static void
spool_run_fetched(struct spool *sp)
{
	while (sp->fetches != NULL && sp->fetches->when <= sim.now) {
		struct spool_fetch *f = sp->fetches;
		const struct mail *m = &sim.mail[f->mail];
		struct hand *h = &year.hand[f->mail];
		struct spool_fetched *got = mem_zalloc(sizeof *got);

		sp->fetches = f->next;
		if (sp->fetches == NULL)
			sp->fetches_end = &sp->fetches;
		got->message = (struct spool_message){ .id = m->id,
						       .received_at = m->received,
						       .origin = ORIGIN_ACCEPTED,
						       .sender = slice_str(h->sender),
						       .rcpt = SLICE("someone@there.test"),
						       .binding = slice_str(names[m->queue].binding),
						       .domain = slice_str(names[m->queue].domain),
						       .size = 20 };
		got->header = SLICE("Subject: x\r\n");
		got->body = SLICE("\r\nhello\r\n");
		got->body_fd = -1;
		h->loaded = true;
		year.polls = 0;
		f->done(f->arg, OK, got);
		free(f);
	}
}

#endif
