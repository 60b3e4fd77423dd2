#include <stdlib.h>

#include "shm/base/mem.h"
#include "spool/spool_index_int.h"

enum { V1 = 1, V2 = 2 };

/* ---- keys ---- */

void
key_u8(struct key *k, uint8_t v)
{
	if (k->n < sizeof(k->b))
		k->b[k->n++] = v;
}

void
key_u16(struct key *k, uint16_t v)
{
	key_u8(k, (uint8_t)(v >> 8));
	key_u8(k, (uint8_t)v);
}

void
key_u32(struct key *k, uint32_t v)
{
	key_u16(k, (uint16_t)(v >> 16));
	key_u16(k, (uint16_t)v);
}

void
key_u64(struct key *k, uint64_t v)
{
	key_u32(k, (uint32_t)(v >> 32));
	key_u32(k, (uint32_t)v);
}

void
key_bytes(struct key *k, struct slice s)
{
	for (size_t i = 0; i < s.n; i++)
		key_u8(k, (uint8_t)s.p[i]);
}

struct slice
key_slice(const struct key *k)
{
	return slice_of(k->b, k->n);
}

static bool
take_be(struct slice *s, size_t n, uint64_t *v)
{
	struct slice b;

	if (!take_bytes(s, n, &b))
		return false;
	*v = 0;
	for (size_t i = 0; i < n; i++)
		*v = *v << 8 | (uint8_t)b.p[i];
	return true;
}

bool
take_be16(struct slice *s, uint16_t *v)
{
	uint64_t x;

	if (!take_be(s, 2, &x))
		return false;
	*v = (uint16_t)x;
	return true;
}

bool
take_be32(struct slice *s, uint32_t *v)
{
	uint64_t x;

	if (!take_be(s, 4, &x))
		return false;
	*v = (uint32_t)x;
	return true;
}

bool
take_be64(struct slice *s, uint64_t *v)
{
	return take_be(s, 8, v);
}

struct key
key_id(msgid_t id)
{
	struct key k = { .n = 0 };

	key_u64(&k, id);
	return k;
}

struct key
key_queue_prefix(uint64_t queue)
{
	struct key k = { .n = 0 };

	key_u16(&k, (uint16_t)(queue % PARTITIONS));
	key_u64(&k, queue);
	return k;
}

struct key
key_queue(const struct index_queue_key *q)
{
	struct key k = key_queue_prefix(q->queue);

	key_u8(&k, (uint8_t)(255 - q->priority));
	key_u64(&k, (uint64_t)q->due);
	key_u64(&k, q->id);
	return k;
}

struct key
key_wake(usec_t due, uint64_t queue)
{
	struct key k = { .n = 0 };

	key_u16(&k, (uint16_t)(queue % PARTITIONS));
	key_u64(&k, (uint64_t)due);
	key_u64(&k, queue);
	return k;
}

struct key
key_number(uint32_t number)
{
	struct key k = { .n = 0 };

	key_u32(&k, number);
	return k;
}

struct key
key_pair(uint64_t a, uint64_t b)
{
	struct key k = { .n = 0 };

	key_u64(&k, a);
	key_u64(&k, b);
	return k;
}

struct key
key_attempt(msgid_t id, uint32_t n)
{
	struct key k = key_id(id);

	key_u32(&k, n);
	return k;
}

struct key
key_edit(const struct fold_edit *e)
{
	struct key k = key_pair(e->id, (uint64_t)e->at);

	key_u32(&k, e->place.seg);
	key_u32(&k, e->place.off);
	return k;
}

struct key
key_place(struct place p)
{
	struct key k = key_number(p.seg);

	key_u32(&k, p.off);
	return k;
}

struct key
key_binding(struct slice name)
{
	struct key k = { .n = 0 };

	key_u8(&k, 'b');
	key_bytes(&k, name);
	return k;
}

/* ---- reading values: every reader ends with all bytes taken ---- */

static bool
take_bool(struct slice *s, bool *v)
{
	uint8_t u;

	if (!take_u8(s, &u))
		return false;
	*v = u != 0;
	return true;
}

