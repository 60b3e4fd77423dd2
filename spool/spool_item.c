/* The items of a record: fields in, bytes out, and back. One pair of functions for each kind, in the order of the enum.
 */
#include "spool/spool_record.h"

#include "shm/base/le.h"

/* A message with a time of its own is of version 2: the time stands behind the rest. */
enum { ITEM_HEAD = 6, ITEM_VERSION = 1, MESSAGE_TIMED = 2 };

/* ---------------------------------------------------------------- common fields */

static void
add_place(struct bytes *b, struct place p)
{
	bytes_add_u32(b, p.seg);
	bytes_add_u32(b, p.off);
}

static bool
take_place(struct slice *s, struct place *p)
{
	return take_u32(s, &p->seg) && take_u32(s, &p->off);
}

/* Which type a record with such an item has, unless another item of it ranks higher. */
static const struct {
	enum record_type type;
	int rank;
} dominates[ITEM_KIND_MAX] = {
	[ITEM_MESSAGE] = { RECORD_MESSAGE, 1 },   [ITEM_ATTEMPT] = { RECORD_ATTEMPT, 2 },
	[ITEM_HANDOVER] = { RECORD_HANDOVER, 3 }, [ITEM_EDIT] = { RECORD_EDIT, 4 },
	[ITEM_OUTCOME] = { RECORD_OUTCOME, 5 },   [ITEM_COPY] = { RECORD_COPY, 6 },
	[ITEM_END] = { RECORD_END, 7 },
};

static int
rank_of(enum record_type type)
{
	for (int k = 1; k < ITEM_KIND_MAX; k++)
		if (dominates[k].type == type)
			return dominates[k].rank;
	return 0;
}

/* Gives where the item begins, for item_end. */
static size_t
item_begin(struct record *r, enum item_kind kind)
{
	size_t at = r->meta.n;

	bytes_add_u8(&r->meta, (uint8_t)kind);
	bytes_add_u8(&r->meta, ITEM_VERSION);
	bytes_add_u32(&r->meta, 0);
	r->items++;
	if (dominates[kind].rank > rank_of(r->type))
		r->type = dominates[kind].type;
	return at;
}

static void
item_end(struct record *r, size_t at)
{
	le_put32(r->meta.p + at + 2, (uint32_t)(r->meta.n - at - ITEM_HEAD));
}

/* ---------------------------------------------------------------- message */

void
record_add_message(struct record *r, const struct spool_message *m)
{
	size_t at = item_begin(r, ITEM_MESSAGE);
	struct bytes *b = &r->meta;

	bytes_add_u64(b, m->id);
	bytes_add_u64(b, m->batch);
	bytes_add_u64(b, m->conn);
	bytes_add_u64(b, (uint64_t)m->received_at);
	bytes_add_u8(b, m->origin);
	bytes_add_u8(b, m->protocol);
	bytes_add_u8(b, m->priority);
	bytes_add_u8(b, m->notify);
	bytes_add_u16(b, m->flags);
	bytes_add_lstr(b, m->sender);
	bytes_add_lstr(b, m->rcpt);
	bytes_add_lstr(b, m->orcpt);
	bytes_add_lstr(b, m->envid);
	bytes_add_lstr(b, m->ret);
	bytes_add_lstr(b, m->binding);
	bytes_add_lstr(b, m->domain);
	bytes_add_lstr(b, m->peer);
	bytes_add_u64(b, m->size);
	bytes_add_u16(b, m->header_blob);
	bytes_add_u16(b, m->body_blob);
	bytes_add_u16(b, m->conn_ctx_blob);
	bytes_add_u16(b, m->ctx_blob);
	if (m->due != 0) {
		r->meta.p[at + 1] = MESSAGE_TIMED;
		bytes_add_u64(b, (uint64_t)m->due);
	}
	item_end(r, at);
}

static bool
message_take(struct slice *s, uint8_t version, struct spool_message *m)
{
	m->due = 0;
	return take_u64(s, &m->id) && take_u64(s, &m->batch) && take_u64(s, &m->conn) && take_i64(s, &m->received_at) &&
	       take_u8(s, &m->origin) && take_u8(s, &m->protocol) && take_u8(s, &m->priority) &&
	       take_u8(s, &m->notify) && take_u16(s, &m->flags) && take_lstr(s, &m->sender) && take_lstr(s, &m->rcpt) &&
	       take_lstr(s, &m->orcpt) && take_lstr(s, &m->envid) && take_lstr(s, &m->ret) &&
	       take_lstr(s, &m->binding) && take_lstr(s, &m->domain) && take_lstr(s, &m->peer) &&
	       take_u64(s, &m->size) && take_u16(s, &m->header_blob) && take_u16(s, &m->body_blob) &&
	       take_u16(s, &m->conn_ctx_blob) && take_u16(s, &m->ctx_blob) &&
	       (version == ITEM_VERSION || take_i64(s, &m->due));
}

