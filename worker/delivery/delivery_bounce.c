/* delivery_bounce.c - the notice of a failure: made, shown to policy, and put into the record of the failure itself
 * It is a message of ours: null sender, protocol internal, its own id, and it passes set_binding and final_validation
 * like every message. What policy refuses for good or discards is not sent; where policy fails for now, the failure of
 * the message itself is put off, because a notice could not follow later. */
#include "worker/delivery/delivery_int.h"

#include <stdlib.h>

#include "policy/policy.h"
#include "shm/base/log.h"
#include "shm/base/mem.h"
#include "spool/format/dsn.h"
#include "spool/format/header.h"

struct bounce {
	struct job *job;
	struct policy_session *session;
	struct policy_msg *msg;
	struct policy_run run;
	struct bytes header, body, context, binding, domain, rcpt;
	struct slice header_now, body_now; /* what policy left of them */
	struct spool_message item;
	bool eight_bit;
};

static void on_set_binding(struct policy_run *r, void *arg);
static void on_final(struct policy_run *r, void *arg);

bool
bounce_wanted(const struct job *j)
{
	const struct spool_message *m = &j->got->message;

	if (m->sender.n == 0 || (m->flags & MSG_DSN) != 0)
		return false;
	if (m->notify != 0 && (m->notify & NOTIFY_FAILURE) == 0)
		return false;
	return conf_bool(delivery_view(j->d, j->q), OPT_GENERATE_BOUNCES);
}

static void
write_notice(struct bounce *b)
{
	const struct job *j = b->job;
	const struct spool_message *m = &j->got->message;
	char id[ID_TEXT], about[ID_TEXT];
	usec_t now = clock_real();
	struct dsn_rcpt rcpt = {
		.rcpt = m->rcpt,
		.orcpt = m->orcpt,
		.action = DSN_FAILED,
		.reply = slice_bytes(j->out.detail.n > 0 ? &j->out.detail : &j->out.text),
		.remote_mta = j->out.remote_said ? slice_str(j->out.host) : slice_str(""),
		.last_attempt = j->m->tries > 0 || j->out.conn != 0 ? now : 0,
	};
	struct dsn d = {
		.hostname = slice_str(delivery_hostname(j->d)),
		.to = m->sender,
		.envid = m->envid,
		.arrival = m->received_at,
		.now = now,
		.rcpts = &rcpt,
		.n = 1,
		.inlined = DSN_INLINE_HEADERS,
		.headers = j->got->header,
	};

	id_text(b->item.id, id);
	id_text(m->id, about);
	d.id_text = slice_str(id);
	d.about_text = slice_str(about);
	dsn_write(&d, &b->header, &b->body, &b->eight_bit);
}

static void
end_policy(struct bounce *b)
{
	policy_run_fini(&b->run);
	policy_msg_free(&b->msg);
	policy_session_free(&b->session);
}

void
bounce_free(struct bounce **bp)
{
	struct bounce *b = *bp;

	if (b == NULL)
		return;
	end_policy(b);
	bytes_fini(&b->header);
	bytes_fini(&b->body);
	bytes_fini(&b->context);
	bytes_fini(&b->binding);
	bytes_fini(&b->domain);
	bytes_fini(&b->rcpt);
	free(b);
	*bp = NULL;
}

/* The domain that decides its queue: what policy chose, else the recipient's. */
static void
set_domain(struct bounce *b, struct slice chosen)
{
	const char *at = memrchr(b->rcpt.p, '@', b->rcpt.n);
	struct slice domain = chosen;

	if (domain.n == 0 && at != NULL)
		domain = slice_of(at + 1, (size_t)(b->rcpt.p + b->rcpt.n - at - 1));
	b->domain.n = 0;
	for (size_t i = 0; i < domain.n; i++)
		bytes_add_char(&b->domain, ascii_lower(domain.p[i]));
}

/* The facts for the record; slices are the bounce's own. */
static void
fill_item(struct bounce *b)
{
	struct spool_message *m = &b->item;

	m->origin = ORIGIN_GENERATED;
	m->protocol = PROTOCOL_INTERNAL;
	m->flags = (uint16_t)(MSG_DSN | (b->eight_bit ? MSG_8BITMIME : 0) |
			      (slice_has_8bit(slice_bytes(&b->rcpt)) ? MSG_SMTPUTF8 : 0));
	m->rcpt = slice_bytes(&b->rcpt);
	m->binding = slice_bytes(&b->binding);
	m->domain = slice_bytes(&b->domain);
	m->size = b->header_now.n + b->body_now.n;
}

static void
without_notice(struct job *j)
{
	bounce_free(&j->bounce);
	job_submit(j);
}

/* Nothing is lost: the message stays queued, and is tried, and fails, again. */
static void
put_off(struct job *j)
{
	struct sched_retry retry = delivery_retry(delivery_view(j->d, j->q));

	bounce_free(&j->bounce);
	j->out.kind = OUTCOME_DEFERRED;
	j->out.notice = false;
	j->out.next_due = clock_real() + (usec_t)retry.retry_interval * USEC_PER_SEC;
	j->out.text.n = 0;
	bytes_add_str(&j->out.text, "451 4.3.5 [internal] notice of failure refused by policy for now");
	job_submit(j);
}

