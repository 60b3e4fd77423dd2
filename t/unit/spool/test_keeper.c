/* spool/spool_keeper: folding, settling, reclaiming and rebuilding over real files. */
#include "keeper_fixture.h"

#include <sys/wait.h>

/* ---- folding ---- */

static void
what_is_synced_is_in_the_map(void **state)
{
	struct kfix f;
	struct place p;

	(void)state;
	kfix_init(&f);
	kfix_settle(&f); /* mail that is there before the first map counts as carried */
	put_message(&f, 1, 1);
	p = put_message(&f, 1, 2);
	put_message(&f, 1, 3);
	writer_sync(&f, 1);
	put_message(&f, 1, 4); /* not synced yet */
	put_outcome(&f, 2, 2, 1, OUTCOME_DELIVERED, p);
	writer_sync(&f, 2);
	kfix_settle(&f);
	assert_int_equal(map_state(&f, 1), ROW_QUEUED);
	assert_int_equal(map_state(&f, 2), ROW_STATES);
	assert_int_equal(map_state(&f, 3), ROW_QUEUED);
	assert_int_equal(map_state(&f, 4), ROW_STATES);
	writer_sync(&f, 1);
	kfix_settle(&f);
	assert_int_equal(map_state(&f, 4), ROW_QUEUED);
	assert_int_equal(map_ledger(&f).delivered, 1);
	assert_int_equal(index_ledger_difference(&(struct index_ledger){ .accepted = 1 }), 1);
	kfix_fini(&f);
}

static void
there_is_one_keeper(void **state)
{
	struct kfix f;
	struct keeper *other = NULL;

	(void)state;
	kfix_init(&f);
	kfix_open(&f);
	assert_int_equal(keeper_open(&f.conf, &other), ERR_EXISTS);
	assert_null(other);
	kfix_fini(&f);
}

static void
a_question_is_answered_after_its_commit(void **state)
{
	struct kfix f;
	uint64_t serial;
	usec_t again;

	(void)state;
	kfix_init(&f);
	kfix_settle(&f);
	put_message(&f, 1, 1);
	writer_sync(&f, 1);
	serial = keeper_ask(f.k);
	assert_false(keeper_answered(f.k, serial));
	while (!keeper_answered(f.k, serial))
		assert_int_equal(keeper_turn(f.k, clock_mono(), true, &again), OK);
	assert_int_equal(map_state(&f, 1), ROW_QUEUED);
	kfix_fini(&f);
}

/* Tidying waits for a commit. A keeper that asked for the next turn at once until then would take a core from the mail
 * that keeps it from committing. */
static void
what_is_to_be_tidied_does_not_hurry_a_map_that_is_not_committed(void **state)
{
	struct kfix f;
	uint32_t first;
	usec_t now = clock_mono(), again = 0;

	(void)state;
	kfix_init(&f);
	first = put_message(&f, 1, 1).seg;
	put_message(&f, 2, 2);
	put_message(&f, 3, 3);
	for (uint64_t w = 1; w <= 3; w++)
		writer_sync(&f, w);
	writer_die(&f, 1);
	writer_die(&f, 2);
	kfix_open(&f);
	/* One table of contents a turn: the second is still to be made. */
	while (!has_file(&f, SEGFILE_TOC, first))
		assert_int_equal(keeper_turn(f.k, now, true, &again), OK);
	assert_true(again <= now);
	put_message(&f, 3, 4);
	writer_sync(&f, 3);
	for (int i = 0; i < 10 && again <= now; i++)
		assert_int_equal(keeper_turn(f.k, now, false, &again), OK);
	assert_true(again > now);
	kfix_fini(&f);
}

/* ---- the dead ---- */

static void
a_dead_writer_leaves_its_attempts_in_doubt(void **state)
{
	struct kfix f;
	struct index_txn *t;
	struct place p;
	bool yes;

	(void)state;
	kfix_init(&f);
	p = put_message(&f, 1, 1);
	put_message(&f, 1, 2);
	writer_sync(&f, 1);
	put_attempt(&f, 2, 1, 1, p);
	writer_sync(&f, 2);
	kfix_settle(&f);
	assert_int_equal(map_state(&f, 1), ROW_WORK);
	t = map_begin(&f);
	assert_int_equal(index_writer_gone(t, 2, 0, 0, &yes), OK);
	assert_false(yes);
	index_end(&t);
	writer_die(&f, 2);
	kfix_settle(&f);
	assert_int_equal(map_state(&f, 1), ROW_DOUBT);
	assert_int_equal(map_state(&f, 2), ROW_QUEUED);
	t = map_begin(&f);
	assert_int_equal(index_writer_gone(t, 2, 0, 0, &yes), OK);
	assert_true(yes);
	index_end(&t);
	kfix_fini(&f);
}

/* Nobody ever saw a file of this one: a scan that began later says so. */
static void
a_writer_without_files_is_gone_after_a_scan(void **state)
{
	struct kfix f;
	struct index_txn *t;
	usec_t since = clock_mono();
	bool yes;

	(void)state;
	kfix_init(&f);
	kfix_settle(&f);
	kfix_settle(&f);
	t = map_begin(&f);
	assert_int_equal(index_writer_gone(t, 99, since, f.conf.writer, &yes), OK);
	assert_true(yes);
	assert_int_equal(index_writer_gone(t, 99, since, f.conf.writer + 1, &yes), OK);
	assert_false(yes);
	assert_int_equal(index_writer_gone(t, 99, INT64_MAX, f.conf.writer, &yes), OK);
	assert_false(yes);
	index_end(&t);
	kfix_fini(&f);
}

/* Above the last mark a record counts when it is whole, blobs and all, and nothing behind a torn one does. */
static void
a_torn_tail_is_nothing(void **state)
{
	static const struct {
		const char *name;
		int off; /* of the byte that is wrong, in the second record; -1: none */
		enum row_state second, third;
	} table[] = {
		{ "whole", -1, ROW_QUEUED, ROW_QUEUED },
		{ "head torn", 8, ROW_STATES, ROW_STATES },
		{ "items torn", RECORD_HEAD + 9, ROW_STATES, ROW_STATES },
		{ "blob torn", -8, ROW_STATES, ROW_STATES },
	};

	(void)state;
	for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++) {
		struct kfix f;
		struct place p, next;

		kfix_init(&f);
		put_message(&f, 1, 1);
		writer_sync(&f, 1);
		p = put_message(&f, 1, 2);
		next = put_message(&f, 1, 3);
		if (table[i].off == -8)
			spoil(&f, p.seg, next.off - 9);
		else if (table[i].off >= 0)
			spoil(&f, p.seg, p.off + (uint32_t)table[i].off);
		writer_die(&f, 1);
		kfix_settle(&f);
		assert_int_equal(map_state(&f, 1), ROW_QUEUED);
		assert_int_equal(map_state(&f, 2), table[i].second);
		assert_int_equal(map_state(&f, 3), table[i].third);
		assert_int_equal(map_ledger(&f).damaged_records, 0);
		assert_true(has_file(&f, SEGFILE_TOC, p.seg));
		kfix_fini(&f);
	}
}