/* ---------------------------------------------------------------- attempt, outcome */

void
record_add_attempt(struct record *r, const struct spool_attempt *a)
{
	size_t at = item_begin(r, ITEM_ATTEMPT);

	bytes_add_u64(&r->meta, a->id);
	bytes_add_u32(&r->meta, a->n);
	bytes_add_u16(&r->meta, a->item);
	add_place(&r->meta, a->place);
	bytes_add_u64(&r->meta, (uint64_t)a->at);
	item_end(r, at);
}

static bool
attempt_take(struct slice *s, struct spool_attempt *a)
{
	return take_u64(s, &a->id) && take_u32(s, &a->n) && take_u16(s, &a->item) && take_place(s, &a->place) &&
	       take_i64(s, &a->at);
}

bool
outcome_is_final(enum outcome_kind kind)
{
	return kind == OUTCOME_DELIVERED || kind == OUTCOME_BOUNCED || kind == OUTCOME_EXPIRED ||
	       kind == OUTCOME_DISCARDED;
}

void
record_add_outcome(struct record *r, const struct spool_outcome *o)
{
	size_t at = item_begin(r, ITEM_OUTCOME);
	struct bytes *b = &r->meta;

	bytes_add_u64(b, o->id);
	bytes_add_u32(b, o->n);
	bytes_add_u16(b, o->item);
	bytes_add_u8(b, o->kind);
	bytes_add_u8(b, o->stage);
	add_place(b, o->place);
	bytes_add_u64(b, (uint64_t)o->at);
	bytes_add_u64(b, (uint64_t)o->next_due);
	bytes_add_lstr(b, o->text);
	bytes_add_lstr(b, o->remote);
	item_end(r, at);
}

static bool
outcome_take(struct slice *s, struct spool_outcome *o)
{
	return take_u64(s, &o->id) && take_u32(s, &o->n) && take_u16(s, &o->item) && take_u8(s, &o->kind) &&
	       take_u8(s, &o->stage) && take_place(s, &o->place) && take_i64(s, &o->at) && take_i64(s, &o->next_due) &&
	       take_lstr(s, &o->text) && take_lstr(s, &o->remote) && o->kind > 0 && o->kind < OUTCOME_KIND_MAX;
}

/* ---------------------------------------------------------------- edit, handover, end, copy */

void
record_add_edit(struct record *r, const struct spool_edit *e)
{
	size_t at = item_begin(r, ITEM_EDIT);
	struct bytes *b = &r->meta;

	bytes_add_u64(b, e->id_lo);
	bytes_add_u64(b, e->id_hi);
	bytes_add_u8(b, e->action);
	bytes_add_u16(b, e->item);
	add_place(b, e->place);
	bytes_add_u64(b, (uint64_t)e->at);
	bytes_add_lstr(b, e->binding);
	bytes_add_lstr(b, e->domain);
	bytes_add_lstr(b, e->reason);
	item_end(r, at);
}

static bool
edit_take(struct slice *s, struct spool_edit *e)
{
	return take_u64(s, &e->id_lo) && take_u64(s, &e->id_hi) && take_u8(s, &e->action) && take_u16(s, &e->item) &&
	       take_place(s, &e->place) && take_i64(s, &e->at) && take_lstr(s, &e->binding) &&
	       take_lstr(s, &e->domain) && take_lstr(s, &e->reason) && e->action > 0 && e->action < EDIT_ACTION_MAX;
}

void
record_add_handover(struct record *r, uint64_t owner, const msgid_t *ids, uint32_t count)
{
	size_t at = item_begin(r, ITEM_HANDOVER);

	bytes_add_u64(&r->meta, owner);
	bytes_add_u32(&r->meta, count);
	for (uint32_t i = 0; i < count; i++)
		bytes_add_u64(&r->meta, ids[i]);
	item_end(r, at);
}

static bool
handover_take(struct slice *s, struct spool_handover *h)
{
	return take_u64(s, &h->owner) && take_u32(s, &h->count) && take_bytes(s, (size_t)h->count * 8, &h->ids);
}

msgid_t
handover_id(const struct spool_handover *h, uint32_t i)
{
	return le_get64(h->ids.p + (size_t)i * 8);
}

