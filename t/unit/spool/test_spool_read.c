/* Reading back: by place, from memory or from the disk, and never anything but what was written. */
#include "t/unit/spool/spool_fixture.h"

#include <malloc.h>

#include "shm/base/crc32c.h"

struct fetched_answer {
	bool come;
	enum err why;
	struct spool_fetched *got;
};

static void
fetch_take(void *arg, enum err why, struct spool_fetched *got)
{
	struct fetched_answer *a = arg;

	assert_false(a->come);
	assert_int_equal(got != NULL, why == OK);
	a->come = true;
	a->why = why;
	a->got = got;
}

static struct fetched_answer
fetch(struct fixture *f, msgid_t id, struct place place, uint16_t item)
{
	struct fetched_answer a = { 0 };

	assert_non_null(spool_fetch(f->sp, id, place, item, fetch_take, &a));
	assert_false(a.come);
	while (!a.come)
		fixture_turn(f);
	return a;
}

static int64_t
cold_reads(const struct fixture *f)
{
	return slot_get(shm_slot(f->area, f->conf.slot), CELL_COLD_READS);
}

static void
text_fill(struct bytes *b, size_t n)
{
	char *p = bytes_room(b, n);

	for (size_t i = 0; i < n; i++)
		p[i] = (char)(i * 7 + i / 251);
	b->n = n;
}

static void
what_was_written_comes_back(void **state)
{
	static const size_t sizes[] = { 0, 1, 5000, 16000, 17000, 100000, 262144 };
	struct fixture f;

	(void)state;
	fixture_init(&f);
	f.conf.segment_size = 4 << 20;
	fixture_open(&f);
	for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
		struct answer a = { 0 };
		struct bytes body = { 0 };
		text_fill(&body, sizes[i]);
		assert_int_equal(submit_message(&f, i + 1, SLICE("H: 1\r\n\r\n"), slice_bytes(&body), &a), OK);
		answers_await(&f, &a, 1);
		for (int again = 0; again < 2; again++) {
			struct fetched_answer r = fetch(&f, i + 1, a.place, 0);
			assert_int_equal(r.why, OK);
			assert_true(slice_eq(r.got->header, SLICE("H: 1\r\n\r\n")));
			assert_true(slice_eq(r.got->body, slice_bytes(&body)));
			assert_true(slice_eq(r.got->message.rcpt, SLICE("b@example.com")));
			assert_int_equal(r.got->body_fd, -1);
			assert_int_equal(r.got->conn_ctx.n, 0);
			spool_fetched_free(&r.got);
		}
		bytes_fini(&body);
	}
	fixture_fini(&f);
}

static void
what_is_in_memory_needs_no_thread(void **state)
{
	struct fixture f;
	struct answer a = { 0 };
	struct fetched_answer r;

	(void)state;
	fixture_init(&f);
	fixture_open(&f);
	assert_int_equal(submit_message(&f, 1, SLICE("\r\n"), SLICE("x"), &a), OK);
	answers_await(&f, &a, 1);
	r = fetch(&f, 1, a.place, 0); /* its file is not open yet */
	assert_int_equal(r.why, OK);
	spool_fetched_free(&r.got);
	assert_int_equal(cold_reads(&f), 1);
	r = fetch(&f, 1, a.place, 0);
	assert_int_equal(r.why, OK);
	spool_fetched_free(&r.got);
	assert_int_equal(cold_reads(&f), 1);
	fixture_fini(&f);
}

static void
on_soon(void *arg)
{
	++*(int *)arg;
}

