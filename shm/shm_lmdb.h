/* shm_lmdb.h - LMDB, as much of it as the index needs
 * The one home of the library: retries and odd cases (readers full, map resized, map full, stale readers) are handled
 * here and nowhere else. Durable mode, no WRITEMAP, a map of 1 TiB of addresses that is never resized.
 *
 * An environment belongs to the process that opened it: open after the fork, before the chroot; using one across a
 * fork is a panic, and so is opening the same directory twice in one process. One writer process (spool/ sees to that
 * with its lock file); any number of reading ones, which open with read_only. A transaction carries its own error: once
 * something fails every further call on it does nothing, and commit says what it was. So a chain of calls is checked
 * once. Slices that a get or cursor gives point into the map and hold until the transaction's next write or its end.
 * Keep read transactions short (a page of rows): a long one makes the file grow.
 * Damage: a call that meets a mangled page, by an assertion of the library's, SIGBUS or SIGSEGV, fails with ERR_DAMAGED
 * and no process ends of it: the file can be built anew. The guard takes the two signals over at each open; outside
 * these calls they end the process as before. A writing transaction that was left so is given up with its environment,
 * whose memory and file last as long as the process. Keys out of order are damage too.
 * Threads: an environment may be used by all threads of its process, a transaction by one at a time (not bound to the
 * thread that began it).
 * Errors: ERR_NOTFOUND (no such environment or table, read-only), ERR_FULL (disk, map or readers), ERR_IO (errno),
 * ERR_DAMAGED (file corrupt), ERR_VERSION (not a file of this LMDB), ERR_RANGE (key empty or over 511 bytes),
 * ERR_DENIED (no permission), ERR_NOMEM. */
#ifndef SHM_SHM_LMDB_H
#define SHM_SHM_LMDB_H

#include <stdbool.h>
#include <stdint.h>

#include "shm/base/bytes.h"
#include "shm/base/err.h"

#define LMDB_MAP_DEFAULT (UINT64_C(1) << 40)

enum { LMDB_KEY_MAX = 511, LMDB_TABLES_MAX = 32 };

struct lmdb;
struct lmdb_txn;
struct lmdb_cursor;

struct lmdb_conf {
	const char *path;          /* a directory; made (0750) when writing */
	const char *const *tables; /* names; a table is then named by its place in this list */
	unsigned ntables;
	uint64_t map_size; /* 0: LMDB_MAP_DEFAULT */
	unsigned readers;  /* 0: 256 */
	bool read_only;
	bool sums;      /* each entry has a CRC32C behind its value: a false one is ERR_DAMAGED */
	uint64_t audit; /* with sums: so many bytes are looked through before anything in the file is used */
};

/* Opens and makes the tables (reading: they must be there, or ERR_NOTFOUND). */
enum err lmdb_open(const struct lmdb_conf *conf, struct lmdb **out);
/* All transactions must be over. Clears the caller's pointer; NULL inside is fine. */
void lmdb_close(struct lmdb **l);
/* Frees reader entries of dead processes; gives how many. */
unsigned lmdb_clear_stale(struct lmdb *l);
/* Copies the environment without its free pages into the existing empty directory `path`, synced. */
enum err lmdb_copy_compact(struct lmdb *l, const char *path);
struct lmdb_usage {
	uint64_t file_bytes; /* up to the last page in use */
	uint64_t free_bytes; /* of these: free pages */
	unsigned readers;    /* reader entries in use */
	unsigned stale;      /* of these: of processes that are gone */
};
enum err lmdb_usage(struct lmdb *l, struct lmdb_usage *out);

/* ---- looking through the file ---- */

/* The pages of one snapshot, read from the file, not from the map: each is reached once and by one way, its nodes lie
 * within it and in order, the counts agree, no free page is in use, and every entry has its sum. So damage is found that
 * nobody has met, entries that are missing included. The snapshot lasts until the end. Only with sums. */
struct lmdb_audit;
/* In the writing process, between two of its transactions. The tables that are larger than is left of `most` bytes, when
 * the smaller ones and the free pages have been looked through, are left out; UINT64_MAX: none. */
enum err lmdb_audit_begin(struct lmdb *l, uint64_t most, struct lmdb_audit **out);
/* Of the whole file. */
uint64_t lmdb_audit_bytes(const struct lmdb_audit *a);
/* About so many pages. OK: there is more to do; ERR_EOF: all is well; ERR_DAMAGED. */
enum err lmdb_audit_step(struct lmdb_audit *a, size_t pages);
/* Clears the caller's pointer; NULL inside is fine. */
void lmdb_audit_end(struct lmdb_audit **a);

/* ---- transactions ---- */

/* Never NULL: an error in beginning is carried. One writing transaction at a time in a process. */
struct lmdb_txn *lmdb_read(struct lmdb *l);
struct lmdb_txn *lmdb_write(struct lmdb *l);
/* Durable when OK. Ends the transaction either way, clears the pointer. */
enum err lmdb_commit(struct lmdb_txn **t);
/* The way to end a reading one, too. NULL inside is fine. */
void lmdb_abort(struct lmdb_txn **t);
/* The error carried so far. */
enum err lmdb_txn_error(const struct lmdb_txn *t);
/* The caller found what it read to be false: makes the transaction fail with e. */
void lmdb_txn_fail(struct lmdb_txn *t, enum err e);

/* False: not there, or the transaction has failed (commit tells). */
bool lmdb_get(struct lmdb_txn *t, unsigned table, struct slice key, struct slice *val);
void lmdb_put(struct lmdb_txn *t, unsigned table, struct slice key, struct slice val);
/* As put, but keys come in rising order and go to the end: pages are filled. A false order fails with ERR_STATE. */
void lmdb_append(struct lmdb_txn *t, unsigned table, struct slice key, struct slice val);
/* True: it was there. */
bool lmdb_del(struct lmdb_txn *t, unsigned table, struct slice key);
/* Empties the table. */
void lmdb_empty(struct lmdb_txn *t, unsigned table);
/* LMDB's own count of entries. */
uint64_t lmdb_count(struct lmdb_txn *t, unsigned table);

/* ---- ranges ---- */

/* Never NULL. Close it before its transaction ends. Writing through others than this cursor while it is open is fine,
 * but what it gave no longer holds. */
struct lmdb_cursor *lmdb_cursor_open(struct lmdb_txn *t, unsigned table);
void lmdb_cursor_close(struct lmdb_cursor **c);
/* The first entry with key >= the given one (an empty key: the very first). All: false at the end, or on failure. */
bool lmdb_seek(struct lmdb_cursor *c, struct slice key, struct slice *k, struct slice *v);
bool lmdb_next(struct lmdb_cursor *c, struct slice *k, struct slice *v);
bool lmdb_prev(struct lmdb_cursor *c, struct slice *k, struct slice *v);
bool lmdb_last(struct lmdb_cursor *c, struct slice *k, struct slice *v);
/* Deletes the entry it stands on; the next lmdb_next gives the one behind it. */
void lmdb_cursor_del(struct lmdb_cursor *c);

#endif
