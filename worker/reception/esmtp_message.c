/* The message that policy is shown: our Received field on top, one clone a recipient, and the notice of ours. */
#include <stdlib.h>
#include <sys/mman.h>

#include "policy/conf/conf.h"
#include "shm/base/mem.h"
#include "spool/format/dsn.h"
#include "spool/format/header.h"
#include "spool/format/trace.h"
#include "worker/reception/esmtp_int.h"
#include "worker/reception/reception_options.h"

/* A streamed body, mapped when a script asks for its bytes. */
struct large_map {
	int fd; /* the store's, open until the body is given away, which is after all policy */
	uint64_t off;
	size_t size;
	void *at;
};

static enum err
large_load(void *arg, struct slice *out)
{
	struct large_map *m = arg;
	void *at = mmap(NULL, m->size, PROT_READ, MAP_PRIVATE, m->fd, (off_t)m->off);

	if (at == MAP_FAILED)
		return ERR_IO;
	m->at = at;
	*out = slice_of(at, m->size);
	return OK;
}

static void
large_release(void *arg)
{
	struct large_map *m = arg;

	if (m->at != NULL)
		munmap(m->at, m->size);
	free(m);
}

static struct policy_block *
large_block(size_t size, int fd, uint64_t off)
{
	struct large_map *m = mem_zalloc(sizeof *m);

	m->fd = fd;
	m->off = off;
	m->size = size;
	return policy_block_lazy(size, large_load, large_release, m);
}

static struct slice
received_name(const struct esmtp *s)
{
	const char *own = conf_str(s->view, OPT_RECEIVED_HOSTNAME);

	return slice_str(own[0] != '\0' ? own : policy_hostname(s->r->env.policy));
}

static void
add_received(const struct esmtp *s, struct bytes *out)
{
	const struct esmtp_txn *t = s->txn;
	struct trace_received trace = { .peer = slice_str(s->peer),
					.helo = slice_str(s->helo),
					.hostname = received_name(s),
					.sender = t->sender,
					.at = t->received_at };
	char id[ID_TEXT];

	id_text(t->id, id);
	trace.id = slice_str(id);
	trace.protocol = slice_str(!s->extended ? "SMTP" : t->utf8 ? "UTF8SMTP" : "ESMTP");
	if (t->n == 1)
		trace.recipient = t->rcpts[0].addr;
	trace_received(out, &trace);
}

static struct slice
header_of(const struct esmtp_body *b)
{
	bool ended;

	if (b->large != NULL)
		return slice_of(b->data.p, b->header);
	return slice_of(b->data.p, header_length(slice_bytes(&b->data), true, &ended));
}

bool
esmtp_loops(const struct esmtp *s)
{
	int64_t max = conf_int(conf_stanza(s->r->env.conf, IN_MAIL_LOOP), OPT_MAX_RECEIVED_HEADERS);

	return header_count(header_of(&s->txn->body), SLICE("Received")) > (size_t)max;
}

void
esmtp_make_message(struct esmtp *s, int large_fd, uint64_t large_off)
{
	struct esmtp_txn *t = s->txn;
	struct esmtp_body *b = &t->body;
	struct slice was = header_of(b);
	struct bytes header = { 0 };

	(void)bytes_room(&header, was.n + 512);
	add_received(s, &header);
	bytes_add_slice(&header, was);
	policy_msg_set_header(t->msg, policy_block_take(&header));
	if (b->large != NULL) {
		policy_msg_set_body(t->msg, large_block(b->large_size, large_fd, large_off));
	} else if (b->data.n > was.n) {
		/* The buffer's memory is the block's from here on. */
		struct slice body = slice_of(b->data.p + was.n, b->data.n - was.n);
		policy_msg_set_body(t->msg, policy_block_borrow(body, free, b->data.p));
		b->data = (struct bytes){ 0 };
	}
}

/* What the recipient's own dictionary says of it: the session's names the last RCPT. */
static void
set_rcpt_context(struct policy_msg *clone, const struct esmtp_rcpt *rcpt)
{
	struct policy_context *mess = policy_msg_mess_context(clone);
	struct addr a;

	(void)policy_context_set(mess, SLICE("rcptto_string"), rcpt->line);
	if (addr_parse(rcpt->addr, ADDR_UTF8 | ADDR_BARE_LOCAL, &a) != OK)
		return;
	(void)policy_context_set(mess, SLICE("rcptto_localpart"), a.local);
	(void)policy_context_set(mess, SLICE("rcptto_domain"), a.domain);
}

/* The first that passes has the batch's id, which the client was told: so that one is always found under it. */
struct policy_msg *
esmtp_make_clone(struct esmtp *s, struct esmtp_rcpt *rcpt)
{
	struct esmtp_txn *t = s->txn;

	rcpt->id = t->kept ? s->r->env.store->new_id(s->r->env.store->arg) : t->id;
	rcpt->clone = policy_msg_clone(t->msg, rcpt->id, rcpt->addr);
	if (t->n > 1)
		set_rcpt_context(rcpt->clone, rcpt);
	return rcpt->clone;
}

static unsigned
dsn_recipients(const struct esmtp_txn *t, struct dsn_rcpt *out)
{
	unsigned n = 0;

	for (size_t i = 0; i < t->n; i++)
		if (t->rcpts[i].refused)
			out[n++] = (struct dsn_rcpt){ .rcpt = t->rcpts[i].addr,
						      .action = DSN_FAILED,
						      .reply = slice_str(arena_printf(
							      t->arena, "%d %.*s", t->rcpts[i].code,
							      (int)t->rcpts[i].text.n, t->rcpts[i].text.p)) };
	return n;
}

static struct policy_msg *
notice_message(struct esmtp *s, uint64_t id, struct bytes *header, struct bytes *body)
{
	struct esmtp_txn *t = s->txn;
	struct policy_msg_env env = {
		.rcpt = t->sender, .id = id, .batch = id, .conn = s->conn, .received_at = t->received_at
	};
	struct policy_msg *m;

	t->notice_session = policy_session_new_internal(s->r->env.policy, s->conn);
	m = policy_msg_new(t->notice_session, &env);
	policy_msg_set_header(m, policy_block_take(header));
	policy_msg_set_body(m, policy_block_take(body));
	return m;
}

void
esmtp_make_notice(struct esmtp *s)
{
	struct esmtp_txn *t = s->txn;
	struct dsn_rcpt *rcpts = arena_alloc(t->arena, t->n * sizeof *rcpts);
	uint64_t id = s->r->env.store->new_id(s->r->env.store->arg);
	struct dsn dsn = { .hostname = slice_str(policy_hostname(s->r->env.policy)),
			   .to = policy_msg_sender(t->msg),
			   .arrival = t->received_at,
			   .now = clock_real(),
			   .rcpts = rcpts,
			   .inlined = DSN_INLINE_HEADERS };
	char id_of_it[ID_TEXT], about[ID_TEXT];
	struct bytes header = { 0 }, body = { 0 };
	bool eightbit;

	if (dsn.to.n == 0)
		return;
	dsn.n = dsn_recipients(t, rcpts);
	id_text(id, id_of_it);
	id_text(t->id, about);
	dsn.id_text = slice_str(id_of_it);
	dsn.about_text = slice_str(about);
	(void)policy_block_bytes(policy_msg_header(t->msg), &dsn.headers);
	dsn_write(&dsn, &header, &body, &eightbit);
	t->notice = notice_message(s, id, &header, &body);
	t->notice_eightbit = eightbit;
}
