/* worker_main.c - the worker role: one loop on which mail comes in, passes policy, and goes out
 * The order of construction is the order of dependence, floor by floor; the end takes it down the other way round. A drain
 * goes with the mail: reception first, then delivery, and last the record that hands the queues on. */
#include <errno.h>
#include <stdlib.h>
#include <unistd.h>

#include "policy/conf/conf.h"
#include "shm/base/log.h"
#include "shm/base/mem.h"
#include "shm/shm_inbox.h"
#include "spool/spool.h"
#include "spool/spool_index.h"
#include "spool/spool_state.h"
#include "worker/ask.h"
#include "worker/delivery/delivery.h"
#include "worker/net/resolver.h"
#include "worker/reception/reception.h"
#include "worker/reception/reception_spool.h"
#include "worker/role.h"
#include "worker/role_base.h"
#include "worker/worker_policy.h"

enum {
	CONVICTED_FOR = 600, /* seconds for which a peer whose bytes have killed is refused */
	CONVICTING = 2,	     /* deaths that convict it */
};

struct worker {
	struct role_env *env;
	struct role_base base;
	struct index *index;
	struct state *state;
	struct spool *spool;
	struct ev_io spool_io, doorbell_io;
	struct resolver *resolver;
	struct worker_policy *policy;
	struct reception_spool *store;
	struct reception *reception;
	struct delivery *delivery;
	struct sockaddr_storage *own;
};

static struct worker worker;

static enum err
prepare(struct role_env *env)
{
	struct index_conf ix = { .path = "index",
		.map_size = (uint64_t)conf_int(conf_global(env->conf), OPT_INDEX_SIZE) };
	enum err e;

	/* The index is found by a path below the spool, now and after a rebuild. */
	if (fchdir(env->spool_dirfd) != 0) {
		log_errno(LOG_LVL_ERROR, "worker", "cannot enter the spool");
		return ERR_IO;
	}
	if ((e = index_open(&ix, &worker.index)) != OK || (e = state_open("state", false, &worker.state)) != OK)
		log_error("worker", "cannot open the index: %s", err_text(e));
	return e;
}

/* ---- spool */

static void
run_cold(void *arg, void (*job)(void *job_arg), void *job_arg)
{
	struct worker *w = arg;

	if (w->spool != NULL)
		spool_run_cold(w->spool, job, NULL, job_arg);
	else
		job(job_arg);
}

static void
on_spool(struct ev_io *io, uint32_t events, void *arg)
{
	struct worker *w = arg;

	(void)io;
	(void)events;
	spool_on_event(w->spool);
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
	struct spool_conf conf = { .dirfd = w->env->spool_dirfd, .slot = w->env->slot, .writer = w->env->writer,
		.generation = w->env->generation, .area = w->env->area,
		.segment_size = (uint64_t)conf_int(v, OPT_SEGMENT_SIZE),
		.free_min = (uint64_t)conf_int(v, OPT_SPOOL_FREE_MIN), .reserve = UINT64_C(8) << 20,
		.tail_max = UINT64_C(256) << 20 };
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
	return lives_peer_deaths(w->env->area, slice_str(text), loop_now(w->base.loop) - CONVICTED_FOR * USEC_PER_SEC) >=
	       CONVICTING;
}

static void
on_queued(void *arg, const struct reception_queued *q)
{
	(void)arg;
	(void)q;
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
	w->reception = reception_new(&(struct reception_env){ .loop = w->base.loop, .conf = env->conf,
		.policy = worker_policy_get(w->policy), .area = env->area, .limits = shm_area_limits(env->area),
		.slot = env->slot, .log = w->base.log, .store = reception_spool_store(w->store), .listeners = listeners,
		.nlisteners = env->nlisteners, .refused_peer = refused_peer, .arg = w });
	free(listeners);
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

static void
on_drain(void *arg, unsigned seconds)
{
	struct worker *w = arg;

	(void)seconds;
	reception_drain(w->reception);
	role_base_drained(&w->base);
}

static int
run(struct role_env *env)
{
	struct worker *w = &worker;

	w->env = env;
	w->base = (struct role_base){ .env = env, .on_drain = on_drain, .arg = w };
	role_base_open(&w->base, run_cold, w);
	if (fchdir(env->spool_dirfd) != 0)
		log_fatal("worker", "cannot enter the spool: %s", strerror(errno));
	open_spool(w);
	open_resolver(w);
	w->policy = worker_policy_new(env->conf, env->bundle, w->base.loop, w->resolver);
	if (w->policy == NULL)
		log_fatal("worker", "the scripts do not load");
	open_reception(w);
	role_base_serve(&w->base);
	loop_run(w->base.loop);
	return 0;
}

const struct role_ops worker_role = { .prepare = prepare, .run = run };
