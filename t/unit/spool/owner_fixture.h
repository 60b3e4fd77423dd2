/* owner_fixture.h - owners over a real spool, a real keeper and their map, and deliveries that do what the test says */
#ifndef T_UNIT_SPOOL_OWNER_FIXTURE_H
#define T_UNIT_SPOOL_OWNER_FIXTURE_H

#include "keeper_fixture.h"

#include "spool/spool_owner.h"

#define HANGS (60 * USEC_PER_SEC)
enum { OLD = 4, NEW = 5, KEEPS = 6, TAKEN_MAX = 4096, TURNS = 400 };

/* One worker life: a spool and an owner, and a delivery that only does what the test says. */
struct life_of {
	struct ofix *f;
	int slot;
	uint64_t writer;
	struct spool *sp;
	struct spool_owner *o;
	struct owner_msg *taken[TAKEN_MAX];
	size_t n;
	struct owner_msg *errand; /* the first of them */
	struct owner_msg *errands[8];
	size_t n_errands;
	struct owner_queue *shown;
	enum owner_errand what;
	char reason[64];
	bool take; /* what is shown */
	bool suspended, drained, lendable;
	enum owner_in_doubt in_doubt;
	bool answered;
	enum err answer;
};

struct ofix {
	struct fixture base;
	struct keeper *k;
	struct keeper_conf kconf;
	struct life_of w[2];
	char home[256];
	unsigned commits_asked;
};

/* ---- the keeper */

static inline bool
alive(void *arg, uint64_t writer)
{
	struct ofix *f = arg;
	struct slot_who who;

	for (int i = 0; i < SLOTS_MAX; i++)
		if (slot_who(shm_slot(f->base.area, i), &who) && who.writer == writer)
			return true;
	return false;
}

static inline bool
mark(void *arg, uint64_t writer, uint32_t *seg, uint32_t *at)
{
	struct ofix *f = arg;
	struct slot_who who;

	for (int i = 0; i < SLOTS_MAX; i++)
		if (slot_who(shm_slot(f->base.area, i), &who) && who.writer == writer) {
			slot_mark(shm_slot(f->base.area, i), seg, at);
			return *seg != 0;
		}
	return false;
}

static const struct keeper_hooks hooks = { .alive = alive, .mark = mark };

static inline void
keep(struct ofix *f)
{
	assert_int_equal(keeper_settle(f->k, clock_mono()), OK);
}

/* ---- delivery */

static inline enum owner_served
on_ready(void *arg, struct owner_queue *q)
{
	struct life_of *w = arg;

	w->shown = q;
	if (w->take)
		w->n += owner_take(q, TAKEN_MAX - w->n, w->taken + w->n);
	return OWNER_SERVED;
}

static inline void
on_errand(void *arg, struct owner_msg *m, enum owner_errand what, struct slice reason)
{
	struct life_of *w = arg;

	assert_in_range(w->n_errands, 0, 7);
	w->errands[w->n_errands++] = m;
	w->errand = w->errands[0];
	w->what = what;
	snprintf(w->reason, sizeof w->reason, "%.*s", (int)reason.n, reason.p);
}

static inline enum owner_in_doubt
on_in_doubt(void *arg, struct owner_queue *q)
{
	(void)q;
	return ((struct life_of *)arg)->in_doubt;
}

static inline bool
on_suspended(void *arg, struct owner_queue *q)
{
	(void)q;
	return ((struct life_of *)arg)->suspended;
}

static inline bool
on_may_lend(void *arg, struct owner_queue *q)
{
	(void)q;
	return ((struct life_of *)arg)->lendable;
}

static const struct owner_ops ops = { .queue_ready = on_ready,
				      .errand = on_errand,
				      .in_doubt = on_in_doubt,
				      .suspended = on_suspended,
				      .may_lend = on_may_lend };

static inline void
on_commit_please(void *arg)
{
	((struct ofix *)arg)->commits_asked++;
}

/* ---- lives */

