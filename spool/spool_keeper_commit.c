#include <errno.h>
#include <stdlib.h>

#include "shm/base/fault.h"
#include "shm/base/log.h"
#include "spool/spool_keeper_int.h"

enum { ROWS_PAGE = 64, SWEEP_MAX = 256 };
#define LOOK_AGAIN (INT64_C(900) * USEC_PER_SEC)
#define LOOK_DAILY (INT64_C(86400) * USEC_PER_SEC)

/* ---- the map as the fold asks for it ---- */

static enum err
snapshot(struct keeper *k)
{
	return k->snap != NULL ? OK : index_begin(k->index, &k->snap);
}

void
keeper_drop_snapshot(struct keeper *k)
{
	index_end(&k->snap);
}

enum err
keeper_judge(struct keeper *k, enum err e)
{
	if (keeper_unreadable(e))
		k->broken = true;
	return e;
}

static enum err
world_row(void *arg, msgid_t id, struct index_row *out)
{
	struct keeper *k = arg;
	enum err e = snapshot(k);

	return keeper_judge(k, e == OK ? index_message_get(k->snap, id, out) : e);
}

static enum err
world_rows(void *arg, msgid_t lo, msgid_t hi, enum err (*fn)(void *, const struct index_row *), void *fn_arg)
{
	struct keeper *k = arg;
	struct index_row page[ROWS_PAGE];
	msgid_t after = lo == 0 ? 0 : lo - 1;
	size_t n;
	enum err e = snapshot(k);

	while (e == OK) {
		e = index_message_page(k->snap, after, page, ROWS_PAGE, &n);
		for (size_t i = 0; e == OK && i < n; i++) {
			if (page[i].id > hi)
				return OK;
			e = fn(fn_arg, &page[i]);
			after = page[i].id;
		}
	}
	return e == ERR_EOF ? OK : keeper_judge(k, e);
}

static enum err
world_edits(void *arg, msgid_t id, enum err (*fn)(void *, const struct fold_edit *), void *fn_arg)
{
	struct keeper *k = arg;
	enum err e = snapshot(k);

	return keeper_judge(k, e == OK ? index_edits(k->snap, id, fn, fn_arg) : e);
}

/* ---- and as it hands over what is new ---- */

#define OUT(arg) (((struct keeper *)(arg))->out)

static enum err
world_put_row(void *arg, const struct index_row *was, const struct index_row *now)
{
	keeper_busy(arg);
	return index_put_row(OUT(arg), was, now);
}

static enum err
world_put_segment(void *arg, const struct index_segment *s)
{
	return index_put_segment(OUT(arg), s);
}

static enum err
world_del_segment(void *arg, uint32_t number)
{
	return index_del_segment(OUT(arg), number);
}

static enum err
world_put_attempt(void *arg, const struct index_attempt *a)
{
	return index_put_attempt(OUT(arg), a);
}

static enum err
world_del_attempt(void *arg, msgid_t id, uint32_t n)
{
	return index_del_attempt(OUT(arg), id, n);
}

static enum err
world_put_edit(void *arg, const struct fold_edit *e)
{
	return index_put_edit(OUT(arg), e);
}

static enum err
world_del_edit(void *arg, const struct fold_edit *e)
{
	return index_del_edit(OUT(arg), e);
}

static enum err
world_put_writer(void *arg, const struct fold_writer *w)
{
	return index_put_writer(OUT(arg), w);
}

static enum err
world_del_writer(void *arg, uint64_t writer)
{
	return index_del_writer(OUT(arg), writer);
}

static enum err
world_put_handover(void *arg, const struct index_handover *h)
{
	return index_put_handover(OUT(arg), h);
}

static enum err
world_del_handover(void *arg, uint64_t owner, uint64_t writer)
{
	return index_del_handover(OUT(arg), owner, writer);
}

static enum err
world_put_damage(void *arg, const struct index_damage *d)
{
	struct keeper *k = arg;
	struct index_damage found = *d;

	found.found_at = clock_real();
	k->counts.damaged++;
	if (d->nothing.seg != 0)
		log_error("keeper",
			  "damage: segment %u, %u bytes at %u speak of segment %u at %u, where there is no record; the "
			  "bytes are kept",
			  d->place.seg, d->len, d->place.off, d->nothing.seg, d->nothing.off);
	else
		log_error("keeper",
			  "damage: segment %u, %u bytes at %u cannot be read, %u recipients; the bytes are kept",
			  d->place.seg, d->len, d->place.off, d->recipients);
	return index_put_damage(k->out, &found);
}

static enum err
world_put_ledger(void *arg, const struct index_ledger *l)
{
	return index_put_ledger(OUT(arg), l);
}

