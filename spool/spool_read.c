#include "spool/spool_read.h"

#include <errno.h>
#include <stddef.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

#include "shm/base/fault.h"
#include "shm/base/mem.h"
#include "shm/shm_area.h"
#include "spool/spool_int.h"

enum {
	WINDOW = 16 << 10, /* read at once: head, items, table and small messages */
	SPANS = 4,         /* blobs that lay outside of what was read already: header, body, two contexts */
};

/* What a fetch gives; spool_fetched is its first member, so who has that has all. */
struct fetched {
	struct spool_fetched pub;
	char bytes[]; /* of all its slices */
};

/* A record as far as it is read. It may hold a hundred recipients: what is said of one of them is copied out of it, for
 * thousands of messages may be in work at a time. */
struct reading {
	struct spool_fetched pub;
	char *record; /* its first `have` bytes */
	size_t have;
	char *spans[SPANS];
	unsigned spans_n;
};

struct spool_fetch {
	struct cold_job job;
	struct post post; /* for an answer that was there at once */
	struct spool *sp;
	msgid_t id;
	struct place place;
	uint16_t item;
	spool_fetch_done *done; /* NULL: cancelled */
	void *arg;

	enum err why;
	int error;
	int fd; /* opened by the reading thread, for the cache */
	struct fetched *got;
};

/* How bytes are read. *got is short at the file's end; a warm read also stops before what is not in memory, and gives
 * ERR_AGAIN if that is all. Whatever a warm fetch fails with, the reading thread looks again: only its word counts. */
typedef enum err read_fn(int fd, uint64_t off, void *to, size_t n, size_t *got);

static enum err
read_warm(int fd, uint64_t off, void *to, size_t n, size_t *got)
{
	size_t have = 0;

	while (have < n) {
		struct iovec iov = { (char *)to + have, n - have };
		ssize_t r = preadv2(fd, &iov, 1, (off_t)(off + have), RWF_NOWAIT);
		if (r < 0 && errno == EINTR)
			continue;
		if (r < 0 && errno != EAGAIN && errno != EOPNOTSUPP)
			return ERR_IO;
		if (r < 0 && have == 0)
			return ERR_AGAIN;
		if (r <= 0)
			break;
		have += (size_t)r;
	}
	*got = have;
	return OK;
}

static enum err
read_cold(int fd, uint64_t off, void *to, size_t n, size_t *got)
{
	int error = fault_error("read.cold");

	if (error != 0) {
		errno = error;
		return ERR_IO;
	}
	return segment_read(fd, off, to, n, got);
}

/* ---------------------------------------------------------------- one message out of a record */

void
spool_fetched_free(struct spool_fetched **got)
{
	if (*got == NULL)
		return;
	if ((*got)->body_fd >= 0)
		close((*got)->body_fd);
	free(*got);
	*got = NULL;
}

/* Its body's file stays open. */
static void
reading_fini(struct reading *f)
{
	for (unsigned i = 0; i < f->spans_n; i++)
		free(f->spans[i]);
	free(f->record);
}

enum { SLICES = 12 };

static void
slices_of(struct spool_fetched *p, struct slice *of[SLICES])
{
	struct spool_message *m = &p->message;
	struct slice *all[SLICES] = { &m->sender, &m->rcpt, &m->orcpt,  &m->envid,    &m->ret, &m->binding,
				      &m->domain, &m->peer, &p->header, &p->conn_ctx, &p->ctx, &p->body };

	memcpy(of, all, sizeof all);
}

/* What was read, in a block of its own. */
static struct fetched *
reading_pack(struct reading *from)
{
	struct slice *of[SLICES];
	struct fetched *f;
	size_t n = 0;
	char *p;

	slices_of(&from->pub, of);
	for (int i = 0; i < SLICES; i++)
		n += of[i]->n;
	f = mem_alloc(sizeof *f + n);
	f->pub = from->pub;
	slices_of(&f->pub, of);
	p = f->bytes;
	for (int i = 0; i < SLICES; i++) {
		if (of[i]->n > 0)
			memcpy(p, of[i]->p, of[i]->n);
		of[i]->p = p;
		p += of[i]->n;
	}
	return f;
}

/* Makes the first n bytes of the record be there; a short file is damage. Moves f->record. */
static enum err
record_have(struct reading *f, int fd, uint32_t off, size_t n, read_fn *read)
{
	size_t got;
	enum err e;

	if (n <= f->have)
		return OK;
	f->record = mem_array(f->record, n, 1);
	e = read(fd, (uint64_t)off + f->have, f->record + f->have, n - f->have, &got);
	if (e != OK)
		return e;
	f->have += got;
	return f->have == n ? OK : ERR_DAMAGED;
}

