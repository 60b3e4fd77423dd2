/* Large bodies: written as they arrive, on disk before the record that names them, gone with what was not taken. */
#include "t/unit/spool/spool_fixture.h"

#include "shm/base/crc32c.h"

enum { BIG = 3 << 20 };

static void
count_room(void *arg)
{
	int *n = arg;

	(*n)++;
}

static char *
big_text(void)
{
	char *p = mem_alloc(BIG);

	for (size_t i = 0; i < BIG; i++)
		p[i] = (char)(i * 31 + i / 4093);
	return p;
}

/* Appends all of it, waiting whenever it is told to. */
static void
append_all(struct fixture *f, struct spool_body *b, const char *p, const int *room)
{
	int rooms = *room, again = 0;

	for (size_t at = 0; at < BIG; at += 10000) {
		size_t n = BIG - at < 10000 ? BIG - at : 10000;
		enum err e = spool_body_append(b, slice_of(p + at, n));
		if (e == OK)
			continue;
		assert_int_equal(e, ERR_AGAIN);
		again++;
		while (*room == rooms)
			fixture_turn(f);
		rooms = *room;
	}
	assert_true(again > 0);
	assert_int_equal(spool_body_size(b), BIG);
}

static enum err
submit_body(struct fixture *f, struct spool_body **b, struct answer *a)
{
	struct spool_txn *txn = spool_txn_new(f->sp);
	struct spool_message m = message_of(9, "b@example.com");
	char header[] = "H: x\r\n\r\n";
	enum err e;

	m.header_blob = spool_txn_blob(txn, slice_str(header));
	m.body_blob = spool_txn_body(txn, b);
	assert_null(*b);
	spool_txn_message(txn, &m);
	e = spool_submit(txn, answer_take, a);
	memset(header, '?', sizeof header); /* it was borrowed till here only */
	return e;
}

static void
fetch_take(void *arg, enum err why, struct spool_fetched *got)
{
	struct spool_fetched **out = arg;

	assert_int_equal(why, OK);
	*out = got;
}

static void
a_streamed_body_comes_back(void **state)
{
	struct fixture f;
	struct answer a = { 0 };
	struct spool_body *b;
	struct spool_fetched *got = NULL;
	char *text = big_text(), *back = mem_alloc(BIG);
	size_t n;
	int room = 0;

	(void)state;
	fixture_init(&f);
	fixture_open(&f);
	b = spool_body_new(f.sp, count_room, &room);
	append_all(&f, b, text, &room);
	assert_int_equal(submit_body(&f, &b, &a), OK);
	assert_false(a.come);
	answers_await(&f, &a, 1);
	assert_int_equal(a.why, OK);
	spool_fetch(f.sp, 9, a.place, 0, fetch_take, &got);
	while (got == NULL)
		fixture_turn(&f);
	assert_true(slice_eq(got->header, SLICE("H: x\r\n\r\n")));
	assert_true(got->body_fd >= 0 && got->body_len == BIG);
	assert_int_equal(segment_read(got->body_fd, got->body_off, back, BIG, &n), OK);
	assert_int_equal(n, BIG);
	assert_memory_equal(back, text, BIG);
	assert_int_equal(crc32c(0, back, BIG), got->body_crc);
	assert_int_equal(spool_body_read(got, BIG - 5, back, 100, &n), OK);
	assert_int_equal(n, 5);
	assert_memory_equal(back, text + BIG - 5, 5);
	assert_int_equal(spool_body_read(got, BIG, back, 100, &n), OK);
	assert_int_equal(n, 0);
	spool_fetched_free(&got);
	free(text);
	free(back);
	fixture_fini(&f);
}

static void
what_is_not_taken_leaves_no_file(void **state)
{
	struct fixture f;
	struct spool_body *b;
	struct spool_txn *txn;
	char *text = big_text();
	int room = 0;

	(void)state;
	fixture_init(&f);
	fixture_open(&f);
	b = spool_body_new(f.sp, count_room, &room);
	append_all(&f, b, text, &room);
	spool_body_free(&b); /* while it is being written */
	b = spool_body_new(f.sp, count_room, &room);
	append_all(&f, b, text, &room);
	txn = spool_txn_new(f.sp);
	spool_txn_body(txn, &b);
	spool_txn_free(&txn);
	b = spool_body_new(f.sp, count_room, &room); /* never used */
	spool_body_free(&b);
	spool_close(&f.sp);
	assert_int_equal(files_count(&f, SEGFILE_SEG), 0);
	assert_int_equal(files_count(&f, SEGFILE_PREP), 0);
	free(text);
	fixture_fini(&f);
}

