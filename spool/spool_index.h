/* spool_index.h - the map of what is queued: LMDB tables that the keeper writes and all others read
 * One environment a process, opened after the fork; the keeper alone writes (spool_index_write.h). It lags behind the
 * journals by what is not yet folded, and its rows are hints: id and CRC at the place decide.
 *
 * Reading: index_begin takes a snapshot, index_end lets it go. A snapshot lasts one page of rows (a long one makes the
 * file grow), is resumed by key, and belongs to the thread that began it until it ends. Every struct and slice that is
 * given holds until index_end; index_row_dup makes one that stays. Calls may touch the disk: worker loops run them on
 * the reading thread.
 *
 * Every entry has a checksum of key and value, and the keeper looks through the small tables before it uses them, and
 * through all of a map of up to 64 MiB: a false byte is damage, never a false row.
 *
 * Errors: ERR_AGAIN: there is no map yet, or none that can be read: ask later, nothing is wrong with the mail.
 * ERR_NOTFOUND: no such row. ERR_EOF: the list is at its end. ERR_DAMAGED: the map needs a rebuild: the
 * keeper is told by this call. ERR_IO, ERR_FULL as everywhere. */
#ifndef SPOOL_INDEX_H
#define SPOOL_INDEX_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "shm/base/bytes.h"
#include "shm/base/clock.h"
#include "shm/base/err.h"
#include "spool/spool_id.h"
#include "spool/spool_record.h"

struct index;
struct index_txn;

struct index_conf {
	const char *path;  /* the folder, created when missing; relative to the spool, which is the working folder */
	uint64_t map_size; /* bytes of addresses, 0: 1 TiB. Never resized */
	bool keeper;       /* may write; everyone else reads */
	/* Shared with the keeper (shm_index_suspect), borrowed: who meets damage says so there. NULL: nobody is told. */
	_Atomic uint64_t *suspect;
};

/* Never fails for want of a map: index_begin says ERR_AGAIN until there is one, and finds a rebuilt one by itself.
 * Copies the path. ERR_IO: the folder cannot be made. */
enum err index_open(const struct index_conf *conf, struct index **out);
/* Clears the caller's pointer; NULL inside is fine. No snapshot may be open. */
void index_close(struct index **ix);

/* The keeper, at its start and without a snapshot: a file of at least `least` bytes of which three quarters are free is
 * replaced by a compact copy; the file never shrinks by itself. Readers find the new one. */
enum err index_compact(struct index *ix, uint64_t least);

struct index_usage {
	uint64_t file_bytes, free_bytes; /* free: of the file, pages that hold nothing */
	unsigned readers, stale;         /* entries of readers; of processes that are gone */
};
/* Walks the list of free pages: not for every day. */
enum err index_usage(struct index *ix, struct index_usage *out);

/* The keeper's: looks through a piece of the map, all of whose pieces are one snapshot. OK: there is more; ERR_EOF: it is
 * whole, the next call begins anew; ERR_DAMAGED. A pass of 200 calls, or more when the map is large. */
enum err index_audit(struct index *ix);
/* Gives up a pass that is under way. */
void index_audit_stop(struct index *ix);
/* Has somebody found this map damaged? */
bool index_suspected(const struct index *ix);
/* It is whole after all, or another one stands now. */
void index_clear_suspicion(struct index *ix);

enum err index_begin(struct index *ix, struct index_txn **out);
/* Clears the caller's pointer; NULL inside is fine. */
void index_end(struct index_txn **t);

/* ---- what the map knows of itself ---- */

struct index_meta {
	uint64_t keeper;      /* the writer number of the keeper that committed last */
	uint64_t commits;     /* rises by one with each commit */
	usec_t scanned_at;    /* monotonic; every file that was there then is in this snapshot. Of `keeper`'s boot */
	msgid_t highest_id;   /* no id at or below it may be given out again */
	uint32_t highest_seg; /* no segment number at or below it may be taken again */
	bool rebuilding;      /* old mail waits: rows, counts and doubts are not complete yet */
};
enum err index_meta(struct index_txn *t, struct index_meta *out);

/* ---- messages ---- */

/* What a message is doing, as far as the map knows. */
enum row_state {
	ROW_QUEUED,      /* to be tried at `due` */
	ROW_WORK,        /* attempt `tries` is open: its writer lives, or is not yet known to be gone */
	ROW_DOUBT,       /* attempt `tries` has no known end: the owner applies in_doubt; named to whoever asks */
	ROW_HELD,        /* set aside by the console or by in_doubt */
	ROW_QUARANTINED, /* set aside because it ended two processes, or its bytes are damaged */
	ROW_STATES
};
/* For listings: "queued", "in work" ... never NULL. */
const char *row_state_text(enum row_state s);

/* What the console wants of it: the owner does it by an outcome, whatever the state. */
enum row_fate { ROW_LIVES, ROW_FAIL, ROW_DROP };

