/* At the door of the spool. What is handed over becomes true, or not, without the session: a client that hangs up
 * after its final dot has sent a message all the same. The 250 is written here and nowhere else, by the one function
 * that is given the spool's proof. */
#include <stdlib.h>

#include "shm/base/mem.h"
#include "worker/log/ec_logger.h"
#include "worker/reception/esmtp_int.h"

struct esmtp_sent {
	struct reception *r;
	struct esmtp_cmd *cmd; /* NULL: the session is gone */
	struct arena *arena;   /* the transaction's: holds all that is below */
	struct reception_mail mail;
	struct reception_mail_item *items;
	const char *peer_ip;
	struct slice own_text;
	uint64_t *sizes; /* of each item */
	uint64_t id;
	int64_t held; /* content, until it is on disk */
};

/* One pack of a dictionary, and whose it was: siblings share dictionaries, so they share packs. */
struct pack {
	const struct policy_dict *of;
	struct slice bytes;
};

static struct slice
pack_context(struct arena *arena, const struct policy_context *c, struct pack *last)
{
	struct bytes packed = { 0 };

	if (c->dict == NULL)
		return slice_of(NULL, 0);
	if (last->of != c->dict) {
		policy_context_pack(c, &packed);
		last->of = c->dict;
		last->bytes = packed.n > 0 ? arena_slice(arena, slice_bytes(&packed)) : slice_of(NULL, 0);
		bytes_fini(&packed);
	}
	return last->bytes;
}

static struct slice
lower(struct arena *arena, struct slice s)
{
	char *p = arena_alloc(arena, s.n + 1);

	for (size_t i = 0; i < s.n; i++)
		p[i] = ascii_lower(s.p[i]);
	return slice_of(p, s.n);
}

/* The queue's domain: policy's choice, or the recipient's. */
static struct slice
routing_domain(const struct esmtp *s, const struct policy_msg *m)
{
	struct slice chosen = policy_msg_routing_domain(m), rcpt = policy_msg_rcpt(m);
	struct addr a;

	if (chosen.n > 0)
		return chosen;
	if (addr_parse(rcpt, ADDR_UTF8, &a) == OK && a.domain.n > 0)
		return a.domain;
	return slice_str(policy_hostname(s->r->env.policy));
}

static struct slice
block(struct policy_block *b)
{
	struct slice s = { 0 };

	/* Only a streamed body can fail to load, and that one is not asked for here. */
	(void)policy_block_bytes(b, &s);
	return s;
}

static void
fill_item(struct esmtp *s, struct policy_msg *m, struct reception_mail_item *item, struct pack packs[2])
{
	struct esmtp_txn *t = s->txn;
	struct slice binding = policy_msg_binding(m);

	item->id = policy_msg_id(m);
	item->sender = arena_slice(t->arena, policy_msg_sender(m));
	item->rcpt = arena_slice(t->arena, policy_msg_rcpt(m));
	item->priority = policy_msg_priority(m);
	item->due = policy_msg_due(m);
	item->binding = arena_slice(t->arena, binding.n > 0 ? binding : SLICE("default"));
	item->domain = lower(t->arena, routing_domain(s, m));
	item->conn_context = pack_context(t->arena, policy_msg_conn_context(m), &packs[0]);
	item->context = pack_context(t->arena, policy_msg_mess_context(m), &packs[1]);
}

static void
fill_clone(struct esmtp *s, struct policy_msg *m, struct reception_mail_item *item, struct pack packs[2])
{
	fill_item(s, m, item, packs);
	item->own_header = policy_msg_header_own(m, s->txn->msg);
	item->own_body = policy_msg_body_own(m, s->txn->msg);
	if (item->own_header)
		item->header = block(policy_msg_header(m));
	if (item->own_body)
		item->body = block(policy_msg_body(m));
	item->eightbit = s->txn->eightbit || s->txn->body.eightbit;
}

static void
fill_notice(struct esmtp *s, struct reception_mail_item *item)
{
	struct pack packs[2] = { { 0 } };

	fill_item(s, s->txn->notice, item, packs);
	item->generated = item->own_header = item->own_body = true;
	item->header = block(policy_msg_header(s->txn->notice));
	item->body = block(policy_msg_body(s->txn->notice));
	item->eightbit = s->txn->notice_eightbit;
}

static void
fill_items(struct esmtp *s, struct esmtp_sent *sent)
{
	struct esmtp_txn *t = s->txn;
	struct pack packs[2] = { { 0 } };
	size_t n = 0;

	sent->items = arena_alloc(t->arena, (t->n + 1) * sizeof *sent->items);
	sent->sizes = arena_alloc(t->arena, (t->n + 1) * sizeof *sent->sizes);
	for (size_t i = 0; i < t->n; i++)
		if (t->rcpts[i].clone != NULL) {
			sent->sizes[n] = policy_msg_size(t->rcpts[i].clone);
			fill_clone(s, t->rcpts[i].clone, &sent->items[n++], packs);
		}
	if (t->notice != NULL) {
		sent->sizes[n] = policy_msg_size(t->notice);
		fill_notice(s, &sent->items[n++]);
	}
	sent->mail.items = sent->items;
	sent->mail.n = n;
}

