#include "spool/spool.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "shm/base/log.h"
#include "shm/base/mem.h"
#include "shm/shm_area.h"
#include "spool/spool_int.h"

#define SEGMENT_SIZE_DEFAULT (UINT64_C(64) << 20)

/* ---------------------------------------------------------------- the watch, on the reading thread */

/* How much of the journals the index does not know: what the keeper said last, and all that was written since then, for
 * a keeper that is stopped, stuck or gone says nothing new. */
static int64_t
tail_bytes(struct spool *sp)
{
	int64_t seen = shm_total(sp->conf.area, CELL_TAIL_SEEN);
	int64_t written = shm_total(sp->conf.area, CELL_JOURNAL_BYTES);

	if (seen != 0) {
		sp->tail_seen = seen;
		sp->tail_known = shm_total(sp->conf.area, CELL_TAIL_BYTES);
	}
	return sp->tail_known + written - sp->tail_seen;
}

static void
tail_tick(struct spool *sp)
{
	bool was = atomic_load(&sp->tail_long);
	bool now = sp->conf.tail_max != 0 && tail_bytes(sp) > (int64_t)sp->conf.tail_max;

	if (was == now)
		return;
	atomic_store(&sp->tail_long, now);
	if (now)
		log_warn("spool", "the keeper is too far behind: new mail is refused");
	else
		log_info("spool", "the keeper has caught up");
}

static void
spool_tick(void *arg)
{
	struct spool *sp = arg;

	disk_tick(&sp->disk);
	tail_tick(sp);
	slot_set(sp->slot, CELL_SPOOL_REFUSING, !spool_accepting(sp));
	if (!journal_healthy(sp->journal))
		journal_probe(sp->journal);
}

/* ---------------------------------------------------------------- open and close */

