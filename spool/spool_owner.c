/* The messages in memory, and what delivery does with them. */
#include "spool/spool_owner_int.h"

#include <stdlib.h>

#include "shm/base/log.h"
#include "shm/base/mem.h"

#define MS(n) ((n)*USEC_PER_MS)

enum { QUEUE_IDLE_S = 60, SHOWN_A_TURN = 64, SWEEP_S = 5 };

static const usec_t HANDS_FOR = 30 * USEC_PER_SEC; /* who borrowed counts so long: connections come and go slowly */

static int
order(uint64_t a, uint64_t b)
{
	return a < b ? -1 : a > b;
}

static int
mem_order(const struct owner_mem *a, const struct owner_mem *b)
{
	return order(a->msg.id, b->msg.id);
}

static int
queue_order(const struct owner_queue *a, const struct owner_queue *b)
{
	return order(a->hash, b->hash);
}

static int
seg_order(const struct owner_seg *a, const struct owner_seg *b)
{
	return order(a->number, b->number);
}

RB_GENERATE_INTERNAL(owner_mems, owner_mem, by_id, mem_order, __attribute__((unused)) static)
RB_GENERATE_INTERNAL(owner_queues, owner_queue, by_hash, queue_order, __attribute__((unused)) static)
RB_GENERATE_INTERNAL(owner_segs, owner_seg, by_number, seg_order, __attribute__((unused)) static)

static struct owner_mem *
of_msg(struct owner_msg *m)
{
	return (struct owner_mem *)((char *)m - offsetof(struct owner_mem, msg));
}

static struct owner_queue *
queue_of_sched(struct sched_queue *q)
{
	return (struct owner_queue *)((char *)q - offsetof(struct owner_queue, sched));
}

/* ---- segments that something depends on */

struct owner_seg *
seg_get(struct spool_owner *o, uint32_t number)
{
	struct owner_seg want = { .number = number }, *s = RB_FIND(owner_segs, &o->segs, &want);

	if (s == NULL) {
		s = mem_zalloc(sizeof *s);
		s->number = number;
		TAILQ_INIT(&s->past);
		RB_INSERT(owner_segs, &o->segs, s);
	}
	s->idle = 0;
	return s;
}

bool
seg_passed(const struct spool_owner *o, const struct owner_seg *seg, struct place place, usec_t at)
{
	if (!seg->read || o->rebuilding)
		return false;
	if (seg->found)
		return seg->over || place.off < seg->folded;
	/* Every file that stood at the last scan is in the map: so it came and went before. */
	return at < o->scanned_map;
}

/* ---- queues */

struct owner_queue *
queue_find(struct spool_owner *o, uint64_t hash)
{
	struct owner_queue want = { .hash = hash };

	return RB_FIND(owner_queues, &o->queues, &want);
}

static enum state_suspension
suspension_of(const struct spool_owner *o, const char *binding)
{
	const struct suspension *s;

	TAILQ_FOREACH (s, &o->suspensions, link)
		if (strcmp(s->binding, binding) == 0)
			return s->how;
	return STATE_CONFIGURED;
}

void
queue_suspend(struct owner_queue *q)
{
	struct spool_owner *o = q->o;
	bool is = true;

	if (q->binding != NULL) {
		enum state_suspension how = suspension_of(o, q->binding);
		is = how == STATE_SUSPENDED || (how == STATE_CONFIGURED && o->serving && o->ops.suspended != NULL &&
						o->ops.suspended(o->ops_arg, q));
	}
	sched_suspend(&o->sched, &q->sched, is);
	if (is && q->binding != NULL && owner_queue_borrowed(q))
		borrow_give_up(q);
}

struct owner_queue *
queue_get(struct spool_owner *o, uint64_t hash, struct slice binding, struct slice domain)
{
	struct owner_queue *q = queue_find(o, hash);

	if (q == NULL) {
		q = mem_zalloc(sizeof *q);
		q->o = o;
		q->hash = hash;
		q->cursor = index_queue_first(hash);
		q->idle_since = clock_mono();
		sched_queue_init(&q->sched);
		q->sched.suspended = true;
		RB_INSERT(owner_queues, &o->queues, q);
		o->n_queues++;
	}
	if (q->binding == NULL && domain.p != NULL) {
		q->binding = slice_dup(binding);
		q->domain = slice_dup(domain);
		q->peeking = false;
		queue_suspend(q);
	}
	return q;
}

