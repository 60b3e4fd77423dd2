#include "spool/spool_index.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "shm/base/fault.h"
#include "shm/base/log.h"
#include "shm/base/mem.h"
#include "spool/spool_index_int.h"
#include "spool/spool_index_write.h"

static const char *const table_names[T_COUNT] = { "meta",     "message",  "queue",   "wake",    "queues",
						  "bindings", "expiry",   "segment", "attempt", "edit",
						  "writer",   "handover", "damage",  "aside" };

/* A tenth of a second of the keeper's start. All of a small map; of a large one what the fold loads, for which nothing else would be
 * evidence, the rest by its turns. */
#define AUDIT_AT_OPEN (UINT64_C(64) << 20)

/* ---- the environment ---- */

/* Which data file stands there now: a rebuilt map is another one. */
static bool
data_file(const struct index *ix, uint64_t *dev, uint64_t *ino)
{
	struct bytes path = { 0 };
	struct stat st;
	bool there;

	bytes_addf(&path, "%s/data.mdb", ix->path);
	there = stat(bytes_cstr(&path), &st) == 0;
	bytes_fini(&path);
	if (there) {
		*dev = st.st_dev;
		*ino = st.st_ino;
	}
	return there;
}

static enum err
open_env(struct index *ix)
{
	struct lmdb_conf conf = { .path = ix->path,
				  .tables = table_names,
				  .ntables = T_COUNT,
				  .map_size = ix->map_size,
				  .read_only = !ix->keeper,
				  .sums = true,
				  .audit = ix->keeper ? AUDIT_AT_OPEN : 0 };
	enum err e = lmdb_open(&conf, &ix->env);

	if (e == OK && !data_file(ix, &ix->dev, &ix->ino)) {
		lmdb_close(&ix->env);
		e = ERR_NOTFOUND;
	}
	return e;
}

enum err
index_open(const struct index_conf *conf, struct index **out)
{
	struct index *ix = mem_zalloc(sizeof(*ix));
	enum err e;

	ix->path = mem_strdup(conf->path);
	ix->map_size = conf->map_size;
	ix->keeper = conf->keeper;
	ix->suspect = conf->suspect;
	pthread_mutex_init(&ix->lock, NULL);
	e = open_env(ix);
	if (e != OK && conf->keeper) {
		index_close(&ix);
		return e;
	}
	*out = ix;
	return OK;
}

void
index_close(struct index **ix)
{
	if (*ix == NULL)
		return;
	require_that((*ix)->snapshots == 0, "index");
	index_audit_stop(*ix);
	lmdb_close(&(*ix)->env);
	pthread_mutex_destroy(&(*ix)->lock);
	free((*ix)->path);
	free(*ix);
	*ix = NULL;
}

/* ---- damage ---- */

enum { AUDIT_PAGE = 4096, AUDIT_CALLS = 200, AUDIT_LEAST = 1024, AUDIT_MOST = 4096 };

/* What a call looks through: a snapshot must not last long, nor a turn of the keeper's. */
static size_t
audit_pages(const struct index *ix)
{
	uint64_t n = lmdb_audit_bytes(ix->audit) / AUDIT_PAGE / AUDIT_CALLS;

	return n < AUDIT_LEAST ? AUDIT_LEAST : n > AUDIT_MOST ? AUDIT_MOST : (size_t)n;
}

enum err
index_audit(struct index *ix)
{
	enum err e = OK;

	require_that(ix->keeper, "index");
	if (ix->audit == NULL)
		e = lmdb_audit_begin(ix->env, UINT64_MAX, &ix->audit);
	if (e == OK)
		e = lmdb_audit_step(ix->audit, audit_pages(ix));
	if (e != OK)
		index_audit_stop(ix);
	return e;
}

void
index_audit_stop(struct index *ix)
{
	lmdb_audit_end(&ix->audit);
}

/* No rows can be had from it, or false ones. */
static void
suspect(const struct index *ix, uint64_t ino, enum err e)
{
	if ((e == ERR_DAMAGED || e == ERR_VERSION) && ix->suspect != NULL)
		atomic_store(ix->suspect, ino);
}

bool
index_suspected(const struct index *ix)
{
	return ix->suspect != NULL && atomic_load(ix->suspect) == ix->ino;
}

void
index_clear_suspicion(struct index *ix)
{
	if (ix->suspect != NULL)
		atomic_store(ix->suspect, 0);
}

/* ---- a compact copy ---- */

void
index_remove_files(const char *folder)
{
	static const char *const files[] = { "data.mdb", "lock.mdb" };
	struct bytes path = { 0 };

	for (size_t i = 0; i < sizeof(files) / sizeof(files[0]); i++) {
		path.n = 0;
		bytes_addf(&path, "%s/%s", folder, files[i]);
		(void)unlink(bytes_cstr(&path));
	}
	bytes_fini(&path);
	(void)rmdir(folder);
}