static enum err
dir_open(struct spool *sp)
{
	if (mkdirat(sp->conf.dirfd, "journal", 0750) != 0 && errno != EEXIST)
		return errno == ENOSPC ? ERR_FULL : ERR_IO;
	sp->dirfd = openat(sp->conf.dirfd, "journal", O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
	return sp->dirfd >= 0 ? OK : ERR_IO;
}

static void
conf_take(struct spool *sp, const struct spool_conf *conf)
{
	uint64_t size = conf->segment_size != 0 ? conf->segment_size : SEGMENT_SIZE_DEFAULT;

	if (size < SEGMENT_SIZE_MIN)
		size = SEGMENT_SIZE_MIN;
	if (size > SEGMENT_SIZE_MAX)
		size = SEGMENT_SIZE_MAX;
	sp->conf = *conf;
	sp->conf.segment_size = (size + SEGMENT_HEAD - 1) & ~(uint64_t)(SEGMENT_HEAD - 1);
}

/* Numbers and ids go on above everything there is. */
static enum err
seeds_find(struct spool *sp)
{
	msgid_t floor = 0;
	enum err e;

	sp->maker.dirfd = sp->dirfd;
	sp->maker.slot = (uint8_t)sp->conf.slot;
	sp->maker.generation = sp->conf.generation;
	sp->maker.writer = sp->conf.writer;
	sp->maker.highest = shm_segment_highest(sp->conf.area);
	e = segment_maker_start(&sp->maker, sp->conf.segment_floor);
	if (e == OK)
		e = segment_id_floor(sp->dirfd, sp->maker.slot, &floor);
	if (e == OK)
		id_source_init(&sp->ids, sp->maker.slot, floor > sp->conf.id_floor ? floor : sp->conf.id_floor);
	return e;
}

static enum err
threads_start(struct spool *sp)
{
	struct journal_conf conf = { .maker = &sp->maker,
				     .slot = sp->slot,
				     .box = &sp->box,
				     .cold = &sp->cold,
				     .disk = &sp->disk,
				     .segment_size = sp->conf.segment_size,
				     .id_high = id_last(&sp->ids) };
	enum err e;

	sp->journal = journal_open(&conf, &e);
	if (sp->journal == NULL)
		return e;
	if (cold_start(&sp->cold, &sp->box, spool_tick, sp))
		return OK;
	journal_stop(sp->journal);
	journal_free(&sp->journal);
	return ERR_IO;
}

struct spool *
spool_open(const struct spool_conf *conf, enum err *why)
{
	struct spool *sp = mem_zalloc(sizeof *sp);
	int saved;
	enum err e;

	conf_take(sp, conf);
	sp->dirfd = -1;
	sp->slot = shm_slot(conf->area, conf->slot);
	STAILQ_INIT(&sp->unused);
	STAILQ_INIT(&sp->soon);
	if (!postbox_init(&sp->box)) {
		free(sp);
		*why = ERR_IO;
		return NULL;
	}
	sp->tail_seen = shm_total(conf->area, CELL_JOURNAL_BYTES);
	e = dir_open(sp);
	if (e == OK)
		e = seeds_find(sp);
	disk_init(&sp->disk, sp->dirfd, conf->slot, conf->free_min, conf->reserve);
	if (e == OK)
		e = threads_start(sp);
	if (e == OK)
		return sp;
	*why = e;
	saved = errno;
	postbox_fini(&sp->box);
	if (sp->dirfd >= 0)
		close(sp->dirfd);
	free(sp);
	errno = saved;
	return NULL;
}

void
spool_close(struct spool **spp)
{
	struct spool *sp = *spp;

	if (sp == NULL)
		return;
	spool_on_soon(sp);
	while (sp->in_flight > 0 || sp->cold_owed > 0) {
		postbox_wait(&sp->box);
		postbox_run(&sp->box);
		spool_on_soon(sp);
	}
	journal_stop(sp->journal);
	cold_stop(&sp->cold);
	postbox_run(&sp->box);
	journal_free(&sp->journal);
	spool_txns_free(sp);
	disk_fini(&sp->disk);
	fd_cache_fini(&sp->fds);
	postbox_fini(&sp->box);
	close(sp->dirfd);
	free(sp);
	*spp = NULL;
}

int
spool_event_fd(const struct spool *sp)
{
	return sp->box.fd;
}

void
spool_on_event(struct spool *sp)
{
	postbox_run(&sp->box);
}

void
spool_soon(struct spool *sp, struct post *p, void (*run)(struct post *p))
{
	bool first = STAILQ_EMPTY(&sp->soon);

	if (sp->conf.soon == NULL) {
		postbox_put(&sp->box, p, run);
		return;
	}
	p->run = run;
	STAILQ_INSERT_TAIL(&sp->soon, p, link);
	if (first)
		sp->conf.soon(sp->conf.soon_arg);
}

void
spool_on_soon(struct spool *sp)
{
	struct post_list list = STAILQ_HEAD_INITIALIZER(list);
	struct post *p;

	STAILQ_CONCAT(&list, &sp->soon);
	while ((p = STAILQ_FIRST(&list)) != NULL) {
		STAILQ_REMOVE_HEAD(&list, link);
		p->run(p);
	}
}

void
spool_expect(struct spool *sp)
{
	journal_expect(sp->journal);
}

bool
spool_accepting(const struct spool *sp)
{
	return disk_has_room(&sp->disk) && !atomic_load_explicit(&sp->tail_long, memory_order_relaxed) &&
	       journal_healthy(sp->journal);
}

unsigned
spool_in_flight(const struct spool *sp)
{
	return sp->in_flight;
}

msgid_t
spool_new_id(struct spool *sp)
{
	return id_next(&sp->ids);
}

uint64_t
spool_writer(const struct spool *sp)
{
	return sp->conf.writer;
}

/* ---------------------------------------------------------------- cold jobs */

void
spool_cold_add(struct spool *sp, struct cold_job *job)
{
	sp->cold_owed++;
	cold_add(&sp->cold, job);
}

void
spool_cold_over(struct spool *sp)
{
	sp->cold_owed--;
}

/* A job of someone else. */
struct run_cold {
	struct cold_job job;
	struct spool *sp;
	void (*fn)(void *arg);
	void (*done)(void *arg);
	void *arg;
};

static void
run_cold_fn(struct cold_job *job)
{
	struct run_cold *r = (struct run_cold *)(void *)job;

	r->fn(r->arg);
}

/* Nobody wants to hear of its end: the loop is not woken for it. */
static void
run_cold_last(struct cold_job *job)
{
	run_cold_fn(job);
	free(job);
}

static void
run_cold_done(struct cold_job *job)
{
	struct run_cold *r = (struct run_cold *)(void *)job;

	spool_cold_over(r->sp);
	r->done(r->arg);
	free(r);
}

void
spool_run_cold(struct spool *sp, void (*fn)(void *arg), void (*done)(void *arg), void *arg)
{
	struct run_cold *r = mem_alloc(sizeof *r);

	*r = (struct run_cold){ .sp = sp, .fn = fn, .done = done, .arg = arg };
	r->job.fn = done != NULL ? run_cold_fn : run_cold_last;
	r->job.done = done != NULL ? run_cold_done : NULL;
	if (done != NULL)
		spool_cold_add(sp, &r->job);
	else
		cold_add(&sp->cold, &r->job);
}
