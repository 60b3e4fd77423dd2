/* The owner: what is told, found, held, handed on, and by whom. */
#include "owner_fixture.h"

#include "spool/spool_owner_int.h"

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

static bool
less_than_five_taken(struct ofix *f)
{
	return f->w[0].n < 5;
}

/* A thousand suspended domains once filled what all queues share, and no other mail was delivered. */
static void
what_is_suspended_fills_no_memory(void **state)
{
	struct ofix *f = *state;
	struct life_of *w = &f->w[0];
	msgid_t id;

	owner_suspend(w->o, SLICE("default"), STATE_SUSPENDED);
	put_mail(w, &id, true); /* whose queue it is, is asked for */
	spin_on(f);
	for (int i = 0; i < 4; i++)
		put_mail(w, &id, true);
	spin_on(f);
	assert_in_range(w->o->n_loaded, 0, 1);
	owner_suspend(w->o, SLICE("default"), STATE_RESUMED);
	spin_while(f, less_than_five_taken);
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
on_drained(void *arg)
{
	((struct life_of *)arg)->drained = true;
}

static bool
not_drained(struct ofix *f)
{
	return !f->w[0].drained;
}

/* The gate is passed, and policy still thinks about the notice: the map could not know, so the record waits. */
static void
handover_waits_for_what_is_begun(void **state)
{
	struct ofix *f = *state;
	struct life_of *old = &f->w[0], *new = &f->w[1];
	msgid_t id;

	put_mail(old, &id, true);
	spin_while(f, nothing_taken);
	assert_true(owner_may_write(old->taken[0]));
	begin(f, new, NEW, 2);
	owner_drain(old->o, on_drained, old);
	spin_on(f);
	assert_true(not_drained(f) && not_adopted(f));
	outcome(old, old->taken[0], OUTCOME_BOUNCED, 0);
	spin_while(f, not_drained);
	spin_while(f, not_adopted);
	spin_on(f);
	assert_int_equal(new->n, 0);
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
		TEST(what_is_suspended_fills_no_memory),
		TEST(handed_over),
		TEST(gate_closes_at_handover),
		TEST(handover_waits_for_what_is_begun),
		TEST(in_doubt_is_retried_by_name),
		TEST(in_doubt_is_held),
		TEST(in_doubt_is_done),
		TEST(chain_of_deaths),
		TEST(more_than_a_window),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
