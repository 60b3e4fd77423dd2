/* fold_world.h - a disk and a map in memory for the fold: journals are arrays of facts, a commit is a copy
 * Record number i of a segment begins at FW_OFF(i). What the map holds can be written as text, so that two ways of
 * getting there can be compared. */
#ifndef T_UNIT_SPOOL_FOLD_WORLD_H
#define T_UNIT_SPOOL_FOLD_WORLD_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include "shm/base/mem.h"
#include "spool/spool_fold.h"
#include "spool/spool_segment.h"

#define FW_OFF(i) ((uint32_t)(SEGMENT_HEAD + (i)*64))
enum { FW_RECORDS = 32, FW_ITEMS = 4, FW_SEGMENTS = 16, FW_ROWS = 64 };

struct fw_record {
	struct fold_item items[FW_ITEMS];
	uint32_t count;
	bool lost;
};

struct fw_segment {
	uint32_t number; /* 0: no such file */
	uint8_t kind;
	uint64_t writer;
	bool sealed;
	uint32_t mark; /* records synced */
	uint32_t end_of, end_at;
	struct fw_record rec[FW_RECORDS];
	uint32_t n;
	struct {
		msgid_t id;
		uint32_t n;
	} ended[FW_RECORDS];
	uint32_t ended_n;
};

/* Rows are heap copies. */
struct fw_map {
	struct index_row *row[FW_ROWS];
	size_t rows;
	struct index_segment seg[FW_SEGMENTS];
	size_t segs;
	struct index_attempt att[FW_ROWS];
	size_t atts;
	struct fold_edit edit[FW_ROWS];
	size_t edits;
	struct fold_writer writer[FW_ROWS];
	size_t writers;
	struct index_handover hand[FW_ROWS];
	size_t hands;
	size_t damages;
	struct index_ledger ledger;
	struct index_meta meta;
};

struct fw {
	struct fw_segment seg[FW_SEGMENTS];
	struct fw_map map, next;
	struct fold *fold;
	unsigned row_puts;
	struct index_row **copies; /* all that were made: maps share them */
	size_t copies_n;
	enum err fail_rows; /* what reading a row answers instead */
};

/* ---- journals ---- */

static inline struct fw_segment *
fw_seg(struct fw *w, uint32_t number)
{
	for (size_t i = 0; i < FW_SEGMENTS; i++)
		if (w->seg[i].number == number)
			return &w->seg[i];
	return NULL;
}

static inline struct fw_segment *
fw_make(struct fw *w, uint32_t number, uint64_t writer)
{
	struct fw_segment *s = fw_seg(w, 0);

	*s = (struct fw_segment){ .number = number, .kind = SEGMENT_JOURNAL, .writer = writer };
	return s;
}

/* One record of one item, synced; gives its place. */
static inline struct place
fw_write(struct fw *w, uint32_t number, struct spool_item it)
{
	struct fw_segment *s = fw_seg(w, number);
	struct place at = { number, FW_OFF(s->n) };

	s->rec[s->n].items[0].item = it;
	s->rec[s->n].count = 1;
	s->mark = ++s->n;
	return at;
}

static inline struct place
fw_message(struct fw *w, uint32_t number, msgid_t id)
{
	return fw_write(w, number,
			(struct spool_item){ .kind = ITEM_MESSAGE,
					     .message = { .id = id,
							  .batch = id,
							  .received_at = (usec_t)id,
							  .origin = ORIGIN_ACCEPTED,
							  .sender = SLICE("a@x"),
							  .rcpt = SLICE("b@y"),
							  .binding = SLICE("out1"),
							  .domain = SLICE("y"),
							  .header_blob = BLOB_NONE,
							  .body_blob = BLOB_NONE,
							  .conn_ctx_blob = BLOB_NONE,
							  .ctx_blob = BLOB_NONE } });
}

