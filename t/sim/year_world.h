/* year_world.h - what test_year_sim.c puts in the place of disk, network, DNS
 * and clock The owners of queues, their schedule, delivery, its memory of
 * hosts, limits and routes are the real ones. Here stand twins of the loop, the
 * spool, the outbound connection and the resolver, with the same promises as
 * theirs: callbacks come later, from the loop, in order. All of it happens at
 * moments of one clock that only the simulation moves. */
#ifndef T_SIM_YEAR_WORLD_H
#define T_SIM_YEAR_WORLD_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <arpa/inet.h>
#include <cmocka.h>

#include "policy/conf/conf.h"
#include "shm/base/log.h"
#include "shm/base/mem.h"
#include "shm/shm_limits.h"
#include "spool/spool_owner_int.h"
#include "worker/delivery/delivery_int.h"
#include "worker/delivery/delivery_options.h"
#include "worker/net/resolver.h"

#define MS(n) ((usec_t)(n)*USEC_PER_MS)
#define S(n)  ((usec_t)(n)*USEC_PER_SEC)
#define H(n)  S((n)*3600)
#define D(n)  H((n)*24)

enum {
	MAILS = 400,
	QUEUES = 7,
	HOSTS = 8,
	LIVES = 64,
	CLIENTS = 64,
	COLD = 64,
	TIMERS = 512,
	ORIGINS = 16,
};

struct mail {
	msgid_t id;
	int queue;
	uint8_t priority;
	usec_t received; /* real */
	struct place place;
	const char *sender;
	bool perm; /* its recipient does not exist */
	/* the map's */
	bool in_map, over;
	uint32_t tries;
	usec_t due;
	uint64_t open; /* writer of the open attempt */
	bool doubt;
	/* the truth */
	bool ended, named;
	int dots;
	usec_t greylisted; /* since; 0: never tried */
	/* in whose hands */
	int holder; /* life, -1 */
	bool errand, loaded, sent, open_now;
	uint64_t turn; /* in the order of taking */
	usec_t since;  /* taken, or ripe and not taken */
	usec_t late;   /* past its deadline since */
};

enum what { FACT_MAIL, FACT_TRY, FACT_END, FACT_HAND };
struct fact {
	enum what what;
	int mail;
	uint32_t n;
	enum outcome_kind kind;
	usec_t due;
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

struct life_sim {
	uint64_t writer;
	int slot;
	bool alive, settled, handed;
	struct fact *facts;
	uint32_t n, cap, folded;
	struct spool spool;
	struct spool_owner *o;
	struct owner_env env;
	struct delivery *d;
	struct conf *conf;
	bool draining;
	usec_t since[QUEUES]; /* ready and showable since */
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

struct cold {
	bool used, read;
	int life;
	usec_t when;
	void (*fn)(void *), (*done)(void *);
	void *job;
};

/* A write of an owner's own. */
struct written {
	bool used;
	int life;
	usec_t when;
	struct place place;
	owner_written *done;
	void *arg;
};

struct window {
	uint64_t origin;
	usec_t begun;
	uint32_t n;
};

static struct year {
	uint64_t seed, random;
	usec_t now, real; /* monotonic; real is real + now */
	struct shm_area *area;
	struct mail mail[MAILS];
	int mails;
	int live[MAILS], n_live;
	uint64_t turns, ids;
	struct life_sim lives[LIVES];
	int n_lives, owner;
	uint32_t generation;
	struct loop loop;
	struct far far[HOSTS];
	struct smtp_client clients[CLIENTS];
	struct resolver_query *queries;
	struct cold cold[COLD];
	struct written written[COLD];
	struct window windows[ORIGINS];
	bool suspended[2]; /* bindings b1, b2 */
	usec_t keeper, arrival, trouble;
	uint64_t commits;
	bool calm;
	unsigned polls;
	uint64_t sends, steps;
} sim;

static uint64_t
roll(uint64_t n)
{
	sim.random ^= sim.random << 13;
	sim.random ^= sim.random >> 7;
	sim.random ^= sim.random << 17;
	return sim.random % n;
}

#define MUST(cond, ...)                                                                          \
	do {                                                                                     \
		if (!(cond)) {                                                                   \
			fprintf(stderr, "seed %llu at day %.6f: ", (unsigned long long)sim.seed, \
				(double)sim.now / (double)D(1));                                 \
			fprintf(stderr, __VA_ARGS__);                                            \
			fprintf(stderr, "\n");                                                   \
			fail();                                                                  \
		}                                                                                \
	} while (0)

static usec_t
sim_mono(void)
{
	return sim.now;
}

static usec_t
sim_real(void)
{
	return sim.real + sim.now;
}

/* The hosts of one MX preference are tried in an order that is rolled, too. */
uint32_t
arc4random_uniform(uint32_t below)
{
	return below < 2 ? 0 : (uint32_t)roll(below);
}

static int
mail_no(msgid_t id)
{
	for (int i = 0; i < sim.n_live; i++)
		if (sim.mail[sim.live[i]].id == id)
			return sim.live[i];
	for (int i = sim.mails; i-- > 0;)
		if (sim.mail[i].id == id)
			return i;
	MUST(false, "a message that nobody sent");
	return 0;
}

/* What happens in the driver: checks, and what becomes true. */
static void on_taken(int life, int mail);
static void on_send(int life, int mail, const struct dconn *c);
static void on_connect(int life, const struct dconn *c);
static void on_attempt(int life, int mail);
static void on_dot(int mail);
static void on_outcome(int life, int mail, const struct spool_outcome *o);
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