static void
queue_free(struct spool_owner *o, struct owner_queue *q)
{
	RB_REMOVE(owner_queues, &o->queues, q);
	queue_due(q, false);
	if (o->hot == q)
		o->hot = NULL;
	o->n_queues--;
	sched_queue_fini(&o->sched, &q->sched);
	free(q->binding);
	free(q->domain);
	free(q);
}

bool
owner_has(const struct spool_owner *o, uint64_t hash)
{
	return o->adopted && !o->draining && o->assigned[hash % PARTITIONS];
}

bool
queue_window_full(const struct owner_queue *q)
{
	return q->sched.n_ready >= OWNER_WINDOW || q->o->n_loaded >= OWNER_LOADED;
}

/* Queues that nothing is known of any more, once in a while. */
static void
sweep_queues(struct spool_owner *o, usec_t now)
{
	struct owner_queue *q, *next;

	if (now - o->swept < SWEEP_S * USEC_PER_SEC)
		return;
	o->swept = now;
	for (q = RB_MIN(owner_queues, &o->queues); q != NULL; q = next) {
		next = RB_NEXT(owner_queues, &o->queues, q);
		if (q->mems > 0 || q->asked || q->peeking || q->errands > 0 || q->sched.wait_until != 0)
			q->idle_since = now;
		if (now - q->idle_since < QUEUE_IDLE_S * USEC_PER_SEC)
			continue;
		if (o->serving && o->ops.queue_idle != NULL && !o->ops.queue_idle(o->ops_arg, q))
			continue;
		if (o->serving || q->role == NULL)
			queue_free(o, q);
	}
}

/* ---- messages */

struct owner_mem *
mem_find(struct spool_owner *o, msgid_t id)
{
	struct owner_mem want = { .msg.id = id };

	return RB_FIND(owner_mems, &o->mems, &want);
}

struct owner_mem *
mem_new(struct spool_owner *o, struct owner_queue *q, msgid_t id, struct place place, uint16_t item)
{
	struct owner_mem *m = mem_zalloc(sizeof *m);

	m->msg = (struct owner_msg){ .id = id, .place = place, .item = item, .received_at = id_time(id), .queue = q };
	m->sched.id = id;
	m->state = MSG_EDITING;
	require_that(RB_INSERT(owner_mems, &o->mems, m) == NULL, "owner");
	q->mems++;
	return m;
}

void
mem_no_longer_past(struct spool_owner *o, struct owner_mem *m)
{
	if (m->seg == NULL)
		return;
	TAILQ_REMOVE(&m->seg->past, m, past);
	m->seg = NULL;
	o->n_past--;
}

/* Into the schedule, due then. */
void
mem_load(struct spool_owner *o, struct owner_mem *m, usec_t due)
{
	m->msg.due = m->sched.due = due;
	m->sched.priority = m->msg.priority;
	if (m->seg == NULL)
		m->state = MSG_LOADED;
	o->n_loaded++;
	sched_add(&o->sched, &m->msg.queue->sched, &m->sched, clock_real());
}

/* Out of the schedule, also when it is taken. */
void
mem_unload(struct spool_owner *o, struct owner_mem *m)
{
	if (m->sched.at == SCHED_READY || m->sched.at == SCHED_WAITING)
		o->n_loaded--;
	else if (m->sched.at == SCHED_TAKEN)
		o->n_taken--;
	sched_remove(&o->sched, &m->sched);
}

void
mem_forget(struct spool_owner *o, struct owner_mem *m)
{
	mem_unload(o, m);
	mem_no_longer_past(o, m);
	loan_end(o, m);
	m->msg.queue->mems--;
	if (m->errand)
		m->msg.queue->errands--;
	RB_REMOVE(owner_mems, &o->mems, m);
	free(m->edit_reason);
	free(m);
}

/* The last thing said about it stands at `fact`: remembered until the map knows. */
void
mem_past(struct spool_owner *o, struct owner_mem *m, struct place fact)
{
	mem_no_longer_past(o, m);
	m->state = MSG_PAST;
	m->fact = fact;
	m->fact_at = clock_mono();
	m->seg = seg_get(o, fact.seg);
	TAILQ_INSERT_TAIL(&m->seg->past, m, past);
	o->n_past++;
	if (m->errand) {
		m->errand = false;
		m->msg.queue->errands--;
	}
}

/* ---- delivery */

void
owner_set_ops(struct spool_owner *o, const struct owner_ops *ops, void *arg)
{
	o->serving = ops != NULL;
	o->ops = ops == NULL ? (struct owner_ops){ .queue_ready = NULL } : *ops;
	o->ops_arg = arg;
	if (o->serving)
		owner_reconf(o);
}

