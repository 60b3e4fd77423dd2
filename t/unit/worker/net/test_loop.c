/* worker/net: the loop: timers, later events, descriptors that go away in their own turn. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdlib.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "worker/net/loop.h"

static usec_t now = USEC_PER_SEC;

static usec_t
test_clock(void)
{
	return now;
}

static int
setup(void **state)
{
	clock_set_source(test_clock, NULL);
	*state = loop_new();
	return 0;
}

static int
teardown(void **state)
{
	struct loop *l = *state;

	loop_free(&l);
	clock_set_source(NULL, NULL);
	return 0;
}

struct probe {
	struct ev_timer t;
	struct loop *l;
	usec_t due, fired;
};

static void
on_probe(void *arg)
{
	struct probe *p = arg;

	assert_true(p->due <= now && p->due != 0);
	p->fired = now;
	p->due = 0;
}

/* 500 timers set, moved and stopped at random; each fires in the first turn at or after its time, and only then. */
static void
timers_fire_when_due(void **state)
{
	enum { N = 500, STEPS = 20000 };
	struct loop *l = *state;
	struct probe *probes = calloc(N, sizeof *probes);

	srandom(7);
	for (int step = 0; step < STEPS; step++) {
		struct probe *p = &probes[random() % N];

		if (random() % 4 == 0) {
			loop_timer_stop(l, &p->t);
			p->due = 0;
		} else {
			p->due = now + 1 + random() % 1000;
			loop_timer_set(l, &p->t, p->due, on_probe, p);
		}
		assert_int_equal(ev_timer_armed(&p->t), p->due != 0);
		if (random() % 3 == 0) {
			now += random() % 200;
			loop_turn(l, 0);
			for (int i = 0; i < N; i++)
				assert_true(probes[i].due == 0 || probes[i].due > now);
		}
	}
	for (int i = 0; i < N; i++)
		loop_timer_stop(l, &probes[i].t);
	free(probes);
}

static void
set_again(void *arg)
{
	struct probe *p = arg;

	p->fired++;
	loop_timer_set(p->l, &p->t, now, set_again, p);
}

static void
a_timer_that_sets_itself_waits_for_the_next_turn(void **state)
{
	struct probe p = { .l = *state };

	loop_timer_set(p.l, &p.t, now, set_again, &p);
	loop_turn(p.l, 0);
	assert_int_equal(p.fired, 1);
	loop_turn(p.l, 0);
	assert_int_equal(p.fired, 2);
	loop_timer_stop(p.l, &p.t);
}

struct chain {
	struct loop *l;
	struct ev_later later;
	int left, ran;
};

static void
on_chain(void *arg)
{
	struct chain *c = arg;

	c->ran++;
	if (c->left-- > 0)
		loop_later(c->l, &c->later, on_chain, c);
}

static void
later_events_run_once_in_this_turn(void **state)
{
	struct chain c = { .l = *state, .left = 10 };

	loop_later(c.l, &c.later, on_chain, &c);
	loop_later(c.l, &c.later, on_chain, &c);
	loop_turn(c.l, 0);
	assert_int_equal(c.ran, 11);
	c = (struct chain){ .l = *state };
	loop_later(c.l, &c.later, on_chain, &c);
	loop_later_cancel(c.l, &c.later);
	loop_turn(c.l, 0);
	assert_int_equal(c.ran, 0);
	/* One without end does not stop the turns. */
	c.left = 1000000;
	loop_later(c.l, &c.later, on_chain, &c);
	loop_turn(c.l, 0);
	assert_true(c.ran > 0 && c.left > 0);
	loop_later_cancel(c.l, &c.later);
}

struct pair {
	struct loop *l;
	struct ev_io io[2];
	int fds[2], seen;
};

static void
on_ready(struct ev_io *io, uint32_t events, void *arg)
{
	struct pair *p = arg;

	(void)io;
	assert_true((events & EPOLLIN) != 0);
	p->seen++;
	/* Whichever comes first takes both away. */
	loop_io_del(p->l, &p->io[0]);
	loop_io_del(p->l, &p->io[1]);
}

static void
a_deleted_descriptor_is_silent_in_the_same_turn(void **state)
{
	struct pair p = { .l = *state };

	for (int i = 0; i < 2; i++) {
		p.fds[i] = eventfd(1, EFD_CLOEXEC | EFD_NONBLOCK);
		loop_io_add(p.l, &p.io[i], p.fds[i], EPOLLIN, on_ready, &p);
	}
	loop_turn(p.l, 0);
	assert_int_equal(p.seen, 1);
	close(p.fds[0]);
	close(p.fds[1]);
}

static void
count(void *arg)
{
	++*(int *)arg;
}

static void
stop(void *arg)
{
	loop_stop(arg);
}

static void
run_ends_with_the_turn_and_hooks_see_every_turn(void **state)
{
	struct ev_later later = { 0 };
	int turns = 0;

	loop_on_turn(*state, count, &turns);
	loop_later(*state, &later, stop, *state);
	loop_run(*state);
	assert_int_equal(turns, 1);
}

struct begun {
	struct loop *l;
	struct ev_later later;
	int ran;
};

static void
on_begun(void *arg)
{
	((struct begun *)arg)->ran++;
}

static void
begin(void *arg)
{
	struct begun *b = arg;

	loop_later(b->l, &b->later, on_begun, b);
}

static void
what_a_hook_begins_is_done_in_its_turn(void **state)
{
	struct begun b = { .l = *state };

	loop_on_turn(*state, begin, &b);
	for (int turns = 1; turns < 4; turns++) {
		loop_turn(*state, 0);
		assert_int_equal(b.ran, turns);
	}
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(timers_fire_when_due, setup, teardown),
		cmocka_unit_test_setup_teardown(a_timer_that_sets_itself_waits_for_the_next_turn, setup, teardown),
		cmocka_unit_test_setup_teardown(later_events_run_once_in_this_turn, setup, teardown),
		cmocka_unit_test_setup_teardown(a_deleted_descriptor_is_silent_in_the_same_turn, setup, teardown),
		cmocka_unit_test_setup_teardown(run_ends_with_the_turn_and_hooks_see_every_turn, setup, teardown),
		cmocka_unit_test_setup_teardown(what_a_hook_begins_is_done_in_its_turn, setup, teardown),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