static inline struct place
fw_attempt(struct fw *w, uint32_t number, msgid_t id, uint32_t n, struct place p)
{
	return fw_write(w, number,
			(struct spool_item){ .kind = ITEM_ATTEMPT,
					     .attempt = { .id = id, .n = n, .place = p, .at = 1000 + n } });
}

static inline struct place
fw_outcome(struct fw *w, uint32_t number, msgid_t id, uint32_t n, enum outcome_kind kind, struct place p)
{
	return fw_write(w, number,
			(struct spool_item){ .kind = ITEM_OUTCOME,
					     .outcome = { .id = id,
							  .n = n,
							  .kind = (uint8_t)kind,
							  .place = p,
							  .at = 1000 + n,
							  .next_due = 5000 + n,
							  .text = SLICE("450 later") } });
}

static inline struct place
fw_edit(struct fw *w, uint32_t number, msgid_t id, enum edit_action action, usec_t at, struct place p)
{
	return fw_write(w, number,
			(struct spool_item){ .kind = ITEM_EDIT,
					     .edit = { .id_lo = id,
						       .id_hi = id,
						       .action = (uint8_t)action,
						       .at = at,
						       .place = p,
						       .reason = SLICE("said so") } });
}

/* ---- the world ---- */

static inline enum err
fw_find(void *arg, uint32_t seg, struct fold_file *out)
{
	struct fw_segment *s = fw_seg(arg, seg);

	if (s == NULL)
		return ERR_NOTFOUND;
	*out = (struct fold_file){ .number = seg,
				   .kind = s->kind,
				   .writer = s->writer,
				   .sealed = s->sealed,
				   .mark = FW_OFF(s->mark),
				   .end_of = s->end_of,
				   .end_at = s->end_at };
	return OK;
}

static inline enum err
fw_limit(void *arg, uint32_t seg, uint32_t from, uint32_t *limit)
{
	struct fw_segment *s = fw_seg(arg, seg);

	(void)from;
	if (s == NULL)
		return ERR_NOTFOUND;
	*limit = s->sealed ? FW_OFF(s->n) : FW_OFF(s->mark);
	return OK;
}

static inline enum err
fw_record(void *arg, uint32_t seg, uint32_t off, uint32_t limit, struct fold_record *out)
{
	struct fw_segment *s = fw_seg(arg, seg);
	uint32_t i = off <= SEGMENT_HEAD ? 0 : (off - SEGMENT_HEAD + 63) / 64;

	if (s == NULL)
		return ERR_NOTFOUND;
	if (i >= s->n || FW_OFF(i) >= limit)
		return ERR_EOF;
	*out = (struct fold_record){ .off = FW_OFF(i),
				     .next = FW_OFF(i + 1),
				     .mark = FW_OFF(i),
				     .items = s->rec[i].items,
				     .count = s->rec[i].count,
				     .lost = s->rec[i].lost };
	return OK;
}

static inline enum err
fw_row(void *arg, msgid_t id, struct index_row *out)
{
	struct fw *w = arg;

	if (w->fail_rows != OK)
		return w->fail_rows;
	for (size_t i = 0; i < w->map.rows; i++)
		if (w->map.row[i]->id == id) {
			*out = *w->map.row[i];
			return OK;
		}
	return ERR_NOTFOUND;
}

static inline enum err
fw_rows(void *arg, msgid_t lo, msgid_t hi, enum err (*fn)(void *, const struct index_row *), void *fn_arg)
{
	struct fw *w = arg;

	for (msgid_t id = lo; id <= hi && id < 1000; id++)
		for (size_t i = 0; i < w->map.rows; i++)
			if (w->map.row[i]->id == id) {
				enum err e = fn(fn_arg, w->map.row[i]);

				if (e != OK)
					return e;
			}
	return OK;
}

static inline enum err
fw_edits(void *arg, msgid_t id, enum err (*fn)(void *, const struct fold_edit *), void *fn_arg)
{
	struct fw *w = arg;

	for (size_t i = 0; i < w->map.edits; i++)
		if (w->map.edit[i].id == id)
			assert_int_equal(fn(fn_arg, &w->map.edit[i]), OK);
	return OK;
}

