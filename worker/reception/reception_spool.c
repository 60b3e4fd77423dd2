#include "worker/reception/reception_spool.h"

#include <stdlib.h>

#include "shm/base/log.h"
#include "shm/base/mem.h"
#include "spool/spool.h"
#include "spool/spool_segment.h"

struct reception_spool {
	struct reception_store store;
	struct spool *sp;
	reception_queued_fn *queued;
	void *arg;
};

/* A streamed body, and who asked to be told that it is written. */
struct large {
	struct spool_body *body;
	void (*ready)(void *arg, enum err e, int fd, uint64_t off);
	void *ready_arg;
};

/* A record on its way: the mail it was made of is its sender's, and lives until `done`. */
struct flight {
	struct reception_spool *rs;
	const struct reception_mail *mail;
	reception_done_fn *done;
	void *done_arg;
};

static bool
store_accepting(void *arg)
{
	struct reception_spool *rs = arg;

	return spool_accepting(rs->sp);
}

static void
store_expect(void *arg)
{
	struct reception_spool *rs = arg;

	spool_expect(rs->sp);
}

static uint64_t
store_new_id(void *arg)
{
	struct reception_spool *rs = arg;

	return spool_new_id(rs->sp);
}

static void *
store_body_new(void *arg, void (*room)(void *room_arg), void *room_arg)
{
	struct reception_spool *rs = arg;
	struct large *l = mem_zalloc(sizeof *l);

	l->body = spool_body_new(rs->sp, room, room_arg);
	return l;
}

static enum err
store_body_append(void *body, struct slice bytes)
{
	struct large *l = body;

	return spool_body_append(l->body, bytes);
}

static void
on_written(void *arg, enum err why, int fd)
{
	struct large *l = arg;

	l->ready(l->ready_arg, why, fd, SEGMENT_HEAD);
}

static void
store_body_written(void *body, void (*ready)(void *ready_arg, enum err e, int fd, uint64_t off), void *ready_arg)
{
	struct large *l = body;

	l->ready = ready;
	l->ready_arg = ready_arg;
	spool_body_written(l->body, on_written, l);
}

static void
store_body_free(void *body)
{
	struct large *l = body;

	spool_body_free(&l->body);
	free(l);
}

/* Blobs of the record; a slice that was given before gets the number it has. */
struct blobs {
	struct spool_txn *txn;
	uint16_t header, body;
	struct slice conn_context, context;
	uint16_t conn_context_no, context_no;
	bool failed;
};

static uint16_t
add_blob(struct blobs *b, struct slice bytes)
{
	uint16_t no;

	if (bytes.n == 0)
		return BLOB_NONE;
	no = spool_txn_blob(b->txn, bytes);
	if (no == BLOB_NONE)
		b->failed = true;
	return no;
}

static uint16_t
add_shared(struct blobs *b, struct slice bytes, struct slice *last, uint16_t *no)
{
	if (bytes.n == 0)
		return BLOB_NONE;
	if (last->p != bytes.p || last->n != bytes.n) {
		*no = add_blob(b, bytes);
		*last = bytes;
	}
	return *no;
}

static uint64_t
item_size(const struct reception_mail *mail, const struct reception_mail_item *it)
{
	uint64_t header = it->own_header ? it->header.n : mail->header.n;
	uint64_t shared = mail->large != NULL ? mail->large_size : mail->body.n;

	return header + (it->own_body ? it->body.n : shared);
}

