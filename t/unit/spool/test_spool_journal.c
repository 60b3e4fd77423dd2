/* The journal: nothing is let go before it is synced, and what a failing disk makes of it. */
#include "t/unit/spool/spool_fixture.h"

#include <time.h>

static _Atomic usec_t fake_now = 1000 * USEC_PER_SEC;
static usec_t
fake_mono(void)
{
	return fake_now;
}

static void
slot_pair(const struct fixture *f, uint32_t *seg, uint32_t *mark)
{
	slot_mark(shm_slot(f->area, f->conf.slot), seg, mark);
}

static int64_t
counted(const struct fixture *f, enum cell c)
{
	return slot_get(shm_slot(f->area, f->conf.slot), c);
}

static void
an_answer_comes_after_the_sync_and_never_at_once(void **state)
{
	struct fixture f;
	struct answer a = { 0 };
	struct record_head h;
	struct spool_item item;
	struct bytes file;
	uint32_t seg, mark;

	(void)state;
	fixture_init(&f);
	fixture_open(&f);
	assert_int_equal(submit_message(&f, 42, SLICE("A: b\r\n\r\n"), SLICE("body\r\n"), &a), OK);
	assert_false(a.come);
	assert_int_equal(spool_in_flight(f.sp), 1);
	answers_await(&f, &a, 1);
	assert_int_equal(a.why, OK);
	assert_int_equal(spool_in_flight(f.sp), 0);
	h = record_at(&f, a.place, &file, &item);
	assert_true(h.type == RECORD_MESSAGE && item.kind == ITEM_MESSAGE && item.message.id == 42);
	slot_pair(&f, &seg, &mark);
	assert_true(seg == a.place.seg && mark >= a.place.off + record_size(&h));
	bytes_fini(&file);
	fixture_fini(&f);
}

static void
what_gathers_is_one_sync_and_keeps_its_order(void **state)
{
	enum { N = 300 };
	static struct answer a[N];
	struct fixture f;
	uint32_t seg = 0, off = 0;

	(void)state;
	memset(a, 0, sizeof a);
	answers_so_far = 0;
	fixture_init(&f);
	f.conf.segment_size = 4 << 20;
	fixture_open(&f);
	for (int i = 0; i < N; i++)
		assert_int_equal(submit_message(&f, (msgid_t)i + 1, SLICE("\r\n"), SLICE("x"), &a[i]), OK);
	answers_await(&f, a, N);
	for (int i = 0; i < N; i++) {
		assert_int_equal(a[i].why, OK);
		assert_int_equal(a[i].number, i);
		assert_true(a[i].place.seg > seg || a[i].place.off > off);
		seg = a[i].place.seg;
		off = a[i].place.off;
	}
	assert_int_equal(counted(&f, CELL_JOURNAL_RECORDS), N);
	assert_true(counted(&f, CELL_JOURNAL_SYNCS) < N / 4);
	fixture_fini(&f);
}

static enum err
submit_patient(struct fixture *f, msgid_t id, struct answer *a)
{
	struct spool_txn *txn = spool_txn_new(f->sp);
	struct spool_attempt t = { .id = id, .n = 1, .place = { 1, 4096 } };

	spool_txn_attempt(txn, &t);
	spool_txn_patient(txn);
	return spool_submit(txn, answer_take, a);
}

/* Syncs of patient records alone are at least two milliseconds apart, however quick the disk and slow the machine. */
static void
patient_records_share_syncs(void **state)
{
	enum { N = 30 };
	struct timespec from, to;
	struct fixture f;
	int64_t took, syncs;

	(void)state;
	fixture_init(&f);
	fixture_open(&f);
	clock_gettime(CLOCK_MONOTONIC, &from);
	for (int i = 0; i < N; i++) {
		struct answer a = { 0 };
		assert_int_equal(submit_patient(&f, (msgid_t)i + 1, &a), OK);
		answers_await(&f, &a, 1);
		assert_int_equal(a.why, OK);
	}
	clock_gettime(CLOCK_MONOTONIC, &to);
	took = (to.tv_sec - from.tv_sec) * INT64_C(1000000000) + to.tv_nsec - from.tv_nsec;
	syncs = counted(&f, CELL_JOURNAL_SYNCS);
	assert_int_equal(syncs, N);
	assert_true((syncs - 1) * 2000000 <= took);
	fixture_fini(&f);
}

