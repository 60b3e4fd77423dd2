/* spool_owner_int.h - the owner's insides, shared by its files, and the seam at which a test puts a twin
 * spool_owner.c the messages in memory and what delivery does with them; _hint.c news from inboxes; _look.c what is to
 * be read from the map, and what follows from it; _read.c the reading itself, on the reading thread; _verb.c edits,
 * ranges, errands; _world.c the real spool behind the seam. Everything is the loop's, but a struct owner_look between
 * run_cold and its done: that is the reading thread's. */
#ifndef SPOOL_SPOOL_OWNER_INT_H
#define SPOOL_SPOOL_OWNER_INT_H

#include "shm/shm_area.h"
#include "shm/shm_inbox.h"
#include "spool/spool_index.h"
#include "spool/spool_owner.h"

enum {
	OWNER_WINDOW = 1000,     /* messages of a queue that are loaded */
	OWNER_LOADED = 100000,   /* of all queues */
	OWNER_PAGE = 250,        /* rows of a queue in one reading */
	OWNER_PAGES = 64,        /* queues read at once */
	OWNER_WAKES = 4096,      /* due queues found at once */
	OWNER_WANTS = 512,       /* single rows read at once */
	OWNER_HINTS_HELD = 8192, /* hints that wait for a checkpoint */
	OWNER_KEEPERS = 32,
	OWNER_BEFORE = LIVES_KEPT + SLOTS_MAX,
	OWNER_ERRANDS = 100, /* of a queue, before the next page is read for more */
};

/* ---- what is written */

enum fact_kind { FACT_EDIT, FACT_OUTCOME, FACT_HANDOVER };
struct owner_fact {
	enum fact_kind kind;
	struct spool_edit edit;
	struct spool_outcome outcome;
	const msgid_t *ids; /* of a handover */
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
	struct look_before before[OWNER_BEFORE];
	size_t n_before;
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
	MSG_EDITING, /* out of the schedule: an edit of it is on its way */
	MSG_PAST,    /* the fact at `fact` is synced, and not yet in the map; deferred: perhaps in the schedule too */
};

struct owner_seg;
struct owner_mem {
	struct owner_msg msg;
	struct sched_msg sched;
	RB_ENTRY(owner_mem) by_id;
	enum msg_state state;
	bool revoked; /* by an edit, or the drain: the gate is closed */
	bool errand;
	bool done_errand; /* OWNER_DOUBT_DONE: its outcome has the number of the last attempt */
	unsigned writing; /* edits on their way */
	struct place fact;
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
	usec_t idle_since;
	void *role;
	RB_ENTRY(owner_queue) by_hash;
	TAILQ_ENTRY(owner_queue) due_link;
};
TAILQ_HEAD(owner_due, owner_queue);
RB_HEAD(owner_queues, owner_queue);

struct want {
	enum { WANT_HINT, WANT_VERB, WANT_DUE, WANT_VERIFY, WANT_ROW, WANT_OPEN, WANT_LOST } what;
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

/* spool_owner.c */
struct owner_mem *mem_find(struct spool_owner *o, msgid_t id);
struct owner_mem *mem_new(struct spool_owner *o, struct owner_queue *q, msgid_t id, struct place place, uint16_t item);
void mem_forget(struct spool_owner *o, struct owner_mem *m);
void mem_load(struct spool_owner *o, struct owner_mem *m, usec_t due);
void mem_unload(struct spool_owner *o, struct owner_mem *m);
void mem_past(struct spool_owner *o, struct owner_mem *m, struct place fact);
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
/* h has waited for a look: `row` is what the same snapshot has. */
void owner_hint_seen(struct spool_owner *o, const struct hint *h, const struct index_row *row);

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
