/* Lending between two owners: what is lent, done, given back, held, lost; and who dies in the middle of it. */
#include "owner_fixture.h"

#include <stdatomic.h>
#include <time.h>

#include "shm/shm_inbox.h"
#include "spool/spool_owner_int.h"

/* The system's clocks, and what the test adds: nobody waits ten seconds here. */
static _Atomic int64_t ahead;

static usec_t
now_of(clockid_t id)
{
	struct timespec t;

	clock_gettime(id, &t);
	return t.tv_sec * USEC_PER_SEC + t.tv_nsec / 1000 + atomic_load(&ahead);
}

static usec_t
mono(void)
{
	return now_of(CLOCK_MONOTONIC);
}

static usec_t
real(void)
{
	return now_of(CLOCK_REALTIME);
}

/* ---- a lender that takes nothing itself, and a borrower with time */

static void
weigh(struct life_of *w, int64_t load)
{
	slot_set(shm_slot(w->f->base.area, w->slot), CELL_LOOP_LOAD, load);
}

static int
setup_two(void **state)
{
	struct ofix *f;

	setup(state);
	f = *state;
	begin_beside(f, &f->w[1], NEW, 1, OLD);
	f->w[0].o->lend = (struct lend_policy){ .busy = 500, .gap = 100, .ready = 1, .keep = 0, .most = 10 };
	f->w[0].take = false;
	f->w[0].lendable = true;
	weigh(&f->w[0], 1000);
	return 0;
}

static bool
lender_has_nothing(struct ofix *f)
{
	return f->w[0].n == 0;
}

static bool
borrower_has_nothing(struct ofix *f)
{
	return f->w[1].n == 0;
}

static bool
something_lent(struct ofix *f)
{
	struct owner_counts n;

	owner_counts(f->w[0].o, &n);
	return n.lent > 0;
}

static bool
nothing_lent(struct ofix *f)
{
	return !something_lent(f);
}

static bool
nothing_borrowed(struct ofix *f)
{
	return slot_get(shm_slot(f->base.area, NEW), CELL_BORROWED) == 0;
}

static bool
something_anywhere(struct ofix *f)
{
	struct owner_counts a, b;

	owner_counts(f->w[0].o, &a);
	owner_counts(f->w[1].o, &b);
	return a.lent + a.loaded + a.taken + a.remembered + b.loaded + b.taken + b.remembered > 0;
}

/* One message of the lender's, taken by the borrower. */
static struct owner_msg *
lent_one(struct ofix *f, msgid_t *id)
{
	struct owner_found found;

	put_mail(&f->w[0], id, true);
	spin_while(f, borrower_has_nothing);
	assert_int_equal(f->w[1].n, 1);
	assert_int_equal(f->w[1].taken[0]->id, *id);
	assert_true(owner_queue_borrowed(f->w[1].taken[0]->queue));
	assert_int_equal(owner_queue_domain(f->w[1].taken[0]->queue).n, sizeof domain - 1);
	assert_int_equal(owner_queue_hands(f->w[0].shown), 2);
	owner_find(f->w[0].o, owner_queue_hash(f->w[0].shown), *id, &found);
	assert_int_equal(found.where, OWNER_LENT);
	f->w[1].n = 0;
	return f->w[1].taken[0];
}

static void
stop_lending(struct ofix *f)
{
	weigh(&f->w[0], 0);
	f->w[0].lendable = false;
	f->w[0].take = true;
}

/* ---- the good ways */

static void
done_by_the_borrower(void **state)
{
	struct ofix *f = *state;
	msgid_t id;
	struct owner_msg *m = lent_one(f, &id);

	attempt(&f->w[1], m);
	outcome(&f->w[1], m, OUTCOME_DELIVERED, 0);
	spin_while(f, something_anywhere);
	assert_int_equal(state_of(f, id), ROW_STATES);
	stop_lending(f);
	spin_on(f);
	assert_int_equal(f->w[0].n + f->w[1].n, 0);
	assert_int_equal(slot_get(shm_slot(f->base.area, OLD), CELL_LENT), 1);
	assert_int_equal(slot_get(shm_slot(f->base.area, NEW), CELL_BORROWED), 1);
}

