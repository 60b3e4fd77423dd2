/* shm_lmdb_int.h - what the files of the wrapper share
 * shm_lmdb.c: environments, transactions, ranges; _guard.c: calls that a mangled page cannot end the process by;
 * _audit.c: the file looked through page by page. */
#ifndef SHM_SHM_LMDB_INT_H
#define SHM_SHM_LMDB_INT_H

#include <lmdb.h>
#include <stdatomic.h>
#include <sys/types.h>

#include "shm/shm_lmdb.h"

struct lmdb {
	MDB_env *env;
	pid_t pid; /* the process that opened it */
	bool read_only, sums;
	atomic_bool fell; /* a call met a mangled page */
	bool torn;        /* and a writing one was: nothing of the library's may be touched any more */
	unsigned ntables;
	MDB_dbi tables[LMDB_TABLES_MAX];
	uint32_t seeds[LMDB_TABLES_MAX]; /* what the sum of a table's entries begins with */
	dev_t dev;                       /* of the directory: opened once a process */
	ino_t ino;
	struct lmdb *next;
};

struct lmdb_txn {
	struct lmdb *l;
	MDB_txn *txn; /* NULL: could not begin */
	enum err err;
	int saved_errno; /* of an ERR_IO, for the log call of whoever handles it */
	bool reading;
	bool torn; /* a writing one, left in the middle of a call */
};

/* ---- sums: the last bytes of an entry's value ---- */

enum { LMDB_SUM = 4 };
/* The name of a table in the file: one whose entries have sums is another than one of old. */
#define LMDB_SUM_NAME "+crc32c"
/* So that an entry that turns up in another table is false there. */
uint32_t lmdb_sum_seed(struct slice name_in_file);
uint32_t lmdb_sum(uint32_t seed, struct slice key, struct slice val);

/* LMDB's order, and ours. */
int lmdb_key_cmp(struct slice a, struct slice b);

/* In a meta page. */
enum { LMDB_AT_PAGE_SIZE = 40, LMDB_AT_LAST_PAGE = 136 };

/* ---- guard ---- */

/* At each open. What ended the process before still does, outside a guarded call. */
void lmdb_guard_install(void);
/* False: fn was left in the middle, because it touched what is not there, or the library called a page impossible. */
bool lmdb_guard_run(void (*fn)(void *arg), void *arg);
/* From within fn. */
_Noreturn void lmdb_guard_fall(void);

#endif
