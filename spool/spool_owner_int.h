/* spool_owner_int.h - the owner's insides, shared by its files, and the seam at which a test puts a twin
 * spool_owner.c the messages in memory and what delivery does with them; _hint.c news from inboxes; _look.c what is to
 * be read from the map, and what follows from it; _read.c the reading itself, on the reading thread; _verb.c edits,
 * ranges, errands; _lend.c and _borrow.c the two ends of a loan; _hand.c handover records; _world.c the real spool behind
 * the seam. Everything is the loop's, but a struct owner_look between run_cold and its done: that is the reading
 * thread's. */
#ifndef SPOOL_SPOOL_OWNER_INT_H
#define SPOOL_SPOOL_OWNER_INT_H

#include "shm/shm_area.h"
#include "shm/shm_inbox.h"
#include "spool/spool_index.h"
#include "spool/spool_owner.h"

enum {
	OWNER_WINDOW = 1000,     /* messages of a queue that are loaded */
	OWNER_LOADED = 100000,   /* of all queues: many may be full of what waits for a host */
	OWNER_PAGE = 250,        /* rows of a queue in one reading */
	OWNER_PAGES = 64,        /* queues read at once */
	OWNER_WAKES = 4096,      /* due queues found at once */
	OWNER_WANTS = 512,       /* single rows read at once */
	OWNER_HINTS_HELD = 8192, /* hints that wait for a checkpoint */
	OWNER_KEEPERS = 32,
	OWNER_ERRANDS = 100, /* of a queue, before the next page is read for more */
};

/* ---- what is written */

enum fact_kind { FACT_EDIT, FACT_OUTCOME, FACT_HANDOVER };
struct owner_fact {
	enum fact_kind kind;
	struct spool_edit edit;
	struct spool_outcome outcome;
	uint64_t owner;     /* of a handover: whose messages it speaks of */
	const msgid_t *ids; /* of those, what is in work here */
	uint32_t count;
};
typedef void owner_written(void *arg, enum err e, struct place place);
typedef void owner_peeked(void *arg, enum err e, struct slice binding, struct slice domain);

/* ---- what is read: one snapshot */

struct look_seg {
	uint32_t number;
	bool found, over;
	uint32_t folded, damaged;
};
struct look_page {
	uint64_t queue;
	struct index_queue_key after; /* in: read behind; out: resume behind */
	usec_t due_by;
	struct index_row *rows; /* without their strings */
	size_t n;
	bool eof;
};
struct map_range {
	msgid_t lo, hi;
	usec_t at;
	char *binding, *domain;
	STAILQ_ENTRY(map_range) link;
};
STAILQ_HEAD(map_ranges, map_range);
struct look_want {
	msgid_t id;
	struct index_row *row; /* on the heap; NULL: there is none */
};
struct look_wake {
	uint64_t queue;
	usec_t due;
	char *binding, *domain;
};
/* Somebody who may have owned before us. */
struct look_before {
	uint64_t writer;
	bool alive;   /* then its handover record is waited for, else its end */
	usec_t since; /* monotonic: known dead then */
	uint64_t by;  /* not 0: the record of this living writer about the dead one's messages is waited for */
	int slot;     /* of `by` */
	bool missing; /* out: that record is not in the map */
};
/* A dead worker that has messages of ours on loan. */
struct look_gone {
	uint64_t writer;
	usec_t since;
	bool yes; /* out: all that it ever wrote is in the map */
};
struct owner_look {
	struct spool_owner *o;
	const struct owner_env *env;
	enum err e;
	struct index_meta meta;
	struct look_seg *segs;
	size_t n_segs;
	struct look_page pages[OWNER_PAGES];
	size_t n_pages;
	struct look_want wants[OWNER_WANTS];
	size_t n_wants;
	/* wakes */
	bool scan;
	uint64_t mine[PARTITIONS / 64];
	usec_t now;
	unsigned from; /* partition at which the scan begins; out: where it stopped */
	struct look_wake *wakes;
	size_t n_wakes;
	bool more_wakes;
	usec_t next_wake;
	/* taking over */
	bool adopt, adopted;
	uint64_t self, keeper; /* keeper: who committed, if it is of this boot; else 0 */
	uint64_t keepers[OWNER_KEEPERS];
	size_t n_keepers;
	usec_t since;
	struct look_before *before;
	size_t n_before, cap_before;
	struct look_gone gone[SLOTS_MAX];
	size_t n_gone;
	uint64_t known[SLOTS_MAX]; /* writers that need not be waited for */
	size_t n_known;
	/* range edits that the keeper has not brought to every row yet */
	struct map_ranges ranges;
	/* attempts that the map believes this process has open */
	bool scan_open;
	msgid_t *open;
	size_t n_open;
};
/* Reads everything asked for. Reading thread. */
void owner_read(struct index *ix, struct owner_look *l);