static bool
sync_working_folder(void)
{
	int fd = open(".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	bool done = fd >= 0 && !fault_fails("index.dirsync") && fsync(fd) == 0;

	if (fd >= 0)
		close(fd);
	return done;
}

/* Both folders stand until the exchange is on disk, so that at no moment there is no map. */
static enum err
copy_and_exchange(struct index *ix, const char *copy)
{
	enum err e;

	index_remove_files(copy);
	e = mkdir(copy, 0750) == 0 ? lmdb_copy_compact(ix->env, copy) : ERR_IO;
	if (e != OK) {
		log_errno(LOG_LVL_WARN, "index", "no compact copy can be made (%s): it stays as it is", err_text(e));
		return OK;
	}
	lmdb_close(&ix->env);
	if (fault_fails("index.rename") || renameat2(AT_FDCWD, copy, AT_FDCWD, ix->path, RENAME_EXCHANGE) != 0 ||
	    !sync_working_folder())
		log_errno(LOG_LVL_WARN, "index", "the compact copy cannot take its place");
	return open_env(ix);
}

enum err
index_compact(struct index *ix, uint64_t least)
{
	struct lmdb_usage u;
	struct bytes copy = { 0 };
	enum err e = lmdb_usage(ix->env, &u);

	if (e != OK || u.file_bytes < least || u.free_bytes < u.file_bytes / 4 * 3)
		return e;
	log_info("index", "%llu of %llu MiB are free: the index is copied compact",
		 (unsigned long long)(u.free_bytes >> 20), (unsigned long long)(u.file_bytes >> 20));
	bytes_addf(&copy, "%s.copy", ix->path);
	e = copy_and_exchange(ix, bytes_cstr(&copy));
	index_remove_files(bytes_cstr(&copy));
	bytes_fini(&copy);
	return e;
}

/* With the lock held. A map that was put aside is let go once its last snapshot has ended. */
static enum err
current_env(struct index *ix)
{
	uint64_t dev = 0, ino = 0;
	enum err e;

	if (ix->keeper)
		return OK;
	if (!data_file(ix, &dev, &ino))
		return ERR_AGAIN;
	if (ix->env != NULL && ix->dev == dev && ix->ino == ino)
		return OK;
	if (ix->snapshots > 0)
		return ERR_AGAIN;
	lmdb_close(&ix->env);
	e = open_env(ix);
	suspect(ix, ino, e);
	return e == OK ? OK : ERR_AGAIN;
}

enum err
index_begin(struct index *ix, struct index_txn **out)
{
	struct index_txn *t = NULL;
	enum err e;

	pthread_mutex_lock(&ix->lock);
	e = current_env(ix);
	if (e == OK) {
		t = mem_alloc(sizeof(*t));
		*t = (struct index_txn){ .ix = ix, .t = lmdb_read(ix->env) };
		ix->snapshots++;
	}
	pthread_mutex_unlock(&ix->lock);
	if (e != OK)
		return e;
	e = lmdb_txn_error(t->t);
	if (e != OK)
		index_end(&t);
	else
		*out = t;
	return e;
}

void
index_end(struct index_txn **t)
{
	struct index *ix;

	if (*t == NULL)
		return;
	ix = (*t)->ix;
	suspect(ix, ix->ino, lmdb_txn_error((*t)->t));
	lmdb_abort(&(*t)->t);
	pthread_mutex_lock(&ix->lock);
	ix->snapshots--;
	pthread_mutex_unlock(&ix->lock);
	free(*t);
	*t = NULL;
}

enum err
index_usage(struct index *ix, struct index_usage *out)
{
	struct lmdb_usage u = { 0 };
	enum err e;

	pthread_mutex_lock(&ix->lock);
	e = current_env(ix);
	if (e == OK)
		e = lmdb_usage(ix->env, &u);
	pthread_mutex_unlock(&ix->lock);
	if (e == OK)
		*out = (struct index_usage){ u.file_bytes, u.free_bytes, u.readers, u.stale };
	return e;
}

/* ---- the two ways to read a table ---- */

enum err
table_get(struct lmdb_txn *t, enum index_table table, const struct key *k, decode_fn *decode, void *out)
{
	struct slice v;
	enum err e;

	if (!lmdb_get(t, table, key_slice(k), &v)) {
		e = lmdb_txn_error(t);
		return e != OK ? e : ERR_NOTFOUND;
	}
	if (!decode(key_slice(k), v, out))
		lmdb_txn_fail(t, ERR_DAMAGED);
	return lmdb_txn_error(t);
}

static bool
starts_with(struct slice k, struct slice prefix)
{
	return k.n >= prefix.n && (prefix.n == 0 || memcmp(k.p, prefix.p, prefix.n) == 0);
}

/* The smallest key behind another one is the same with a zero added. */
static bool
page_first(struct lmdb_cursor *c, const struct table_page *p, struct slice *k, struct slice *v)
{
	struct key from = p->after;

	if (from.n == 0)
		return lmdb_seek(c, p->prefix, k, v);
	key_u8(&from, 0);
	return lmdb_seek(c, key_slice(&from), k, v);
}

enum err
table_page(struct lmdb_txn *t, const struct table_page *p, size_t *n)
{
	struct lmdb_cursor *c = lmdb_cursor_open(t, p->table);
	struct slice k, v;
	enum err e;
	bool more;

	*n = 0;
	for (more = page_first(c, p, &k, &v); more && *n < p->max && starts_with(k, p->prefix);
	     more = lmdb_next(c, &k, &v)) {
		if (!p->decode(k, v, (char *)p->out + *n * p->size)) {
			lmdb_txn_fail(t, ERR_DAMAGED);
			break;
		}
		(*n)++;
	}
	lmdb_cursor_close(&c);
	e = lmdb_txn_error(t);
	return e != OK ? e : *n == 0 ? ERR_EOF : OK;
}

/* ---- meta and ledger ---- */

enum err
index_meta(struct index_txn *t, struct index_meta *out)
{
	struct key k = { .n = 0 };
	enum err e;

	key_bytes(&k, SLICE("meta"));
	e = table_get(t->t, T_META, &k, decode_meta, out);
	return e == ERR_NOTFOUND ? ERR_AGAIN : e;
}

enum err
index_ledger(struct index_txn *t, struct index_ledger *out)
{
	struct key k = { .n = 0 };
	enum err e;

	key_bytes(&k, SLICE("ledger"));
	e = table_get(t->t, T_META, &k, decode_ledger, out);
	if (e == ERR_NOTFOUND)
		return ERR_AGAIN;
	out->queued = lmdb_count(t->t, T_MESSAGE);
	return e != OK ? e : lmdb_txn_error(t->t);
}

int64_t
index_ledger_difference(const struct index_ledger *l)
{
	uint64_t in = l->carried + l->accepted + l->generated;
	uint64_t out = l->delivered + l->bounced + l->expired + l->discarded + l->damaged;

	return (int64_t)(in - out - l->queued);
}

/* ---- single rows ---- */

enum err
index_message_get(struct index_txn *t, msgid_t id, struct index_row *out)
{
	struct key k = key_id(id);

	return table_get(t->t, T_MESSAGE, &k, decode_row, out);
}

enum err
index_queue_get(struct index_txn *t, uint64_t queue, struct index_queue *out)
{
	struct key k = key_id(queue);

	return table_get(t->t, T_QUEUES, &k, decode_queue, out);
}

enum err
index_binding_get(struct index_txn *t, struct slice name, struct index_binding *out)
{
	struct key k = key_binding(name);
	enum err e = table_get(t->t, T_BINDINGS, &k, decode_binding, out);

	out->name = name;
	return e;
}

enum err
index_segment_get(struct index_txn *t, uint32_t number, struct index_segment *out)
{
	struct key k = key_number(number);

	return table_get(t->t, T_SEGMENT, &k, decode_segment, out);
}

enum err
index_folded(struct index_txn *t, struct place place, bool *yes)
{
	struct index_segment s;
	enum err e = index_segment_get(t, place.seg, &s);

	if (e != OK && e != ERR_NOTFOUND)
		return e;
	*yes = e == OK && (s.state == SEG_OVER || place.off < s.folded);
	return OK;
}

/* ---- writers and handovers ---- */

static enum err
has_segment(struct index_txn *t, uint64_t writer, bool *yes)
{
	struct index_segment page[64];
	uint32_t after = 0;
	size_t n;
	enum err e;

	*yes = false;
	while ((e = index_segment_list(t, after, page, 64, &n)) == OK) {
		for (size_t i = 0; i < n; i++)
			*yes = *yes || page[i].writer == writer;
		after = page[n - 1].number;
	}
	return e == ERR_EOF ? OK : e;
}

enum err
index_writer_gone(struct index_txn *t, uint64_t writer, usec_t since, uint64_t keeper, bool *yes)
{
	struct key k = key_id(writer);
	struct fold_writer w;
	struct index_meta m;
	bool any;
	enum err e = table_get(t->t, T_WRITER, &k, decode_writer, &w);

	if (e == OK) {
		*yes = w.gone;
		return OK;
	}
	if (e == ERR_NOTFOUND)
		e = index_meta(t, &m);
	if (e == OK)
		e = has_segment(t, writer, &any);
	if (e == OK)
		*yes = !any && m.keeper == keeper && m.scanned_at > since;
	return e;
}

enum err
index_handover_get(struct index_txn *t, uint64_t owner, uint64_t writer, struct index_handover *out)
{
	struct key k = key_pair(owner, writer);

	return table_get(t->t, T_HANDOVER, &k, decode_handover, out);
}

size_t
index_handover_count(const struct index_handover *h)
{
	return h->ids.n / sizeof(msgid_t);
}

msgid_t
index_handover_id(const struct index_handover *h, size_t i)
{
	struct slice s = slice_of(h->ids.p + i * sizeof(msgid_t), sizeof(msgid_t));
	uint64_t id = 0;

	(void)take_u64(&s, &id);
	return id;
}

bool
index_handover_has(const struct index_handover *h, msgid_t id)
{
	for (size_t i = 0; i < index_handover_count(h); i++)
		if (index_handover_id(h, i) == id)
			return true;
	return false;
}
