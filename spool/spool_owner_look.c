/* Looking into the map: what is to be read, and what follows from it. One look at a time, all of it from one snapshot:
 * rows are compared with what is remembered only together with the checkpoints that were read with them. */
#include "spool/spool_owner_int.h"

#include <stdlib.h>

#include "shm/base/log.h"
#include "shm/base/mem.h"

#define MS(n) ((n)*USEC_PER_MS)

static const usec_t LOOK_EACH = USEC_PER_SEC;       /* without any reason */
static const usec_t LOOK_GAP = MS(5);               /* between two looks */
static const usec_t WAKES_GAP = MS(200);            /* between two scans for queues that are due */
static const usec_t OPEN_EACH = 60 * USEC_PER_SEC;  /* between two scans for attempts nobody knows of */
static const usec_t WALK_AGAIN = 10 * USEC_PER_SEC; /* a queue that still has messages here */
static const usec_t ASK_COMMIT = MS(500);
static const usec_t MAP_MISSING = MS(200); /* no map, or one that is being rebuilt */

void
owner_want(struct spool_owner *o, const struct want *w)
{
	struct want *own = mem_alloc(sizeof *own);

	*own = *w;
	TAILQ_INSERT_TAIL(&o->wants, own, link);
	o->n_wants++;
}

/* ---- what is to be read */

/* Pages are read ahead while the window is half empty. For a suspended queue only what the console wants done. */
static bool
wants_page(struct spool_owner *o, const struct owner_queue *q)
{
	if (!q->due || q->asked || !owner_has(o, q->hash) || q->errands >= OWNER_ERRANDS || o->n_loaded >= OWNER_LOADED)
		return false;
	if (q->fates)
		return true;
	return !q->sched.suspended && q->sched.n_ready < OWNER_WINDOW / 2;
}

void
queue_due(struct owner_queue *q, bool due)
{
	if (q->due != due) {
		if (due)
			TAILQ_INSERT_TAIL(&q->o->due, q, due_link);
		else
			TAILQ_REMOVE(&q->o->due, q, due_link);
	}
	q->due = due;
	q->cursor = index_queue_first(q->hash);
}

static void
want_pages(struct spool_owner *o, struct owner_look *l)
{
	struct owner_queue *q;

	TAILQ_FOREACH (q, &o->due, due_link) {
		if (l->n_pages == OWNER_PAGES)
			break;
		if (!wants_page(o, q))
			continue;
		q->asked = true;
		l->pages[l->n_pages++] =
			(struct look_page){ .queue = q->hash, .after = q->cursor, .due_by = clock_real() };
	}
}

static bool
pages_wanted(struct spool_owner *o)
{
	struct owner_queue *q;

	TAILQ_FOREACH (q, &o->due, due_link)
		if (wants_page(o, q))
			return true;
	return false;
}

static void
want_segs(struct spool_owner *o, struct owner_look *l)
{
	struct owner_seg *s;
	size_t cap = 0;

	for (s = segs_next(o, NULL); s != NULL; s = segs_next(o, s)) {
		if (l->n_segs == cap)
			l->segs = mem_array(l->segs, cap = cap == 0 ? 16 : cap * 2, sizeof *l->segs);
		l->segs[l->n_segs++] = (struct look_seg){ .number = s->number };
	}
}

static bool
wakes_wanted(const struct spool_owner *o, usec_t now)
{
	if (!o->adopted || o->draining || now - o->scanned_wakes < WAKES_GAP)
		return false;
	return o->news || o->more_wakes || o->next_wake <= clock_real() || now - o->scanned_wakes >= LOOK_EACH;
}

static void
want_wakes(struct spool_owner *o, struct owner_look *l, usec_t now)
{
	l->scan = wakes_wanted(o, now);
	l->from = o->more_wakes ? o->wake_from : 0;
	for (unsigned p = 0; p < PARTITIONS; p++)
		if (o->assigned[p])
			l->mine[p / 64] |= UINT64_C(1) << (p % 64);
}

static void
want_one_before(struct owner_look *l, const struct look_before *b)
{
	if (l->n_before == l->cap_before) {
		l->cap_before = l->cap_before == 0 ? 16 : l->cap_before * 2;
		l->before = mem_array(l->before, l->cap_before, sizeof *l->before);
	}
	l->before[l->n_before++] = *b;
}