static inline enum err
fw_ended(void *arg, uint32_t seg, enum err (*fn)(void *, msgid_t id, uint32_t n), void *fn_arg)
{
	struct fw_segment *s = fw_seg(arg, seg);

	for (uint32_t i = 0; s != NULL && i < s->ended_n; i++)
		assert_int_equal(fn(fn_arg, s->ended[i].id, s->ended[i].n), OK);
	return OK;
}

#define FW_FIND(list, count, same)     \
	for (i = 0; i < m->count; i++) \
		if (same)              \
	break
#define FW_DEL(list, count)                               \
	do {                                              \
		if (i < m->count)                         \
			m->list[i] = m->list[--m->count]; \
	} while (0)
#define FW_PUT(list, count, value)    \
	do {                          \
		if (i == m->count)    \
			m->count++;   \
		m->list[i] = (value); \
	} while (0)

static inline enum err
fw_put_row(void *arg, const struct index_row *was, const struct index_row *now)
{
	struct fw *w = arg;
	struct fw_map *m = &w->next;
	msgid_t id = was != NULL ? was->id : now->id;
	size_t i;

	w->row_puts++;
	FW_FIND(row, rows, m->row[i]->id == id);
	assert_int_equal(was != NULL, i < m->rows);
	if (now == NULL) {
		FW_DEL(row, rows);
		return OK;
	}
	w->copies = mem_array(w->copies, w->copies_n + 1, sizeof(w->copies[0]));
	w->copies[w->copies_n] = index_row_dup(now);
	FW_PUT(row, rows, w->copies[w->copies_n++]);
	return OK;
}

static inline enum err
fw_put_segment(void *arg, const struct index_segment *s)
{
	struct fw_map *m = &((struct fw *)arg)->next;
	size_t i;

	FW_FIND(seg, segs, m->seg[i].number == s->number);
	FW_PUT(seg, segs, *s);
	return OK;
}

static inline enum err
fw_del_segment(void *arg, uint32_t number)
{
	struct fw_map *m = &((struct fw *)arg)->next;
	size_t i;

	FW_FIND(seg, segs, m->seg[i].number == number);
	FW_DEL(seg, segs);
	return OK;
}

static inline enum err
fw_put_attempt(void *arg, const struct index_attempt *a)
{
	struct fw_map *m = &((struct fw *)arg)->next;
	size_t i;

	FW_FIND(att, atts, m->att[i].id == a->id && m->att[i].n == a->n);
	FW_PUT(att, atts, *a);
	m->att[i].rcpt = m->att[i].domain = m->att[i].binding = SLICE("");
	return OK;
}

static inline enum err
fw_del_attempt(void *arg, msgid_t id, uint32_t n)
{
	struct fw_map *m = &((struct fw *)arg)->next;
	size_t i;

	FW_FIND(att, atts, m->att[i].id == id && m->att[i].n == n);
	FW_DEL(att, atts);
	return OK;
}

static inline bool
fw_same_edit(const struct fold_edit *a, const struct fold_edit *b)
{
	return a->id == b->id && a->at == b->at && a->place.seg == b->place.seg && a->place.off == b->place.off;
}

/* All edits of these tests give one reason. */
static inline enum err
fw_put_edit(void *arg, const struct fold_edit *e)
{
	struct fw_map *m = &((struct fw *)arg)->next;
	size_t i;

	FW_FIND(edit, edits, fw_same_edit(&m->edit[i], e));
	FW_PUT(edit, edits, *e);
	m->edit[i].reason = e->reason.n == 7 ? SLICE("said so") : SLICE("other");
	m->edit[i].binding = m->edit[i].domain = SLICE("");
	return OK;
}

