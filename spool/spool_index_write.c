#include "spool/spool_index_write.h"

#include <bsd/sys/tree.h>
#include <stdlib.h>

#include "shm/base/log.h"
#include "shm/base/mem.h"
#include "spool/spool_index_int.h"

/* What a commit changes in the counts of one queue, or of one binding (then queue is 0). */
struct delta {
	RB_ENTRY(delta) node;
	uint64_t queue;
	struct slice binding, domain;
	char *text;
	int64_t in[ROW_STATES];
	int64_t bytes;
};
RB_HEAD(delta_tree, delta);

struct index_writer {
	struct lmdb_txn *t;
	index_look_fn *look;
	void *arg;
	struct bytes value; /* scratch */
	struct delta_tree queues, bindings;
	uint64_t rows;
	msgid_t last; /* no row has a higher id; UINT64_MAX: not yet looked */
};

static int
delta_cmp(struct delta *a, struct delta *b)
{
	size_t n = a->binding.n < b->binding.n ? a->binding.n : b->binding.n;
	int d;

	if (a->queue != b->queue)
		return a->queue < b->queue ? -1 : 1;
	if (a->queue != 0)
		return 0;
	d = n == 0 ? 0 : memcmp(a->binding.p, b->binding.p, n);
	return d != 0 ? d : a->binding.n < b->binding.n ? -1 : a->binding.n > b->binding.n;
}

RB_PROTOTYPE(delta_tree, delta, node, delta_cmp)
RB_GENERATE(delta_tree, delta, node, delta_cmp)

/* ---- begin ---- */

struct index_writer *
index_write_begin(struct index *ix, index_look_fn *look, void *arg)
{
	struct index_writer *w = mem_zalloc(sizeof(*w));

	require_that(ix->keeper, "index");
	w->t = lmdb_write(ix->env);
	w->look = look;
	w->arg = arg;
	w->last = UINT64_MAX;
	return w;
}

uint64_t
index_write_rows(const struct index_writer *w)
{
	return w->rows;
}

/* ---- puts and dels that are only that ---- */

static enum err
put(struct index_writer *w, enum index_table table, const struct key *k)
{
	lmdb_put(w->t, table, key_slice(k), slice_bytes(&w->value));
	return lmdb_txn_error(w->t);
}

static enum err
put_empty(struct index_writer *w, enum index_table table, const struct key *k)
{
	w->value.n = 0;
	return put(w, table, k);
}

static enum err
del(struct index_writer *w, enum index_table table, const struct key *k)
{
	(void)lmdb_del(w->t, table, key_slice(k));
	return lmdb_txn_error(w->t);
}

enum err
index_put_segment(void *writer, const struct index_segment *s)
{
	struct index_writer *w = writer;
	struct key k = key_number(s->number);

	encode_segment(&w->value, s);
	return put(w, T_SEGMENT, &k);
}

enum err
index_del_segment(void *writer, uint32_t number)
{
	struct key k = key_number(number);

	return del(writer, T_SEGMENT, &k);
}

enum err
index_put_attempt(void *writer, const struct index_attempt *a)
{
	struct index_writer *w = writer;
	struct key k = key_attempt(a->id, a->n);

	encode_attempt(&w->value, a);
	return put(w, T_ATTEMPT, &k);
}

enum err
index_del_attempt(void *writer, msgid_t id, uint32_t n)
{
	struct key k = key_attempt(id, n);

	return del(writer, T_ATTEMPT, &k);
}

enum err
index_put_edit(void *writer, const struct fold_edit *e)
{
	struct index_writer *w = writer;
	struct key k = key_edit(e);

	encode_edit(&w->value, e);
	return put(w, T_EDIT, &k);
}

enum err
index_del_edit(void *writer, const struct fold_edit *e)
{
	struct key k = key_edit(e);

	return del(writer, T_EDIT, &k);
}

enum err
index_put_writer(void *writer, const struct fold_writer *fw)
{
	struct index_writer *w = writer;
	struct key k = key_id(fw->writer);

	encode_writer(&w->value, fw);
	return put(w, T_WRITER, &k);
}

enum err
index_del_writer(void *writer, uint64_t number)
{
	struct key k = key_id(number);

	return del(writer, T_WRITER, &k);
}