struct readable {
	bool come;
	enum err why;
	int fd;
};

static void
readable_take(void *arg, enum err why, int fd)
{
	struct readable *r = arg;

	*r = (struct readable){ true, why, fd };
}

static void
a_body_can_be_read_before_it_is_submitted(void **state)
{
	struct fixture f;
	struct spool_body *b;
	struct readable r = { 0 };
	struct answer a = { 0 };
	char *text = big_text(), *back = mem_alloc(BIG);
	size_t n;
	int room = 0;

	(void)state;
	fixture_init(&f);
	fixture_open(&f);
	b = spool_body_new(f.sp, count_room, &room);
	append_all(&f, b, text, &room);
	spool_body_written(b, readable_take, &r);
	while (!r.come)
		fixture_turn(&f);
	assert_int_equal(r.why, OK);
	assert_int_equal(segment_read(r.fd, SEGMENT_HEAD, back, BIG, &n), OK);
	assert_int_equal(n, BIG);
	assert_memory_equal(back, text, BIG);
	assert_int_equal(submit_body(&f, &b, &a), OK);
	answers_await(&f, &a, 1);
	assert_int_equal(a.why, OK);
	free(text);
	free(back);
	fixture_fini(&f);
}

static void
a_failing_disk_refuses_the_message(void **state)
{
	static const struct {
		const char *rules;
		enum err want;
		int left; /* a journal, with the END of a failed one */
	} rows[] = { { "body.create=ENOSPC", ERR_FULL, 0 },
		     { "body.write=EIO@3", ERR_IO, 0 },
		     { "body.sync=EIO", ERR_IO, 0 },
		     { "body.sync=ENOSPC", ERR_FULL, 0 },
		     { "journal.sync=EIO", ERR_IO, 1 } };
	char *text = big_text();

	(void)state;
	for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
		struct fixture f;
		struct answer a = { 0 };
		struct spool_body *b;
		int room = 0;
		fixture_init(&f);
		fixture_open(&f);
		faults(rows[i].rules);
		b = spool_body_new(f.sp, count_room, &room);
		for (size_t at = 0; at < BIG / 2; at += 100000)
			if (spool_body_append(b, slice_of(text + at, 100000)) > ERR_AGAIN)
				break;
		assert_int_equal(submit_body(&f, &b, &a), OK);
		answers_await(&f, &a, 1);
		assert_int_equal(a.why, rows[i].want);
		faults(NULL);
		spool_close(&f.sp);
		assert_int_equal(files_count(&f, SEGFILE_SEG), rows[i].left);
		fixture_fini(&f);
	}
	free(text);
}

static void
a_failed_body_says_so_to_who_appends(void **state)
{
	struct fixture f;
	struct spool_body *b;
	char *text = big_text();
	enum err e = OK;
	int room = 0;

	(void)state;
	fixture_init(&f);
	fixture_open(&f);
	faults("body.write=ENOSPC");
	b = spool_body_new(f.sp, count_room, &room);
	while ((e = spool_body_append(b, slice_of(text, 200000))) == OK)
		;
	assert_int_equal(e, ERR_AGAIN);
	while (room == 0)
		fixture_turn(&f);
	assert_int_equal(spool_body_append(b, slice_of(text, 1)), ERR_FULL);
	spool_body_free(&b);
	faults(NULL);
	free(text);
	fixture_fini(&f);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_streamed_body_comes_back),
		cmocka_unit_test(what_is_not_taken_leaves_no_file),
		cmocka_unit_test(a_body_can_be_read_before_it_is_submitted),
		cmocka_unit_test(a_failing_disk_refuses_the_message),
		cmocka_unit_test(a_failed_body_says_so_to_who_appends),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