static inline enum err
fw_del_edit(void *arg, const struct fold_edit *e)
{
	struct fw_map *m = &((struct fw *)arg)->next;
	size_t i;

	FW_FIND(edit, edits, fw_same_edit(&m->edit[i], e));
	FW_DEL(edit, edits);
	return OK;
}

static inline enum err
fw_put_writer(void *arg, const struct fold_writer *fw)
{
	struct fw_map *m = &((struct fw *)arg)->next;
	size_t i;

	FW_FIND(writer, writers, m->writer[i].writer == fw->writer);
	FW_PUT(writer, writers, *fw);
	return OK;
}

static inline enum err
fw_del_writer(void *arg, uint64_t writer)
{
	struct fw_map *m = &((struct fw *)arg)->next;
	size_t i;

	FW_FIND(writer, writers, m->writer[i].writer == writer);
	FW_DEL(writer, writers);
	return OK;
}

static inline enum err
fw_put_handover(void *arg, const struct index_handover *h)
{
	struct fw_map *m = &((struct fw *)arg)->next;
	size_t i;

	FW_FIND(hand, hands, m->hand[i].owner == h->owner && m->hand[i].writer == h->writer);
	FW_PUT(hand, hands, *h);
	m->hand[i].ids = SLICE("");
	return OK;
}

static inline enum err
fw_del_handover(void *arg, uint64_t owner, uint64_t writer)
{
	struct fw_map *m = &((struct fw *)arg)->next;
	size_t i;

	FW_FIND(hand, hands, m->hand[i].owner == owner && m->hand[i].writer == writer);
	FW_DEL(hand, hands);
	return OK;
}

static inline enum err
fw_put_damage(void *arg, const struct index_damage *d)
{
	(void)d;
	((struct fw *)arg)->next.damages++;
	return OK;
}

static inline enum err
fw_put_ledger(void *arg, const struct index_ledger *l)
{
	((struct fw *)arg)->next.ledger = *l;
	return OK;
}

static inline enum err
fw_put_meta(void *arg, const struct index_meta *m)
{
	((struct fw *)arg)->next.meta = *m;
	return OK;
}

static inline enum err
fw_clear(void *arg)
{
	((struct fw *)arg)->next = (struct fw_map){ .rows = 0 };
	return OK;
}

static const struct fold_world fw_world = { .find = fw_find,
					    .limit = fw_limit,
					    .record = fw_record,
					    .row = fw_row,
					    .rows = fw_rows,
					    .edits = fw_edits,
					    .ended = fw_ended,
					    .put_row = fw_put_row,
					    .put_segment = fw_put_segment,
					    .del_segment = fw_del_segment,
					    .put_attempt = fw_put_attempt,
					    .del_attempt = fw_del_attempt,
					    .put_edit = fw_put_edit,
					    .del_edit = fw_del_edit,
					    .put_writer = fw_put_writer,
					    .del_writer = fw_del_writer,
					    .put_handover = fw_put_handover,
					    .del_handover = fw_del_handover,
					    .put_damage = fw_put_damage,
					    .put_ledger = fw_put_ledger,
					    .put_meta = fw_put_meta,
					    .clear = fw_clear };

/* ---- a keeper's life ---- */

static inline void
fw_see_all(struct fw *w)
{
	struct fold_file file;

	for (size_t i = 0; i < FW_SEGMENTS; i++)
		if (w->seg[i].number != 0 && fw_find(w, w->seg[i].number, &file) == OK)
			assert_int_equal(fold_see(w->fold, &file), OK);
}

