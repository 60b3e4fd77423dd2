/* Keyed counts: exact between processes and over a death; token buckets with a clock of the test's. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <signal.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#include "shm/shm_limits.h"
#include "t/unit/shm/area_fixture.h"

static struct shm_limits *limits;

static int
setup_limits(void **state)
{
	int rc = setup(state);

	limits = rc == 0 ? shm_area_limits(area) : NULL;
	return rc;
}

static void
test_a_count_is_the_sum_of_ledgers(void **state)
{
	uint64_t k = limit_key("host", SLICE("mx.example.com"), SLICE(""));

	(void)state;
	assert_true(k == limit_key("host", SLICE("MX.Example.com"), SLICE("")));
	assert_true(k != limit_key("hos", SLICE("tmx.example.com"), SLICE("")));
	assert_false(limit_take(limits, 1, k, 0));
	assert_true(limit_take(limits, 1, k, 3));
	assert_true(limit_take(limits, 1, k, 3));
	assert_true(limit_take(limits, 2, k, 3));
	assert_false(limit_take(limits, 2, k, 3));
	assert_false(limit_take(limits, 3, k, 3));
	assert_int_equal(limit_count(limits, k), 3);
	assert_int_equal(limit_held(limits, 1, k), 2);
	limit_give(limits, 1, k);
	assert_true(limit_take(limits, 3, k, 3));
	assert_int_equal(limit_count(limits, k), 3);
	limits_clear_slot(limits, 1);
	assert_int_equal(limit_count(limits, k), 2);
}

static void
test_no_room_for_a_key_refuses(void **state)
{
	unsigned taken = 0, refused = 0;

	(void)state;
	for (uint64_t i = 1; i <= 64; i++) {
		if (limit_take(limits, 1, i * 8192, 10)) /* all in one set */
			taken++;
		else
			refused++;
	}
	assert_int_equal(taken, 32);
	assert_int_equal(refused, 32);
	limit_give(limits, 1, 8192);
	assert_true(limit_take(limits, 1, UINT64_C(64) * 8192, 10));
}

/* Four processes take and give one key as fast as they can; none ever sees more than the bound. */
static void
test_the_bound_holds_between_processes(void **state)
{
	enum { CHILDREN = 4, BOUND = 3 };
	uint64_t k = limit_key("binding", SLICE("out1"), SLICE("example.com"));
	pid_t pids[CHILDREN];
	int status;

	(void)state;
	for (int c = 0; c < CHILDREN; c++)
		if ((pids[c] = fork()) == 0) {
			for (int i = 0; i < 20000; i++)
				if (limit_take(limits, c, k, BOUND)) {
					if (limit_count(limits, k) > BOUND)
						_exit(1);
					limit_give(limits, c, k);
				}
			_exit(0);
		}
	for (int c = 0; c < CHILDREN; c++) {
		assert_int_equal(waitpid(pids[c], &status, 0), pids[c]);
		assert_int_equal(status, 0);
	}
	assert_int_equal(limit_count(limits, k), 0);
}

/* Killed anywhere, also with a lock held: what it had is free after the reaping, and the lock can be taken. */
static void
test_a_dead_process_gives_back(void **state)
{
	uint64_t k = limit_key("sessions", SLICE("listener"), SLICE(""));
	uint64_t writer;
	int pipefd[2];
	char go;
	pid_t pid;

	(void)state;
	for (int round = 0; round < 50; round++) {
		shm_slot_take(area, 9, ROLE_WORKER, 1, &writer);
		assert_int_equal(pipe(pipefd), 0);
		if ((pid = fork()) == 0) {
			limit_take(limits, 9, k, UINT32_MAX);
			if (write(pipefd[1], "x", 1) != 1)
				_exit(1);
			for (;;) {
				limit_take(limits, 9, k, UINT32_MAX);
				limit_give(limits, 9, k);
			}
		}
		assert_int_equal(read(pipefd[0], &go, 1), 1);
		kill(pid, SIGKILL);
		waitpid(pid, NULL, 0);
		close(pipefd[0]);
		close(pipefd[1]);
		assert_true(limit_count(limits, k) >= 1);
		shm_slot_reap(area, 9, SIGKILL, false);
		assert_int_equal(limit_count(limits, k), 0);
		assert_true(limit_take(limits, 1, k, 1));
		limit_give(limits, 1, k);
	}
}

static void
test_bucket(void **state)
{
	uint64_t k = limit_key("throttle", SLICE("out1"), SLICE(""));
	usec_t s = USEC_PER_SEC, now = 1000 * s, again = 0;

	(void)state;
	assert_false(bucket_take(limits, k, 0, 60, now, &again));
	assert_int_equal(again, now + 60 * s);
	for (int i = 0; i < 10; i++)
		assert_true(bucket_take(limits, k, 10, 60, now + i * s, &again));
	assert_int_equal(bucket_until(limits, k, 11, 60, now + 30 * s), 0);
	assert_int_equal(bucket_until(limits, k, 10, 60, now + 30 * s), now + 60 * s);
	assert_false(bucket_take(limits, k, 10, 60, now + 30 * s, &again));
	assert_int_equal(again, now + 60 * s);
	bucket_give(limits, k, now + 31 * s);
	assert_int_equal(bucket_until(limits, k, 10, 60, now + 31 * s), 0);
	assert_true(bucket_take(limits, k, 10, 60, now + 32 * s, &again));
	assert_false(bucket_take(limits, k, 10, 60, now + 60 * s - 1, &again));
	assert_true(bucket_take(limits, k, 10, 60, again, &again));
	assert_int_equal(bucket_until(limits, limit_key("throttle", SLICE("other"), SLICE("")), 1, 60, now), 0);
	/* a longer window of an older rate does not outlast the new rate's */
	assert_false(bucket_take(limits, k, 1, 5, now + 61 * s, &again));
	assert_int_equal(again, now + 66 * s);
}

int
main(void)
{
#define WITH_LIMITS(f) cmocka_unit_test_setup_teardown(f, setup_limits, teardown)
	const struct CMUnitTest tests[] = {
		WITH_LIMITS(test_a_count_is_the_sum_of_ledgers),
		WITH_LIMITS(test_no_room_for_a_key_refuses),
		WITH_LIMITS(test_the_bound_holds_between_processes),
		WITH_LIMITS(test_a_dead_process_gives_back),
		WITH_LIMITS(test_bucket),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
