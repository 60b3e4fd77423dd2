#include "spool/spool_index_int.h"

/* ---- plain pages ---- */

enum err
index_message_page(struct index_txn *t, msgid_t after, struct index_row *rows, size_t max, size_t *n)
{
	struct table_page p = { .table = T_MESSAGE,
				.after = key_id(after),
				.decode = decode_row,
				.out = rows,
				.size = sizeof(*rows),
				.max = max };

	return table_page(t->t, &p, n);
}

enum err
index_queue_page(struct index_txn *t, const struct index_queue_key *after, struct index_queue_key *keys, size_t max,
		 size_t *n)
{
	struct key prefix = key_queue_prefix(after->queue);
	struct table_page p = { .table = T_QUEUE,
				.prefix = key_slice(&prefix),
				.after = key_queue(after),
				.decode = decode_queue_key,
				.out = keys,
				.size = sizeof(*keys),
				.max = max };

	return table_page(t->t, &p, n);
}

enum err
index_wake_page(struct index_txn *t, unsigned partition, const struct index_wake *after, struct index_wake *wakes,
		size_t max, size_t *n)
{
	struct key prefix = { .n = 0 };
	struct table_page p = {
		.table = T_WAKE, .decode = decode_wake, .out = wakes, .size = sizeof(*wakes), .max = max
	};

	key_u16(&prefix, (uint16_t)partition);
	p.prefix = key_slice(&prefix);
	if (after != NULL)
		p.after = key_wake(after->due, after->queue);
	return table_page(t->t, &p, n);
}

enum err
index_queue_list(struct index_txn *t, uint64_t after, struct index_queue *out, size_t max, size_t *n)
{
	struct table_page p = {
		.table = T_QUEUES, .decode = decode_queue, .out = out, .size = sizeof(*out), .max = max
	};

	if (after != 0)
		p.after = key_id(after);
	return table_page(t->t, &p, n);
}

enum err
index_binding_list(struct index_txn *t, struct slice after, struct index_binding *out, size_t max, size_t *n)
{
	struct table_page p = {
		.table = T_BINDINGS, .decode = decode_binding, .out = out, .size = sizeof(*out), .max = max
	};

	if (after.n > 0)
		p.after = key_binding(after);
	return table_page(t->t, &p, n);
}

enum err
index_totals(struct index_txn *t, struct index_counts *out)
{
	struct index_binding page[16];
	struct table_page p = {
		.table = T_BINDINGS, .decode = decode_binding, .out = page, .size = sizeof(page[0]), .max = 16
	};
	size_t n;
	enum err e;

	*out = (struct index_counts){ .bytes = 0 };
	while ((e = table_page(t->t, &p, &n)) == OK) {
		for (size_t i = 0; i < n; i++) {
			for (size_t s = 0; s < ROW_STATES; s++)
				out->in[s] += page[i].counts.in[s];
			out->bytes += page[i].counts.bytes;
		}
		p.after = key_binding(page[n - 1].name);
	}
	return e == ERR_EOF ? OK : e;
}

enum err
index_segment_list(struct index_txn *t, uint32_t after, struct index_segment *out, size_t max, size_t *n)
{
	struct table_page p = { .table = T_SEGMENT,
				.after = key_number(after),
				.decode = decode_segment,
				.out = out,
				.size = sizeof(*out),
				.max = max };

	return table_page(t->t, &p, n);
}

enum err
index_damage_page(struct index_txn *t, struct place after, struct index_damage *out, size_t max, size_t *n)
{
	struct table_page p = { .table = T_DAMAGE,
				.after = key_place(after),
				.decode = decode_damage,
				.out = out,
				.size = sizeof(*out),
				.max = max };

	return table_page(t->t, &p, n);
}

enum err
index_expiry_page(struct index_txn *t, const struct index_look *after, struct index_look *out, size_t max, size_t *n)
{
	struct table_page p = {
		.table = T_EXPIRY, .decode = decode_look, .out = out, .size = sizeof(*out), .max = max
	};

	if (after != NULL)
		p.after = key_pair((uint64_t)after->at, after->id);
	return table_page(t->t, &p, n);
}

/* ---- pages that join or pass over ---- */

/* A queue key without its row would be a fault of the keeper's: it is passed over, the ledger will show it. */
enum err
index_queue_rows(struct index_txn *t, const struct index_queue_key *after, struct index_row *rows, size_t max,
		 size_t *n)
{
	struct index_queue_key keys[64], last = *after;
	enum err e = OK;

	*n = 0;
	while (*n < max && e == OK) {
		size_t want = max - *n < 64 ? max - *n : 64, got;

		e = index_queue_page(t, &last, keys, want, &got);
		for (size_t i = 0; e == OK && i < got; i++) {
			last = keys[i];
			e = index_message_get(t, keys[i].id, &rows[*n]);
			if (e == OK)
				(*n)++;
			else if (e == ERR_NOTFOUND)
				e = OK;
		}
	}
	return e == ERR_EOF && *n > 0 ? OK : e;
}

struct aside {
	msgid_t id;
	uint8_t which;
};

static bool
decode_aside(struct slice k, struct slice v, void *out)
{
	struct aside *a = out;

	return take_be64(&k, &a->id) && take_u8(&v, &a->which) && v.n == 0;
}

static bool
aside_wanted(uint8_t state, enum index_aside_which which)
{
	return which == ASIDE_ANY || (which == ASIDE_HELD) == (state == ROW_HELD);
}

enum err
index_aside_page(struct index_txn *t, msgid_t after, enum index_aside_which which, struct index_row *rows, size_t max,
		 size_t *n)
{
	struct aside found[64];
	struct table_page p = { .table = T_ASIDE, .decode = decode_aside, .out = found, .size = sizeof(found[0]) };
	enum err e = OK;

	*n = 0;
	while (*n < max && e == OK) {
		size_t got;

		p.after = key_id(after);
		p.max = max - *n < 64 ? max - *n : 64;
		e = table_page(t->t, &p, &got);
		for (size_t i = 0; e == OK && i < got; i++) {
			after = found[i].id;
			if (!aside_wanted(found[i].which, which))
				continue;
			e = index_message_get(t, found[i].id, &rows[*n]);
			if (e == OK)
				(*n)++;
			else if (e == ERR_NOTFOUND)
				e = OK;
		}
	}
	return e == ERR_EOF && *n > 0 ? OK : e;
}

enum err
index_attempt_page(struct index_txn *t, msgid_t after, uint32_t after_n, bool doubts_only, struct index_attempt *out,
		   size_t max, size_t *n)
{
	struct table_page p = { .table = T_ATTEMPT, .decode = decode_attempt, .size = sizeof(*out), .max = 1 };
	enum err e = OK;

	*n = 0;
	while (*n < max && e == OK) {
		size_t got;

		p.after = key_attempt(after, after_n);
		p.out = &out[*n];
		p.max = doubts_only ? 1 : max - *n;
		e = table_page(t->t, &p, &got);
		if (e != OK)
			break;
		after = out[*n + got - 1].id;
		after_n = out[*n + got - 1].n;
		if (!doubts_only || out[*n].state != ATTEMPT_OPEN)
			*n += got;
	}
	return e == ERR_EOF && *n > 0 ? OK : e;
}