/* Below a mark that a later record carries it is damage: counted, its bytes kept, the rest served. */
static void
damage_is_named_and_the_rest_is_served(void **state)
{
	static const struct {
		uint32_t off;
		unsigned recipients; /* as far as its head can still say */
	} table[] = { { 8, 0 }, { RECORD_HEAD + 9, 1 } };

	(void)state;
	for (size_t i = 0; i < 4; i++) {
		struct kfix f;
		struct index_txn *t;
		struct index_damage d;
		struct place p, last;
		size_t n;

		kfix_init(&f);
		put_message(&f, 1, 1);
		p = put_message(&f, 1, 2);
		writer_sync(&f, 1);
		last = put_message(&f, 1, 3);
		writer_sync(&f, 1);
		spoil(&f, p.seg, p.off + table[i % 2].off);
		if (i >= 2) /* the keeper never saw the slot's mark */
			writer_of(&f, 1)->mark = 0;
		writer_die(&f, 1);
		kfix_settle(&f);
		assert_int_equal(map_state(&f, 1), ROW_QUEUED);
		assert_int_equal(map_state(&f, 2), ROW_STATES);
		assert_int_equal(map_state(&f, 3), ROW_QUEUED);
		t = map_begin(&f);
		assert_int_equal(index_damage_page(t, (struct place){ 0, 0 }, &d, 1, &n), OK);
		assert_int_equal(d.place.off, p.off);
		assert_int_equal(d.len, last.off - p.off);
		assert_int_equal(d.recipients, table[i % 2].recipients);
		assert_true(d.found_at > 0);
		index_end(&t);
		assert_int_equal(map_ledger(&f).damaged, table[i % 2].recipients);
		assert_int_equal(map_ledger(&f).damaged_records, 1);
		free(map_text(&f)); /* the ledger balances */
		put_outcome(&f, 2, 1, 1, OUTCOME_DELIVERED, (struct place){ p.seg, SEGMENT_HEAD });
		put_outcome(&f, 2, 3, 1, OUTCOME_DELIVERED, last);
		writer_sync(&f, 2);
		kfix_settle(&f);
		assert_true(has_file(&f, SEGFILE_SEG, p.seg));
		kfix_fini(&f);
	}
}

static void
a_segment_ends_where_its_successor_says(void **state)
{
	struct kfix f;
	struct record r = { .items = 0 };
	struct spool_end end;
	uint32_t first;

	(void)state;
	kfix_init(&f);
	put_message(&f, 1, 1);
	writer_sync(&f, 1);
	end = (struct spool_end){ .seg = first = writer_of(&f, 1)->seg.number, .mark = writer_of(&f, 1)->off };
	put_message(&f, 1, 2); /* its sync failed: refused with 451 */
	writer_begin(&f, 1);
	writer_of(&f, 1)->mark = 0;
	record_add_end(&r, &end);
	writer_put(&f, 1, &r);
	put_message(&f, 1, 3);
	writer_die(&f, 1);
	kfix_settle(&f);
	assert_int_equal(map_state(&f, 1), ROW_QUEUED);
	assert_int_equal(map_state(&f, 2), ROW_STATES);
	assert_int_equal(map_state(&f, 3), ROW_QUEUED);
	assert_true(first != 0);
	kfix_fini(&f);
}

/* A full segment whose seal is still on its way, or never comes: its writer has gone on, so all of it was synced. */
static void
a_segment_left_behind_is_folded_to_its_end(void **state)
{
	struct kfix f;
	struct place p;

	(void)state;
	kfix_init(&f);
	kfix_settle(&f);
	put_message(&f, 1, 1);
	writer_sync(&f, 1);
	kfix_settle(&f);
	p = put_message(&f, 1, 2); /* the keeper never saw this mark */
	writer_begin(&f, 1);
	put_message(&f, 1, 3);
	writer_sync(&f, 1);
	put_outcome(&f, 2, 2, 1, OUTCOME_DELIVERED, p);
	writer_sync(&f, 2);
	kfix_settle(&f);
	assert_int_equal(map_ledger(&f).accepted, 3);
	assert_int_equal(map_ledger(&f).delivered, 1);
	assert_int_equal(map_state(&f, 2), ROW_STATES);
	kfix_fini(&f);
}

/* What a failed sync left behind is not mail, though its writer lives. */
static void
a_failed_segment_left_behind_ends_at_its_mark(void **state)
{
	struct kfix f;
	struct record r = { .items = 0 };
	struct spool_end end;

	(void)state;
	kfix_init(&f);
	kfix_settle(&f);
	put_message(&f, 1, 1);
	writer_sync(&f, 1);
	kfix_settle(&f);
	end = (struct spool_end){ .seg = writer_of(&f, 1)->seg.number, .mark = writer_of(&f, 1)->off };
	put_message(&f, 1, 2);
	writer_begin(&f, 1);
	writer_of(&f, 1)->mark = 0;
	kfix_settle(&f); /* the next segment is seen while it is still empty */
	record_add_end(&r, &(struct spool_end){ .seg = 77, .mark = SEGMENT_HEAD }); /* another one, before */
	record_add_end(&r, &end);
	writer_put(&f, 1, &r);
	writer_sync(&f, 1);
	kfix_settle(&f);
	assert_int_equal(map_state(&f, 1), ROW_QUEUED);
	assert_int_equal(map_state(&f, 2), ROW_STATES);
	assert_int_equal(map_ledger(&f).accepted, 1);
	kfix_fini(&f);
}

