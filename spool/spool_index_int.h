/* spool_index_int.h - what the files of the index share: tables, keys, values
 * Keys are big-endian so that LMDB's order is ours; values are little-endian, begin with a version, and are read by the
 * checked readers of bytes.h: a false one is ERR_DAMAGED, never believed. */
#ifndef SPOOL_SPOOL_INDEX_INT_H
#define SPOOL_SPOOL_INDEX_INT_H

#include <pthread.h>

#include "shm/shm_area.h"
#include "shm/shm_lmdb.h"
#include "spool/spool_fold.h"
#include "spool/spool_index.h"

enum index_table {
	T_META,     /* "meta", "ledger" */
	T_MESSAGE,  /* id */
	T_QUEUE,    /* partition, queue, 255 - priority, due, id */
	T_WAKE,     /* partition, due, queue */
	T_QUEUES,   /* queue: names, counts */
	T_BINDINGS, /* 'b' and the name: counts */
	T_EXPIRY,   /* look again, id */
	T_SEGMENT,  /* number */
	T_ATTEMPT,  /* id, n */
	T_EDIT,     /* id (0: range), at, place */
	T_WRITER,   /* writer */
	T_HANDOVER, /* owner, writer */
	T_DAMAGE,   /* place */
	T_ASIDE,    /* id: held or quarantined */
	T_COUNT
};

struct index {
	char *path;
	uint64_t map_size;
	bool keeper;
	pthread_mutex_t lock; /* the members below: snapshots may be taken by several threads */
	struct lmdb *env;     /* NULL: none that can be read yet */
	uint64_t dev, ino;    /* of its data file */
	_Atomic uint64_t *suspect;
	struct lmdb_audit *audit; /* the keeper's pass, NULL: none */
	unsigned snapshots;
};

struct index_txn {
	struct index *ix;
	struct lmdb_txn *t;
};

/* ---- keys ---- */

struct key {
	uint8_t b[LMDB_KEY_MAX];
	size_t n;
};
void key_u8(struct key *k, uint8_t v);
void key_u16(struct key *k, uint16_t v);
void key_u32(struct key *k, uint32_t v);
void key_u64(struct key *k, uint64_t v);
/* Cut when it would be too long. */
void key_bytes(struct key *k, struct slice s);
struct slice key_slice(const struct key *k);
bool take_be16(struct slice *s, uint16_t *v);
bool take_be32(struct slice *s, uint32_t *v);
bool take_be64(struct slice *s, uint64_t *v);

struct key key_id(msgid_t id);
struct key key_queue(const struct index_queue_key *q);
struct key key_queue_prefix(uint64_t queue);
struct key key_wake(usec_t due, uint64_t queue);
struct key key_number(uint32_t number);
struct key key_pair(uint64_t a, uint64_t b);
struct key key_attempt(msgid_t id, uint32_t n);
struct key key_edit(const struct fold_edit *e);
struct key key_place(struct place p);
struct key key_binding(struct slice name);

/* ---- values ---- */

/* Replace what is in b. */
void encode_row(struct bytes *b, const struct index_row *r);
void encode_meta(struct bytes *b, const struct index_meta *m);
void encode_ledger(struct bytes *b, const struct index_ledger *l);
void encode_queue(struct bytes *b, const struct index_queue *q);
void encode_binding(struct bytes *b, const struct index_binding *q);
void encode_segment(struct bytes *b, const struct index_segment *s);
void encode_attempt(struct bytes *b, const struct index_attempt *a);
void encode_edit(struct bytes *b, const struct fold_edit *e);
void encode_writer(struct bytes *b, const struct fold_writer *w);
void encode_handover(struct bytes *b, const struct index_handover *h);
void encode_damage(struct bytes *b, const struct index_damage *d);

/* Key and value to struct; false: damaged. One type for all, so that a page reader can be told which. */
typedef bool decode_fn(struct slice k, struct slice v, void *out);
bool decode_row(struct slice k, struct slice v, void *out);
bool decode_meta(struct slice k, struct slice v, void *out);
bool decode_ledger(struct slice k, struct slice v, void *out);
bool decode_queue_key(struct slice k, struct slice v, void *out);
bool decode_wake(struct slice k, struct slice v, void *out);
bool decode_queue(struct slice k, struct slice v, void *out);
bool decode_binding(struct slice k, struct slice v, void *out);
bool decode_look(struct slice k, struct slice v, void *out);
bool decode_segment(struct slice k, struct slice v, void *out);
bool decode_attempt(struct slice k, struct slice v, void *out);
bool decode_edit(struct slice k, struct slice v, void *out);
bool decode_writer(struct slice k, struct slice v, void *out);
bool decode_handover(struct slice k, struct slice v, void *out);
bool decode_damage(struct slice k, struct slice v, void *out);

/* ---- reading, also within the keeper's writing transaction ---- */

enum err table_get(struct lmdb_txn *t, enum index_table table, const struct key *k, decode_fn *decode, void *out);
struct table_page {
	enum index_table table;
	struct slice prefix; /* of the keys wanted; empty: all */
	struct key after;    /* only keys behind it; n = 0: from the prefix on */
	decode_fn *decode;
	void *out;
	size_t size; /* of one entry of out */
	size_t max;
};
/* OK with *n > 0, ERR_EOF when there are none. */
enum err table_page(struct lmdb_txn *t, const struct table_page *p, size_t *n);
/* Is this row to be found by its queue's scheduler? */
bool row_in_queue(const struct index_row *r);

#endif
