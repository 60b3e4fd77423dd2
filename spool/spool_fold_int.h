/* spool_fold_int.h - what the files of the fold share
 * spool_fold.c: files, order, checkpoints; _row.c: the rows touched since the last commit; _apply.c: rules 2 and 3,
 * what each item does; _copy.c: messages that were moved; _edit.c: edits and ranges; _settle.c: rule 4 and forgetting; _commit.c; _reclaim.c: rules 5
 * to 7. */
#ifndef SPOOL_SPOOL_FOLD_INT_H
#define SPOOL_SPOOL_FOLD_INT_H

#include <bsd/sys/queue.h>
#include <bsd/sys/tree.h>

#include "spool/spool_fold.h"
#include "spool/spool_segment.h"

#define DAY (INT64_C(86400) * USEC_PER_SEC)

/* A message touched since the last commit. */
struct frow {
	RB_ENTRY(frow) node;
	msgid_t id;
	struct index_row *was; /* in the map; NULL: no row there */
	struct index_row *now; /* NULL: it is over */
	bool changed;
};
RB_HEAD(frow_tree, frow);

/* How an entry that mirrors a row of the map stands to it. */
struct fstate {
	bool in_map; /* as of the last commit */
	bool dirty;  /* to be written */
	bool going;  /* to be deleted */
};

struct fseg {
	RB_ENTRY(fseg) node;
	struct index_segment s;
	struct fstate st;
	bool file; /* was seen, and not reported gone */
	bool keepers, copies;
	bool complete; /* sealed, and folded to its end */
};
RB_HEAD(fseg_tree, fseg);

struct fattempt {
	RB_ENTRY(fattempt) node;
	struct index_attempt a;
	struct fstate st;
	char *text; /* what the slices point to */
};
RB_HEAD(fattempt_tree, fattempt);

struct fedit {
	RB_ENTRY(fedit) node;
	struct fold_edit e;
	struct fstate st;
	char *text;
};
RB_HEAD(fedit_tree, fedit);

struct fwriter {
	RB_ENTRY(fwriter) node;
	struct fold_writer w;
	struct fstate st;
};
RB_HEAD(fwriter_tree, fwriter);

struct fhand {
	RB_ENTRY(fhand) node;
	struct index_handover h;
	struct fstate st;
	char *text;
};
RB_HEAD(fhand_tree, fhand);

struct fdamage {
	STAILQ_ENTRY(fdamage) link;
	struct index_damage d;
};

/* What a rebuild knows to have ended; n UINT32_MAX: the message, else its attempts up to n. An outcome says so of the
 * message wherever it stands (seg 0), a segment's .ended only of the one in that segment. */
struct fended {
	msgid_t id;
	uint32_t n;
	uint32_t seg;
};

/* Message id is over in segment seg: to be written beside it before the commit. */
struct fmoved {
	msgid_t id;
	uint32_t seg;
};

struct fframe {
	struct fseg *s;
	uint32_t upto;  /* records that begin below it are wanted */
	uint32_t limit; /* and below this they may be read */
};

struct fold {
	const struct fold_world *w;
	void *arg;
	struct frow_tree rows;
	size_t rows_n, rows_in_map;
	struct fseg_tree segs;
	struct fattempt_tree attempts;
	struct fedit_tree edits;  /* of messages touched since the last commit */
	struct fedit_tree ranges; /* all */
	struct fwriter_tree writers;
	struct fhand_tree hands;
	STAILQ_HEAD(, fdamage) damages; /* since the last commit */
	struct index_ledger ledger;
	struct index_meta meta;
	msgid_t base_high; /* no row of the map has a higher id */
	uint64_t tail;     /* bytes folded since the last commit */
	int64_t net;       /* rows to come minus rows to go */
	size_t doubts;
	bool dirty;
	bool clear;           /* the map is to be emptied first */
	struct fended *ended; /* sorted, while rebuilding */
	size_t ended_n, ended_cap;
	bool copies;          /* some were seen, in a rebuild */
	struct fmoved *moved; /* since the last commit */
	size_t moved_n, moved_cap;
	struct fframe *stack;
	size_t stack_n, stack_cap;
	bool waits; /* the last one stopped at what no writer has made known yet */
};

RB_PROTOTYPE(frow_tree, frow, node, frow_cmp)
RB_PROTOTYPE(fseg_tree, fseg, node, fseg_cmp)
RB_PROTOTYPE(fattempt_tree, fattempt, node, fattempt_cmp)
RB_PROTOTYPE(fedit_tree, fedit, node, fedit_cmp)
RB_PROTOTYPE(fwriter_tree, fwriter, node, fwriter_cmp)
RB_PROTOTYPE(fhand_tree, fhand, node, fhand_cmp)

