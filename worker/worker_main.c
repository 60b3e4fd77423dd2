/* worker_main.c - the worker role: one loop on which mail comes in, passes policy, and goes out
 * The order of construction is the order of dependence, floor by floor; the end takes it down the other way round. A
 * drain goes with the mail: reception first, then delivery, and last the record that hands the queues on. */
#include <errno.h>
#include <stdlib.h>
#include <time.h>

#include "policy/conf/conf.h"
#include "shm/base/log.h"
#include "shm/base/mem.h"
#include "shm/shm_inbox.h"
#include "spool/spool.h"
#include "spool/spool_disk.h"
#include "spool/spool_index.h"
#include "spool/spool_owner.h"
#include "spool/spool_state.h"
#include "worker/ask.h"
#include "worker/delivery/delivery.h"
#include "worker/net/resolver.h"
#include "worker/reception/reception.h"
#include "worker/reception/reception_spool.h"
#include "worker/role.h"
#include "worker/role_base.h"
#include "worker/worker_ask.h"
#include "worker/worker_policy.h"

enum {
	CONVICTED_FOR = 600, /* seconds for which a peer whose bytes have killed is refused */
	CONVICTING = 2,      /* deaths that convict it */
	WEIGH_MS = 100,      /* between two looks at the own load */
};

#define LOG_WAIT (2 * USEC_PER_MS)

struct worker {
	struct role_env *env;
	struct role_base base;
	struct index *index;
	struct state *state;
	struct spool *spool;
	struct ev_io spool_io, doorbell_io;
	struct ev_later spool_later;
	struct resolver *resolver;
	struct worker_policy *policy;
	struct reception_spool *store;
	struct reception *reception;
	struct spool_owner *owner;
	struct ev_timer owner_timer;
	struct ev_timer log_timer; /* lines wait */
	void (*log_job)(void *job_arg);
	void *log_arg;
	struct delivery *delivery;
	struct sockaddr_storage *own; /* addresses of our listeners */
	bool trace;
	bool draining, received, handed_on, delivered; /* what of a drain is done */
	usec_t counted_at;
	usec_t weighed_at, used; /* when the load was last computed, and what the thread had used of a core by then */
	int64_t load;
};

static struct worker worker;

static enum err
prepare(struct role_env *env)
{
	return role_open_spool(env, &worker.index, &worker.state);
}

/* ---- spool */

static void
on_log_timer(void *arg)
{
	struct worker *w = arg;

	spool_run_cold(w->spool, w->log_job, NULL, w->log_arg);
}

/* Lines are written by the reading thread. The mail's wait a little for each other: to wake it for each would cost more
 * than all that it writes. */
static void
write_log(void *arg, bool urgent, void (*job)(void *job_arg), void *job_arg)
{
	struct worker *w = arg;

	if (w->spool == NULL) {
		job(job_arg);
	} else if (urgent) {
		spool_run_cold(w->spool, job, NULL, job_arg);
	} else {
		w->log_job = job;
		w->log_arg = job_arg;
		loop_timer_set(w->base.loop, &w->log_timer, loop_now(w->base.loop) + LOG_WAIT, on_log_timer, w);
	}
}

static void
on_spool(struct ev_io *io, uint32_t events, void *arg)
{
	struct worker *w = arg;

	(void)io;
	(void)events;
	spool_on_event(w->spool);
}

static void
on_spool_later(void *arg)
{
	spool_on_soon(((struct worker *)arg)->spool);
}

static void
on_spool_soon(void *arg)
{
	struct worker *w = arg;

	loop_later(w->base.loop, &w->spool_later, on_spool_later, w);
}

/* What must never be given out again; the files say the rest. */
static void
read_floors(struct worker *w, struct spool_conf *conf)
{
	struct index_meta meta;
	struct index_txn *t;

	if (index_begin(w->index, &t) != OK)
		return;
	if (index_meta(t, &meta) == OK) {
		conf->segment_floor = meta.highest_seg;
		conf->id_floor = meta.highest_id;
	}
	index_end(&t);
}

