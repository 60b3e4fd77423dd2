/* The schedule: retry intervals, order within a queue, the round, waits and limits. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "spool/sched.h"

#define S(n) ((usec_t)(n)*USEC_PER_SEC)

static void
next_try(void **state)
{
	static const struct {
		struct sched_retry r;
		uint32_t tries;
		int received, now, want; /* seconds */
	} t[] = {
		{ { 1200, 43200, 86400, SCHED_RETRIES_ANY }, 1, 0, 10, 1210 },
		{ { 1200, 43200, 86400, SCHED_RETRIES_ANY }, 2, 0, 2000, 4400 },
		{ { 1200, 43200, 86400, SCHED_RETRIES_ANY }, 4, 0, 10000, 19600 },
		{ { 1200, 43200, 0, SCHED_RETRIES_ANY }, 7, 0, 0, 43200 },       /* capped */
		{ { 1200, 43200, 0, SCHED_RETRIES_ANY }, 4000000, 0, 0, 43200 }, /* no overflow */
		{ { 0, 0, 0, SCHED_RETRIES_ANY }, 1, 0, 5, 6 },                  /* never spins */
		{ { 60, 0, 0, SCHED_RETRIES_ANY }, 3, 0, 0, 240 },               /* 0 is no cap */
		{ { 1200, 43200, 3600, SCHED_RETRIES_ANY }, 3, 0, 3000, 3600 },  /* a last attempt at the deadline */
		{ { 1200, 43200, 3600, SCHED_RETRIES_ANY }, 1, 0, 3600, 4800 },  /* past it: as the schedule says */
	};

	(void)state;
	for (size_t i = 0; i < sizeof t / sizeof *t; i++)
		assert_int_equal(sched_next_try(&t[i].r, t[i].tries, S(t[i].received), S(t[i].now)), S(t[i].want));
}

static void
fate(void **state)
{
	static const struct {
		struct sched_retry r;
		uint32_t tries;
		int now;
		enum sched_fate want;
	} t[] = {
		{ { 1200, 43200, 86400, SCHED_RETRIES_ANY }, 50, 86399, SCHED_GOES_ON },
		{ { 1200, 43200, 86400, SCHED_RETRIES_ANY }, 1, 86400, SCHED_TOO_OLD },
		{ { 1200, 43200, 0, SCHED_RETRIES_ANY }, 1000, 999999999, SCHED_GOES_ON },
		{ { 1200, 43200, 86400, 0 }, 0, 0, SCHED_GOES_ON },
		{ { 1200, 43200, 86400, 0 }, 1, 0, SCHED_TOO_MANY_TRIES },
		{ { 1200, 43200, 86400, 2 }, 2, 0, SCHED_GOES_ON },
		{ { 1200, 43200, 86400, 2 }, 3, 0, SCHED_TOO_MANY_TRIES },
		{ { 1200, 43200, 0, SCHED_RETRIES_ANY }, 90000, 80000, SCHED_GOES_ON },
	};

	(void)state;
	for (size_t i = 0; i < sizeof t / sizeof *t; i++)
		assert_int_equal(sched_fate(&t[i].r, t[i].tries, 0, S(t[i].now)), t[i].want);
}

/* ---- order */

struct world {
	struct sched s;
	struct sched_queue q[4];
	struct sched_msg m[16];
};

static struct world *
world(void)
{
	static struct world w;

	w = (struct world){ 0 };
	sched_init(&w.s);
	for (int i = 0; i < 4; i++)
		sched_queue_init(&w.q[i]);
	return &w;
}

static void
add(struct world *w, int q, int m, uint64_t id, usec_t due, uint8_t priority)
{
	w->m[m] = (struct sched_msg){ .id = id, .due = due, .priority = priority };
	sched_add(&w->s, &w->q[q], &w->m[m], S(100));
}

static void
order_in_a_queue(void **state)
{
	static const uint64_t want[] = { 9, 3, 1, 2, 5 };
	struct world *w = world();

	(void)state;
	add(w, 0, 0, 2, S(50), 0);
	add(w, 0, 1, 1, S(50), 0);
	add(w, 0, 2, 3, S(40), 0);
	add(w, 0, 3, 9, S(99), 1);
	add(w, 0, 4, 5, S(100), 0);
	add(w, 0, 5, 4, S(101), 1); /* not due */
	for (size_t i = 0; i < sizeof want / sizeof *want; i++)
		assert_int_equal(sched_take(&w->s, &w->q[0])->id, want[i]);
	assert_null(sched_take(&w->s, &w->q[0]));
	assert_int_equal(w->q[0].n_taken, 5);
	sched_turn(&w->s, S(101), 0);
	assert_int_equal(sched_take(&w->s, &w->q[0])->id, 4);
}

