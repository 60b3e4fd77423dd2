#include "spool/spool_body.h"

#include <errno.h>
#include <stdlib.h>
#include <unistd.h>

#include "shm/base/crc32c.h"
#include "shm/base/fault.h"
#include "shm/base/log.h"
#include "shm/base/mem.h"
#include "spool/spool_int.h"

struct spool_body {
	/* The loop's. */
	struct spool *sp;
	void (*room)(void *arg);
	void *room_arg;
	struct bytes chunk; /* gathers */
	uint64_t size;      /* appended */
	size_t pending;     /* handed over and not yet written */
	unsigned jobs;      /* under way */
	enum err why;       /* as the loop knows it */
	bool told_again;    /* room is owed */
	bool freed, kept;

	/* The reading thread's, the loop's when no job is under way. */
	struct segment seg;
	uint64_t written;
	uint32_t crc;
	enum err file_why;
};

enum body_action { BODY_WRITE, BODY_FLUSH, BODY_SYNC };

struct body_job {
	struct cold_job job;
	struct spool_body *b;
	enum body_action action;
	struct bytes bytes;
	msgid_t id_high;
	void (*ready)(void *arg, enum err why, int fd);
	void (*synced)(void *arg, enum err why, const struct body_place *place);
	void *arg;

	/* What came of it: a copy, for the thread may be at the next one already. */
	enum err why;
	int error;
	int fd;
	struct body_place place;
};

struct spool_body *
spool_body_new(struct spool *sp, void (*room)(void *arg), void *arg)
{
	struct spool_body *b = mem_zalloc(sizeof *b);

	b->sp = sp;
	b->room = room;
	b->room_arg = arg;
	b->seg.fd = -1;
	return b;
}

/* ---------------------------------------------------------------- on the reading thread */

static enum err
fault_or(const char *point, enum err e)
{
	int error = e == OK ? fault_error(point) : 0;

	(void)point;
	if (error == 0)
		return e;
	errno = error;
	return error == ENOSPC || error == EDQUOT ? ERR_FULL : ERR_IO;
}

static enum err
file_write(struct spool_body *b, struct slice bytes, msgid_t id_high)
{
	enum err e = OK;

	if (b->seg.fd < 0) {
		e = fault_or("body.create", OK);
		if (e == OK)
			e = segment_make(&b->sp->maker, SEGMENT_BODY, 0, id_high, &b->seg);
	}
	fault_point("body.before_write");
	e = fault_or("body.write", e);
	if (e == OK && bytes.n > 0)
		e = segment_write(b->seg.fd, SEGMENT_HEAD + b->written, bytes.p, bytes.n);
	if (e == OK) {
		b->crc = crc32c(b->crc, bytes.p, bytes.n);
		b->written += bytes.n;
	}
	return e;
}

static enum err
file_sync(struct spool_body *b)
{
	enum err e;

	fault_point("body.before_sync");
	e = fault_or("body.sync", OK);
	if (e == OK && fdatasync(b->seg.fd) != 0)
		e = errno == ENOSPC || errno == EDQUOT ? ERR_FULL : ERR_IO;
	if (e == OK)
		e = segment_dir_sync(b->sp->dirfd);
	fault_point("body.after_sync");
	return e;
}

static void
body_run(struct cold_job *job)
{
	struct body_job *bj = (struct body_job *)(void *)job;
	struct spool_body *b = bj->b;

	if (b->file_why == OK)
		b->file_why = file_write(b, slice_bytes(&bj->bytes), bj->id_high);
	if (b->file_why == OK && bj->action == BODY_SYNC)
		b->file_why = file_sync(b);
	bj->error = errno;
	if (bj->action == BODY_SYNC || b->file_why == ERR_FULL)
		disk_tick(&b->sp->disk);
	bj->why = b->file_why;
	bj->fd = b->seg.fd;
	bj->place = (struct body_place){ b->seg.number, SEGMENT_HEAD, b->written, b->crc };
}

/* ---------------------------------------------------------------- on the loop */