static void
open_spool(struct worker *w)
{
	const struct conf_view *v = conf_global(w->env->conf);
	struct spool_conf conf = { .dirfd = w->env->spool_dirfd,
				   .slot = w->env->slot,
				   .writer = w->env->writer,
				   .generation = w->env->generation,
				   .area = w->env->area,
				   .segment_size = (uint64_t)conf_int(v, OPT_SEGMENT_SIZE),
				   .free_min = (uint64_t)conf_int(v, OPT_SPOOL_FREE_MIN),
				   .reserve = DISK_RESERVE,
				   .tail_max = (uint64_t)conf_int(v, OPT_INDEX_LAG_MAX),
				   .soon = on_spool_soon,
				   .soon_arg = w };
	enum err why = OK;

	read_floors(w, &conf);
	w->spool = spool_open(&conf, &why);
	if (w->spool == NULL)
		log_fatal("worker", "cannot open the spool: %s (%s)", err_text(why), strerror(errno));
	loop_io_add(w->base.loop, &w->spool_io, spool_event_fd(w->spool), EPOLLIN, on_spool, w);
}

/* ---- reception */

/* A peer whose bytes have ended two processes by their own fault is kept out for a while. */
static bool
refused_peer(void *arg, const struct sockaddr *peer)
{
	struct worker *w = arg;
	struct sockaddr_storage addr = { 0 };
	char text[64];

	memcpy(&addr, peer, peer->sa_family == AF_INET ? sizeof(struct sockaddr_in) : sizeof(struct sockaddr_in6));
	policy_addr_text(&addr, false, text);
	return lives_peer_deaths(w->env->area, slice_str(text),
				 loop_now(w->base.loop) - CONVICTED_FOR * USEC_PER_SEC) >= CONVICTING;
}

static void
trace(void *arg, uint64_t id, const char *event, struct slice text)
{
	char id_word[ID_TEXT];

	(void)arg;
	id_text(id, id_word);
	log_info("trace", "%s %s %.*s", id_word, event, (int)text.n, text.p);
}

static void
on_queued(void *arg, const struct reception_queued *q)
{
	struct worker *w = arg;

	if (w->trace)
		trace(w, q->id, "on disk", SLICE(""));
	owner_tell(w->owner, &(struct owner_news){ .id = q->id,
						   .place = q->place,
						   .item = q->item,
						   .priority = q->priority,
						   .due = q->due,
						   .received_at = q->received_at,
						   .binding = q->binding,
						   .domain = q->domain });
}

static void
on_made(void *arg, const struct delivery_made *m)
{
	struct worker *w = arg;

	owner_tell(w->owner, &(struct owner_news){ .id = m->id,
						   .place = m->place,
						   .item = m->item,
						   .priority = m->priority,
						   .due = m->due,
						   .received_at = m->received_at,
						   .binding = m->binding,
						   .domain = m->domain });
}

/* ---- the end: a drain is done when nothing comes in, nothing is in work, and the queues are handed on */

static void
check_drained(struct worker *w)
{
	if (w->draining && w->received && w->handed_on && w->delivered && !w->base.ending)
		role_base_drained(&w->base);
}

static void
on_received(void *arg)
{
	struct worker *w = arg;

	w->received = true;
	check_drained(w);
}

static void
on_delivered(void *arg)
{
	struct worker *w = arg;

	w->delivered = true;
	check_drained(w);
}

static void
on_handed_on(void *arg)
{
	struct worker *w = arg;

	w->handed_on = true;
	check_drained(w);
}

