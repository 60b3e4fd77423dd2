#include "worker/role_base.h"

#include <unistd.h>

#include "policy/conf/conf.h"
#include "shm/base/log.h"
#include "shm/base/mem.h"
#include "spool/spool_index.h"
#include "spool/spool_state.h"

enum { LAST_CALL_SECONDS = 5 };
#define GIVE_BACK_EVERY (10 * USEC_PER_SEC)

static void
on_last_call(void *arg)
{
	struct role_base *b = arg;

	log_warn(role_name(b->env->role), "not done in time: ends with work unfinished");
	eclog_flush(b->log);
	_exit(0);
}

static void
last_call(struct role_base *b, unsigned seconds)
{
	loop_timer_set(b->loop, &b->last_call, loop_now(b->loop) + (usec_t)seconds * USEC_PER_SEC, on_last_call, b);
}

static void
stop(struct role_base *b)
{
	last_call(b, LAST_CALL_SECONDS);
	if (b->ending)
		return;
	b->ending = true;
	if (b->on_stop != NULL)
		b->on_stop(b->arg);
	else
		loop_stop(b->loop);
}

static void
drain(struct role_base *b, struct slice payload)
{
	uint32_t seconds;

	if (!take_u32(&payload, &seconds) || b->ending)
		return;
	slot_set_state(shm_slot(b->env->area, b->env->slot), SLOT_DRAINING);
	last_call(b, seconds + 1);
	if (b->on_drain != NULL)
		b->on_drain(b->arg, seconds);
	else
		role_base_drained(b);
}

/* The payload is a mask of the logs that the descriptors are for, lowest bit first. */
static void
reopen(struct role_base *b, struct req_msg *m)
{
	int fds[ECLOG_FILES] = { -1, -1, -1 };
	unsigned mask = m->payload.n == 1 ? (unsigned char)m->payload.p[0] : 0, taken = 0;

	for (unsigned i = 0; i < ECLOG_FILES; i++)
		if ((mask & 1u << i) != 0 && taken < m->nfds)
			fds[i] = m->fds[taken++];
	/* Those that nobody named are closed by the channel. */
	for (unsigned i = taken; i < m->nfds; i++)
		close(m->fds[i]);
	m->nfds = 0;
	eclog_reopen(b->log, fds);
}

static void
on_packet(void *arg, struct req_channel *c, struct req_msg *m)
{
	struct role_base *b = arg;

	switch (m->head.type) {
	case REQ_LOGS:
		reopen(b, m);
		break;
	case REQ_DRAIN:
		drain(b, m->payload);
		break;
	case REQ_STOP:
		stop(b);
		break;
	default:
		if (b->on_request != NULL)
			b->on_request(b->arg, c, m);
	}
}

static void
on_channel(struct ev_io *io, uint32_t events, void *arg)
{
	struct role_base *b = arg;
	enum err e = OK;

	(void)io;
	if ((events & EPOLLOUT) != 0)
		e = req_channel_flush(b->channel);
	if (e == OK || e == ERR_AGAIN)
		e = req_channel_turn(b->channel, on_packet, b);
	if (e == OK || e == ERR_AGAIN)
		return;
	/* Without the master nobody re-forks, reloads or reopens: close the listeners at once and end. */
	if (e != ERR_EOF)
		log_error(role_name(b->env->role), "the channel to the master is broken: %s", err_text(e));
	loop_io_del(b->loop, &b->io);
	stop(b);
}

/* A burst's memory stays with the allocator, in holes; other processes can use it better. */
static void
give_memory_back(struct role_base *b)
{
	usec_t now = loop_now(b->loop);

	if (now - b->gave_back < GIVE_BACK_EVERY)
		return;
	b->gave_back = now;
	mem_give_back();
}

static void
count_lines(struct role_base *b)
{
	struct shm_slot *slot = shm_slot(b->env->area, b->env->slot);

	slot_set(slot, CELL_LOG_LINES, (int64_t)eclog_lines(b->log));
	slot_set(slot, CELL_LOG_DROPPED, (int64_t)eclog_lost(b->log));
}

