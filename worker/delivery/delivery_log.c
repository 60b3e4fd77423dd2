/* delivery_log.c - mainlog lines and counters of what became of messages */
#include "worker/delivery/delivery_int.h"

#include "shm/shm_area.h"
#include "worker/log/ec_logger.h"

static struct slice
group_of(const struct job *j, struct slice binding)
{
	size_t index;

	if (!conf_binding_find(j->d->conf, binding, &index))
		return SLICE("default");
	return slice_str(conf_binding_group(j->d->conf, index));
}

static void
write_line(const struct job *j, const struct eclog_delivery *line)
{
	switch (j->out.kind) {
	case OUTCOME_DELIVERED:
		eclog_log_delivery(j->d->env.log, line);
		break;
	case OUTCOME_DEFERRED:
	case OUTCOME_DOUBTFUL:
		eclog_log_transient(j->d->env.log, line);
		break;
	default:
		eclog_log_permanent(j->d->env.log, line);
	}
}

/* Of one that cannot be read: what the queue says of it. */
static struct spool_message
message_of(const struct job *j)
{
	if (j->got != NULL)
		return j->got->message;
	return (struct spool_message){
		.id = j->m->id, .received_at = j->m->received_at, .binding = j->q->binding, .domain = j->q->domain
	};
}

void
log_outcome(const struct job *j)
{
	const struct spool_message msg = message_of(j), *m = &msg;
	char id[ID_TEXT], batch[ID_TEXT], conn[ID_TEXT];
	usec_t now = clock_real();
	struct eclog_delivery line = {
		.now = now,
		.id = id,
		.batch = batch,
		.conn = conn,
		.domain = m->domain,
		.size = j->out.kind == OUTCOME_DELIVERED ? m->size : j->out.sent,
		.group = group_of(j, m->binding),
		.binding = m->binding,
		.retries = j->n - 1,
		.stage = j->out.stage,
		.queued = now > m->received_at ? now - m->received_at : 0,
		.ip = slice_str(j->out.ip),
		.text = slice_bytes(&j->out.text),
	};

	if (j->d->env.log == NULL)
		return;
	id_text(m->id, id);
	id_text(m->batch, batch);
	id_text(j->out.conn, conn);
	write_line(j, &line);
}

static void
split(struct slice address, struct slice *local, struct slice *domain)
{
	const char *at = address.n == 0 ? NULL : memrchr(address.p, '@', address.n);

	*local = at == NULL ? address : slice_of(address.p, (size_t)(at - address.p));
	*domain = at == NULL ? SLICE("") : slice_of(at + 1, (size_t)(address.p + address.n - at - 1));
}

void
log_notice(const struct job *j, const struct spool_message *m)
{
	char id[ID_TEXT], batch[ID_TEXT], conn[ID_TEXT];
	struct eclog_reception line = {
		.now = clock_real(),
		.id = id,
		.batch = batch,
		.conn = conn,
		.peer_ip = SLICE("unknown"),
		.size = m->size,
		.protocol = SLICE("internal"),
		.group = group_of(j, m->binding),
		.binding = m->binding,
	};

	if (j->d->env.log == NULL)
		return;
	id_text(m->id, id);
	id_text(m->batch, batch);
	id_text(m->conn, conn);
	split(m->rcpt, &line.rcpt_local, &line.rcpt_domain);
	eclog_log_reception(j->d->env.log, &line);
}

void
count_outcome(const struct job *j)
{
	static const enum cell cells[OUTCOME_KIND_MAX] = {
		[OUTCOME_DELIVERED] = CELL_DELIVERED, [OUTCOME_DEFERRED] = CELL_DEFERRED,
		[OUTCOME_BOUNCED] = CELL_BOUNCED,     [OUTCOME_EXPIRED] = CELL_EXPIRED,
		[OUTCOME_DISCARDED] = CELL_DISCARDED, [OUTCOME_DOUBTFUL] = CELL_DOUBTFUL,
	};
	static const char *const words[OUTCOME_KIND_MAX] = {
		[OUTCOME_DELIVERED] = "delivered", [OUTCOME_DEFERRED] = "deferred",   [OUTCOME_BOUNCED] = "bounced",
		[OUTCOME_EXPIRED] = "expired",     [OUTCOME_DISCARDED] = "discarded", [OUTCOME_DOUBTFUL] = "in doubt",
	};

	delivery_count(j->d, cells[j->out.kind], 1);
	if (j->out.kind == OUTCOME_DELIVERED && j->got != NULL)
		delivery_count(j->d, CELL_BYTES_OUT, (int64_t)j->got->message.size);
	delivery_trace(j->d, j->m->id, words[j->out.kind], slice_bytes(&j->out.text));
}
