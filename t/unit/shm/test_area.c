/* Slots, marks, finger, counters over a death, the roll of lives, the partition table. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <signal.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "t/unit/shm/area_fixture.h"

static uint64_t
take(int slot, enum role role)
{
	uint64_t writer;

	shm_slot_take(area, slot, role, 1, &writer);
	shm_slot_born(area, slot, 1000 + slot);
	return writer;
}

static void
test_a_taken_slot_says_who(void **state)
{
	struct slot_who w;
	uint64_t writer;

	(void)state;
	assert_false(slot_who(shm_slot(area, 5), &w));
	writer = take(5, ROLE_WORKER);
	assert_int_not_equal(writer, 0);
	assert_true(slot_who(shm_slot(area, 5), &w));
	assert_int_equal(w.pid, 1005);
	assert_int_equal(w.role, ROLE_WORKER);
	assert_int_equal(w.state, SLOT_STARTING);
	assert_true(w.writer == writer);
	slot_set_state(shm_slot(area, 5), SLOT_DRAINING);
	assert_true(slot_who(shm_slot(area, 5), &w));
	assert_int_equal(w.state, SLOT_DRAINING);
	shm_slot_reap(area, 5, 0, false);
	assert_false(slot_who(shm_slot(area, 5), &w));
	assert_true(take(5, ROLE_WORKER) != writer);
}

/* A child adds and sets; what it counted outlives it, what it measured does not. */
static void
test_totals_never_step_back_over_a_death(void **state)
{
	struct shm_slot *s = shm_slot(area, 7);
	int status;
	pid_t pid;

	(void)state;
	take(7, ROLE_WORKER);
	if ((pid = fork()) == 0) {
		slot_add(s, CELL_DELIVERED, 41);
		slot_add(s, CELL_SESSIONS_IN, 3);
		slot_publish_mark(s, 9, 4096);
		slot_finger_message(s, 77);
		raise(SIGKILL);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(shm_total(area, CELL_DELIVERED), 41);
	assert_int_equal(shm_total(area, CELL_SESSIONS_IN), 3);
	shm_slot_reap(area, 7, WTERMSIG(status), false);
	assert_int_equal(shm_total(area, CELL_DELIVERED), 41);
	assert_int_equal(shm_total(area, CELL_SESSIONS_IN), 0);
	take(7, ROLE_WORKER);
	slot_add(s, CELL_DELIVERED, 1);
	assert_int_equal(shm_total(area, CELL_DELIVERED), 42);
}

static void
test_the_pair_of_segment_and_mark_is_never_torn(void **state)
{
	struct shm_slot *s = shm_slot(area, 3);
	uint32_t seg, mark;
	pid_t pid;

	(void)state;
	if ((pid = fork()) == 0) {
		for (uint32_t i = 1; i < 200000; i++)
			slot_publish_mark(s, i, i * 8);
		_exit(0);
	}
	do {
		slot_mark(s, &seg, &mark);
		assert_int_equal(mark, seg * 8);
	} while (seg != 199999);
	waitpid(pid, NULL, 0);
}

static void
test_finger(void **state)
{
	static const struct {
		const char *peer, *want;
	} table[] = {
		{ "192.0.2.1", "192.0.2.1" },
		{ "2001:db8::1", "2001:db8::1" },
		{ "", "" },
		{ "a\r\nb\033", "a??b?" },
	};
	struct shm_slot *s = shm_slot(area, 0);
	struct finger f;
	char longest[200];

	(void)state;
	slot_finger(s, &f);
	assert_int_equal(f.kind, FINGER_NONE);
	for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++) {
		slot_finger_peer(s, slice_str(table[i].peer));
		slot_finger(s, &f);
		assert_int_equal(f.kind, FINGER_PEER);
		assert_string_equal(f.text, table[i].want);
	}
	memset(longest, 'x', sizeof(longest));
	slot_finger_peer(s, slice_of(longest, sizeof(longest)));
	slot_finger(s, &f);
	assert_int_equal(strlen(f.text), FINGER_TEXT);
	slot_finger_message(s, UINT64_C(0x0123456789abcdef));
	slot_finger(s, &f);
	assert_int_equal(f.kind, FINGER_MESSAGE);
	assert_true(f.id == UINT64_C(0x0123456789abcdef));
	slot_finger_clear(s);
	slot_finger(s, &f);
	assert_int_equal(f.kind, FINGER_NONE);
}

