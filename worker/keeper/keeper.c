#include "worker/keeper/keeper.h"

#include "policy/conf/conf.h"
#include "shm/base/log.h"
#include "shm/shm_inbox.h"
#include "spool/spool_disk.h"
#include "worker/ask.h"
#include "worker/keeper/keeper_int.h"

enum { SPARES = 4 };

static struct keeper_role_state role;

/* ---- turns ---- */

static void
answer_waiters(struct keeper_role_state *r)
{
	unsigned kept = 0;

	for (unsigned i = 0; i < r->waiting; i++) {
		struct waiter w = r->waiters[i];

		if (!keeper_answered(r->engine, w.serial))
			r->waiters[kept++] = w;
		else if (req_answer(r->base.channel, &w.question, OK, SLICE(""), false) != OK)
			log_debug("keeper", "an answer was lost");
	}
	r->waiting = kept;
}

static void
on_timer(void *arg)
{
	struct keeper_role_state *r = arg;
	usec_t now = clock_mono(), again = now;

	/* What went wrong was logged where it was seen, and is tried again. */
	(void)keeper_turn(r->engine, now, r->waiting > 0, &again);
	answer_waiters(r);
	keeper_tell_slot(r);
	loop_timer_set(r->base.loop, &r->timer, again > 0 ? again : 1, on_timer, r);
}

static void
turn_now(struct keeper_role_state *r)
{
	loop_timer_set(r->base.loop, &r->timer, loop_now(r->base.loop), on_timer, r);
}

static void
on_bell(struct ev_io *io, uint32_t events, void *arg)
{
	struct keeper_role_state *r = arg;

	(void)io;
	(void)events;
	doorbell_answer(r->env->area, r->env->slot);
	turn_now(r);
}

/* ---- requests ---- */

static enum err
answer(struct req_channel *c, const struct req_msg *m, enum err status)
{
	return req_answer(c, &m->head, status, SLICE(""), false);
}

static enum err
wait_for_commit(struct keeper_role_state *r, struct req_channel *c, const struct req_msg *m)
{
	if (r->waiting == WAITERS_MAX)
		return answer(c, m, ERR_FULL);
	r->waiters[r->waiting++] = (struct waiter){ .question = m->head, .serial = keeper_ask(r->engine) };
	turn_now(r);
	return OK;
}

static void
tell_binding(struct keeper_role_state *r, int slot, void *arg)
{
	const struct slice *payload = arg;
	enum err e = req_ask(r->base.channel, REQ_BINDING_CHANGED, (uint8_t)slot, *payload, NULL, NULL);

	if (e != OK)
		log_error("keeper", "a worker was not told that a binding has changed: %s", err_text(e));
}

static enum err
set_binding(struct keeper_role_state *r, struct slice payload)
{
	struct state_binding b = { .since = clock_real() };
	struct ask_binding ask;
	enum err e;

	if (ask_binding_decode(payload, &ask) != OK || ask.suspension > STATE_RESUMED)
		return ERR_SYNTAX;
	b.suspension = (enum state_suspension)ask.suspension;
	state_who(&b, ask.who);
	e = state_binding_set(r->state, ask.name, &b);
	if (e != OK) {
		log_errno(LOG_LVL_ERROR, "keeper", "the state of a binding cannot be kept (%s)", err_text(e));
		return e;
	}
	keeper_each_worker(r, tell_binding, &payload);
	return OK;
}

static void
on_request(void *arg, struct req_channel *c, struct req_msg *m)
{
	struct keeper_role_state *r = arg;
	enum err e = OK;

	switch (m->head.type) {
	case REQ_KEEPER_COMMIT:
		e = wait_for_commit(r, c, m);
		break;
	case REQ_KEEPER_BINDING:
		e = answer(c, m, set_binding(r, m->payload));
		break;
	case REQ_LIFE_ENDED:
		(void)keeper_ask(r->engine);
		turn_now(r);
		break;
	case REQ_LIFE_BEGUN:
		break;
	default:
		if (req_row(m->head.type) != NULL && req_row(m->head.type)->reply)
			e = answer(c, m, ERR_UNSUPPORTED);
		break;
	}
	if (e != OK)
		log_debug("keeper", "an answer was lost: %s", err_text(e));
}

/* ---- the role ---- */

static void
on_drain(void *arg, unsigned seconds)
{
	struct keeper_role_state *r = arg;

	(void)seconds;
	if (keeper_settle(r->engine, clock_mono()) != OK)
		log_warn("keeper", "what was not committed is folded again at the next start");
	answer_waiters(r);
	role_base_drained(&r->base);
}

/* The last two keepers ended by their own fault: what they had in common is the map. The same rule as for messages: one
 * death is chance. */
static bool
map_kills(struct shm_area *area)
{
	unsigned found = 0;
	struct life life;

	for (uint64_t serial = lives_next(area) - 1; serial > 0 && found < 2 && life_get(area, serial, &life);
	     serial--) {
		if (life.role != ROLE_KEEPER || !life.ended)
			continue;
		if (!life.convicts)
			return false;
		found++;
	}
	return found == 2;
}

static enum err
prepare(struct role_env *env)
{
	const struct conf_view *v = conf_global(env->conf);
	struct keeper_conf conf = { .spool_fd = env->spool_dirfd,
				    .index_path = "index",
				    .index_size = (uint64_t)conf_int(v, OPT_INDEX_SIZE),
				    .highest = shm_segment_highest(env->area),
				    .suspect = shm_index_suspect(env->area),
				    .writer = env->writer,
				    .slot = (uint8_t)env->slot,
				    .generation = env->generation,
				    .segment_size = (uint64_t)conf_int(v, OPT_SEGMENT_SIZE),
				    .spares = SPARES,
				    .compact_every = USEC_PER_SEC,
				    .reserve = DISK_RESERVE,
				    .distrust = map_kills(env->area),
				    .hooks = &keeper_role_hooks,
				    .hooks_arg = &role };
	enum err e;

	role.env = env;
	e = role_enter_spool(env);
	if (e == OK)
		e = keeper_open(&conf, &role.engine);
	if (e == OK)
		e = state_open("state", true, &role.state);
	if (e != OK)
		log_errno(LOG_LVL_ERROR, "keeper", "cannot open the spool (%s)", err_text(e));
	return e;
}

static int
run(struct role_env *env)
{
	struct keeper_role_state *r = &role;

	if (role_enter_spool(env) != OK)
		return 1;
	r->base = (struct role_base){ .env = env, .on_drain = on_drain, .on_request = on_request, .arg = r };
	role_base_open(&r->base, NULL, NULL);
	loop_io_add(r->base.loop, &r->bell, doorbell_fd(env->area, env->slot), EPOLLIN, on_bell, r);
	turn_now(r);
	role_base_serve(&r->base);
	loop_run(r->base.loop);
	keeper_close(&r->engine);
	state_close(&r->state);
	role_base_close(&r->base);
	return 0;
}

const struct role_ops keeper_role = { .prepare = prepare, .run = run };