/* Every order of an announcement and what follows, in every state of rest: nothing is left waiting. */
static void
what_is_expected_may_stay_away(void **state)
{
	static const struct timespec pauses[] = { { 0, 0 }, { 0, 30000 }, { 0, 300000 }, { 0, 3000000 } };
	struct fixture f;

	(void)state;
	fixture_init(&f);
	fixture_open(&f);
	for (unsigned i = 0; i < 96; i++) {
		struct answer a = { 0 };

		answers_so_far = 0;
		if (i % 3 != 0)
			spool_expect(f.sp);
		if (i % 3 == 2)
			spool_expect(f.sp);
		nanosleep(&pauses[i / 3 % 4], NULL);
		if (i / 12 % 2 == 0)
			assert_int_equal(submit_message(&f, i + 1, SLICE("\r\n"), SLICE("x"), &a), OK);
		else
			assert_int_equal(submit_patient(&f, i + 1, &a), OK);
		answers_await(&f, &a, 1);
		assert_int_equal(a.why, OK);
	}
	fixture_fini(&f);
}

static void
an_urgent_record_takes_the_patient_along(void **state)
{
	struct fixture f;

	(void)state;
	fixture_init(&f);
	fixture_open(&f);
	for (msgid_t i = 0; i < 20; i++) {
		struct answer a[3] = { 0 };
		answers_so_far = 0;
		assert_int_equal(submit_patient(&f, i * 3 + 1, &a[0]), OK);
		assert_int_equal(submit_message(&f, i * 3 + 2, SLICE("\r\n"), SLICE("x"), &a[1]), OK);
		assert_int_equal(submit_patient(&f, i * 3 + 3, &a[2]), OK);
		answers_await(&f, a, 3);
		for (int k = 0; k < 3; k++) {
			assert_int_equal(a[k].why, OK);
			assert_int_equal(a[k].number, k);
		}
	}
	fixture_fini(&f);
}

/* A page written in part would have to be read from the disk first. */
static void
a_batch_is_written_in_whole_pages(void **state)
{
	enum { OLD = 16 * SEGMENT_PAGE };
	struct fixture f;
	struct answer a = { 0 };
	struct bytes old = { 0 }, file;
	char name[SEGMENT_NAME];
	uint32_t seg, mark, page_end;
	int fd;

	(void)state;
	fixture_init(&f);
	fixture_open(&f);
	slot_pair(&f, &seg, &mark);
	segment_name(SEGFILE_SEG, seg, name);
	fd = openat(f.journal, name, O_RDWR | O_CLOEXEC);
	assert_true(fd >= 0);
	memset(bytes_room(&old, OLD), 'o', OLD);
	old.n = OLD;
	assert_int_equal(segment_write(fd, mark, old.p, OLD - mark), OK);
	close(fd);
	assert_int_equal(submit_message(&f, 42, SLICE("A: b\r\n\r\n"), SLICE("body\r\n"), &a), OK);
	answers_await(&f, &a, 1);
	assert_int_equal(a.why, OK);
	slot_pair(&f, &seg, &mark);
	page_end = (mark + SEGMENT_PAGE - 1) / SEGMENT_PAGE * SEGMENT_PAGE;
	file = file_of(&f, seg);
	assert_true(page_end > mark && page_end < OLD);
	for (uint32_t at = mark; at < OLD; at++)
		assert_int_equal(file.p[at], at < page_end ? 0 : 'o');
	bytes_fini(&file);
	bytes_fini(&old);
	fixture_fini(&f);
}

