/* spool_fold.h - the fold: how journals become the map (rules 1 to 7)
 * Pure: no file, no thread, no clock. Records come from, and the net effect goes to, a world of callbacks: the keeper's
 * is the disk and LMDB, the simulation's a few arrays. What was folded since the last commit is held in memory, so that
 * a message that came and went in between never gets a row.
 *
 *     load what the map holds -> see the files -> fold, settle, reclaim ... -> commit -> committed
 *
 * Facts may be folded twice, and segments in any order: the map comes out the same. One thread. Callbacks must not call
 * back into the fold. Errors: what a callback returns, unchanged; the fold is then as it was before the record
 * at which it stopped, and goes on there next time. */
#ifndef SPOOL_SPOOL_FOLD_H
#define SPOOL_SPOOL_FOLD_H

#include "spool/spool_index.h"

struct fold;

/* One record as the world hands it over. What it points to holds until the next call of `record`. */
struct fold_item {
	struct spool_item item;
	uint32_t body_seg; /* of a message: segment of its large body, 0 for none */
};
struct fold_record {
	uint32_t off;  /* where it begins: above the place asked for when something unreadable was passed over */
	uint32_t next; /* where the next one begins */
	uint32_t mark; /* the writer's mark that it carries */
	msgid_t id_high;
	const struct fold_item *items; /* NULL with `lost` */
	uint32_t count;
	bool lost; /* damage: off..next is kept, counted and named; `count` messages went with it, as far as its
		    * head can still say */
};

/* A gone writer, or one that lives: what the map says of it. */
struct fold_writer {
	uint64_t writer;
	bool gone;
	usec_t when; /* real time of the settling */
};

/* An edit that is kept as long as something depends on it: of one message, or of a range (id 0). */
struct fold_edit {
	msgid_t id; /* 0: a range */
	usec_t at;
	struct place place; /* of its record */
	uint8_t action;     /* enum edit_action */
	msgid_t lo, hi;
	msgid_t done; /* a range: applied to all rows up to this id; above it when a row is next touched */
	struct slice binding, domain, reason;
};

/* A file of the journal. */
struct fold_file {
	uint32_t number;
	uint8_t kind; /* as in the segment's head */
	uint8_t slot;
	uint64_t writer;
	bool keepers;    /* written by this keeper: folded before all others (rule 5) */
	bool copies;     /* messages that a keeper, this one or one before, has moved: folded before all others, too */
	bool sealed;     /* full, given up, or its writer is gone */
	uint32_t mark;   /* the highest known */
	uint32_t end_of; /* its first record, or its .ended, says where another one, or this one, ends; 0: nothing said
			  */
	uint32_t end_at;
};

struct fold_world {
	/* Journals. `find`: is there such a file? The fold asks for those it was not shown; ERR_NOTFOUND if not.
	 * `limit`: how far seg may be folded now, made sure of first (rule 1); what begins below `from` is folded
	 * already. ERR_NOTFOUND: its file is gone. ERR_AGAIN: not now. `record`: the first one at or behind off that
	 * begins below limit, or a lost stretch; ERR_EOF when there is none. */
	enum err (*find)(void *arg, uint32_t seg, struct fold_file *out);
	enum err (*limit)(void *arg, uint32_t seg, uint32_t from, uint32_t *limit);
	enum err (*record)(void *arg, uint32_t seg, uint32_t off, uint32_t limit, struct fold_record *out);
	/* The map as of the last commit. `rows`: each row with lo <= id <= hi, for range edits; stops when fn fails. */
	enum err (*row)(void *arg, msgid_t id, struct index_row *out);
	enum err (*rows)(void *arg, msgid_t lo, msgid_t hi, enum err (*fn)(void *, const struct index_row *),
			 void *fn_arg);
	enum err (*edits)(void *arg, msgid_t id, enum err (*fn)(void *, const struct fold_edit *), void *fn_arg);
	/* What a segment's .ended says of its messages (struct fold_saying). For a rebuild. n: UINT32_MAX: the message
	 * is over; else attempts up to n are. */
	enum err (*ended)(void *arg, uint32_t seg, enum err (*fn)(void *, msgid_t id, uint32_t n), void *fn_arg);

	/* The commit: each change once, between fold_commit's begin and end. NULL for what is not there: was == NULL is
	 * a new row, now == NULL one that goes. All else that hangs on a row (queues, counts, expiry) follows from the
	 * pair. A failing one ends the commit with its error. */
	enum err (*put_row)(void *arg, const struct index_row *was, const struct index_row *now);
	enum err (*put_segment)(void *arg, const struct index_segment *s);
	enum err (*del_segment)(void *arg, uint32_t number);
	enum err (*put_attempt)(void *arg, const struct index_attempt *a);
	enum err (*del_attempt)(void *arg, msgid_t id, uint32_t n);
	enum err (*put_edit)(void *arg, const struct fold_edit *e);
	enum err (*del_edit)(void *arg, const struct fold_edit *e);
	enum err (*put_writer)(void *arg, const struct fold_writer *w);
	enum err (*del_writer)(void *arg, uint64_t writer);
	enum err (*put_handover)(void *arg, const struct index_handover *h);
	enum err (*del_handover)(void *arg, uint64_t owner, uint64_t writer);
	enum err (*put_damage)(void *arg, const struct index_damage *d);
	enum err (*put_ledger)(void *arg, const struct index_ledger *l);
	enum err (*put_meta)(void *arg, const struct index_meta *m);
	/* Everything goes, in the same transaction: a rebuild begins. */
	enum err (*clear)(void *arg);
};

/* Borrows world and arg. */
struct fold *fold_new(const struct fold_world *world, void *arg);
/* Clears the caller's pointer; NULL inside is fine. What was not committed is forgotten: it is still in the journals.
 */