static struct esmtp_sent *
make_sent(struct esmtp *s)
{
	struct esmtp_txn *t = s->txn;
	struct esmtp_sent *sent = arena_alloc(t->arena, sizeof *sent);

	sent->r = s->r;
	sent->cmd = s->current;
	sent->id = t->id;
	sent->own_text = t->own_text;
	sent->peer_ip = arena_strdup(t->arena, s->peer_ip);
	sent->mail = (struct reception_mail){ .batch = t->id,
					      .conn = s->conn,
					      .received_at = t->received_at,
					      .peer = slice_str(s->peer),
					      .header = block(policy_msg_header(t->msg)),
					      .large = t->body.large,
					      .large_size = t->body.large_size,
					      .utf8 = t->utf8,
					      .nul = t->body.nul };
	if (t->body.large == NULL)
		sent->mail.body = block(policy_msg_body(t->msg));
	fill_items(s, sent);
	return sent;
}

/* Once it is on disk. */

static void
log_item(struct esmtp_sent *sent, const struct reception_mail_item *item, uint64_t size)
{
	char id[ID_TEXT], batch[ID_TEXT], conn[ID_TEXT];
	struct addr from = { 0 }, to = { 0 };
	struct eclog_reception line = { .now = sent->mail.received_at, .id = id, .batch = batch, .conn = conn };
	size_t index;

	if (sent->r->env.log == NULL)
		return;
	(void)addr_parse(item->sender, ADDR_NULL | ADDR_UTF8 | ADDR_BARE_LOCAL, &from);
	(void)addr_parse(item->rcpt, ADDR_UTF8 | ADDR_BARE_LOCAL, &to);
	id_text(item->id, id);
	id_text(item->generated ? item->id : sent->mail.batch, batch);
	id_text(sent->mail.conn, conn);
	line.rcpt_local = to.local;
	line.rcpt_domain = to.domain;
	line.from_local = from.local;
	line.from_domain = from.domain;
	line.peer_ip = item->generated ? SLICE("unknown") : slice_str(sent->peer_ip);
	line.size = size;
	line.protocol = item->generated ? SLICE("internal") : SLICE("esmtp");
	line.binding = item->binding;
	line.group = SLICE("default");
	if (conf_binding_find(sent->r->env.conf, item->binding, &index))
		line.group = slice_str(conf_binding_group(sent->r->env.conf, index));
	eclog_log_reception(sent->r->env.log, &line);
}

static void
count(struct esmtp_sent *sent)
{
	struct reception *r = sent->r;

	reception_count(r, CELL_TRANSACTIONS_IN, 1);
	for (size_t i = 0; i < sent->mail.n; i++) {
		reception_count(r, sent->items[i].generated ? CELL_GENERATED : CELL_RECIPIENTS_IN, 1);
		if (!sent->items[i].generated)
			reception_count(r, CELL_BYTES_IN, (int64_t)sent->sizes[i]);
		log_item(sent, &sent->items[i], sent->sizes[i]);
	}
}

/* The promise. Nothing else in reception says 250 to a message that is to be delivered. */
static void
say_250(struct esmtp_cmd *c, const struct esmtp_sent *sent, const struct spool_proof *proof)
{
	static const char ok[] = "2.0.0 OK ";
	char text[sizeof ok + ID_TEXT];

	(void)proof;
	memcpy(text, ok, sizeof ok);
	id_text(sent->id, text + sizeof ok - 1);
	if (sent->own_text.n > 0)
		esmtp_reply_slice(c, 250, sent->own_text);
	else
		esmtp_reply(c, 250, text);
}

static void
answer(struct esmtp_sent *sent, enum err e, const struct spool_proof *proof)
{
	struct esmtp_cmd *c = sent->cmd;

	if (c == NULL)
		return;
	if (e == OK && proof != NULL)
		say_250(c, sent, proof);
	else if (e == ERR_DAMAGED)
		esmtp_no_reply(c);
	else if (e == ERR_FULL)
		esmtp_reply(c, 452, "4.3.1 Insufficient system storage");
	else
		esmtp_reply(c, 451, "4.3.0 transaction failed");
}

static void
on_synced(void *arg, enum err e, const struct spool_proof *proof)
{
	struct esmtp_sent *sent = arg;
	struct reception *r = sent->r;
	struct arena *arena = sent->arena;

	if (e == OK)
		count(sent);
	answer(sent, e, proof);
	r->in_flight--;
	reception_hold(r, -sent->held);
	arena_free(&arena);
	reception_check_drained(r);
}

void
esmtp_sent_orphan(struct esmtp_sent *sent)
{
	sent->cmd = NULL;
}

void
esmtp_send_to_spool(struct esmtp *s)
{
	struct esmtp_txn *t = s->txn;
	struct reception *r = s->r;
	struct esmtp_sent *sent = make_sent(s);
	struct esmtp_cmd *c = s->current;
	enum err e;

	t->body.large = NULL; /* the store's from here on */
	e = r->env.store->submit(r->env.store->arg, &sent->mail, on_synced, sent);
	if (e != OK) {
		esmtp_judge_reply(
			s, e == ERR_FULL ? 452 : 451,
			slice_str(e == ERR_FULL ? "4.3.1 Insufficient system storage" : "4.3.0 transaction failed"));
		return;
	}
	r->in_flight++;
	s->accepted++;
	/* The arena moves to what was sent; the rest of the transaction ends here. */
	sent->arena = t->arena;
	sent->held = t->held;
	t->moved = true;
	esmtp_txn_drop(s);
	esmtp_enter(s, ES_READY);
	esmtp_cmd_detach(c, sent);
}
