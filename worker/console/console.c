/* console.c - the console role: control sockets in, answers out; reads what is shared, asks the others for the rest */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>

#include "policy/conf/conf.h"
#include "shm/base/log.h"
#include "shm/base/mem.h"
#include "worker/console/console_int.h"
#include "worker/role_base.h"

static struct console console;
static struct role_base base;

static enum err
prepare(struct role_env *env)
{
	return role_open_spool(env, &console.index, &console.state);
}

static void
on_accept(struct ev_io *io, uint32_t events, void *arg)
{
	struct listener *l = arg;
	int fd = accept4(io->fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);

	(void)events;
	if (fd >= 0)
		session_new(l->console, fd);
	else if (errno == EMFILE && session_make_room(l->console))
		return; /* the listener is still readable: the next turn accepts */
	else if (errno != EAGAIN && errno != EINTR && errno != ECONNABORTED)
		log_errno(LOG_LVL_ERROR, "console", "cannot accept a control connection");
}

static void
close_listeners(struct console *k)
{
	for (unsigned i = 0; i < k->env->nlisteners; i++)
		loop_io_del(k->loop, &k->listeners[i].io);
}

/* A command under way is answered first; the session then ends with the process. */
static bool
busy(struct console *k)
{
	struct session *s, *next;

	for (s = TAILQ_FIRST(&k->sessions); s != NULL; s = next) {
		next = session_next(s);
		if (!session_busy(s))
			session_free(s);
	}
	return k->nsessions > 0;
}

static void
on_turn(void *arg)
{
	struct console *k = arg;

	if (k->draining && !base.ending && !busy(k))
		role_base_drained(&base);
}

static void
on_drain(void *arg, unsigned seconds)
{
	struct console *k = arg;

	(void)seconds;
	k->draining = true;
	close_listeners(k);
}

static void
on_stop(void *arg)
{
	struct console *k = arg;

	close_listeners(k);
	loop_stop(k->loop);
}

static void
on_heartbeat(void *arg)
{
	struct console *k = arg;
	int64_t seconds = conf_int(conf_stanza(k->env->conf, IN_EC_LOGGER), OPT_HEARTBEAT);

	if (seconds <= 0)
		return;
	eclog_heartbeat(k->log, clock_real());
	loop_timer_set(k->loop, &k->heartbeat, loop_now(k->loop) + seconds * USEC_PER_SEC, on_heartbeat, k);
}

static int
run(struct role_env *env)
{
	struct console *k = &console;
	struct session *s;

	if (role_enter_spool(env) != OK)
		return 1;
	base = (struct role_base){ .env = env, .on_drain = on_drain, .on_stop = on_stop, .arg = k };
	role_base_open(&base, NULL, NULL);
	k->env = env;
	k->loop = base.loop;
	k->channel = base.channel;
	k->log = base.log;
	k->clock_offset = clock_real() - clock_mono();
	TAILQ_INIT(&k->sessions);
	k->listeners = mem_zalloc(sizeof *k->listeners * (env->nlisteners + 1));
	for (unsigned i = 0; i < env->nlisteners; i++) {
		k->listeners[i].console = k;
		loop_io_add(k->loop, &k->listeners[i].io, env->listeners[i].fd, EPOLLIN, on_accept, &k->listeners[i]);
	}
	loop_on_turn(k->loop, on_turn, k);
	on_heartbeat(k);
	role_base_serve(&base);
	loop_run(k->loop);
	while ((s = TAILQ_FIRST(&k->sessions)) != NULL)
		session_free(s);
	index_close(&k->index);
	state_close(&k->state);
	role_base_close(&base);
	free(k->listeners);
	return 0;
}

const struct role_ops console_role = { .prepare = prepare, .run = run };
