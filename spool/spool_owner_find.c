/* Where a message is: what the owner's memory can say to whoever asks why it does not leave. */
#include "spool/spool_owner_int.h"

static enum owner_where
where_of(const struct owner_mem *m)
{
	if (m->sched.at == SCHED_READY)
		return OWNER_READY;
	if (m->sched.at == SCHED_WAITING)
		return OWNER_LATER;
	switch (m->state) {
	case MSG_TAKEN:
	case MSG_OPEN:
		return OWNER_TAKEN;
	case MSG_LENT:
		return OWNER_LENT;
	case MSG_PAST:
		return OWNER_OVER;
	default:
		return OWNER_EDITING;
	}
}

void
owner_find(struct spool_owner *o, uint64_t queue, msgid_t id, struct owner_found *out)
{
	struct owner_mem *m = id == 0 ? NULL : mem_find(o, id);

	*out = (struct owner_found){ .where = OWNER_ABSENT, .full = o->sched.full, .queue = queue_find(o, queue) };
	if (out->queue != NULL && out->queue->domain == NULL)
		out->queue = NULL; /* its name is still being read */
	if (out->queue != NULL) {
		out->wait_until = out->queue->sched.wait_until;
		if (id == 0 && out->queue->sched.n_ready > 0)
			out->where = OWNER_READY;
	}
	if (m != NULL) {
		out->where = where_of(m);
		out->due = m->sched.due;
		out->role = m->msg.role;
	} else if (o->draining) {
		out->where = OWNER_HANDED;
	} else if (!o->assigned[queue % PARTITIONS]) {
		out->where = OWNER_FOREIGN;
	} else if (!o->adopted) {
		out->where = OWNER_STARTING;
	}
}
