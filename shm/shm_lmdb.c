#include "shm/shm_lmdb.h"

#include <endian.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "shm/base/crc32c.h"
#include "shm/base/fault.h"
#include "shm/base/log.h"
#include "shm/base/mem.h"
#include "shm/shm_lmdb_int.h"

struct lmdb_cursor {
	struct lmdb_txn *t;
	MDB_cursor *c; /* NULL: the transaction has failed */
	uint32_t seed;
	size_t n; /* of the key it stands on; 0: on none */
	char key[LMDB_KEY_MAX];
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
	case ENOSPC:
	case EDQUOT:
		return ERR_FULL;
	case MDB_CORRUPTED:
	case MDB_PAGE_NOTFOUND:
	case MDB_CURSOR_FULL: /* a tree deeper than any can be */
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
note_open(struct lmdb *l, const struct stat *st)
{
	l->dev = st->st_dev;
	l->ino = st->st_ino;
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

/* What a write was torn out of is left as it lies: to close it would be to believe it. Once for each damage. */
static void
give_up(struct lmdb *l)
{
	static struct lmdb *given_up;

	pthread_mutex_lock(&open_lock);
	l->next = given_up;
	given_up = l;
	pthread_mutex_unlock(&open_lock);
}

static void
check_process(const struct lmdb *l)
{
	require_that(l->pid == getpid(), "lmdb");
}

/* ---- calls that meet a mangled page ---- */

static void
on_assert(MDB_env *env, const char *what)
{
	(void)env;
	(void)what;
	lmdb_guard_fall();
}

/* Named once: all that follows from it is the same damage. */
static bool
guarded(struct lmdb *l, void (*fn)(void *arg), void *arg)
{
	if (lmdb_guard_run(fn, arg))
		return true;
	if (!atomic_exchange(&l->fell, true))
		log_error("lmdb", "a damaged page: what it says cannot be");
	return false;
}

/* ---- sums ---- */

uint32_t
lmdb_sum_seed(struct slice name_in_file)
{
	return crc32c(0, name_in_file.p, name_in_file.n);
}

uint32_t
lmdb_sum(uint32_t seed, struct slice key, struct slice val)
{
	return crc32c(crc32c(seed, key.p, key.n), val.p, val.n);
}

/* Cuts the sum off a value that was read; a false one is damage. */
static int
take_sum(uint32_t seed, const MDB_val *k, MDB_val *v)
{
	uint32_t sum;

	if (v->mv_size < LMDB_SUM)
		return MDB_CORRUPTED;
	v->mv_size -= LMDB_SUM;
	memcpy(&sum, (const char *)v->mv_data + v->mv_size, LMDB_SUM);
	return sum == htole32(lmdb_sum(seed, slice_val(*k), slice_val(*v))) ? 0 : MDB_CORRUPTED;
}

static void
give_sum(uint32_t seed, const MDB_val *k, struct slice val, void *room)
{
	uint32_t sum = htole32(lmdb_sum(seed, slice_val(*k), val));

	if (val.n > 0)
		memcpy(room, val.p, val.n);
	memcpy((char *)room + val.n, &sum, LMDB_SUM);
}

int
lmdb_key_cmp(struct slice a, struct slice b)
{
	int d = memcmp(a.p, b.p, a.n < b.n ? a.n : b.n);

	return d != 0 ? d : (a.n > b.n) - (a.n < b.n);
}

/* ---- opening ---- */

/* All tables, or the first that fails. */
struct tables_call {
	struct lmdb *l;
	const struct lmdb_conf *conf;
	MDB_txn *txn;
	int rc;
};

/* Tables of another format are there and ours are not: nothing of it can be read. */
static int
check_format(struct tables_call *c, const char *name)
{
	MDB_stat st;
	MDB_dbi dbi;
	int rc = mdb_dbi_open(c->txn, NULL, 0, &dbi);

	if (rc == 0)
		rc = mdb_stat(c->txn, dbi, &st);
	if (rc != 0 || st.ms_entries == 0)
		return rc;
	rc = mdb_dbi_open(c->txn, name, 0, &dbi);
	return rc == MDB_NOTFOUND ? MDB_VERSION_MISMATCH : rc;
}

static void
call_tables(void *arg)
{
	struct tables_call *c = arg;
	struct lmdb *l = c->l;
	char name[64];

	c->rc = 0;
	for (unsigned i = 0; c->rc == 0 && i < c->conf->ntables; i++) {
		(void)snprintf(name, sizeof(name), "%s%s", c->conf->tables[i], l->sums ? LMDB_SUM_NAME : "");
		l->seeds[i] = lmdb_sum_seed(slice_str(name));
		if (i == 0 && l->sums && !l->read_only)
			c->rc = check_format(c, name);
		if (c->rc == 0)
			c->rc = mdb_dbi_open(c->txn, name, l->read_only ? 0 : MDB_CREATE, &l->tables[i]);
	}
}

static enum err
open_tables(struct lmdb *l, const struct lmdb_conf *conf)
{
	struct tables_call c = { .l = l, .conf = conf };
	int rc = mdb_txn_begin(l->env, NULL, l->read_only ? MDB_RDONLY : 0, &c.txn);

	if (rc == MDB_READERS_FULL && lmdb_clear_stale(l) > 0)
		rc = mdb_txn_begin(l->env, NULL, MDB_RDONLY, &c.txn);
	if (rc != 0)
		return err_of(rc);
	if (!guarded(l, call_tables, &c)) {
		l->torn = !l->read_only;
		c.rc = MDB_CORRUPTED;
	}
	if (c.rc != 0) {
		if (!l->torn)
			mdb_txn_abort(c.txn);
		return err_of(c.rc);
	}
	l->ntables = conf->ntables;
	return err_of(mdb_txn_commit(c.txn)); /* also when reading: handles of an aborted one are closed again */
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

/* One that is too short says nothing here: the library knows what it is. */
static bool
head_good(int fd, off_t at, uint64_t map_size, uint32_t *page_size)
{
	uint64_t last = 0;

	if (pread(fd, page_size, sizeof(*page_size), at + LMDB_AT_PAGE_SIZE) != sizeof(*page_size) ||
	    pread(fd, &last, sizeof(last), at + LMDB_AT_LAST_PAGE) != sizeof(last))
		return true;
	return *page_size >= 512 && *page_size <= 65536 && (*page_size & (*page_size - 1)) == 0 &&
	       last < map_size / *page_size;
}

/* The library divides by the page size that the heads give, and makes the map as large as their last page: more than it
 * was, when the file is. */
static int
check_heads(const char *folder, uint64_t map_size)
{
	char path[PATH_MAX];
	uint32_t first = 0, second = 0;
	struct stat st;
	bool good;
	int fd;

	(void)snprintf(path, sizeof(path), "%s/data.mdb", folder);
	fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
	if (fd < 0)
		return errno == ENOENT ? 0 : errno;
	if (fstat(fd, &st) == 0 && (uint64_t)st.st_size > map_size)
		map_size = (uint64_t)st.st_size;
	good = head_good(fd, 0, map_size, &first) && head_good(fd, first, map_size, &second);
	close(fd);
	return good ? 0 : MDB_CORRUPTED;
}

static enum err
open_env(struct lmdb *l, const struct lmdb_conf *conf)
{
	uint64_t map_size = conf->map_size != 0 ? conf->map_size : LMDB_MAP_DEFAULT;
	int rc;

	if ((rc = mdb_env_create(&l->env)) != 0)
		return err_of(rc);
	(void)mdb_env_set_assert(l->env, on_assert);
	if ((rc = mdb_env_set_mapsize(l->env, map_size)) != 0 ||
	    (rc = mdb_env_set_maxdbs(l->env, LMDB_TABLES_MAX)) != 0 ||
	    (rc = mdb_env_set_maxreaders(l->env, conf->readers != 0 ? conf->readers : 256)) != 0)
		return err_of(rc);
	if ((rc = check_heads(conf->path, map_size)) != 0)
		return err_of(rc);
	/* NOTLS: a reading transaction may pass from thread to thread. NORDAHEAD: the file is larger than memory. */
	rc = CALL("open",
		  mdb_env_open(l->env, conf->path, MDB_NOTLS | MDB_NORDAHEAD | (l->read_only ? MDB_RDONLY : 0), 0640));
	if (rc == 0)
		rc = fill_up(l, conf->path);
	return err_of(rc);
}

/* What is wrong there is seen before anything is believed. */
static enum err
audit_first(struct lmdb *l, uint64_t most)
{
	struct lmdb_audit *a = NULL;
	enum err e = lmdb_audit_begin(l, most, &a);

	while (e == OK)
		e = lmdb_audit_step(a, 1024);
	lmdb_audit_end(&a);
	return e == ERR_EOF ? OK : e;
}

enum err
lmdb_open(const struct lmdb_conf *conf, struct lmdb **out)
{
	struct lmdb *l;
	struct stat st;
	enum err e;

	require_that(conf->ntables <= LMDB_TABLES_MAX, "lmdb");
	if (!conf->read_only && mkdir(conf->path, 0750) < 0 && errno != EEXIST)
		return err_of(errno);
	/* Looked at once: a moment later whoever writes may have put another in its place, or none. */
	if (stat(conf->path, &st) < 0)
		return err_of(errno);
	l = mem_zalloc(sizeof(*l));
	l->pid = getpid();
	l->read_only = conf->read_only;
	l->sums = conf->sums;
	lmdb_guard_install();
	note_open(l, &st);
	e = open_env(l, conf);
	if (e == OK && conf->audit > 0)
		e = audit_first(l, conf->audit);
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
	if (l->torn) {
		give_up(l);
		return;
	}
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
struct free_call {
	MDB_txn *txn;
	uint64_t pages;
	int rc;
};

static void
call_free(void *arg)
{
	struct free_call *call = arg;
	MDB_cursor *c;
	MDB_val k, v;
	size_t n;

	if ((call->rc = mdb_cursor_open(call->txn, 0, &c)) != 0)
		return;
	while ((call->rc = mdb_cursor_get(c, &k, &v, MDB_NEXT)) == 0)
		if (v.mv_size >= sizeof(n)) {
			memcpy(&n, v.mv_data, sizeof(n));
			call->pages += n;
		}
	mdb_cursor_close(c);
}

static enum err
count_free(struct lmdb_txn *t, uint64_t *pages)
{
	struct free_call c = { .txn = t->txn };

	if (!guarded(t->l, call_free, &c))
		return ERR_DAMAGED;
	*pages = c.pages;
	return c.rc == MDB_NOTFOUND ? OK : err_of(c.rc);
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
		e = count_free(t, &pages);
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

/* Gives the error that was carried, and its errno. */
static enum err
end_txn(struct lmdb_txn **tp)
{
	struct lmdb_txn *t = *tp;
	enum err e = t->err;
	int saved = t->saved_errno;

	*tp = NULL;
	if (t->txn != NULL && !t->torn)
		mdb_txn_abort(t->txn);
	free(t);
	if (e != OK)
		errno = saved;
	return e;
}

/* Full of readers: those of the dead are cleared, once. Resized by another process: its size is taken over, once. */
static struct lmdb_txn *
txn_begin(struct lmdb *l, unsigned flags)
{
	struct lmdb_txn *t = mem_zalloc(sizeof(*t));
	int rc;

	check_process(l);
	t->l = l;
	t->reading = (flags & MDB_RDONLY) != 0;
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

/* One call of the library about a table, and what it said. */
struct table_call {
	MDB_txn *txn;
	MDB_dbi dbi;
	bool sums;
	uint32_t seed;
	MDB_val k, v;
	struct slice val; /* to put */
	unsigned flags;
	int rc;
};

static struct table_call
call_of(const struct lmdb_txn *t, unsigned table, struct slice key)
{
	return (struct table_call){
		.txn = t->txn, .dbi = dbi_of(t, table), .sums = t->l->sums, .seed = t->l->seeds[table], .k = val_of(key)
	};
}

static void
txn_fell(struct lmdb_txn *t)
{
	if (!t->reading)
		t->l->torn = t->torn = true;
	txn_fail_rc(t, MDB_CORRUPTED);
}

/* False: it fell, and the transaction has failed. */
static bool
txn_guarded(struct lmdb_txn *t, void (*fn)(void *arg), void *arg)
{
	if (guarded(t->l, fn, arg))
		return true;
	txn_fell(t);
	return false;
}

static void
call_commit(void *arg)
{
	struct table_call *c = arg;

	c->rc = mdb_txn_commit(c->txn);
}

enum err
lmdb_commit(struct lmdb_txn **tp)
{
	struct lmdb_txn *t = *tp;
	struct table_call c = { .txn = t->txn };

	if (t->err == OK && fault_fails("lmdb.commit"))
		txn_fail_rc(t, errno);
	if (t->err == OK && txn_guarded(t, call_commit, &c)) {
		t->txn = NULL;
		txn_fail_rc(t, c.rc);
	}
	return end_txn(tp);
}

void
lmdb_abort(struct lmdb_txn **tp)
{
	if (*tp != NULL)
		(void)end_txn(tp);
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

static void
call_get(void *arg)
{
	struct table_call *c = arg;

	c->rc = mdb_get(c->txn, c->dbi, &c->k, &c->v);
	if (c->rc == 0 && c->sums)
		c->rc = take_sum(c->seed, &c->k, &c->v);
}

bool
lmdb_get(struct lmdb_txn *t, unsigned table, struct slice key, struct slice *val)
{
	struct table_call c = call_of(t, table, key);

	if (!txn_good(t))
		return false;
	if (fault_fails("lmdb.get"))
		c.rc = errno;
	else if (!txn_guarded(t, call_get, &c))
		return false;
	if (c.rc == 0)
		*val = slice_val(c.v);
	else if (c.rc != MDB_NOTFOUND)
		txn_fail_rc(t, c.rc);
	return c.rc == 0;
}

static void
call_put(void *arg)
{
	struct table_call *c = arg;

	c->v = val_of(c->val);
	if (!c->sums) {
		c->rc = mdb_put(c->txn, c->dbi, &c->k, &c->v, c->flags);
		return;
	}
	c->v.mv_size += LMDB_SUM;
	c->rc = mdb_put(c->txn, c->dbi, &c->k, &c->v, c->flags | MDB_RESERVE);
	if (c->rc == 0)
		give_sum(c->seed, &c->k, c->val, c->v.mv_data);
}

static void
put(struct lmdb_txn *t, unsigned table, struct slice key, struct slice val, unsigned flags)
{
	struct table_call c = call_of(t, table, key);

	c.val = val;
	c.flags = flags;
	if (!txn_good(t))
		return;
	if (fault_fails("lmdb.put"))
		c.rc = errno;
	else if (!txn_guarded(t, call_put, &c))
		return;
	txn_fail_rc(t, c.rc);
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

static void
call_del(void *arg)
{
	struct table_call *c = arg;

	c->rc = mdb_del(c->txn, c->dbi, &c->k, NULL);
}

bool
lmdb_del(struct lmdb_txn *t, unsigned table, struct slice key)
{
	struct table_call c = call_of(t, table, key);

	if (!txn_good(t))
		return false;
	if (fault_fails("lmdb.del"))
		c.rc = errno;
	else if (!txn_guarded(t, call_del, &c))
		return false;
	if (c.rc != 0 && c.rc != MDB_NOTFOUND)
		txn_fail_rc(t, c.rc);
	return c.rc == 0;
}

static void
call_empty(void *arg)
{
	struct table_call *c = arg;

	c->rc = mdb_drop(c->txn, c->dbi, 0);
}

void
lmdb_empty(struct lmdb_txn *t, unsigned table)
{
	struct table_call c = call_of(t, table, slice_of(NULL, 0));

	if (!txn_good(t))
		return;
	if (fault_fails("lmdb.drop"))
		c.rc = errno;
	else if (!txn_guarded(t, call_empty, &c))
		return;
	txn_fail_rc(t, c.rc);
}

struct stat_call {
	MDB_txn *txn;
	MDB_dbi dbi;
	MDB_stat st;
	int rc;
};

static void
call_stat(void *arg)
{
	struct stat_call *c = arg;

	c->rc = mdb_stat(c->txn, c->dbi, &c->st);
}

uint64_t
lmdb_count(struct lmdb_txn *t, unsigned table)
{
	struct stat_call c = { .txn = t->txn, .dbi = dbi_of(t, table) };

	if (!txn_good(t))
		return 0;
	if (fault_fails("lmdb.stat"))
		c.rc = errno;
	else if (!txn_guarded(t, call_stat, &c))
		return 0;
	txn_fail_rc(t, c.rc);
	return c.st.ms_entries;
}

/* ---- ranges ---- */

struct walk_call {
	struct lmdb_cursor *c;
	MDB_dbi dbi;
	MDB_val k, v;
	MDB_cursor_op op;
	int rc;
};

static void
call_cursor_open(void *arg)
{
	struct walk_call *w = arg;

	w->rc = mdb_cursor_open(w->c->t->txn, w->dbi, &w->c->c);
}

struct lmdb_cursor *
lmdb_cursor_open(struct lmdb_txn *t, unsigned table)
{
	struct lmdb_cursor *c = mem_zalloc(sizeof(*c));
	struct walk_call w = { .c = c, .dbi = dbi_of(t, table) };

	c->t = t;
	c->seed = t->l->seeds[table];
	if (!txn_good(t))
		return c;
	if (fault_fails("lmdb.cursor"))
		w.rc = errno;
	else if (!txn_guarded(t, call_cursor_open, &w))
		return c;
	if (w.rc != 0)
		c->c = NULL;
	txn_fail_rc(t, w.rc);
	return c;
}

void
lmdb_cursor_close(struct lmdb_cursor **cp)
{
	struct lmdb_cursor *c = *cp;

	if (c == NULL)
		return;
	*cp = NULL;
	if (c->c != NULL && !c->t->torn)
		mdb_cursor_close(c->c);
	free(c);
}

/* Keys that do not follow each other are damage: who resumes a range by key would turn in a circle. */
static bool
in_order(const struct walk_call *w, struct slice asked)
{
	struct slice k = slice_val(w->k), last = slice_of(w->c->key, w->c->n);

	if (k.n == 0 || k.n > LMDB_KEY_MAX)
		return false;
	switch (w->op) {
	case MDB_SET_RANGE:
		return lmdb_key_cmp(k, asked) >= 0;
	case MDB_NEXT:
		return last.n == 0 || lmdb_key_cmp(k, last) > 0;
	case MDB_PREV:
		return last.n == 0 || lmdb_key_cmp(k, last) < 0;
	default:
		return true;
	}
}

static void
call_walk(void *arg)
{
	struct walk_call *w = arg;
	struct slice asked = slice_val(w->k);

	w->rc = mdb_cursor_get(w->c->c, &w->k, &w->v, w->op);
	if (w->rc != 0)
		return;
	if (w->c->t->l->sums)
		w->rc = take_sum(w->c->seed, &w->k, &w->v);
	if (w->rc == 0 && !in_order(w, asked))
		w->rc = MDB_CORRUPTED;
	if (w->rc != 0)
		return;
	w->c->n = w->k.mv_size;
	memcpy(w->c->key, w->k.mv_data, w->c->n);
}

static bool
cursor_get(struct lmdb_cursor *c, struct slice key, MDB_cursor_op op, struct slice *k, struct slice *v)
{
	struct walk_call w = { .c = c, .k = val_of(key), .op = op };

	if (!txn_good(c->t) || c->c == NULL)
		return false;
	if (fault_fails("lmdb.walk"))
		w.rc = errno;
	else if (!txn_guarded(c->t, call_walk, &w))
		return false;
	if (w.rc != 0) {
		if (w.rc != MDB_NOTFOUND)
			txn_fail_rc(c->t, w.rc);
		return false;
	}
	*k = slice_val(w.k);
	*v = slice_val(w.v);
	return true;
}

bool
lmdb_seek(struct lmdb_cursor *c, struct slice key, struct slice *k, struct slice *v)
{
	return cursor_get(c, key, key.n == 0 ? MDB_FIRST : MDB_SET_RANGE, k, v);
}

/* After a delete LMDB's cursor already stands on the one behind, or past the last one of the page: MDB_NEXT after
 * a delete knows that and gives the right one. */
bool
lmdb_next(struct lmdb_cursor *c, struct slice *k, struct slice *v)
{
	return cursor_get(c, slice_of(NULL, 0), MDB_NEXT, k, v);
}

bool
lmdb_prev(struct lmdb_cursor *c, struct slice *k, struct slice *v)
{
	return cursor_get(c, slice_of(NULL, 0), MDB_PREV, k, v);
}

bool
lmdb_last(struct lmdb_cursor *c, struct slice *k, struct slice *v)
{
	return cursor_get(c, slice_of(NULL, 0), MDB_LAST, k, v);
}

static void
call_cursor_del(void *arg)
{
	struct walk_call *w = arg;

	w->rc = mdb_cursor_del(w->c->c, 0);
}

void
lmdb_cursor_del(struct lmdb_cursor *c)
{
	struct walk_call w = { .c = c };

	if (!txn_good(c->t) || c->c == NULL)
		return;
	if (fault_fails("lmdb.cursor_del"))
		w.rc = errno;
	else if (!txn_guarded(c->t, call_cursor_del, &w))
		return;
	txn_fail_rc(c->t, w.rc);
}