struct owner_world {
	void (*run_cold)(const struct owner_env *env, void (*fn)(void *), void (*done)(void *), void *job);
	void (*look)(const struct owner_env *env, struct owner_look *l);
	enum err (*write)(const struct owner_env *env, const struct owner_fact *f, owner_written *done, void *arg);
	/* Whose queue is the message at this place? Answered later. */
	void (*peek)(const struct owner_env *env, msgid_t id, struct place place, uint16_t item, owner_peeked *done,
		     void *arg);
};
extern const struct owner_world owner_world_spool;

/* ---- memory */

enum msg_state {
	MSG_LOADED,  /* in the schedule */
	MSG_TAKEN,   /* with delivery; nothing written */
	MSG_OPEN,    /* the gate has let it through: an outcome will come */
	MSG_LENT,    /* with another worker, out of the schedule */
	MSG_EDITING, /* out of the schedule: an edit of it is on its way */
	MSG_PAST,    /* the fact at `fact` is synced, and not yet in the map; deferred: perhaps in the schedule too */
};

/* ---- loans: what a hint between two owners says; arg[0] to whom, arg[1] of whom: writers, for a slot may have a new
 * tenant; size: the loan's number, the lender's count. */
enum hint_kind {
	HINT_MESSAGE = 1, /* to the owner: it is on disk */
	HINT_LOAN,        /* to the borrower: yours to try */
	HINT_RECALL,      /* to the borrower: not to be begun any more; answered as the next */
	HINT_ASK,         /* to the borrower: what of it? No answer while it is in hand */
	HINT_DONE,        /* to the lender: outcome `item` stands at the place; at: when to try again */
	HINT_BACK,        /* to the lender: not begun, nothing written; item: no more of this queue for a while */
	HINT_UNKNOWN,     /* to the lender: nothing is known of it that a map committed by now does not show */
	HINT_SAY,         /* to a borrower: your handover record about arg[1], who is dead, is not in the map */
};
struct loan;
struct owner_mem;
TAILQ_HEAD(loans, loan);
/* A worker that something is lent to or borrowed from, or that has died in our time. Kept while any of it matters. */
struct partner {
	uint64_t writer;
	int slot;
	bool ended; /* the roll says so */
	usec_t ended_at;
	unsigned n_lent, target; /* target: as much as it is to have */
	usec_t lent_at;          /* the last time */
	bool works;              /* it has brought something to an end, and given nothing back since */
	struct loans lent;
	struct loans borrowed;
	unsigned unsaid; /* of the borrowed: begun, and not yet certain to be in our journal before a later record */
	enum { RECORD_NONE, RECORD_DUE, RECORD_ON_ITS_WAY } record; /* ours, about its messages, once it has ended */
	usec_t record_after;
	struct spool_owner *o;
	TAILQ_ENTRY(partner) link;
};
TAILQ_HEAD(partners, partner);
struct loan {
	struct owner_mem *mem;
	struct partner *with;
	bool ours; /* lent; else borrowed */
	bool lost; /* lent, and only the next look tells what became of it */
	uint32_t number;
	usec_t since; /* monotonic: lent, asked about, or borrowed then */
	/* borrowed and over: what the lender was told */
	enum outcome_kind kind;
	usec_t next_due;
	TAILQ_ENTRY(loan) link;
};

/* When lending is worth it, and how much of it. Loads are of one core, in thousandths. What a borrower is to have
 * falls with the distance of the two loads, to nothing before they meet: so it settles and does not swing. */
struct lend_policy {
	int64_t busy;   /* an owner with this load lends ... */
	int64_t gap;    /* ... to a worker whose load is this much less ... */
	unsigned ready; /* ... of a queue with so many messages loaded ... */
	unsigned keep;  /* ... which keeps so many; ... */
	unsigned most;  /* ... to one with no load at all so many at a time */
};