void
record_add_end(struct record *r, const struct spool_end *e)
{
	size_t at = item_begin(r, ITEM_END);

	bytes_add_u32(&r->meta, e->seg);
	bytes_add_u32(&r->meta, e->mark);
	item_end(r, at);
}

static bool
end_take(struct slice *s, struct spool_end *e)
{
	return take_u32(s, &e->seg) && take_u32(s, &e->mark);
}

void
record_add_copy(struct record *r, const struct spool_copy *c)
{
	size_t at = item_begin(r, ITEM_COPY);
	struct bytes *b = &r->meta;

	bytes_add_u64(b, c->id);
	add_place(b, c->from);
	bytes_add_u16(b, c->from_item);
	bytes_add_u8(b, c->state);
	bytes_add_u32(b, c->tries);
	bytes_add_u64(b, (uint64_t)c->due);
	bytes_add_lstr(b, c->reason);
	item_end(r, at);
}

static bool
copy_take(struct slice *s, struct spool_copy *c)
{
	return take_u64(s, &c->id) && take_place(s, &c->from) && take_u16(s, &c->from_item) && take_u8(s, &c->state) &&
	       take_u32(s, &c->tries) && take_i64(s, &c->due) && take_lstr(s, &c->reason);
}

/* ---------------------------------------------------------------- reading */

void
item_reader_init(struct item_reader *r, const struct record_head *h, struct slice meta)
{
	r->rest = meta;
	r->number = 0;
	r->left = h->type == RECORD_TOC ? 0 : h->items;
}

static bool
item_take(enum item_kind kind, uint8_t version, struct slice *s, struct spool_item *out)
{
	out->kind = kind;
	switch (kind) {
	case ITEM_MESSAGE:
		return message_take(s, version, &out->message);
	case ITEM_ATTEMPT:
		return attempt_take(s, &out->attempt);
	case ITEM_OUTCOME:
		return outcome_take(s, &out->outcome);
	case ITEM_EDIT:
		return edit_take(s, &out->edit);
	case ITEM_HANDOVER:
		return handover_take(s, &out->handover);
	case ITEM_END:
		return end_take(s, &out->end);
	case ITEM_COPY:
		return copy_take(s, &out->copy);
	case ITEM_KIND_MAX:
		break;
	}
	return false;
}

/* The next item's kind, version and fields. */
static bool
item_cut(struct item_reader *r, uint8_t *kind, uint8_t *version, struct slice *fields)
{
	return r->left > 0 && take_u8(&r->rest, kind) && take_u8(&r->rest, version) && take_lstr(&r->rest, fields);
}

enum err
item_next(struct item_reader *r, struct spool_item *out)
{
	struct slice fields;
	uint8_t kind, version;

	if (r->left == 0)
		return r->rest.n == 0 ? ERR_EOF : ERR_DAMAGED;
	if (!item_cut(r, &kind, &version, &fields))
		return ERR_DAMAGED;
	r->left--;
	r->number++;
	if (kind == 0 || kind >= ITEM_KIND_MAX ||
	    (version != ITEM_VERSION && (kind != ITEM_MESSAGE || version != MESSAGE_TIMED)))
		return ERR_VERSION;
	if (!item_take((enum item_kind)kind, version, &fields, out) || fields.n != 0)
		return ERR_DAMAGED;
	return OK;
}

enum err
item_get(const struct record_head *h, struct slice meta, uint16_t n, struct spool_item *out)
{
	struct item_reader r;
	struct slice skipped;
	uint8_t kind, version;

	item_reader_init(&r, h, meta);
	if (n >= r.left)
		return ERR_NOTFOUND;
	while (r.number < n) {
		if (!item_cut(&r, &kind, &version, &skipped))
			return ERR_DAMAGED;
		r.left--;
		r.number++;
	}
	return item_next(&r, out);
}

uint64_t
spool_queue_hash(struct slice binding, struct slice domain)
{
	uint64_t h = UINT64_C(0xcbf29ce484222325); /* FNV-1a, then mixed so that the low bits serve as partition */

	for (size_t i = 0; i < binding.n; i++)
		h = (h ^ (unsigned char)binding.p[i]) * UINT64_C(0x100000001b3);
	h *= UINT64_C(0x100000001b3); /* a NUL between */
	for (size_t i = 0; i < domain.n; i++)
		h = (h ^ (unsigned char)ascii_lower(domain.p[i])) * UINT64_C(0x100000001b3);
	h ^= h >> 32;
	h *= UINT64_C(0xd6e8feb86659fd93);
	return h ^ h >> 32;
}