static void
deferred_goes_back_to_the_owner(void **state)
{
	struct ofix *f = *state;
	msgid_t id;
	struct owner_msg *m = lent_one(f, &id);

	attempt(&f->w[1], m);
	stop_lending(f);
	outcome(&f->w[1], m, OUTCOME_DEFERRED, clock_real() + 50 * USEC_PER_MS);
	spin_while(f, lender_has_nothing);
	assert_int_equal(f->w[0].taken[0]->id, id);
	assert_int_equal(f->w[0].taken[0]->tries, 1);
	assert_int_equal(f->w[1].n, 0);
}

/* The same message, lent again while the map does not know the first outcome yet. */
static void
deferred_and_lent_again(void **state)
{
	struct ofix *f = *state;
	msgid_t id;
	struct owner_msg *m = lent_one(f, &id);

	attempt(&f->w[1], m);
	outcome(&f->w[1], m, OUTCOME_DEFERRED, clock_real() - 1);
	spin_while(f, borrower_has_nothing);
	assert_int_equal(f->w[1].taken[0]->id, id);
	assert_int_equal(f->w[1].taken[0]->tries, 1);
	attempt(&f->w[1], f->w[1].taken[0]);
	outcome(&f->w[1], f->w[1].taken[0], OUTCOME_DELIVERED, 0);
	spin_while(f, something_anywhere);
	assert_int_equal(state_of(f, id), ROW_STATES);
}

static void
not_begun_goes_back(void **state)
{
	struct ofix *f = *state;
	msgid_t id;
	struct owner_msg *m = lent_one(f, &id);

	stop_lending(f);
	owner_release(m, 0);
	spin_while(f, lender_has_nothing);
	assert_int_equal(f->w[0].taken[0]->id, id);
	assert_int_equal(f->w[0].taken[0]->tries, 0);
}

/* No way out there: also what its delivery has not taken goes back, and no more comes. */
static void
waiting_queue_gives_back(void **state)
{
	struct ofix *f = *state;
	msgid_t id, second;
	struct owner_msg *m = lent_one(f, &id);

	f->w[1].take = false;
	put_mail(&f->w[0], &second, true);
	spin_on(f);
	owner_wait(m->queue, clock_mono() + 5 * USEC_PER_SEC);
	f->w[0].take = true;
	while (f->w[0].n < 1)
		spin_on(f);
	assert_int_equal(f->w[0].taken[0]->id, second);
	owner_release(m, 0);
	while (f->w[0].n < 2)
		spin_on(f);
	assert_int_equal(f->w[0].taken[1]->id, id);
}

/* What nobody takes there is back within seconds. */
static void
left_lying_comes_back(void **state)
{
	struct ofix *f = *state;
	msgid_t id;

	f->w[1].take = false;
	put_mail(&f->w[0], &id, true);
	spin_while(f, nothing_borrowed); /* its patience begins here */
	stop_lending(f);
	atomic_fetch_add(&ahead, 6 * USEC_PER_SEC);
	spin_while(f, lender_has_nothing);
	assert_int_equal(f->w[0].taken[0]->id, id);
}

/* ---- when not */

static void
idle_owners_and_busy_peers(void **state)
{
	struct ofix *f = *state;
	msgid_t id;

	weigh(&f->w[0], 400); /* not busy enough */
	put_mail(&f->w[0], &id, true);
	spin_on(f);
	weigh(&f->w[0], 1000);
	weigh(&f->w[1], 950); /* no better off */
	spin_on(f);
	weigh(&f->w[1], 0);
	slot_set_state(shm_slot(f->base.area, NEW), SLOT_DRAINING);
	spin_on(f);
	slot_set_state(shm_slot(f->base.area, NEW), SLOT_SERVING);
	f->w[0].lendable = false;
	spin_on(f);
	assert_true(nothing_lent(f));
	assert_int_equal(f->w[1].n, 0);
	f->w[0].lendable = true;
	spin_while(f, borrower_has_nothing);
}