static void
put_back_keeps_its_place(void **state)
{
	struct world *w = world();
	struct sched_msg *m;

	(void)state;
	add(w, 0, 0, 1, S(10), 0);
	add(w, 0, 1, 2, S(20), 0);
	m = sched_take(&w->s, &w->q[0]);
	sched_put_back(&w->s, m, 0, S(100));
	assert_int_equal(sched_take(&w->s, &w->q[0])->id, 1);
	sched_put_back(&w->s, m, S(200), S(100));
	assert_int_equal(sched_take(&w->s, &w->q[0])->id, 2);
	assert_null(sched_take(&w->s, &w->q[0]));
	assert_int_equal(sched_next(&w->s, S(100), S(7)), S(107));
	sched_turn(&w->s, S(200), S(107));
	assert_int_equal(sched_take(&w->s, &w->q[0])->id, 1);
}

/* ---- the round */

static void
round_shows_each_once(void **state)
{
	struct world *w = world();

	(void)state;
	for (int i = 0; i < 3; i++)
		add(w, i, i, (uint64_t)i + 1, S(1), 0);
	add(w, 0, 3, 10, S(2), 0);
	assert_ptr_equal(sched_show(&w->s), &w->q[0]);
	assert_ptr_equal(sched_show(&w->s), &w->q[1]);
	sched_kick(&w->s, &w->q[0]);
	assert_ptr_equal(sched_show(&w->s), &w->q[2]);
	assert_ptr_equal(sched_show(&w->s), &w->q[0]);
	assert_null(sched_show(&w->s));
	add(w, 1, 4, 11, S(3), 0); /* news */
	assert_ptr_equal(sched_show(&w->s), &w->q[1]);
}

static void
a_shared_limit_stops_the_round(void **state)
{
	struct world *w = world();
	struct sched_queue *q;

	(void)state;
	add(w, 0, 0, 1, S(1), 0);
	add(w, 1, 1, 2, S(1), 0);
	q = sched_show(&w->s);
	sched_full(&w->s, q);
	assert_null(sched_show(&w->s));
	sched_kick(&w->s, &w->q[1]);
	assert_null(sched_show(&w->s));
	sched_room(&w->s);
	assert_ptr_equal(sched_show(&w->s), &w->q[0]); /* it comes first */
	assert_ptr_equal(sched_show(&w->s), &w->q[1]);
}

static void
waits_and_suspensions(void **state)
{
	struct world *w = world();

	(void)state;
	add(w, 0, 0, 1, S(1), 0);
	sched_wait(&w->s, &w->q[0], S(5));
	assert_null(sched_show(&w->s));
	sched_kick(&w->s, &w->q[0]);
	assert_null(sched_show(&w->s));
	assert_int_equal(sched_next(&w->s, S(100), S(3)), S(5));
	sched_turn(&w->s, S(100), S(5));
	assert_ptr_equal(sched_show(&w->s), &w->q[0]);
	sched_suspend(&w->s, &w->q[0], true);
	sched_kick(&w->s, &w->q[0]);
	assert_null(sched_show(&w->s));
	assert_null(sched_take(&w->s, &w->q[0]));
	sched_suspend(&w->s, &w->q[0], false);
	assert_ptr_equal(sched_show(&w->s), &w->q[0]);
}

static void
removal_empties_the_round(void **state)
{
	struct world *w = world();

	(void)state;
	add(w, 0, 0, 1, S(1), 0);
	sched_remove(&w->s, &w->m[0]);
	assert_null(sched_show(&w->s));
	assert_int_equal(sched_next(&w->s, S(100), S(3)), INT64_MAX);
	add(w, 0, 1, 2, S(200), 0);
	sched_remove(&w->s, &w->m[1]);
	sched_remove(&w->s, &w->m[1]);
	assert_int_equal(sched_next(&w->s, S(100), S(3)), INT64_MAX);
	sched_queue_fini(&w->s, &w->q[0]);
}

/* A clock that steps back makes nothing due earlier; one that steps forward makes it due now. */
static void
clock_steps(void **state)
{
	struct world *w = world();

	(void)state;
	add(w, 0, 0, 1, S(160), 0);
	assert_int_equal(sched_next(&w->s, S(40), S(7)), S(127));
	sched_turn(&w->s, S(40), S(8));
	assert_null(sched_show(&w->s));
	assert_int_equal(sched_next(&w->s, S(5000), S(9)), S(9));
	sched_turn(&w->s, S(5000), S(9));
	assert_ptr_equal(sched_show(&w->s), &w->q[0]);
}

int
main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(next_try),
		cmocka_unit_test(fate),
		cmocka_unit_test(order_in_a_queue),
		cmocka_unit_test(put_back_keeps_its_place),
		cmocka_unit_test(round_shows_each_once),
		cmocka_unit_test(a_shared_limit_stops_the_round),
		cmocka_unit_test(waits_and_suspensions),
		cmocka_unit_test(removal_empties_the_round),
		cmocka_unit_test(clock_steps),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