	while ((later = TAILQ_FIRST(&sim.loop.later)) != NULL) {
		loop_later_cancel(&sim.loop, later);
		later->fn(later->arg);
	}
}

static void
loop_run_timers(void)
{
	for (unsigned i = 0; i < sim.loop.n;) {
		struct ev_timer *t = sim.loop.timers[i];
		ev_fn *fn = t->fn;
		void *arg = t->arg;

		if (t->at > sim.now) {
			i++;
			continue;
		}
		loop_timer_stop(&sim.loop, t);
		fn(arg);
		sim.polls = 0;
		i = 0;
	}
}

/* ---- spool ---- */

msgid_t
spool_new_id(struct spool *sp)
{
	(void)sp;
	return id_at(sim_real()) + 1000 + ++sim.ids;
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
	t->facts[t->n++] = (struct fact){ FACT_TRY, mail, a->n, 0, 0 };
	return 0;
}

uint16_t
spool_txn_outcome(struct spool_txn *t, const struct spool_outcome *o)
{
	int mail = mail_no(o->id);

	on_outcome(t->sp->life, mail, o);
	t->facts[t->n++] = (struct fact){ FACT_END, mail, o->n, (enum outcome_kind)o->kind, o->next_due };
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
	t->when = in_order(&t->sp->last_sync, sim.now + MS(1 + roll(20)));
	*t->sp->txns_end = t;
	t->sp->txns_end = &t->next;
	return OK;
}

struct place
proof_place(const struct spool_proof *p)
{
	return p->place;
}

static struct place
append(int life, struct fact f)
{
	struct life_sim *l = &sim.lives[life];

	if (l->n == l->cap) {
		l->cap = l->cap == 0 ? 64 : l->cap * 2;
		l->facts = mem_array(l->facts, l->cap, sizeof *l->facts);
	}
	l->facts[l->n] = f;
	return (struct place){ (uint32_t)life + 1, l->n++ * 8 };
}

/* To the journal; a notice is a new message of the same record. */
static struct place
txn_write(struct spool_txn *t)
{
	struct life_sim *l = &sim.lives[t->sp->life];
	struct place place = { (uint32_t)t->sp->life + 1, l->n * 8 };

	on_landed(t->sp->life, t, place);
	for (unsigned i = 0; i < t->n; i++)
		(void)append(t->sp->life, t->facts[i]);
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

		sim.polls = 0;
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

static const struct queue_names {
	const char *binding, *domain;
} queues[QUEUES] = {
	{ "default", "d0.test" }, { "default", "d1.test" }, { "b1", "d1.test" },      { "b1", "d2.test" },
	{ "b2", "d3.test" },      { "b2", "d4.test" },      { "default", "d5.test" },
};

static void
spool_run_fetched(struct spool *sp)
{
	while (sp->fetches != NULL && sp->fetches->when <= sim.now) {
		struct spool_fetch *f = sp->fetches;
		struct mail *m = &sim.mail[f->mail];
		struct spool_fetched *got = mem_zalloc(sizeof *got);

		sp->fetches = f->next;
		if (sp->fetches == NULL)
			sp->fetches_end = &sp->fetches;
		got->message = (struct spool_message){ .id = m->id,
						       .received_at = m->received,
						       .origin = ORIGIN_ACCEPTED,
						       .sender = slice_str(m->sender),
						       .rcpt = SLICE("someone@there.test"),
						       .binding = slice_str(queues[m->queue].binding),
						       .domain = slice_str(queues[m->queue].domain),
						       .size = 20 };
		got->header = SLICE("Subject: x\r\n");
		got->body = SLICE("\r\nhello\r\n");
		got->body_fd = -1;
		m->loaded = true;
		sim.polls = 0;
		f->done(f->arg, OK, got);
		free(f);
	}
}

/* ---- connections ---- */

/* Which life a connection is of: its dconn knows its queue's delivery. */
static int
life_of(const struct dconn *c)
{
	for (int i = 0; i < sim.n_lives; i++)
		if (sim.lives[i].d != NULL && sim.lives[i].d == c->q->d)
			return i;
	MUST(false, "a connection of nobody");
	return 0;
}

struct smtp_client *
smtp_client_new(const struct smtp_client_conf *conf)
{
	const struct sockaddr_in *to = (const struct sockaddr_in *)(const void *)conf->remote;
	struct smtp_client *c = NULL;

	for (int i = 0; i < CLIENTS && c == NULL; i++)
		c = sim.clients[i].used ? NULL : &sim.clients[i];
	MUST(c != NULL, "too many connections");
	*c = (struct smtp_client){ .used = true,
				   .ops = conf->ops,
				   .arg = conf->arg,
				   .host = (int)(ntohl(to->sin_addr.s_addr) & 0xff),
				   .timeouts = conf->timeouts };
	c->life = life_of(conf->arg);
	c->when = sim.now + (sim.far[c->host].mode == SILENT ? S(conf->timeouts.connect) : MS(1 + roll(300)));
	on_connect(c->life, conf->arg);
	return c;
}

void
smtp_client_free(struct smtp_client **cp)
{
	if (*cp != NULL)
		(*cp)->used = false;
	*cp = NULL;
}

void
smtp_client_set_arg(struct smtp_client *c, void *arg)
{
	c->arg = arg;
	on_connect(c->life, arg);
}

void
smtp_client_send(struct smtp_client *c, const struct smtp_mail *mail)
{
	const struct dconn *conn = c->arg;

	MUST(c->at == RESTS && c->mail == NULL && !c->quit, "a mail to a connection that is not idle");
	c->mail = mail;
	c->mail_no = mail_no(conn->job->m->id);
	c->dot_may = c->lost = false;
	c->at = OPENS;
	c->when = sim.now + (sim.far[c->host].mode == SILENT ? S(c->timeouts.mailfrom) : MS(1 + roll(200)));
	sim.sends++;
	on_send(c->life, c->mail_no, conn);
}

void
smtp_client_give(struct smtp_client *c, struct slice bytes, bool last)
{
	(void)bytes;
	if (last && c->at == WANTS)
		c->at = DOTS;
	c->when = c->dot_may && c->at == DOTS ? sim.now + MS(1 + roll(100)) : sim.now + S(c->timeouts.body);
}

void
smtp_client_dot(struct smtp_client *c)
{
	c->dot_may = true;
	if (c->at == DOTS)
		c->when = sim.now + MS(1 + roll(100));
}

static void
client_result(struct smtp_client *c, enum smtp_how how, int code, const char *text, enum smtp_stage stage, bool lost)
{
	c->result = (struct smtp_result){
		.how = how, .code = code, .internal = how != SMTP_REPLY, .stage = stage, .text = slice_str(text)
	};
	c->lost = lost;
	c->at = TELLS;
	c->when = sim.now + MS(1 + roll(600));
}

void
smtp_client_break(struct smtp_client *c, int code, const char *text)
{
	(void)text;
	if (c->mail != NULL && c->at != TELLS)
		client_result(c, SMTP_LOST, code, "451 4.3.0 [internal] broken off", SMTP_BODY, true);
	c->when = sim.now;
}

void
smtp_client_quit(struct smtp_client *c)
{
	c->quit = true;
	if (c->at == RESTS || c->at == CONNECTS) {
		c->at = QUITS;
		c->when = sim.now + MS(roll(50));
	}
}

bool
smtp_client_is_idle(const struct smtp_client *c)
{
	return c->at == RESTS && c->mail == NULL && !c->quit;
}

bool
smtp_client_greeted(const struct smtp_client *c)
{
	return c->greeted;
}

unsigned
smtp_client_delivered(const struct smtp_client *c)
{
	return c->delivered;
}

enum smtp_stage
smtp_client_stage(const struct smtp_client *c)
{
	return c->at == CONNECTS ? SMTP_NOT_CONNECTED : SMTP_IDLE;
}

uint64_t
smtp_client_sent(const struct smtp_client *c)
{
	(void)c;
	return 20;
}

/* The client may free itself, and another may come into its place. */
static void
client_down(struct smtp_client *c, int code, const char *text, enum smtp_stage stage, bool internal)
{
	struct smtp_down why = { .stage = stage,
				 .greeted = c->greeted,
				 .asked = c->quit,
				 .code = code,
				 .internal = internal,
				 .text = slice_str(text) };

	c->ops->down(c->arg, &why);
}

static void
client_connected(struct smtp_client *c)
{
	switch (sim.far[c->host].mode) {
	case REFUSES:
		client_down(c, 451, "451 4.4.1 [internal] cannot connect: refused", SMTP_NOT_CONNECTED, true);
		return;
	case SILENT:
		client_down(c, 450, "450 4.4.1 [internal] Connection Timed Out", SMTP_NOT_CONNECTED, true);
		return;
	case BUSY:
		client_down(c, 421, "421 4.3.2 busy", SMTP_BANNER, false);
		return;
	case CLOSED:
		client_down(c, 554, "554 5.3.2 no mail here", SMTP_BANNER, false);
		return;
	default:
		c->greeted = true;
		c->at = RESTS;
		c->when = sim.now + S(c->timeouts.idle);
		c->ops->idle(c->arg);
	}
}

/* MAIL and RCPT are answered. */
static void
client_opened(struct smtp_client *c)
{
	struct mail *m = &sim.mail[c->mail_no];
	enum mode mode = sim.far[c->host].mode;

	m->greylisted = m->greylisted == 0 ? sim.now : m->greylisted;
	if (mode == SILENT) {
		client_result(c, SMTP_LOST, 451, "451 4.4.2 [internal] no MAIL FROM response", SMTP_MAIL, true);
	} else if (mode == REFUSES || (mode == FLAKY && roll(3) == 0)) {
		client_result(c, c->delivered > 0 ? SMTP_UNTRIED : SMTP_LOST, 451, "451 4.4.2 [internal] closed",
			      SMTP_MAIL, true);
	} else if (mode == BUSY || (mode == GREY && sim.now - m->greylisted < S(600))) {
		client_result(c, SMTP_REPLY, 450, "450 4.7.1 later", SMTP_RCPT, false);
	} else if (m->perm) {
		client_result(c, SMTP_REPLY, 550, "550 5.1.1 no such user", SMTP_RCPT, false);
	} else {
		c->at = WANTS;
		c->when = sim.now + MS(1 + roll(100));
		c->ops->opened(c->arg);
	}
}

static void
client_dot(struct smtp_client *c)
{
	enum mode mode = sim.far[c->host].mode;
	bool taken = mode != FLAKY || roll(2) == 0;

	if (!c->dot_may) {
		client_result(c, SMTP_LOST, 451, "451 4.4.2 [internal] send BODY failed", SMTP_BODY, true);
		return;
	}
	if (taken)
		on_dot(c->mail_no);
	if (mode == FLAKY)
		client_result(c, SMTP_DOUBT, 451, "451 4.4.2 [internal] no BODY response", SMTP_CONFIRM, true);
	else
		client_result(c, SMTP_REPLY, 250, "250 2.0.0 taken", SMTP_CONFIRM, false);
	c->delivered += taken && mode != FLAKY;
}

static void
client_tells(struct smtp_client *c)
{
	struct smtp_result r = c->result;
	bool lost = c->lost;

	c->mail = NULL;
	c->at = RESTS;
	c->when = sim.now + S(c->timeouts.idle);
	c->lost = false;
	if (lost) {
		c->at = QUITS;
		c->when = sim.now;
	}
	c->ops->mail_done(c->arg, &r, 1);
	if (!c->used || lost)
		return;
	if (c->quit) {
		c->at = QUITS;
		c->when = sim.now + MS(1);
	} else {
		c->ops->idle(c->arg);
	}
}

static void
client_run(struct smtp_client *c)
{
	sim.polls = 0;
	switch (c->at) {
	case CONNECTS:
		client_connected(c);
		break;
	case RESTS:
		c->quit = true;
		client_down(c, 421, "421 4.4.2 [internal] idle", SMTP_IDLE, true);
		break;
	case OPENS:
		client_opened(c);
		break;
	case WANTS:
		c->when = sim.now + S(c->timeouts.body);
		c->ops->want(c->arg);
		break;
	case DOTS:
		client_dot(c);
		break;
	case TELLS:
		client_tells(c);
		break;
	case QUITS:
		client_down(c, 451, "451 4.4.2 [internal] connection closed", SMTP_IDLE, true);
		break;
	}
}

/* ---- DNS ---- */

struct resolver_query *
resolver_query(struct resolver *r, const char *name, enum dns_type type, resolver_done *done, void *arg)
{
	struct resolver_query *q = mem_zalloc(sizeof *q);

	(void)r;
	snprintf(q->name, sizeof q->name, "%s", name);
	q->type = type;
	q->done = done;
	q->arg = arg;
	q->when = sim.now + (roll(50) == 0 ? S(20) : MS(roll(50)));
	q->next = sim.queries;
	q->at = &sim.queries;
	if (q->next != NULL)
		q->next->at = &q->next;
	sim.queries = q;
	return q;
}

static void
query_free(struct resolver_query *q)
{
	*q->at = q->next;
	if (q->next != NULL)
		q->next->at = q->at;
	free(q);
}

void
resolver_cancel(struct resolver_query **qp)
{
	if (*qp != NULL)
		query_free(*qp);
	*qp = NULL;
}

/* dN.test has two MX, hN.test and one that it shares with the others; each host
 * one address, 10.0.0.N. */
static void
query_answer(struct resolver_query *q)
{
	struct resolver_query ask = *q;
	struct dns_record r[2] = { { .ttl = 60 }, { .ttl = 60 } };
	struct dns_answer a = { .status = DNS_OK,
				.type = q->type,
				.ttl = 60,
				.name = ask.name,
				.canonical = ask.name,
				.n = 1,
				.records = r };
	char host[16];

	query_free(q);
	if (!sim.calm && roll(100) == 0) {
		a.status = roll(2) == 0 ? DNS_SERVFAIL : DNS_TIMEOUT;
		a.n = 0;
	} else if (ask.type == DNS_MX) {
		snprintf(host, sizeof host, "h%c.test", ask.name[1]);
		r[0].text = slice_str(host);
		r[0].preference = 10;
		r[1].text = SLICE("h7.test");
		r[1].preference = 20;
		a.n = 2;
	} else {
		r[0].addr.a.s_addr = htonl(0x0a000000u + (uint32_t)(ask.name[1] - '0'));
	}
	ask.done(ask.arg, &a);
}

static void
queries_run(void)
{
	for (struct resolver_query *q = sim.queries; q != NULL;) {
		if (q->when > sim.now) {
			q = q->next;
			continue;
		}
		query_answer(q);
		sim.polls = 0;
		q = sim.queries;
	}
}

#endif