size_t
owner_take(struct owner_queue *q, size_t max, struct owner_msg **out)
{
	struct spool_owner *o = q->o;
	struct sched_msg *s;
	size_t n = 0;

	while (n < max && !o->draining && (s = sched_take(&o->sched, &q->sched)) != NULL) {
		struct owner_mem *m = mem_of_sched(s);

		mem_no_longer_past(o, m); /* what is in hand is remembered anyway */
		m->state = MSG_TAKEN;
		m->msg.role = NULL;
		o->n_loaded--;
		o->n_taken++;
		out[n++] = &m->msg;
	}
	return n;
}

bool
owner_may_write(struct owner_msg *msg)
{
	struct owner_mem *m = of_msg(msg);

	if (m->state == MSG_OPEN)
		return true;
	if (m->revoked || msg->queue->o->draining)
		return false;
	m->state = MSG_OPEN;
	m->said = false;
	msg->queue->o->unsaid++;
	if (m->loan != NULL)
		m->loan->with->unsaid++;
	return true;
}

void
mem_said(struct spool_owner *o, struct owner_mem *m)
{
	if (m->said)
		return;
	m->said = true;
	o->unsaid--;
	if (m->loan != NULL)
		m->loan->with->unsaid--;
}

void
owner_attempted(struct owner_msg *msg, struct place place)
{
	(void)place;
	require_that(of_msg(msg)->state == MSG_OPEN, "owner");
	mem_said(msg->queue->o, of_msg(msg));
}

void
owner_done(struct owner_msg *msg, enum outcome_kind kind, usec_t next_due, struct place place)
{
	struct owner_mem *m = of_msg(msg);
	struct spool_owner *o = msg->queue->o;

	require_that(m->state == MSG_OPEN, "owner");
	mem_said(o, m);
	mem_unload(o, m);
	msg->role = NULL;
	if (m->loan != NULL)
		borrow_done(o, m, kind, next_due, place);
	else
		mem_done(o, m, kind, next_due, place);
}

/* An edit that was written meanwhile may stand in another journal than the outcome: both have to be known. */
void
mem_done(struct spool_owner *o, struct owner_mem *m, enum outcome_kind kind, usec_t next_due, struct place place)
{
	if (!m->done_errand)
		m->msg.tries++;
	m->msg.doubtful = false;
	if (m->edit != 0 && m->writing == 0)
		m->second = m->fact;
	m->fact_edit = false;
	mem_past(o, m, place);
	if (m->writing > 0)
		m->state = MSG_EDITING; /* its edit comes behind */
	else if (kind == OUTCOME_DEFERRED && !m->revoked && !o->draining)
		mem_load(o, m, next_due);
	if (kind == OUTCOME_DOUBTFUL)
		o->news = true; /* the map says what in_doubt makes of it */
}

void
owner_release(struct owner_msg *msg, usec_t not_before)
{
	struct owner_mem *m = of_msg(msg);
	struct owner_queue *q = msg->queue;
	struct spool_owner *o = q->o;
	usec_t now = clock_real();

	require_that(m->state == MSG_TAKEN, "owner");
	msg->role = NULL;
	if (m->loan != NULL) {
		borrow_back(o, m, not_before, q->sched.wait_until != 0);
	} else if (m->writing > 0) {
		mem_unload(o, m);
		m->state = MSG_EDITING;
	} else if (m->revoked && m->fact.seg != 0) {
		mem_unload(o, m);
		mem_past(o, m, m->fact);
	} else if (m->errand || o->draining || m->revoked) {
		q->missed = true;
		if (m->errand && not_before > q->errand_after)
			q->errand_after = not_before;
		mem_forget(o, m);
	} else {
		o->n_taken--;
		o->n_loaded++;
		m->state = MSG_LOADED;
		sched_put_back(&o->sched, &m->sched, not_before, now);
		msg->due = m->sched.due;
	}
}

void
owner_lost(struct owner_msg *msg)
{
	struct owner_mem *m = of_msg(msg);
	struct owner_queue *q = msg->queue;
	struct want lost = { .what = WANT_LOST, .id = msg->id, .place = msg->place };

	require_that(m->state == MSG_TAKEN, "owner");
	q->missed = true;
	msg->role = NULL;
	if (m->loan != NULL) {
		borrow_lost(q->o, m);
		return;
	}
	owner_want(q->o, &lost);
	if (m->writing > 0) {
		mem_unload(q->o, m);
		m->state = MSG_EDITING;
		return;
	}
	mem_forget(q->o, m);
}

/* ---- a queue, as delivery sees it */

struct slice
owner_queue_binding(const struct owner_queue *q)
{
	return slice_str(q->binding);
}