static void
no_more_than_the_load_allows(void **state)
{
	struct ofix *f = *state;
	struct owner_counts n;
	msgid_t id;

	weigh(&f->w[1], 600); /* 4 of 10 */
	f->w[1].take = false;
	for (int i = 0; i < 20; i++)
		put_mail(&f->w[0], &id, true);
	spin_while(f, nothing_lent);
	spin_one(&f->w[0]);
	owner_counts(f->w[0].o, &n);
	assert_int_equal(n.lent, 4);
	assert_int_equal(n.loaded, 16);
}

/* ---- verbs */

static void
held_while_lent(void **state)
{
	struct ofix *f = *state;
	msgid_t id;
	struct owner_msg *m = lent_one(f, &id);

	f->w[0].take = true;
	assert_int_equal(verb(f, OWNER_VERB_HOLD, id, id, "why"), OK);
	spin_on(f);
	assert_false(owner_may_write(m));
	owner_release(m, 0);
	spin_on(f);
	assert_int_equal(f->w[0].n + f->w[1].n, 0);
	assert_int_equal(state_of(f, id), ROW_HELD);
	assert_false(something_lent(f));
	stop_lending(f);
	assert_int_equal(verb(f, OWNER_VERB_RELEASE, id, id, ""), OK);
	spin_while(f, lender_has_nothing);
	assert_int_equal(f->w[0].taken[0]->id, id);
}

/* The edit is in one journal, the outcome in another: both are waited for. */
static void
held_while_begun_there(void **state)
{
	struct ofix *f = *state;
	msgid_t id;
	struct owner_msg *m = lent_one(f, &id);

	attempt(&f->w[1], m);
	assert_int_equal(verb(f, OWNER_VERB_HOLD, id, id, "why"), OK);
	stop_lending(f);
	outcome(&f->w[1], m, OUTCOME_DEFERRED, clock_real());
	spin_on(f);
	spin_on(f);
	assert_int_equal(f->w[0].n + f->w[1].n, 0);
	assert_int_equal(state_of(f, id), ROW_HELD);
}

static void
range_reaches_what_is_lent(void **state)
{
	struct ofix *f = *state;
	msgid_t id;

	f->w[1].take = false;
	put_mail(&f->w[0], &id, true);
	spin_while(f, nothing_lent);
	assert_int_equal(verb(f, OWNER_VERB_DROP, 1, id, "gone"), OK);
	spin_while(f, no_errand);
	assert_int_equal(f->w[0].errand->id, id);
	outcome(&f->w[0], f->w[0].errand, OUTCOME_DISCARDED, 0);
	spin_while(f, something_anywhere);
	assert_int_equal(state_of(f, id), ROW_STATES);
}

/* ---- deaths */

static void
borrower_dies_before(void **state)
{
	struct ofix *f = *state;
	msgid_t id;

	(void)lent_one(f, &id);
	stop_lending(f);
	end(f, &f->w[1]);
	spin_while(f, lender_has_nothing);
	assert_int_equal(f->w[0].taken[0]->id, id);
	assert_false(f->w[0].taken[0]->doubtful);
	assert_int_equal(f->w[0].taken[0]->tries, 0);
}

static void
borrower_dies_with_it(void **state)
{
	struct ofix *f = *state;
	msgid_t id;
	struct owner_msg *m = lent_one(f, &id);

	attempt(&f->w[1], m);
	stop_lending(f);
	end(f, &f->w[1]);
	spin_while(f, lender_has_nothing);
	assert_int_equal(f->w[0].taken[0]->id, id);
	assert_true(f->w[0].taken[0]->doubtful);
	assert_int_equal(f->w[0].taken[0]->tries, 1);
}

/* A new tenant of the borrower's slot finds a loan that was not for it. */
static void
loan_of_a_former_tenant(void **state)
{
	struct ofix *f = *state;
	msgid_t id;

	f->w[1].take = false;
	put_mail(&f->w[0], &id, true);
	for (int i = 0; i < TURNS && nothing_lent(f); i++) {
		keep(f);
		spin_one(&f->w[0]);
	}
	end(f, &f->w[1]);
	stop_lending(f);
	begin_beside(f, &f->w[1], NEW, 1, OLD);
	spin_while(f, lender_has_nothing);
	assert_int_equal(f->w[0].taken[0]->id, id);
	assert_int_equal(f->w[1].n, 0);
}

