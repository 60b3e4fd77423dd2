/* The real world of the owner: its records go through the spool's one door, its rows come from the index. */
#include "spool/spool_owner_int.h"

#include <stdlib.h>

#include "shm/base/mem.h"
#include "spool/spool.h"

static void
world_run_cold(const struct owner_env *env, void (*fn)(void *), void (*done)(void *), void *job)
{
	spool_run_cold(env->spool, fn, done, job);
}

static void
world_look(const struct owner_env *env, struct owner_look *l)
{
	owner_read(env->index, l);
}

/* ---- writing */

struct write_call {
	owner_written *done;
	void *arg;
};

static void
on_written(void *arg, enum err e, const struct spool_proof *proof)
{
	struct write_call c = *(struct write_call *)arg;

	free(arg);
	c.done(c.arg, e, proof == NULL ? (struct place){ 0, 0 } : proof_place(proof));
}

static enum err
world_write(const struct owner_env *env, const struct owner_fact *f, owner_written *done, void *arg)
{
	struct spool_txn *txn = spool_txn_new(env->spool);
	struct write_call *c = mem_alloc(sizeof *c);
	enum err e;

	*c = (struct write_call){ done, arg };
	switch (f->kind) {
	case FACT_EDIT:
		(void)spool_txn_edit(txn, &f->edit);
		break;
	case FACT_OUTCOME:
		(void)spool_txn_outcome(txn, &f->outcome);
		break;
	case FACT_HANDOVER:
		(void)spool_txn_handover(txn, f->owner, f->ids, f->count);
		break;
	}
	e = spool_submit(txn, on_written, c);
	if (e != OK)
		free(c);
	return e;
}

/* ---- whose queue a message is in */

struct peek_call {
	owner_peeked *done;
	void *arg;
};

static void
on_fetched(void *arg, enum err e, struct spool_fetched *got)
{
	struct peek_call c = *(struct peek_call *)arg;

	free(arg);
	if (got == NULL)
		c.done(c.arg, e == OK ? ERR_NOTFOUND : e, slice_of(NULL, 0), slice_of(NULL, 0));
	else
		c.done(c.arg, OK, got->message.binding, got->message.domain);
	spool_fetched_free(&got);
}

static void
world_peek(const struct owner_env *env, msgid_t id, struct place place, uint16_t item, owner_peeked *done, void *arg)
{
	struct peek_call *c = mem_alloc(sizeof *c);

	*c = (struct peek_call){ done, arg };
	(void)spool_fetch(env->spool, id, place, item, on_fetched, c);
}

const struct owner_world owner_world_spool = {
	.run_cold = world_run_cold,
	.look = world_look,
	.write = world_write,
	.peek = world_peek,
};
