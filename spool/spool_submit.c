/* Transactions: gathered here, then through the one door to the journal. A transaction with streamed bodies waits here
 * until they are synced: a record never names bytes that the disk may forget. */
#include "spool/spool_int.h"

#include <stdlib.h>

#include "shm/base/mem.h"

enum { META_KEPT = 64 << 10 };

struct spool_txn *
spool_txn_new(struct spool *sp)
{
	struct spool_txn *txn = STAILQ_FIRST(&sp->unused);

	if (txn != NULL) {
		STAILQ_REMOVE_HEAD(&sp->unused, link);
		return txn;
	}
	txn = mem_zalloc(sizeof *txn);
	txn->sp = sp;
	return txn;
}

/* Back to the unused ones, empty; what was unusually large is given back. */
static void
txn_put(struct spool_txn *txn)
{
	struct spool *sp = txn->sp;

	record_reset(&txn->record);
	if (txn->record.meta.cap > META_KEPT)
		record_fini(&txn->record);
	bytes_fini(&txn->inline_copy);
	for (unsigned i = 0; i < txn->bodies_n; i++)
		spool_body_free(&txn->bodies[i].body);
	free(txn->bodies);
	txn->bodies = NULL;
	txn->bodies_n = txn->bodies_waiting = 0;
	txn->why = OK;
	txn->patient = false;
	STAILQ_INSERT_HEAD(&sp->unused, txn, link);
}

void
spool_txn_free(struct spool_txn **txn)
{
	if (*txn != NULL)
		txn_put(*txn);
	*txn = NULL;
}

void
spool_txns_free(struct spool *sp)
{
	struct spool_txn *txn;

	while ((txn = STAILQ_FIRST(&sp->unused)) != NULL) {
		STAILQ_REMOVE_HEAD(&sp->unused, link);
		record_fini(&txn->record);
		free(txn);
	}
}

/* ---------------------------------------------------------------- gathering */

uint16_t
spool_txn_blob(struct spool_txn *txn, struct slice bytes)
{
	return record_add_blob(&txn->record, bytes);
}

uint16_t
spool_txn_body(struct spool_txn *txn, struct spool_body **body)
{
	uint16_t blob = record_add_body(&txn->record, 0, 0, 0, 0);

	if (blob == BLOB_NONE)
		return blob;
	txn->bodies = mem_array(txn->bodies, txn->bodies_n + 1, sizeof *txn->bodies);
	txn->bodies[txn->bodies_n++] = (struct txn_body){ *body, blob };
	*body = NULL; /* it moved */
	return blob;
}

static uint16_t
last_item(const struct spool_txn *txn)
{
	return (uint16_t)(txn->record.items - 1);
}

uint16_t
spool_txn_message(struct spool_txn *txn, const struct spool_message *m)
{
	record_add_message(&txn->record, m);
	return last_item(txn);
}

uint16_t
spool_txn_attempt(struct spool_txn *txn, const struct spool_attempt *a)
{
	record_add_attempt(&txn->record, a);
	return last_item(txn);
}

uint16_t
spool_txn_outcome(struct spool_txn *txn, const struct spool_outcome *o)
{
	record_add_outcome(&txn->record, o);
	return last_item(txn);
}

uint16_t
spool_txn_edit(struct spool_txn *txn, const struct spool_edit *e)
{
	record_add_edit(&txn->record, e);
	return last_item(txn);
}

uint16_t
spool_txn_handover(struct spool_txn *txn, uint64_t owner, const msgid_t *ids, uint32_t count)
{
	record_add_handover(&txn->record, owner, ids, count);
	return last_item(txn);
}

uint16_t
spool_txn_copy(struct spool_txn *txn, const struct spool_copy *c)
{
	record_add_copy(&txn->record, c);
	return last_item(txn);
}

void
spool_txn_patient(struct spool_txn *txn)
{
	txn->patient = true;
}

/* ---------------------------------------------------------------- submitting */

/* The end of a transaction, by the journal or because a body failed: nothing is left of it but its answer. */
static void
txn_done(void *arg, enum err why, const struct spool_proof *proof)
{
	struct spool_txn *txn = arg;
	spool_done *done = txn->done;
	void *done_arg = txn->arg;

	txn->sp->in_flight--;
	/* On disk, or nobody knows: then the files must stay. */
	for (unsigned i = 0; i < txn->bodies_n && (why == OK || why == ERR_DAMAGED); i++)
		body_keep(&txn->bodies[i].body);
	txn_put(txn);
	done(done_arg, why, proof);
}

static void
to_journal(struct spool_txn *txn)
{
	journal_add(txn->sp->journal, &txn->record, txn->patient, id_last(&txn->sp->ids), txn_done, txn);
}

/* The caller's bytes are gone when spool_submit returns; the record is encoded later. */
static void
blobs_own(struct spool_txn *txn)
{
	struct record *r = &txn->record;
	char *to = bytes_room(&txn->inline_copy, r->inline_len);

	for (uint32_t i = 0; i < r->blobs_n; i++) {
		struct record_blob *b = &r->blobs[i];
		if (b->ref.where != BLOB_INLINE || b->ref.len == 0)
			continue;
		memcpy(to, b->p, b->ref.len);
		b->p = to;
		to += b->ref.len;
	}
}

struct body_wait {
	struct spool_txn *txn;
	unsigned i;
};

static void
txn_on_body(void *arg, enum err why, const struct body_place *at)
{
	struct body_wait *w = arg;
	struct spool_txn *txn = w->txn;

	if (why == OK)
		record_set_body(&txn->record, txn->bodies[w->i].blob, at->seg, at->off, at->len, at->crc);
	else
		txn->why = why;
	free(w);
	if (--txn->bodies_waiting > 0)
		return;
	if (txn->why == OK)
		to_journal(txn);
	else
		txn_done(txn, txn->why, NULL);
}

static void
bodies_sync(struct spool_txn *txn)
{
	txn->bodies_waiting = txn->bodies_n;
	for (unsigned i = 0; i < txn->bodies_n; i++) {
		struct body_wait *w = mem_alloc(sizeof *w);
		*w = (struct body_wait){ txn, i };
		body_sync(txn->bodies[i].body, txn_on_body, w);
	}
}

enum err
spool_submit(struct spool_txn *txn, spool_done *done, void *arg)
{
	struct spool *sp = txn->sp;
	enum err e = record_fits(&txn->record);

	if (e == OK && txn->record.type == RECORD_MESSAGE && !spool_accepting(sp))
		e = ERR_FULL;
	if (e != OK) {
		txn_put(txn);
		return e;
	}
	txn->done = done;
	txn->arg = arg;
	sp->in_flight++;
	if (txn->bodies_n == 0) {
		to_journal(txn);
	} else {
		blobs_own(txn);
		bodies_sync(txn);
	}
	return OK;
}