static void
the_second_death_by_own_fault_quarantines(void **state)
{
	struct kfix f;

	(void)state;
	kfix_init(&f);
	put_message(&f, 1, 1);
	writer_sync(&f, 1);
	put_message(&f, 2, 2);
	writer_sync(&f, 2);
	put_message(&f, 3, 3);
	writer_sync(&f, 3);
	kfix_settle(&f);
	writer_of(&f, 2)->finger = 1;
	writer_die(&f, 2);
	kfix_settle(&f);
	assert_int_equal(map_state(&f, 1), ROW_QUEUED);
	keeper_close(&f.k);
	kfix_settle(&f); /* the next keeper asks again: one death counts once */
	assert_int_equal(map_state(&f, 1), ROW_QUEUED);
	writer_of(&f, 3)->finger = 1;
	writer_die(&f, 3);
	kfix_settle(&f);
	assert_int_equal(map_state(&f, 1), ROW_QUARANTINED);
	assert_int_equal(unlink("index/data.mdb"), 0);
	assert_int_equal(unlink("index/lock.mdb"), 0);
	keeper_close(&f.k);
	kfix_settle(&f); /* set-aside states survive the index */
	assert_int_equal(map_state(&f, 1), ROW_QUARANTINED);
	kfix_fini(&f);
}

/* ---- a head that is damaged ---- */

static void
damage_head(uint32_t seg)
{
	char name[SEGMENT_NAME], path[64];
	int fd;

	segment_name(SEGFILE_SEG, seg, name);
	snprintf(path, sizeof(path), "journal/%s", name);
	fd = open(path, O_WRONLY | O_CLOEXEC);
	assert_true(fd >= 0);
	assert_int_equal(pwrite(fd, "x", 1, 16), 1);
	close(fd);
}

/* One such segment once kept every queue waiting: its writer was never known to be gone. */
static void
a_damaged_head_stops_nobody(void **state)
{
	struct kfix f;
	struct place p;
	bool gone = false;
	struct index_txn *t = NULL;

	(void)state;
	kfix_init(&f);
	p = put_message(&f, 1, 1);
	writer_sync(&f, 1);
	kfix_settle(&f);
	keeper_close(&f.k);
	put_message(&f, 1, 2); /* behind what the map knows */
	writer_die(&f, 1);
	damage_head(p.seg);
	kfix_settle(&f);
	assert_int_equal(map_state(&f, 1), ROW_QUEUED);
	assert_int_equal(map_state(&f, 2), ROW_QUEUED);
	assert_int_equal(index_begin(keeper_index(f.k), &t), OK);
	assert_int_equal(index_writer_gone(t, 1, 0, KEEPER, &gone), OK);
	index_end(&t);
	assert_true(gone);
	assert_int_equal(unlink("index/data.mdb"), 0);
	assert_int_equal(unlink("index/lock.mdb"), 0);
	keeper_close(&f.k);
	kfix_settle(&f); /* nor is it lost with the map */
	assert_int_equal(map_state(&f, 1), ROW_QUEUED);
	assert_int_equal(map_state(&f, 2), ROW_QUEUED);
	kfix_fini(&f);
}

/* ---- reclaiming ---- */

static void
what_is_over_is_given_back(void **state)
{
	struct kfix f;
	struct place p;
	uint32_t first, second;

	(void)state;
	kfix_init(&f);
	p = put_message(&f, 1, 1);
	writer_sync(&f, 1);
	put_attempt(&f, 2, 1, 1, p);
	put_outcome(&f, 2, 1, 1, OUTCOME_DELIVERED, p);
	put_message(&f, 2, 2);
	writer_sync(&f, 2);
	first = p.seg;
	second = writer_of(&f, 2)->seg.number;
	kfix_settle(&f);
	assert_true(has_file(&f, SEGFILE_SEG, first));
	writer_die(&f, 1);
	writer_die(&f, 2);
	kfix_settle(&f);
	assert_false(has_file(&f, SEGFILE_SEG, first));
	assert_false(has_file(&f, SEGFILE_TOC, first));
	assert_true(has_file(&f, SEGFILE_SEG, second));
	assert_int_equal(files_count(&f.base, SEGFILE_SPARE), 0);
	kfix_fini(&f);
}

/* A dead writer's segment is over, another one tells of its message. Were its number given again after the loss of the
 * map, that fact would be about the new one's, and the rebuild would wait for it. */
static void
the_highest_number_is_not_given_again(void **state)
{
	struct kfix f;
	struct place p;

	(void)state;
	kfix_init(&f);
	put_message(&f, 1, 1);
	writer_sync(&f, 1);
	p = put_message(&f, 2, 2);
	writer_sync(&f, 2);
	put_outcome(&f, 1, 2, 1, OUTCOME_DELIVERED, p);
	put_message(&f, 1, 3);
	writer_sync(&f, 1);
	writer_die(&f, 2);
	kfix_settle(&f);
	assert_true(has_file(&f, SEGFILE_SEG, p.seg));

	writer_die(&f, 1);
	keeper_close(&f.k);
	assert_int_equal(unlink("index/data.mdb"), 0);
	atomic_store(f.conf.highest, 0); /* as a new master finds it */
	kfix_open(&f);
	assert_true(writer_begin(&f, 3) > p.seg);
	writer_of(&f, 3)->mark = SEGMENT_HEAD;
	kfix_settle(&f);
	assert_int_equal(map_state(&f, 1), ROW_QUEUED);
	assert_int_equal(map_state(&f, 2), ROW_STATES);
	assert_int_equal(map_state(&f, 3), ROW_QUEUED);
	/* Now it is not the newest any more. */
	put_outcome(&f, 3, 1, 1, OUTCOME_DELIVERED, (struct place){ p.seg - 1, SEGMENT_HEAD });
	writer_sync(&f, 3);
	kfix_settle(&f);
	assert_false(has_file(&f, SEGFILE_SEG, p.seg));
	kfix_fini(&f);
}

static void
a_large_enough_one_becomes_a_spare(void **state)
{
	struct kfix f;
	struct place p;

	(void)state;
	kfix_init(&f);
	f.conf.spares = 1;
	for (uint64_t w = 1; w <= 2; w++) {
		p = put_message(&f, w, w);
		put_outcome(&f, w, w, 1, OUTCOME_DELIVERED, p);
		writer_sync(&f, w);
		writer_die(&f, w);
	}
	writer_begin(&f, 3); /* the newest stays */
	kfix_settle(&f);
	assert_int_equal(files_count(&f.base, SEGFILE_SPARE), 1);
	assert_int_equal(files_count(&f.base, SEGFILE_SEG), 1);
	kfix_fini(&f);
}