struct slice
owner_queue_domain(const struct owner_queue *q)
{
	return slice_str(q->domain);
}

uint64_t
owner_queue_hash(const struct owner_queue *q)
{
	return q->hash;
}

size_t
owner_queue_ready(const struct owner_queue *q)
{
	return q->sched.suspended || q->o->draining ? 0 : q->sched.n_ready;
}

bool
owner_queue_borrowed(const struct owner_queue *q)
{
	return !q->o->assigned[q->hash % PARTITIONS];
}

unsigned
owner_queue_hands(const struct owner_queue *q)
{
	const struct partner *p;
	unsigned n = 1;

	if (q->lent == 0 && (q->lent_at == 0 || q->o->turn_at - q->lent_at >= HANDS_FOR))
		return 1;
	TAILQ_FOREACH (p, &q->o->partners, link)
		n += p->n_lent > 0 || (p->lent_at != 0 && q->o->turn_at - p->lent_at < HANDS_FOR);
	return n;
}

size_t
owner_queue_taken(const struct owner_queue *q)
{
	return q->sched.n_taken;
}

bool
owner_queue_suspended(const struct owner_queue *q)
{
	return q->sched.suspended;
}

void
owner_queue_set_role(struct owner_queue *q, void *role)
{
	q->role = role;
}

void *
owner_queue_role(const struct owner_queue *q)
{
	return q->role;
}

void
owner_kick(struct owner_queue *q)
{
	sched_kick(&q->o->sched, &q->sched);
}

void
owner_wait(struct owner_queue *q, usec_t until_mono)
{
	sched_wait(&q->o->sched, &q->sched, until_mono);
	if (until_mono != 0 && owner_queue_borrowed(q))
		borrow_give_up(q);
}

void
owner_room(struct spool_owner *o)
{
	sched_room(&o->sched);
}

/* ---- what is suspended */

void
owner_reconf(struct spool_owner *o)
{
	struct owner_queue *q;

	RB_FOREACH (q, owner_queues, &o->queues)
		queue_suspend(q);
}

void
owner_suspend(struct spool_owner *o, struct slice binding, enum state_suspension how)
{
	struct suspension *s;

	TAILQ_FOREACH (s, &o->suspensions, link)
		if (slice_eq(slice_str(s->binding), binding))
			break;
	if (s == NULL) {
		s = mem_zalloc(sizeof *s);
		s->binding = slice_dup(binding);
		TAILQ_INSERT_TAIL(&o->suspensions, s, link);
	}
	s->how = how;
	owner_reconf(o);
}

/* ---- the turn */

static void
show_queues(struct spool_owner *o)
{
	struct sched_queue *s;

	if (!o->serving || o->draining)
		return;
	for (int i = 0; i < SHOWN_A_TURN && (s = sched_show(&o->sched)) != NULL; i++) {
		if (o->ops.queue_ready(o->ops_arg, queue_of_sched(s)) == OWNER_FULL)
			sched_full(&o->sched, s);
		if (s->n_ready >= o->lend.ready && !owner_queue_borrowed(queue_of_sched(s)))
			o->hot = queue_of_sched(s);
	}
}

static void
ring_bells(struct spool_owner *o)
{
	for (int slot = 0; o->bells != 0; slot++, o->bells >>= 1)
		if ((o->bells & 1) != 0)
			doorbell_ring(o->env.area, slot);
}

/* The table says which partitions are ours; that they were once is not enough to keep them (owner_drain). */
static void
read_table(struct spool_owner *o)
{
	struct partition_table table;
	uint32_t version = partitions_version(o->env.area);

	if (version == o->table_version || o->draining)
		return;
	partitions_read(o->env.area, &table);
	o->table_version = version;
	o->news = true;
	if (table.generation != o->env.generation)
		return;
	for (unsigned p = 0; p < PARTITIONS; p++)
		o->assigned[p] = table.owner[p] == o->env.slot;
}

void
owner_run(struct spool_owner *o)
{
	usec_t now = clock_mono();

	o->turn_at = now;
	read_table(o);
	sched_turn(&o->sched, clock_real(), now);
	show_queues(o);
	owner_lend(o, now);
	owner_hand(o, now);
	owner_look_around(o, now);
	sweep_queues(o, now);
	ring_bells(o);
}

usec_t
owner_next(struct spool_owner *o)
{
	usec_t now = clock_mono(), look = owner_look_next(o, now);
	usec_t next = o->serving && !o->draining ? sched_next(&o->sched, clock_real(), now) : INT64_MAX;

	if (o->bells != 0)
		return now;
	return look < next ? look : next;
}

