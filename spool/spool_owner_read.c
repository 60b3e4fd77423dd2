/* Reading a snapshot of the map for the owner: on the reading thread, touching nothing but the look. */
#include "spool/spool_owner_int.h"

#include <stdlib.h>

#include "shm/base/mem.h"
#include "spool/spool_index_write.h"

enum { WAKES_A_PAGE = 64, SEGS_A_PAGE = 64, ATTEMPTS_A_PAGE = 64 };

static enum err
read_segs(struct index_txn *t, struct owner_look *l)
{
	struct index_segment is;

	for (size_t i = 0; i < l->n_segs; i++) {
		struct look_seg *s = &l->segs[i];
		enum err e = index_segment_get(t, s->number, &is);

		if (e != OK && e != ERR_NOTFOUND)
			return e;
		s->found = e == OK;
		if (!s->found)
			continue;
		s->over = is.state == SEG_OVER;
		s->folded = is.folded;
		s->damaged = is.damaged;
	}
	return OK;
}

/* ---- a queue's rows that are due */

/* What is not due yet lies between the priorities: over it. */
static void
skip_priority(struct look_page *p, uint8_t priority)
{
	p->after =
		(struct index_queue_key){ .queue = p->queue, .priority = priority, .due = INT64_MAX, .id = UINT64_MAX };
}

static enum err
read_page(struct index_txn *t, struct look_page *p)
{
	struct index_row rows[OWNER_PAGE];
	size_t n;
	enum err e;

	p->rows = mem_array(NULL, OWNER_PAGE, sizeof *p->rows);
	while (p->n < OWNER_PAGE && !p->eof) {
		e = index_queue_rows(t, &p->after, rows, OWNER_PAGE - p->n, &n);
		if (e != OK && e != ERR_EOF)
			return e;
		p->eof = e == ERR_EOF || n == 0;
		for (size_t i = 0; i < n; i++) {
			p->after = index_row_key(&rows[i]);
			if (rows[i].due > p->due_by && rows[i].fate == ROW_LIVES) {
				skip_priority(p, rows[i].priority);
				p->eof = false;
				break;
			}
			p->rows[p->n] = rows[i];
			p->rows[p->n].sender = p->rows[p->n].rcpt = p->rows[p->n].binding = p->rows[p->n].domain =
				p->rows[p->n].reason = slice_of(NULL, 0);
			p->n++;
		}
	}
	return OK;
}

/* ---- queues that are due */

static void
add_wake(struct index_txn *t, struct owner_look *l, const struct index_wake *w)
{
	struct index_queue q;

	if (index_queue_get(t, w->queue, &q) != OK)
		return;
	l->wakes[l->n_wakes++] = (struct look_wake){ w->queue, w->due, slice_dup(q.binding), slice_dup(q.domain) };
}

static enum err
read_partition(struct index_txn *t, struct owner_look *l, unsigned partition)
{
	struct index_wake wakes[WAKES_A_PAGE], after;
	bool first = true;
	enum err e;
	size_t n;

	do {
		e = index_wake_page(t, partition, first ? NULL : &after, wakes, WAKES_A_PAGE, &n);
		if (e != OK && e != ERR_EOF)
			return e;
		first = false;
		for (size_t i = 0; i < n; i++) {
			after = wakes[i];
			if (wakes[i].due > l->now) {
				if (wakes[i].due < l->next_wake)
					l->next_wake = wakes[i].due;
				return OK;
			}
			if (l->n_wakes < OWNER_WAKES)
				add_wake(t, l, &wakes[i]);
		}
	} while (e == OK && n > 0 && l->n_wakes < OWNER_WAKES);
	return OK;
}

static enum err
read_wakes(struct index_txn *t, struct owner_look *l)
{
	enum err e;

	l->wakes = mem_array(NULL, OWNER_WAKES, sizeof *l->wakes);
	for (unsigned p = l->from; p < PARTITIONS; p++) {
		if ((l->mine[p / 64] >> (p % 64) & 1) == 0)
			continue;
		if (l->n_wakes >= OWNER_WAKES) {
			l->more_wakes = true;
			l->from = p;
			return OK;
		}
		if ((e = read_partition(t, l, p)) != OK)
			return e;
	}
	return OK;
}

/* ---- who was before us */

static bool
listed(const uint64_t *list, size_t n, uint64_t writer)
{
	for (size_t i = 0; i < n; i++)
		if (list[i] == writer)
			return true;
	return false;
}

static enum err
before_through(struct index_txn *t, const struct owner_look *l, const struct look_before *b, bool *yes)
{
	struct index_handover h;
	enum err e;

	if (!b->alive && b->by == 0)
		return index_writer_gone(t, b->writer, b->since, l->keeper, yes);
	e = index_handover_get(t, b->writer, b->by != 0 ? b->by : b->writer, &h);
	*yes = e == OK;
	return e == ERR_NOTFOUND ? OK : e;
}

