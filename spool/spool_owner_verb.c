/* Edits, ranges, errands: what the console, a deadline or in_doubt wants of a message. An edit is written first; what
 * it asks for is done when the map has it, so that a death in between changes nothing. */
#include "spool/spool_owner_int.h"

#include <stdlib.h>

#include "shm/base/log.h"
#include "shm/base/mem.h"

struct verb_call {
	enum owner_verb_kind kind;
	char *reason;
	void (*done)(void *arg, enum err);
	void *arg;
};

static void
answer(struct verb_call *call, enum err e)
{
	if (call == NULL)
		return;
	call->done(call->arg, e);
	free(call->reason);
	free(call);
}

void
owner_verb_fail(struct verb_call *call, enum err e)
{
	answer(call, e);
}

static enum edit_action
action_of(enum owner_verb_kind kind)
{
	switch (kind) {
	case OWNER_VERB_RETRY:
		return EDIT_RETRY;
	case OWNER_VERB_FAIL:
		return EDIT_FAIL;
	case OWNER_VERB_DROP:
		return EDIT_DROP;
	case OWNER_VERB_HOLD:
		return EDIT_HOLD;
	case OWNER_VERB_RELEASE:
	case OWNER_VERB_DONE:
		break;
	}
	return EDIT_RELEASE;
}

/* ---- errands */

void
owner_errand(struct spool_owner *o, struct owner_queue *q, const struct index_row *row, enum owner_errand what)
{
	struct owner_mem *m;
	struct slice reason = row->reason;

	if (!o->serving || o->draining || o->ops.errand == NULL || q->binding == NULL)
		return;
	m = mem_new(o, q, row->id, row->place, row->item);
	m->msg.priority = row->priority;
	m->msg.tries = row->tries;
	m->msg.received_at = row->received_at;
	m->msg.due = row->due;
	m->state = MSG_TAKEN;
	m->errand = true;
	m->done_errand = what == OWNER_DOUBT_DONE;
	q->errands++;
	o->n_taken++;
	sched_take_away(&q->sched, &m->sched);
	o->ops.errand(o->ops_arg, &m->msg, what, reason);
}

void
owner_due(struct spool_owner *o, msgid_t id)
{
	struct want w = { .what = WANT_DUE, .id = id };

	if (o->n_wants < OWNER_HINTS_HELD)
		owner_want(o, &w);
}

/* What is in delivery's hands is looked at there. */
void
owner_due_row(struct spool_owner *o, msgid_t id, const struct index_row *row)
{
	struct owner_mem *m = mem_find(o, id);
	struct owner_queue *q;
	uint64_t hash;

	if (row == NULL || row->state == ROW_WORK)
		return;
	hash = spool_queue_hash(row->binding, row->domain);
	if (!owner_has(o, hash) || (m != NULL && m->state != MSG_LOADED))
		return;
	if (m != NULL)
		mem_forget(o, m);
	q = queue_get(o, hash, row->binding, row->domain);
	owner_errand(o, q, row, OWNER_LOOK_EXPIRY);
}

/* ---- one edit */

struct edit_call {
	struct spool_owner *o;
	msgid_t id;
	struct verb_call *call;
};

static void
on_edited(void *arg, enum err e, struct place place)
{
	struct edit_call c = *(struct edit_call *)arg;
	struct owner_mem *m = mem_find(c.o, c.id);

	free(arg);
	if (m != NULL)
		m->writing--;
	if (e != OK)
		log_error("owner", "an edit is not on disk: %s", err_text(e));
	if (m != NULL && e == OK) {
		if (!m->fact_edit)
			m->second = m->fact; /* of another journal, perhaps */
		m->fact = place;
		m->fact_edit = true;
	}
	if (m != NULL && m->writing == 0 && m->state == MSG_EDITING) {
		if (m->fact.seg != 0)
			mem_past(c.o, m, m->fact);
		else
			mem_forget(c.o, m);
	}
	answer(c.call, e);
}

/* Above what the row knows, and above our own last one: a clock that steps back changes no order. */
static usec_t
edit_time(struct spool_owner *o, const struct index_row *row)
{
	usec_t at = clock_real();

	if (row != NULL && at <= row->edit)
		at = row->edit + 1;
	if (at <= o->edit_at)
		at = o->edit_at + 1;
	o->edit_at = at;
	return at;
}