/* One that has ended may have lent to every worker of its generation that lived then: what those have not begun by
 * their record about it, they never will. Those of older generations say so in their own records. */
static void
want_borrowers(struct spool_owner *o, struct owner_look *l, const struct life *dead, const struct slot_who *who)
{
	if (dead->generation != o->env.generation)
		return;
	for (int i = 0; i < SLOTS_MAX; i++)
		if (who[i].writer != 0 && who[i].generation == dead->generation && who[i].born <= dead->ended_mono)
			want_one_before(l, &(struct look_before){ .writer = dead->writer,
								  .since = dead->ended_mono,
								  .by = who[i].writer,
								  .slot = i });
}

/* The workers that live, but us; writer 0 where there is none. Who need not be waited for as an owner is known. */
static void
want_living(struct spool_owner *o, struct owner_look *l, struct slot_who who[SLOTS_MAX])
{
	for (int i = 0; i < SLOTS_MAX; i++) {
		struct slot_who *w = &who[i];

		if (!slot_who(shm_slot(o->env.area, i), w) || w->writer == o->env.writer) {
			w->writer = 0;
			continue;
		}
		if (w->role == ROLE_WORKER && w->generation < o->env.generation)
			want_one_before(l, &(struct look_before){ .writer = w->writer, .alive = true });
		else
			l->known[l->n_known++] = w->writer;
		if (w->role != ROLE_WORKER)
			w->writer = 0;
	}
}

/* Every worker that may have owned before: those of older generations that live, by their slots (the roll forgets);
 * those that have ended, by the roll, and who may have borrowed of them. One that the roll has forgotten has files, or
 * said nothing (strangers_through). */
static void
want_before(struct spool_owner *o, struct owner_look *l)
{
	uint64_t next = lives_next(o->env.area), first = next > LIVES_KEPT ? next - LIVES_KEPT : 1;
	struct slot_who who[SLOTS_MAX];
	struct life life;

	l->self = o->env.writer;
	l->since = o->born;
	want_living(o, l, who);
	for (uint64_t serial = first; serial < next; serial++) {
		if (!life_get(o->env.area, serial, &life) || life.role != ROLE_WORKER || !life.ended)
			continue;
		want_one_before(l, &(struct look_before){ .writer = life.writer, .since = life.ended_mono });
		want_borrowers(o, l, &life, who);
	}
}

static void
free_look(struct owner_look *l)
{
	for (size_t i = 0; i < l->n_pages; i++)
		free(l->pages[i].rows);
	for (size_t i = 0; i < l->n_wants; i++)
		free(l->wants[i].row);
	for (size_t i = 0; i < l->n_wakes; i++) {
		free(l->wakes[i].binding);
		free(l->wakes[i].domain);
	}
	map_ranges_free(&l->ranges);
	free(l->before);
	free(l->wakes);
	free(l->segs);
	free(l->open);
	free(l);
}

/* ---- what follows: the past */

static void
forget_one(struct spool_owner *o, struct owner_mem *m, const struct owner_seg *s)
{
	struct want w = { .id = m->msg.id };

	m->damaged = m->damaged || s->damaged > 0;
	if (m->second.seg != 0) {
		struct place second = m->second;

		m->second = (struct place){ 0, 0 };
		m->fact_edit = false;
		mem_past(o, m, second);
		return;
	}
	if (m->edit != 0 && m->damaged) { /* is the edit in what was damaged? */
		w.what = WANT_VERIFY;
		owner_want(o, &w);
		m->edit_at = m->edit_at > 0 ? m->edit_at : 1;
		m->damaged = false;
		TAILQ_REMOVE(&m->seg->past, m, past);
		m->seg = NULL;
		o->n_past--;
		m->state = MSG_EDITING;
		return;
	}
	if (m->edit != 0 || m->again) { /* the row says what it wants, and when */
		w.what = WANT_ROW;
		owner_want(o, &w);
	}
	if (m->sched.at == SCHED_WAITING && m->msg.due < o->next_wake)
		o->next_wake = m->msg.due;
	if (m->sched.at == SCHED_READY) { /* due already: no need to find it again */
		TAILQ_REMOVE(&m->seg->past, m, past);
		m->seg = NULL;
		o->n_past--;
		m->state = MSG_LOADED;
		return;
	}
	mem_forget(o, m);
}