static bool
take_version(struct slice *s)
{
	uint8_t v;

	return take_u8(s, &v) && v == V1;
}

static void
begin(struct bytes *b)
{
	b->n = 0;
	bytes_add_u8(b, V1);
}

/* ---- message rows ---- */

/* Version 2 has the last outcome behind all else: what was not answered yet costs nothing for it. */
void
encode_row(struct bytes *b, const struct index_row *r)
{
	b->n = 0;
	bytes_add_u8(b, r->said_at == 0 ? V1 : V2);
	bytes_add_u32(b, r->place.seg);
	bytes_add_u32(b, r->place.off);
	bytes_add_u16(b, r->item);
	bytes_add_u8(b, r->priority);
	bytes_add_u8(b, r->state);
	bytes_add_u8(b, r->aside);
	bytes_add_u8(b, r->fate);
	bytes_add_u8(b, r->origin);
	bytes_add_u8(b, r->deaths);
	bytes_add_u16(b, r->edits);
	bytes_add_u32(b, r->tries);
	bytes_add_u32(b, r->body_seg);
	bytes_add_u64(b, (uint64_t)r->due);
	bytes_add_u64(b, (uint64_t)r->received_at);
	bytes_add_u64(b, (uint64_t)r->look);
	bytes_add_u64(b, r->writer);
	bytes_add_u64(b, r->size);
	bytes_add_u64(b, (uint64_t)r->edit);
	bytes_add_lstr(b, r->sender);
	bytes_add_lstr(b, r->rcpt);
	bytes_add_lstr(b, r->binding);
	bytes_add_lstr(b, r->domain);
	bytes_add_lstr(b, r->reason);
	if (r->said_at == 0)
		return;
	bytes_add_u64(b, (uint64_t)r->said_at);
	bytes_add_u8(b, r->stage);
	bytes_add_lstr(b, r->remote);
}

/* The last outcome: only version 2 has one. */
static bool
row_said(struct slice *v, uint8_t version, struct index_row *r)
{
	r->said_at = 0;
	r->stage = 0;
	r->remote = slice_of(NULL, 0);
	return version == V1 || (take_i64(v, &r->said_at) && take_u8(v, &r->stage) && take_lstr(v, &r->remote));
}

static bool
row_small(struct slice *v, struct index_row *r)
{
	return take_u32(v, &r->place.seg) && take_u32(v, &r->place.off) && take_u16(v, &r->item) &&
	       take_u8(v, &r->priority) && take_u8(v, &r->state) && take_u8(v, &r->aside) && take_u8(v, &r->fate) &&
	       take_u8(v, &r->origin) && take_u8(v, &r->deaths) && take_u16(v, &r->edits) && take_u32(v, &r->tries) &&
	       take_u32(v, &r->body_seg);
}

bool
decode_row(struct slice k, struct slice v, void *out)
{
	struct index_row *r = out;
	uint8_t version;

	return take_be64(&k, &r->id) && k.n == 0 && take_u8(&v, &version) && (version == V1 || version == V2) &&
	       row_small(&v, r) && take_i64(&v, &r->due) && take_i64(&v, &r->received_at) && take_i64(&v, &r->look) &&
	       take_u64(&v, &r->writer) && take_u64(&v, &r->size) && take_i64(&v, &r->edit) &&
	       take_lstr(&v, &r->sender) && take_lstr(&v, &r->rcpt) && take_lstr(&v, &r->binding) &&
	       take_lstr(&v, &r->domain) && take_lstr(&v, &r->reason) && row_said(&v, version, r) && v.n == 0 &&
	       r->state < ROW_STATES;
}