static void
add_item(struct blobs *b, const struct reception_mail *mail, const struct reception_mail_item *it)
{
	struct spool_message m = { .id = it->id,
				   .batch = it->generated ? it->id : mail->batch,
				   .conn = mail->conn,
				   .received_at = mail->received_at,
				   .origin = it->generated ? ORIGIN_GENERATED : ORIGIN_ACCEPTED,
				   .protocol = it->generated ? PROTOCOL_INTERNAL : PROTOCOL_ESMTP,
				   .priority = it->priority,
				   .due = it->due,
				   .sender = it->sender,
				   .rcpt = it->rcpt,
				   .binding = it->binding,
				   .domain = it->domain,
				   .peer = it->generated ? slice_of(NULL, 0) : mail->peer,
				   .size = item_size(mail, it) };

	m.flags = (uint16_t)((it->eightbit ? MSG_8BITMIME : 0) | (mail->utf8 ? MSG_SMTPUTF8 : 0) |
			     (mail->nul && !it->generated ? MSG_NUL : 0) | (it->generated ? MSG_DSN : 0));
	m.header_blob = it->own_header ? add_blob(b, it->header) : b->header;
	m.body_blob = it->own_body ? add_blob(b, it->body) : b->body;
	m.conn_ctx_blob = add_shared(b, it->conn_context, &b->conn_context, &b->conn_context_no);
	m.ctx_blob = add_shared(b, it->context, &b->context, &b->context_no);
	(void)spool_txn_message(b->txn, &m);
}

static void
tell_owners(const struct flight *f, const struct spool_proof *proof)
{
	struct reception_queued q = { .place = proof_place(proof), .received_at = f->mail->received_at };

	for (size_t i = 0; i < f->mail->n && f->rs->queued != NULL; i++) {
		const struct reception_mail_item *it = &f->mail->items[i];

		q.id = it->id;
		q.item = (uint16_t)i;
		q.priority = it->priority;
		q.due = it->due;
		q.binding = it->binding;
		q.domain = it->domain;
		q.size = item_size(f->mail, it);
		f->rs->queued(f->rs->arg, &q);
	}
}

static void
on_synced(void *arg, enum err e, const struct spool_proof *proof)
{
	struct flight *f = arg;

	if (e == OK)
		tell_owners(f, proof);
	f->done(f->done_arg, e, proof);
	free(f);
}

static uint16_t
add_body(struct blobs *b, struct reception_mail *mail)
{
	struct large *l = mail->large;
	uint16_t no;

	if (l == NULL)
		return add_blob(b, mail->body);
	no = spool_txn_body(b->txn, &l->body);
	if (no == BLOB_NONE)
		b->failed = true;
	store_body_free(l);
	return no;
}

static enum err
store_submit(void *arg, struct reception_mail *mail, reception_done_fn *done, void *done_arg)
{
	struct reception_spool *rs = arg;
	struct blobs b = { .txn = spool_txn_new(rs->sp) };
	struct flight *f;
	enum err e;

	b.header = add_blob(&b, mail->header);
	b.body = add_body(&b, mail);
	for (size_t i = 0; i < mail->n; i++)
		add_item(&b, mail, &mail->items[i]);
	if (b.failed) {
		spool_txn_free(&b.txn);
		return ERR_RANGE;
	}
	f = mem_zalloc(sizeof *f);
	*f = (struct flight){ .rs = rs, .mail = mail, .done = done, .done_arg = done_arg };
	e = spool_submit(b.txn, on_synced, f);
	if (e != OK)
		free(f);
	return e;
}

struct reception_spool *
reception_spool_new(struct spool *sp, reception_queued_fn *queued, void *arg)
{
	struct reception_spool *rs = mem_zalloc(sizeof *rs);

	rs->sp = sp;
	rs->queued = queued;
	rs->arg = arg;
	rs->store = (struct reception_store){ .accepting = store_accepting,
					      .expect = store_expect,
					      .new_id = store_new_id,
					      .body_new = store_body_new,
					      .body_append = store_body_append,
					      .body_written = store_body_written,
					      .body_free = store_body_free,
					      .submit = store_submit,
					      .arg = rs };
	return rs;
}

void
reception_spool_free(struct reception_spool **rs)
{
	free(*rs);
	*rs = NULL;
}

const struct reception_store *
reception_spool_store(const struct reception_spool *rs)
{
	return &rs->store;
}
