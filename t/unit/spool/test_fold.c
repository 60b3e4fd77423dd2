/* spool/spool_fold: the rules of the fold, over journals and a map in memory. */
#include "fold_world.h"

enum { A = 10, B = 20, K = 30 }; /* writers */

/* ---- a little of everything: two writers, four segments, six messages ---- */

static void
build(struct fw *w)
{
	struct place p1, p2, p3, p4, p5, p6;

	*w = (struct fw){ .row_puts = 0 };
	fw_make(w, 1, A);
	fw_make(w, 2, B);
	fw_make(w, 3, A);
	fw_make(w, 4, B);
	p1 = fw_message(w, 1, 1);
	p2 = fw_message(w, 1, 2);
	p3 = fw_message(w, 2, 3);
	p4 = fw_message(w, 3, 4);
	p5 = fw_message(w, 4, 5);
	p6 = fw_message(w, 4, 6);
	fw_attempt(w, 2, 1, 1, p1); /* 1: delivered by the other one */
	fw_outcome(w, 2, 1, 1, OUTCOME_DELIVERED, p1);
	fw_attempt(w, 2, 2, 1, p2); /* 2: deferred, tried again, no end */
	fw_outcome(w, 2, 2, 1, OUTCOME_DEFERRED, p2);
	fw_attempt(w, 4, 2, 2, p2);
	fw_attempt(w, 3, 3, 1, p3); /* 3: connection broke after the dot */
	fw_outcome(w, 3, 3, 1, OUTCOME_DOUBTFUL, p3);
	fw_edit(w, 2, 4, EDIT_HOLD, 100, p4); /* 4: held, then released, then held */
	fw_edit(w, 3, 4, EDIT_RELEASE, 200, p4);
	fw_edit(w, 4, 4, EDIT_HOLD, 300, p4);
	fw_attempt(w, 4, 5, 1, p5); /* 5: bounced, said twice */
	fw_outcome(w, 4, 5, 1, OUTCOME_BOUNCED, p5);
	fw_outcome(w, 3, 5, 1, OUTCOME_BOUNCED, p5);
	fw_outcome(w, 3, 6, 1, OUTCOME_DEFERRED, p6); /* 6: could not connect */
	fw_die(w, A);
	fw_die(w, B);
}

static void
finish(struct fw *w)
{
	fw_fold_all(w);
	assert_int_equal(fold_settle(w->fold, A, 7777), OK);
	assert_int_equal(fold_settle(w->fold, B, 7777), OK);
	fw_commit(w);
}

static const char *const everything = "attempt 2.2 in doubt\n"
				      "attempt 3.1 in doubt\n"
				      "row 2 at 1:4160 tries 2 due 0 in doubt aside 0 fate 0 deaths 0 \n"
				      "row 3 at 2:4096 tries 1 due 5001 in doubt aside 0 fate 0 deaths 0 \n"
				      "row 4 at 3:4096 tries 0 due 0 held aside 3 fate 0 deaths 0 said so\n"
				      "row 6 at 4:4160 tries 1 due 5001 queued aside 0 fate 0 deaths 0 450 later\n"
				      "segment 1 folded 4224: 1 0 0\n"
				      "segment 2 folded 4480: 1 0 0\n"
				      "segment 3 folded 4480: 1 1 0\n"
				      "segment 4 folded 4480: 1 1 1\n";

static void
segments_in_any_order_give_the_same_map(void **state)
{
	static const uint32_t base[4] = { 1, 2, 3, 4 };

	(void)state;
	for (unsigned code = 0; code < 256; code++) {
		struct fw w;

		build(&w);
		fw_start(&w);
		for (unsigned i = 0; i < 4; i++)
			assert_int_equal(fold_segment(w.fold, base[code >> 2 * i & 3], 0), OK);
		finish(&w);
		assert_string_equal(fw_text(&w, false), everything);
		fw_end(&w);
	}
}