static struct segment_head
head_of(const struct fixture *f, uint32_t number)
{
	struct segment_head h;
	int fd = segment_open(f->journal, number);

	assert_true(fd >= 0);
	assert_int_equal(segment_head_load(fd, number, &h), OK);
	close(fd);
	return h;
}

/* The ids of all messages in a sealed segment, by its table of contents. */
static uint32_t
toc_messages(const struct fixture *f, uint32_t number, uint64_t *sum)
{
	struct segment_head h = head_of(f, number);
	struct bytes file = file_of(f, number);
	struct slice entries;
	uint32_t n = 0;

	assert_true(h.seal.sealed && h.seal.end <= file.n);
	assert_int_equal(toc_decode(slice_of(file.p + h.seal.toc, h.seal.end - h.seal.toc),
				    (struct place){ number, h.seal.toc }, &entries),
			 OK);
	for (uint32_t i = 0; i < toc_count(entries); i++) {
		struct toc_entry e;
		toc_get(entries, i, &e);
		if (e.kind == ITEM_MESSAGE) {
			*sum += e.id;
			n++;
		}
	}
	bytes_fini(&file);
	return n;
}

static void
full_segments_are_sealed_and_the_next_goes_on(void **state)
{
	enum { N = 400 };
	static struct answer a[N];
	static const char body[1500];
	struct fixture f;
	uint32_t first, last, messages = 0;
	uint64_t sum = 0;

	(void)state;
	memset(a, 0, sizeof a);
	fixture_init(&f);
	fixture_open(&f);
	for (int i = 0; i < N; i++) {
		assert_int_equal(submit_message(&f, (msgid_t)i + 1, SLICE("\r\n"), slice_of(body, sizeof body), &a[i]),
				 OK);
		if (i % 20 == 19)
			answers_await(&f, a, (size_t)i + 1);
	}
	answers_await(&f, a, N);
	first = a[0].place.seg;
	last = a[N - 1].place.seg;
	assert_true(last > first + 5);
	spool_close(&f.sp); /* seals the last one too */
	for (uint32_t s = first; s <= last; s++)
		messages += toc_messages(&f, s, &sum);
	assert_int_equal(messages, N);
	assert_int_equal(sum, (uint64_t)N * (N + 1) / 2);
	assert_int_equal(files_count(&f, SEGFILE_PREP), 0);
	fixture_fini(&f);
}

static void
a_record_larger_than_a_segment_has_one_for_itself(void **state)
{
	struct fixture f;
	struct answer a[3] = { 0 };
	struct bytes body = { 0 }, file;
	struct spool_item item;

	(void)state;
	fixture_init(&f);
	fixture_open(&f);
	memset(bytes_room(&body, 200000), 'x', 200000);
	body.n = 200000;
	assert_int_equal(submit_message(&f, 1, SLICE("\r\n"), SLICE("small"), &a[0]), OK);
	assert_int_equal(submit_message(&f, 2, SLICE("\r\n"), slice_bytes(&body), &a[1]), OK);
	assert_int_equal(submit_message(&f, 3, SLICE("\r\n"), SLICE("small"), &a[2]), OK);
	answers_await(&f, a, 3);
	for (int i = 0; i < 3; i++) {
		assert_int_equal(a[i].why, OK);
		record_at(&f, a[i].place, &file, &item);
		assert_int_equal(item.message.id, i + 1);
		bytes_fini(&file);
	}
	bytes_fini(&body);
	fixture_fini(&f);
}

static void
a_successor_opens_a_new_segment_and_leaves_the_old(void **state)
{
	struct fixture f;
	struct answer a = { 0 }, b = { 0 };
	struct bytes before, after;
	msgid_t id;

	(void)state;
	fixture_init(&f);
	fixture_open(&f);
	id = spool_new_id(f.sp);
	assert_int_equal(submit_message(&f, id, SLICE("\r\n"), SLICE("x"), &a), OK);
	answers_await(&f, &a, 1);
	spool_close(&f.sp);
	before = file_of(&f, a.place.seg);
	atomic_store(shm_segment_highest(f.area), 0); /* as after the master's end */
	fixture_open(&f);
	assert_true(spool_new_id(f.sp) > id);
	assert_int_equal(submit_message(&f, 2, SLICE("\r\n"), SLICE("x"), &b), OK);
	answers_await(&f, &b, 1);
	assert_true(b.place.seg > a.place.seg);
	after = file_of(&f, a.place.seg);
	assert_true(slice_eq(slice_bytes(&before), slice_bytes(&after)));
	bytes_fini(&before);
	bytes_fini(&after);
	fixture_fini(&f);
}