/* The outcome goes with its segment, but not what it says: after the loss of the index nothing is delivered again. */
static void
what_a_segment_said_outlives_it(void **state)
{
	struct kfix f;
	struct place p;
	char *before, *after;

	(void)state;
	kfix_init(&f);
	p = put_message(&f, 1, 1);
	put_message(&f, 1, 2);
	writer_sync(&f, 1);
	put_outcome(&f, 2, 1, 1, OUTCOME_DELIVERED, p);
	writer_sync(&f, 2);
	writer_die(&f, 2);
	writer_begin(&f, 3); /* the newest stays */
	kfix_settle(&f);
	assert_true(has_file(&f, SEGFILE_ENDED, p.seg));
	assert_int_equal(files_count(&f.base, SEGFILE_SEG), 2);
	before = map_text(&f);
	keeper_close(&f.k);
	assert_int_equal(unlink("index/data.mdb"), 0);
	kfix_settle(&f);
	after = map_text(&f);
	assert_string_equal(before, after);
	assert_int_equal(map_ledger(&f).carried, 1);
	free(before);
	free(after);
	kfix_fini(&f);
}

static void
bodies_that_nobody_names_go_with_their_writer(void **state)
{
	struct kfix f;
	struct segment body;
	struct record r = { .items = 0 };
	struct spool_message m = message_of(1, "b@example.com");
	struct place p;
	uint32_t named, orphan;

	(void)state;
	kfix_init(&f);
	assert_int_equal(segment_make(&writer_of(&f, 1)->maker, SEGMENT_BODY, 4096, 1, &body), OK);
	named = body.number;
	segment_close(&body);
	assert_int_equal(segment_make(&writer_of(&f, 1)->maker, SEGMENT_BODY, 4096, 1, &body), OK);
	orphan = body.number;
	segment_close(&body);
	m.size = BLOB_INLINE_MAX + 1;
	m.body_blob = record_add_body(&r, named, SEGMENT_HEAD, m.size, 0);
	record_add_message(&r, &m);
	p = writer_put(&f, 1, &r);
	writer_sync(&f, 1);
	kfix_settle(&f);
	assert_true(has_file(&f, SEGFILE_SEG, named));
	assert_true(has_file(&f, SEGFILE_SEG, orphan));
	writer_die(&f, 1);
	kfix_settle(&f);
	assert_true(has_file(&f, SEGFILE_SEG, named));
	assert_false(has_file(&f, SEGFILE_SEG, orphan));
	put_outcome(&f, 2, 1, 1, OUTCOME_DELIVERED, p);
	writer_sync(&f, 2);
	kfix_settle(&f);
	assert_false(has_file(&f, SEGFILE_SEG, named));
	assert_false(has_file(&f, SEGFILE_SEG, p.seg));
	kfix_fini(&f);
}

/* ---- the map lost, damaged, tampered with ---- */

static void
mixture(struct kfix *f)
{
	struct place p1 = put_message(f, 1, 1), p2 = put_message(f, 1, 2), p3 = put_message(f, 1, 3);
	struct place p6 = put_message(f, 1, 6), p7 = put_message(f, 4, 7);

	writer_sync(f, 1);
	put_attempt(f, 2, 1, 1, p1);
	put_outcome(f, 2, 1, 1, OUTCOME_DELIVERED, p1);
	put_attempt(f, 2, 2, 1, p2);
	put_edit(f, 2, 3, EDIT_HOLD, 100, p3);
	writer_sync(f, 2);
	put_message(f, 3, 4);
	put_message(f, 3, 5);
	writer_sync(f, 3);
	put_outcome(f, 4, 6, 1, OUTCOME_DELIVERED, p6); /* all of this one's is over */
	put_outcome(f, 4, 7, 1, OUTCOME_BOUNCED, p7);
	writer_die(f, 1);
	writer_die(f, 2);
	writer_die(f, 4);
}

static void
a_lost_or_damaged_index_is_built_anew(void **state)
{
	static const char *const how[] = { "deleted", "garbage", "truncated" }; /* by their place */

	(void)state;
	for (size_t i = 0; i < sizeof(how) / sizeof(how[0]); i++) {
		struct kfix f;
		struct index_conf ic = { .path = "index", .map_size = 64 << 20 };
		char *before, *after, junk[8192];
		pid_t pid;
		int fd;

		kfix_init(&f);
		mixture(&f);
		kfix_settle(&f);
		before = map_text(&f);
		keeper_close(&f.k);
		memset(junk, 0xa5, sizeof(junk));
		if (i == 0) {
			assert_int_equal(unlink("index/data.mdb"), 0);
		} else {
			fd = open("index/data.mdb", O_WRONLY | O_CLOEXEC | (i == 2 ? O_TRUNC : 0));
			assert_int_equal(write(fd, junk, i == 2 ? 100 : sizeof(junk)), i == 2 ? 100 : sizeof(junk));
			close(fd);
		}
		kfix_settle(&f);
		assert_false(keeper_rebuilding(f.k));
		after = map_text(&f);
		assert_string_equal(before, after);
		free(before);
		free(after);
		/* another process reads it */
		pid = fork();
		if (pid == 0) {
			struct index *ix = NULL;
			struct index_txn *t = NULL;
			struct index_meta m;

			_exit(index_open(&ic, &ix) == OK && index_begin(ix, &t) == OK && index_meta(t, &m) == OK &&
					      !m.rebuilding && m.highest_seg >= 3
				      ? 0
				      : 1);
		}
		assert_int_equal(waitpid(pid, &fd, 0), pid);
		assert_int_equal(fd, 0);
		kfix_fini(&f);
	}
}

/* No page of it is believed: flipped, zeroed or cut, with the counts of what hangs on it or without. */
static void
a_damaged_page_anywhere_changes_nothing(void **state)
{
	static const char zero[512];
	struct index_ledger l;
	char *before, *after;
	struct kfix f;
	struct stat st;

	(void)state;
	kfix_init(&f);
	mixture(&f);
	kfix_settle(&f);
	before = map_text(&f);
	for (uint32_t i = 0, random = 7; i < 120; i++) {
		char byte;
		off_t at;
		int fd;

		keeper_close(&f.k);
		fd = open("index/data.mdb", O_RDWR | O_CLOEXEC);
		assert_int_equal(fstat(fd, &st), 0);
		random = random * 1664525 + 1013904223;
		at = 8192 + (off_t)(random >> 8) % (st.st_size - 8192);
		if (i % 3 == 0)
			assert_int_equal(pwrite(fd, zero, sizeof(zero), at / 512 * 512), sizeof(zero));
		else if (i % 3 == 1)
			assert_int_equal(ftruncate(fd, at), 0);
		else if (pread(fd, &byte, 1, at) == 1 && (byte ^= (char)(1 << (i % 8)), true))
			assert_int_equal(pwrite(fd, &byte, 1, at), 1);
		close(fd);
		kfix_settle(&f);
		l = map_ledger(&f);
		assert_int_equal(index_ledger_difference(&l), 0);
		after = map_text(&f);
		assert_string_equal(before, after);
		free(after);
	}
	free(before);
	kfix_fini(&f);
}