static void
forget_past(struct spool_owner *o)
{
	struct owner_seg *s;
	struct owner_mem *m;

	for (s = segs_next(o, NULL); s != NULL; s = segs_next(o, s))
		while ((m = TAILQ_FIRST(&s->past)) != NULL && m->state == MSG_PAST && m->writing == 0 &&
		       seg_passed(o, s, m->fact, m->fact_at))
			forget_one(o, m, s);
}

static void
take_segs(struct spool_owner *o, const struct owner_look *l)
{
	o->scanned_map = l->keeper != 0 ? l->meta.scanned_at : 0;
	for (size_t i = 0; i < l->n_segs; i++) {
		const struct look_seg *is = &l->segs[i];
		struct owner_seg *s = seg_get(o, is->number);

		/* It stood in an earlier look: it is gone, and all it said is in the map. */
		s->over = is->over || (s->read && s->found && !is->found) || (s->over && !is->found);
		s->found = is->found || s->over;
		s->folded = is->folded;
		s->damaged = is->damaged;
		s->read = true;
	}
}

/* ---- what follows: rows */

static void
load_row(struct spool_owner *o, struct owner_queue *q, const struct index_row *row, bool doubtful)
{
	struct owner_mem *m;

	if (queue_window_full(q)) {
		q->missed = true;
		return;
	}
	m = mem_new(o, q, row->id, row->place, row->item);
	m->msg.priority = row->priority;
	m->msg.tries = row->tries;
	m->msg.received_at = row->received_at;
	m->msg.doubtful = doubtful;
	mem_load(o, m, row->due);
}

static void
doubtful_row(struct spool_owner *o, struct owner_queue *q, const struct index_row *row)
{
	enum owner_in_doubt what = OWNER_DOUBT_RETRY;

	if (!o->serving)
		return;
	if (o->ops.in_doubt != NULL)
		what = o->ops.in_doubt(o->ops_arg, q);
	if (what == OWNER_DOUBT_HOLD)
		owner_edit(o, q, row, NULL, EDIT_HOLD, SLICE("in doubt"), NULL);
	else if (what == OWNER_DOUBT_END)
		owner_errand(o, q, row, OWNER_DOUBT_DONE);
	else
		load_row(o, q, row, true);
}

/* A row of the map that nothing here knows better. */
void
owner_row(struct spool_owner *o, struct owner_queue *q, const struct index_row *row)
{
	if (!owner_has(o, q->hash) || mem_find(o, row->id) != NULL || owner_in_range(o, row->id, row->edit, q))
		return;
	if (row->fate != ROW_LIVES && row->state != ROW_WORK) {
		if (clock_real() >= q->errand_after)
			owner_errand(o, q, row, row->fate == ROW_FAIL ? OWNER_FAIL : OWNER_DROP);
		return;
	}
	if (row->state != ROW_DOUBT && row->state != ROW_QUEUED)
		return;
	if (row->due > clock_real())
		o->next_wake = row->due < o->next_wake ? row->due : o->next_wake;
	else if (row->state == ROW_DOUBT)
		doubtful_row(o, q, row);
	else
		load_row(o, q, row, false);
}

static void
take_page(struct spool_owner *o, struct look_page *p)
{
	struct owner_queue *q = queue_find(o, p->queue);

	if (q == NULL)
		return;
	q->asked = false;
	for (size_t i = 0; i < p->n; i++) {
		struct want w = { .what = WANT_ROW, .id = p->rows[i].id };

		if (p->rows[i].fate != ROW_LIVES)
			owner_want(o, &w); /* again, with its reason */
		else if (!q->sched.suspended)
			owner_row(o, q, &p->rows[i]);
	}
	q->cursor = p->after;
	/* To the end of the line: the others' pages first. */
	TAILQ_REMOVE(&o->due, q, due_link);
	TAILQ_INSERT_TAIL(&o->due, q, due_link);
	if (p->eof) {
		q->fates = false;
		queue_due(q, false);
	}
}

