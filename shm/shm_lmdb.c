#include "shm/shm_lmdb.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <lmdb.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "shm/base/fault.h"
#include "shm/base/log.h"
#include "shm/base/mem.h"

struct lmdb {
	MDB_env *env;
	pid_t pid; /* the process that opened it */
	bool read_only;
	unsigned ntables;
	MDB_dbi tables[LMDB_TABLES_MAX];
	dev_t dev; /* of the directory: opened once a process */
	ino_t ino;
	struct lmdb *next;
};

struct lmdb_txn {
	struct lmdb *l;
	MDB_txn *txn; /* NULL: could not begin */
	enum err err;
	int saved_errno; /* of an ERR_IO, for the log call of whoever handles it */
};

struct lmdb_cursor {
	struct lmdb_txn *t;
	MDB_cursor *c; /* NULL: the transaction has failed */
};

/* A call of the library, or, in a test build, what it is told to answer. */
#define CALL(point, call) (fault_fails("lmdb." point) ? errno : (call))

/* ---- errors, in one place ---- */

static enum err
err_of(int rc)
{
	if (rc > 0)
		errno = rc;
	switch (rc) {
	case 0:
		return OK;
	case MDB_NOTFOUND:
	case ENOENT:
		return ERR_NOTFOUND;
	case MDB_KEYEXIST:
		return ERR_STATE;
	case MDB_MAP_FULL:
	case MDB_READERS_FULL:
	case MDB_TXN_FULL:
	case MDB_CURSOR_FULL:
	case ENOSPC:
	case EDQUOT:
		return ERR_FULL;
	case MDB_CORRUPTED:
	case MDB_PAGE_NOTFOUND:
	case MDB_PANIC:
		return ERR_DAMAGED;
	case MDB_INVALID:
	case MDB_VERSION_MISMATCH:
	case MDB_INCOMPATIBLE:
		return ERR_VERSION;
	case MDB_BAD_VALSIZE:
		return ERR_RANGE;
	case ENOMEM:
		return ERR_NOMEM;
	case EACCES:
	case EPERM:
	case EROFS:
		return ERR_DENIED;
	default:
		if (rc < 0)
			errno = EINVAL;
		return ERR_IO;
	}
}

static MDB_val
val_of(struct slice s)
{
	MDB_val v = { .mv_size = s.n };

	memcpy(&v.mv_data, &s.p, sizeof(v.mv_data)); /* LMDB does not write there, but does not say const */
	return v;
}

static struct slice
slice_val(MDB_val v)
{
	return slice_of(v.mv_data, v.mv_size);
}

/* ---- one environment a directory and process ---- */

static struct lmdb *open_list;
static pthread_mutex_t open_lock = PTHREAD_MUTEX_INITIALIZER;

static void
note_open(struct lmdb *l, const char *path)
{
	struct stat st;

	require_that(stat(path, &st) == 0, "lmdb");
	l->dev = st.st_dev;
	l->ino = st.st_ino;
	pthread_mutex_lock(&open_lock);
	for (const struct lmdb *o = open_list; o != NULL; o = o->next)
		require_that(o->pid != l->pid || o->dev != l->dev || o->ino != l->ino, "lmdb");
	l->next = open_list;
	open_list = l;
	pthread_mutex_unlock(&open_lock);
}

static void
note_close(struct lmdb *l)
{
	pthread_mutex_lock(&open_lock);
	for (struct lmdb **p = &open_list; *p != NULL; p = &(*p)->next)
		if (*p == l) {
			*p = l->next;
			break;
		}
	pthread_mutex_unlock(&open_lock);
}

static void
check_process(const struct lmdb *l)
{
	require_that(l->pid == getpid(), "lmdb");
}

/* ---- opening ---- */

static enum err
open_tables(struct lmdb *l, const struct lmdb_conf *conf)
{
	MDB_txn *txn;
	int rc = mdb_txn_begin(l->env, NULL, l->read_only ? MDB_RDONLY : 0, &txn);

	if (rc == MDB_READERS_FULL && lmdb_clear_stale(l) > 0)
		rc = mdb_txn_begin(l->env, NULL, MDB_RDONLY, &txn);
	if (rc != 0)
		return err_of(rc);
	for (unsigned i = 0; rc == 0 && i < conf->ntables; i++)
		rc = mdb_dbi_open(txn, conf->tables[i], l->read_only ? 0 : MDB_CREATE, &l->tables[i]);
	if (rc != 0) {
		mdb_txn_abort(txn);
		return err_of(rc);
	}
	l->ntables = conf->ntables;
	return err_of(mdb_txn_commit(txn)); /* also when reading: handles of an aborted one are closed again */
}