static void
on_turn(void *arg)
{
	struct role_base *b = arg;

	give_memory_back(b);
	if (loop_now(b->loop) - b->counted >= USEC_PER_SEC) {
		b->counted = loop_now(b->loop);
		count_lines(b);
	}
	slot_beat(shm_slot(b->env->area, b->env->slot), clock_mono());
	if (b->io.armed)
		loop_io_mod(b->loop, &b->io, EPOLLIN | (req_channel_wants_write(b->channel) ? EPOLLOUT : 0));
}

void
role_base_open(struct role_base *b, eclog_run *run, void *run_arg)
{
	const struct conf_view *v = conf_stanza(b->env->conf, IN_EC_LOGGER);
	struct eclog_conf log = { .run = run,
				  .run_arg = run_arg,
				  .panic_to_stderr = b->env->foreground,
				  .receptions = conf_bool(v, OPT_LOG_RECEPTIONS),
				  .deliveries = conf_bool(v, OPT_LOG_DELIVERIES),
				  .transient_failures = conf_bool(v, OPT_LOG_TRANSIENT_FAILURES),
				  .permanent_failures = conf_bool(v, OPT_LOG_PERMANENT_FAILURES),
				  .rejections = conf_bool(v, OPT_LOG_REJECTIONS),
				  .errors = conf_bool(v, OPT_LOG_ERRORS) };

	_Static_assert((int)ECLOG_FILES == (int)ROLE_LOGS, "one order of logs");
	for (int i = 0; i < ECLOG_FILES; i++)
		log.fd[i] = b->env->log_fds[i];
	b->log = eclog_new(&log);
	log_set_sink(eclog_panic_line, b->log);
	b->loop = loop_new();
	b->channel = req_channel_new(b->env->request_fd, (uint8_t)b->env->slot);
	loop_io_add(b->loop, &b->io, b->env->request_fd, EPOLLIN, on_channel, b);
	loop_on_turn(b->loop, on_turn, b);
}

enum err
role_enter_spool(const struct role_env *env)
{
	if (fchdir(env->spool_dirfd) == 0)
		return OK;
	log_errno(LOG_LVL_ERROR, role_name(env->role), "cannot enter the spool");
	return ERR_IO;
}

enum err
role_open_spool(const struct role_env *env, struct index **index, struct state **state)
{
	struct index_conf conf = { .path = "index",
				   .map_size = (uint64_t)conf_int(conf_global(env->conf), OPT_INDEX_SIZE),
				   .suspect = shm_index_suspect(env->area) };
	enum err e = role_enter_spool(env);

	if (e != OK)
		return e;
	if ((e = index_open(&conf, index)) != OK || (e = state_open("state", false, state)) != OK)
		log_error(role_name(env->role), "cannot open the index: %s", err_text(e));
	return e;
}

static void
tell_master(struct role_base *b, enum req_type type)
{
	enum err e = req_ask(b->channel, type, REQ_TO_MASTER, SLICE(""), NULL, NULL);

	if (e != OK && e != ERR_EOF)
		log_error(role_name(b->env->role), "cannot tell the master: %s", err_text(e));
}

void
role_base_serve(struct role_base *b)
{
	slot_set_state(shm_slot(b->env->area, b->env->slot), SLOT_SERVING);
	slot_beat(shm_slot(b->env->area, b->env->slot), clock_mono());
	tell_master(b, REQ_READY);
}

void
role_base_drained(struct role_base *b)
{
	b->ending = true;
	tell_master(b, REQ_DRAINED);
	loop_stop(b->loop);
}

void
role_base_close(struct role_base *b)
{
	(void)req_channel_flush(b->channel);
	log_set_sink(NULL, NULL);
	eclog_flush(b->log);
	count_lines(b);
	eclog_free(&b->log);
}