/* A byte of a name in a row, wherever in the file it stands. */
static void
spoil_rows(const char *name)
{
	struct stat st;
	char *all, *at;
	int fd = open("index/data.mdb", O_RDWR | O_CLOEXEC);

	assert_int_equal(fstat(fd, &st), 0);
	all = mem_alloc((size_t)st.st_size);
	assert_int_equal(read(fd, all, (size_t)st.st_size), st.st_size);
	for (at = all; (at = memmem(at, (size_t)(st.st_size - (at - all)), name, strlen(name))) != NULL; at++)
		assert_int_equal(pwrite(fd, "X", 1, at - all), 1);
	close(fd);
	free(all);
}

/* Turns while nothing comes in: so only a pass finds anything. */
static bool
turns_rebuild(struct kfix *f, usec_t now)
{
	usec_t again;
	bool found = false;

	for (unsigned i = 0; i < 8; i++, now += 200 * USEC_PER_MS) {
		(void)keeper_turn(f->k, now, false, &again);
		found = found || keeper_rebuilding(f->k);
	}
	return found;
}

static void
damage_that_nobody_met_is_found_by_the_days_pass(void **state)
{
	usec_t now = clock_mono();
	char *before, *after;
	struct kfix f;

	(void)state;
	kfix_init(&f);
	mixture(&f);
	kfix_settle(&f);
	before = map_text(&f);
	assert_false(turns_rebuild(&f, now));
	spoil_rows("b@example.com");
	assert_false(turns_rebuild(&f, now + 10 * USEC_PER_SEC));
	assert_true(turns_rebuild(&f, now + INT64_C(86410) * USEC_PER_SEC));
	kfix_settle(&f);
	after = map_text(&f);
	assert_string_equal(before, after);
	free(before);
	free(after);
	kfix_fini(&f);
}