/* Nobody begins it now, and the schedule forgets it: what comes of it is what the map says when it has the edit. */
static void
set_back(struct spool_owner *o, struct owner_mem *m)
{
	m->revoked = true;
	if (m->state == MSG_LENT)
		loan_recall(o, m);
	if (m->state == MSG_LOADED || m->state == MSG_PAST) {
		mem_unload(o, m);
		m->state = MSG_EDITING;
	}
}

static void
write_edit(struct spool_owner *o, struct owner_mem *m, const struct spool_edit *edit, struct verb_call *call)
{
	struct owner_fact f = { .kind = FACT_EDIT, .edit = *edit };
	struct edit_call *c = mem_alloc(sizeof *c);
	enum err e;

	*c = (struct edit_call){ o, m->msg.id, call };
	m->writing++;
	e = o->world->write(&o->env, &f, on_edited, c);
	if (e != OK)
		on_edited(c, e, (struct place){ 0, 0 });
}

void
owner_edit(struct spool_owner *o, struct owner_queue *q, const struct index_row *row, struct owner_mem *m,
	   enum edit_action action, struct slice reason, struct verb_call *call)
{
	struct spool_edit edit = { .action = (uint8_t)action, .reason = reason };

	require_that(m != NULL || row != NULL, "owner");
	if (m == NULL) {
		m = mem_new(o, q, row->id, row->place, row->item);
		m->msg.priority = row->priority;
		m->msg.tries = row->tries;
	}
	set_back(o, m);
	m->edit = (uint8_t)action;
	m->edit_at = edit.at = edit_time(o, row);
	free(m->edit_reason);
	m->edit_reason = slice_dup(reason);
	edit.id_lo = edit.id_hi = m->msg.id;
	edit.place = m->msg.place;
	edit.item = m->msg.item;
	write_edit(o, m, &edit, call);
}

void
owner_set_aside(struct owner_msg *msg, struct slice reason)
{
	struct owner_queue *q = msg->queue;
	struct owner_mem *m = mem_find(q->o, msg->id);

	require_that(m != NULL, "owner");
	owner_edit(q->o, q, NULL, m, EDIT_QUARANTINE, reason, NULL);
}

/* It was not there, and a map that is younger than that still says it is: what is moved or over is committed before its
 * file goes, so its bytes are gone. */
void
owner_lost_row(struct spool_owner *o, struct place place, const struct index_row *row)
{
	uint64_t hash = spool_queue_hash(row->binding, row->domain);
	struct owner_mem *m = mem_find(o, row->id);
	char id[ID_TEXT];

	if (row->place.seg != place.seg || row->place.off != place.off || row->state == ROW_WORK || row->aside != 0 ||
	    !owner_has(o, hash) || (m != NULL && m->state != MSG_LOADED))
		return;
	id_text(row->id, id);
	log_error("owner", "%s is not in segment %u, where the map has it: it is quarantined", id, (unsigned)place.seg);
	owner_edit(o, queue_get(o, hash, row->binding, row->domain), row, m, EDIT_QUARANTINE,
		   SLICE("is not where the map has it"), NULL);
}

/* The checkpoint has passed the edit, and there is damage in its segment: does the row show it? */
void
owner_edit_again(struct spool_owner *o, msgid_t id, const struct index_row *row)
{
	struct owner_mem *m = mem_find(o, id);
	struct spool_edit edit;

	if (m == NULL || m->state != MSG_EDITING || m->writing > 0)
		return;
	if (row == NULL || row->edit >= m->edit_at) {
		struct want w = { .what = WANT_ROW, .id = id };
		mem_forget(o, m);
		owner_want(o, &w);
		return;
	}
	edit = (struct spool_edit){ .id_lo = id,
				    .id_hi = id,
				    .action = m->edit,
				    .item = row->item,
				    .place = row->place,
				    .at = m->edit_at,
				    .reason = slice_str(m->edit_reason) };
	write_edit(o, m, &edit, NULL);
}

/* ---- one attempt that nobody knows of */

static void
on_doubt_said(void *arg, enum err e, struct place place)
{
	struct edit_call c = *(struct edit_call *)arg;
	struct owner_mem *m = mem_find(c.o, c.id);

	free(arg);
	if (m == NULL)
		return;
	mem_unload(c.o, m);
	if (e == OK)
		mem_past(c.o, m, place);
	else
		mem_forget(c.o, m);
}