struct owner_seg;
struct owner_mem {
	struct owner_msg msg;
	struct sched_msg sched;
	RB_ENTRY(owner_mem) by_id;
	enum msg_state state;
	bool revoked; /* by an edit, or the drain: the gate is closed */
	bool errand;
	bool done_errand;  /* OWNER_DOUBT_DONE: its outcome has the number of the last attempt */
	bool said;         /* open, and its attempt is synced */
	bool again;        /* when it is forgotten, its row is looked at */
	bool damaged;      /* there is damage where its fact or the second is */
	unsigned writing;  /* edits on their way */
	struct loan *loan; /* NULL: neither lent nor borrowed */
	struct place fact;
	bool fact_edit;        /* it is an edit of ours: a later one speaks for it too */
	struct place second;   /* when the map knows the fact, this one too has to be known; seg 0: none */
	usec_t fact_at;        /* monotonic */
	struct owner_seg *seg; /* of the fact */
	TAILQ_ENTRY(owner_mem) past;
	uint8_t edit; /* the last edit of it by us: enum edit_action, 0 none */
	usec_t edit_at;
	char *edit_reason;
};
RB_HEAD(owner_mems, owner_mem);
TAILQ_HEAD(owner_pasts, owner_mem);

/* What is known of a segment that something here depends on, as of the last look. */
struct owner_seg {
	uint32_t number;
	bool read, found, over;
	uint32_t folded, damaged;
	unsigned idle; /* looks since it was last of use */
	unsigned ranges;
	struct owner_pasts past;
	RB_ENTRY(owner_seg) by_number;
};
RB_HEAD(owner_segs, owner_seg);

struct owner_queue {
	struct sched_queue sched;
	struct spool_owner *o;
	uint64_t hash;
	char *binding, *domain; /* NULL until peeked */
	bool peeking;
	bool due;    /* the map has, or may have, more that is due */
	bool fates;  /* and what the console wants done, also while suspended */
	bool asked;  /* a page is being read */
	bool missed; /* a hint was dropped */
	struct index_queue_key cursor;
	usec_t walk_began;   /* monotonic */
	usec_t errand_after; /* real: errands that delivery gave back */
	unsigned mems, errands;
	unsigned lent;
	usec_t lent_at;    /* monotonic: the last of it */
	usec_t lend_after; /* monotonic: a borrower could not do anything with it */
	usec_t idle_since;
	void *role;
	RB_ENTRY(owner_queue) by_hash;
	TAILQ_ENTRY(owner_queue) due_link;
};
TAILQ_HEAD(owner_due, owner_queue);
RB_HEAD(owner_queues, owner_queue);

struct want {
	enum { WANT_HINT, WANT_VERB, WANT_DUE, WANT_VERIFY, WANT_ROW, WANT_OPEN, WANT_LOST, WANT_LOAN } what;
	msgid_t id;
	struct hint hint;
	struct verb_call *verb;
	struct place place; /* LOST: where it was not */
	TAILQ_ENTRY(want) link;
};
TAILQ_HEAD(wants, want);

struct range {
	struct spool_edit edit; /* its slices are ours */
	bool synced;
	struct place fact;
	usec_t fact_at;
	struct verb_call *call;
	struct spool_owner *o;
	TAILQ_ENTRY(range) link;
};
TAILQ_HEAD(ranges, range);

struct suspension {
	char *binding;
	enum state_suspension how;
	TAILQ_ENTRY(suspension) link;
};
TAILQ_HEAD(suspensions, suspension);