/* Writers with files that no life of this master has: of a master before it. All of them are dead. */
static enum err
strangers_through(struct index_txn *t, const struct owner_look *l, bool *yes)
{
	struct index_segment segs[SEGS_A_PAGE];
	uint32_t after = 0;
	enum err e;
	size_t n;

	do {
		e = index_segment_list(t, after, segs, SEGS_A_PAGE, &n);
		if (e != OK && e != ERR_EOF)
			return e;
		for (size_t i = 0; i < n && *yes; i++) {
			const struct index_segment *s = &segs[i];
			enum err g;

			after = s->number;
			if (s->state == SEG_OVER || s->writer == l->self || listed(l->known, l->n_known, s->writer))
				continue;
			if ((g = before_through(t, l, &(struct look_before){ .writer = s->writer, .since = l->since },
						yes)) != OK)
				return g;
			for (size_t k = 0; k < l->n_before && !*yes; k++) /* an old one that lives: judged above */
				*yes = l->before[k].alive && l->before[k].writer == s->writer;
		}
	} while (e == OK && *yes && n > 0);
	return OK;
}

static enum err
read_adoption(struct index_txn *t, struct owner_look *l)
{
	bool yes = l->keeper != 0 && l->meta.scanned_at > l->since && !l->meta.rebuilding;
	enum err e = OK;

	for (size_t i = 0; i < l->n_before && e == OK; i++) {
		bool through = true;

		e = before_through(t, l, &l->before[i], &through);
		l->before[i].missing = e == OK && !through && l->before[i].by != 0;
		yes = yes && through;
	}
	if (yes && e == OK)
		e = strangers_through(t, l, &yes);
	l->adopted = yes && e == OK;
	return e;
}

/* ---- borrowers of ours that are dead */

static enum err
read_gone(struct index_txn *t, struct owner_look *l)
{
	enum err e = OK;

	for (size_t i = 0; i < l->n_gone && e == OK && l->keeper != 0; i++)
		e = index_writer_gone(t, l->gone[i].writer, l->gone[i].since, l->keeper, &l->gone[i].yes);
	return e;
}

/* ---- attempts of ours, as the map has them */

static enum err
read_open(struct index_txn *t, struct owner_look *l)
{
	struct index_attempt a[ATTEMPTS_A_PAGE];
	msgid_t after = 0;
	uint32_t after_n = 0;
	size_t n, cap = 0;
	enum err e;

	do {
		e = index_attempt_page(t, after, after_n, false, a, ATTEMPTS_A_PAGE, &n);
		if (e != OK && e != ERR_EOF)
			return e;
		for (size_t i = 0; i < n; i++) {
			after = a[i].id;
			after_n = a[i].n;
			if (a[i].state != ATTEMPT_OPEN || a[i].writer != l->self)
				continue;
			if (l->n_open == cap)
				l->open = mem_array(l->open, cap = cap == 0 ? 16 : cap * 2, sizeof *l->open);
			l->open[l->n_open++] = a[i].id;
		}
	} while (e == OK && n > 0);
	return OK;
}

/* ---- ranges on their way to the rows */

static enum err
add_range(void *arg, const struct fold_edit *e)
{
	struct owner_look *l = arg;
	struct map_range *r;

	if (e->done >= e->hi)
		return OK;
	r = mem_alloc(sizeof *r);
	*r = (struct map_range){
		.lo = e->lo, .hi = e->hi, .at = e->at, .binding = slice_dup(e->binding), .domain = slice_dup(e->domain)
	};
	STAILQ_INSERT_TAIL(&l->ranges, r, link);
	return OK;
}

/* ---- all of it */

static enum err
read_snapshot(struct index_txn *t, struct owner_look *l)
{
	struct index_row row;
	enum err e = index_meta(t, &l->meta);

	if (e == OK && listed(l->keepers, l->n_keepers, l->meta.keeper))
		l->keeper = l->meta.keeper;
	if (e == OK)
		e = read_segs(t, l);
	if (e == OK)
		e = index_edits(t, 0, add_range, l);
	if (e == OK && l->adopt)
		e = read_adoption(t, l);
	if (e == OK && !l->meta.rebuilding)
		e = read_gone(t, l);
	if (e != OK || l->meta.rebuilding)
		return e;
	for (size_t i = 0; i < l->n_pages && e == OK; i++)
		e = read_page(t, &l->pages[i]);
	for (size_t i = 0; i < l->n_wants && e == OK; i++) {
		e = index_message_get(t, l->wants[i].id, &row);
		if (e == OK)
			l->wants[i].row = index_row_dup(&row);
		else if (e == ERR_NOTFOUND)
			e = OK;
	}
	if (e == OK && l->scan)
		e = read_wakes(t, l);
	if (e == OK && l->scan_open)
		e = read_open(t, l);
	return e;
}

void
owner_read(struct index *ix, struct owner_look *l)
{
	struct index_txn *t = NULL;

	l->e = index_begin(ix, &t);
	if (l->e == OK)
		l->e = read_snapshot(t, l);
	index_end(&t);
}