/* A walk through the queue begins when nothing of it is here any more, when hints were missed, and now and then. */
static void
take_wake(struct spool_owner *o, const struct look_wake *w, usec_t now)
{
	struct owner_queue *q = queue_get(o, w->queue, slice_str(w->binding), slice_str(w->domain));

	if (q->walk_began == 0)
		q->fates = true; /* what an owner before us was to do */
	q->idle_since = now;
	if (q->due || (q->mems > 0 && !q->missed && now - q->walk_began < WALK_AGAIN))
		return;
	queue_due(q, true);
	q->missed = false;
	q->walk_began = now;
}

static void
take_want(struct spool_owner *o, const struct want *w, const struct index_row *row)
{
	switch (w->what) {
	case WANT_HINT:
		owner_hint_seen(o, &w->hint, row);
		break;
	case WANT_VERB:
		owner_verb_row(o, w->verb, row);
		break;
	case WANT_DUE:
		owner_due_row(o, w->id, row);
		break;
	case WANT_VERIFY:
		owner_edit_again(o, w->id, row);
		break;
	case WANT_ROW:
		if (row != NULL)
			owner_row(o,
				  queue_get(o, spool_queue_hash(row->binding, row->domain), row->binding, row->domain),
				  row);
		break;
	case WANT_OPEN:
		if (row != NULL)
			owner_open_row(o, row);
		break;
	case WANT_LOST:
		if (row != NULL)
			owner_lost_row(o, w->place, row);
		break;
	case WANT_LOAN:
		loan_row(o, w->id, row);
		break;
	}
}

/* The wants that were asked stand first, in the order of their rows. */
static void
take_wants(struct spool_owner *o, struct owner_look *l)
{
	for (size_t i = 0; i < l->n_wants; i++) {
		struct want *w = TAILQ_FIRST(&o->wants);

		TAILQ_REMOVE(&o->wants, w, link);
		o->n_wants--;
		take_want(o, w, l->wants[i].row);
		free(w);
	}
}

static void
take_open(struct spool_owner *o, const struct owner_look *l)
{
	for (size_t i = 0; i < l->n_open; i++) {
		struct want w = { .what = WANT_OPEN, .id = l->open[i] };

		if (mem_find(o, w.id) == NULL)
			owner_want(o, &w);
	}
}

static void
take_look(struct spool_owner *o, struct owner_look *l, usec_t now)
{
	bool was = o->rebuilding;

	o->rebuilding = l->meta.rebuilding;
	if (was && !o->rebuilding)
		o->scanned_open = 0; /* after a rebuild, ask at once */
	if (o->rebuilding)
		return; /* segments are missing from it that have not gone */
	take_segs(o, l);
	forget_past(o);
	owner_ranges_passed(o);
	owner_ranges_take(o, &l->ranges);
	if (l->adopt && !l->adopted)
		hand_missing(o, l, now);
	if (l->adopt && l->adopted && !o->adopted) {
		o->adopted = true;
		o->news = true;
		log_debug("owner", "has taken its partitions over");
	}
	for (size_t i = 0; i < l->n_pages; i++)
		take_page(o, &l->pages[i]);
	for (size_t i = 0; i < l->n_wakes && !o->draining; i++)
		take_wake(o, &l->wakes[i], now);
	if (l->scan) {
		o->more_wakes = l->more_wakes;
		o->wake_from = l->from;
		o->next_wake = l->next_wake;
		o->scanned_wakes = now;
	}
	take_open(o, l);
	lend_take_gone(o, l);
	segs_sweep(o);
}

static void
on_look(void *arg)
{
	struct owner_look *l = arg;
	struct spool_owner *o = l->o;
	usec_t now = clock_mono();

	o->looking = false;
	o->looked = now;
	o->look_after = now + LOOK_GAP;
	if (l->e == OK)
		take_look(o, l, now);
	if (l->e == OK && !o->rebuilding) {
		take_wants(o, l);
	} else {
		for (size_t i = 0; i < l->n_pages; i++) {
			struct owner_queue *q = queue_find(o, l->pages[i].queue);
			if (q != NULL)
				q->asked = false;
		}
		o->look_after = now + MAP_MISSING;
	}
	free_look(l);
}

/* ---- when */

