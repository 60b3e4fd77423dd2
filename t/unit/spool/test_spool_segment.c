/* Segment files: names, numbers, heads, spares, seals, and that a failure leaves nothing behind. */
#include "t/unit/spool/spool_fixture.h"

static void
maker_init(struct fixture *f, struct segment_maker *m)
{
	*m = (struct segment_maker){
		.dirfd = f->journal, .slot = 3, .generation = 5, .writer = 77, .highest = shm_segment_highest(f->area)
	};
	assert_int_equal(segment_maker_start(m, 0), OK);
}

static void
names_are_read_back(void **state)
{
	static const struct {
		const char *name;
		enum segment_file what;
		uint32_t number;
	} rows[] = {
		{ "0000000001.seg", SEGFILE_SEG, 1 },
		{ "4294967295.toc", SEGFILE_TOC, UINT32_MAX },
		{ "0000000012.ended", SEGFILE_ENDED, 12 },
		{ "spare.7", SEGFILE_SPARE, 7 },
		{ "prep.3.0", SEGFILE_PREP, 3 },
		{ "reserve.63", SEGFILE_RESERVE, 63 },
		{ "0000000000.seg", SEGFILE_OTHER, 0 },
		{ "4294967296.seg", SEGFILE_OTHER, 0 },
		{ "000000001.seg", SEGFILE_OTHER, 0 },
		{ "0000000001.seg2", SEGFILE_OTHER, 0 },
		{ "0000000001", SEGFILE_OTHER, 0 },
		{ "spare.", SEGFILE_OTHER, 0 },
		{ "..", SEGFILE_OTHER, 0 },
		{ "", SEGFILE_OTHER, 0 },
	};
	char name[SEGMENT_NAME];

	(void)state;
	for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
		uint32_t number = 0;
		assert_int_equal(segment_name_parse(rows[i].name, &number), rows[i].what);
		if (rows[i].what == SEGFILE_OTHER)
			continue;
		assert_int_equal(number, rows[i].number);
		if (rows[i].what <= SEGFILE_SPARE) {
			segment_name(rows[i].what, number, name);
			assert_string_equal(name, rows[i].name);
		}
	}
}

static void
a_new_segment_is_zeroed_and_has_its_head(void **state)
{
	struct fixture f;
	struct segment_maker m;
	struct segment s;
	struct segment_head h;
	struct bytes file;

	(void)state;
	fixture_init(&f);
	maker_init(&f, &m);
	assert_int_equal(segment_make(&m, SEGMENT_JOURNAL, 65536, 12345, &s), OK);
	assert_int_equal(segment_head_load(s.fd, s.number, &h), OK);
	assert_true(h.kind == SEGMENT_JOURNAL && h.slot == 3 && h.generation == 5 && h.writer == 77 &&
		    h.id_floor == 12345 && h.size == 65536 && !h.seal.sealed);
	assert_int_equal(segment_head_load(s.fd, s.number + 1, &h), ERR_DAMAGED);
	file = file_of(&f, s.number);
	assert_int_equal(file.n, 65536);
	for (size_t i = SEGMENT_HEAD; i < file.n; i++)
		assert_int_equal(file.p[i], 0);
	assert_int_equal(files_count(&f, SEGFILE_PREP), 0);
	for (size_t i = 0; i < 52; i++) { /* every byte of the head counts */
		file.p[i] ^= 4;
		assert_int_not_equal(segment_head_read(slice_bytes(&file), s.number, &h), OK);
		file.p[i] ^= 4;
	}
	bytes_fini(&file);
	segment_close(&s);
	fixture_fini(&f);
}

/* The zeroes go past the page cache where they can; what cannot (a last piece that is no whole page) and all records do
 * not. */
static void
any_size_is_zeroed_and_written_as_usual_afterwards(void **state)
{
	static const uint64_t sizes[] = { 65536, 65537, (1 << 20) + 4096, (2 << 20) + 100 };
	struct fixture f;
	struct segment_maker m;
	struct segment s;
	struct bytes file;

	(void)state;
	fixture_init(&f);
	maker_init(&f, &m);
	for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
		assert_int_equal(segment_make(&m, SEGMENT_JOURNAL, sizes[i], 1, &s), OK);
		assert_int_equal(fcntl(s.fd, F_GETFL) & O_DIRECT, 0);
		assert_int_equal(segment_write(s.fd, SEGMENT_HEAD + 1, "record", 6), OK);
		file = file_of(&f, s.number);
		assert_int_equal(file.n, sizes[i]);
		assert_memory_equal(file.p + SEGMENT_HEAD, "\0record\0", 8);
		for (size_t at = SEGMENT_HEAD + 7; at < file.n; at++)
			assert_true(file.p[at] == 0);
		bytes_fini(&file);
		segment_close(&s);
	}
	fixture_fini(&f);
}