/* Every prefix of the journals is committed, or not, before a new keeper begins. */
static void
every_crash_and_every_prefix_gives_the_same_map(void **state)
{
	(void)state;
	for (unsigned step = 1; step < 24; step++)
		for (unsigned order = 0; order < 4; order++) {
			struct fw w;

			build(&w);
			fw_start(&w);
			for (unsigned i = 0; i < 40; i++) {
				enum err e = fold_segment(w.fold, 1 + (i + order) % 4, 64);

				assert_true(e == OK || e == ERR_AGAIN);
				if (i % step == 0)
					fw_commit(&w);
				if (i % (step + 2) == step)
					fw_start(&w); /* what was not committed is forgotten */
			}
			finish(&w);
			assert_string_equal(fw_text(&w, false), everything);
			fw_end(&w);
		}
}

/* A commit that fails leaves all for the next one. */
static void
a_failed_commit_is_done_again(void **state)
{
	struct fw w;
	struct index_meta meta = { .keeper = 1 };

	(void)state;
	build(&w);
	fw_start(&w);
	fw_fold_all(&w);
	w.next = w.map;
	assert_int_equal(fold_commit(w.fold, &meta), OK); /* the world never says that it was durable */
	finish(&w);
	assert_string_equal(fw_text(&w, false), everything);
	fw_end(&w);
}

/* An error of the map leaves the fold before the record at which it came. */
static void
a_map_that_cannot_be_read_stops_the_fold_without_harm(void **state)
{
	struct fw w;

	(void)state;
	build(&w);
	fw_start(&w);
	assert_int_equal(fold_segment(w.fold, 1, 0), OK);
	fw_commit(&w);
	w.fail_rows = ERR_IO;
	assert_int_equal(fold_segment(w.fold, 2, 0), ERR_IO);
	assert_int_equal(fold_segment(w.fold, 2, 0), ERR_IO);
	w.fail_rows = OK;
	finish(&w);
	assert_string_equal(fw_text(&w, false), everything);
	fw_end(&w);
}

static void
what_came_and_went_gets_no_row(void **state)
{
	struct fw w = { .row_puts = 0 };
	struct place p;

	(void)state;
	fw_make(&w, 1, A);
	p = fw_message(&w, 1, 1);
	fw_attempt(&w, 1, 1, 1, p);
	fw_outcome(&w, 1, 1, 1, OUTCOME_DELIVERED, p);
	fw_start(&w);
	fw_fold_all(&w);
	fw_commit(&w);
	assert_int_equal(w.row_puts, 0);
	assert_int_equal(w.map.atts, 0);
	assert_int_equal(w.map.ledger.accepted, 1);
	assert_int_equal(w.map.ledger.delivered, 1);
	fw_end(&w);
}

static void
only_what_is_below_the_mark_is_folded(void **state)
{
	struct fw w = { .row_puts = 0 };

	(void)state;
	fw_make(&w, 1, A);
	fw_message(&w, 1, 1);
	fw_message(&w, 1, 2);
	fw_seg(&w, 1)->mark = 1;
	fw_start(&w);
	fw_fold_all(&w);
	fw_commit(&w);
	assert_int_equal(w.map.rows, 1);
	fw_seg(&w, 1)->mark = 2;
	fw_fold_all(&w);
	fw_commit(&w);
	assert_int_equal(w.map.rows, 2);
	fw_end(&w);
}

/* Rule 2, with a file that no scan has shown yet. */
static void
a_fact_takes_the_segment_of_its_message_first(void **state)
{
	struct fw w = { .row_puts = 0 };
	struct fold_file file;
	struct place p;

	(void)state;
	fw_make(&w, 1, A);
	fw_start(&w);
	fw_make(&w, 2, B);
	p = fw_message(&w, 2, 1);
	fw_outcome(&w, 1, 1, 1, OUTCOME_DELIVERED, p);
	assert_int_equal(fw_find(&w, 1, &file), OK);
	assert_int_equal(fold_see(w.fold, &file), OK);
	assert_int_equal(fold_segment(w.fold, 1, 0), OK);
	fw_commit(&w);
	assert_int_equal(w.map.rows, 0);
	assert_int_equal(w.map.ledger.delivered, 1);
	fw_end(&w);
}

/* Who speaks of a message knows that it is synced: a mark that has not got there yet is an old one, and the fact waits.
 */