enum err
index_put_handover(void *writer, const struct index_handover *h)
{
	struct index_writer *w = writer;
	struct key k = key_pair(h->owner, h->writer);

	encode_handover(&w->value, h);
	return put(w, T_HANDOVER, &k);
}

enum err
index_del_handover(void *writer, uint64_t owner, uint64_t number)
{
	struct key k = key_pair(owner, number);

	return del(writer, T_HANDOVER, &k);
}

enum err
index_put_damage(void *writer, const struct index_damage *d)
{
	struct index_writer *w = writer;
	struct key k = key_place(d->place);

	encode_damage(&w->value, d);
	return put(w, T_DAMAGE, &k);
}

enum err
index_put_ledger(void *writer, const struct index_ledger *l)
{
	struct index_writer *w = writer;
	struct key k = { .n = 0 };

	key_bytes(&k, SLICE("ledger"));
	encode_ledger(&w->value, l);
	return put(w, T_META, &k);
}

enum err
index_put_meta(void *writer, const struct index_meta *m)
{
	struct index_writer *w = writer;
	struct key k = { .n = 0 };

	key_bytes(&k, SLICE("meta"));
	encode_meta(&w->value, m);
	return put(w, T_META, &k);
}

enum err
index_clear(void *writer)
{
	struct index_writer *w = writer;

	for (unsigned i = 0; i < T_COUNT; i++)
		lmdb_empty(w->t, i);
	return lmdb_txn_error(w->t);
}

/* ---- counts ---- */

static struct delta *
delta_want(struct delta_tree *tree, uint64_t queue, const struct index_row *r)
{
	struct delta key = { .queue = queue, .binding = r->binding }, *d = RB_FIND(delta_tree, tree, &key);

	if (d != NULL)
		return d;
	d = mem_zalloc(sizeof(*d));
	d->queue = queue;
	d->binding = r->binding;
	d->domain = r->domain;
	d->text = mem_alloc(r->binding.n + r->domain.n + 1);
	if (r->binding.n > 0)
		memcpy(d->text, r->binding.p, r->binding.n);
	if (r->domain.n > 0)
		memcpy(d->text + r->binding.n, r->domain.p, r->domain.n);
	d->binding.p = d->text;
	d->domain.p = d->text + r->binding.n;
	RB_INSERT(delta_tree, tree, d);
	return d;
}

static void
count(struct index_writer *w, const struct index_row *r, uint64_t queue, int n)
{
	struct delta *q = delta_want(&w->queues, queue, r), *b = delta_want(&w->bindings, 0, r);

	q->in[r->state] += n;
	b->in[r->state] += n;
	q->bytes += n * (int64_t)r->size;
	b->bytes += n * (int64_t)r->size;
}

static bool
counts_add(struct index_counts *c, const struct delta *d)
{
	uint64_t sum = 0;

	for (size_t i = 0; i < ROW_STATES; i++) {
		c->in[i] += (uint64_t)d->in[i];
		sum += c->in[i];
	}
	c->bytes += (uint64_t)d->bytes;
	return sum > 0;
}

/* The earliest due time of all priorities: within one they are in order, so a look at each first entry is enough. */
static usec_t
earliest(struct index_writer *w, uint64_t queue)
{
	struct lmdb_cursor *c = lmdb_cursor_open(w->t, T_QUEUE);
	struct key prefix = key_queue_prefix(queue), from = prefix;
	struct index_queue_key q;
	usec_t due = INT64_MAX;
	struct slice k, v;

	while (lmdb_seek(c, key_slice(&from), &k, &v)) {
		if (k.n < prefix.n || memcmp(k.p, prefix.b, prefix.n) != 0)
			break;
		if (!decode_queue_key(k, v, &q)) {
			lmdb_txn_fail(w->t, ERR_DAMAGED);
			break;
		}
		if (q.due < due)
			due = q.due;
		if (q.priority == 0)
			break;
		from = prefix;
		key_u8(&from, (uint8_t)(255 - q.priority + 1));
	}
	lmdb_cursor_close(&c);
	return due;
}

static enum err
move_wake(struct index_writer *w, uint64_t queue, usec_t was, usec_t now)
{
	struct key k;

	if (was == now)
		return OK;
	if (was != INT64_MAX) {
		k = key_wake(was, queue);
		(void)del(w, T_WAKE, &k);
	}
	if (now != INT64_MAX) {
		k = key_wake(now, queue);
		(void)put_empty(w, T_WAKE, &k);
	}
	return lmdb_txn_error(w->t);
}