/* The map believes that this process has it in work; its outcome must have been in what was damaged. */
void
owner_open_row(struct spool_owner *o, const struct index_row *row)
{
	struct owner_fact f = { .kind = FACT_OUTCOME };
	struct edit_call *c;
	struct owner_mem *m;
	enum err e;

	if (row->state != ROW_WORK || row->writer != o->env.writer || mem_find(o, row->id) != NULL)
		return;
	m = mem_new(o, queue_get(o, spool_queue_hash(row->binding, row->domain), row->binding, row->domain), row->id,
		    row->place, row->item);
	m->msg.tries = row->tries;
	f.outcome =
		(struct spool_outcome){ .id = row->id,
					.n = row->tries,
					.item = row->item,
					.kind = OUTCOME_DOUBTFUL,
					.place = row->place,
					.at = clock_real(),
					.next_due = clock_real(),
					.text = SLICE("451 4.3.0 [internal] the outcome of this attempt was damaged") };
	c = mem_alloc(sizeof *c);
	*c = (struct edit_call){ o, row->id, NULL };
	log_warn("owner", "an attempt of this process has no outcome in the map: it is in doubt");
	e = o->world->write(&o->env, &f, on_doubt_said, c);
	if (e != OK)
		on_doubt_said(c, e, (struct place){ 0, 0 });
}

/* ---- ranges */

static void
range_free(struct spool_owner *o, struct range *r)
{
	TAILQ_REMOVE(&o->ranges, r, link);
	if (r->synced)
		seg_get(o, r->fact.seg)->ranges--;
	free((void *)(uintptr_t)r->edit.binding.p);
	free((void *)(uintptr_t)r->edit.domain.p);
	free((void *)(uintptr_t)r->edit.reason.p);
	free(r);
}

void
owner_ranges_free(struct spool_owner *o)
{
	struct range *r, *next;

	TAILQ_FOREACH_SAFE (r, &o->ranges, link, next) {
		answer(r->call, ERR_EOF);
		range_free(o, r);
	}
}

static bool
range_has(const struct range *r, msgid_t id, const struct owner_queue *q)
{
	if (id < r->edit.id_lo || id > r->edit.id_hi || q->binding == NULL)
		return false;
	return (r->edit.binding.n == 0 || slice_eq(r->edit.binding, slice_str(q->binding))) &&
	       (r->edit.domain.n == 0 || slice_ieq(r->edit.domain, slice_str(q->domain)));
}

static bool
map_range_has(const struct map_range *r, msgid_t id, const struct owner_queue *q)
{
	if (id < r->lo || id > r->hi || q->binding == NULL)
		return false;
	return (*r->binding == '\0' || strcmp(r->binding, q->binding) == 0) &&
	       (*r->domain == '\0' || slice_ieq(slice_str(r->domain), slice_str(q->domain)));
}

bool
owner_in_range(const struct spool_owner *o, msgid_t id, usec_t edit, const struct owner_queue *q)
{
	const struct range *r;
	const struct map_range *mr;

	TAILQ_FOREACH (r, &o->ranges, link)
		if (range_has(r, id, q))
			return true;
	STAILQ_FOREACH (mr, &o->map_ranges, link)
		if (edit < mr->at && map_range_has(mr, id, q))
			return true;
	return false;
}

void
map_ranges_free(struct map_ranges *r)
{
	struct map_range *mr;

	while ((mr = STAILQ_FIRST(r)) != NULL) {
		STAILQ_REMOVE_HEAD(r, link);
		free(mr->binding);
		free(mr->domain);
		free(mr);
	}
}

/* What no range is on its way to any more is looked through from the start. */
void
owner_ranges_take(struct spool_owner *o, struct map_ranges *now)
{
	struct owner_queue *q;

	if (!STAILQ_EMPTY(&o->map_ranges))
		for (q = queues_next(o, NULL); q != NULL; q = queues_next(o, q)) {
			q->fates = true;
			queue_due(q, true);
		}
	map_ranges_free(&o->map_ranges);
	STAILQ_CONCAT(&o->map_ranges, now);
}

/* What the map will say of them is found when it has the range: until then nothing in it is loaded (owner_in_range). */
static void
range_apply(struct spool_owner *o, const struct range *r)
{
	struct owner_mem *m, *next;

	for (m = mems_next(o, NULL); m != NULL; m = next) {
		next = mems_next(o, m);
		if (!range_has(r, m->msg.id, m->msg.queue))
			continue;
		if (m->loan != NULL && !m->loan->ours) {
			borrow_revoke(o, m);
			continue;
		}
		m->revoked = true;
		m->msg.queue->missed = true;
		if (m->state == MSG_LENT)
			loan_recall(o, m);
		else if (m->state == MSG_LOADED)
			mem_forget(o, m);
		else if (m->state == MSG_PAST)
			mem_unload(o, m);
	}
}