/* A file that was cut off ends whoever reads behind its end. Lengthened, it has pages without meaning there, which the
 * library calls corrupted. It may also be a little short by right, and then nothing refers to what is added. Never makes
 * it shorter, so it may be done beside its writer. */
static int
fill_up(struct lmdb *l, const char *folder)
{
	char path[PATH_MAX];
	MDB_envinfo info;
	MDB_stat st;
	struct stat file;
	mdb_filehandle_t fd;
	off_t whole;
	int rc, own;

	if ((rc = mdb_env_info(l->env, &info)) != 0 || (rc = mdb_env_stat(l->env, &st)) != 0 ||
	    (rc = mdb_env_get_fd(l->env, &fd)) != 0)
		return rc;
	whole = (off_t)(info.me_last_pgno + 1) * (off_t)st.ms_psize;
	if (fstat(fd, &file) != 0)
		return errno;
	if (file.st_size >= whole)
		return 0;
	(void)snprintf(path, sizeof(path), "%s/data.mdb", folder);
	own = open(path, O_RDWR | O_CLOEXEC | O_NOFOLLOW);
	if (own < 0)
		return errno;
	rc = fallocate(own, 0, whole - 1, 1) == 0 ? 0 : errno;
	close(own);
	return rc;
}

static enum err
open_env(struct lmdb *l, const struct lmdb_conf *conf)
{
	int rc;

	if ((rc = mdb_env_create(&l->env)) != 0)
		return err_of(rc);
	if ((rc = mdb_env_set_mapsize(l->env, conf->map_size != 0 ? conf->map_size : LMDB_MAP_DEFAULT)) != 0 ||
	    (rc = mdb_env_set_maxdbs(l->env, LMDB_TABLES_MAX)) != 0 ||
	    (rc = mdb_env_set_maxreaders(l->env, conf->readers != 0 ? conf->readers : 256)) != 0)
		return err_of(rc);
	/* NOTLS: a reading transaction may pass from thread to thread. NORDAHEAD: the file is larger than memory. */
	rc = CALL("open",
		  mdb_env_open(l->env, conf->path, MDB_NOTLS | MDB_NORDAHEAD | (l->read_only ? MDB_RDONLY : 0), 0640));
	if (rc == 0)
		rc = fill_up(l, conf->path);
	return err_of(rc);
}

enum err
lmdb_open(const struct lmdb_conf *conf, struct lmdb **out)
{
	struct lmdb *l;
	enum err e;

	require_that(conf->ntables <= LMDB_TABLES_MAX, "lmdb");
	if (!conf->read_only && mkdir(conf->path, 0750) < 0 && errno != EEXIST)
		return err_of(errno);
	if (access(conf->path, F_OK) < 0)
		return err_of(errno);
	l = mem_zalloc(sizeof(*l));
	l->pid = getpid();
	l->read_only = conf->read_only;
	note_open(l, conf->path);
	e = open_env(l, conf);
	if (e == OK)
		e = open_tables(l, conf);
	if (e != OK) {
		int saved = errno;

		lmdb_close(&l);
		errno = saved;
		return e;
	}
	*out = l;
	return OK;
}

void
lmdb_close(struct lmdb **lp)
{
	struct lmdb *l = *lp;

	if (l == NULL)
		return;
	*lp = NULL;
	check_process(l);
	note_close(l);
	if (l->env != NULL)
		mdb_env_close(l->env);
	free(l);
}

unsigned
lmdb_clear_stale(struct lmdb *l)
{
	int dead = 0;

	check_process(l);
	if (mdb_reader_check(l->env, &dead) != 0 || dead < 0)
		return 0;
	return (unsigned)dead;
}

enum err
lmdb_copy_compact(struct lmdb *l, const char *path)
{
	check_process(l);
	return err_of(CALL("copy", mdb_env_copy2(l->env, path, MDB_CP_COMPACT)));
}

/* Table 0 of LMDB holds the free pages: a list of page numbers a transaction, its length first. */
static enum err
count_free(MDB_txn *txn, uint64_t *pages)
{
	MDB_cursor *c;
	MDB_val k, v;
	size_t n;
	int rc;

	*pages = 0;
	if ((rc = mdb_cursor_open(txn, 0, &c)) != 0)
		return err_of(rc);
	while ((rc = mdb_cursor_get(c, &k, &v, MDB_NEXT)) == 0)
		if (v.mv_size >= sizeof(n)) {
			memcpy(&n, v.mv_data, sizeof(n));
			*pages += n;
		}
	mdb_cursor_close(c);
	return rc == MDB_NOTFOUND ? OK : err_of(rc);
}