/* The next owner waits until the borrower has said what it still has. */
static void
lender_dies(void **state)
{
	struct ofix *f = *state;
	struct life_of *b = &f->w[1];
	msgid_t begun, unbegun;
	struct owner_msg *m = lent_one(f, &begun), *other;

	assert_true(owner_may_write(m)); /* begun, and nothing written yet: the record has to wait for it */
	other = lent_one(f, &unbegun);
	end(f, &f->w[0]);
	begin_beside(f, &f->w[0], OLD, 1, OLD);
	spin_on(f);
	assert_false(owner_may_write(other));
	assert_true(owner_queue_hands(m->queue) == 1);
	assert_int_equal(f->w[0].n, 0); /* not adopted: m has passed the gate, and has no attempt in the map */
	attempt(b, m);
	spin_while(f, lender_has_nothing);
	assert_int_equal(f->w[0].n, 1);
	assert_int_equal(f->w[0].taken[0]->id, unbegun);
	owner_release(other, 0);
	outcome(b, m, OUTCOME_DEFERRED, clock_real());
	while (f->w[0].n < 2)
		spin_on(f);
	assert_int_equal(f->w[0].taken[1]->id, begun);
	assert_int_equal(f->w[0].taken[1]->tries, 1);
	assert_int_equal(b->n, 0);
}

/* It asks for a record that is missing: the borrower's was about nothing that it knew of. */
static void
missing_record_is_asked_for(void **state)
{
	struct ofix *f = *state;
	struct partner *p;
	msgid_t id;

	put_mail(&f->w[0], &id, true);
	f->w[1].lendable = false;
	f->w[0].lendable = false;
	end(f, &f->w[0]);
	/* It believes that it has seen to it. */
	for (uint64_t s = 1; s < lives_next(f->base.area); s++)
		f->w[1].o->mourned[s % LIVES_KEPT] = s;
	begin_beside(f, &f->w[0], OLD, 1, OLD);
	spin_on(f);
	assert_int_equal(f->w[0].n, 0);
	atomic_fetch_add(&ahead, 2 * USEC_PER_SEC);
	spin_while(f, lender_has_nothing);
	TAILQ_FOREACH (p, &f->w[1].o->partners, link)
		assert_false(p->ended);
}

/* ---- hints that are lost */

static void
lose_hints(struct ofix *f, int slot)
{
	struct hint h;

	while (inbox_take(f->base.area, slot, &h, NULL))
		;
}

static void
lost_loan(void **state)
{
	struct ofix *f = *state;
	msgid_t id;

	put_mail(&f->w[0], &id, true);
	for (int i = 0; i < TURNS && nothing_lent(f); i++) {
		keep(f);
		spin_one(&f->w[0]);
	}
	stop_lending(f);
	assert_int_equal(slot_get(shm_slot(f->base.area, OLD), CELL_HINTS_SENT), 1);
	lose_hints(f, NEW);
	spin_on(f);
	assert_int_equal(f->w[0].n + f->w[1].n, 0); /* time alone proves nothing */
	atomic_fetch_add(&ahead, 11 * USEC_PER_SEC);
	spin_while(f, lender_has_nothing);
	assert_int_equal(f->w[0].taken[0]->id, id);
}

/* A full inbox takes none: the mail stays, and it is counted. */
static void
loan_that_finds_no_room(void **state)
{
	struct ofix *f = *state;
	const struct hint any = { .kind = UINT8_MAX };
	msgid_t id;

	put_mail(&f->w[0], &id, true);
	while (inbox_put(f->base.area, OLD, NEW, &any))
		;
	for (int i = 0; i < TURNS && slot_get(shm_slot(f->base.area, OLD), CELL_HINTS_LOST) == 0; i++) {
		keep(f);
		spin_one(&f->w[0]);
	}
	assert_true(slot_get(shm_slot(f->base.area, OLD), CELL_HINTS_LOST) > 0);
	assert_int_equal(slot_get(shm_slot(f->base.area, OLD), CELL_HINTS_SENT), 0);
	assert_true(nothing_lent(f));
}