static void
a_loop_that_wakes_itself_needs_no_event(void **state)
{
	struct fixture f;
	struct answer a = { 0 };
	struct fetched_answer r, both[3] = { 0 };
	struct pollfd p = { .events = POLLIN };
	int asked = 0;

	(void)state;
	fixture_init(&f);
	f.conf.soon = on_soon;
	f.conf.soon_arg = &asked;
	fixture_open(&f);
	assert_int_equal(submit_message(&f, 1, SLICE("\r\n"), SLICE("x"), &a), OK);
	answers_await(&f, &a, 1);
	r = fetch(&f, 1, a.place, 0); /* opens its file */
	spool_fetched_free(&r.got);
	assert_int_equal(asked, 0);
	for (int i = 0; i < 3; i++)
		assert_non_null(spool_fetch(f.sp, 1, a.place, 0, fetch_take, &both[i]));
	assert_int_equal(asked, 1); /* once for all */
	p.fd = spool_event_fd(f.sp);
	assert_int_equal(poll(&p, 1, 0), 0);
	assert_false(both[0].come);
	spool_on_soon(f.sp);
	for (int i = 0; i < 3; i++) {
		assert_true(both[i].come);
		assert_int_equal(both[i].why, OK);
		spool_fetched_free(&both[i].got);
	}
	/* Closing runs what is still owed. */
	both[0].come = false;
	assert_non_null(spool_fetch(f.sp, 1, a.place, 0, fetch_take, &both[0]));
	spool_close(&f.sp);
	assert_true(both[0].come);
	spool_fetched_free(&both[0].got);
	fixture_fini(&f);
}

static void
each_recipient_has_its_own(void **state)
{
	struct fixture f;
	struct answer a = { 0 };
	struct spool_txn *txn;
	uint16_t shared, body, own, ctx, conn;

	(void)state;
	fixture_init(&f);
	fixture_open(&f);
	txn = spool_txn_new(f.sp);
	shared = spool_txn_blob(txn, SLICE("H: shared\r\n\r\n"));
	own = spool_txn_blob(txn, SLICE("H: own\r\n\r\n"));
	body = spool_txn_blob(txn, SLICE("body"));
	conn = spool_txn_blob(txn, SLICE("{conn}"));
	ctx = spool_txn_blob(txn, SLICE("{msg}"));
	for (unsigned i = 0; i < 300; i++) {
		char rcpt[32];
		snprintf(rcpt, sizeof rcpt, "r%u@example.com", i);
		struct spool_message m = message_of(1000 + i, rcpt);
		m.header_blob = i == 250 ? own : shared;
		m.body_blob = body;
		m.conn_ctx_blob = conn;
		m.ctx_blob = ctx;
		assert_int_equal(spool_txn_message(txn, &m), i);
	}
	assert_int_equal(spool_submit(txn, answer_take, &a), OK);
	answers_await(&f, &a, 1);
	for (uint16_t i = 0; i < 300; i += 50) {
		struct fetched_answer r = fetch(&f, 1000u + i, a.place, i);
		assert_int_equal(r.why, OK);
		assert_true(slice_eq(r.got->header, i == 250 ? SLICE("H: own\r\n\r\n") : SLICE("H: shared\r\n\r\n")));
		assert_true(slice_eq(r.got->body, SLICE("body")));
		assert_true(slice_eq(r.got->conn_ctx, SLICE("{conn}")));
		assert_true(slice_eq(r.got->ctx, SLICE("{msg}")));
		/* Of the record's other bytes nothing is held on to. */
		assert_in_range(malloc_usable_size(r.got), sizeof *r.got, sizeof *r.got + 512);
		spool_fetched_free(&r.got);
	}
	fixture_fini(&f);
}

