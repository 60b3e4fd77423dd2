/* spool.h - the spool of one process: the only door in, and the way back to what was written
 * Opened after the fork (it starts two threads: the journal thread, which writes and syncs, and the reading thread, for
 * what is cold or slow). All calls are the loop's, and none waits for the disk; callbacks run on the loop, from
 * spool_on_event or spool_on_soon, never before the call that asked for them returns. Watch spool_event_fd for reading and call
 * spool_on_event.
 *
 * A transaction: spool_txn_new, add blobs and items, spool_submit. It is one record: all of it becomes true, or
 * nothing. 250 may be written only by who holds a `const struct spool_proof *`, and only the journal makes one, after
 * the sync. What is not a new message (attempt, outcome, edit, handover) is let go by the same callback. Answers to
 * done:  OK           it is on disk: proof is not NULL ERR_IO       not taken, and it will not come back: 451 ERR_FULL
 * not taken: no room: 452 ERR_DAMAGED  nobody can say: close without an answer. Of an attempt, outcome, edit: ask again
 * later. A large body (above BLOB_INLINE_MAX) is a spool_body, written as it arrives. */
#ifndef SPOOL_SPOOL_H
#define SPOOL_SPOOL_H

#include "shm/base/err.h"
#include "spool/spool_record.h"

struct shm_area;
struct spool;
struct spool_txn;
struct spool_body;
struct spool_proof;
struct spool_fetch;

struct spool_conf {
	int dirfd; /* of spoolbase; borrowed during spool_open only */
	int slot;
	uint64_t writer;
	uint32_t generation;
	struct shm_area *area;  /* borrowed as long as the spool */
	uint64_t segment_size;  /* 0: 64 MiB; rounded to pages and bounded */
	uint64_t free_min;      /* less free space than this: new mail gets 452; 0: no watch */
	uint64_t reserve;       /* bytes preallocated for outcomes; 0: none */
	uint64_t tail_max;      /* keeper's uncommitted tail above which new mail gets 452; 0: no bound */
	uint32_t segment_floor; /* highest segment number that the index knows */
	msgid_t id_floor;       /* highest id that the index knows */
	/* Called on the loop when it is the loop itself that has something for spool_on_soon, to be called later in this
	 * turn. NULL: then spool_event_fd says that too, for a write, a wait and a read each time. */
	void (*soon)(void *arg);
	void *soon_arg;
};

/* Makes journal/ if it is missing, seeds the ids, makes the first segment (this waits for the disk: before serving).
 * NULL and *why (errno if ERR_IO). */
struct spool *spool_open(const struct spool_conf *conf, enum err *why);
/* Syncs what was submitted, seals the segment, ends the threads, runs every callback that is still owed; clears the
 * pointer. NULL inside is fine. */
void spool_close(struct spool **sp);
int spool_event_fd(const struct spool *sp);
void spool_on_event(struct spool *sp);
void spool_on_soon(struct spool *sp);

/* New mail may be taken now: disk above free_min, the keeper not too far behind, the journal able to write and not
 * swamped. Ask before MAIL and DATA; false is 452. Cheap. */
bool spool_accepting(const struct spool *sp);
/* Records submitted and not yet answered. */
unsigned spool_in_flight(const struct spool *sp);

/* A new id: of a message, a batch, a connection. */
msgid_t spool_new_id(struct spool *sp);
uint64_t spool_writer(const struct spool *sp);

/* ---------------------------------------------------------------- writing */

struct spool_txn *spool_txn_new(struct spool *sp);
/* Forgets it, with its bodies; clears the pointer; NULL inside is fine. */
void spool_txn_free(struct spool_txn **txn);
/* Gives the blob's number for the items of this transaction; BLOB_NONE if there are too many. Borrows until
 * spool_submit returns, or the transaction is freed. */
uint16_t spool_txn_blob(struct spool_txn *txn, struct slice bytes);
/* The same for a streamed body: takes it, clears the pointer. */
uint16_t spool_txn_body(struct spool_txn *txn, struct spool_body **body);
/* Items are copied when added. Their order is theirs in the record: the first message is item 0 of a pure message
 * record. They give the item's number. */