/* The queues are handed on at once: whoever owns them next need not wait for our slowest client. */
static void
on_drain(void *arg, unsigned seconds)
{
	struct worker *w = arg;

	(void)seconds;
	w->draining = true;
	reception_drain(w->reception);
	delivery_drain(w->delivery);
	owner_drain(w->owner, on_handed_on, w);
	w->delivered = w->delivered || delivery_idle(w->delivery);
	w->received = w->received || reception_sessions(w->reception) == 0;
	check_drained(w);
}

static void
on_stop(void *arg)
{
	struct worker *w = arg;

	reception_stop(w->reception);
	loop_stop(w->base.loop);
}

/* ---- owner */

static void
ignore_reply(void *arg, enum err status, struct slice payload, bool more)
{
	(void)arg;
	(void)status;
	(void)payload;
	(void)more;
}

static void
commit_please(void *arg)
{
	struct worker *w = arg;

	/* Lost is fine: the keeper commits by itself soon. */
	(void)req_ask(w->base.channel, REQ_KEEPER_COMMIT, REQ_TO_KEEPER, SLICE(""), ignore_reply, w);
}

static void on_owner_timer(void *arg);

static void
run_owner(struct worker *w)
{
	usec_t next;

	owner_run(w->owner);
	next = owner_next(w->owner);
	if (next == INT64_MAX)
		loop_timer_stop(w->base.loop, &w->owner_timer);
	else
		loop_timer_set(w->base.loop, &w->owner_timer, next > 0 ? next : 1, on_owner_timer, w);
}

/* The work is done by the end of every turn; the timer only makes one. */
static void
on_owner_timer(void *arg)
{
	(void)arg;
}

static void
on_doorbell(struct ev_io *io, uint32_t events, void *arg)
{
	struct worker *w = arg;

	(void)io;
	(void)events;
	owner_on_doorbell(w->owner);
}

/* What others count for themselves is told to the slot now and then. */
static void
tell_slot(struct worker *w)
{
	struct shm_slot *slot = shm_slot(w->env->area, w->env->slot);
	struct resolver_stats dns;
	struct owner_counts n;

	owner_counts(w->owner, &n);
	slot_set(slot, CELL_QUEUES, n.queues);
	slot_set(slot, CELL_MESSAGES_ACTIVE, n.loaded + n.taken);
	slot_set(slot, CELL_MESSAGES_IN_WORK, n.taken);
	slot_set(slot, CELL_MESSAGES_LENT, n.lent);
	resolver_stats(w->resolver, &dns);
	slot_set(slot, CELL_DNS_QUERIES, (int64_t)dns.sent);
	slot_set(slot, CELL_DNS_FROM_CACHE, (int64_t)dns.hits);
	worker_policy_tell_slot(w->policy, slot);
}

/* What share of a core the loop uses: by its own clock, since to be ready to run and not to get a core is no work. Owners
 * lend by it. */
static void
weigh(struct worker *w)
{
	usec_t now = loop_now(w->base.loop), past = now - w->weighed_at, used;
	struct timespec t;

	if (past < WEIGH_MS * USEC_PER_MS || clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t) != 0)
		return;
	used = t.tv_sec * USEC_PER_SEC + t.tv_nsec / 1000;
	w->load = (w->load + (used - w->used) * 1000 / past) / 2;
	w->weighed_at = now;
	w->used = used;
	slot_set(shm_slot(w->env->area, w->env->slot), CELL_LOOP_LOAD, w->load);
}

static void
on_turn(void *arg)
{
	struct worker *w = arg;

	weigh(w);
	run_owner(w);
	if (loop_now(w->base.loop) - w->counted_at < USEC_PER_SEC)
		return;
	w->counted_at = loop_now(w->base.loop);
	tell_slot(w);
}

static void
tell_suspension(void *arg, struct slice name, const struct state_binding *b)
{
	owner_suspend(arg, name, b->suspension);
}