static void
another_id_at_the_place_is_not_found(void **state)
{
	struct fixture f;
	struct answer a = { 0 }, o = { 0 };
	struct place off, gone;

	(void)state;
	fixture_init(&f);
	fixture_open(&f);
	assert_int_equal(submit_message(&f, 1, SLICE("\r\n"), SLICE("x"), &a), OK);
	assert_int_equal(submit_outcome(&f, 1, (struct place){ 1, 1 }, &o), OK);
	answers_await(&f, &a, 1);
	answers_await(&f, &o, 1);
	off = (struct place){ a.place.seg, a.place.off + 8 };
	gone = (struct place){ a.place.seg + 5, a.place.off };
	for (int again = 0; again < 2; again++) {
		assert_int_equal(fetch(&f, 2, a.place, 0).why, ERR_NOTFOUND);
		assert_int_equal(fetch(&f, 1, a.place, 1).why, ERR_NOTFOUND);
		assert_int_equal(fetch(&f, 1, o.place, 0).why, ERR_NOTFOUND);
		assert_int_equal(fetch(&f, 1, off, 0).why, ERR_NOTFOUND);
		assert_int_equal(fetch(&f, 1, gone, 0).why, ERR_NOTFOUND);
		assert_int_equal(fetch(&f, 1, (struct place){ 0, 0 }, 0).why, ERR_NOTFOUND);
	}
	fixture_fini(&f);
}

static void
byte_flip(struct fixture *f, struct place at, uint32_t add)
{
	char name[SEGMENT_NAME], c;
	int fd;

	segment_name(SEGFILE_SEG, at.seg, name);
	fd = openat(f->journal, name, O_RDWR | O_CLOEXEC);
	assert_int_equal(pread(fd, &c, 1, at.off + add), 1);
	c ^= 1;
	assert_int_equal(pwrite(fd, &c, 1, at.off + add), 1);
	close(fd);
}

static void
damage_is_seen_by_who_reads_it(void **state)
{
	struct fixture f;
	struct answer a = { 0 };
	struct bytes body = { 0 }, file;
	struct spool_item item;
	struct record_head h;
	uint32_t bytes[4];
	struct fetched_answer r;

	(void)state;
	fixture_init(&f);
	f.conf.segment_size = 1 << 20;
	fixture_open(&f);
	text_fill(&body, 50000);
	assert_int_equal(submit_message(&f, 1, SLICE("\r\n"), slice_bytes(&body), &a), OK);
	answers_await(&f, &a, 1);
	h = record_at(&f, a.place, &file, &item);
	bytes[0] = 30;                                        /* head */
	bytes[1] = RECORD_HEAD + 10;                          /* items */
	bytes[2] = RECORD_HEAD + h.meta_len + 20;             /* blob table */
	bytes[3] = RECORD_HEAD + h.meta_len + h.blob_len - 9; /* body */
	for (int i = 0; i < 4; i++) {
		byte_flip(&f, a.place, bytes[i]);
		assert_int_equal(fetch(&f, 1, a.place, 0).why, ERR_DAMAGED);
		byte_flip(&f, a.place, bytes[i]);
		r = fetch(&f, 1, a.place, 0);
		assert_int_equal(r.why, OK);
		spool_fetched_free(&r.got);
	}
	bytes_fini(&file);
	bytes_fini(&body);
	fixture_fini(&f);
}

static void
a_recycled_file_is_not_taken_for_the_old(void **state)
{
	struct fixture f;
	struct answer a = { 0 };
	struct fetched_answer r;
	char from[SEGMENT_NAME], to[SEGMENT_NAME];

	(void)state;
	fixture_init(&f);
	fixture_open(&f);
	assert_int_equal(submit_message(&f, 1, SLICE("\r\n"), SLICE("x"), &a), OK);
	answers_await(&f, &a, 1);
	r = fetch(&f, 1, a.place, 0); /* now its file is kept open */
	spool_fetched_free(&r.got);
	/* A copy takes its name; the open file is overwritten under another. */
	struct bytes file = file_of(&f, a.place.seg);
	segment_name(SEGFILE_SEG, a.place.seg, from);
	segment_name(SEGFILE_SEG, a.place.seg + 100, to);
	assert_int_equal(renameat(f.journal, from, f.journal, to), 0);
	byte_flip(&f, (struct place){ a.place.seg + 100, a.place.off }, 16);
	int fd = openat(f.journal, from, O_CREAT | O_WRONLY | O_CLOEXEC, 0600);
	assert_int_equal(segment_write(fd, 0, file.p, file.n), OK);
	close(fd);
	r = fetch(&f, 1, a.place, 0);
	assert_int_equal(r.why, OK);
	spool_fetched_free(&r.got);
	bytes_fini(&file);
	fixture_fini(&f);
}