/* Of a generation whose partitions all belong to the worker in slot `owns`. */
static inline void
begin_beside(struct ofix *f, struct life_of *w, int slot, uint32_t generation, int owns)
{
	struct spool_conf conf = f->base.conf;
	uint8_t owner[PARTITIONS];
	enum err e = OK;

	*w = (struct life_of){ .f = f, .slot = slot, .take = true };
	shm_slot_take(f->base.area, slot, ROLE_WORKER, generation, &w->writer);
	shm_slot_born(f->base.area, slot, 1000 + slot);
	slot_set_state(shm_slot(f->base.area, slot), SLOT_SERVING);
	memset(owner, owns, sizeof owner);
	partitions_publish(f->base.area, generation, owner);
	conf.slot = slot;
	conf.writer = w->writer;
	conf.generation = generation;
	w->sp = spool_open(&conf, &e);
	assert_non_null(w->sp);
	w->o = owner_new(&(struct owner_env){ .area = f->base.area,
					      .slot = slot,
					      .writer = w->writer,
					      .generation = generation,
					      .spool = w->sp,
					      .index = keeper_index(f->k),
					      .commit_please = on_commit_please,
					      .arg = f });
	owner_set_ops(w->o, &ops, w);
}

static inline void
begin(struct ofix *f, struct life_of *w, int slot, uint32_t generation)
{
	begin_beside(f, w, slot, generation, slot);
}

/* Dies: nothing is said, nothing is handed on. */
static inline void
end(struct ofix *f, struct life_of *w)
{
	spool_close(&w->sp);
	owner_free(&w->o);
	shm_slot_reap(f->base.area, w->slot, 9, false);
	w->n = 0;
	w->errand = NULL;
}

static inline void
spin_one(struct life_of *w)
{
	struct pollfd p;

	if (w->sp == NULL)
		return;
	p = (struct pollfd){ .fd = spool_event_fd(w->sp), .events = POLLIN };
	if (poll(&p, 1, 10) == 1)
		spool_on_event(w->sp);
	owner_run(w->o);
}

/* Turns of all, as long as it takes: some things wait for the clock, and how many turns that is depends on the machine. */
static inline void
spin_while(struct ofix *f, bool (*more)(struct ofix *))
{
	usec_t until = clock_mono() + HANGS;

	while (more(f) && clock_mono() < until) {
		keep(f);
		for (int k = 0; k < 2; k++)
			if (f->w[k].sp != NULL)
				owner_on_doorbell(f->w[k].o);
		spin_one(&f->w[0]);
		spin_one(&f->w[1]);
	}
	assert_false(more(f));
}

/* For what is not to happen: every queue was looked through, several times. */
static inline void
spin_on(struct ofix *f)
{
	usec_t until = clock_mono() + 450 * USEC_PER_MS;

	while (clock_mono() < until) {
		keep(f);
		for (int k = 0; k < 2; k++)
			if (f->w[k].sp != NULL)
				owner_on_doorbell(f->w[k].o);
		spin_one(&f->w[0]);
		spin_one(&f->w[1]);
	}
}

static inline bool
nothing_taken(struct ofix *f)
{
	return f->w[0].n + f->w[1].n == 0;
}

static inline bool
no_errand(struct ofix *f)
{
	return f->w[0].errand == NULL && f->w[1].errand == NULL;
}

static inline bool
less_than_two_errands(struct ofix *f)
{
	return f->w[0].n_errands < 2;
}

static inline bool
not_answered(struct ofix *f)
{
	return !f->w[0].answered;
}

static inline bool
something_remembered(struct ofix *f)
{
	struct owner_counts n;

	owner_counts(f->w[0].o, &n);
	return n.remembered > 0;
}

static inline bool
not_adopted(struct ofix *f)
{
	struct owner_counts n;

	owner_counts(f->w[f->w[1].sp != NULL].o, &n);
	return n.partitions == 0;
}

/* ---- records */

static const char domain[] = "example.com";

static inline struct place
put_mail(struct life_of *w, msgid_t *id, bool tell)
{
	struct spool_txn *txn = spool_txn_new(w->sp);
	struct answer a = { .come = false };
	struct spool_message m = { .id = spool_new_id(w->sp),
				   .received_at = clock_real(),
				   .origin = ORIGIN_ACCEPTED,
				   .protocol = PROTOCOL_ESMTP,
				   .sender = SLICE("a@example.net"),
				   .rcpt = SLICE("b@example.com"),
				   .binding = SLICE("default"),
				   .domain = slice_str(domain),
				   .header_blob = BLOB_NONE,
				   .conn_ctx_blob = BLOB_NONE,
				   .ctx_blob = BLOB_NONE };
	struct pollfd p = { .fd = spool_event_fd(w->sp), .events = POLLIN };

	m.body_blob = spool_txn_blob(txn, SLICE("body"));
	m.size = 4;
	spool_txn_message(txn, &m);
	assert_int_equal(spool_submit(txn, answer_take, &a), OK);
	while (!a.come && poll(&p, 1, 30000) == 1)
		spool_on_event(w->sp);
	assert_int_equal(a.why, OK);
	*id = m.id;
	if (tell)
		owner_tell(w->o, &(struct owner_news){ .id = m.id,
						       .place = a.place,
						       .received_at = m.received_at,
						       .binding = m.binding,
						       .domain = m.domain });
	return a.place;
}