static void
a_number_is_never_used_twice(void **state)
{
	struct fixture f;
	struct segment_maker m, other;
	struct segment s;
	uint32_t first;
	int fd;

	(void)state;
	fixture_init(&f);
	maker_init(&f, &m);
	assert_int_equal(segment_make(&m, SEGMENT_BODY, 0, 0, &s), OK);
	first = s.number;
	segment_drop(&m, &s); /* gone from the directory, but it has been */
	maker_init(&f, &other);
	assert_int_equal(segment_make(&other, SEGMENT_BODY, 0, 0, &s), OK);
	assert_int_equal(s.number, first + 1);
	segment_close(&s);
	/* A file that the counter does not know of is not replaced. */
	fd = openat(f.journal, "0000000003.seg", O_CREAT | O_WRONLY | O_CLOEXEC, 0600);
	assert_int_equal(write(fd, "x", 1), 1);
	close(fd);
	assert_int_equal(segment_make(&m, SEGMENT_BODY, 0, 0, &s), OK);
	assert_int_equal(s.number, 4);
	segment_close(&s);
	/* A start counts every sort of file, and what the index knows. */
	close(openat(f.journal, "0000000090.ended", O_CREAT | O_WRONLY | O_CLOEXEC, 0600));
	maker_init(&f, &other);
	assert_int_equal(atomic_load(other.highest), 90);
	assert_int_equal(segment_maker_start(&other, 1000), OK);
	assert_int_equal(atomic_load(other.highest), 1000);
	fixture_fini(&f);
}

static void
a_spare_is_taken_and_its_old_bytes_are_no_records(void **state)
{
	struct fixture f;
	struct segment_maker m;
	struct segment old, s, small;
	struct record r = { 0 };
	struct record_head h;
	struct spool_end end = { 1, 2 };
	struct segment_head head;
	struct bytes file;
	char record[256];

	(void)state;
	fixture_init(&f);
	maker_init(&f, &m);
	assert_int_equal(segment_make(&m, SEGMENT_JOURNAL, 65536, 0, &old), OK);
	record_add_end(&r, &end);
	record_encode(&r, record);
	record_seal(record, (struct place){ old.number, SEGMENT_HEAD }, SEGMENT_HEAD, 1);
	assert_int_equal(segment_write(old.fd, SEGMENT_HEAD, record, record_encoded_size(&r)), OK);
	assert_int_equal(segment_seal(&old, SEGMENT_HEAD + (uint32_t)record_encoded_size(&r), slice_of(NULL, 0), 1),
			 OK);
	assert_int_equal(segment_to_spare(f.journal, old.number), OK);
	/* Too small for this one: made anew. */
	assert_int_equal(segment_make(&m, SEGMENT_JOURNAL, 131072, 0, &small), OK);
	assert_int_equal(files_count(&f, SEGFILE_SPARE), 1);
	assert_int_equal(segment_make(&m, SEGMENT_JOURNAL, 65536, 0, &s), OK);
	assert_int_equal(files_count(&f, SEGFILE_SPARE), 0);
	assert_true(s.number > old.number);
	assert_int_equal(segment_head_load(s.fd, s.number, &head), OK);
	assert_false(head.seal.sealed);
	file = file_of(&f, s.number);
	assert_int_equal(
		record_head_read(slice_of(file.p + SEGMENT_HEAD, 200), (struct place){ old.number, SEGMENT_HEAD }, &h),
		OK); /* the bytes are there ... */
	assert_int_equal(
		record_head_read(slice_of(file.p + SEGMENT_HEAD, 200), (struct place){ s.number, SEGMENT_HEAD }, &h),
		ERR_NOTFOUND); /* ... and do not pass */
	bytes_fini(&file);
	record_fini(&r);
	segment_close(&old);
	segment_close(&s);
	segment_close(&small);
	fixture_fini(&f);
}

