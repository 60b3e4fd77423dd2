/* The mail transaction: from MAIL to the end of the message, or to RSET. */
#include <stdlib.h>

#include "shm/base/mem.h"
#include "worker/reception/esmtp_int.h"

struct esmtp_txn *
esmtp_txn_new(struct esmtp *s, const struct mail_args *m)
{
	struct arena *arena = arena_new();
	struct esmtp_txn *t = arena_alloc(arena, sizeof *t);
	struct policy_msg_env env = { 0 };

	t->arena = arena;
	t->id = s->r->env.store->new_id(s->r->env.store->arg);
	t->received_at = clock_real();
	t->sender = arena_slice(arena, m->from.text);
	t->eightbit = m->eightbit;
	t->utf8 = m->utf8;
	env.sender = t->sender;
	env.id = env.batch = t->id;
	env.conn = s->conn;
	env.received_at = t->received_at;
	t->msg = policy_msg_new(s->policy, &env);
	s->txn = t;
	return t;
}

struct esmtp_rcpt *
esmtp_txn_add(struct esmtp_txn *t, struct slice addr, struct slice line)
{
	struct esmtp_rcpt *r;

	if (t->n == t->cap) {
		t->cap = t->cap != 0 ? t->cap * 2 : 4;
		t->rcpts = mem_array(t->rcpts, t->cap, sizeof *t->rcpts);
	}
	r = &t->rcpts[t->n++];
	*r = (struct esmtp_rcpt){ .addr = arena_slice(t->arena, addr), .line = arena_slice(t->arena, line) };
	return r;
}

void
esmtp_txn_drop(struct esmtp *s)
{
	struct esmtp_txn *t = s->txn;

	if (t == NULL)
		return;
	if (!t->moved)
		esmtp_body_let_go(s);
	s->txn = NULL;
	for (size_t i = 0; i < t->n; i++)
		policy_msg_free(&t->rcpts[i].clone);
	policy_msg_free(&t->notice);
	policy_session_free(&t->notice_session);
	policy_msg_free(&t->msg);
	esmtp_body_fini(s->r->env.store, &t->body);
	free(t->rcpts);
	if (!t->moved)
		arena_free(&t->arena);
}