/* Head, items and blob table. */
static enum err
front_read(struct reading *f, int fd, struct place at, read_fn *read, struct record_head *h, uint32_t *blobs)
{
	size_t table = 0;
	enum err e = record_have(f, fd, at.off, WINDOW, read);

	if (e != OK && e != ERR_DAMAGED) /* a short one: the file may end within the window */
		return e;
	if ((e = record_head_read(slice_of(f->record, f->have), at, h)) != OK)
		return e;
	table = RECORD_HEAD + h->meta_len;
	if ((e = record_have(f, fd, at.off, table + (h->blob_len > 0 ? sizeof(uint32_t) : 0), read)) != OK)
		return e;
	if ((e = blob_table_count(h, slice_of(f->record + table, f->have - table), blobs)) != OK)
		return e;
	if ((e = record_have(f, fd, at.off, table + blob_table_size(*blobs), read)) != OK)
		return e;
	return record_meta_check(h, slice_of(f->record + RECORD_HEAD, h->meta_len));
}

/* An inline blob: from what was read already, or read apart. */
static enum err
inline_read(struct reading *f, int fd, uint32_t off, const struct blob_ref *ref, read_fn *read, struct slice *out)
{
	struct slice s;

	if (ref->off + ref->len <= f->have) {
		s = slice_of(f->record + ref->off, ref->len);
	} else {
		size_t got;
		char *p = f->spans[f->spans_n++] = mem_alloc(ref->len);
		enum err e = read(fd, off + ref->off, p, ref->len, &got);
		if (e != OK)
			return e;
		s = slice_of(p, got);
	}
	if (blob_check(ref, s) != OK)
		return ERR_DAMAGED;
	*out = s;
	return OK;
}

struct blob_want {
	uint16_t n;
	struct slice *to;
	bool may_be_file;
};

/* Opens the file of a streamed body. */
static enum err
body_open(struct reading *f, int dirfd, const struct blob_ref *ref)
{
	struct segment_head h;
	struct stat st;
	int fd = segment_open(dirfd, ref->seg);
	enum err e;

	if (fd < 0)
		return errno == ENOENT ? ERR_DAMAGED : ERR_IO;
	f->pub.body_fd = fd;
	e = segment_head_load(fd, ref->seg, &h);
	if (e == OK && (fstat(fd, &st) != 0 || h.kind != SEGMENT_BODY || ref->len > (uint64_t)st.st_size ||
			ref->off > (uint64_t)st.st_size - ref->len))
		e = ERR_DAMAGED;
	f->pub.body_off = ref->off;
	f->pub.body_len = ref->len;
	f->pub.body_crc = ref->crc;
	return e;
}

/* warm: a body in its own file is the reading thread's business. */
static enum err
blobs_read(struct reading *f, int dirfd, int fd, const struct record_head *h, uint32_t blobs, bool warm, read_fn *read)
{
	const struct spool_message *m = &f->pub.message;
	struct blob_want want[SPANS] = { { m->header_blob, &f->pub.header, false },
					 { m->body_blob, &f->pub.body, true },
					 { m->conn_ctx_blob, &f->pub.conn_ctx, false },
					 { m->ctx_blob, &f->pub.ctx, false } };
	struct slice table = slice_of(f->record + RECORD_HEAD + h->meta_len, blob_table_size(blobs));
	enum err e = OK;

	for (int i = 0; e == OK && i < SPANS; i++) {
		struct blob_ref ref;
		if (want[i].n == BLOB_NONE)
			continue;
		e = blob_table_get(h, table, want[i].n, &ref);
		if (e == ERR_NOTFOUND || (e == OK && ref.where == BLOB_BODY && !want[i].may_be_file))
			e = ERR_DAMAGED;
		if (e != OK)
			break;
		if (ref.where == BLOB_BODY)
			e = warm ? ERR_AGAIN : body_open(f, dirfd, &ref);
		else
			e = inline_read(f, fd, h->at.off, &ref, read, want[i].to);
	}
	return e;
}

/* The whole of a fetch, from an open segment. */
static enum err
fetch_from(const struct spool_fetch *q, int fd, bool warm, struct fetched **out)
{
	read_fn *read = warm ? read_warm : read_cold;
	struct reading f = { .pub.body_fd = -1 };
	struct record_head h;
	struct spool_item item;
	uint32_t blobs = 0;
	enum err e;
	int error;

	e = front_read(&f, fd, q->place, read, &h, &blobs);
	if (e == OK)
		e = item_get(&h, slice_of(f.record + RECORD_HEAD, h.meta_len), q->item, &item);
	if (e == OK && (item.kind != ITEM_MESSAGE || item.message.id != q->id))
		e = ERR_NOTFOUND;
	if (e == OK) {
		f.pub.message = item.message;
		e = blobs_read(&f, q->sp->dirfd, fd, &h, blobs, warm, read);
	}
	error = errno;
	if (e == OK)
		*out = reading_pack(&f);
	else if (f.pub.body_fd >= 0)
		close(f.pub.body_fd);
	reading_fini(&f);
	errno = error;
	return e;
}