static void
a_fact_waits_for_an_old_mark(void **state)
{
	struct fw w = { .row_puts = 0 };
	struct place p;

	(void)state;
	fw_make(&w, 1, A);
	fw_make(&w, 2, B);
	p = fw_message(&w, 1, 1);
	fw_outcome(&w, 2, 1, 1, OUTCOME_DELIVERED, p);
	fw_seg(&w, 1)->mark = 0;
	fw_start(&w);
	assert_int_equal(fold_segment(w.fold, 2, 0), ERR_AGAIN);
	fw_seg(&w, 1)->mark = 1;
	assert_int_equal(fold_segment(w.fold, 2, 0), OK);
	fw_commit(&w);
	assert_int_equal(w.map.rows, 0);
	assert_int_equal(w.map.ledger.delivered, 1);
	fw_end(&w);
}

/* False bytes could name each other in a ring: that must end. */
static void
a_ring_of_facts_ends(void **state)
{
	struct fw w = { .row_puts = 0 };

	(void)state;
	fw_make(&w, 1, A);
	fw_make(&w, 2, B);
	fw_outcome(&w, 1, 1, 1, OUTCOME_DELIVERED, (struct place){ 2, FW_OFF(5) });
	fw_outcome(&w, 2, 2, 1, OUTCOME_DELIVERED, (struct place){ 1, FW_OFF(5) });
	fw_die(&w, A);
	fw_die(&w, B);
	fw_start(&w);
	fw_fold_all(&w);
	fw_commit(&w);
	fw_end(&w);
}

static void
a_failed_segment_ends_where_a_later_one_says(void **state)
{
	struct fw w = { .row_puts = 0 };
	struct fw_segment *s;

	(void)state;
	fw_make(&w, 1, A);
	fw_message(&w, 1, 1);
	fw_message(&w, 1, 2);
	s = fw_make(&w, 2, A);
	fw_write(&w, 2, (struct spool_item){ .kind = ITEM_END, .end = { .seg = 1, .mark = FW_OFF(1) } });
	s->end_of = 1;
	s->end_at = FW_OFF(1);
	fw_die(&w, A);
	fw_start(&w);
	fw_fold_all(&w);
	fw_commit(&w);
	assert_int_equal(w.map.rows, 1);
	assert_int_equal(w.map.row[0]->id, 1);
	fw_end(&w);
}

static void
fw_end_of(struct fw *w, uint32_t number, uint32_t seg, uint32_t mark)
{
	fw_write(w, number, (struct spool_item){ .kind = ITEM_END, .end = { .seg = seg, .mark = mark } });
}

/* The map would not know of it: this keeper and the next one would fold what comes by that number to different ends. */
static void
the_end_of_a_segment_that_is_not_there_says_nothing(void **state)
{
	struct fw w = { .row_puts = 0 };

	(void)state;
	fw_make(&w, 3, A);
	fw_end_of(&w, 3, 1, FW_OFF(1));
	fw_end_of(&w, 3, 3, FW_OFF(1));
	fw_end_of(&w, 3, 4, FW_OFF(1));
	fw_message(&w, 3, 1);
	fw_start(&w);
	fw_fold_all(&w);
	fw_commit(&w);
	assert_int_equal(w.map.rows, 1);
	fw_make(&w, 1, B);
	fw_make(&w, 4, B);
	for (msgid_t id = 2; id <= 3; id++) {
		fw_message(&w, 1, id);
		fw_message(&w, 4, id + 2);
	}
	fw_see_all(&w);
	fw_fold_all(&w);
	fw_commit(&w);
	assert_int_equal(w.map.rows, 5);
	fw_end(&w);
}

/* One that has gone since: what names it is folded all the same, and its writer settled. */
static void
a_failed_segment_that_is_gone_holds_up_nobody(void **state)
{
	struct fw w = { .row_puts = 0 };
	struct place p;

	(void)state;
	fw_make(&w, 1, A);
	p = fw_message(&w, 1, 1);
	fw_make(&w, 2, A);
	fw_end_of(&w, 2, 1, FW_OFF(1));
	fw_outcome(&w, 2, 1, 1, OUTCOME_DELIVERED, p);
	fw_message(&w, 2, 2);
	fw_seg(&w, 2)->end_of = 1;
	fw_seg(&w, 2)->end_at = FW_OFF(1);
	fw_die(&w, A);
	fw_start(&w);
	fw_seg(&w, 1)->number = 0;
	assert_int_equal(fold_segment(w.fold, 2, 0), OK);
	assert_int_equal(fold_settle(w.fold, A, 7777), OK);
	fw_commit(&w);
	assert_int_equal(w.map.rows, 1);
	assert_int_equal(w.map.row[0]->id, 2);
	fw_end(&w);
}