static void
open_owner(struct worker *w)
{
	w->owner = owner_new(&(struct owner_env){ .area = w->env->area,
						  .slot = w->env->slot,
						  .writer = w->env->writer,
						  .generation = w->env->generation,
						  .spool = w->spool,
						  .index = w->index,
						  .commit_please = commit_please,
						  .arg = w });
	if (state_binding_each(w->state, tell_suspension, w->owner) != OK)
		log_debug("worker", "no binding was ever suspended");
	loop_io_add(w->base.loop, &w->doorbell_io, doorbell_fd(w->env->area, w->env->slot), EPOLLIN, on_doorbell, w);
	loop_on_turn(w->base.loop, on_turn, w);
}

static void
open_delivery(struct worker *w)
{
	struct role_env *env = w->env;

	w->own = mem_array(NULL, env->nlisteners, sizeof *w->own);
	for (unsigned i = 0; i < env->nlisteners; i++)
		w->own[i] = env->listeners[i].addr;
	w->delivery = delivery_new(&(struct delivery_env){ .loop = w->base.loop,
							   .conf = env->conf,
							   .spool = w->spool,
							   .owner = w->owner,
							   .resolver = w->resolver,
							   .policy = worker_policy_get(w->policy),
							   .log = w->base.log,
							   .area = env->area,
							   .limits = shm_area_limits(env->area),
							   .slot = env->slot,
							   .workers = env->workers,
							   .own = w->own,
							   .own_n = env->nlisteners,
							   .made = on_made,
							   .drained = on_delivered,
							   .arg = w,
							   .trace = w->trace ? trace : NULL,
							   .trace_arg = w });
}

static void
open_reception(struct worker *w)
{
	struct role_env *env = w->env;
	struct reception_listener *listeners = mem_array(NULL, env->nlisteners, sizeof *listeners);

	for (unsigned i = 0; i < env->nlisteners; i++)
		listeners[i] = (struct reception_listener){ .fd = env->listeners[i].fd,
							    .conf_index = (unsigned)env->listeners[i].index };
	w->store = reception_spool_new(w->spool, on_queued, w);
	w->reception = reception_new(&(struct reception_env){ .loop = w->base.loop,
							      .conf = env->conf,
							      .policy = worker_policy_get(w->policy),
							      .area = env->area,
							      .limits = shm_area_limits(env->area),
							      .slot = env->slot,
							      .log = w->base.log,
							      .store = reception_spool_store(w->store),
							      .listeners = listeners,
							      .nlisteners = env->nlisteners,
							      .refused_peer = refused_peer,
							      .drained = on_received,
							      .arg = w });
	free(listeners);
}

/* ---- requests */

struct verb_asked {
	struct worker *worker;
	struct req_head question;
};

static void
on_verb_done(void *arg, enum err e)
{
	struct verb_asked *v = arg;
	struct slice text = e == ERR_STATE
				    ? SLICE("not possible in its present state, or just handed to another worker: "
					    "look again")
			    : e == ERR_NOTFOUND ? SLICE("no such message is queued any more")
						: slice_str(e == OK ? "" : err_text(e));

	(void)req_answer(v->worker->base.channel, &v->question, e, text, false);
	free(v);
}

/* A failure without a notice ends a message as discarding does: the ledger says so. */
static enum owner_verb_kind
verb_kind(enum ask_verb verb)
{
	static const enum owner_verb_kind kinds[ASK_VERB_MAX] = {
		[ASK_RETRY] = OWNER_VERB_RETRY, [ASK_FAIL] = OWNER_VERB_FAIL, [ASK_FAIL_QUIET] = OWNER_VERB_DROP,
		[ASK_DROP] = OWNER_VERB_DROP,   [ASK_HOLD] = OWNER_VERB_HOLD, [ASK_RELEASE] = OWNER_VERB_RELEASE,
		[ASK_DONE] = OWNER_VERB_DONE
	};

	return kinds[verb];
}

