/* The owner over a real spool, a real keeper and their map: what is told, found, held, handed on, and by whom. */
#include "keeper_fixture.h"

#include "spool/spool_owner.h"

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
	bool suspended, drained;
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

static bool
alive(void *arg, uint64_t writer)
{
	struct ofix *f = arg;
	struct slot_who who;

	for (int i = 0; i < SLOTS_MAX; i++)
		if (slot_who(shm_slot(f->base.area, i), &who) && who.writer == writer)
			return true;
	return false;
}

static bool
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

static void
keep(struct ofix *f)
{
	assert_int_equal(keeper_settle(f->k, clock_mono()), OK);
}

/* ---- delivery */

static enum owner_served
on_ready(void *arg, struct owner_queue *q)
{
	struct life_of *w = arg;

	w->shown = q;
	if (w->take)
		w->n += owner_take(q, TAKEN_MAX - w->n, w->taken + w->n);
	return OWNER_SERVED;
}

static void
on_errand(void *arg, struct owner_msg *m, enum owner_errand what, struct slice reason)
{
	struct life_of *w = arg;

	assert_in_range(w->n_errands, 0, 7);
	w->errands[w->n_errands++] = m;
	w->errand = w->errands[0];
	w->what = what;
	snprintf(w->reason, sizeof w->reason, "%.*s", (int)reason.n, reason.p);
}

static enum owner_in_doubt
on_in_doubt(void *arg, struct owner_queue *q)
{
	(void)q;
	return ((struct life_of *)arg)->in_doubt;
}

static bool
on_suspended(void *arg, struct owner_queue *q)
{
	(void)q;
	return ((struct life_of *)arg)->suspended;
}

static const struct owner_ops ops = {
	.queue_ready = on_ready, .errand = on_errand, .in_doubt = on_in_doubt, .suspended = on_suspended
};

static void
on_commit_please(void *arg)
{
	((struct ofix *)arg)->commits_asked++;
}

/* ---- lives */

