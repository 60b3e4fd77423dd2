/* A full disk: new mail is refused before it comes, outcomes go on, the reserve is let go and made again. */
#include "t/unit/spool/spool_fixture.h"

#include "spool/spool_disk.h"

static void
nothing(void *arg)
{
	(void)arg;
}

static void
set_true(void *arg)
{
	bool *b = arg;

	*b = true;
}

/* The reading thread ticks before its first job. */
static void
first_tick(struct fixture *f)
{
	bool done = false;

	spool_run_cold(f->sp, nothing, set_true, &done);
	while (!done)
		fixture_turn(f);
}

/* Until a later tick has come to it. */
static void
wait_for_verdict(struct fixture *f, bool accepting)
{
	for (int i = 0; i < 2000 && spool_accepting(f->sp) != accepting; i++)
		usleep(10000);
	assert_int_equal(spool_accepting(f->sp), accepting);
}

static void
below_the_line_only_outcomes_are_taken(void **state)
{
	struct fixture f;
	struct answer a[2] = { 0 };

	(void)state;
	fixture_init(&f);
	f.conf.free_min = UINT64_MAX / 2;
	fixture_open(&f);
	first_tick(&f);
	assert_false(spool_accepting(f.sp));
	assert_int_equal(slot_get(shm_slot(f.area, 3), CELL_SPOOL_REFUSING), 1);
	assert_int_equal(submit_message(&f, 1, SLICE("\r\n"), SLICE("x"), &a[0]), ERR_FULL);
	assert_int_equal(submit_outcome(&f, 1, (struct place){ 1, 4096 }, &a[1]), OK);
	answers_await(&f, &a[1], 1);
	assert_int_equal(a[1].why, OK);
	assert_false(a[0].come);
	fixture_fini(&f);
}

static void
a_keeper_too_far_behind_refuses_mail(void **state)
{
	struct fixture f;
	struct answer a = { 0 };

	(void)state;
	fixture_init(&f);
	f.conf.tail_max = 1000;
	slot_set(shm_slot(f.area, 9), CELL_TAIL_SEEN, 1);
	slot_set(shm_slot(f.area, 9), CELL_TAIL_BYTES, 1002);
	fixture_open(&f);
	first_tick(&f);
	assert_false(spool_accepting(f.sp));
	assert_int_equal(submit_message(&f, 1, SLICE("\r\n"), SLICE("x"), &a), ERR_FULL);
	fixture_fini(&f);
}

/* It is stopped, then dead: its last word stands, and what is written since is added to it. */
static void
a_keeper_that_says_nothing_does_not_let_mail_in_for_ever(void **state)
{
	struct fixture f;
	struct shm_slot *keeper, *writer;

	(void)state;
	fixture_init(&f);
	f.conf.tail_max = 1000;
	keeper = shm_slot(f.area, 9);
	writer = shm_slot(f.area, 8);
	slot_set(writer, CELL_JOURNAL_BYTES, 5000);
	slot_set(keeper, CELL_TAIL_SEEN, 5000);
	slot_set(keeper, CELL_TAIL_BYTES, 400);
	fixture_open(&f);
	first_tick(&f);
	assert_true(spool_accepting(f.sp));
	slot_add(writer, CELL_JOURNAL_BYTES, 601);
	wait_for_verdict(&f, false);
	slot_set(keeper, CELL_TAIL_SEEN, 0);
	slot_set(keeper, CELL_TAIL_BYTES, 0);
	first_tick(&f);
	assert_false(spool_accepting(f.sp));
	slot_set(keeper, CELL_TAIL_BYTES, 10);
	slot_set(keeper, CELL_TAIL_SEEN, 5601);
	wait_for_verdict(&f, true);
	fixture_fini(&f);
}

static void
there_is_room(void **state)
{
	struct fixture f;

	(void)state;
	fixture_init(&f);
	f.conf.free_min = 4096;
	f.conf.reserve = 1 << 20;
	f.conf.tail_max = 1000;
	fixture_open(&f);
	first_tick(&f);
	assert_true(spool_accepting(f.sp));
	assert_int_equal(files_count(&f, SEGFILE_RESERVE), 1);
	spool_close(&f.sp);
	assert_int_equal(files_count(&f, SEGFILE_RESERVE), 0);
	fixture_fini(&f);
}

static void
the_reserve_is_let_go_once_and_made_again(void **state)
{
	struct fixture f;
	struct disk d;

	(void)state;
	fixture_init(&f);
	disk_init(&d, f.journal, 3, 4096, 1 << 20);
	assert_true(disk_has_room(&d));
	assert_false(disk_let_go(&d)); /* not made yet */
	disk_tick(&d);
	assert_int_equal(files_count(&f, SEGFILE_RESERVE), 1);
	assert_true(disk_let_go(&d));
	assert_int_equal(files_count(&f, SEGFILE_RESERVE), 0);
	assert_false(disk_has_room(&d));
	assert_false(disk_let_go(&d));
	disk_tick(&d);
	assert_true(disk_has_room(&d));
	assert_int_equal(files_count(&f, SEGFILE_RESERVE), 1);
	disk_fini(&d);
	fixture_fini(&f);
}