struct spool_owner {
	struct owner_env env;
	const struct owner_world *world;
	struct owner_ops ops;
	void *ops_arg;
	bool serving; /* ops are there */
	struct sched sched;
	struct owner_mems mems;
	struct owner_queues queues;
	struct owner_segs segs;
	struct wants wants;
	size_t n_wants, n_loaded, n_past, n_taken, n_queues;
	struct owner_due due;         /* in the order in which their pages are read */
	struct ranges ranges;         /* ours, not yet in the map */
	struct map_ranges map_ranges; /* in the map of the last look, and not brought to every row yet */
	struct suspensions suspensions;
	/* partitions */
	uint32_t table_version;
	bool assigned[PARTITIONS];
	bool adopted;
	usec_t born;
	bool draining;
	void (*drained)(void *arg);
	void *drained_arg;
	bool handing;    /* the record of the drain is to be written ... */
	unsigned unsaid; /* ... when nothing is open whose attempt is not synced */
	/* lending */
	struct lend_policy lend;
	struct partners partners;
	struct owner_queue *hot; /* the last that was seen with many messages */
	uint32_t loans;          /* counted: the number of the last */
	size_t n_lent;
	bool lending; /* some partner is to have something */
	usec_t turn_at, planned, asked_loans, swept_loans, asked_records, looked_at_lives;
	uint64_t mourned[LIVES_KEPT]; /* serials of the roll whose end was seen to */
	/* looking */
	bool looking, news; /* news: the keeper may have committed */
	usec_t look_after;  /* monotonic: not before */
	usec_t scanned_wakes, scanned_open, looked, asked_commit, swept;
	usec_t next_wake; /* real */
	unsigned wake_from;
	bool more_wakes, rebuilding;
	usec_t scanned_map; /* monotonic: every file of then is in the map of the last look */
	uint64_t bells;
	uint64_t lives_seen; /* the roll had so many lines when the keepers were listed */
	uint64_t keepers[OWNER_KEEPERS];
	size_t n_keepers;
	usec_t edit_at;
};

static inline struct owner_mem *
mem_of_sched(struct sched_msg *m)
{
	return (struct owner_mem *)((char *)m - offsetof(struct owner_mem, sched));
}

/* spool_owner.c */
struct owner_mem *mem_find(struct spool_owner *o, msgid_t id);
struct owner_mem *mem_new(struct spool_owner *o, struct owner_queue *q, msgid_t id, struct place place, uint16_t item);
void mem_forget(struct spool_owner *o, struct owner_mem *m);
void mem_load(struct spool_owner *o, struct owner_mem *m, usec_t due);
void mem_unload(struct spool_owner *o, struct owner_mem *m);
void mem_past(struct spool_owner *o, struct owner_mem *m, struct place fact);
void mem_no_longer_past(struct spool_owner *o, struct owner_mem *m);
/* An outcome of it is synced there. */
void mem_done(struct spool_owner *o, struct owner_mem *m, enum outcome_kind kind, usec_t next_due, struct place place);
/* It was open: its attempt, or its outcome, is in the journal. */
void mem_said(struct spool_owner *o, struct owner_mem *m);
struct owner_queue *queue_find(struct spool_owner *o, uint64_t hash);
struct owner_queue *queue_get(struct spool_owner *o, uint64_t hash, struct slice binding, struct slice domain);
void queue_suspend(struct owner_queue *q);
bool owner_has(const struct spool_owner *o, uint64_t hash);
bool queue_window_full(const struct owner_queue *q);
struct owner_seg *seg_get(struct spool_owner *o, uint32_t number);
/* Does the map of the last look know the fact at this place, written at `at`? */
bool seg_passed(const struct spool_owner *o, const struct owner_seg *seg, struct place place, usec_t at);

struct owner_seg *segs_next(struct spool_owner *o, struct owner_seg *s);
void segs_sweep(struct spool_owner *o);
struct owner_queue *queues_next(struct spool_owner *o, struct owner_queue *q);
struct owner_mem *mems_next(struct spool_owner *o, struct owner_mem *m);

/* spool_owner_hint.c */
void owner_take_hint(struct spool_owner *o, const struct hint *h, struct slice binding, struct slice domain);
/* Asks whose queue it is, unless that is known or on its way: the message that h names says so. */
void owner_peek(struct spool_owner *o, struct owner_queue *q, const struct hint *h);
/* h has waited for a look: `row` is what the same snapshot has. */
void owner_hint_seen(struct spool_owner *o, const struct hint *h, const struct index_row *row);

