/* keeper_int.h - what the files of the keeper role share
 * keeper.c: the role, its loop and requests; keeper_hooks.c: what the engine asks of slots, lives and configuration. */
#ifndef WORKER_KEEPER_KEEPER_INT_H
#define WORKER_KEEPER_KEEPER_INT_H

#include "shm/shm_request.h"
#include "spool/spool_keeper.h"
#include "spool/spool_state.h"
#include "worker/keeper/keeper.h"
#include "worker/net/loop.h"
#include "worker/role_base.h"

enum { WAITERS_MAX = 256 };

/* Somebody who waits for a commit. */
struct waiter {
	struct req_head question;
	uint64_t serial;
};

struct conf_view;

struct keeper_role_state {
	struct role_env *env;
	struct role_base base;
	struct keeper *engine;
	struct state *state;
	struct ev_io bell;
	struct ev_timer timer;
	struct waiter waiters[WAITERS_MAX];
	unsigned waiting;
	struct keeper_counts told; /* as far as the slot's counters go */
	/* the view that was asked for last: rows come in runs of one queue */
	const struct conf_view *view;
	struct bytes view_binding, view_domain;
};

extern const struct keeper_hooks keeper_role_hooks;
/* The live slot of this writer, or -1. */
int keeper_slot_of(struct keeper_role_state *r, uint64_t writer);
/* Gauges and counters of the slot. */
void keeper_tell_slot(struct keeper_role_state *r);
/* Each worker that serves. */
void keeper_each_worker(struct keeper_role_state *r, void (*fn)(struct keeper_role_state *r, int slot, void *arg),
			void *arg);

#endif