static enum err
finish_queue(struct index_writer *w, const struct delta *d)
{
	struct index_queue q = { .queue = d->queue };
	struct key k = key_id(d->queue);
	enum err e = table_get(w->t, T_QUEUES, &k, decode_queue, &q);
	usec_t was;
	bool any;

	if (e == ERR_NOTFOUND)
		q = (struct index_queue){ .queue = d->queue, .wake = INT64_MAX };
	else if (e != OK)
		return e;
	was = q.wake;
	any = counts_add(&q.counts, d);
	q.wake = earliest(w, d->queue);
	q.binding = d->binding;
	q.domain = d->domain;
	e = move_wake(w, d->queue, was, q.wake);
	if (e != OK)
		return e;
	if (!any)
		return del(w, T_QUEUES, &k);
	encode_queue(&w->value, &q);
	return put(w, T_QUEUES, &k);
}

static enum err
finish_binding(struct index_writer *w, const struct delta *d)
{
	struct index_binding b = { .name = d->binding };
	struct key k = key_binding(d->binding);
	enum err e = table_get(w->t, T_BINDINGS, &k, decode_binding, &b);

	if (e != OK && e != ERR_NOTFOUND)
		return e;
	if (e == ERR_NOTFOUND)
		b = (struct index_binding){ .name = d->binding };
	if (!counts_add(&b.counts, d))
		return del(w, T_BINDINGS, &k);
	encode_binding(&w->value, &b);
	return put(w, T_BINDINGS, &k);
}

static enum err
finish_counts(struct index_writer *w)
{
	struct delta *d;
	enum err e = lmdb_txn_error(w->t);

	RB_FOREACH (d, delta_tree, &w->queues)
		if (e == OK)
			e = finish_queue(w, d);
	RB_FOREACH (d, delta_tree, &w->bindings)
		if (e == OK)
			e = finish_binding(w, d);
	return e;
}

/* ---- message rows and what hangs on them ---- */

/* Keys under which a row is also found. */
struct hangers {
	uint64_t queue;
	struct key in_queue, look, aside; /* n = 0: none */
	uint8_t which;
};

static struct hangers
hangers_of(const struct index_row *r)
{
	struct hangers h = { .which = r->state };
	struct index_queue_key q = index_row_key(r);

	h.queue = q.queue;
	if (row_in_queue(r))
		h.in_queue = key_queue(&q);
	if (r->look != INT64_MAX)
		h.look = key_pair((uint64_t)r->look, r->id);
	if (r->state == ROW_HELD || r->state == ROW_QUARANTINED)
		h.aside = key_id(r->id);
	return h;
}

static bool
same_key(const struct key *a, const struct key *b)
{
	return a->n == b->n && memcmp(a->b, b->b, a->n) == 0;
}

/* From key `was` to key `now`, either of which may be none. */
static void
move_key(struct index_writer *w, enum index_table table, const struct key *was, const struct key *now)
{
	if (same_key(was, now))
		return;
	if (was->n > 0)
		(void)del(w, table, was);
	if (now->n > 0)
		(void)put_empty(w, table, now);
}

static void
put_aside(struct index_writer *w, const struct hangers *was, const struct hangers *now)
{
	if (now->aside.n > 0) {
		w->value.n = 0;
		bytes_add_u8(&w->value, now->which);
		(void)put(w, T_ASIDE, &now->aside);
	} else if (was->aside.n > 0) {
		(void)del(w, T_ASIDE, &was->aside);
	}
}

static void
hang(struct index_writer *w, const struct hangers *was, const struct hangers *now)
{
	move_key(w, T_QUEUE, &was->in_queue, &now->in_queue);
	move_key(w, T_EXPIRY, &was->look, &now->look);
	put_aside(w, was, now);
}

static usec_t
first_look(struct index_writer *w, const struct index_row *r)
{
	return w->look != NULL ? w->look(w->arg, r) : r->received_at + INT64_C(86400) * USEC_PER_SEC;
}