/* Nor what is said of a later one: it is not there yet when it is said, or has no business to be. */
static void
the_end_of_a_later_segment_says_nothing(void **state)
{
	struct fw w = { .row_puts = 0 };
	struct fw_segment *s;

	(void)state;
	s = fw_make(&w, 1, A);
	s->end_of = 2;
	s->end_at = FW_OFF(1);
	fw_end_of(&w, 1, 2, FW_OFF(1));
	fw_make(&w, 2, B);
	fw_message(&w, 2, 1);
	fw_message(&w, 2, 2);
	fw_start(&w);
	fw_fold_all(&w);
	fw_commit(&w);
	assert_int_equal(w.map.rows, 2);
	fw_end(&w);
}

/* ---- rule 4 ---- */

static void
nobody_is_in_doubt_before_all_of_a_writer_is_folded(void **state)
{
	struct fw w = { .row_puts = 0 };
	struct place p;

	(void)state;
	fw_make(&w, 1, A);
	fw_make(&w, 2, A);
	p = fw_message(&w, 1, 1);
	fw_attempt(&w, 1, 1, 1, p);
	fw_outcome(&w, 2, 1, 1, OUTCOME_DELIVERED, p);
	fw_die(&w, A);
	fw_start(&w);
	assert_int_equal(fold_segment(w.fold, 1, 0), OK);
	assert_int_equal(fold_settle(w.fold, A, 1), ERR_AGAIN);
	assert_int_equal(fold_segment(w.fold, 2, 0), OK);
	assert_int_equal(fold_settle(w.fold, A, 1), OK);
	fw_commit(&w);
	assert_int_equal(w.map.atts, 0);
	assert_int_equal(w.map.rows, 0);
	fw_end(&w);
}

/* What was in doubt stays on the list for a day, whatever became of it. */
static void
a_doubt_is_named_for_a_day(void **state)
{
	struct fw w = { .row_puts = 0 };
	struct place p;
	const usec_t day = INT64_C(86400) * USEC_PER_SEC;

	(void)state;
	fw_make(&w, 1, A);
	fw_make(&w, 2, B);
	p = fw_message(&w, 1, 1);
	fw_attempt(&w, 1, 1, 1, p);
	fw_die(&w, A);
	fw_start(&w);
	fw_fold_all(&w);
	assert_int_equal(fold_settle(w.fold, A, 5000), OK);
	fw_commit(&w);
	assert_int_equal(fold_doubts(w.fold), 1);
	assert_int_equal(w.map.att[0].state, ATTEMPT_DOUBT);
	fw_attempt(&w, 2, 1, 2, p);
	fw_fold_all(&w);
	fw_commit(&w);
	assert_int_equal(fold_doubts(w.fold), 0);
	assert_int_equal(w.map.att[0].state, ATTEMPT_RETRIED);
	fw_outcome(&w, 2, 1, 2, OUTCOME_DELIVERED, p);
	fw_fold_all(&w);
	fw_commit(&w);
	assert_int_equal(w.map.atts, 1);
	assert_int_equal(w.map.att[0].state, ATTEMPT_DELIVERED);
	assert_int_equal(fold_sweep(w.fold, 5000 + day - 1), OK);
	fw_commit(&w);
	assert_int_equal(w.map.atts, 1);
	assert_int_equal(fold_sweep(w.fold, 5000 + day), OK);
	fw_commit(&w);
	assert_int_equal(w.map.atts, 0);
	fw_end(&w);
}

/* A message set aside while it was in work is still named when its writer dies. */
static void
a_hold_does_not_hide_a_doubt(void **state)
{
	struct fw w = { .row_puts = 0 };
	struct place p;

	(void)state;
	fw_make(&w, 1, A);
	fw_make(&w, 2, B);
	p = fw_message(&w, 1, 1);
	fw_attempt(&w, 1, 1, 1, p);
	fw_edit(&w, 2, 1, EDIT_HOLD, 2000, p);
	fw_die(&w, A);
	fw_start(&w);
	fw_fold_all(&w);
	assert_int_equal(fold_settle(w.fold, A, 5000), OK);
	fw_commit(&w);
	assert_int_equal(w.map.row[0]->state, ROW_HELD);
	assert_int_equal(w.map.atts, 1);
	assert_int_equal(w.map.att[0].state, ATTEMPT_HELD);
	fw_end(&w);
}