static inline struct place
submit(struct life_of *w, struct spool_txn *txn)
{
	struct answer a = { .come = false };
	struct pollfd p = { .fd = spool_event_fd(w->sp), .events = POLLIN };

	assert_int_equal(spool_submit(txn, answer_take, &a), OK);
	while (!a.come && poll(&p, 1, 30000) == 1)
		spool_on_event(w->sp);
	assert_int_equal(a.why, OK);
	return a.place;
}

static inline void
attempt(struct life_of *w, struct owner_msg *m)
{
	struct spool_txn *txn = spool_txn_new(w->sp);

	assert_true(owner_may_write(m));
	spool_txn_attempt(
		txn, &(struct spool_attempt){
			     .id = m->id, .n = m->tries + 1, .place = m->place, .item = m->item, .at = clock_real() });
	owner_attempted(m, submit(w, txn));
}

static inline void
outcome(struct life_of *w, struct owner_msg *m, enum outcome_kind kind, usec_t next_due)
{
	struct spool_txn *txn = spool_txn_new(w->sp);

	assert_true(owner_may_write(m));
	spool_txn_outcome(txn, &(struct spool_outcome){ .id = m->id,
							.n = m->tries + 1,
							.place = m->place,
							.item = m->item,
							.kind = (uint8_t)kind,
							.at = clock_real(),
							.next_due = next_due,
							.text = SLICE("250 ok") });
	owner_done(m, kind, next_due, submit(w, txn));
}

static inline void
on_answer(void *arg, enum err e)
{
	struct life_of *w = arg;

	assert_false(w->answered);
	w->answered = true;
	w->answer = e;
}

static inline enum err
verb(struct ofix *f, enum owner_verb_kind kind, msgid_t lo, msgid_t hi, const char *reason)
{
	struct life_of *w = &f->w[0];

	w->answered = false;
	owner_verb(w->o,
		   &(struct owner_verb){ .kind = kind,
					 .id_lo = lo,
					 .id_hi = hi,
					 .domain = slice_str(domain),
					 .reason = slice_str(reason) },
		   on_answer, w);
	spin_while(f, not_answered);
	return w->answer;
}

static inline enum row_state
row_of(struct ofix *f, msgid_t id, struct index_row *row)
{
	struct index_txn *t = NULL;
	enum err e;

	assert_int_equal(index_begin(keeper_index(f->k), &t), OK);
	e = index_message_get(t, id, row);
	index_end(&t);
	return e == OK ? (enum row_state)row->state : ROW_STATES;
}

static inline enum row_state
state_of(struct ofix *f, msgid_t id)
{
	struct index_row row;

	keep(f);
	return row_of(f, id, &row);
}

/* ---- setup */

static inline int
setup(void **state)
{
	struct ofix *f = mem_zalloc(sizeof *f);

	fixture_init(&f->base);
	assert_non_null(getcwd(f->home, sizeof f->home));
	assert_int_equal(chdir(f->base.dir), 0);
	f->kconf = (struct keeper_conf){ .spool_fd = f->base.dirfd,
					 .index_path = "index",
					 .index_size = 64 << 20,
					 .highest = shm_segment_highest(f->base.area),
					 .segment_size = SEGMENT_SIZE_MIN,
					 .hooks = &hooks,
					 .hooks_arg = f,
					 .slot = KEEPS };
	shm_slot_take(f->base.area, KEEPS, ROLE_KEEPER, 1, &f->kconf.writer);
	assert_int_equal(keeper_open(&f->kconf, &f->k), OK);
	begin(f, &f->w[0], OLD, 1);
	spin_while(f, not_adopted);
	*state = f;
	return 0;
}

static inline int
teardown(void **state)
{
	struct ofix *f = *state;

	for (int i = 0; i < 2; i++)
		if (f->w[i].sp != NULL) {
			spool_close(&f->w[i].sp);
			owner_free(&f->w[i].o);
		}
	keeper_close(&f->k);
	assert_int_equal(chdir(f->home), 0);
	fixture_fini(&f->base);
	free(f);
	return 0;
}

#endif