static void
a_cancelled_fetch_is_silent(void **state)
{
	struct fixture f;
	struct answer a = { 0 };
	struct fetched_answer r = { 0 };

	(void)state;
	fixture_init(&f);
	fixture_open(&f);
	assert_int_equal(submit_message(&f, 1, SLICE("\r\n"), SLICE("x"), &a), OK);
	answers_await(&f, &a, 1);
	for (int again = 0; again < 2; again++) { /* cold, then warm */
		struct spool_fetch *q = spool_fetch(f.sp, 1, a.place, 0, fetch_take, &r);
		spool_fetch_cancel(&q);
		assert_null(q);
		fixture_turn(&f);
	}
	assert_false(r.come);
	fixture_fini(&f);
}

static void
a_disk_that_cannot_be_read_is_an_error(void **state)
{
	struct fixture f;
	struct answer a = { 0 };

	(void)state;
	fixture_init(&f);
	fixture_open(&f);
	assert_int_equal(submit_message(&f, 1, SLICE("\r\n"), SLICE("x"), &a), OK);
	answers_await(&f, &a, 1);
	faults("read.cold=EIO");
	assert_int_equal(fetch(&f, 1, a.place, 0).why, ERR_IO);
	faults(NULL);
	fixture_fini(&f);
}

static void
more_segments_than_are_kept_open(void **state)
{
	enum { N = 60 };
	static struct answer a[N];
	struct fixture f;
	struct bytes body = { 0 };

	(void)state;
	memset(a, 0, sizeof a);
	fixture_init(&f);
	fixture_open(&f);
	text_fill(&body, 60000); /* one a segment */
	for (int i = 0; i < N; i++) {
		assert_int_equal(submit_message(&f, (msgid_t)i + 1, SLICE("\r\n"), slice_bytes(&body), &a[i]), OK);
		answers_await(&f, &a[i], 1);
	}
	assert_true(a[N - 1].place.seg >= a[0].place.seg + N - 1);
	for (int round = 0; round < 2; round++)
		for (int i = 0; i < N; i++) {
			struct fetched_answer r = fetch(&f, (msgid_t)i + 1, a[i].place, 0);
			assert_int_equal(r.why, OK);
			spool_fetched_free(&r.got);
		}
	bytes_fini(&body);
	fixture_fini(&f);
}

static void
add_one(void *arg)
{
	int *n = arg;

	(*n)++;
}

static void
cold_jobs_run_in_order_and_report(void **state)
{
	struct fixture f;
	int ran = 0, done = 0;

	(void)state;
	fixture_init(&f);
	fixture_open(&f);
	spool_run_cold(f.sp, add_one, NULL, &ran);
	spool_run_cold(f.sp, add_one, add_one, &done);
	fixture_turn(&f); /* one answer, for the one that wants it */
	assert_int_equal(done, 2);
	assert_int_equal(ran, 1);
	fixture_fini(&f);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(what_was_written_comes_back),
		cmocka_unit_test(what_is_in_memory_needs_no_thread),
		cmocka_unit_test(a_loop_that_wakes_itself_needs_no_event),
		cmocka_unit_test(each_recipient_has_its_own),
		cmocka_unit_test(another_id_at_the_place_is_not_found),
		cmocka_unit_test(damage_is_seen_by_who_reads_it),
		cmocka_unit_test(a_recycled_file_is_not_taken_for_the_old),
		cmocka_unit_test(a_cancelled_fetch_is_silent),
		cmocka_unit_test(a_disk_that_cannot_be_read_is_an_error),
		cmocka_unit_test(more_segments_than_are_kept_open),
		cmocka_unit_test(cold_jobs_run_in_order_and_report),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