static void
on_edit(struct worker *w, struct req_channel *c, const struct req_msg *m)
{
	struct verb_asked *v;
	struct ask_edit e;

	if (ask_edit_decode(m->payload, &e) != OK) {
		(void)req_answer(c, &m->head, ERR_SYNTAX, SLICE("not understood"), false);
		return;
	}
	v = mem_zalloc(sizeof *v);
	v->worker = w;
	v->question = m->head;
	owner_verb(w->owner,
		   &(struct owner_verb){ .kind = verb_kind(e.verb),
					 .id_lo = e.id_lo,
					 .id_hi = e.id_hi,
					 .binding = e.binding,
					 .domain = e.domain,
					 .reason = e.reason },
		   on_verb_done, v);
}

static void
on_binding_changed(struct worker *w, struct slice payload)
{
	struct ask_binding ask;

	if (ask_binding_decode(payload, &ask) == OK && ask.suspension <= STATE_RESUMED)
		owner_suspend(w->owner, ask.name, ask.suspension);
}

static void
on_request(void *arg, struct req_channel *c, struct req_msg *m)
{
	struct worker *w = arg;
	uint64_t id;

	switch (m->head.type) {
	case REQ_WORKER_EDIT:
		on_edit(w, c, m);
		break;
	case REQ_WORKER_ASK:
		worker_asked(&(struct worker_knows){ .owner = w->owner,
						     .delivery = w->delivery,
						     .resolver = w->resolver,
						     .loop = w->base.loop },
			     c, m);
		break;
	case REQ_WORKER_DUE:
		if (take_u64(&m->payload, &id))
			owner_due(w->owner, id);
		break;
	case REQ_BINDING_CHANGED:
		on_binding_changed(w, m->payload);
		break;
	case REQ_LIFE_ENDED:
		owner_on_life(w->owner);
		owner_on_doorbell(w->owner);
		break;
	default:
		break;
	}
}

static void
open_resolver(struct worker *w)
{
	struct resolver_conf conf;
	unsigned unread = resolver_conf_parse(slice_str(w->env->resolver), &conf);

	if (unread > 0)
		log_warn("worker", "%u lines of the resolver file were not understood", unread);
	w->resolver = resolver_new(w->base.loop, &conf);
	if (w->resolver == NULL)
		log_fatal("worker", "cannot start the resolver: %s", strerror(errno));
}

/* Top down: who uses goes before what is used. */
static void
close_all(struct worker *w)
{
	reception_free(&w->reception);
	delivery_free(&w->delivery);
	worker_policy_free(&w->policy);
	resolver_free(&w->resolver);
	loop_timer_stop(w->base.loop, &w->log_timer);
	loop_io_del(w->base.loop, &w->spool_io);
	loop_later_cancel(w->base.loop, &w->spool_later);
	spool_close(&w->spool);
	reception_spool_free(&w->store);
	owner_free(&w->owner);
	index_close(&w->index);
	state_close(&w->state);
	free(w->own);
}

static int
run(struct role_env *env)
{
	struct worker *w = &worker;

	if (role_enter_spool(env) != OK)
		return 1;
	w->env = env;
	w->base = (struct role_base){
		.env = env, .on_drain = on_drain, .on_stop = on_stop, .on_request = on_request, .arg = w
	};
	w->trace = conf_bool(conf_global(env->conf), OPT_TRACE);
	role_base_open(&w->base, write_log, w);
	open_spool(w);
	open_resolver(w);
	w->policy = worker_policy_new(env->conf, env->bundle, w->base.loop, w->resolver);
	if (w->policy == NULL)
		log_fatal("worker", "the scripts do not load");
	open_owner(w);
	open_delivery(w);
	open_reception(w);
	role_base_serve(&w->base);
	loop_run(w->base.loop);
	tell_slot(w);
	/* Stopped in the middle of work: what is under way is left as a death would leave it. */
	if (w->delivered && w->received)
		close_all(w);
	role_base_close(&w->base);
	return 0;
}

const struct role_ops worker_role = { .prepare = prepare, .run = run };