struct index_row *
index_row_dup(const struct index_row *row)
{
	const struct slice *from[] = {
		&row->sender, &row->rcpt, &row->binding, &row->domain, &row->reason, &row->remote
	};
	struct index_row *r = mem_alloc(sizeof(*r) + row->sender.n + row->rcpt.n + row->binding.n + row->domain.n +
					row->reason.n + row->remote.n);
	struct slice *to[] = { &r->sender, &r->rcpt, &r->binding, &r->domain, &r->reason, &r->remote };
	char *p = (char *)(r + 1);

	*r = *row;
	for (size_t i = 0; i < sizeof(to) / sizeof(to[0]); i++) {
		if (from[i]->n > 0)
			memcpy(p, from[i]->p, from[i]->n);
		to[i]->p = p;
		p += from[i]->n;
	}
	return r;
}

bool
row_in_queue(const struct index_row *r)
{
	return r->state == ROW_QUEUED || r->state == ROW_DOUBT || (r->fate != ROW_LIVES && r->state != ROW_WORK);
}

struct index_queue_key
index_row_key(const struct index_row *row)
{
	return (struct index_queue_key){ spool_queue_hash(row->binding, row->domain), row->priority, row->due,
					 row->id };
}

struct index_queue_key
index_queue_first(uint64_t queue)
{
	return (struct index_queue_key){ .queue = queue, .priority = 255, .due = 0, .id = 0 };
}

/* ---- meta, ledger ---- */

void
encode_meta(struct bytes *b, const struct index_meta *m)
{
	begin(b);
	bytes_add_u64(b, m->keeper);
	bytes_add_u64(b, m->commits);
	bytes_add_u64(b, (uint64_t)m->scanned_at);
	bytes_add_u64(b, m->highest_id);
	bytes_add_u32(b, m->highest_seg);
	bytes_add_u8(b, m->rebuilding);
}

bool
decode_meta(struct slice k, struct slice v, void *out)
{
	struct index_meta *m = out;

	(void)k;
	return take_version(&v) && take_u64(&v, &m->keeper) && take_u64(&v, &m->commits) &&
	       take_i64(&v, &m->scanned_at) && take_u64(&v, &m->highest_id) && take_u32(&v, &m->highest_seg) &&
	       take_bool(&v, &m->rebuilding) && v.n == 0;
}

enum { LEDGER_FLOWS = 11 };

static void
ledger_flows(struct index_ledger *l, uint64_t *flow[LEDGER_FLOWS])
{
	uint64_t *list[LEDGER_FLOWS] = { &l->carried,   &l->accepted, &l->generated,      &l->delivered,
					 &l->bounced,   &l->expired,  &l->discarded,      &l->damaged,
					 &l->deferrals, &l->doubts,   &l->damaged_records };

	memcpy(flow, list, sizeof(list));
}

void
encode_ledger(struct bytes *b, const struct index_ledger *l)
{
	struct index_ledger copy = *l;
	uint64_t *flow[LEDGER_FLOWS];

	begin(b);
	ledger_flows(&copy, flow);
	for (size_t i = 0; i < LEDGER_FLOWS; i++)
		bytes_add_u64(b, *flow[i]);
}

bool
decode_ledger(struct slice k, struct slice v, void *out)
{
	uint64_t *flow[LEDGER_FLOWS];
	bool ok = take_version(&v);

	(void)k;
	ledger_flows(out, flow);
	for (size_t i = 0; i < LEDGER_FLOWS; i++)
		ok = ok && take_u64(&v, flow[i]);
	return ok && v.n == 0;
}

/* ---- queues and bindings ---- */

bool
decode_queue_key(struct slice k, struct slice v, void *out)
{
	struct index_queue_key *q = out;
	uint16_t partition;
	uint8_t turned;
	uint64_t due;

	(void)v;
	if (!take_be16(&k, &partition) || !take_be64(&k, &q->queue) || !take_u8(&k, &turned) || !take_be64(&k, &due) ||
	    !take_be64(&k, &q->id) || k.n != 0)
		return false;
	q->priority = (uint8_t)(255 - turned);
	q->due = (usec_t)due;
	return true;
}

bool
decode_wake(struct slice k, struct slice v, void *out)
{
	struct index_wake *w = out;
	uint16_t partition;
	uint64_t due;

	(void)v;
	if (!take_be16(&k, &partition) || !take_be64(&k, &due) || !take_be64(&k, &w->queue) || k.n != 0)
		return false;
	w->due = (usec_t)due;
	return true;
}

