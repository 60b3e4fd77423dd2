/* spool_index_write.h - the keeper's side of the index: what a commit changes
 * One writing transaction: begin, the changes of fold_commit, finish. All that hangs on a message row (queue, wake,
 * counts, expiry, aside) follows from the pair of old and new row and is written here, nowhere else. Nothing is durable
 * before index_write_finish says OK; after any error the transaction is given up, and may be done again from the start.
 * One thread. Errors: as in shm_lmdb.h. */
#ifndef SPOOL_SPOOL_INDEX_WRITE_H
#define SPOOL_SPOOL_INDEX_WRITE_H

#include "spool/spool_fold.h"
#include "spool/spool_index.h"

struct index_writer;

/* When a row is next to be looked at for expiry: real time. */
typedef usec_t index_look_fn(void *arg, const struct index_row *row);

/* Never NULL: an error is carried to the end. look may be NULL: a day after reception. */
struct index_writer *index_write_begin(struct index *ix, index_look_fn *look, void *arg);
/* Durable when OK. Ends it either way, clears the pointer. */
enum err index_write_finish(struct index_writer **w);
void index_write_abort(struct index_writer **w);
/* Rows written since the beginning. */
uint64_t index_write_rows(const struct index_writer *w);

/* The second half of struct fold_world; arg is the writer. */
enum err index_put_row(void *writer, const struct index_row *was, const struct index_row *now);
enum err index_put_segment(void *writer, const struct index_segment *s);
enum err index_del_segment(void *writer, uint32_t number);
enum err index_put_attempt(void *writer, const struct index_attempt *a);
enum err index_del_attempt(void *writer, msgid_t id, uint32_t n);
enum err index_put_edit(void *writer, const struct fold_edit *e);
enum err index_del_edit(void *writer, const struct fold_edit *e);
enum err index_put_writer(void *writer, const struct fold_writer *w);
enum err index_del_writer(void *writer, uint64_t number);
enum err index_put_handover(void *writer, const struct index_handover *h);
enum err index_del_handover(void *writer, uint64_t owner, uint64_t number);
enum err index_put_damage(void *writer, const struct index_damage *d);
enum err index_put_ledger(void *writer, const struct index_ledger *l);
enum err index_put_meta(void *writer, const struct index_meta *m);
enum err index_clear(void *writer);

/* Rows whose time to be looked at has come, at most max: fn says when to look again. ERR_EOF when none were due. */
enum err index_sweep(struct index_writer *w, usec_t now, size_t max,
		     usec_t (*fn)(void *arg, const struct index_row *row), void *arg);

/* What the fold reads at its start, and the edits of one message. */
enum err index_load(struct index_txn *t, struct fold *f);
enum err index_edits(struct index_txn *t, msgid_t id, enum err (*fn)(void *, const struct fold_edit *), void *arg);

/* Removes an environment's folder with its files; nobody may be about to open it. */
void index_remove_files(const char *folder);

#endif