/* spool_owner_lend.c */
struct partner *partner_find(struct spool_owner *o, uint64_t writer);
/* NULL: it is no living worker. */
struct partner *partner_get(struct spool_owner *o, uint64_t writer, int slot);
struct partner *partner_new(struct spool_owner *o, uint64_t writer, int slot);
/* Nothing of it matters any more? */
void partners_sweep(struct spool_owner *o);
struct loan *loan_new(struct owner_mem *m, struct partner *p, bool ours, uint32_t number);
void loan_end(struct spool_owner *o, struct owner_mem *m);
/* Fills in to whom and of whom. False: it did not go. */
bool loan_send(struct spool_owner *o, const struct partner *p, struct hint h);
/* Lends, asks. Once a turn. */
void owner_lend(struct spool_owner *o, usec_t now);
/* The borrower is not to begin it. */
void loan_recall(struct spool_owner *o, struct owner_mem *m);
/* A borrower says something. */
void loan_answered(struct spool_owner *o, const struct hint *h);
/* The look that was asked about it: what does the map say? */
void loan_row(struct spool_owner *o, msgid_t id, const struct index_row *row);
void lend_want_gone(struct spool_owner *o, struct owner_look *l);
void lend_take_gone(struct spool_owner *o, const struct owner_look *l);

/* spool_owner_hint.c */
/* To that slot, counted; its bell rings at the end of the turn. False: its inbox is full, and the hint is lost. */
bool owner_hint_put(struct spool_owner *o, int slot, const struct hint *h);

/* spool_owner_borrow.c */
/* A lender says or asks something. */
void borrow_hint(struct spool_owner *o, const struct hint *h, int from);
/* Its outcome is synced: the lender is told. */
void borrow_done(struct spool_owner *o, struct owner_mem *m, enum outcome_kind kind, usec_t next_due,
		 struct place place);
/* Not begun: back to the lender. Frees m. */
void borrow_back(struct spool_owner *o, struct owner_mem *m, usec_t not_before, bool no_more);
/* Forgets it; the lender is told that the map decides. */
void borrow_lost(struct spool_owner *o, struct owner_mem *m);
/* Nobody may begin it any more. May free m. */
void borrow_revoke(struct spool_owner *o, struct owner_mem *m);
/* What of this queue waits for being taken goes back. */
void borrow_give_up(struct owner_queue *q);
/* What nobody has taken for a while goes back. */
void borrow_sweep(struct spool_owner *o, usec_t now);

/* spool_owner_hand.c */
/* Sees to those who have ended, and writes what records are due. Once a turn. */
void owner_hand(struct spool_owner *o, usec_t now);
/* A worker that waits for our record about this dead writer does not find it. */
void hand_again(struct spool_owner *o, uint64_t dead);
/* The records that a look missed are asked for. */
void hand_missing(struct spool_owner *o, const struct owner_look *l, usec_t now);

/* spool_owner_look.c */
void owner_want(struct spool_owner *o, const struct want *w);
/* There may be more of it in the map, from the start; or there is not. */
void queue_due(struct owner_queue *q, bool due);
void owner_look_around(struct spool_owner *o, usec_t now);
usec_t owner_look_next(struct spool_owner *o, usec_t now);
void owner_row(struct spool_owner *o, struct owner_queue *q, const struct index_row *row);

/* spool_owner_verb.c */
void owner_errand(struct spool_owner *o, struct owner_queue *q, const struct index_row *row, enum owner_errand what);
void owner_edit(struct spool_owner *o, struct owner_queue *q, const struct index_row *row, struct owner_mem *m,
		enum edit_action action, struct slice reason, struct verb_call *call);
void owner_verb_row(struct spool_owner *o, struct verb_call *call, const struct index_row *row);
void owner_due_row(struct spool_owner *o, msgid_t id, const struct index_row *row);
void owner_open_row(struct spool_owner *o, const struct index_row *row);
void owner_lost_row(struct spool_owner *o, struct place place, const struct index_row *row);
void owner_edit_again(struct spool_owner *o, msgid_t id, const struct index_row *row);
/* Is there a range about it that the map may not show in its row? `edit`: the time of the row's newest edit. */
bool owner_in_range(const struct spool_owner *o, msgid_t id, usec_t edit, const struct owner_queue *q);
void owner_ranges_free(struct spool_owner *o);
void owner_ranges_passed(struct spool_owner *o);
/* Those of a look take the place of the former ones. */
void owner_ranges_take(struct spool_owner *o, struct map_ranges *now);
void map_ranges_free(struct map_ranges *r);
void owner_verb_fail(struct verb_call *call, enum err e);

#endif