uint16_t spool_txn_message(struct spool_txn *txn, const struct spool_message *m);
uint16_t spool_txn_attempt(struct spool_txn *txn, const struct spool_attempt *a);
uint16_t spool_txn_outcome(struct spool_txn *txn, const struct spool_outcome *o);
uint16_t spool_txn_edit(struct spool_txn *txn, const struct spool_edit *e);
uint16_t spool_txn_handover(struct spool_txn *txn, uint64_t owner, const msgid_t *ids, uint32_t count);
/* The keeper's: a copied message, its MESSAGE item is added next. */
uint16_t spool_txn_copy(struct spool_txn *txn, const struct spool_copy *c);

/* Nobody outside waits for it: within two milliseconds after a sync it waits for company, or for their end. */
void spool_txn_patient(struct spool_txn *txn);

typedef void spool_done(void *arg, enum err why, const struct spool_proof *proof);

/* Takes the transaction in every case. OK: done is called once, later, in the order of submission for records without
 * streamed bodies; what arg points to lives till then. Else done is never called: ERR_FULL (452: not accepting, or
 * swamped; only for new messages), ERR_RANGE (too large for one record, or empty), ERR_IO (a streamed body failed:
 * 451). */
enum err spool_submit(struct spool_txn *txn, spool_done *done, void *arg);
/* A transaction will be submitted within this turn, most likely: whoever writes it gets ready meanwhile. */
void spool_expect(struct spool *sp);

/* Where the record is now; the proof holds during the callback only. */
struct place proof_place(const struct spool_proof *proof);

/* A body as it arrives, to a segment of its own by the reading thread. */
enum { BODY_PENDING_MAX = 256 << 10 };

/* room(arg) is called when bytes may be appended again after ERR_AGAIN. */
struct spool_body *spool_body_new(struct spool *sp, void (*room)(void *arg), void *arg);
/* Copies the bytes. OK; ERR_AGAIN: taken too, but stop reading until room is called; ERR_FULL, ERR_IO: the body has
 * failed, now or earlier, and nothing was taken: 452, 451. */
enum err spool_body_append(struct spool_body *b, struct slice bytes);
uint64_t spool_body_size(const struct spool_body *b);
/* No more bytes: what was appended is written (not yet synced), then ready(arg, OK, fd) is called and the body can be
 * read from fd at SEGMENT_HEAD on, until it is given away or freed. Only for who wants to read it before spool_submit,
 * which needs no such call. ERR_FULL, ERR_IO: fd is -1. */
void spool_body_written(struct spool_body *b, void (*ready)(void *arg, enum err why, int fd), void *arg);
/* Aborts: the file is unlinked, no callback comes any more. Clears the pointer; NULL inside is fine. */
void spool_body_free(struct spool_body **b);

/* ---------------------------------------------------------------- reading */

/* One message as it stands on disk. Its slices hold until spool_fetched_free. */
struct spool_fetched {
	struct spool_message message;
	struct slice header; /* its CRC was right */
	struct slice conn_ctx, ctx;
	struct slice body; /* inline: the bytes, CRC was right; n = 0 with body_fd = -1: empty */
	int body_fd;       /* -1, or the body segment: body_len bytes at body_off; belongs to this struct */
	uint64_t body_off, body_len;
	uint32_t body_crc; /* of these; the reader checks when it has read all */
};

/* Called on the loop. OK: takes over *got, ends with spool_fetched_free. Else got is NULL: ERR_NOTFOUND (no such file,
 * or another id there: look the row up again), ERR_DAMAGED, ERR_VERSION, ERR_IO. */
typedef void spool_fetch_done(void *arg, enum err why, struct spool_fetched *got);

/* What is in the page cache is read at once, the rest by the reading thread. The handle holds until done is called. */
struct spool_fetch *spool_fetch(struct spool *sp, msgid_t id, struct place place, uint16_t item, spool_fetch_done *done,
				void *arg);
/* done will not be called. Clears the pointer; NULL inside is fine. */
void spool_fetch_cancel(struct spool_fetch **f);
void spool_fetched_free(struct spool_fetched **got);
/* Reads up to n bytes of a body that is a file, at `at` within the body, if they are in the page cache: OK and *got (0:
 * its end); ERR_AGAIN: they are cold (spool_run_cold with pread). ERR_IO. */
enum err spool_body_read(const struct spool_fetched *f, uint64_t at, void *to, size_t n, size_t *got);

/* Anything that may wait for a disk: fn(arg) on the reading thread, in order with others, then done(arg) on the loop;
 * done may be NULL. Who queues many bounds them itself. */
void spool_run_cold(struct spool *sp, void (*fn)(void *arg), void (*done)(void *arg), void *arg);

#endif
