#include <stdlib.h>

#include "policy/policy.h"
#include "shm/base/log.h"
#include "shm/base/mem.h"
#include "worker/net/stream.h"
#include "worker/reception/esmtp_int.h"

static void
add_doors(struct reception *r)
{
	r->ndoors = r->env.nlisteners;
	r->doors = mem_array(NULL, r->ndoors + 1, sizeof *r->doors);
	for (size_t i = 0; i < r->ndoors; i++)
		r->doors[i] = (struct reception_door){ .r = r,
						       .fd = r->env.listeners[i].fd,
						       .conf_index = r->env.listeners[i].conf_index };
	r->env.listeners = NULL;
}

struct reception *
reception_new(const struct reception_env *env)
{
	struct reception *r = mem_zalloc(sizeof *r);

	r->env = *env;
	r->ask = env->ask != NULL ? *env->ask : (struct reception_policy){ policy_run, policy_cancel };
	r->slot = env->area != NULL ? shm_slot(env->area, env->slot) : NULL;
	TAILQ_INIT(&r->sessions);
	STAILQ_INIT(&r->spare);
	add_doors(r);
	accept_start(r);
	return r;
}

void
reception_free(struct reception **rp)
{
	struct reception *r = *rp;
	struct esmtp *s, *next;
	struct esmtp_cmd *c;

	if (r == NULL)
		return;
	*rp = NULL;
	accept_stop(r);
	r->told = true;
	TAILQ_FOREACH_SAFE (s, &r->sessions, link, next)
		esmtp_close(s);
	/* Closed sessions are freed by what runs at the end of a turn. */
	loop_turn(r->env.loop, 0);
	loop_later_cancel(r->env.loop, &r->drain);
	while ((c = STAILQ_FIRST(&r->spare)) != NULL) {
		STAILQ_REMOVE_HEAD(&r->spare, link);
		bytes_fini(&c->reply);
		free(c);
	}
	free(r->doors);
	free(r);
}

size_t
reception_sessions(const struct reception *r)
{
	return r->nsessions;
}

static void
tell_drained(void *arg)
{
	struct reception *r = arg;

	if (r->told || !r->draining || r->nsessions != 0 || r->in_flight != 0)
		return;
	r->told = true;
	if (r->env.drained != NULL)
		r->env.drained(r->env.arg);
}

void
reception_check_drained(struct reception *r)
{
	if (r->draining && !r->told && r->nsessions == 0 && r->in_flight == 0)
		loop_later(r->env.loop, &r->drain, tell_drained, r);
}

void
reception_drain(struct reception *r)
{
	struct esmtp *s;

	if (r->draining)
		return;
	r->draining = true;
	accept_stop(r);
	TAILQ_FOREACH (s, &r->sessions, link)
		esmtp_drain(s, false);
	reception_check_drained(r);
}

void
reception_stop(struct reception *r)
{
	struct esmtp *s, *next;

	reception_drain(r);
	r->stopping = true;
	TAILQ_FOREACH_SAFE (s, &r->sessions, link, next)
		esmtp_drain(s, true);
	reception_check_drained(r);
}

void
reception_take(struct reception *r, int fd, unsigned conf_index, const struct sockaddr *peer,
	       const struct sockaddr *local)
{
	esmtp_new(r, fd, conf_index, peer, local);
}
