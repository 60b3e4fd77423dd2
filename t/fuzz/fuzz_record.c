/* Records, heads and tables of contents as bytes: nothing is read beyond the end, what is found good stays so in every
 * way of asking, and items written again are the same bytes. The first byte says what the rest is, and whether its
 * checksums are made right. */
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include "shm/base/log.h"
#include "shm/base/mem.h"
#include "t/fuzz/mend.h"

enum { AS_IS = 0, MENDED, HEAD_PAGE, HEAD_PAGE_MENDED, WHATS };

static const struct place at = { 7, SEGMENT_HEAD };

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

static void
write_again(struct record *r, const struct spool_item *it)
{
	msgid_t ids[64];

	switch (it->kind) {
	case ITEM_MESSAGE:
		record_add_message(r, &it->message);
		break;
	case ITEM_ATTEMPT:
		record_add_attempt(r, &it->attempt);
		break;
	case ITEM_OUTCOME:
		record_add_outcome(r, &it->outcome);
		break;
	case ITEM_EDIT:
		record_add_edit(r, &it->edit);
		break;
	case ITEM_HANDOVER:
		require_that(it->handover.ids.n == (size_t)it->handover.count * 8, "fuzz");
		for (uint32_t i = 0; i < it->handover.count && i < 64; i++)
			ids[i] = handover_id(&it->handover, i);
		record_add_handover(r, it->handover.owner, ids, it->handover.count < 64 ? it->handover.count : 64);
		break;
	case ITEM_END:
		record_add_end(r, &it->end);
		break;
	case ITEM_COPY:
		record_add_copy(r, &it->copy);
		break;
	case ITEM_KIND_MAX:
		abort();
	}
}

/* Of a good record: each item by its number too, and written again. */
static void
check_items(const struct record_head *h, struct slice meta)
{
	struct item_reader r;
	struct spool_item it, same;
	struct record again = { .items = 0 };
	bool short_enough = true;

	item_reader_init(&r, h, meta);
	for (uint16_t i = 0; item_next(&r, &it) == OK; i++) {
		require_that(item_get(h, meta, i, &same) == OK && same.kind == it.kind, "fuzz");
		short_enough = short_enough && (it.kind != ITEM_HANDOVER || it.handover.count <= 64);
		write_again(&again, &it);
	}
	require_that(item_get(h, meta, h->items, &it) == ERR_NOTFOUND, "fuzz");
	require_that(again.items == h->items, "fuzz");
	if (short_enough)
		require_that(slice_eq(slice_bytes(&again.meta), meta), "fuzz");
	record_fini(&again);
}

static void
check_blobs(const struct record_head *h, const char *record)
{
	struct slice table = slice_of(record + RECORD_HEAD + h->meta_len, h->blob_len);
	struct blob_ref ref;
	uint32_t count;

	require_that(blob_table_count(h, table, &count) == OK, "fuzz");
	for (uint32_t i = 0; i < count; i++) {
		require_that(blob_table_get(h, table, (uint16_t)i, &ref) == OK, "fuzz");
		if (ref.where == BLOB_INLINE)
			require_that(blob_check(&ref, slice_of(record + ref.off, ref.len)) == OK, "fuzz");
	}
	require_that(count == BLOB_NONE || blob_table_get(h, table, (uint16_t)count, &ref) == ERR_NOTFOUND, "fuzz");
}

static void
check_toc(const char *record, size_t n, const struct record_head *h)
{
	struct bytes entries = { 0 }, toc = { 0 };
	struct slice back;
	struct toc_entry e;

	toc_add_record(&entries, record);
	require_that(toc_count(slice_bytes(&entries)) == (h->type == RECORD_TOC ? 0 : h->items), "fuzz");
	toc_encode(slice_bytes(&entries), at, h->mark, h->id_high, &toc);
	require_that(toc_decode(slice_bytes(&toc), at, &back) == OK, "fuzz");
	require_that(slice_eq(back, slice_bytes(&entries)), "fuzz");
	if (toc_decode(slice_of(record, n), at, &back) == OK)
		for (uint32_t i = 0; i < toc_count(back); i++)
			toc_get(back, i, &e);
	bytes_fini(&entries);
	bytes_fini(&toc);
}

static void
play_record(const char *p, size_t n)
{
	struct record_head h, head;
	struct spool_item it;
	enum err e = record_check(slice_of(p, n), at, &h);

	if (e == OK) {
		require_that(record_size(&h) == record_size_of(p) && h.type == record_type_of(p), "fuzz");
		if (h.type != RECORD_TOC)
			check_items(&h, slice_of(p + RECORD_HEAD, h.meta_len));
		check_blobs(&h, p);
		check_toc(p, n, &h);
		return;
	}
	/* What is not whole is asked too, piece by piece, as the keeper does. */
	if (record_head_read(slice_of(p, n), at, &head) == OK && head.meta_len <= n - RECORD_HEAD)
		for (uint16_t i = 0; i < 8; i++)
			(void)item_get(&head, slice_of(p + RECORD_HEAD, head.meta_len), i, &it);
}

static void
play_head(const char *p, size_t n)
{
	struct segment_head h, again;
	char page[SEGMENT_HEAD];

	if (segment_head_read(slice_of(p, n), 0, &h) != OK)
		return;
	require_that(h.number > 0 && (h.kind == SEGMENT_JOURNAL || h.kind == SEGMENT_BODY), "fuzz");
	segment_head_write(&h, page);
	require_that(segment_head_read(slice_of(page, sizeof(page)), h.number, &again) == OK, "fuzz");
	require_that(again.writer == h.writer && again.size == h.size && again.id_floor == h.id_floor, "fuzz");
}

/* A page's bytes that are not given are zero. */
static void
play_page(const uint8_t *data, size_t n, bool mended)
{
	char page[SEGMENT_HEAD] = { 0 };

	memcpy(page, data, n < 64 ? n : 64);
	if (n > 64)
		memcpy(page + 2048, data + 64, n - 64 < 64 ? n - 64 : 64);
	if (mended) {
		mend_head(page, le_get32(page + 8));
		mend_seal(page, le_get32(page + 8));
	}
	play_head(page, sizeof(page));
	play_head(page, sizeof(page) - 1);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
	uint8_t what;
	char *copy;

	if (n < 1)
		return 0;
	what = data[0] % WHATS;
	data++;
	n--;
	if (what >= HEAD_PAGE) {
		play_page(data, n, what == HEAD_PAGE_MENDED);
		return 0;
	}
	copy = mem_alloc(n > 0 ? n : 1);
	memcpy(copy, data, n);
	if (what == MENDED && n >= RECORD_HEAD)
		mend_record(copy, n, at);
	play_record(copy, n);
	free(copy);
	return 0;
}