static msgid_t
last_id(struct index_writer *w)
{
	struct lmdb_cursor *c = lmdb_cursor_open(w->t, T_MESSAGE);
	struct slice k, v;
	uint64_t id = 0;

	if (lmdb_last(c, &k, &v) && !take_be64(&k, &id))
		lmdb_txn_fail(w->t, ERR_DAMAGED);
	lmdb_cursor_close(&c);
	return id;
}

/* Ids mostly rise: a page that is appended to is filled, one that is inserted into stays half empty. */
static enum err
put_message(struct index_writer *w, const struct key *k, msgid_t id, bool added)
{
	if (!added)
		return put(w, T_MESSAGE, k);
	if (w->last == UINT64_MAX)
		w->last = last_id(w);
	if (id <= w->last)
		return put(w, T_MESSAGE, k);
	w->last = id;
	lmdb_append(w->t, T_MESSAGE, key_slice(k), slice_bytes(&w->value));
	/* The last one is not the last one. */
	return lmdb_txn_error(w->t) == ERR_STATE ? ERR_DAMAGED : lmdb_txn_error(w->t);
}

enum err
index_put_row(void *writer, const struct index_row *was, const struct index_row *now)
{
	struct index_writer *w = writer;
	struct hangers hwas = { 0 }, hnow = { 0 };
	struct index_row row;
	struct key k = key_id(was != NULL ? was->id : now->id);

	if (was != NULL) {
		hwas = hangers_of(was);
		count(w, was, hwas.queue, -1);
	}
	if (now != NULL) {
		row = *now;
		if (row.look == 0)
			row.look = first_look(w, now);
		hnow = hangers_of(&row);
		count(w, now, hnow.queue, 1);
		encode_row(&w->value, &row);
		(void)put_message(w, &k, now->id, was == NULL);
	} else {
		(void)del(w, T_MESSAGE, &k);
	}
	hang(w, &hwas, &hnow);
	w->rows++;
	return lmdb_txn_error(w->t);
}

/* ---- expiry ---- */

static enum err
look_again(struct index_writer *w, const struct index_look *l, usec_t (*fn)(void *arg, const struct index_row *row),
	   void *arg)
{
	struct key k = key_pair((uint64_t)l->at, l->id), id = key_id(l->id);
	struct index_row row, *was;
	enum err e = table_get(w->t, T_MESSAGE, &id, decode_row, &row);

	if (e == ERR_NOTFOUND)
		return del(w, T_EXPIRY, &k);
	if (e != OK)
		return e;
	was = index_row_dup(&row);
	row = *was;
	row.look = fn(arg, was);
	e = row.look == was->look ? OK : index_put_row(w, was, &row);
	free(was);
	return e;
}

enum err
index_sweep(struct index_writer *w, usec_t now, size_t max, usec_t (*fn)(void *arg, const struct index_row *row),
	    void *arg)
{
	struct index_look *due = mem_array(NULL, max, sizeof(*due));
	struct table_page p = {
		.table = T_EXPIRY, .decode = decode_look, .out = due, .size = sizeof(*due), .max = max
	};
	size_t n = 0, done = 0;
	enum err e = table_page(w->t, &p, &n);

	for (; e == OK && done < n && due[done].at <= now; done++)
		e = look_again(w, &due[done], fn, arg);
	free(due);
	return e == OK && done == 0 ? ERR_EOF : e;
}

/* ---- end ---- */

/* That a root has no parent: see fold_forget. */
static void
free_deltas(struct delta_tree *tree)
{
	struct delta *d;

	while ((d = RB_ROOT(tree)) != NULL) {
		require_that(RB_PARENT(d, node) == NULL, "index");
		RB_REMOVE(delta_tree, tree, d);
		free(d->text);
		free(d);
	}
}

static void
free_writer(struct index_writer **w)
{
	free_deltas(&(*w)->queues);
	free_deltas(&(*w)->bindings);
	bytes_fini(&(*w)->value);
	free(*w);
	*w = NULL;
}

void
index_write_abort(struct index_writer **w)
{
	if (*w == NULL)
		return;
	lmdb_abort(&(*w)->t);
	free_writer(w);
}

enum err
index_write_finish(struct index_writer **w)
{
	enum err e = finish_counts(*w);

	if (e != OK) {
		index_write_abort(w);
		return e;
	}
	e = lmdb_commit(&(*w)->t);
	free_writer(w);
	return e;
}
