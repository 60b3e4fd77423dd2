/* Rings between slots: order, fullness, fairness, two processes, bells. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <poll.h>
#include <sys/wait.h>
#include <unistd.h>

#include "shm/shm_inbox.h"
#include "t/unit/shm/area_fixture.h"

static bool
put(int from, int to, uint64_t id)
{
	struct hint h = { .id = id, .item = 7, .partition = 3 };

	return inbox_put(area, from, to, &h);
}

static void
test_order_and_sender(void **state)
{
	struct hint h;
	int from = -1;

	(void)state;
	assert_false(inbox_take(area, 2, &h, &from));
	assert_true(put(1, 2, 10));
	assert_true(put(1, 2, 11));
	assert_false(inbox_take(area, 1, &h, &from));
	assert_true(inbox_take(area, 2, &h, &from));
	assert_int_equal(h.id, 10);
	assert_int_equal(h.item, 7);
	assert_int_equal(from, 1);
	assert_true(inbox_take(area, 2, &h, NULL));
	assert_int_equal(h.id, 11);
	assert_false(inbox_take(area, 2, &h, NULL));
	assert_true(put(2, 2, 12));
	assert_true(inbox_take(area, 2, &h, &from));
	assert_int_equal(from, 2);
}

static void
test_a_full_ring_says_so_and_takes_again(void **state)
{
	struct hint h;

	(void)state;
	for (uint64_t i = 0; i < INBOX_RING; i++)
		assert_true(put(1, 2, i));
	assert_false(put(1, 2, 9999));
	assert_true(put(3, 2, 5000)); /* another pair has its own ring */
	assert_true(inbox_take(area, 2, &h, NULL));
	assert_int_equal(h.id, 0);
	assert_true(put(1, 2, 8888));
}

static void
test_senders_take_turns(void **state)
{
	struct hint h;
	int from, seen[3] = { 0 };

	(void)state;
	for (int i = 0; i < 100; i++)
		put(0, 5, 1);
	put(1, 5, 1);
	put(2, 5, 1);
	for (int i = 0; i < 3; i++) {
		assert_true(inbox_take(area, 5, &h, &from));
		seen[from]++;
	}
	assert_int_equal(seen[0], 1);
	assert_int_equal(seen[1], 1);
	assert_int_equal(seen[2], 1);
}

static void
test_clear_forgets(void **state)
{
	struct hint h;

	(void)state;
	put(1, 2, 10);
	put(4, 2, 10);
	inbox_clear(area, 2);
	assert_false(inbox_take(area, 2, &h, NULL));
	assert_true(put(1, 2, 11));
	assert_true(inbox_take(area, 2, &h, NULL));
	assert_int_equal(h.id, 11);
}

/* Two processes send numbered hints as fast as the rings take them; all arrive, each sender's in order. */
static void
test_two_producers_one_consumer(void **state)
{
	enum { N = 50000 };
	uint64_t next[2] = { 0, 0 };
	struct pollfd p = { .fd = doorbell_fd(area, 9), .events = POLLIN };
	pid_t pids[2];
	struct hint h;
	int from;

	(void)state;
	for (int c = 0; c < 2; c++)
		if ((pids[c] = fork()) == 0) {
			for (uint64_t i = 0; i < N;) {
				if (put(c, 9, i))
					i++;
				doorbell_ring(area, 9);
			}
			_exit(0);
		}
	while (next[0] < N || next[1] < N) {
		assert_int_equal(poll(&p, 1, -1), 1);
		doorbell_answer(area, 9);
		while (inbox_take(area, 9, &h, &from)) {
			assert_in_range(from, 0, 1);
			assert_int_equal(h.id, next[from]);
			next[from]++;
		}
	}
	for (int c = 0; c < 2; c++)
		assert_int_equal(waitpid(pids[c], NULL, 0), pids[c]);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		WITH_AREA(test_order_and_sender),           WITH_AREA(test_a_full_ring_says_so_and_takes_again),
		WITH_AREA(test_senders_take_turns),         WITH_AREA(test_clear_forgets),
		WITH_AREA(test_two_producers_one_consumer),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
