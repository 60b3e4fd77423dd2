/* spool_int.h - the inside of a spool, for the files that make it up: spool.c, spool_submit.c, spool_body.c,
 * spool_read.c Everything here belongs to the loop but what the journal and reading threads are handed. */
#ifndef SPOOL_SPOOL_INT_H
#define SPOOL_SPOOL_INT_H

#include "spool/spool.h"
#include "spool/spool_cold.h"
#include "spool/spool_disk.h"
#include "spool/spool_journal.h"
#include "spool/spool_post.h"
#include "spool/spool_read.h"
#include "spool/spool_segment.h"

STAILQ_HEAD(txn_list, spool_txn);

struct spool {
	struct spool_conf conf;
	int dirfd; /* journal/ */
	struct shm_slot *slot;
	struct segment_maker maker;
	struct id_source ids;
	struct postbox box;
	struct post_list soon; /* the loop's own, when conf.soon is set */
	struct cold cold;
	struct disk disk;
	struct journal *journal;
	struct fd_cache fds;
	struct txn_list unused;
	unsigned in_flight;            /* records whose done was not yet called */
	unsigned cold_owed;            /* jobs whose end on the loop is still to come */
	int64_t tail_known, tail_seen; /* the keeper's last word: bytes it lags, of so many written. Reading thread */
	_Atomic bool tail_long;
};

/* One record in the making, and then on its way. */
struct spool_txn {
	STAILQ_ENTRY(spool_txn) link; /* in the list of unused ones */
	struct spool *sp;
	struct record record;
	bool patient;
	struct txn_body *bodies;
	unsigned bodies_n, bodies_waiting; /* waiting: not yet synced */
	enum err why;                      /* of the bodies */
	struct bytes inline_copy;          /* of borrowed blobs, when the record has to wait for a body */
	spool_done *done;
	void *arg;
};

struct txn_body {
	struct spool_body *body;
	uint16_t blob;
};

/* A job of the spool's own on the reading thread, counted until its end. */
void spool_cold_add(struct spool *sp, struct cold_job *job);
/* First thing in the done of such a job. */
void spool_cold_over(struct spool *sp);

/* What is ready at once: run by the loop later, never now. */
void spool_soon(struct spool *sp, struct post *p, void (*run)(struct post *p));

/* At the end: the memory of transactions. */
void spool_txns_free(struct spool *sp);

/* ---- spool_body.c, for spool_submit.c ---- */

struct body_place {
	uint32_t seg;
	uint64_t off, len;
	uint32_t crc;
};

/* Writes the rest, syncs file and directory, then done(arg, why, place) on the loop. */
void body_sync(struct spool_body *b, void (*done)(void *arg, enum err why, const struct body_place *place), void *arg);
/* Its record is on disk, or perhaps: the file stays. Clears the pointer. */
void body_keep(struct spool_body **b);

#endif