/* ---- edits ---- */

static struct place
finger(struct fw *w, uint32_t seg, usec_t at, struct place p, bool other)
{
	return fw_write(w, seg,
			(struct spool_item){ .kind = ITEM_EDIT,
					     .edit = { .id_lo = 1,
						       .id_hi = 1,
						       .action = EDIT_FINGER,
						       .at = at,
						       .place = p,
						       .reason = other ? SLICE("other") : SLICE("said so") } });
}

static void
the_second_death_quarantines(void **state)
{
	struct fw w = { .row_puts = 0 };
	struct place p;

	(void)state;
	fw_make(&w, 1, A);
	fw_make(&w, 2, K);
	p = fw_message(&w, 1, 1);
	finger(&w, 2, 100, p, false);
	finger(&w, 2, 150, p, false); /* the same death, told twice */
	fw_start(&w);
	fw_fold_all(&w);
	fw_commit(&w);
	assert_int_equal(w.map.row[0]->deaths, 1);
	assert_int_equal(w.map.row[0]->state, ROW_QUEUED);
	finger(&w, 2, 200, p, true);
	fw_fold_all(&w);
	fw_commit(&w);
	assert_int_equal(w.map.row[0]->deaths, 2);
	assert_int_equal(w.map.row[0]->state, ROW_QUARANTINED);
	fw_end(&w);
}

static struct place
range(struct fw *w, uint32_t seg, enum edit_action action, usec_t at, msgid_t lo, msgid_t hi)
{
	return fw_write(w, seg,
			(struct spool_item){ .kind = ITEM_EDIT,
					     .edit = { .id_lo = lo,
						       .id_hi = hi,
						       .action = (uint8_t)action,
						       .at = at,
						       .reason = SLICE("said so") } });
}

/* Committed, folded since, and folded later: a range meets them all, in any order. */
static void
a_range_meets_every_message(void **state)
{
	(void)state;
	for (unsigned order = 0; order < 2; order++) {
		struct fw w = { .row_puts = 0 };
		struct index_segment s;

		fw_make(&w, 1, A);
		fw_make(&w, 2, B);
		fw_make(&w, 3, A);
		for (msgid_t id = 1; id <= 9; id++)
			fw_message(&w, id <= 6 ? 1 : 3, id);
		range(&w, 2, EDIT_HOLD, 100, 2, 8);
		fw_start(&w);
		assert_int_equal(fold_segment(w.fold, order == 0 ? 1 : 2, 0), OK);
		fw_commit(&w);
		assert_int_equal(fold_segment(w.fold, order == 0 ? 2 : 1, 0), OK);
		while (fold_ranges(w.fold, 2) == ERR_AGAIN)
			fw_commit(&w);
		fw_commit(&w);
		fw_start(&w);
		assert_int_equal(fold_segment(w.fold, 3, 0), OK);
		while (fold_ranges(w.fold, 2) == ERR_AGAIN)
			;
		fw_commit(&w);
		assert_int_equal(w.map.rows, 9);
		for (size_t i = 0; i < w.map.rows; i++)
			assert_int_equal(w.map.row[i]->state,
					 w.map.row[i]->id >= 2 && w.map.row[i]->id <= 8 ? ROW_HELD : ROW_QUEUED);
		assert_true(fold_segment_get(w.fold, 2, &s));
		assert_int_equal(s.edits, 1);
		fw_end(&w);
	}
}

/* What the console wants is the owner's to do, whatever the state. */
static void
a_fate_waits_in_the_queue(void **state)
{
	struct fw w = { .row_puts = 0 };
	struct place p;

	(void)state;
	fw_make(&w, 1, A);
	p = fw_message(&w, 1, 1);
	fw_edit(&w, 1, 1, EDIT_HOLD, 100, p);
	fw_edit(&w, 1, 1, EDIT_DROP, 200, p);
	fw_start(&w);
	fw_fold_all(&w);
	fw_commit(&w);
	assert_int_equal(w.map.row[0]->state, ROW_QUEUED);
	assert_int_equal(w.map.row[0]->fate, ROW_DROP);
	fw_outcome(&w, 1, 1, 1, OUTCOME_DISCARDED, p);
	fw_fold_all(&w);
	fw_commit(&w);
	assert_int_equal(w.map.rows, 0);
	assert_int_equal(w.map.edits, 0);
	assert_int_equal(w.map.ledger.discarded, 1);
	fw_end(&w);
}