static void
add_counts(struct bytes *b, const struct index_counts *c)
{
	for (size_t i = 0; i < ROW_STATES; i++)
		bytes_add_u64(b, c->in[i]);
	bytes_add_u64(b, c->bytes);
}

static bool
take_counts(struct slice *v, struct index_counts *c)
{
	for (size_t i = 0; i < ROW_STATES; i++)
		if (!take_u64(v, &c->in[i]))
			return false;
	return take_u64(v, &c->bytes);
}

void
encode_queue(struct bytes *b, const struct index_queue *q)
{
	begin(b);
	add_counts(b, &q->counts);
	bytes_add_u64(b, (uint64_t)q->wake);
	bytes_add_lstr(b, q->binding);
	bytes_add_lstr(b, q->domain);
}

bool
decode_queue(struct slice k, struct slice v, void *out)
{
	struct index_queue *q = out;

	return take_be64(&k, &q->queue) && k.n == 0 && take_version(&v) && take_counts(&v, &q->counts) &&
	       take_i64(&v, &q->wake) && take_lstr(&v, &q->binding) && take_lstr(&v, &q->domain) && v.n == 0;
}

void
encode_binding(struct bytes *b, const struct index_binding *q)
{
	begin(b);
	add_counts(b, &q->counts);
}

bool
decode_binding(struct slice k, struct slice v, void *out)
{
	struct index_binding *q = out;
	uint8_t tag;

	if (!take_u8(&k, &tag) || !take_version(&v) || !take_counts(&v, &q->counts) || v.n != 0)
		return false;
	q->name = k;
	return true;
}

bool
decode_look(struct slice k, struct slice v, void *out)
{
	struct index_look *l = out;
	uint64_t at;

	(void)v;
	if (!take_be64(&k, &at) || !take_be64(&k, &l->id) || k.n != 0)
		return false;
	l->at = (usec_t)at;
	return true;
}

/* ---- segments, writers ---- */

void
encode_segment(struct bytes *b, const struct index_segment *s)
{
	begin(b);
	bytes_add_u8(b, s->kind);
	bytes_add_u8(b, s->state);
	bytes_add_u8(b, s->slot);
	bytes_add_u64(b, s->writer);
	bytes_add_u32(b, s->folded);
	bytes_add_u32(b, s->mark);
	bytes_add_u32(b, s->end);
	bytes_add_u32(b, s->messages);
	bytes_add_u32(b, s->attempts);
	bytes_add_u32(b, s->edits);
	bytes_add_u32(b, s->damaged);
	bytes_add_u8(b, s->used);
}

bool
decode_segment(struct slice k, struct slice v, void *out)
{
	struct index_segment *s = out;

	return take_be32(&k, &s->number) && k.n == 0 && take_version(&v) && take_u8(&v, &s->kind) &&
	       take_u8(&v, &s->state) && take_u8(&v, &s->slot) && take_u64(&v, &s->writer) &&
	       take_u32(&v, &s->folded) && take_u32(&v, &s->mark) && take_u32(&v, &s->end) &&
	       take_u32(&v, &s->messages) && take_u32(&v, &s->attempts) && take_u32(&v, &s->edits) &&
	       take_u32(&v, &s->damaged) && take_bool(&v, &s->used) && v.n == 0;
}

void
encode_writer(struct bytes *b, const struct fold_writer *w)
{
	begin(b);
	bytes_add_u8(b, w->gone);
	bytes_add_u64(b, (uint64_t)w->when);
}

bool
decode_writer(struct slice k, struct slice v, void *out)
{
	struct fold_writer *w = out;

	return take_be64(&k, &w->writer) && k.n == 0 && take_version(&v) && take_bool(&v, &w->gone) &&
	       take_i64(&v, &w->when) && v.n == 0;
}