/* What the borrower said is lost; asked in time, it remembers; later, the map does. */
static void
lost_done(struct ofix *f, bool in_time)
{
	msgid_t id;
	struct owner_msg *m = lent_one(f, &id);

	stop_lending(f);
	attempt(&f->w[1], m);
	outcome(&f->w[1], m, OUTCOME_DELIVERED, 0);
	lose_hints(f, OLD);
	if (!in_time)
		spin_on(f);
	assert_true(something_lent(f));
	atomic_fetch_add(&ahead, 11 * USEC_PER_SEC);
	spin_while(f, something_anywhere);
	assert_int_equal(f->w[0].n, 0);
	assert_int_equal(state_of(f, id), ROW_STATES);
}

static void
lost_done_soon(void **state)
{
	lost_done(*state, true);
}

static void
lost_done_late(void **state)
{
	lost_done(*state, false);
}

/* A slow next hop: asked for, it stays where it is. */
static void
asking_takes_nothing_away(void **state)
{
	struct ofix *f = *state;
	msgid_t id;
	struct owner_msg *m = lent_one(f, &id);

	stop_lending(f);
	for (int i = 0; i < 3; i++) {
		atomic_fetch_add(&ahead, 11 * USEC_PER_SEC);
		spin_on(f);
	}
	assert_true(something_lent(f));
	assert_int_equal(f->w[0].n, 0);
	attempt(&f->w[1], m);
	outcome(&f->w[1], m, OUTCOME_DELIVERED, 0);
	spin_while(f, something_anywhere);
}

/* ---- a drain of both, as at a reload */

static void
drained_in_the_middle(void **state)
{
	struct ofix *f = *state;
	msgid_t begun, unbegun;
	struct owner_msg *m = lent_one(f, &begun), *other = lent_one(f, &unbegun);

	attempt(&f->w[1], m);
	owner_drain(f->w[0].o, NULL, NULL);
	owner_drain(f->w[1].o, NULL, NULL);
	assert_false(owner_may_write(other));
	owner_release(other, 0);
	outcome(&f->w[1], m, OUTCOME_DEFERRED, clock_real() - 1);
	/* The test has hands for two: the old lender has nothing left to do. */
	spin_while(f, something_lent);
	end(f, &f->w[0]);
	begin(f, &f->w[0], OLD + 10, 2);
	while (f->w[0].n < 2)
		spin_on(f);
	assert_int_equal(f->w[0].taken[0]->id + f->w[0].taken[1]->id, begun + unbegun);
	assert_int_equal(f->w[0].taken[0]->tries + f->w[0].taken[1]->tries, 1);
	assert_int_equal(f->w[1].n, 0);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup_two, teardown)

int
main(void)
{
	static const struct CMUnitTest tests[] = {
		TEST(done_by_the_borrower),
		TEST(deferred_goes_back_to_the_owner),
		TEST(deferred_and_lent_again),
		TEST(not_begun_goes_back),
		TEST(waiting_queue_gives_back),
		TEST(left_lying_comes_back),
		TEST(idle_owners_and_busy_peers),
		TEST(no_more_than_the_load_allows),
		TEST(held_while_lent),
		TEST(held_while_begun_there),
		TEST(range_reaches_what_is_lent),
		TEST(borrower_dies_before),
		TEST(borrower_dies_with_it),
		TEST(loan_of_a_former_tenant),
		TEST(lender_dies),
		TEST(missing_record_is_asked_for),
		TEST(lost_loan),
		TEST(loan_that_finds_no_room),
		TEST(lost_done_soon),
		TEST(lost_done_late),
		TEST(asking_takes_nothing_away),
		TEST(drained_in_the_middle),
	};

	clock_set_source(mono, real);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