/* ---- ledger ---- */

static void
a_notification_is_generated_in_the_same_record(void **state)
{
	struct fw w = { .row_puts = 0 };
	struct fw_segment *s;
	struct place p;

	(void)state;
	s = fw_make(&w, 1, A);
	p = fw_message(&w, 1, 1);
	fw_outcome(&w, 1, 1, 1, OUTCOME_BOUNCED, p);
	s->rec[1].items[1].item = s->rec[0].items[0].item;
	s->rec[1].items[1].item.message.id = 2;
	s->rec[1].items[1].item.message.origin = ORIGIN_GENERATED;
	s->rec[1].count = 2;
	fw_start(&w);
	fw_fold_all(&w);
	fw_commit(&w);
	assert_int_equal(w.map.rows, 1);
	assert_int_equal(w.map.row[0]->item, 1);
	assert_int_equal(w.map.ledger.generated, 1);
	assert_int_equal(w.map.ledger.bounced, 1);
	fw_end(&w);
}

static void
damage_is_counted_and_keeps_its_segment(void **state)
{
	struct fw w = { .row_puts = 0 };
	struct index_segment s;
	struct place p;

	(void)state;
	fw_make(&w, 1, A);
	fw_message(&w, 1, 1);
	p = fw_message(&w, 1, 2);
	fw_outcome(&w, 1, 2, 1, OUTCOME_DELIVERED, p);
	fw_seg(&w, 1)->rec[0].lost = true;
	fw_die(&w, A);
	fw_start(&w);
	fw_fold_all(&w);
	fw_commit(&w);
	assert_int_equal(w.map.ledger.damaged, 1);
	assert_int_equal(w.map.ledger.damaged_records, 1);
	assert_int_equal(w.map.damages, 1);
	assert_true(fold_segment_get(w.fold, 1, &s));
	assert_int_equal(s.damaged, 1);
	assert_false(fold_reclaimable(w.fold, 1));
	fw_end(&w);
}

/* ---- rules 5 and 7 ---- */

static enum err
save_ended(void *arg, uint32_t seg, msgid_t id)
{
	struct fw_segment *s = fw_seg(arg, seg);

	s->ended[s->ended_n].id = id;
	s->ended[s->ended_n++].n = UINT32_MAX;
	return OK;
}

static enum err
save_resolved(void *arg, uint32_t seg, msgid_t id, uint32_t n)
{
	struct fw_segment *s = fw_seg(arg, seg);

	s->ended[s->ended_n].id = id;
	s->ended[s->ended_n++].n = n;
	return OK;
}

static enum err
save_ends(void *arg, uint32_t seg, uint32_t mark)
{
	struct fw_segment *s = fw_seg(arg, seg);

	s->end_of = seg;
	s->end_at = mark;
	return OK;
}

static const struct fold_saying saying = { .ended = save_ended, .resolved = save_resolved, .ends = save_ends };

static void
reclaim(struct fw *w, uint32_t number)
{
	assert_true(fold_reclaimable(w->fold, number));
	assert_int_equal(fold_says(w->fold, number, &saying, w), OK);
	fold_over(w->fold, number);
	fw_commit(w);
	fw_seg(w, number)->number = 0;
	fold_gone(w->fold, number);
	fw_commit(w);
}

static void
rebuild(struct fw *w)
{
	fold_rebuild(w->fold);
	fw_see_all(w);
	assert_int_equal(fold_rebuild_ended(w->fold), OK);
	fw_fold_all(w);
	assert_int_equal(fold_settle(w->fold, A, 7777), OK);
	assert_int_equal(fold_settle(w->fold, B, 7777), OK);
	fold_rebuilt(w->fold);
	fw_commit(w);
}

static void
a_rebuild_gives_the_same_mail(void **state)
{
	struct fw w;

	(void)state;
	build(&w);
	fw_start(&w);
	finish(&w);
	rebuild(&w);
	assert_string_equal(fw_text(&w, false), everything);
	assert_int_equal(w.map.ledger.carried,
			 4); /* what is over in journals that still stand does not come in again */
	assert_int_equal(w.map.ledger.delivered, 0);
	fw_end(&w);
}