static void
on_range(void *arg, enum err e, struct place place)
{
	struct range *r = arg;
	struct verb_call *call = r->call;
	struct spool_owner *o = r->o;

	r->call = NULL;
	if (e == OK) {
		r->synced = true;
		r->fact = place;
		r->fact_at = clock_mono();
		seg_get(o, place.seg)->ranges++;
	} else {
		range_free(o, r);
	}
	answer(call, e);
}

void
owner_ranges_passed(struct spool_owner *o)
{
	struct range *r, *next;
	struct owner_queue *q;

	TAILQ_FOREACH_SAFE (r, &o->ranges, link, next) {
		if (!r->synced || !seg_passed(o, seg_get(o, r->fact.seg), r->fact, r->fact_at))
			continue;
		for (q = queues_next(o, NULL); q != NULL; q = queues_next(o, q))
			if (range_has(r, r->edit.id_lo, q)) {
				q->fates = true;
				queue_due(q, true);
			}
		range_free(o, r);
	}
}

static void
range_begin(struct spool_owner *o, const struct owner_verb *v, struct verb_call *call)
{
	struct range *r = mem_zalloc(sizeof *r);
	struct owner_fact f = { .kind = FACT_EDIT };
	msgid_t hi;
	enum err e;

	r->o = o;
	r->call = call;
	/* What comes in from now on is not meant. */
	hi = id_at(clock_real() + USEC_PER_MS);
	r->edit = (struct spool_edit){ .id_lo = v->id_lo,
				       .id_hi = v->id_hi < hi ? v->id_hi : hi,
				       .action = (uint8_t)action_of(v->kind),
				       .at = edit_time(o, NULL),
				       .binding = slice_str(slice_dup(v->binding)),
				       .domain = slice_str(slice_dup(v->domain)),
				       .reason = slice_str(slice_dup(v->reason)) };
	TAILQ_INSERT_TAIL(&o->ranges, r, link);
	range_apply(o, r);
	f.edit = r->edit;
	e = o->world->write(&o->env, &f, on_range, r);
	if (e != OK)
		on_range(r, e, (struct place){ 0, 0 });
}

/* ---- verbs */

void
owner_verb(struct spool_owner *o, const struct owner_verb *v, void (*done)(void *arg, enum err), void *arg)
{
	struct verb_call *call = mem_zalloc(sizeof *call);
	struct want w = { .what = WANT_VERB, .id = v->id_lo, .verb = call };

	*call = (struct verb_call){ .kind = v->kind, .reason = slice_dup(v->reason), .done = done, .arg = arg };
	if (v->id_lo == v->id_hi)
		owner_want(o, &w); /* its row first: for its place, and the time of its last edit */
	else
		range_begin(o, v, call);
}

/* Also of one that was held because it was in doubt. */
static void
verb_done(struct spool_owner *o, struct verb_call *call, struct owner_queue *q, const struct index_row *row)
{
	struct owner_mem *m = mem_find(o, row->id);
	bool doubt = row->tries > 0 && (row->state == ROW_DOUBT || row->state == ROW_HELD);

	if (!doubt || !o->serving || (m != NULL && m->state != MSG_LOADED)) {
		answer(call, ERR_STATE);
		return;
	}
	if (m != NULL)
		mem_forget(o, m);
	owner_errand(o, q, row, OWNER_DOUBT_DONE);
	answer(call, OK);
}

void
owner_verb_row(struct spool_owner *o, struct verb_call *call, const struct index_row *row)
{
	struct owner_queue *q;
	uint64_t hash;

	if (row == NULL) {
		answer(call, ERR_NOTFOUND);
		return;
	}
	hash = spool_queue_hash(row->binding, row->domain);
	if (!owner_has(o, hash)) {
		answer(call, ERR_STATE);
		return;
	}
	q = queue_get(o, hash, row->binding, row->domain);
	if (call->kind == OWNER_VERB_DONE)
		verb_done(o, call, q, row);
	else
		owner_edit(o, q, row, mem_find(o, row->id), action_of(call->kind), slice_str(call->reason), call);
}