void fold_free(struct fold **f);

/* ---- start: what the last commit says, in any order, before anything is folded ---- */
void fold_load_meta(struct fold *f, const struct index_meta *m);
void fold_load_ledger(struct fold *f, const struct index_ledger *l);
void fold_load_segment(struct fold *f, const struct index_segment *s);
void fold_load_attempt(struct fold *f, const struct index_attempt *a);
void fold_load_writer(struct fold *f, const struct fold_writer *w);
void fold_load_handover(struct fold *f, const struct index_handover *h);
/* Ranges only. */
void fold_load_range(struct fold *f, const struct fold_edit *e);

/* ---- files ---- */
/* A file stands. As often as one likes: what is known only grows. A file whose row is over stays over. Where a later
 * segment ends, or one that is not there, is not believed. Errors: those of `find`. */
enum err fold_see(struct fold *f, const struct fold_file *file);
/* What is known of a segment; false: not seen and not in the map. */
bool fold_segment_get(struct fold *f, uint32_t number, struct index_segment *out);
/* Each known segment in rising order: the first one above `after`; false: no more. */
bool fold_segment_next(struct fold *f, uint32_t after, struct index_segment *out);

/* ---- folding ---- */

/* Takes the keeper's own segments, then this one, as far as they may be taken. Rule 2 may take others first. Stops with
 * ERR_AGAIN after about `budget` bytes (0: none), or where a record waits. A fact whose place can be no record's any
 * more, for that segment ends before it, waits no longer: it is counted and named as damage. */
enum err fold_segment(struct fold *f, uint32_t number, uint64_t budget);
/* The last fold_segment stopped at a record that waits for another writer's mark, seal or end: no use to go on before
 * there is news. */
bool fold_waits(const struct fold *f);
/* Range edits: applies them to about so many more rows. ERR_AGAIN: there are more. */
enum err fold_ranges(struct fold *f, size_t rows);
/* Rule 4: this writer is gone. ERR_AGAIN: a segment of it is not sealed or not folded to its end yet. OK: what it left
 * unpaired is in doubt, and it is noted as gone. `now`: real time. */
enum err fold_settle(struct fold *f, uint64_t writer, usec_t now);
/* Forgets doubts that were decided a day ago, gone writers without files, ranges on which nothing depends. */
enum err fold_sweep(struct fold *f, usec_t now);

/* ---- commit ---- */

bool fold_dirty(const struct fold *f);
/* A message as it is now, committed or not. Its slices hold until the fold goes on. ERR_NOTFOUND. */
enum err fold_message(struct fold *f, msgid_t id, struct index_row *out);
/* Bytes folded since the last commit; messages: rows to come minus rows to go. */
uint64_t fold_tail(const struct fold *f, int64_t *messages);
/* Rows held in memory until the next commit; in_map: those of them that the map has, each of which may be a page of its
 * own to change. */
size_t fold_rows(const struct fold *f, size_t *in_map);
/* What must stand beside segments, synced, before the commit: messages that are over there because they were moved, or
 * because their outcome names the place that they were moved from. */
struct fold_saying;
enum err fold_moved(struct fold *f, const struct fold_saying *saying, void *arg);
/* Hands the net effect to the world, meta last (keeper, scanned_at, highest_seg as given; the rest is the fold's). */
enum err fold_commit(struct fold *f, const struct index_meta *meta);
/* The world has made it durable. Without this call the next fold_commit hands over everything again. */
void fold_committed(struct fold *f);
void fold_ledger(const struct fold *f, struct index_ledger *out);
msgid_t fold_highest_id(const struct fold *f);
/* Attempts in doubt, not yet decided; messages quarantined is the map's business. */
size_t fold_doubts(const struct fold *f);

/* ---- reclaiming (rule 5) ---- */

/* Sealed, folded to its end, nothing in it alive, in work, in doubt or kept; true only of what is committed. */
bool fold_reclaimable(struct fold *f, uint32_t number);
/* The same, but that messages stand in it: it can be given back once they are moved. */
bool fold_movable(struct fold *f, uint32_t number);
/* Every copy that is known is folded: before that nothing may be given back, for a rebuild would meet the copy, and not
 * what was said of the place that it was taken from. */
bool fold_copies_folded(struct fold *f);
struct fold_saying {
	/* Message id, whose record stands in segment seg, is over: to be written beside seg. */
	enum err (*ended)(void *arg, uint32_t seg, msgid_t id);
	/* Attempt n of a message that lives in segment seg has ended, the message has not: else a rebuild would take it
	 * for one in doubt. */
	enum err (*resolved)(void *arg, uint32_t seg, msgid_t id, uint32_t n);
	/* Segment seg ends at mark. */
	enum err (*ends)(void *arg, uint32_t seg, uint32_t mark);
};
/* What this segment says of messages in segments that still stand (files, and rows that are over but whose going the
 * directory has not confirmed). */
enum err fold_says(struct fold *f, uint32_t number, const struct fold_saying *saying, void *arg);
/* Said and synced: the row is over at the next commit. */
void fold_over(struct fold *f, uint32_t number);
/* Unlinked, and the directory synced: the row goes at the next commit. */
void fold_gone(struct fold *f, uint32_t number);

/* ---- rebuild (rule 7) ---- */

/* Forgets the map, clears it at the next commit and marks it as rebuilding. The files are to be seen anew, after the
 * directory was synced. */
void fold_rebuild(struct fold *f);
/* Reads what ended from every file seen: before any fold_segment of a rebuild. */
enum err fold_rebuild_ended(struct fold *f);
/* Every file that stood at fold_rebuild_ended is folded and every gone writer settled: the map is whole. */
void fold_rebuilt(struct fold *f);
bool fold_rebuilding(const struct fold *f);

#endif