/* A new keeper begins with what was committed last. */
static inline void
fw_start(struct fw *w)
{
	fold_free(&w->fold);
	w->fold = fold_new(&fw_world, w);
	w->next = w->map;
	fold_load_meta(w->fold, &w->map.meta);
	fold_load_ledger(w->fold, &w->map.ledger);
	for (size_t i = 0; i < w->map.segs; i++)
		fold_load_segment(w->fold, &w->map.seg[i]);
	for (size_t i = 0; i < w->map.atts; i++)
		fold_load_attempt(w->fold, &w->map.att[i]);
	for (size_t i = 0; i < w->map.writers; i++)
		fold_load_writer(w->fold, &w->map.writer[i]);
	for (size_t i = 0; i < w->map.hands; i++)
		fold_load_handover(w->fold, &w->map.hand[i]);
	for (size_t i = 0; i < w->map.edits; i++)
		if (w->map.edit[i].id == 0)
			fold_load_range(w->fold, &w->map.edit[i]);
	fw_see_all(w);
}

static inline int64_t
fw_difference(const struct fw *w)
{
	struct index_ledger l = w->map.ledger;

	l.queued = w->map.rows;
	return index_ledger_difference(&l);
}

static inline void
fw_commit(struct fw *w)
{
	struct index_meta meta = { .keeper = 1 };

	w->next = w->map;
	assert_int_equal(fold_commit(w->fold, &meta), OK);
	w->map = w->next;
	fold_committed(w->fold);
	assert_int_equal(fw_difference(w), 0);
}

static inline void
fw_fold_all(struct fw *w)
{
	fw_see_all(w);
	for (size_t i = 0; i < FW_SEGMENTS; i++)
		if (w->seg[i].number != 0)
			assert_int_equal(fold_segment(w->fold, w->seg[i].number, 0), OK);
}

/* The writer dies: its segments are sealed. */
static inline void
fw_die(struct fw *w, uint64_t writer)
{
	for (size_t i = 0; i < FW_SEGMENTS; i++)
		if (w->seg[i].number != 0 && w->seg[i].writer == writer)
			w->seg[i].sealed = true;
}

static inline void
fw_end(struct fw *w)
{
	fold_free(&w->fold);
	for (size_t i = 0; i < w->copies_n; i++)
		free(w->copies[i]);
	free(w->copies);
}

/* ---- the map as text ---- */

static inline int
fw_line_cmp(const void *a, const void *b)
{
	return strcmp(*(char *const *)a, *(char *const *)b);
}

/* Without segments with `mail_only`: only messages and what is known of them. Static, 4 in turn. */
static inline const char *
fw_text(const struct fw *w, bool mail_only)
{
	static struct bytes text[4];
	static unsigned turn;
	struct bytes *b = &text[turn++ % 4];
	char *line[FW_ROWS * 3];
	size_t n = 0;

	for (size_t i = 0; i < w->map.rows; i++) {
		const struct index_row *r = w->map.row[i];

		assert_true(asprintf(&line[n++], "row %d at %u:%u tries %u due %d %s aside %u fate %u deaths %u %.*s",
				     (int)r->id, r->place.seg, r->place.off, r->tries, mail_only ? 0 : (int)r->due,
				     row_state_text((enum row_state)r->state), r->aside, r->fate, r->deaths,
				     (int)r->reason.n, r->reason.p) > 0);
	}
	for (size_t i = 0; i < w->map.atts; i++)
		if (w->map.att[i].state <= ATTEMPT_DOUBT)
			assert_true(asprintf(&line[n++], "attempt %d.%u %s", (int)w->map.att[i].id, w->map.att[i].n,
					     attempt_state_text((enum attempt_state)w->map.att[i].state)) > 0);
	for (size_t i = 0; i < w->map.segs && !mail_only; i++)
		assert_true(asprintf(&line[n++], "segment %u folded %u: %u %u %u", w->map.seg[i].number,
				     w->map.seg[i].folded, w->map.seg[i].messages, w->map.seg[i].attempts,
				     w->map.seg[i].edits) > 0);
	qsort(line, n, sizeof(line[0]), fw_line_cmp);
	b->n = 0;
	for (size_t i = 0; i < n; i++) {
		bytes_addf(b, "%s\n", line[i]);
		free(line[i]);
	}
	return bytes_cstr(b);
}

#endif
