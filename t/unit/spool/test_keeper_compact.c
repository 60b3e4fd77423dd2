/* spool/spool_keeper: mostly dead segments are compacted, and nothing is lost or comes back by it. */
#include "keeper_fixture.h"

#include <sys/wait.h>

enum { LIVE = 1, HELD = 2, TRIED = 3, DEAD_FIRST = 10, DEAD_LAST = 30 };

/* A keeper that compacts whenever it is asked to settle. */
static void
begin(struct kfix *f)
{
	kfix_init(f);
	f->conf.compact_every = 1;
}

/* One segment with a few that live and many that are over, its writer gone; the others' outcomes stand elsewhere. */
static struct place
mostly_dead(struct kfix *f)
{
	struct place live = put_message(f, 1, LIVE), held = put_message(f, 1, HELD), tried = put_message(f, 1, TRIED);

	for (msgid_t id = DEAD_FIRST; id <= DEAD_LAST; id++) {
		struct place p = put_message(f, 1, id);

		put_outcome(f, 2, id, 1, OUTCOME_DELIVERED, p);
	}
	put_edit(f, 2, HELD, EDIT_HOLD, 100, held);
	put_attempt(f, 3, TRIED, 1, tried);
	put_outcome(f, 3, TRIED, 1, OUTCOME_DEFERRED, tried);
	for (uint64_t w = 1; w <= 3; w++)
		writer_sync(f, w);
	writer_die(f, 1);
	return live;
}

static struct index_row
row_get(struct kfix *f, msgid_t id)
{
	struct index_txn *t = map_begin(f);
	struct index_row row, *kept;

	assert_int_equal(index_message_get(t, id, &row), OK);
	kept = index_row_dup(&row);
	index_end(&t);
	row = *kept;
	free(kept);
	row.sender = row.rcpt = row.binding = row.domain = row.reason = SLICE("");
	return row;
}

static void
lose_index(struct kfix *f)
{
	keeper_close(&f->k);
	assert_int_equal(unlink("index/data.mdb"), 0);
	kfix_settle(f);
	assert_false(keeper_rebuilding(f->k));
}

/* The message stands whole at the place that its row names. */
static void
readable(struct kfix *f, msgid_t id)
{
	struct index_row row = row_get(f, id);
	struct record_head h;
	struct spool_item it;
	struct blob_ref ref;
	char buf[16384];
	size_t got;
	int fd = segment_open(f->base.journal, row.place.seg);

	assert_true(fd >= 0);
	assert_int_equal(segment_read(fd, row.place.off, buf, sizeof(buf), &got), OK);
	close(fd);
	assert_int_equal(record_check(slice_of(buf, got), row.place, &h), OK);
	assert_int_equal(item_get(&h, slice_of(buf + RECORD_HEAD, h.meta_len), row.item, &it), OK);
	assert_int_equal(it.kind, ITEM_MESSAGE);
	assert_int_equal(it.message.id, id);
	assert_int_equal(
		blob_table_get(&h, slice_of(buf + RECORD_HEAD + h.meta_len, h.blob_len), it.message.body_blob, &ref),
		OK);
	assert_memory_equal(buf + ref.off, "a body of some bytes", 20);
}

/* Settles until the segment is gone, minutes apart: how much time compaction may take is bounded. */
static void
compacted(struct kfix *f, uint32_t seg)
{
	static usec_t ahead;

	kfix_settle(f);
	for (int i = 0; i < 20 && has_file(f, SEGFILE_SEG, seg); i++) {
		ahead += 60 * USEC_PER_SEC;
		assert_int_equal(keeper_settle(f->k, clock_mono() + ahead), OK);
	}
	assert_false(has_file(f, SEGFILE_SEG, seg));
}