/* The outcomes of a segment that goes are kept beside those of its messages. */
static void
what_a_segment_says_outlives_it(void **state)
{
	struct fw w = { .row_puts = 0 };
	struct place p1, p2, p3;
	char *before;

	(void)state;
	fw_make(&w, 1, A);
	fw_make(&w, 2, B);
	fw_make(&w, 3, B);
	p1 = fw_message(&w, 1, 1);
	p2 = fw_message(&w, 1, 2);
	p3 = fw_message(&w, 1, 3);
	fw_attempt(&w, 2, 1, 1, p1);
	fw_outcome(&w, 2, 1, 1, OUTCOME_DELIVERED, p1);
	fw_attempt(&w, 2, 2, 1, p2);
	fw_outcome(&w, 3, 2, 1, OUTCOME_DEFERRED, p2); /* its attempt is in the segment before */
	fw_outcome(&w, 3, 3, 1, OUTCOME_DEFERRED, p3);
	fw_die(&w, A);
	fw_die(&w, B);
	fw_start(&w);
	finish(&w);
	before = mem_strdup(fw_text(&w, true));
	reclaim(&w, 3);
	assert_int_equal(fw_seg(&w, 1)->ended_n, 2);
	rebuild(&w);
	assert_int_equal(fold_doubts(w.fold), 0);
	assert_int_equal(w.map.rows, 2);
	reclaim(&w, 2);
	rebuild(&w);
	assert_int_equal(w.map.rows, 2);
	assert_int_equal(fold_doubts(w.fold), 0);
	free(before);
	fw_end(&w);
}

static void
a_segment_with_an_open_attempt_stays(void **state)
{
	struct fw w = { .row_puts = 0 };
	struct place p;

	(void)state;
	fw_make(&w, 1, A);
	fw_make(&w, 2, B);
	fw_make(&w, 3, B);
	p = fw_message(&w, 1, 1);
	fw_attempt(&w, 2, 1, 1, p);
	fw_seg(&w, 2)->sealed = true;
	fw_start(&w);
	fw_fold_all(&w);
	fw_commit(&w);
	assert_false(fold_reclaimable(w.fold, 2));
	fw_die(&w, B);
	fw_fold_all(&w);
	assert_int_equal(fold_settle(w.fold, B, 1), OK);
	fw_commit(&w);
	assert_false(fold_reclaimable(w.fold, 2)); /* in doubt now */
	fw_make(&w, 4, A);
	fw_outcome(&w, 4, 1, 1, OUTCOME_DELIVERED, p);
	fw_fold_all(&w);
	assert_false(fold_reclaimable(w.fold, 2)); /* not before it is committed */
	fw_commit(&w);
	assert_true(fold_reclaimable(w.fold, 2));
	assert_false(fold_reclaimable(w.fold, 1)); /* its writer lives */
	fw_end(&w);
}

/* Where a failed segment ends must not be forgotten with the segment that said it. */
static void
the_end_of_a_failed_segment_is_saved(void **state)
{
	struct fw w = { .row_puts = 0 };
	struct fw_segment *s;

	(void)state;
	fw_make(&w, 1, A);
	fw_message(&w, 1, 1);
	fw_message(&w, 1, 2);
	s = fw_make(&w, 2, A);
	fw_write(&w, 2, (struct spool_item){ .kind = ITEM_END, .end = { .seg = 1, .mark = FW_OFF(1) } });
	s->end_of = 1;
	s->end_at = FW_OFF(1);
	fw_die(&w, A);
	fw_start(&w);
	finish(&w);
	reclaim(&w, 2);
	rebuild(&w);
	assert_int_equal(w.map.rows, 1);
	fw_end(&w);
}