struct index_row {
	msgid_t id;
	struct place place; /* of the record with the message */
	uint16_t item;      /* which item of that record */
	uint8_t priority;   /* higher first */
	uint8_t state;      /* enum row_state */
	uint8_t aside;      /* 0, or ROW_HELD, ROW_QUARANTINED: also while an attempt is still open */
	uint8_t fate;       /* enum row_fate */
	uint8_t origin;     /* accepted or generated, as in the record */
	uint8_t deaths;     /* processes that died with a finger on it, by their own fault */
	uint16_t edits;     /* edits of this message that are kept (index_edit) */
	uint32_t tries;     /* the highest number of an attempt or outcome */
	uint32_t body_seg;  /* segment of its large body, 0 for none */
	usec_t due;         /* real time; 0: at once */
	usec_t received_at; /* real time */
	usec_t look;        /* real time at which the keeper next asks whether it has expired */
	uint64_t writer;    /* of the open or doubtful attempt, 0 for none */
	uint64_t size;      /* bytes of header and body */
	usec_t edit; /* `at` of the newest edit that counted: an older one changes nothing, an attempt begun before
		      * it is not in doubt. Who writes an edit makes its `at` higher than this and the attempt's */
	struct slice sender, rcpt, binding, domain;
	struct slice reason; /* of the newest edit, or the last remote reply when deferred */
	/* Of the last outcome, deferred or doubtful; all 0 when there was none, or a later attempt has begun. */
	usec_t said_at;      /* real time */
	struct slice remote; /* "address:port" of the far side, empty when none was reached */
	uint8_t stage;       /* where in the dialogue; delivery's own numbers */
};

enum err index_message_get(struct index_txn *t, msgid_t id, struct index_row *out);
/* Rows with id above `after` in rising order, at most max: number in *n; ERR_EOF when none are left. */
enum err index_message_page(struct index_txn *t, msgid_t after, struct index_row *rows, size_t max, size_t *n);
/* On the heap in one piece, free() releases it. */
struct index_row *index_row_dup(const struct index_row *row);

/* ---- queues ---- */

/* A queue is (binding, routing domain). Its number is spool_queue_hash of both, its partition that number
 * % PARTITIONS. In the map a queue holds what is to be scheduled: rows in state queued or in doubt, and
 * those with a fate. In work, held and quarantined ones are not in it. */
struct index_queue_key {
	uint64_t queue;
	uint8_t priority;
	usec_t due;
	msgid_t id;
};
/* The first key of a queue: everything in it lies behind. */
struct index_queue_key index_queue_first(uint64_t queue);
/* Keys of this queue behind `after`, highest priority first, then due, then id. ERR_EOF when none are left. */
enum err index_queue_page(struct index_txn *t, const struct index_queue_key *after, struct index_queue_key *keys,
			  size_t max, size_t *n);
/* The same with rows: each with its key's `due` and `priority` in it. Resume behind the last one's key. */
enum err index_queue_rows(struct index_txn *t, const struct index_queue_key *after, struct index_row *rows, size_t max,
			  size_t *n);
struct index_queue_key index_row_key(const struct index_row *row);

struct index_wake {
	usec_t due; /* of the earliest message in the queue */
	uint64_t queue;
};
/* The queues of a partition that hold anything, by the due time of their earliest message, behind `after` (NULL: from
 * the start). One entry a queue. ERR_EOF when none are left. */
enum err index_wake_page(struct index_txn *t, unsigned partition, const struct index_wake *after,
			 struct index_wake *wakes, size_t max, size_t *n);

struct index_counts {
	uint64_t in[ROW_STATES]; /* messages by state */
	uint64_t bytes;
};
struct index_queue {
	uint64_t queue;
	struct slice binding, domain;
	struct index_counts counts;
	usec_t wake; /* due time of the earliest, INT64_MAX when it holds nothing to schedule */
};
enum err index_queue_get(struct index_txn *t, uint64_t queue, struct index_queue *out);
/* Queues with at least one message, in order of their number, above `after` (0: from the start). */
enum err index_queue_list(struct index_txn *t, uint64_t after, struct index_queue *out, size_t max, size_t *n);

struct index_binding {
	struct slice name;
	struct index_counts counts;
};
enum err index_binding_get(struct index_txn *t, struct slice name, struct index_binding *out);
/* Bindings with at least one message, by name, behind `after` (empty: from the start). */
enum err index_binding_list(struct index_txn *t, struct slice after, struct index_binding *out, size_t max, size_t *n);

/* Over all queues. */
enum err index_totals(struct index_txn *t, struct index_counts *out);

/* ---- segments and writers ---- */