static enum err
world_put_meta(void *arg, const struct index_meta *m)
{
	return index_put_meta(OUT(arg), m);
}

static enum err
world_clear(void *arg)
{
	return index_clear(OUT(arg));
}

const struct fold_world keeper_world = {
	.find = keeper_find,
	.limit = keeper_limit,
	.record = keeper_record,
	.row = world_row,
	.rows = world_rows,
	.edits = world_edits,
	.ended = keeper_ended,
	.put_row = world_put_row,
	.put_segment = world_put_segment,
	.del_segment = world_del_segment,
	.put_attempt = world_put_attempt,
	.del_attempt = world_del_attempt,
	.put_edit = world_put_edit,
	.del_edit = world_del_edit,
	.put_writer = world_put_writer,
	.del_writer = world_del_writer,
	.put_handover = world_put_handover,
	.del_handover = world_del_handover,
	.put_damage = world_put_damage,
	.put_ledger = world_put_ledger,
	.put_meta = world_put_meta,
	.clear = world_clear,
};

/* ---- expiry: looked at by today's configuration, once a day and when the time has come ---- */

static usec_t
deadline_of(struct keeper *k, const struct index_row *row)
{
	return k->conf.hooks->deadline == NULL ? INT64_MAX : k->conf.hooks->deadline(k->conf.hooks_arg, row);
}

static usec_t
first_look(void *arg, const struct index_row *row)
{
	usec_t deadline = deadline_of(arg, row), daily = row->received_at + LOOK_DAILY;

	return deadline < daily ? deadline : daily;
}

static usec_t
next_look(void *arg, const struct index_row *row)
{
	struct keeper *k = arg;
	usec_t deadline = deadline_of(k, row), now = clock_real();

	if (deadline > now)
		return deadline < now + LOOK_DAILY ? deadline : now + LOOK_DAILY;
	if (k->conf.hooks->expired != NULL)
		k->conf.hooks->expired(k->conf.hooks_arg, row);
	return now + LOOK_AGAIN;
}

/* ---- the commit ---- */

static enum err
fill(struct keeper *k)
{
	struct index_meta meta = { .keeper = k->conf.writer,
				   .scanned_at = k->scanned_at,
				   .highest_id = k->id_floor,
				   .highest_seg = atomic_load(k->conf.highest) };
	enum err e = fold_commit(k->fold, &meta);

	if (e != OK || fold_rebuilding(k->fold))
		return e;
	e = index_sweep(k->out, clock_real(), SWEEP_MAX, next_look, k);
	if (e == OK)
		k->swept_at = 0; /* there may be more */
	return e == ERR_EOF ? OK : e;
}

static void
count_rows(struct keeper *k)
{
	struct index_counts c;

	if (snapshot(k) != OK || keeper_judge(k, index_totals(k->snap, &c)) != OK)
		return;
	k->counts.messages = 0;
	for (size_t i = 0; i < ROW_STATES; i++)
		k->counts.messages += c.in[i];
	k->counts.quarantined = c.in[ROW_QUARANTINED];
}

static enum err
write_index(struct keeper *k, uint64_t *rows)
{
	enum err e;

	k->out = index_write_begin(k->index, first_look, k);
	e = fill(k);
	*rows = index_write_rows(k->out);
	if (e == OK) {
		fault_point("fold.before_commit");
		errno = fault_error("index.commit");
		e = errno == 0 ? OK : ERR_IO;
	}
	if (e == OK)
		return index_write_finish(&k->out);
	index_write_abort(&k->out);
	return e;
}

static enum err
save_and_write(struct keeper *k, uint64_t *rows)
{
	enum err e = keeper_save_moved(k);

	return e == OK ? write_index(k, rows) : e;
}

enum err
keeper_commit(struct keeper *k)
{
	uint64_t rows;
	enum err e;

	keeper_drop_snapshot(k);
	e = save_and_write(k, &rows);
	/* The map's library takes a short write for an I/O error. */
	if ((e == ERR_FULL || e == ERR_IO) && disk_short(&k->disk) && disk_let_go(&k->disk))
		e = save_and_write(k, &rows);
	if (e != OK) {
		log_errno(LOG_LVL_ERROR, "keeper", "the index cannot be committed (%s)", err_text(e));
		return keeper_judge(k, e);
	}
	fault_point("fold.after_commit");
	fold_committed(k->fold);
	k->dirty_since = 0;
	k->urgent = false;
	k->reclaim = true;
	k->counts.commits++;
	k->counts.rows += rows;
	count_rows(k);
	if (k->conf.hooks->committed != NULL)
		k->conf.hooks->committed(k->conf.hooks_arg);
	return OK;
}