void
encode_handover(struct bytes *b, const struct index_handover *h)
{
	begin(b);
	bytes_add_u32(b, h->place.seg);
	bytes_add_u32(b, h->place.off);
	bytes_add_lstr(b, h->ids);
}

bool
decode_handover(struct slice k, struct slice v, void *out)
{
	struct index_handover *h = out;

	return take_be64(&k, &h->owner) && take_be64(&k, &h->writer) && k.n == 0 && take_version(&v) &&
	       take_u32(&v, &h->place.seg) && take_u32(&v, &h->place.off) && take_lstr(&v, &h->ids) && v.n == 0 &&
	       h->ids.n % sizeof(msgid_t) == 0;
}

/* ---- attempts, edits, damage ---- */

void
encode_attempt(struct bytes *b, const struct index_attempt *a)
{
	begin(b);
	bytes_add_u8(b, a->state);
	bytes_add_u64(b, a->writer);
	bytes_add_u32(b, a->seg);
	bytes_add_u64(b, (uint64_t)a->at);
	bytes_add_u64(b, (uint64_t)a->since);
	bytes_add_lstr(b, a->rcpt);
	bytes_add_lstr(b, a->domain);
	bytes_add_lstr(b, a->binding);
}

bool
decode_attempt(struct slice k, struct slice v, void *out)
{
	struct index_attempt *a = out;

	return take_be64(&k, &a->id) && take_be32(&k, &a->n) && k.n == 0 && take_version(&v) &&
	       take_u8(&v, &a->state) && take_u64(&v, &a->writer) && take_u32(&v, &a->seg) && take_i64(&v, &a->at) &&
	       take_i64(&v, &a->since) && take_lstr(&v, &a->rcpt) && take_lstr(&v, &a->domain) &&
	       take_lstr(&v, &a->binding) && v.n == 0;
}

void
encode_edit(struct bytes *b, const struct fold_edit *e)
{
	begin(b);
	bytes_add_u8(b, e->action);
	bytes_add_u64(b, e->lo);
	bytes_add_u64(b, e->hi);
	bytes_add_u64(b, e->done);
	bytes_add_lstr(b, e->binding);
	bytes_add_lstr(b, e->domain);
	bytes_add_lstr(b, e->reason);
}

bool
decode_edit(struct slice k, struct slice v, void *out)
{
	struct fold_edit *e = out;
	uint64_t at;

	if (!take_be64(&k, &e->id) || !take_be64(&k, &at) || !take_be32(&k, &e->place.seg) ||
	    !take_be32(&k, &e->place.off) || k.n != 0)
		return false;
	e->at = (usec_t)at;
	return take_version(&v) && take_u8(&v, &e->action) && take_u64(&v, &e->lo) && take_u64(&v, &e->hi) &&
	       take_u64(&v, &e->done) && take_lstr(&v, &e->binding) && take_lstr(&v, &e->domain) &&
	       take_lstr(&v, &e->reason) && v.n == 0;
}

void
encode_damage(struct bytes *b, const struct index_damage *d)
{
	begin(b);
	bytes_add_u32(b, d->len);
	bytes_add_u32(b, d->recipients);
	bytes_add_u64(b, (uint64_t)d->found_at);
}

bool
decode_damage(struct slice k, struct slice v, void *out)
{
	struct index_damage *d = out;

	return take_be32(&k, &d->place.seg) && take_be32(&k, &d->place.off) && k.n == 0 && take_version(&v) &&
	       take_u32(&v, &d->len) && take_u32(&v, &d->recipients) && take_i64(&v, &d->found_at) && v.n == 0;
}

/* ---- words ---- */

const char *
row_state_text(enum row_state s)
{
	static const char *const text[ROW_STATES] = { "queued", "in work", "in doubt", "held", "quarantined" };

	return s < ROW_STATES ? text[s] : "unknown";
}

const char *
attempt_state_text(enum attempt_state s)
{
	static const char *const text[] = { "open", "in doubt", "retried", "held", "delivered", "failed", "discarded" };

	return s < sizeof(text) / sizeof(text[0]) ? text[s] : "unknown";
}