static void
a_failure_leaves_nothing_behind(void **state)
{
	static const struct {
		const char *rules;
		enum err want;
	} rows[] = { { "segment.create=EIO", ERR_IO },
		     { "segment.fill=ENOSPC", ERR_FULL },
		     { "segment.sync=EIO", ERR_IO },
		     { "segment.dirsync=EIO", ERR_IO },
		     { "segment.create=EMFILE", ERR_IO } };
	struct fixture f;
	struct segment_maker m;
	struct segment s;

	(void)state;
	fixture_init(&f);
	maker_init(&f, &m);
	for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
		faults(rows[i].rules);
		assert_int_equal(segment_make(&m, SEGMENT_JOURNAL, 65536, 0, &s), rows[i].want);
		assert_int_equal(files_count(&f, SEGFILE_SEG) + files_count(&f, SEGFILE_PREP), 0);
	}
	faults(NULL);
	fixture_fini(&f);
}

static void
a_start_removes_what_its_slot_left_unfinished(void **state)
{
	struct fixture f;
	struct segment_maker m;

	(void)state;
	fixture_init(&f);
	close(openat(f.journal, "prep.3.9", O_CREAT | O_WRONLY | O_CLOEXEC, 0600));
	close(openat(f.journal, "prep.4.0", O_CREAT | O_WRONLY | O_CLOEXEC, 0600));
	maker_init(&f, &m);
	assert_int_equal(files_count(&f, SEGFILE_PREP), 1);
	assert_int_equal(faccessat(f.journal, "prep.4.0", F_OK, 0), 0);
	fixture_fini(&f);
}

/* A journal segment of slot 3 with one record for each of n ids; sealed or not. */
static void
segment_with_ids(struct segment_maker *m, msgid_t floor, int n, msgid_t first, bool sealed)
{
	struct segment s;
	struct record r = { 0 };
	struct spool_end end = { 1, 2 };
	uint32_t off = SEGMENT_HEAD;
	char record[256];

	assert_int_equal(segment_make(m, SEGMENT_JOURNAL, 65536, floor, &s), OK);
	record_add_end(&r, &end);
	for (int i = 0; i < n; i++) {
		record_encode(&r, record);
		record_seal(record, (struct place){ s.number, off }, off, first + (msgid_t)i);
		assert_int_equal(segment_write(s.fd, off, record, record_encoded_size(&r)), OK);
		off += (uint32_t)record_encoded_size(&r);
	}
	if (sealed)
		assert_int_equal(segment_seal(&s, off, slice_of(NULL, 0), first + (msgid_t)n), OK);
	segment_close(&s);
	record_fini(&r);
}

static void
the_highest_id_is_found(void **state)
{
	struct fixture f;
	struct segment_maker m;
	msgid_t high = 0;

	(void)state;
	fixture_init(&f);
	maker_init(&f, &m);
	assert_int_equal(segment_id_floor(f.journal, 3, &high), OK);
	assert_true(high == 0);
	segment_with_ids(&m, 10, 5000 / 80, 100, false); /* not sealed: its records are walked */
	segment_with_ids(&m, 20, 0, 0, false);           /* made in advance, never written */
	assert_int_equal(segment_id_floor(f.journal, 3, &high), OK);
	assert_true(high == 100 + 5000 / 80 - 1);
	m.slot = 4; /* another slot's says only what its head says */
	segment_with_ids(&m, 30, 3, 5000, false);
	assert_int_equal(segment_id_floor(f.journal, 3, &high), OK);
	assert_true(high == 100 + 5000 / 80 - 1);
	assert_int_equal(segment_id_floor(f.journal, 4, &high), OK);
	assert_true(high == 5002);
	m.slot = 3;
	segment_with_ids(&m, 40, 2, 9000, true);
	assert_int_equal(segment_id_floor(f.journal, 3, &high), OK);
	assert_true(high == 9002);
	fixture_fini(&f);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(names_are_read_back),
		cmocka_unit_test(a_new_segment_is_zeroed_and_has_its_head),
		cmocka_unit_test(any_size_is_zeroed_and_written_as_usual_afterwards),
		cmocka_unit_test(a_number_is_never_used_twice),
		cmocka_unit_test(a_spare_is_taken_and_its_old_bytes_are_no_records),
		cmocka_unit_test(a_failure_leaves_nothing_behind),
		cmocka_unit_test(a_start_removes_what_its_slot_left_unfinished),
		cmocka_unit_test(the_highest_id_is_found),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
