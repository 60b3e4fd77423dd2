#include <stdlib.h>

#include "shm/base/mem.h"
#include "spool/spool_index_int.h"
#include "spool/spool_index_write.h"

enum { LOAD_PAGE = 64 };

static enum err
load_segments(struct index_txn *t, struct fold *f)
{
	struct index_segment page[LOAD_PAGE];
	uint32_t after = 0;
	size_t n;
	enum err e;

	while ((e = index_segment_list(t, after, page, LOAD_PAGE, &n)) == OK) {
		for (size_t i = 0; i < n; i++)
			fold_load_segment(f, &page[i]);
		after = page[n - 1].number;
	}
	return e;
}

static enum err
load_attempts(struct index_txn *t, struct fold *f)
{
	struct index_attempt page[LOAD_PAGE];
	msgid_t after = 0;
	uint32_t after_n = 0;
	size_t n;
	enum err e;

	while ((e = index_attempt_page(t, after, after_n, false, page, LOAD_PAGE, &n)) == OK) {
		for (size_t i = 0; i < n; i++)
			fold_load_attempt(f, &page[i]);
		after = page[n - 1].id;
		after_n = page[n - 1].n;
	}
	return e;
}

static enum err
load_writers(struct index_txn *t, struct fold *f)
{
	struct fold_writer page[LOAD_PAGE];
	struct table_page p = {
		.table = T_WRITER, .decode = decode_writer, .out = page, .size = sizeof(page[0]), .max = LOAD_PAGE
	};
	size_t n;
	enum err e;

	while ((e = table_page(t->t, &p, &n)) == OK) {
		for (size_t i = 0; i < n; i++)
			fold_load_writer(f, &page[i]);
		p.after = key_id(page[n - 1].writer);
	}
	return e;
}

static enum err
load_handovers(struct index_txn *t, struct fold *f)
{
	struct index_handover page[LOAD_PAGE];
	struct table_page p = {
		.table = T_HANDOVER, .decode = decode_handover, .out = page, .size = sizeof(page[0]), .max = LOAD_PAGE
	};
	size_t n;
	enum err e;

	while ((e = table_page(t->t, &p, &n)) == OK) {
		for (size_t i = 0; i < n; i++)
			fold_load_handover(f, &page[i]);
		p.after = key_pair(page[n - 1].owner, page[n - 1].writer);
	}
	return e;
}

static enum err
load_range(void *arg, const struct fold_edit *e)
{
	fold_load_range(arg, e);
	return OK;
}

static enum err
load_head(struct index_txn *t, struct fold *f)
{
	struct index_meta m;
	struct index_ledger l;
	enum err e = index_meta(t, &m);

	if (e == OK)
		e = index_ledger(t, &l);
	if (e != OK)
		return e;
	fold_load_meta(f, &m);
	fold_load_ledger(f, &l);
	return OK;
}

enum err
index_load(struct index_txn *t, struct fold *f)
{
	enum err e = load_head(t, f);

	if (e == OK)
		e = load_segments(t, f);
	if (e == OK || e == ERR_EOF)
		e = load_attempts(t, f);
	if (e == OK || e == ERR_EOF)
		e = load_writers(t, f);
	if (e == OK || e == ERR_EOF)
		e = load_handovers(t, f);
	if (e == OK || e == ERR_EOF)
		e = index_edits(t, 0, load_range, f);
	return e;
}

enum err
index_edits(struct index_txn *t, msgid_t id, enum err (*fn)(void *, const struct fold_edit *), void *arg)
{
	struct fold_edit page[LOAD_PAGE];
	struct key prefix = key_id(id);
	struct table_page p = { .table = T_EDIT,
				.prefix = key_slice(&prefix),
				.decode = decode_edit,
				.out = page,
				.size = sizeof(page[0]),
				.max = LOAD_PAGE };
	size_t n;
	enum err e;

	while ((e = table_page(t->t, &p, &n)) == OK) {
		for (size_t i = 0; i < n; i++) {
			enum err bad = fn(arg, &page[i]);

			if (bad != OK)
				return bad;
		}
		p.after = key_edit(&page[n - 1]);
	}
	return e == ERR_EOF ? OK : e;
}
