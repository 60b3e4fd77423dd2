#include "policy/policy_msg.h"

#include <stdlib.h>

#include "policy/policy_int.h"
#include "shm/base/mem.h"

struct policy_msg {
	struct policy_session *session;
	bool clone;
	bool discarded;
	uint8_t priority;
	usec_t due;
	msgid_t id, batch, conn;
	usec_t received_at;
	struct policy_block *header, *body;               /* never NULL */
	struct policy_context conn_context, mess_context; /* a clone's own */
	/* Texts; NULL is empty. */
	char *sender, *rcpt, *binding, *routing_domain, *why;
	struct policy_attachment attached[LANGUAGE_MAX];
};

static struct slice
text_get(const char *t)
{
	return slice_str(t == NULL ? "" : t);
}

static char *
text_dup(struct slice s)
{
	return s.n == 0 ? NULL : slice_dup(s);
}

/* s may lie in the old text. */
static void
text_set(char **t, struct slice s)
{
	char *fresh = text_dup(s);

	free(*t);
	*t = fresh;
}

struct policy_msg *
policy_msg_new(struct policy_session *s, const struct policy_msg_env *env)
{
	struct policy_msg *m = mem_zalloc(sizeof(*m));

	m->session = s;
	m->id = env->id;
	m->batch = env->batch;
	m->conn = env->conn;
	m->received_at = env->received_at;
	m->sender = text_dup(env->sender);
	m->rcpt = text_dup(env->rcpt);
	m->header = policy_block_borrow(SLICE(""), NULL, NULL);
	m->body = policy_block_borrow(SLICE(""), NULL, NULL);
	return m;
}

struct policy_msg *
policy_msg_clone(struct policy_msg *from, msgid_t id, struct slice rcpt)
{
	struct policy_msg *m = mem_zalloc(sizeof(*m));

	m->session = from->session;
	m->clone = true;
	m->discarded = from->discarded;
	m->priority = from->priority;
	m->due = from->due;
	m->id = id;
	m->batch = from->batch;
	m->conn = from->conn;
	m->received_at = from->received_at;
	policy_block_ref(m->header = from->header);
	policy_block_ref(m->body = from->body);
	policy_context_share(&m->conn_context, policy_msg_conn_context(from));
	policy_context_share(&m->mess_context, policy_msg_mess_context(from));
	m->sender = text_dup(text_get(from->sender));
	m->rcpt = text_dup(rcpt);
	m->binding = text_dup(text_get(from->binding));
	m->routing_domain = text_dup(text_get(from->routing_domain));
	m->why = text_dup(text_get(from->why));
	return m;
}

void
policy_msg_free(struct policy_msg **p)
{
	struct policy_msg *m = *p;

	*p = NULL;
	if (m == NULL)
		return;
	policy_attachments_end(m->attached);
	policy_block_unref(&m->header);
	policy_block_unref(&m->body);
	policy_context_clear(&m->conn_context);
	policy_context_clear(&m->mess_context);
	free(m->sender);
	free(m->rcpt);
	free(m->binding);
	free(m->routing_domain);
	free(m->why);
	free(m);
}

struct policy_session *
policy_msg_session(const struct policy_msg *m)
{
	return m->session;
}

msgid_t
policy_msg_id(const struct policy_msg *m)
{
	return m->id;
}

msgid_t
policy_msg_batch(const struct policy_msg *m)
{
	return m->batch;
}

msgid_t
policy_msg_conn(const struct policy_msg *m)
{
	return m->conn;
}

void
policy_msg_set_ids(struct policy_msg *m, msgid_t id, msgid_t batch)
{
	m->id = id;
	m->batch = batch;
}

usec_t
policy_msg_received_at(const struct policy_msg *m)
{
	return m->received_at;
}

struct slice
policy_msg_sender(const struct policy_msg *m)
{
	return text_get(m->sender);
}

struct slice
policy_msg_rcpt(const struct policy_msg *m)
{
	return text_get(m->rcpt);
}

void
policy_msg_set_sender(struct policy_msg *m, struct slice addr)
{
	text_set(&m->sender, addr);
}

void
policy_msg_set_rcpt(struct policy_msg *m, struct slice addr)
{
	text_set(&m->rcpt, addr);
}

void
policy_msg_set_header(struct policy_msg *m, struct policy_block *header)
{
	policy_block_unref(&m->header);
	m->header = header;
}

void
policy_msg_set_body(struct policy_msg *m, struct policy_block *body)
{
	policy_block_unref(&m->body);
	m->body = body;
}

void
policy_msg_replace_header(struct policy_msg *m, struct slice header)
{
	policy_msg_set_header(m, policy_block_copy(header));
}

void
policy_msg_replace_body(struct policy_msg *m, struct slice body)
{
	policy_msg_set_body(m, policy_block_copy(body));
}

struct policy_block *
policy_msg_header(const struct policy_msg *m)
{
	return m->header;
}

struct policy_block *
policy_msg_body(const struct policy_msg *m)
{
	return m->body;
}

size_t
policy_msg_size(const struct policy_msg *m)
{
	return policy_block_size(m->header) + policy_block_size(m->body);
}

bool
policy_msg_header_own(const struct policy_msg *m, const struct policy_msg *shared)
{
	return m->header != shared->header;
}

bool
policy_msg_body_own(const struct policy_msg *m, const struct policy_msg *shared)
{
	return m->body != shared->body;
}

struct slice
policy_msg_binding(const struct policy_msg *m)
{
	return text_get(m->binding);
}

struct slice
policy_msg_routing_domain(const struct policy_msg *m)
{
	return text_get(m->routing_domain);
}

void
policy_msg_set_binding(struct policy_msg *m, struct slice name)
{
	text_set(&m->binding, name);
}

void
policy_msg_set_routing_domain(struct policy_msg *m, struct slice domain)
{
	text_set(&m->routing_domain, domain);
}

uint8_t
policy_msg_priority(const struct policy_msg *m)
{
	return m->priority;
}

void
policy_msg_set_priority(struct policy_msg *m, uint8_t priority)
{
	m->priority = priority;
}

usec_t
policy_msg_due(const struct policy_msg *m)
{
	return m->due;
}

void
policy_msg_set_due(struct policy_msg *m, usec_t due)
{
	m->due = due;
}

bool
policy_msg_discarded(const struct policy_msg *m, struct slice *why)
{
	if (m->discarded && why != NULL)
		*why = text_get(m->why);
	return m->discarded;
}

void
policy_msg_discard(struct policy_msg *m, struct slice why)
{
	m->discarded = true;
	text_set(&m->why, why);
}

struct policy_context *
policy_msg_conn_context(struct policy_msg *m)
{
	return m->clone ? &m->conn_context : policy_session_conn(m->session);
}

struct policy_context *
policy_msg_mess_context(struct policy_msg *m)
{
	return m->clone ? &m->mess_context : policy_session_mess(m->session);
}

bool
policy_msg_is_clone(const struct policy_msg *m)
{
	return m->clone;
}

void
policy_msg_pack_contexts(struct policy_msg *m, struct bytes *out)
{
	policy_contexts_pack(policy_msg_conn_context(m), policy_msg_mess_context(m), out);
}

struct policy_attachment *
policy_msg_attachment(struct policy_msg *m, enum policy_language lang)
{
	return &m->attached[lang];
}