/* The first record of a segment says where `failed` ends, and so does its copy behind it. */
static void
assert_end(const struct fixture *f, uint32_t seg, uint32_t failed, uint32_t mark)
{
	uint32_t off = SEGMENT_HEAD;

	for (int copy = 0; copy < 2; copy++) {
		struct bytes file;
		struct spool_item item;
		struct record_head h = record_at(f, (struct place){ seg, off }, &file, &item);
		assert_int_equal(h.type, RECORD_END);
		assert_true(item.kind == ITEM_END && item.end.seg == failed && item.end.mark == mark);
		off += (uint32_t)record_size(&h);
		bytes_fini(&file);
	}
}

/* One message is safe, then a batch of message, attempt, outcome and message meets the fault. */
static void
batch_against(struct fixture *f, const char *rules, struct answer a[5], uint32_t *seg, uint32_t *mark)
{
	memset(a, 0, 5 * sizeof a[0]);
	answers_so_far = 0;
	fixture_open(f);
	assert_int_equal(submit_message(f, 1, SLICE("\r\n"), SLICE("x"), &a[0]), OK);
	answers_await(f, a, 1);
	slot_pair(f, seg, mark);
	faults(rules);
	assert_int_equal(submit_message(f, 2, SLICE("\r\n"), SLICE("y"), &a[1]), OK);
	answers_await(f, a, 2);
}

static void
a_failed_sync_drops_the_message_and_leaves_the_file(void **state)
{
	static const struct {
		const char *rules;
		enum err want;
	} rows[] = { { "journal.sync=EIO", ERR_IO },
		     { "journal.write=EIO", ERR_IO },
		     { "journal.write=ENOSPC", ERR_FULL } };
	struct answer a[5];
	uint32_t seg, mark;

	(void)state;
	for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
		struct fixture f;
		struct bytes before, after;
		fixture_init(&f);
		batch_against(&f, rows[i].rules, a, &seg, &mark);
		assert_int_equal(a[1].why, rows[i].want);
		before = file_of(&f, seg);
		assert_int_equal(submit_message(&f, 3, SLICE("\r\n"), SLICE("z"), &a[2]), OK);
		assert_int_equal(submit_outcome(&f, 1, a[0].place, &a[3]), OK);
		answers_await(&f, &a[2], 2);
		assert_true(a[2].why == OK && a[2].place.seg > seg && a[3].why == OK);
		assert_end(&f, a[2].place.seg, seg, mark);
		spool_close(&f.sp); /* which must not seal the failed one */
		after = file_of(&f, seg);
		assert_true(slice_eq(slice_bytes(&before), slice_bytes(&after)));
		assert_false(head_of(&f, seg).seal.sealed);
		bytes_fini(&before);
		bytes_fini(&after);
		faults(NULL);
		fixture_fini(&f);
	}
}