static void
what_lives_moves_and_the_segment_goes(void **state)
{
	struct kfix f;
	struct place p;

	(void)state;
	begin(&f);
	p = mostly_dead(&f);
	writer_die(&f, 3); /* nothing but the copy says that it was tried */
	kfix_settle(&f);
	assert_false(has_file(&f, SEGFILE_SEG, f.w[2].seg.number));
	keeper_close(&f.k);
	f.conf.spares = 4;
	compacted(&f, p.seg);
	assert_int_equal(files_count(&f.base, SEGFILE_SPARE), 0); /* somebody may be reading there */
	for (int rebuilt = 0; rebuilt <= 1; rebuilt++) {
		assert_int_equal(map_state(&f, LIVE), ROW_QUEUED);
		assert_int_equal(map_state(&f, HELD), ROW_HELD);
		assert_int_equal(map_state(&f, TRIED), ROW_QUEUED);
		assert_int_equal(row_get(&f, TRIED).tries, 1);
		assert_int_equal(row_get(&f, TRIED).due, 5000);
		for (msgid_t id = DEAD_FIRST; id <= DEAD_LAST; id++)
			assert_int_equal(map_state(&f, id), ROW_STATES);
		for (msgid_t id = LIVE; id <= TRIED; id++)
			readable(&f, id);
		assert_int_equal(index_ledger_difference(&(struct index_ledger){ 0 }), 0);
		free(map_text(&f)); /* the ledger's difference is 0 */
		lose_index(&f);
	}
	kfix_fini(&f);
}

/* Its owner had it in memory when it moved, and ended it by its old place. */
static void
an_outcome_that_names_the_old_place_counts_for_good(void **state)
{
	(void)state;
	for (int how = 0; how < 2; how++) {
		struct kfix f;
		struct place p;
		uint32_t said;

		begin(&f);
		p = mostly_dead(&f);
		compacted(&f, p.seg);
		said = put_outcome(&f, 4, LIVE, 1, OUTCOME_DELIVERED, p).seg;
		writer_sync(&f, 4);
		kfix_settle(&f);
		assert_int_equal(map_state(&f, LIVE), ROW_STATES);
		if (how == 1) {
			/* nothing in it is needed any more: it goes, and what it said stays */
			writer_die(&f, 4);
			writer_begin(&f, 3); /* the newest stays */
			for (int i = 0; i < 20 && has_file(&f, SEGFILE_SEG, said); i++)
				kfix_settle(&f);
			assert_false(has_file(&f, SEGFILE_SEG, said));
		}
		lose_index(&f);
		assert_int_equal(map_state(&f, LIVE), ROW_STATES);
		assert_int_equal(map_state(&f, TRIED), ROW_QUEUED);
		kfix_fini(&f);
	}
}

/* A try by the old place that was put off: after a rebuild it is no doubt, though its record's segment has gone. */
static void
a_try_by_the_old_place_is_no_doubt(void **state)
{
	struct kfix f;
	struct place p;
	uint32_t said;

	(void)state;
	begin(&f);
	p = mostly_dead(&f);
	compacted(&f, p.seg);
	f.conf.compact_every = 0;
	keeper_close(&f.k);
	put_attempt(&f, 2, LIVE, 1, p);
	writer_sync(&f, 2);
	said = put_outcome(&f, 4, LIVE, 1, OUTCOME_DEFERRED, p).seg;
	writer_sync(&f, 4);
	kfix_settle(&f);
	assert_int_equal(row_get(&f, LIVE).tries, 1);
	writer_die(&f, 4);
	writer_begin(&f, 3); /* the newest stays */
	kfix_settle(&f);
	assert_false(has_file(&f, SEGFILE_SEG, said));
	writer_die(&f, 2);
	lose_index(&f);
	assert_int_equal(map_state(&f, LIVE), ROW_QUEUED);
	assert_int_equal(map_state(&f, HELD), ROW_HELD);
	kfix_fini(&f);
}

static void
what_is_in_work_or_fills_its_segment_stays(void **state)
{
	struct kfix f;
	struct place p;

	(void)state;
	begin(&f);
	p = mostly_dead(&f);
	put_attempt(&f, 4, LIVE, 1, p);
	writer_sync(&f, 4);
	for (int i = 0; i < 5; i++)
		kfix_settle(&f);
	assert_true(has_file(&f, SEGFILE_SEG, p.seg));
	assert_int_equal(row_get(&f, LIVE).place.seg, p.seg);
	assert_int_equal(row_get(&f, HELD).place.seg, p.seg);
	put_outcome(&f, 4, LIVE, 1, OUTCOME_DEFERRED, p);
	writer_sync(&f, 4);
	compacted(&f, p.seg);
	readable(&f, LIVE);
	kfix_fini(&f);

	begin(&f);
	for (msgid_t id = 1; id <= 100; id++)
		p = put_message(&f, 1, id);
	writer_sync(&f, 1);
	writer_die(&f, 1);
	for (int i = 0; i < 5; i++)
		kfix_settle(&f);
	assert_int_equal(row_get(&f, 100).place.seg, p.seg);
	for (msgid_t id = 10; id <= 100; id++)
		put_outcome(&f, 2, id, 1, OUTCOME_DELIVERED, p);
	writer_sync(&f, 2);
	compacted(&f, p.seg);
	for (msgid_t id = 1; id < 10; id++)
		readable(&f, id);
	kfix_fini(&f);
}