/* spool_fold.c */
/* Everything that mirrors the map or waits for a commit. */
void fold_forget(struct fold *f);
void fold_touch(struct fold *f, struct fstate *st);
/* The entry of that number, made if there is none. */
struct fseg *fseg_want(struct fold *f, uint32_t number);
struct fseg *fseg_find(struct fold *f, uint32_t number);
/* One whose file was not shown yet is asked for. *out NULL: there is no such segment. */
enum err fseg_look(struct fold *f, uint32_t number, struct fseg **out);
/* It ends at `at`, if it did not end before that. */
void fseg_ends(struct fold *f, struct fseg *s, uint32_t at);
/* A journal whose file stands and which is not yet folded to its end. */
bool fseg_foldable(const struct fseg *s);
/* Counts one thing more, or fewer, in a segment that is known. */
enum fseg_count { FSEG_MESSAGES, FSEG_ATTEMPTS, FSEG_EDITS };
void fseg_add(struct fold *f, uint32_t number, enum fseg_count what, int n);
bool place_eq(struct place a, struct place b);
/* Copies what n slices point to into one piece, which is returned, and points them there. */
char *slices_keep(struct slice **list, size_t n);

/* spool_fold_row.c: the entry, read from the map if need be; *out NULL: no such message, or over. */
enum err frow_load(struct fold *f, msgid_t id, struct frow **out);
/* Only among those loaded. NULL: no such message, or over. */
struct frow *frow_find(struct fold *f, msgid_t id);
void frow_changed(struct fold *f, struct frow *r);
/* Gives the row another reason. */
void frow_reason(struct frow *r, struct slice reason);
/* What the far side said last, with time and place; NULL: an attempt has begun, it is no news any more. */
void frow_said(struct frow *r, const struct spool_outcome *o);
/* Sets the state anew from attempt, aside and fate. */
void frow_restate(struct fold *f, struct frow *r);
/* The message is over: row, edits and open attempt go; `became` is noted with attempts that were in doubt. */
void frow_end(struct fold *f, struct frow *r, enum attempt_state became);
void frows_free(struct fold *f);

/* attempts, in spool_fold_row.c */
struct fattempt *fattempt_find(struct fold *f, msgid_t id, uint32_t n);
struct fattempt *fattempt_new(struct fold *f, const struct index_row *row, const struct index_attempt *a);
/* It is no longer open (or in doubt): forgotten if it was only open, else kept as what it became. */
void fattempt_close(struct fold *f, struct fattempt *a, enum attempt_state became);
void fattempt_doubt(struct fold *f, struct fattempt *a, usec_t now);
void fattempt_free(struct fold *f, struct fattempt *a);

/* spool_fold_apply.c: one record; fails only before anything has changed. */
enum err fold_apply(struct fold *f, struct fseg *s, const struct fold_record *rec);
/* One that was applied speaks of a place where there is no record: nothing came of that, which is damage. */
void fold_apply_false(struct fold *f, struct fseg *s, const struct fold_record *rec, struct place nothing);
/* A row for a message that has none in the map. */
struct frow *frow_new(struct fold *f, const struct fold_item *it, struct place at, uint16_t item);
/* It refers to a segment with its body. */
void fbody_used(struct fold *f, const struct fold_item *it);

/* spool_fold_copy.c */
/* A message that a keeper has moved to `at`. */
void fcopy_apply(struct fold *f, const struct spool_copy *c, const struct fold_item *it, struct place at,
		 uint16_t item);
/* To be written beside seg before the commit: id is over there. */
void fmoved_add(struct fold *f, uint32_t seg, msgid_t id);

/* spool_fold_edit.c */
/* The edits of a row that is loaded. */
enum err fedits_load(struct fold *f, msgid_t id);
void fedits_drop(struct fold *f, msgid_t id);
void fedit_apply(struct fold *f, const struct spool_edit *e, struct place at);
/* Every range that covers this row and is newer than its newest edit. */
void franges_apply(struct fold *f, struct frow *r);
struct fedit *fedit_new(struct fedit_tree *tree, const struct fold_edit *e);
void fedits_free(struct fedit_tree *tree);

/* spool_fold_reclaim.c */
/* Of the message in segment seg. True: over, or of its attempts those up to *n. */
bool fended_find(const struct fold *f, msgid_t id, uint32_t seg, uint32_t *n);

#endif