/* A line a reader, led by the process's number; a headline that is led by none. */
static int
count_stale(const char *line, void *arg)
{
	unsigned *n = arg;
	long pid = strtol(line, NULL, 10);

	if (pid > 0 && kill((pid_t)pid, 0) != 0 && errno == ESRCH)
		(*n)++;
	return 0;
}

enum err
lmdb_usage(struct lmdb *l, struct lmdb_usage *out)
{
	struct lmdb_txn *t = lmdb_read(l);
	MDB_envinfo info;
	MDB_stat st;
	uint64_t pages = 0;
	enum err e = t->err;

	if (e == OK)
		e = err_of(mdb_env_info(l->env, &info));
	if (e == OK)
		e = err_of(mdb_env_stat(l->env, &st));
	if (e == OK)
		e = count_free(t->txn, &pages);
	lmdb_abort(&t);
	if (e != OK)
		return e;
	out->file_bytes = ((uint64_t)info.me_last_pgno + 1) * st.ms_psize;
	out->free_bytes = pages * st.ms_psize;
	out->readers = info.me_numreaders;
	out->stale = 0;
	if (mdb_reader_list(l->env, count_stale, &out->stale) < 0)
		out->stale = 0; /* the list could not be had: none is known */
	return OK;
}

/* ---- transactions ---- */

static void
txn_fail_rc(struct lmdb_txn *t, int rc)
{
	enum err e = err_of(rc);

	if (t->err == OK && e != OK) {
		t->err = e;
		t->saved_errno = errno;
	}
}

static bool
txn_good(const struct lmdb_txn *t)
{
	return t->err == OK;
}

static MDB_dbi
dbi_of(const struct lmdb_txn *t, unsigned table)
{
	require_that(table < t->l->ntables, "lmdb");
	return t->l->tables[table];
}

/* Full of readers: those of the dead are cleared, once. Resized by another process: its size is taken over, once. */
static struct lmdb_txn *
txn_begin(struct lmdb *l, unsigned flags)
{
	struct lmdb_txn *t = mem_zalloc(sizeof(*t));
	int rc;

	check_process(l);
	t->l = l;
	rc = CALL("begin", mdb_txn_begin(l->env, NULL, flags, &t->txn));
	if (rc == MDB_READERS_FULL && lmdb_clear_stale(l) > 0)
		rc = mdb_txn_begin(l->env, NULL, flags, &t->txn);
	if (rc == MDB_MAP_RESIZED && (rc = mdb_env_set_mapsize(l->env, 0)) == 0)
		rc = mdb_txn_begin(l->env, NULL, flags, &t->txn);
	if (rc != 0)
		t->txn = NULL;
	txn_fail_rc(t, rc);
	return t;
}

struct lmdb_txn *
lmdb_read(struct lmdb *l)
{
	return txn_begin(l, MDB_RDONLY);
}

struct lmdb_txn *
lmdb_write(struct lmdb *l)
{
	require_that(!l->read_only, "lmdb");
	return txn_begin(l, 0);
}

enum err
lmdb_commit(struct lmdb_txn **tp)
{
	struct lmdb_txn *t = *tp;
	enum err e = t->err;

	if (e != OK) {
		int saved = t->saved_errno;

		lmdb_abort(tp);
		errno = saved;
		return e;
	}
	*tp = NULL;
	if (fault_fails("lmdb.commit")) {
		e = err_of(errno);
		mdb_txn_abort(t->txn);
	} else
		e = err_of(mdb_txn_commit(t->txn));
	free(t);
	return e;
}

void
lmdb_abort(struct lmdb_txn **tp)
{
	struct lmdb_txn *t = *tp;

	if (t == NULL)
		return;
	*tp = NULL;
	if (t->txn != NULL)
		mdb_txn_abort(t->txn);
	free(t);
}

enum err
lmdb_txn_error(const struct lmdb_txn *t)
{
	return t->err;
}

void
lmdb_txn_fail(struct lmdb_txn *t, enum err e)
{
	if (t->err == OK)
		t->err = e;
}