/* On the reading thread: removing a large file may take a while. */
static void
body_drop(void *arg)
{
	struct spool_body *b = arg;

	segment_drop(&b->sp->maker, &b->seg);
	free(b);
}

/* No job is under way and nobody has it any more. */
static void
body_end(struct spool_body *b)
{
	bytes_fini(&b->chunk);
	if (b->seg.fd >= 0 && !b->kept) {
		spool_run_cold(b->sp, body_drop, NULL, b);
		return;
	}
	segment_close(&b->seg);
	free(b);
}

static void
job_answer(struct spool_body *b, const struct body_job *bj)
{
	if (bj->action == BODY_FLUSH)
		bj->ready(bj->arg, b->why, b->why == OK ? bj->fd : -1);
	if (bj->action == BODY_SYNC)
		bj->synced(bj->arg, b->why, b->why == OK ? &bj->place : NULL);
}

static void
body_done(struct cold_job *job)
{
	struct body_job *bj = (struct body_job *)(void *)job;
	struct spool_body *b = bj->b;

	spool_cold_over(b->sp);
	b->pending -= bj->bytes.n;
	bytes_fini(&bj->bytes);
	if (b->why == OK && bj->why != OK) {
		b->why = bj->why;
		errno = bj->error;
		log_errno(LOG_LVL_ERROR, "spool", "a body cannot be written");
	}
	if (!b->freed)
		job_answer(b, bj);
	if (!b->freed && b->told_again && (b->pending <= BODY_RESUME || b->why != OK)) {
		b->told_again = false;
		b->room(b->room_arg);
	}
	free(bj);
	b->jobs--; /* only now: the callbacks may free the body */
	if (b->freed && b->jobs == 0)
		body_end(b);
}

/* Hands the gathered chunk over. */
static struct body_job *
job_new(struct spool_body *b, enum body_action action)
{
	struct body_job *bj = mem_zalloc(sizeof *bj);

	bj->job.fn = body_run;
	bj->job.done = body_done;
	bj->b = b;
	bj->action = action;
	bj->bytes = b->chunk;
	bj->id_high = id_last(&b->sp->ids);
	b->pending += b->chunk.n;
	b->chunk = (struct bytes){ 0 };
	return bj;
}

static void
job_start(struct body_job *bj)
{
	bj->b->jobs++;
	spool_cold_add(bj->b->sp, &bj->job);
}

enum err
spool_body_append(struct spool_body *b, struct slice bytes)
{
	if (b->why != OK)
		return b->why;
	b->size += bytes.n;
	while (bytes.n > 0) {
		size_t n = BODY_CHUNK - b->chunk.n < bytes.n ? BODY_CHUNK - b->chunk.n : bytes.n;
		if (b->chunk.cap == 0)
			(void)bytes_room(&b->chunk, BODY_CHUNK);
		bytes_add(&b->chunk, bytes.p, n);
		bytes = slice_of(bytes.p + n, bytes.n - n);
		if (b->chunk.n == BODY_CHUNK)
			job_start(job_new(b, BODY_WRITE));
	}
	if (b->pending < BODY_PENDING_MAX)
		return OK;
	b->told_again = true;
	return ERR_AGAIN;
}

uint64_t
spool_body_size(const struct spool_body *b)
{
	return b->size;
}

void
spool_body_written(struct spool_body *b, void (*ready)(void *arg, enum err why, int fd), void *arg)
{
	struct body_job *bj = job_new(b, BODY_FLUSH);

	bj->ready = ready;
	bj->arg = arg;
	job_start(bj);
}

void
body_sync(struct spool_body *b, void (*done)(void *arg, enum err why, const struct body_place *place), void *arg)
{
	struct body_job *bj = job_new(b, BODY_SYNC);

	bj->synced = done;
	bj->arg = arg;
	job_start(bj);
}

void
spool_body_free(struct spool_body **bp)
{
	struct spool_body *b = *bp;

	*bp = NULL;
	if (b == NULL)
		return;
	b->freed = true;
	if (b->jobs == 0)
		body_end(b);
}

void
body_keep(struct spool_body **bp)
{
	(*bp)->kept = true;
	spool_body_free(bp);
}