/* A sync that fails moves nothing; the next one does. */
static void
a_failed_sync_moves_nothing(void **state)
{
	struct kfix f;
	struct place p;

	(void)state;
	faults("none.such=kill");
	begin(&f);
	p = mostly_dead(&f);
	faults("compact.sync=EIO*");
	for (int i = 0; i < 5; i++)
		kfix_settle(&f);
	assert_int_equal(row_get(&f, LIVE).place.seg, p.seg);
	faults(NULL);
	writer_die(&f, 2); /* news: what was too full is looked at again */
	keeper_close(&f.k);
	compacted(&f, p.seg);
	lose_index(&f);
	for (msgid_t id = LIVE; id <= TRIED; id++)
		readable(&f, id);
	assert_int_equal(map_state(&f, HELD), ROW_HELD);
	assert_int_equal(map_state(&f, DEAD_FIRST), ROW_STATES);
	kfix_fini(&f);
}

/* Killed in the middle of it; what the owner then says by the old place counts, also after a rebuild. */
static void
killed_at(const char *point, bool outcome, bool rebuild)
{
	char rule[64];
	struct kfix f;
	struct place p;
	int status;
	pid_t pid;

	begin(&f);
	put_message(&f, 4, 40); /* its segment is folded before what is made later */
	writer_sync(&f, 4);
	p = mostly_dead(&f);
	(void)snprintf(rule, sizeof(rule), "%s=kill", point);
	pid = fork();
	if (pid == 0) {
		faults(rule);
		f.conf.writer++;
		if (keeper_open(&f.conf, &f.k) == OK)
			for (int i = 0; i < 20; i++)
				(void)keeper_settle(f.k, clock_mono());
		_exit(0);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
	f.conf.writer++;
	f.conf.compact_every =
		strcmp(point, "compact.before_write") == 0; /* else what is copied already is to be seen */
	if (outcome) {
		put_outcome(&f, 4, LIVE, 1, OUTCOME_DELIVERED, p);
		put_outcome(&f, 4, 40, 1, OUTCOME_DELIVERED, (struct place){ f.w[3].seg.number, SEGMENT_HEAD });
		writer_sync(&f, 4);
	}
	if (rebuild)
		assert_int_equal(unlink("index/data.mdb"), 0);
	compacted(&f, p.seg);
	if (outcome) {
		writer_die(&f, 4);
		for (int i = 0; i < 5; i++)
			kfix_settle(&f);
		assert_false(has_file(&f, SEGFILE_SEG, f.w[3].seg.number));
	}
	for (int again = 0; again < 2; again++) {
		assert_int_equal(map_state(&f, LIVE), outcome ? ROW_STATES : ROW_QUEUED);
		assert_int_equal(map_state(&f, HELD), ROW_HELD);
		assert_int_equal(map_state(&f, TRIED), ROW_QUEUED);
		assert_int_equal(map_state(&f, DEAD_LAST), ROW_STATES);
		readable(&f, TRIED);
		free(map_text(&f));
		lose_index(&f);
	}
	kfix_fini(&f);
}

static void
a_keeper_killed_while_it_compacts_is_succeeded(void **state)
{
	static const char *const points[] = { "compact.before_write", "compact.before_sync", "compact.after_sync",
					      "compact.after_commit", "ended.before_sync",   "reclaim.after_over",
					      "reclaim.after_unlink" };

	(void)state;
	faults("none.such=kill");
	for (size_t i = 0; i < sizeof(points) / sizeof(points[0]); i++)
		for (int how = 0; how < 4; how++) {
			print_message("   %s%s%s\n", points[i], how & 1 ? ", an outcome" : "",
				      how & 2 ? ", a rebuild" : "");
			killed_at(points[i], how & 1, how & 2);
		}
	faults(NULL);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(what_lives_moves_and_the_segment_goes),
		cmocka_unit_test(an_outcome_that_names_the_old_place_counts_for_good),
		cmocka_unit_test(a_try_by_the_old_place_is_no_doubt),
		cmocka_unit_test(what_is_in_work_or_fills_its_segment_stays),
		cmocka_unit_test(a_failed_sync_moves_nothing),
		cmocka_unit_test(a_keeper_killed_while_it_compacts_is_succeeded),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