/* Somebody made room with it: the process that thought it had one makes another. */
static void
a_reserve_that_is_gone_or_cut_short_is_made_again(void **state)
{
	struct fixture f;
	struct disk d;
	uint64_t bytes = 0;

	(void)state;
	fixture_init(&f);
	disk_init(&d, f.journal, 3, 4096, 1 << 20);
	assert_int_equal(disk_reserved(f.journal, 3, &bytes), ERR_NOTFOUND);
	disk_tick(&d);
	assert_int_equal(disk_reserved(f.journal, 3, &bytes), OK);
	assert_int_equal(bytes, 1 << 20);
	assert_int_equal(unlinkat(f.journal, "reserve.3", 0), 0);
	disk_tick(&d);
	assert_int_equal(disk_reserved(f.journal, 3, &bytes), OK);
	close(openat(f.journal, "reserve.3", O_WRONLY | O_TRUNC | O_CLOEXEC));
	assert_int_equal(disk_reserved(f.journal, 3, &bytes), OK);
	assert_int_equal(bytes, 0);
	disk_tick(&d);
	assert_int_equal(disk_reserved(f.journal, 3, &bytes), OK);
	assert_int_equal(bytes, 1 << 20);
	disk_fini(&d);
	fixture_fini(&f);
}

static usec_t fake_now = 1000 * USEC_PER_SEC;

static usec_t
fake_mono(void)
{
	return fake_now;
}

/* No room for a first segment: a worker need not die for it, again and again. */
static void
a_full_disk_at_the_start_is_waited_for(void **state)
{
	struct fixture f;
	struct answer early = { 0 }, later = { 0 };

	(void)state;
	clock_set_source(fake_mono, NULL);
	fixture_init(&f);
	faults("segment.fill=ENOSPC@1");
	fixture_open(&f);
	assert_false(spool_accepting(f.sp));
	assert_int_equal(submit_outcome(&f, 1, (struct place){ 1, 4096 }, &early), OK);
	answers_await(&f, &early, 1);
	assert_int_equal(early.why, ERR_FULL);
	fake_now += 2 * USEC_PER_SEC;
	assert_int_equal(submit_outcome(&f, 1, (struct place){ 1, 4096 }, &later), OK);
	answers_await(&f, &later, 1);
	assert_int_equal(later.why, OK);
	assert_true(spool_accepting(f.sp));
	faults(NULL);
	clock_set_source(NULL, NULL);
	fixture_fini(&f);
}

static void
the_reserve_of_the_dead_is_taken_over(void **state)
{
	struct fixture f;
	struct disk dead, d;

	(void)state;
	fixture_init(&f);
	disk_init(&dead, f.journal, 3, 0, 1 << 20);
	disk_tick(&dead);
	faults("disk.free=ENOSPC*");
	disk_init(&d, f.journal, 3, 0, 1 << 20);
	disk_tick(&d);
	assert_int_equal(files_count(&f, SEGFILE_RESERVE), 1);
	assert_true(disk_let_go(&d));
	assert_int_equal(files_count(&f, SEGFILE_RESERVE), 0);
	faults(NULL);
	disk_fini(&d);
	disk_fini(&dead);
	fixture_fini(&f);
}

/* The next segment does not fit; with the reserve let go, outcomes do. */
static void
outcomes_live_on_the_reserve(void **state)
{
	enum { N = 60 };
	static struct answer a[N];
	static const char body[2000];
	struct fixture f;
	struct answer o = { 0 };
	uint32_t last = 0;

	(void)state;
	memset(a, 0, sizeof a);
	fixture_init(&f);
	f.conf.reserve = 1 << 20;
	fixture_open(&f);
	first_tick(&f);
	/* The one made in advance, the first try of the journal itself, and a small one. */
	faults("segment.fill=ENOSPC@1,segment.fill=ENOSPC@2,segment.fill=ENOSPC@3");
	for (int i = 0; i < N; i++) {
		enum err e = submit_message(&f, (msgid_t)i + 1, SLICE("\r\n"), slice_of(body, sizeof body), &a[i]);
		if (e != OK)
			break; /* refused until the reserve is there again */
		answers_await(&f, &a[i], 1);
		assert_int_equal(a[i].why, OK);
		last = a[i].place.seg;
	}
	assert_true(last > a[0].place.seg);
	assert_int_equal(submit_outcome(&f, 1, a[0].place, &o), OK);
	answers_await(&f, &o, 1);
	assert_int_equal(o.why, OK);
	faults(NULL);
	fixture_fini(&f);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(below_the_line_only_outcomes_are_taken),
		cmocka_unit_test(a_keeper_too_far_behind_refuses_mail),
		cmocka_unit_test(a_keeper_that_says_nothing_does_not_let_mail_in_for_ever),
		cmocka_unit_test(there_is_room),
		cmocka_unit_test(the_reserve_is_let_go_once_and_made_again),
		cmocka_unit_test(a_reserve_that_is_gone_or_cut_short_is_made_again),
		cmocka_unit_test(a_full_disk_at_the_start_is_waited_for),
		cmocka_unit_test(the_reserve_of_the_dead_is_taken_over),
		cmocka_unit_test(outcomes_live_on_the_reserve),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