/* ---------------------------------------------------------------- open segments */

static int
fd_cache_get(struct fd_cache *c, uint32_t number)
{
	for (int i = 0; i < FD_CACHE; i++)
		if (c->at[i].number == number) {
			c->at[i].used = ++c->clock;
			return c->at[i].fd;
		}
	return -1;
}

static void
fd_cache_drop(struct fd_cache *c, uint32_t number)
{
	for (int i = 0; i < FD_CACHE; i++)
		if (c->at[i].number == number) {
			close(c->at[i].fd);
			c->at[i].number = 0;
		}
}

/* Takes fd. */
static void
fd_cache_put(struct fd_cache *c, uint32_t number, int fd)
{
	int oldest = 0;

	fd_cache_drop(c, number);
	for (int i = 1; i < FD_CACHE && c->at[oldest].number != 0; i++)
		if (c->at[i].number == 0 || c->at[i].used < c->at[oldest].used)
			oldest = i;
	if (c->at[oldest].number != 0)
		close(c->at[oldest].fd);
	c->at[oldest].number = number;
	c->at[oldest].fd = fd;
	c->at[oldest].used = ++c->clock;
}

void
fd_cache_fini(struct fd_cache *c)
{
	for (int i = 0; i < FD_CACHE; i++)
		if (c->at[i].number != 0)
			close(c->at[i].fd);
	*c = (struct fd_cache){ 0 };
}

/* ---------------------------------------------------------------- a fetch */

static void
fetch_end(struct spool_fetch *q)
{
	struct spool_fetched *got = q->got != NULL ? &q->got->pub : NULL;

	if (q->done == NULL) {
		spool_fetched_free(&got);
	} else {
		errno = q->error;
		q->done(q->arg, q->why, got);
	}
	free(q);
}

static void
fetch_run(struct cold_job *job)
{
	struct spool_fetch *q = (struct spool_fetch *)(void *)job;

	q->fd = segment_open(q->sp->dirfd, q->place.seg);
	if (q->fd < 0)
		q->why = errno == ENOENT ? ERR_NOTFOUND : ERR_IO;
	else
		q->why = fetch_from(q, q->fd, false, &q->got);
	q->error = errno;
}

static void
fetch_cold_done(struct cold_job *job)
{
	struct spool_fetch *q = (struct spool_fetch *)(void *)job;

	spool_cold_over(q->sp);
	if (q->fd >= 0)
		fd_cache_put(&q->sp->fds, q->place.seg, q->fd);
	fetch_end(q);
}

static void
fetch_warm_done(struct post *p)
{
	struct spool_fetch *q = (struct spool_fetch *)(void *)((char *)p - offsetof(struct spool_fetch, post));

	spool_cold_over(q->sp);
	fetch_end(q);
}

struct spool_fetch *
spool_fetch(struct spool *sp, msgid_t id, struct place place, uint16_t item, spool_fetch_done *done, void *arg)
{
	struct spool_fetch *q = mem_zalloc(sizeof *q);
	int fd = fd_cache_get(&sp->fds, place.seg);

	q->sp = sp;
	q->id = id;
	q->place = place;
	q->item = item;
	q->done = done;
	q->arg = arg;
	q->fd = -1;
	q->why = place.seg == 0 ? ERR_NOTFOUND : fd < 0 ? ERR_AGAIN : fetch_from(q, fd, true, &q->got);
	q->error = errno;
	/* The open file may have been recycled since: only a fresh look at the name is proof. */
	if (fd >= 0 && q->why == ERR_NOTFOUND)
		fd_cache_drop(&sp->fds, place.seg);
	if (q->why == OK || place.seg == 0) {
		sp->cold_owed++;
		spool_soon(sp, &q->post, fetch_warm_done);
		return q;
	}
	slot_add(sp->slot, CELL_COLD_READS, 1);
	q->job.fn = fetch_run;
	q->job.done = fetch_cold_done;
	spool_cold_add(sp, &q->job);
	return q;
}

void
spool_fetch_cancel(struct spool_fetch **f)
{
	if (*f != NULL)
		(*f)->done = NULL;
	*f = NULL;
}

enum err
spool_body_read(const struct spool_fetched *f, uint64_t at, void *to, size_t n, size_t *got)
{
	uint64_t left = at < f->body_len ? f->body_len - at : 0;

	*got = 0;
	if (f->body_fd < 0 || left == 0)
		return OK;
	return read_warm(f->body_fd, f->body_off + at, to, n < left ? n : (size_t)left, got);
}