static void
begin(struct ofix *f, struct life_of *w, int slot, uint32_t generation)
{
	struct spool_conf conf = f->base.conf;
	uint8_t owner[PARTITIONS];
	enum err e = OK;

	*w = (struct life_of){ .f = f, .slot = slot, .take = true };
	shm_slot_take(f->base.area, slot, ROLE_WORKER, generation, &w->writer);
	shm_slot_born(f->base.area, slot, 1000 + slot);
	memset(owner, slot, sizeof owner);
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

/* Dies: nothing is said, nothing is handed on. */
static void
end(struct ofix *f, struct life_of *w)
{
	spool_close(&w->sp);
	owner_free(&w->o);
	shm_slot_reap(f->base.area, w->slot, 9, false);
	w->n = 0;
	w->errand = NULL;
}

static void
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

/* Turns of all, until nothing more can be expected of them. */
static void
spin_while(struct ofix *f, bool (*more)(struct ofix *))
{
	int i = 0;

	for (; i < TURNS && more(f); i++) {
		keep(f);
		for (int k = 0; k < 2; k++)
			if (f->w[k].sp != NULL)
				owner_on_doorbell(f->w[k].o);
		spin_one(&f->w[0]);
		spin_one(&f->w[1]);
	}
	assert_true(i < TURNS);
}

/* For what is not to happen: every queue was looked through, several times. */
static void
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

static bool
nothing_taken(struct ofix *f)
{
	return f->w[0].n + f->w[1].n == 0;
}

static bool
no_errand(struct ofix *f)
{
	return f->w[0].errand == NULL && f->w[1].errand == NULL;
}

static bool
less_than_two_errands(struct ofix *f)
{
	return f->w[0].n_errands < 2;
}

static bool
not_answered(struct ofix *f)
{
	return !f->w[0].answered;
}

static bool
something_remembered(struct ofix *f)
{
	struct owner_counts n;

	owner_counts(f->w[0].o, &n);
	return n.remembered > 0;
}

static bool
not_adopted(struct ofix *f)
{
	struct owner_counts n;

	owner_counts(f->w[f->w[1].sp != NULL].o, &n);
	return n.partitions == 0;
}

/* ---- records */

static const char domain[] = "example.com";

static struct place
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

static struct place
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

static void
attempt(struct life_of *w, struct owner_msg *m)
{
	struct spool_txn *txn = spool_txn_new(w->sp);

	assert_true(owner_may_write(m));
	spool_txn_attempt(
		txn, &(struct spool_attempt){
			     .id = m->id, .n = m->tries + 1, .place = m->place, .item = m->item, .at = clock_real() });
	owner_attempted(m, submit(w, txn));
}

static void
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

static void
on_answer(void *arg, enum err e)
{
	struct life_of *w = arg;

	assert_false(w->answered);
	w->answered = true;
	w->answer = e;
}

static enum err
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

static enum row_state
row_of(struct ofix *f, msgid_t id, struct index_row *row)
{
	struct index_txn *t = NULL;
	enum err e;

	assert_int_equal(index_begin(keeper_index(f->k), &t), OK);
	e = index_message_get(t, id, row);
	index_end(&t);
	return e == OK ? (enum row_state)row->state : ROW_STATES;
}

static enum row_state
state_of(struct ofix *f, msgid_t id)
{
	struct index_row row;

	keep(f);
	return row_of(f, id, &row);
}

/* ---- setup */

static int
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

static int
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

/* ---- tests */

static void
told_delivered_forgotten(void **state)
{
	struct ofix *f = *state;
	struct life_of *w = &f->w[0];
	struct owner_counts n;
	msgid_t id;

	put_mail(w, &id, true);
	spin_while(f, nothing_taken);
	assert_int_equal(w->n, 1);
	assert_int_equal(w->taken[0]->id, id);
	assert_int_equal(w->taken[0]->tries, 0);
	assert_int_equal(owner_queue_binding(w->taken[0]->queue).n, 7);
	attempt(w, w->taken[0]);
	outcome(w, w->taken[0], OUTCOME_DELIVERED, 0);
	spin_while(f, something_remembered);
	assert_int_equal(state_of(f, id), ROW_STATES);
	owner_counts(w->o, &n);
	assert_int_equal(n.loaded + n.taken + n.remembered, 0);
	spin_on(f);
	assert_int_equal(w->n, 1);
}

static void
lost_hint_is_found_in_the_map(void **state)
{
	struct ofix *f = *state;
	msgid_t id;

	put_mail(&f->w[0], &id, false);
	spin_while(f, nothing_taken);
	assert_int_equal(f->w[0].taken[0]->id, id);
}

static msgid_t lost;

static bool
not_in_the_map(struct ofix *f)
{
	return state_of(f, lost) == ROW_STATES;
}

static bool
not_quarantined(struct ofix *f)
{
	return state_of(f, lost) != ROW_QUARANTINED;
}

/* A cut segment once left its mail queued for ever, due and never tried. */
static void
what_is_not_where_the_map_has_it_is_quarantined(void **state)
{
	struct ofix *f = *state;
	struct life_of *w = &f->w[0];

	put_mail(w, &lost, true);
	spin_while(f, nothing_taken);
	spin_while(f, not_in_the_map);
	owner_lost(w->taken[0]);
	w->n = 0;
	spin_while(f, not_quarantined);
	spin_on(f);
	assert_int_equal(w->n, 0);
}

/* After the outcome is in the map, and before: no second time. */
static void
old_hint_does_nothing(void **state)
{
	struct ofix *f = *state;
	struct life_of *w = &f->w[0];
	struct owner_news news = { .received_at = 1, .binding = SLICE("default"), .domain = slice_str(domain) };

	news.place = put_mail(w, &news.id, true);
	spin_while(f, nothing_taken);
	owner_tell(w->o, &news);
	attempt(w, w->taken[0]);
	owner_tell(w->o, &news);
	outcome(w, w->taken[0], OUTCOME_DELIVERED, 0);
	owner_tell(w->o, &news);
	spin_while(f, something_remembered);
	owner_tell(w->o, &news);
	spin_on(f);
	assert_int_equal(w->n, 1);
}

static void
deferred_comes_again(void **state)
{
	struct ofix *f = *state;
	struct life_of *w = &f->w[0];
	struct owner_counts n;
	msgid_t id;

	put_mail(w, &id, true);
	spin_while(f, nothing_taken);
	attempt(w, w->taken[0]);
	w->n = 0;
	outcome(w, w->taken[0], OUTCOME_DEFERRED, clock_real() - 1);
	spin_while(f, nothing_taken);
	assert_int_equal(w->taken[0]->tries, 1);
	attempt(w, w->taken[0]);
	w->n = 0;
	outcome(w, w->taken[0], OUTCOME_DEFERRED, clock_real() + 300 * USEC_PER_MS);
	spin_while(f, something_remembered); /* it costs nothing while it waits */
	owner_counts(w->o, &n);
	assert_int_equal(n.loaded, 0);
	spin_while(f, nothing_taken);
	assert_int_equal(w->taken[0]->tries, 2);
	assert_int_equal(w->taken[0]->id, id);
}

static void
released_stays_ours(void **state)
{
	struct ofix *f = *state;
	struct life_of *w = &f->w[0];
	msgid_t id;

	put_mail(w, &id, true);
	spin_while(f, nothing_taken);
	w->n = 0;
	owner_release(w->taken[0], 0);
	spin_while(f, nothing_taken);
	assert_int_equal(w->taken[0]->id, id);
	assert_int_equal(w->taken[0]->tries, 0);
}

static void
hold_and_release(void **state)
{
	struct ofix *f = *state;
	struct life_of *w = &f->w[0];
	msgid_t id;

	w->take = false;
	put_mail(w, &id, true);
	assert_int_equal(state_of(f, id), ROW_QUEUED);
	assert_int_equal(verb(f, OWNER_VERB_HOLD, id, id, "why"), OK);
	w->take = true;
	spin_on(f);
	assert_int_equal(w->n, 0);
	assert_int_equal(state_of(f, id), ROW_HELD);
	assert_int_equal(verb(f, OWNER_VERB_RELEASE, id, id, ""), OK);
	spin_while(f, nothing_taken);
	assert_int_equal(w->taken[0]->id, id);
}

/* Taken, but not begun: the gate closes. */
static void
hold_comes_before_the_attempt(void **state)
{
	struct ofix *f = *state;
	struct life_of *w = &f->w[0];
	msgid_t id;

	put_mail(w, &id, true);
	spin_while(f, nothing_taken);
	assert_int_equal(verb(f, OWNER_VERB_HOLD, id, id, "why"), OK);
	assert_false(owner_may_write(w->taken[0]));
	owner_release(w->taken[0], 0);
	w->n = 0;
	spin_on(f);
	assert_int_equal(w->n, 0);
	assert_int_equal(state_of(f, id), ROW_HELD);
}

/* Begun: the attempt is finished; deferred, it is not tried again. */
static void
hold_of_one_in_work(void **state)
{
	struct ofix *f = *state;
	struct life_of *w = &f->w[0];
	msgid_t id;

	put_mail(w, &id, true);
	spin_while(f, nothing_taken);
	attempt(w, w->taken[0]);
	assert_int_equal(verb(f, OWNER_VERB_HOLD, id, id, "why"), OK);
	assert_true(owner_may_write(w->taken[0]));
	outcome(w, w->taken[0], OUTCOME_DEFERRED, clock_real());
	w->n = 0;
	spin_on(f);
	assert_int_equal(w->n, 0);
	assert_int_equal(state_of(f, id), ROW_HELD);
}

static void
failed_by_the_console(void **state)
{
	struct ofix *f = *state;
	struct life_of *w = &f->w[0];
	msgid_t id;

	w->suspended = true;
	put_mail(w, &id, true);
	assert_int_equal(verb(f, OWNER_VERB_FAIL, id, id, "554 no"), OK);
	spin_while(f, no_errand);
	assert_int_equal(w->what, OWNER_FAIL);
	assert_string_equal(w->reason, "554 no");
	outcome(w, w->errand, OUTCOME_BOUNCED, 0);
	w->n_errands = 0;
	spin_on(f);
	assert_int_equal(w->n_errands, 0);
	assert_int_equal(state_of(f, id), ROW_STATES);
	assert_int_equal(verb(f, OWNER_VERB_FAIL, id, id, ""), ERR_NOTFOUND);
}

static void
range_fails_each(void **state)
{
	struct ofix *f = *state;
	struct life_of *w = &f->w[0];
	msgid_t id, last;

	w->suspended = true;
	put_mail(w, &id, true);
	put_mail(w, &last, false);
	assert_int_equal(verb(f, OWNER_VERB_DROP, 1, last, "gone"), OK);
	spin_while(f, less_than_two_errands);
	for (int i = 0; i < 2; i++)
		outcome(w, w->errands[i], OUTCOME_DISCARDED, 0);
	assert_int_equal(w->what, OWNER_DROP);
	w->n_errands = 0;
	spin_on(f);
	assert_int_equal(w->n_errands, 0);
	assert_int_equal(state_of(f, id), ROW_STATES);
	assert_int_equal(state_of(f, last), ROW_STATES);
}

static void
deadline_is_looked_at(void **state)
{
	struct ofix *f = *state;
	struct life_of *w = &f->w[0];
	msgid_t id;

	w->suspended = true;
	put_mail(w, &id, true);
	keep(f);
	owner_due(w->o, id);
	spin_while(f, no_errand);
	assert_int_equal(w->what, OWNER_LOOK_EXPIRY);
	owner_release(w->errand, 0);
	w->errand = NULL;
	w->suspended = false;
	owner_reconf(w->o);
	spin_while(f, nothing_taken);
	assert_int_equal(w->taken[0]->id, id);
}

static void
suspended_binding_gives_nothing(void **state)
{
	struct ofix *f = *state;
	struct life_of *w = &f->w[0];
	msgid_t id;

	owner_suspend(w->o, SLICE("default"), STATE_SUSPENDED);
	put_mail(w, &id, true);
	spin_on(f);
	assert_int_equal(w->n, 0);
	owner_suspend(w->o, SLICE("default"), STATE_RESUMED);
	spin_while(f, nothing_taken);
}

/* The next generation waits for the handover record; what was in work stays with the old one. */
static void
handed_over(void **state)
{
	struct ofix *f = *state;
	struct life_of *old = &f->w[0], *new = &f->w[1];
	msgid_t working, queued, id;

	put_mail(old, &working, true);
	spin_while(f, nothing_taken);
	attempt(old, old->taken[0]);
	old->take = false;
	put_mail(old, &queued, true);
	begin(f, new, NEW, 2);
	spin_on(f);
	assert_true(not_adopted(f));
	assert_true(f->commits_asked > 0);
	owner_drain(old->o, NULL, NULL);
	spin_while(f, not_adopted);
	put_mail(old, &id, true); /* received by the old one: a hint to the new */
	while (new->n < 2)
		spin_on(f);
	assert_int_equal(new->n, 2);
	assert_int_equal(new->taken[0]->id + new->taken[1]->id, queued + id); /* in any order */
	outcome(old, old->taken[0], OUTCOME_DEFERRED, clock_real());
	while (new->n < 3)
		spin_on(f);
	assert_int_equal(new->taken[2]->id, working);
	assert_int_equal(new->taken[2]->tries, 1);
}

/* Taken by the old one, not begun when it handed on: the gate is closed. */
static void
gate_closes_at_handover(void **state)
{
	struct ofix *f = *state;
	struct life_of *old = &f->w[0], *new = &f->w[1];
	msgid_t id;

	put_mail(old, &id, true);
	spin_while(f, nothing_taken);
	begin(f, new, NEW, 2);
	owner_drain(old->o, NULL, NULL);
	assert_false(owner_may_write(old->taken[0]));
	owner_release(old->taken[0], 0);
	old->n = 0;
	spin_while(f, nothing_taken);
	assert_int_equal(new->n, 1);
	assert_int_equal(new->taken[0]->id, id);
}

static void
died(struct ofix *f, enum owner_in_doubt in_doubt, msgid_t *id)
{
	struct life_of *old = &f->w[0];

	put_mail(old, id, true);
	spin_while(f, nothing_taken);
	attempt(old, old->taken[0]);
	end(f, old);
	begin(f, old, OLD, 1);
	old->in_doubt = in_doubt;
}

static void
in_doubt_is_retried_by_name(void **state)
{
	struct ofix *f = *state;
	msgid_t id;

	died(f, OWNER_DOUBT_RETRY, &id);
	spin_while(f, nothing_taken);
	assert_int_equal(f->w[0].taken[0]->id, id);
	assert_true(f->w[0].taken[0]->doubtful);
	assert_int_equal(f->w[0].taken[0]->tries, 1);
}

static void
in_doubt_is_held(void **state)
{
	struct ofix *f = *state;
	msgid_t id;

	died(f, OWNER_DOUBT_HOLD, &id);
	spin_on(f);
	assert_int_equal(f->w[0].n, 0);
	assert_int_equal(state_of(f, id), ROW_HELD);
}

static void
in_doubt_is_done(void **state)
{
	struct ofix *f = *state;
	struct life_of *w = &f->w[0];
	struct spool_txn *txn;
	struct owner_msg *m;
	msgid_t id;

	died(f, OWNER_DOUBT_END, &id);
	spin_while(f, no_errand);
	m = w->errand;
	assert_int_equal(w->what, OWNER_DOUBT_DONE);
	assert_true(owner_may_write(m));
	txn = spool_txn_new(w->sp);
	spool_txn_outcome(
		txn,
		&(struct spool_outcome){
			.id = id, .n = m->tries, .place = m->place, .kind = OUTCOME_DELIVERED, .at = clock_real() });
	owner_done(m, OUTCOME_DELIVERED, 0, submit(w, txn));
	assert_int_equal(state_of(f, id), ROW_STATES);
	assert_int_equal(w->n, 0);
}

/* A successor waits also for one that died before it had taken over. */
static void
chain_of_deaths(void **state)
{
	struct ofix *f = *state;
	struct life_of *w = &f->w[0];
	msgid_t id;

	died(f, OWNER_DOUBT_RETRY, &id);
	end(f, w);
	begin(f, w, OLD, 1);
	end(f, w);
	begin(f, w, OLD, 1);
	spin_while(f, nothing_taken);
	assert_true(w->taken[0]->doubtful);
	spin_on(f);
	assert_int_equal(w->n, 1);
}

static void
more_than_a_window(void **state)
{
	struct ofix *f = *state;
	struct life_of *w = &f->w[0];
	struct owner_counts n;
	msgid_t id, last = 0;

	w->take = false;
	for (int i = 0; i < 1300; i++)
		put_mail(w, &id, i % 3 == 0);
	spin_on(f);
	owner_counts(w->o, &n);
	assert_in_range(n.loaded, 500, 1000);
	w->take = true;
	owner_kick(w->shown);
	for (int i = 0; i < 10 && w->n < 1300; i++)
		spin_on(f);
	assert_int_equal(w->n, 1300);
	for (size_t i = 0; i < w->n; i++)
		last += w->taken[i]->id;
	assert_int_not_equal(last, 0);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int
main(void)
{
	static const struct CMUnitTest tests[] = {
		TEST(told_delivered_forgotten),
		TEST(lost_hint_is_found_in_the_map),
		TEST(what_is_not_where_the_map_has_it_is_quarantined),
		TEST(old_hint_does_nothing),
		TEST(deferred_comes_again),
		TEST(released_stays_ours),
		TEST(hold_and_release),
		TEST(hold_comes_before_the_attempt),
		TEST(hold_of_one_in_work),
		TEST(failed_by_the_console),
		TEST(range_fails_each),
		TEST(deadline_is_looked_at),
		TEST(suspended_binding_gives_nothing),
		TEST(handed_over),
		TEST(gate_closes_at_handover),
		TEST(in_doubt_is_retried_by_name),
		TEST(in_doubt_is_held),
		TEST(in_doubt_is_done),
		TEST(chain_of_deaths),
		TEST(more_than_a_window),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