static void
look_cold(void *arg)
{
	struct owner_look *l = arg;

	l->o->world->look(l->env, l);
}

static bool
waits_for_owners(const struct spool_owner *o)
{
	return !o->adopted && !o->draining && o->table_version != 0;
}

/* Or for the end of a borrower. */
static bool
waits_for_map(const struct spool_owner *o)
{
	const struct partner *p;

	TAILQ_FOREACH (p, &o->partners, link)
		if (p->ended && p->n_lent > 0)
			return true;
	return waits_for_owners(o);
}

static bool
reason_to_look(struct spool_owner *o, usec_t now)
{
	if (o->news || o->n_wants > 0 || wakes_wanted(o, now) || pages_wanted(o))
		return true;
	return now - o->looked >= (waits_for_owners(o) ? MS(100) : LOOK_EACH);
}

/* The keepers of this boot: only their monotonic times mean anything to us. */
static void
know_keepers(struct spool_owner *o)
{
	uint64_t next = lives_next(o->env.area), first = next > LIVES_KEPT ? next - LIVES_KEPT : 1;
	struct slot_who who;
	struct life life;

	if (next == o->lives_seen)
		return;
	o->lives_seen = next;
	o->n_keepers = 0;
	for (int i = 0; i < SLOTS_MAX && o->n_keepers < OWNER_KEEPERS; i++)
		if (slot_who(shm_slot(o->env.area, i), &who) && who.role == ROLE_KEEPER)
			o->keepers[o->n_keepers++] = who.writer;
	for (uint64_t serial = next; serial-- > first && o->n_keepers < OWNER_KEEPERS;)
		if (life_get(o->env.area, serial, &life) && life.role == ROLE_KEEPER)
			o->keepers[o->n_keepers++] = life.writer;
}

static void
begin_look(struct spool_owner *o, usec_t now)
{
	struct owner_look *l = mem_zalloc(sizeof *l);
	struct want *w;

	l->o = o;
	l->env = &o->env;
	l->now = clock_real();
	l->next_wake = INT64_MAX;
	STAILQ_INIT(&l->ranges);
	want_segs(o, l);
	want_pages(o, l);
	want_wakes(o, l, now);
	TAILQ_FOREACH (w, &o->wants, link) {
		if (l->n_wants == OWNER_WANTS)
			break;
		l->wants[l->n_wants++] = (struct look_want){ .id = w->id };
	}
	l->adopt = waits_for_owners(o);
	if (l->adopt)
		want_before(o, l);
	l->self = o->env.writer;
	lend_want_gone(o, l);
	l->scan_open = now - o->scanned_open >= OPEN_EACH || o->scanned_open == 0;
	if (l->scan_open)
		o->scanned_open = now;
	know_keepers(o);
	memcpy(l->keepers, o->keepers, sizeof l->keepers);
	l->n_keepers = o->n_keepers;
	o->looking = true;
	o->news = false;
	o->world->run_cold(&o->env, look_cold, on_look, l);
}

void
owner_look_around(struct spool_owner *o, usec_t now)
{
	if (o->looking || now < o->look_after || !reason_to_look(o, now))
		return;
	if (waits_for_map(o) && o->env.commit_please != NULL && now - o->asked_commit >= ASK_COMMIT) {
		o->asked_commit = now;
		o->env.commit_please(o->env.arg);
	}
	begin_look(o, now);
}

usec_t
owner_look_next(struct spool_owner *o, usec_t now)
{
	usec_t next = o->looked + (waits_for_owners(o) ? MS(100) : LOOK_EACH), real = clock_real();

	if (o->looking)
		return INT64_MAX;
	if (now < o->look_after)
		return o->look_after;
	if (o->news || o->n_wants > 0 || pages_wanted(o))
		next = now;
	if (o->adopted && !o->draining && o->next_wake != INT64_MAX) {
		usec_t wake = o->next_wake > real ? now + (o->next_wake - real) : now;
		if (wake < o->scanned_wakes + WAKES_GAP)
			wake = o->scanned_wakes + WAKES_GAP;
		next = wake < next ? wake : next;
	}
	if (o->more_wakes && o->scanned_wakes + WAKES_GAP < next)
		next = o->scanned_wakes + WAKES_GAP;
	return next;
}
