#include <stdio.h>

#include "policy/conf/conf.h"
#include "shm/base/log.h"
#include "shm/shm_inbox.h"
#include "spool/spool_index.h"
#include "worker/keeper/keeper_int.h"

/* ---- who lives ---- */

int
keeper_slot_of(struct keeper_role_state *r, uint64_t writer)
{
	struct slot_who who;

	for (int i = 0; i < SLOTS_MAX; i++)
		if (slot_who(shm_slot(r->env->area, i), &who) && who.writer == writer)
			return i;
	return -1;
}

/* A slot is free only after its process was reaped: nobody writes any more. */
static bool
alive(void *arg, uint64_t writer)
{
	return keeper_slot_of(arg, writer) >= 0;
}

static bool
mark(void *arg, uint64_t writer, uint32_t *seg, uint32_t *at)
{
	struct keeper_role_state *r = arg;
	int slot = keeper_slot_of(r, writer);

	if (slot < 0)
		return false;
	slot_mark(shm_slot(r->env->area, slot), seg, at);
	return *seg != 0;
}

static bool
convicts(void *arg, uint64_t writer, msgid_t *id, char *peer, size_t peer_size)
{
	struct keeper_role_state *r = arg;
	struct life life;

	if (!life_find(r->env->area, writer, &life) || !life.ended || !life.convicts)
		return false;
	*id = life.finger.kind == FINGER_MESSAGE ? life.finger.id : 0;
	(void)snprintf(peer, peer_size, "%s", life.finger.kind == FINGER_PEER ? life.finger.text : "");
	return life.finger.kind != FINGER_NONE;
}

/* ---- deadlines ---- */

static const struct conf_view *
view_of(struct keeper_role_state *r, const struct index_row *row)
{
	if (r->view != NULL && slice_eq(slice_bytes(&r->view_binding), row->binding) &&
	    slice_eq(slice_bytes(&r->view_domain), row->domain))
		return r->view;
	r->view = conf_sending(r->env->conf, row->binding, row->domain);
	r->view_binding.n = r->view_domain.n = 0;
	bytes_add_slice(&r->view_binding, row->binding);
	bytes_add_slice(&r->view_domain, row->domain);
	return r->view;
}

static usec_t
deadline(void *arg, const struct index_row *row)
{
	return row->received_at + conf_int(view_of(arg, row), OPT_MESSAGE_EXPIRATION) * USEC_PER_SEC;
}

static void
expired(void *arg, const struct index_row *row)
{
	struct keeper_role_state *r = arg;
	unsigned owner =
		partition_owner(r->env->area, (unsigned)(spool_queue_hash(row->binding, row->domain) % PARTITIONS));
	struct bytes id = { 0 };
	enum err e;

	if (owner == SLOT_NOBODY)
		return;
	bytes_add_u64(&id, row->id);
	e = req_ask(r->base.channel, REQ_WORKER_DUE, (uint8_t)owner, slice_bytes(&id), NULL, NULL);
	if (e != OK)
		log_debug("keeper", "an owner was not told of a deadline: %s", err_text(e));
	bytes_fini(&id);
}

/* ---- what others see ---- */

void
keeper_each_worker(struct keeper_role_state *r, void (*fn)(struct keeper_role_state *r, int slot, void *arg), void *arg)
{
	struct slot_who who;

	for (int i = 0; i < SLOTS_MAX; i++)
		if (slot_who(shm_slot(r->env->area, i), &who) && who.role == ROLE_WORKER && who.state != SLOT_STARTING)
			fn(r, i, arg);
}

static void
ring(struct keeper_role_state *r, int slot, void *arg)
{
	(void)arg;
	doorbell_ring(r->env->area, slot);
}

static void
committed(void *arg)
{
	struct keeper_role_state *r = arg;

	slot_set(shm_slot(r->env->area, r->env->slot), CELL_COMMITTED_AT, (int64_t)(clock_mono() / USEC_PER_SEC));
	keeper_each_worker(r, ring, NULL);
}

static void
busy(void *arg)
{
	struct keeper_role_state *r = arg;

	slot_beat(shm_slot(r->env->area, r->env->slot), clock_mono());
}

static void
tail(void *arg, uint64_t bytes, int64_t messages)
{
	struct keeper_role_state *r = arg;
	struct shm_slot *s = shm_slot(r->env->area, r->env->slot);

	slot_set(s, CELL_TAIL_SEEN, shm_total(r->env->area, CELL_JOURNAL_BYTES));
	slot_set(s, CELL_TAIL_BYTES, (int64_t)bytes);
	slot_set(s, CELL_TAIL_MESSAGES, messages);
}

const struct keeper_hooks keeper_role_hooks = {
	.alive = alive,
	.mark = mark,
	.convicts = convicts,
	.deadline = deadline,
	.expired = expired,
	.committed = committed,
	.busy = busy,
	.tail = tail,
};

void
keeper_tell_slot(struct keeper_role_state *r)
{
	struct shm_slot *s = shm_slot(r->env->area, r->env->slot);
	struct keeper_counts now;

	keeper_counts(r->engine, &now);
	slot_set(s, CELL_SEGMENTS, (int64_t)now.segments);
	slot_set(s, CELL_IN_DOUBT, (int64_t)now.doubts);
	slot_set(s, CELL_INDEX_MESSAGES, (int64_t)now.messages);
	slot_set(s, CELL_QUARANTINED, (int64_t)now.quarantined);
	slot_add(s, CELL_KEEPER_RECORDS, (int64_t)(now.records - r->told.records));
	slot_add(s, CELL_KEEPER_COMMITS, (int64_t)(now.commits - r->told.commits));
	slot_add(s, CELL_KEEPER_ROWS, (int64_t)(now.rows - r->told.rows));
	slot_add(s, CELL_DAMAGED, (int64_t)(now.damaged - r->told.damaged));
	r->told = now;
}