static void
test_the_roll_says_how_a_life_ended(void **state)
{
	uint64_t first = take(4, ROLE_WORKER), second;
	struct life l;

	(void)state;
	assert_true(life_find(area, first, &l));
	assert_false(l.ended);
	assert_int_equal(l.pid, 1004);
	slot_publish_mark(shm_slot(area, 4), 12, 640);
	slot_finger_message(shm_slot(area, 4), 99);
	shm_slot_reap(area, 4, SIGSEGV, true);
	second = take(4, ROLE_WORKER);
	assert_true(life_find(area, first, &l));
	assert_true(l.ended);
	assert_true(l.convicts);
	assert_int_equal(l.signo, SIGSEGV);
	assert_int_equal(l.seg, 12);
	assert_int_equal(l.mark, 640);
	assert_int_equal(l.finger.kind, FINGER_MESSAGE);
	assert_int_equal(l.finger.id, 99);
	assert_true(life_find(area, second, &l));
	assert_false(l.ended);
	assert_int_equal(l.serial, 2);
	assert_int_equal(lives_next(area), 3);
	assert_false(life_find(area, first ^ second ^ 1, &l));
}

static void
test_the_roll_forgets_the_oldest_only(void **state)
{
	uint64_t first = 0, last = 0;
	struct life l;

	(void)state;
	for (int i = 0; i <= LIVES_KEPT; i++) {
		last = take(6, ROLE_WORKER);
		if (i == 0)
			first = last;
		shm_slot_reap(area, 6, 0, false);
	}
	assert_false(life_find(area, first, &l));
	assert_true(life_find(area, last, &l));
	assert_false(life_get(area, 1, &l));
	assert_true(life_get(area, 2, &l));
}

static void
test_only_convicting_deaths_count_against_a_peer(void **state)
{
	struct slice peer = SLICE("192.0.2.7");
	static const struct {
		int signo;
		bool convicts;
		unsigned want;
	} table[] = { { SIGKILL, false, 0 }, { SIGSEGV, true, 1 }, { SIGABRT, true, 2 } };

	(void)state;
	for (size_t i = 0; i < 3; i++) {
		take(4, ROLE_WORKER);
		slot_finger_peer(shm_slot(area, 4), peer);
		shm_slot_reap(area, 4, table[i].signo, table[i].convicts);
		assert_int_equal(lives_peer_deaths(area, peer, 0), table[i].want);
	}
	assert_int_equal(lives_peer_deaths(area, SLICE("192.0.2.8"), 0), 0);
	assert_int_equal(lives_peer_deaths(area, peer, clock_mono() + 1), 0);
}

static void
test_partitions(void **state)
{
	uint8_t owner[PARTITIONS];
	struct partition_table t;

	(void)state;
	assert_int_equal(partitions_version(area), 0);
	assert_int_equal(partition_owner(area, 17), SLOT_NOBODY);
	for (int p = 0; p < PARTITIONS; p++)
		owner[p] = (uint8_t)(p % 3 + 4);
	owner[8] = 200; /* nonsense is nobody */
	partitions_publish(area, 2, owner);
	partitions_read(area, &t);
	assert_int_equal(t.version, 1);
	assert_int_equal(t.generation, 2);
	assert_int_equal(t.owner[17], 17 % 3 + 4);
	assert_int_equal(t.owner[8], SLOT_NOBODY);
	assert_int_equal(partition_owner(area, 17), 17 % 3 + 4);
	assert_int_equal(partition_owner(area, PARTITIONS), SLOT_NOBODY);
}

static void
test_cells_have_rows(void **state)
{
	(void)state;
	for (int c = 0; c < CELL_MAX; c++) {
		assert_non_null(cell_name((enum cell)c));
		for (int d = 0; d < c; d++)
			assert_string_not_equal(cell_name((enum cell)c), cell_name((enum cell)d));
	}
	assert_int_equal(cell_kind(CELL_SESSIONS_IN), CELL_IS_GAUGE);
	assert_int_equal(cell_kind(CELL_DELIVERED), CELL_IS_COUNTER);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		WITH_AREA(test_a_taken_slot_says_who),
		WITH_AREA(test_totals_never_step_back_over_a_death),
		WITH_AREA(test_the_pair_of_segment_and_mark_is_never_torn),
		WITH_AREA(test_finger),
		WITH_AREA(test_the_roll_says_how_a_life_ended),
		WITH_AREA(test_the_roll_forgets_the_oldest_only),
		WITH_AREA(test_only_convicting_deaths_count_against_a_peer),
		WITH_AREA(test_partitions),
		cmocka_unit_test(test_cells_have_rows),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