static void
attempts_and_outcomes_are_repeated_after_a_failed_sync(void **state)
{
	struct fixture f;
	struct answer a[4] = { 0 };
	struct bytes file;
	struct spool_item item;
	uint32_t seg, mark;

	(void)state;
	fixture_init(&f);
	fixture_open(&f);
	assert_int_equal(submit_message(&f, 1, SLICE("\r\n"), SLICE("x"), &a[0]), OK);
	answers_await(&f, a, 1);
	slot_pair(&f, &seg, &mark);
	faults("journal.sync=EIO");
	assert_int_equal(submit_attempt(&f, 1, a[0].place, &a[1]), OK);
	answers_await(&f, &a[1], 1);
	assert_int_equal(a[1].why, OK);
	assert_true(a[1].place.seg > seg);
	assert_end(&f, a[1].place.seg, seg, mark);
	record_at(&f, a[1].place, &file, &item);
	assert_true(item.kind == ITEM_ATTEMPT && item.attempt.id == 1);
	bytes_fini(&file);
	faults("journal.sync=EIO");
	assert_int_equal(submit_outcome(&f, 1, a[0].place, &a[2]), OK);
	answers_await(&f, &a[2], 1);
	assert_int_equal(a[2].why, OK);
	record_at(&f, a[2].place, &file, &item);
	assert_true(item.kind == ITEM_OUTCOME && a[2].place.seg > a[1].place.seg);
	bytes_fini(&file);
	faults(NULL);
	fixture_fini(&f);
}

static void
a_second_failure_answers_nothing_and_refuses_the_rest(void **state)
{
	struct fixture f;
	struct answer a[5];
	uint32_t seg, mark;

	(void)state;
	clock_set_source(fake_mono, NULL);
	fixture_init(&f);
	batch_against(&f, "journal.sync=EIO@1*", a, &seg, &mark);
	assert_int_equal(a[1].why, ERR_DAMAGED);
	assert_false(spool_accepting(f.sp));
	assert_int_equal(submit_message(&f, 3, SLICE("\r\n"), SLICE("x"), &a[2]), ERR_FULL);
	assert_int_equal(submit_outcome(&f, 1, a[0].place, &a[2]), OK);
	answers_await(&f, &a[2], 1);
	assert_int_equal(a[2].why, ERR_FULL); /* the second of respite is not over */
	faults(NULL);
	fake_now += 2 * USEC_PER_SEC;
	assert_int_equal(submit_outcome(&f, 1, a[0].place, &a[3]), OK);
	answers_await(&f, &a[3], 1);
	assert_int_equal(a[3].why, OK);
	assert_end(&f, a[3].place.seg, seg, mark);
	assert_true(spool_accepting(f.sp));
	assert_int_equal(submit_message(&f, 3, SLICE("\r\n"), SLICE("x"), &a[4]), OK);
	answers_await(&f, &a[4], 1);
	assert_int_equal(a[4].why, OK);
	fixture_fini(&f);
	clock_set_source(NULL, NULL);
}

static void
no_room_for_a_segment_is_no_loss(void **state)
{
	enum { N = 100 };
	static struct answer a[N];
	static const char body[2000];
	struct fixture f;
	struct answer o = { 0 }, p = { 0 };
	int taken = 0, refused = 0;

	(void)state;
	memset(a, 0, sizeof a);
	clock_set_source(fake_mono, NULL);
	fixture_init(&f);
	fixture_open(&f);
	faults("segment.fill=ENOSPC@1*");
	for (int i = 0; i < N; i++) {
		if (submit_message(&f, (msgid_t)i + 1, SLICE("\r\n"), slice_of(body, sizeof body), &a[i]) != OK) {
			refused++;
			continue;
		}
		answers_await(&f, &a[i], 1);
		assert_true(a[i].why == OK || a[i].why == ERR_FULL);
		taken += a[i].why == OK;
		refused += a[i].why == ERR_FULL;
	}
	assert_true(taken > 10 && refused > 10);
	assert_false(spool_accepting(f.sp));
	assert_int_equal(submit_outcome(&f, 1, a[0].place, &o), OK);
	answers_await(&f, &o, 1);
	assert_int_equal(o.why, ERR_FULL);
	faults(NULL);
	fake_now += 2 * USEC_PER_SEC;
	assert_int_equal(submit_outcome(&f, 1, a[0].place, &p), OK);
	answers_await(&f, &p, 1);
	assert_int_equal(p.why, OK);
	assert_true(spool_accepting(f.sp));
	fixture_fini(&f);
	clock_set_source(NULL, NULL);
}