/* A body lives as long as a message refers to it; one that nobody names goes with its writer. */
static void
bodies_live_with_their_messages(void **state)
{
	struct fw w = { .row_puts = 0 };
	struct place p;

	(void)state;
	fw_make(&w, 1, A);
	fw_make(&w, 2, A)->kind = SEGMENT_BODY;
	fw_make(&w, 3, A)->kind = SEGMENT_BODY;
	p = fw_message(&w, 1, 1);
	fw_seg(&w, 1)->rec[0].items[0].body_seg = 2;
	fw_start(&w);
	fw_fold_all(&w);
	fw_commit(&w);
	assert_false(fold_reclaimable(w.fold, 2));
	assert_false(fold_reclaimable(w.fold, 3));
	fw_outcome(&w, 1, 1, 1, OUTCOME_DELIVERED, p);
	fw_fold_all(&w);
	fw_commit(&w);
	assert_true(fold_reclaimable(w.fold, 2));
	assert_false(fold_reclaimable(w.fold, 3)); /* it may still be growing */
	fw_die(&w, A);
	fw_fold_all(&w);
	assert_int_equal(fold_settle(w.fold, A, 1), OK);
	fw_commit(&w);
	assert_true(fold_reclaimable(w.fold, 3));
	fw_end(&w);
}

/* The next owner believes the handover record: it must not be in the map before what stands in an earlier segment. */
static void
a_handover_takes_all_that_was_said_before(void **state)
{
	struct fw w = { .fold = NULL };
	struct place m, late;
	struct index_row row;

	(void)state;
	fw_make(&w, 2, A);
	fw_make(&w, 3, A);
	fw_make(&w, 1, B);
	m = fw_message(&w, 2, 7);
	fw_edit(&w, 2, 7, EDIT_HOLD, 100, m);
	fw_write(&w, 3, (struct spool_item){ .kind = ITEM_HANDOVER, .handover = { .owner = A } });
	late = fw_message(&w, 3, 8);
	fw_attempt(&w, 1, 8, 1, late);
	fw_start(&w);
	/* The attempt takes segment 3 past the record; segment 2 is not known to be sealed yet. */
	assert_int_equal(fold_segment(w.fold, 1, 0), ERR_AGAIN);
	fw_commit(&w);
	assert_int_equal(w.map.hands, 0);
	fw_seg(&w, 2)->sealed = true;
	fw_see_all(&w);
	assert_int_equal(fold_segment(w.fold, 1, 0), OK);
	fw_commit(&w);
	assert_int_equal(w.map.hands, 1);
	assert_int_equal(fold_message(w.fold, 7, &row), OK);
	assert_int_equal(row.state, ROW_HELD);
	fw_end(&w);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_handover_takes_all_that_was_said_before),
		cmocka_unit_test(segments_in_any_order_give_the_same_map),
		cmocka_unit_test(every_crash_and_every_prefix_gives_the_same_map),
		cmocka_unit_test(a_failed_commit_is_done_again),
		cmocka_unit_test(a_map_that_cannot_be_read_stops_the_fold_without_harm),
		cmocka_unit_test(what_came_and_went_gets_no_row),
		cmocka_unit_test(only_what_is_below_the_mark_is_folded),
		cmocka_unit_test(a_fact_takes_the_segment_of_its_message_first),
		cmocka_unit_test(a_fact_waits_for_an_old_mark),
		cmocka_unit_test(a_ring_of_facts_ends),
		cmocka_unit_test(a_failed_segment_ends_where_a_later_one_says),
		cmocka_unit_test(the_end_of_a_segment_that_is_not_there_says_nothing),
		cmocka_unit_test(the_end_of_a_later_segment_says_nothing),
		cmocka_unit_test(a_failed_segment_that_is_gone_holds_up_nobody),
		cmocka_unit_test(nobody_is_in_doubt_before_all_of_a_writer_is_folded),
		cmocka_unit_test(a_doubt_is_named_for_a_day),
		cmocka_unit_test(a_hold_does_not_hide_a_doubt),
		cmocka_unit_test(the_second_death_quarantines),
		cmocka_unit_test(a_range_meets_every_message),
		cmocka_unit_test(a_fate_waits_in_the_queue),
		cmocka_unit_test(a_notification_is_generated_in_the_same_record),
		cmocka_unit_test(damage_is_counted_and_keeps_its_segment),
		cmocka_unit_test(a_rebuild_gives_the_same_mail),
		cmocka_unit_test(what_a_segment_says_outlives_it),
		cmocka_unit_test(a_segment_with_an_open_attempt_stays),
		cmocka_unit_test(the_end_of_a_failed_segment_is_saved),
		cmocka_unit_test(bodies_live_with_their_messages),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