bool
lmdb_get(struct lmdb_txn *t, unsigned table, struct slice key, struct slice *val)
{
	MDB_val k = val_of(key), v;
	int rc;

	if (!txn_good(t))
		return false;
	rc = CALL("get", mdb_get(t->txn, dbi_of(t, table), &k, &v));
	if (rc == 0)
		*val = slice_val(v);
	else if (rc != MDB_NOTFOUND)
		txn_fail_rc(t, rc);
	return rc == 0;
}

static void
put(struct lmdb_txn *t, unsigned table, struct slice key, struct slice val, unsigned flags)
{
	MDB_val k = val_of(key), v = val_of(val);

	if (txn_good(t))
		txn_fail_rc(t, CALL("put", mdb_put(t->txn, dbi_of(t, table), &k, &v, flags)));
}

void
lmdb_put(struct lmdb_txn *t, unsigned table, struct slice key, struct slice val)
{
	put(t, table, key, val, 0);
}

void
lmdb_append(struct lmdb_txn *t, unsigned table, struct slice key, struct slice val)
{
	put(t, table, key, val, MDB_APPEND);
}

bool
lmdb_del(struct lmdb_txn *t, unsigned table, struct slice key)
{
	MDB_val k = val_of(key);
	int rc;

	if (!txn_good(t))
		return false;
	rc = CALL("del", mdb_del(t->txn, dbi_of(t, table), &k, NULL));
	if (rc != 0 && rc != MDB_NOTFOUND)
		txn_fail_rc(t, rc);
	return rc == 0;
}

void
lmdb_empty(struct lmdb_txn *t, unsigned table)
{
	if (txn_good(t))
		txn_fail_rc(t, CALL("drop", mdb_drop(t->txn, dbi_of(t, table), 0)));
}

uint64_t
lmdb_count(struct lmdb_txn *t, unsigned table)
{
	MDB_stat st = { 0 };

	if (txn_good(t))
		txn_fail_rc(t, CALL("stat", mdb_stat(t->txn, dbi_of(t, table), &st)));
	return st.ms_entries;
}

/* ---- ranges ---- */

struct lmdb_cursor *
lmdb_cursor_open(struct lmdb_txn *t, unsigned table)
{
	struct lmdb_cursor *c = mem_zalloc(sizeof(*c));
	int rc;

	c->t = t;
	if (txn_good(t) && (rc = CALL("cursor", mdb_cursor_open(t->txn, dbi_of(t, table), &c->c))) != 0) {
		c->c = NULL;
		txn_fail_rc(t, rc);
	}
	return c;
}

void
lmdb_cursor_close(struct lmdb_cursor **cp)
{
	struct lmdb_cursor *c = *cp;

	if (c == NULL)
		return;
	*cp = NULL;
	if (c->c != NULL)
		mdb_cursor_close(c->c);
	free(c);
}

static bool
cursor_get(struct lmdb_cursor *c, MDB_val *key, MDB_cursor_op op, struct slice *k, struct slice *v)
{
	MDB_val val;
	int rc;

	if (!txn_good(c->t) || c->c == NULL)
		return false;
	rc = CALL("walk", mdb_cursor_get(c->c, key, &val, op));
	if (rc != 0) {
		if (rc != MDB_NOTFOUND)
			txn_fail_rc(c->t, rc);
		return false;
	}
	*k = slice_val(*key);
	*v = slice_val(val);
	return true;
}

bool
lmdb_seek(struct lmdb_cursor *c, struct slice key, struct slice *k, struct slice *v)
{
	MDB_val mk = val_of(key);

	return cursor_get(c, &mk, key.n == 0 ? MDB_FIRST : MDB_SET_RANGE, k, v);
}

/* After a delete LMDB's cursor already stands on the one behind, or past the last one of the page: MDB_NEXT after
 * a delete knows that and gives the right one. */
bool
lmdb_next(struct lmdb_cursor *c, struct slice *k, struct slice *v)
{
	MDB_val mk = { 0 };

	return cursor_get(c, &mk, MDB_NEXT, k, v);
}

bool
lmdb_prev(struct lmdb_cursor *c, struct slice *k, struct slice *v)
{
	MDB_val mk = { 0 };

	return cursor_get(c, &mk, MDB_PREV, k, v);
}

bool
lmdb_last(struct lmdb_cursor *c, struct slice *k, struct slice *v)
{
	MDB_val mk = { 0 };

	return cursor_get(c, &mk, MDB_LAST, k, v);
}

void
lmdb_cursor_del(struct lmdb_cursor *c)
{
	if (txn_good(c->t) && c->c != NULL)
		txn_fail_rc(c->t, CALL("cursor_del", mdb_cursor_del(c->c, 0)));
}