/* ---- life */

struct spool_owner *
owner_new(const struct owner_env *env)
{
	struct spool_owner *o = mem_zalloc(sizeof *o);

	o->env = *env;
	o->world = env->world == NULL ? &owner_world_spool : env->world;
	sched_init(&o->sched);
	RB_INIT(&o->mems);
	RB_INIT(&o->queues);
	RB_INIT(&o->segs);
	TAILQ_INIT(&o->due);
	TAILQ_INIT(&o->wants);
	TAILQ_INIT(&o->ranges);
	STAILQ_INIT(&o->map_ranges);
	TAILQ_INIT(&o->suspensions);
	TAILQ_INIT(&o->partners);
	o->lend = (struct lend_policy){ .busy = 500, .gap = 100, .ready = 100, .keep = 50, .most = 64 };
	o->born = clock_mono();
	o->next_wake = INT64_MAX;
	o->news = true;
	return o;
}

static void
free_segs(struct spool_owner *o)
{
	struct owner_seg *s;

	while ((s = RB_MIN(owner_segs, &o->segs)) != NULL) {
		RB_REMOVE(owner_segs, &o->segs, s);
		free(s);
	}
}

void
owner_free(struct spool_owner **op)
{
	struct spool_owner *o = *op;
	struct owner_mem *m;
	struct owner_queue *q;
	struct suspension *s;
	struct partner *p;
	struct want *w;

	if (o == NULL)
		return;
	while ((m = RB_MIN(owner_mems, &o->mems)) != NULL)
		mem_forget(o, m);
	while ((q = RB_MIN(owner_queues, &o->queues)) != NULL)
		queue_free(o, q);
	while ((p = TAILQ_FIRST(&o->partners)) != NULL) {
		TAILQ_REMOVE(&o->partners, p, link);
		free(p);
	}
	free_segs(o);
	while ((w = TAILQ_FIRST(&o->wants)) != NULL) {
		TAILQ_REMOVE(&o->wants, w, link);
		if (w->verb != NULL)
			owner_verb_fail(w->verb, ERR_EOF);
		free(w);
	}
	while ((s = TAILQ_FIRST(&o->suspensions)) != NULL) {
		TAILQ_REMOVE(&o->suspensions, s, link);
		free(s->binding);
		free(s);
	}
	owner_ranges_free(o);
	map_ranges_free(&o->map_ranges);
	free(o);
	*op = NULL;
}

/* Segments that nothing has asked about for some looks. */
void
segs_sweep(struct spool_owner *o)
{
	struct owner_seg *s, *next;

	for (s = RB_MIN(owner_segs, &o->segs); s != NULL; s = next) {
		next = RB_NEXT(owner_segs, &o->segs, s);
		if (!TAILQ_EMPTY(&s->past) || s->ranges > 0 || ++s->idle < 50)
			continue;
		RB_REMOVE(owner_segs, &o->segs, s);
		free(s);
	}
}

struct owner_seg *
segs_next(struct spool_owner *o, struct owner_seg *s)
{
	return s == NULL ? RB_MIN(owner_segs, &o->segs) : RB_NEXT(owner_segs, &o->segs, s);
}

struct owner_queue *
queues_next(struct spool_owner *o, struct owner_queue *q)
{
	return q == NULL ? RB_MIN(owner_queues, &o->queues) : RB_NEXT(owner_queues, &o->queues, q);
}

struct owner_mem *
mems_next(struct spool_owner *o, struct owner_mem *m)
{
	return m == NULL ? RB_MIN(owner_mems, &o->mems) : RB_NEXT(owner_mems, &o->mems, m);
}

void
owner_counts(const struct spool_owner *o, struct owner_counts *out)
{
	uint32_t mine = 0;

	for (unsigned p = 0; p < PARTITIONS; p++)
		mine += o->assigned[p];
	*out = (struct owner_counts){ .partitions = o->adopted ? mine : 0,
				      .waiting = o->adopted ? 0 : mine,
				      .queues = (uint32_t)o->n_queues,
				      .loaded = (uint32_t)o->n_loaded,
				      .taken = (uint32_t)o->n_taken,
				      .remembered = (uint32_t)o->n_past,
				      .lent = (uint32_t)o->n_lent };
}

void
owner_each_queue(struct spool_owner *o, void (*fn)(void *arg, struct owner_queue *q), void *arg)
{
	struct owner_queue *q;

	RB_FOREACH (q, owner_queues, &o->queues)
		if (q->binding != NULL)
			fn(arg, q);
}