static void
what_cannot_be_sealed_is_ended_by_a_record(void **state)
{
	enum { N = 60 };
	static struct answer a[N];
	static const char body[2000];
	struct fixture f;
	uint32_t first;
	bool said = false;

	(void)state;
	memset(a, 0, sizeof a);
	fixture_init(&f);
	fixture_open(&f);
	faults("segment.seal=EIO");
	for (int i = 0; i < N; i++) {
		assert_int_equal(submit_message(&f, (msgid_t)i + 1, SLICE("\r\n"), slice_of(body, sizeof body), &a[i]),
				 OK);
		answers_await(&f, &a[i], 1);
		assert_int_equal(a[i].why, OK);
	}
	first = a[0].place.seg;
	spool_close(&f.sp);
	assert_false(head_of(&f, first).seal.sealed);
	for (uint32_t s = first + 1; s <= a[N - 1].place.seg; s++) {
		struct segment_head h = head_of(&f, s);
		struct bytes file = file_of(&f, s);
		struct slice entries;
		assert_true(h.seal.sealed);
		assert_int_equal(toc_decode(slice_of(file.p + h.seal.toc, h.seal.end - h.seal.toc),
					    (struct place){ s, h.seal.toc }, &entries),
				 OK);
		for (uint32_t i = 0; i < toc_count(entries); i++) {
			struct toc_entry e;
			toc_get(entries, i, &e);
			said = said || (e.kind == ITEM_END && e.id == first);
		}
		bytes_fini(&file);
	}
	assert_true(said);
	faults(NULL);
	fixture_fini(&f);
}

static void
closing_writes_what_is_under_way(void **state)
{
	enum { N = 50 };
	static struct answer a[N];
	struct fixture f;

	(void)state;
	memset(a, 0, sizeof a);
	fixture_init(&f);
	fixture_open(&f);
	for (int i = 0; i < N; i++)
		assert_int_equal(submit_message(&f, (msgid_t)i + 1, SLICE("\r\n"), SLICE("x"), &a[i]), OK);
	spool_close(&f.sp);
	for (int i = 0; i < N; i++)
		assert_true(a[i].come && a[i].why == OK);
	fixture_fini(&f);
}

static void
an_empty_record_is_refused_and_an_unused_spool_leaves_nothing(void **state)
{
	struct fixture f;
	struct spool_txn *txn;

	(void)state;
	fixture_init(&f);
	fixture_open(&f);
	assert_int_equal(spool_submit(spool_txn_new(f.sp), answer_take, NULL), ERR_RANGE);
	txn = spool_txn_new(f.sp);
	spool_txn_blob(txn, SLICE("x"));
	spool_txn_free(&txn);
	assert_null(txn);
	spool_close(&f.sp);
	assert_int_equal(files_count(&f, SEGFILE_SEG), 0);
	fixture_fini(&f);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(an_answer_comes_after_the_sync_and_never_at_once),
		cmocka_unit_test(what_gathers_is_one_sync_and_keeps_its_order),
		cmocka_unit_test(patient_records_share_syncs),
		cmocka_unit_test(an_urgent_record_takes_the_patient_along),
		cmocka_unit_test(what_is_expected_may_stay_away),
		cmocka_unit_test(a_batch_is_written_in_whole_pages),
		cmocka_unit_test(full_segments_are_sealed_and_the_next_goes_on),
		cmocka_unit_test(a_record_larger_than_a_segment_has_one_for_itself),
		cmocka_unit_test(a_successor_opens_a_new_segment_and_leaves_the_old),
		cmocka_unit_test(a_failed_sync_drops_the_message_and_leaves_the_file),
		cmocka_unit_test(attempts_and_outcomes_are_repeated_after_a_failed_sync),
		cmocka_unit_test(a_second_failure_answers_nothing_and_refuses_the_rest),
		cmocka_unit_test(no_room_for_a_segment_is_no_loss),
		cmocka_unit_test(what_cannot_be_sealed_is_ended_by_a_record),
		cmocka_unit_test(closing_writes_what_is_under_way),
		cmocka_unit_test(an_empty_record_is_refused_and_an_unused_spool_leaves_nothing),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