/* Whether the notice may go on; else what becomes of the failure is arranged. */
static bool
passed(struct bounce *b, const struct policy_run *r)
{
	struct job *j = b->job;
	struct slice why;

	if (policy_verdict_refuses(&r->verdict) && (r->verdict.code < 500 || r->verdict.failed)) {
		put_off(j);
		return false;
	}
	if (policy_verdict_refuses(&r->verdict) || policy_msg_discarded(b->msg, &why)) {
		without_notice(j);
		return false;
	}
	return true;
}

static void
ready(struct bounce *b)
{
	struct slice bytes;

	b->rcpt.n = 0;
	bytes_add_slice(&b->rcpt, policy_msg_rcpt(b->msg));
	bytes_add_slice(&b->binding, policy_msg_binding(b->msg));
	if (b->binding.n == 0)
		bytes_add_str(&b->binding, "default");
	set_domain(b, policy_msg_routing_domain(b->msg));
	policy_msg_pack_contexts(b->msg, &b->context);
	b->header.n = b->body.n = 0;
	if (policy_block_bytes(policy_msg_header(b->msg), &bytes) == OK)
		bytes_add_slice(&b->header, bytes);
	if (policy_block_bytes(policy_msg_body(b->msg), &bytes) == OK)
		bytes_add_slice(&b->body, bytes);
	b->item.priority = policy_msg_priority(b->msg);
	b->item.due = policy_msg_due(b->msg);
	b->header_now = slice_bytes(&b->header);
	b->body_now = slice_bytes(&b->body);
	fill_item(b);
	end_policy(b);
	job_submit(b->job);
}

static void
ask_policy(struct bounce *b, enum policy_phase phase, void (*done)(struct policy_run *r, void *arg))
{
	b->run.phase = phase;
	b->run.session = b->session;
	b->run.msg = b->msg;
	b->run.done = done;
	b->run.arg = b;
	if (policy_run(&b->run) == OK)
		done(&b->run, b);
}

static void
on_set_binding(struct policy_run *r, void *arg)
{
	struct bounce *b = arg;

	if (passed(b, r))
		ask_policy(b, PHASE_FINAL, on_final);
}

static void
on_final(struct policy_run *r, void *arg)
{
	struct bounce *b = arg;

	if (passed(b, r))
		ready(b);
}

static void
begin_policy(struct bounce *b)
{
	struct delivery *d = b->job->d;
	msgid_t conn = spool_new_id(d->env.spool);
	struct policy_msg_env env = {
		.rcpt = slice_bytes(&b->rcpt),
		.id = b->item.id,
		.batch = b->item.batch,
		.conn = conn,
		.received_at = b->item.received_at,
	};

	b->item.conn = conn;
	b->session = policy_session_new_internal(d->env.policy, conn);
	b->msg = policy_msg_new(b->session, &env);
	policy_msg_set_header(b->msg, policy_block_copy(slice_bytes(&b->header)));
	policy_msg_set_body(b->msg, policy_block_copy(slice_bytes(&b->body)));
	ask_policy(b, PHASE_SET_BINDING, on_set_binding);
}

void
bounce_begin(struct job *j)
{
	struct bounce *b = mem_zalloc(sizeof(*b));

	j->bounce = b;
	b->job = j;
	b->item.id = spool_new_id(j->d->env.spool);
	b->item.batch = spool_new_id(j->d->env.spool);
	b->item.received_at = clock_real();
	b->item.header_blob = b->item.body_blob = b->item.conn_ctx_blob = b->item.ctx_blob = BLOB_NONE;
	bytes_add_slice(&b->rcpt, j->got->message.sender);
	write_notice(b);
	if (j->d->env.policy != NULL) {
		begin_policy(b);
		return;
	}
	bytes_add_str(&b->binding, "default");
	set_domain(b, SLICE(""));
	b->header_now = slice_bytes(&b->header);
	b->body_now = slice_bytes(&b->body);
	fill_item(b);
	job_submit(j);
}

uint16_t
bounce_add(struct bounce *b, struct spool_txn *txn)
{
	struct spool_message m = b->item;

	m.header_blob = spool_txn_blob(txn, b->header_now);
	m.body_blob = spool_txn_blob(txn, b->body_now);
	if (b->context.n > 0)
		m.ctx_blob = spool_txn_blob(txn, slice_bytes(&b->context));
	return spool_txn_message(txn, &m);
}

void
bounce_made(struct bounce *b, struct place place, uint16_t item)
{
	struct delivery *d = b->job->d;
	struct delivery_made made = {
		.id = b->item.id,
		.place = place,
		.item = item,
		.priority = b->item.priority,
		.due = b->item.due,
		.binding = b->item.binding,
		.domain = b->item.domain,
		.size = b->item.size,
		.received_at = b->item.received_at,
	};

	log_notice(b->job, &b->item);
	delivery_count(d, CELL_GENERATED, 1);
	if (d->env.made != NULL)
		d->env.made(d->env.arg, &made);
}