enum seg_state {
	SEG_OPEN,   /* its writer lives and may write on */
	SEG_SEALED, /* nothing comes any more */
	SEG_OVER,   /* everything in it is over: a file of this number is a remnant */
};
struct index_segment {
	uint32_t number;
	uint8_t kind;  /* journal or body, as in the head */
	uint8_t state; /* enum seg_state */
	uint8_t slot;
	uint64_t writer;
	uint32_t folded;   /* the checkpoint: what begins below it is in this snapshot */
	uint32_t mark;     /* highest mark known: below it a bad CRC is damage, above it a torn write */
	uint32_t end;      /* where it ends by what a later segment says, UINT32_MAX when nobody says so */
	uint32_t messages; /* rows whose message, or large body, lies here */
	uint32_t attempts; /* attempts recorded here that are open or in doubt */
	uint32_t edits;    /* edits recorded here that rows still depend on */
	uint32_t damaged;  /* damaged stretches kept here */
	bool used;         /* a body: some message has referred to it; a journal: messages were moved out of it */
};
enum err index_segment_get(struct index_txn *t, uint32_t number, struct index_segment *out);
/* By number, above `after`. */
enum err index_segment_list(struct index_txn *t, uint32_t after, struct index_segment *out, size_t max, size_t *n);
/* Is what begins at this place in the snapshot? False for a segment that the map does not know: it is new, or gone
 * (then spool_fetch finds nothing there). */
enum err index_folded(struct index_txn *t, struct place place, bool *yes);

/* Has the keeper committed all that this writer ever wrote, and its unpaired attempts as doubts? `since`: monotonic
 * time at which the caller already knew it dead; `keeper`: the writer number of the keeper that lives now (its slot);
 * with them a writer that left no file at all is known to be gone too. */
enum err index_writer_gone(struct index_txn *t, uint64_t writer, usec_t since, uint64_t keeper, bool *yes);

struct index_handover {
	uint64_t owner;  /* whose messages it speaks of */
	uint64_t writer; /* who wrote it: the owner itself, or one who had borrowed */
	struct place place;
	struct slice ids; /* what is still in work: index_handover_has reads it */
};
/* The handover record of `writer` about `owner`'s messages; ERR_NOTFOUND: none committed yet. */
enum err index_handover_get(struct index_txn *t, uint64_t owner, uint64_t writer, struct index_handover *out);
size_t index_handover_count(const struct index_handover *h);
msgid_t index_handover_id(const struct index_handover *h, size_t i);
bool index_handover_has(const struct index_handover *h, msgid_t id);

/* ---- attempts and doubts ---- */

/* Became, of an attempt that was in doubt; the list names it for a day. */
enum attempt_state {
	ATTEMPT_OPEN,      /* its writer works on it */
	ATTEMPT_DOUBT,     /* nobody knows how it ended, and nothing was decided yet */
	ATTEMPT_RETRIED,   /* was in doubt; a later attempt followed, or the console said so */
	ATTEMPT_HELD,      /* was in doubt; set aside */
	ATTEMPT_DELIVERED, /* was in doubt; ended so, by a later attempt or as in_doubt says */
	ATTEMPT_FAILED,    /* was in doubt; bounced or expired */
	ATTEMPT_DISCARDED, /* was in doubt; discarded */
};
const char *attempt_state_text(enum attempt_state s);
struct index_attempt {
	msgid_t id;
	uint32_t n;
	uint8_t state; /* enum attempt_state */
	uint64_t writer;
	uint32_t seg; /* where the attempt is recorded */
	usec_t at;    /* real time, as its record says */
	usec_t since; /* real time when it came to be in doubt, 0 for an open one */
	struct slice rcpt, domain, binding;
};
/* Attempts behind (after, after_n), by id and n; with doubts_only the open ones are passed over. */
enum err index_attempt_page(struct index_txn *t, msgid_t after, uint32_t after_n, bool doubts_only,
			    struct index_attempt *out, size_t max, size_t *n);

/* ---- set aside, edits, damage ---- */

/* Messages set aside (held or quarantined, or both with `any`), by id, above `after`. */
enum index_aside_which { ASIDE_ANY, ASIDE_HELD, ASIDE_QUARANTINED };
enum err index_aside_page(struct index_txn *t, msgid_t after, enum index_aside_which which, struct index_row *rows,
			  size_t max, size_t *n);

struct index_damage {
	struct place place;
	uint32_t len;
	uint32_t recipients;  /* messages lost with it, as far as its head can still say */
	struct place nothing; /* not in the map: of a good record, the place it speaks of where there is none */
	usec_t found_at;
};
enum err index_damage_page(struct index_txn *t, struct place after, struct index_damage *out, size_t max, size_t *n);

/* When the messages behind `after` are to be looked at again for expiry (the keeper's sweep). */
struct index_look {
	usec_t at;
	msgid_t id;
};
enum err index_expiry_page(struct index_txn *t, const struct index_look *after, struct index_look *out, size_t max,
			   size_t *n);

/* ---- ledger ---- */

/* One recipient counts 1. The flows are counted by the fold; `queued` is LMDB's own count of message rows in the same
 * snapshot. Both sides must agree: index_ledger_difference is 0, or something is wrong. */
struct index_ledger {
	uint64_t carried; /* found by the last rebuild */
	uint64_t accepted, generated;
	uint64_t delivered, bounced, expired, discarded, damaged;
	uint64_t deferrals, doubts; /* not part of the sum */
	uint64_t damaged_records;   /* stretches of bytes, whatever was in them */
	uint64_t queued;
};
enum err index_ledger(struct index_txn *t, struct index_ledger *out);
/* In minus out minus queued. */
int64_t index_ledger_difference(const struct index_ledger *l);

#endif