/* A reader, in another process. */
static void
read_and_tell(_Atomic uint64_t *suspect)
{
	struct index_conf ic = { .path = "index", .map_size = 64 << 20, .suspect = suspect };
	struct index_row rows[16];
	struct index_txn *t = NULL;
	struct index *ix = NULL;
	pid_t pid = fork();
	int status;
	size_t n;

	if (pid == 0) {
		if (index_open(&ic, &ix) != OK || index_begin(ix, &t) != OK)
			_exit(1);
		status = index_message_page(t, 0, rows, 16, &n) == ERR_DAMAGED ? 0 : 2;
		index_end(&t);
		_exit(status);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(status, 0);
}

static void
damage_that_a_reader_met_is_looked_for_at_once(void **state)
{
	usec_t now = clock_mono();
	char *before, *after;
	struct kfix f;

	(void)state;
	kfix_init(&f);
	f.conf.suspect = shm_index_suspect(f.base.area);
	mixture(&f);
	kfix_settle(&f);
	before = map_text(&f);
	assert_false(turns_rebuild(&f, now));
	spoil_rows("b@example.com");
	read_and_tell(f.conf.suspect);
	assert_true(turns_rebuild(&f, now + 10 * USEC_PER_SEC));
	kfix_settle(&f);
	assert_int_equal(atomic_load(f.conf.suspect), 0);
	after = map_text(&f);
	assert_string_equal(before, after);
	free(before);
	free(after);
	kfix_fini(&f);
}

/* Nothing is rebuilt because somebody says so. */
static void
a_suspicion_without_reason_passes(void **state)
{
	usec_t now = clock_mono();
	struct kfix f;
	struct stat st;

	(void)state;
	kfix_init(&f);
	f.conf.suspect = shm_index_suspect(f.base.area);
	mixture(&f);
	kfix_settle(&f);
	assert_int_equal(stat("index/data.mdb", &st), 0);
	atomic_store(f.conf.suspect, st.st_ino);
	assert_false(turns_rebuild(&f, now + 10 * USEC_PER_SEC));
	assert_int_equal(atomic_load(f.conf.suspect), 0);
	kfix_fini(&f);
}

/* Behind the keeper's back, by another process. */
static void
garble_row(uint8_t id)
{
	static const char *const tables[] = { "message" };
	struct lmdb_conf conf = { .path = "index", .tables = tables, .ntables = 1, .map_size = 64 << 20, .sums = true };
	const char key[8] = { 0, 0, 0, 0, 0, 0, 0, (char)id };
	struct lmdb *env = NULL;
	struct lmdb_txn *t;
	pid_t pid = fork();
	int status;

	if (pid == 0) {
		if (lmdb_open(&conf, &env) != OK)
			_exit(1);
		t = lmdb_write(env);
		lmdb_put(t, 0, slice_of(key, sizeof(key)), SLICE("no row"));
		_exit(lmdb_commit(&t) == OK ? 0 : 2);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(status, 0);
}

/* Who was settled before is settled anew: else its attempts would be in work for ever. */
static void
a_rebuild_while_it_runs_settles_the_dead_again(void **state)
{
	struct place p, other;
	struct kfix f;

	(void)state;
	kfix_init(&f);
	p = put_message(&f, 1, 1);
	other = put_message(&f, 1, 2);
	writer_sync(&f, 1);
	put_attempt(&f, 2, 1, 1, p);
	writer_sync(&f, 2);
	writer_die(&f, 2);
	kfix_settle(&f);
	assert_int_equal(map_state(&f, 1), ROW_DOUBT);
	garble_row(2);
	put_edit(&f, 1, 2, EDIT_HOLD, 100, other);
	writer_sync(&f, 1);
	kfix_settle(&f);
	assert_int_equal(map_ledger(&f).carried, 2);
	assert_int_equal(map_state(&f, 1), ROW_DOUBT);
	assert_int_equal(map_state(&f, 2), ROW_HELD);
	kfix_fini(&f);
}

/* The count of rows and the flows are two sources: what is taken out behind the keeper's back shows. */
static void
a_row_taken_away_shows_in_the_ledger(void **state)
{
	static const char *const tables[] = { "message" };
	struct lmdb_conf conf = { .path = "index", .tables = tables, .ntables = 1, .map_size = 64 << 20, .sums = true };
	static const char id[8] = { 0, 0, 0, 0, 0, 0, 0, 4 };
	struct index_ledger l;
	struct lmdb *env = NULL;
	struct lmdb_txn *t;
	struct kfix f;

	(void)state;
	kfix_init(&f);
	mixture(&f);
	kfix_settle(&f);
	l = map_ledger(&f);
	assert_int_equal(index_ledger_difference(&l), 0);
	keeper_close(&f.k);
	assert_int_equal(lmdb_open(&conf, &env), OK);
	t = lmdb_write(env);
	assert_true(lmdb_del(t, 0, slice_of(id, sizeof(id))));
	assert_int_equal(lmdb_commit(&t), OK);
	lmdb_close(&env);
	kfix_settle(&f);
	l = map_ledger(&f);
	assert_int_equal(index_ledger_difference(&l), 1);
	kfix_fini(&f);
}

/* ---- deadlines, tails ---- */

static void
deadlines_are_told_and_looked_at_again(void **state)
{
	struct kfix f;

	(void)state;
	kfix_init(&f);
	f.deadline = 1;
	put_message(&f, 1, 1);
	writer_sync(&f, 1);
	kfix_settle(&f);
	assert_int_equal(f.expired, 1);
	kfix_settle(&f);
	assert_int_equal(f.expired, 1); /* not at every commit */
	kfix_fini(&f);
}

static void
the_tail_is_told(void **state)
{
	struct kfix f;
	usec_t again;

	(void)state;
	kfix_init(&f);
	kfix_settle(&f);
	assert_int_equal(f.tail, 0);
	put_message(&f, 1, 1);
	writer_sync(&f, 1);
	assert_int_equal(keeper_ask(f.k), 2);
	do {
		assert_int_equal(keeper_turn(f.k, clock_mono(), false, &again), OK);
	} while (!keeper_answered(f.k, 2));
	assert_int_equal(f.tail, 0);
	assert_int_equal(map_state(&f, 1), ROW_QUEUED);
	kfix_fini(&f);
}

/* The last thing that a writer does is to seal; that it has, and where its records end, holds for this keeper as well as
 * for the next one, who reads it in the head. */
static void
the_seal_of_who_has_just_died_is_read(void **state)
{
	struct kfix f;
	struct place p;

	(void)state;
	kfix_init(&f);
	put_message(&f, 1, 1);
	writer_sync(&f, 1);
	kfix_settle(&f);
	p = put_message(&f, 1, 2);
	assert_int_equal(segment_seal(&f.w[0].seg, f.w[0].off, SLICE(""), 2), OK);
	spoil(&f, p.seg, f.w[0].off - 24); /* in the body */
	spoil(&f, p.seg, f.w[0].off + 1);  /* in the table of contents, whose mark says too that all was synced */
	writer_die(&f, 1);
	kfix_settle(&f);
	assert_int_equal(map_state(&f, 2), ROW_QUEUED);
	kfix_fini(&f);
}

/* ---- records that wait ---- */

static uint32_t
damages(struct kfix *f)
{
	return (uint32_t)map_ledger(f).damaged_records;
}

/* Writer 1 has published one message; writer 2 speaks of what lies behind it, and adds another message. */
static struct place
speak_of_the_unsynced(struct kfix *f)
{
	struct place p;

	kfix_settle(f);
	put_message(f, 1, 1);
	writer_sync(f, 1);
	p = put_message(f, 1, 2);
	put_outcome(f, 2, 2, 1, OUTCOME_DELIVERED, p);
	put_message(f, 2, 3);
	writer_sync(f, 2);
	put_message(f, 3, 4);
	writer_sync(f, 3);
	return p;
}

static void
a_fact_beyond_a_mark_holds_up_nobody(void **state)
{
	struct kfix f;
	uint64_t serial;
	usec_t again, now = clock_mono();

	(void)state;
	kfix_init(&f);
	speak_of_the_unsynced(&f);
	serial = keeper_ask(f.k);
	for (int i = 0; i < 8 && !keeper_answered(f.k, serial); i++)
		assert_int_equal(keeper_turn(f.k, now, false, &again), OK);
	assert_true(keeper_answered(f.k, serial));
	assert_int_equal(map_state(&f, 1), ROW_QUEUED);
	assert_int_equal(map_state(&f, 3), ROW_STATES); /* behind the fact that waits */
	assert_int_equal(map_state(&f, 4), ROW_QUEUED);
	for (int i = 0; i < 8 && again <= now; i++)
		assert_int_equal(keeper_turn(f.k, now, false, &again), OK);
	assert_true(again > now);
	writer_sync(&f, 1);
	kfix_settle(&f);
	assert_int_equal(map_state(&f, 2), ROW_STATES);
	assert_int_equal(map_state(&f, 3), ROW_QUEUED);
	assert_int_equal(map_ledger(&f).delivered, 1);
	assert_int_equal(damages(&f), 0);
	kfix_fini(&f);
}

/* Its writer is gone, and of what it was to have synced nothing is there. */
static void
a_fact_that_never_came_true_is_damage(void **state)
{
	struct kfix f;
	struct place p;

	(void)state;
	kfix_init(&f);
	p = speak_of_the_unsynced(&f);
	kfix_settle(&f);
	assert_int_equal(damages(&f), 0);
	spoil(&f, p.seg, p.off + 70);
	writer_die(&f, 1);
	kfix_settle(&f);
	assert_int_equal(damages(&f), 1);
	assert_int_equal(map_state(&f, 3), ROW_QUEUED);
	assert_int_equal(map_ledger(&f).delivered, 0);
	keeper_close(&f.k);
	assert_int_equal(unlink("index/data.mdb"), 0);
	kfix_settle(&f);
	assert_int_equal(damages(&f), 1);
	kfix_fini(&f);
}

/* Behind it may stand that old mail is over: the map is not whole before that is read. */
static void
a_rebuild_waits_with_a_fact_and_folds_the_rest(void **state)
{
	struct kfix f;

	(void)state;
	kfix_init(&f);
	speak_of_the_unsynced(&f);
	kfix_settle(&f);
	keeper_close(&f.k);
	assert_int_equal(unlink("index/data.mdb"), 0);
	kfix_settle(&f);
	assert_true(keeper_rebuilding(f.k));
	assert_int_equal(map_state(&f, 4), ROW_QUEUED);
	writer_sync(&f, 1);
	kfix_settle(&f);
	assert_false(keeper_rebuilding(f.k));
	assert_int_equal(map_state(&f, 3), ROW_QUEUED);
	kfix_fini(&f);
}

/* ---- disks that fail ---- */

/* What cannot be made sure of is not folded: its writer is not settled, and it is tried again. */
static void
a_tail_that_cannot_be_synced_waits(void **state)
{
	struct kfix f;
	struct place p;

	(void)state;
	faults("none.such=kill");
	kfix_init(&f);
	p = put_message(&f, 1, 1);
	writer_sync(&f, 1);
	kfix_settle(&f);
	put_outcome(&f, 1, 1, 1, OUTCOME_DELIVERED, p); /* above the mark */
	put_message(&f, 2, 2);
	writer_sync(&f, 2);
	writer_die(&f, 1);
	faults("keeper.sync=EIO");
	assert_int_equal(keeper_settle(f.k, clock_mono()), ERR_IO);
	kfix_settle(&f);
	assert_int_equal(map_state(&f, 1), ROW_STATES);
	assert_int_equal(map_state(&f, 2), ROW_QUEUED);
	faults(NULL);
	kfix_fini(&f);
}

/* The keeper's own journal goes on in a new segment that says where the failed one ends. */
static void
the_keepers_own_failed_sync_loses_nothing(void **state)
{
	struct kfix f;

	(void)state;
	faults("none.such=kill");
	kfix_init(&f);
	put_message(&f, 1, 1);
	writer_sync(&f, 1);
	for (uint64_t w = 2; w <= 3; w++) {
		put_message(&f, w, w);
		writer_sync(&f, w);
		writer_of(&f, w)->finger = 1;
	}
	kfix_settle(&f);
	faults("keeper.own_sync=EIO");
	for (uint64_t w = 2; w <= 3; w++) {
		writer_die(&f, w);
		kfix_settle(&f);
	}
	faults(NULL);
	assert_int_equal(map_state(&f, 1), ROW_QUARANTINED);
	keeper_close(&f.k);
	assert_int_equal(unlink("index/data.mdb"), 0);
	kfix_settle(&f);
	assert_int_equal(map_state(&f, 1), ROW_QUARANTINED);
	kfix_fini(&f);
}

/* ---- a full disk ---- */

/* Without a commit nothing is ever given back: the index has a reserve of its own. */
static void
a_full_disk_lets_the_index_have_its_reserve(void **state)
{
	struct kfix f;

	(void)state;
	faults("none.such=kill");
	kfix_init(&f);
	f.conf.reserve = 1 << 20;
	kfix_settle(&f);
	assert_int_equal(files_count(&f.base, SEGFILE_RESERVE), 1);
	put_message(&f, 1, 1);
	writer_sync(&f, 1);
	faults("index.commit=EIO,disk.free=ENOSPC*");
	kfix_settle(&f);
	assert_int_equal(files_count(&f.base, SEGFILE_RESERVE), 0);
	assert_int_equal(map_state(&f, 1), ROW_QUEUED);
	faults(NULL);
	kfix_fini(&f);
}

/* ---- killed anywhere ---- */

/* A keeper is killed at this point, then another one goes on: the map is as if nothing had happened. */
static void
killed_at(const char *point, bool lose_index)
{
	char rule[64], *want, *got;
	struct kfix f;
	int status;
	pid_t pid;

	kfix_init(&f);
	mixture(&f);
	kfix_settle(&f);
	want = map_text(&f);
	kfix_fini(&f);

	kfix_init(&f);
	mixture(&f);
	if (lose_index) {
		kfix_settle(&f);
		keeper_close(&f.k);
		assert_int_equal(unlink("index/data.mdb"), 0);
	}
	(void)snprintf(rule, sizeof(rule), "%s=kill", point);
	pid = fork();
	if (pid == 0) {
		faults(rule);
		f.conf.writer++;
		if (keeper_open(&f.conf, &f.k) == OK)
			(void)keeper_settle(f.k, clock_mono());
		_exit(0);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
	f.conf.writer++;
	kfix_settle(&f);
	got = map_text(&f);
	assert_string_equal(want, got);
	free(want);
	free(got);
	kfix_fini(&f);
}

static void
a_keeper_killed_at_any_point_is_succeeded(void **state)
{
	static const char *const points[] = { "keeper.before_sync",    "fold.before_commit",    "fold.after_commit",
					      "reclaim.before_ended",  "ended.before_sync",     "reclaim.after_ended",
					      "reclaim.after_over",    "reclaim.before_unlink", "reclaim.after_unlink",
					      "reclaim.after_dirsync", "seal.before_toc",       "rebuild.begin",
					      "rebuild.before_commit" };

	(void)state;
	faults("none.such=kill");
	for (size_t i = 0; i < sizeof(points) / sizeof(points[0]); i++) {
		print_message("   %s\n", points[i]);
		killed_at(points[i], strncmp(points[i], "rebuild", 7) == 0);
	}
	faults(NULL);
}

static off_t
ended_size(struct kfix *f, uint32_t seg)
{
	char name[SEGMENT_NAME];
	struct stat st;

	segment_name(SEGFILE_ENDED, seg, name);
	return fstatat(f->base.journal, name, &st, 0) == 0 ? st.st_size : 0;
}

/* Message 1, an attempt of it that only a later segment says is over, and that it was put off so often then. */
static struct place
put_off_often(struct kfix *f, uint32_t often)
{
	struct place p = put_message(f, 1, 1);

	put_attempt(f, 1, 1, 1, p);
	writer_sync(f, 1);
	kfix_settle(f);
	writer_begin(f, 1);
	writer_of(f, 1)->mark = SEGMENT_HEAD;
	for (uint32_t n = 1; n <= often; n++)
		put_outcome(f, 1, 1, n, OUTCOME_DEFERRED, p);
	writer_sync(f, 1);
	writer_die(f, 1);
	writer_begin(f, 3); /* the newest stays */
	return p;
}

static void
lose_index_and_settle(struct kfix *f)
{
	keeper_close(&f->k);
	assert_int_equal(unlink("index/data.mdb"), 0);
	kfix_settle(f);
}

/* Each time a segment with such an outcome went, the .ended beside the message's own grew by an entry, for ever. */
static void
what_is_put_off_for_ever_needs_one_entry(void **state)
{
	struct kfix f;
	struct place p;
	off_t one;

	(void)state;
	kfix_init(&f);
	p = put_off_often(&f, 1);
	kfix_settle(&f);
	one = ended_size(&f, p.seg);
	assert_true(one > 0);
	kfix_fini(&f);

	kfix_init(&f);
	p = put_off_often(&f, 4000);
	kfix_settle(&f);
	assert_int_equal(ended_size(&f, p.seg), one);
	lose_index_and_settle(&f);
	assert_int_equal(map_state(&f, 1), ROW_QUEUED); /* not in doubt */
	kfix_fini(&f);
}

/* What has ended is written anew: killed in between, or refused, all that it said still counts. */
static void
what_has_ended_is_not_lost_when_it_is_written_anew(void **state)
{
	static const char *const rules[] = { "ended.before_rename=kill", "ended.after_rename=kill", "ended.anew=EIO" };

	(void)state;
	faults("none.such=kill");
	for (size_t i = 0; i < sizeof(rules) / sizeof(rules[0]); i++) {
		struct kfix f;
		int status;
		pid_t pid;

		kfix_init(&f);
		(void)put_off_often(&f, 4000);
		keeper_close(&f.k);
		pid = fork();
		if (pid == 0) {
			faults(rules[i]);
			f.conf.writer++;
			_exit(keeper_open(&f.conf, &f.k) == OK && keeper_settle(f.k, clock_mono()) == OK ? 0 : 1);
		}
		assert_int_equal(waitpid(pid, &status, 0), pid);
		assert_true(strstr(rules[i], "kill") != NULL ? WIFSIGNALED(status) : status == 0);
		f.conf.writer++;
		kfix_settle(&f);
		lose_index_and_settle(&f);
		assert_int_equal(map_state(&f, 1), ROW_QUEUED);
		kfix_fini(&f);
	}
	faults(NULL);
}

/* A record of a type that is not known here, with checksums that are right. */
static void
put_unknown(struct kfix *f, uint64_t writer)
{
	struct writer *w = writer_of(f, writer);
	struct record r = { .items = 0 };
	struct spool_message m = message_of(9, "b@example.com");
	uint64_t n;
	char *buf;

	record_add_message(&r, &m);
	n = record_encoded_size(&r);
	buf = mem_alloc(n);
	record_encode(&r, buf);
	buf[4] = RECORD_TYPE_MAX;
	record_seal(buf, (struct place){ w->seg.number, w->off }, SEGMENT_HEAD, 9);
	assert_int_equal(segment_write(w->seg.fd, w->off, buf, n), OK);
	w->off += (uint32_t)n;
	writer_sync(f, writer);
	free(buf);
	record_fini(&r);
}

/* Found by the fuzzer: one segment that cannot be folded on kept all others from being committed. */
static void
a_segment_of_a_later_version_holds_up_nobody(void **state)
{
	struct kfix f;

	(void)state;
	kfix_init(&f);
	put_message(&f, 1, 1);
	writer_sync(&f, 1);
	kfix_settle(&f);
	put_unknown(&f, 1);
	put_message(&f, 2, 2);
	writer_sync(&f, 2);
	assert_int_equal(keeper_settle(f.k, clock_mono()), ERR_VERSION);
	assert_int_equal(map_state(&f, 2), ROW_QUEUED);
	writer_die(&f, 2);
	for (int i = 0; i < 4; i++)
		assert_int_equal(keeper_settle(f.k, clock_mono()), ERR_VERSION);
	assert_int_equal(map_state(&f, 1), ROW_QUEUED);
	kfix_fini(&f);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(what_is_synced_is_in_the_map),
		cmocka_unit_test(there_is_one_keeper),
		cmocka_unit_test(a_question_is_answered_after_its_commit),
		cmocka_unit_test(what_is_to_be_tidied_does_not_hurry_a_map_that_is_not_committed),
		cmocka_unit_test(a_dead_writer_leaves_its_attempts_in_doubt),
		cmocka_unit_test(a_writer_without_files_is_gone_after_a_scan),
		cmocka_unit_test(a_torn_tail_is_nothing),
		cmocka_unit_test(damage_is_named_and_the_rest_is_served),
		cmocka_unit_test(a_segment_ends_where_its_successor_says),
		cmocka_unit_test(a_segment_left_behind_is_folded_to_its_end),
		cmocka_unit_test(a_failed_segment_left_behind_ends_at_its_mark),
		cmocka_unit_test(the_second_death_by_own_fault_quarantines),
		cmocka_unit_test(a_damaged_head_stops_nobody),
		cmocka_unit_test(what_is_over_is_given_back),
		cmocka_unit_test(the_highest_number_is_not_given_again),
		cmocka_unit_test(a_large_enough_one_becomes_a_spare),
		cmocka_unit_test(what_a_segment_said_outlives_it),
		cmocka_unit_test(bodies_that_nobody_names_go_with_their_writer),
		cmocka_unit_test(the_seal_of_who_has_just_died_is_read),
		cmocka_unit_test(a_fact_beyond_a_mark_holds_up_nobody),
		cmocka_unit_test(a_fact_that_never_came_true_is_damage),
		cmocka_unit_test(a_rebuild_waits_with_a_fact_and_folds_the_rest),
		cmocka_unit_test(a_lost_or_damaged_index_is_built_anew),
		cmocka_unit_test(a_damaged_page_anywhere_changes_nothing),
		cmocka_unit_test(damage_that_nobody_met_is_found_by_the_days_pass),
		cmocka_unit_test(damage_that_a_reader_met_is_looked_for_at_once),
		cmocka_unit_test(a_suspicion_without_reason_passes),
		cmocka_unit_test(a_rebuild_while_it_runs_settles_the_dead_again),
		cmocka_unit_test(what_is_put_off_for_ever_needs_one_entry),
		cmocka_unit_test(what_has_ended_is_not_lost_when_it_is_written_anew),
		cmocka_unit_test(a_row_taken_away_shows_in_the_ledger),
		cmocka_unit_test(deadlines_are_told_and_looked_at_again),
		cmocka_unit_test(the_tail_is_told),
		cmocka_unit_test(a_tail_that_cannot_be_synced_waits),
		cmocka_unit_test(the_keepers_own_failed_sync_loses_nothing),
		cmocka_unit_test(a_full_disk_lets_the_index_have_its_reserve),
		cmocka_unit_test(a_segment_of_a_later_version_holds_up_nobody),
		cmocka_unit_test(a_keeper_killed_at_any_point_is_succeeded),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
