#include "spool/spool_record.h"

#include <stdlib.h>

#include "shm/base/crc32c.h"
#include "shm/base/le.h"
#include "shm/base/log.h"
#include "shm/base/mem.h"

#define RECORD_MAGIC UINT32_C(0x31636572) /* "rec1" */
enum { TABLE_COUNT = 4, TABLE_ENTRY = 28 };

/* Offsets in the head. */
enum {
	AT_MAGIC = 0,
	AT_TYPE = 4,
	AT_FLAGS = 5,
	AT_ITEMS = 6,
	AT_META_LEN = 8,
	AT_BLOB_LEN = 12,
	AT_SEG = 16,
	AT_OFF = 20,
	AT_MARK = 24,
	AT_META_CRC = 28,
	AT_TABLE_CRC = 32,
	AT_ID_HIGH = 36,
	AT_HEAD_CRC = 44,
};

static uint64_t
aligned(uint64_t n)
{
	return (n + RECORD_ALIGN - 1) & ~(uint64_t)(RECORD_ALIGN - 1);
}

uint64_t
record_size(const struct record_head *h)
{
	return aligned((uint64_t)RECORD_HEAD + h->meta_len + h->blob_len);
}

/* ---------------------------------------------------------------- reading */

size_t
record_skip(struct slice bytes)
{
	size_t n = 0;

	while (n + RECORD_HEAD <= bytes.n && le_get32(bytes.p + n + AT_MAGIC) != RECORD_MAGIC)
		n += RECORD_ALIGN;
	return n;
}

enum err
record_head_read(struct slice bytes, struct place at, struct record_head *out)
{
	const char *p = bytes.p;
	struct record_head h;

	if (bytes.n < RECORD_HEAD || le_get32(p + AT_MAGIC) != RECORD_MAGIC || le_get32(p + AT_SEG) != at.seg ||
	    le_get32(p + AT_OFF) != at.off)
		return ERR_NOTFOUND;
	if (crc32c(0, p, AT_HEAD_CRC) != le_get32(p + AT_HEAD_CRC))
		return ERR_DAMAGED;
	h = (struct record_head){
		.type = (enum record_type)(unsigned char)p[AT_TYPE],
		.items = le_get16(p + AT_ITEMS),
		.meta_len = le_get32(p + AT_META_LEN),
		.blob_len = le_get32(p + AT_BLOB_LEN),
		.at = at,
		.mark = le_get32(p + AT_MARK),
		.meta_crc = le_get32(p + AT_META_CRC),
		.table_crc = le_get32(p + AT_TABLE_CRC),
		.id_high = le_get64(p + AT_ID_HIGH),
	};
	if (h.meta_len > RECORD_META_MAX || h.blob_len > RECORD_BLOBS_MAX)
		return ERR_DAMAGED;
	if (h.type == 0 || h.type >= RECORD_TYPE_MAX || p[AT_FLAGS] != 0)
		return ERR_VERSION;
	*out = h;
	return OK;
}

enum err
record_meta_check(const struct record_head *h, struct slice meta)
{
	return meta.n == h->meta_len && crc32c(0, meta.p, meta.n) == h->meta_crc ? OK : ERR_DAMAGED;
}

uint64_t
blob_table_size(uint32_t n)
{
	return n == 0 ? 0 : TABLE_COUNT + (uint64_t)n * TABLE_ENTRY;
}

enum err
blob_table_count(const struct record_head *h, struct slice table, uint32_t *count)
{
	uint32_t n = 0;

	if (h->blob_len > 0) {
		if (table.n < TABLE_COUNT)
			return ERR_DAMAGED;
		n = le_get32(table.p);
		if (n == 0 || n > BLOB_NONE || blob_table_size(n) > h->blob_len)
			return ERR_DAMAGED;
	}
	*count = n;
	return OK;
}

static bool
ref_is_sound(const struct record_head *h, uint32_t count, const struct blob_ref *ref)
{
	uint64_t from = (uint64_t)RECORD_HEAD + h->meta_len;

	if (ref->where == BLOB_BODY)
		return ref->seg != 0;
	return ref->where == BLOB_INLINE && ref->len <= h->blob_len && ref->off <= from + h->blob_len &&
	       ref->off >= from + blob_table_size(count) && ref->off + ref->len <= from + h->blob_len;
}

/* Entry n of a table whose CRC was right. */
static enum err
table_entry(const struct record_head *h, struct slice table, uint32_t count, uint32_t n, struct blob_ref *out)
{
	const char *p = table.p + TABLE_COUNT + (size_t)n * TABLE_ENTRY;
	struct blob_ref ref = {
		.where = (uint8_t)p[0],
		.seg = le_get32(p + 4),
		.off = le_get64(p + 8),
		.len = le_get64(p + 16),
		.crc = le_get32(p + 24),
	};

	if (!ref_is_sound(h, count, &ref))
		return ERR_DAMAGED;
	*out = ref;
	return OK;
}

static enum err
table_check(const struct record_head *h, struct slice table, uint32_t *count)
{
	enum err e = blob_table_count(h, table, count);

	if (e == OK && *count > 0 &&
	    (table.n < blob_table_size(*count) || crc32c(0, table.p, blob_table_size(*count)) != h->table_crc))
		e = ERR_DAMAGED;
	return e;
}

enum err
blob_table_get(const struct record_head *h, struct slice table, uint16_t n, struct blob_ref *out)
{
	uint32_t count;
	enum err e = table_check(h, table, &count);

	if (e != OK)
		return e;
	return n < count ? table_entry(h, table, count, n, out) : ERR_NOTFOUND;
}

enum err
blob_check(const struct blob_ref *ref, struct slice bytes)
{
	return bytes.n == ref->len && crc32c(0, bytes.p, bytes.n) == ref->crc ? OK : ERR_DAMAGED;
}

static enum err
blobs_check(const struct record_head *h, const char *record)
{
	struct slice table = slice_of(record + RECORD_HEAD + h->meta_len, h->blob_len);
	struct blob_ref ref;
	uint32_t count;
	enum err e = table_check(h, table, &count);

	for (uint32_t i = 0; e == OK && i < count; i++) {
		e = table_entry(h, table, count, i, &ref);
		if (e == OK && ref.where == BLOB_INLINE)
			e = blob_check(&ref, slice_of(record + ref.off, ref.len));
	}
	return e;
}

static enum err
items_check(const struct record_head *h, struct slice meta)
{
	struct item_reader r;
	struct spool_item item;
	enum err e;

	if (h->type == RECORD_TOC)
		return OK;
	item_reader_init(&r, h, meta);
	while ((e = item_next(&r, &item)) == OK)
		;
	return e == ERR_EOF ? OK : e;
}

enum err
record_check(struct slice bytes, struct place at, struct record_head *out)
{
	struct record_head h;
	struct slice meta;
	enum err e = record_head_read(bytes, at, &h);

	if (e != OK)
		return e;
	if (bytes.n < (uint64_t)RECORD_HEAD + h.meta_len + h.blob_len)
		return ERR_DAMAGED;
	meta = slice_of(bytes.p + RECORD_HEAD, h.meta_len);
	if ((e = record_meta_check(&h, meta)) != OK || (e = blobs_check(&h, bytes.p)) != OK ||
	    (e = items_check(&h, meta)) != OK)
		return e;
	*out = h;
	return OK;
}

/* ---------------------------------------------------------------- writing */

void
record_reset(struct record *r)
{
	r->meta.n = 0;
	r->items = 0;
	r->inline_len = 0;
	r->blobs_n = 0;
	r->type = 0;
}

void
record_fini(struct record *r)
{
	bytes_fini(&r->meta);
	free(r->blobs);
	*r = (struct record){ 0 };
}

static uint16_t
blob_add(struct record *r, const struct blob_ref *ref, const char *p)
{
	if (r->blobs_n == BLOB_NONE)
		return BLOB_NONE;
	if (r->blobs_n == r->blobs_cap) {
		r->blobs_cap = r->blobs_cap == 0 ? 4 : r->blobs_cap * 2;
		r->blobs = mem_array(r->blobs, r->blobs_cap, sizeof *r->blobs);
	}
	r->blobs[r->blobs_n] = (struct record_blob){ *ref, p };
	return (uint16_t)r->blobs_n++;
}

uint16_t
record_add_blob(struct record *r, struct slice bytes)
{
	struct blob_ref ref = { .where = BLOB_INLINE, .len = bytes.n };
	uint16_t n = blob_add(r, &ref, bytes.p);

	if (n != BLOB_NONE)
		r->inline_len += bytes.n;
	return n;
}

uint16_t
record_add_body(struct record *r, uint32_t seg, uint64_t off, uint64_t len, uint32_t crc)
{
	struct blob_ref ref = { .where = BLOB_BODY, .seg = seg, .off = off, .len = len, .crc = crc };

	return blob_add(r, &ref, NULL);
}

void
record_set_body(struct record *r, uint16_t n, uint32_t seg, uint64_t off, uint64_t len, uint32_t crc)
{
	require_that(n < r->blobs_n && r->blobs[n].ref.where == BLOB_BODY, "spool");
	r->blobs[n].ref = (struct blob_ref){ .where = BLOB_BODY, .seg = seg, .off = off, .len = len, .crc = crc };
}

static uint64_t
blobs_size(const struct record *r)
{
	return blob_table_size(r->blobs_n) + r->inline_len;
}

enum err
record_fits(const struct record *r)
{
	if (r->items == 0 || r->items > RECORD_ITEMS_MAX || r->meta.n > RECORD_META_MAX ||
	    blobs_size(r) > RECORD_BLOBS_MAX)
		return ERR_RANGE;
	return OK;
}

uint64_t
record_encoded_size(const struct record *r)
{
	return aligned(RECORD_HEAD + r->meta.n + blobs_size(r));
}

/* Table and inline blobs, from `at` within the record; gives where they end. */
static size_t
blobs_encode(const struct record *r, char *record, size_t at)
{
	size_t data = at + blob_table_size(r->blobs_n);
	char *entry = record + at + TABLE_COUNT;

	if (r->blobs_n == 0)
		return at;
	le_put32(record + at, r->blobs_n);
	for (uint32_t i = 0; i < r->blobs_n; i++, entry += TABLE_ENTRY) {
		struct blob_ref ref = r->blobs[i].ref;
		if (ref.where == BLOB_INLINE) {
			ref.off = data;
			if (ref.len > 0)
				memcpy(record + data, r->blobs[i].p, ref.len);
			ref.crc = crc32c(0, record + data, ref.len);
			data += ref.len;
		}
		le_put32(entry, ref.where);
		le_put32(entry + 4, ref.seg);
		le_put64(entry + 8, ref.off);
		le_put64(entry + 16, ref.len);
		le_put32(entry + 24, ref.crc);
	}
	return data;
}

static void
head_encode(char *p, enum record_type type, uint32_t items, struct slice meta, struct slice table, uint64_t blob_len)
{
	memset(p, 0, RECORD_HEAD);
	le_put32(p + AT_MAGIC, RECORD_MAGIC);
	p[AT_TYPE] = (char)type;
	le_put16(p + AT_ITEMS, (uint16_t)items);
	le_put32(p + AT_META_LEN, (uint32_t)meta.n);
	le_put32(p + AT_BLOB_LEN, (uint32_t)blob_len);
	le_put32(p + AT_META_CRC, crc32c(0, meta.p, meta.n));
	le_put32(p + AT_TABLE_CRC, table.n == 0 ? 0 : crc32c(0, table.p, table.n));
}

void
record_encode(const struct record *r, char *out)
{
	size_t at = RECORD_HEAD + r->meta.n, end;

	if (r->meta.n > 0)
		memcpy(out + RECORD_HEAD, r->meta.p, r->meta.n);
	end = blobs_encode(r, out, at);
	head_encode(out, r->type, r->items, slice_of(out + RECORD_HEAD, r->meta.n),
		    slice_of(out + at, blob_table_size(r->blobs_n)), end - at);
	memset(out + end, 0, aligned(end) - end);
}

void
record_seal(char *encoded, struct place at, uint32_t mark, msgid_t id_high)
{
	le_put32(encoded + AT_SEG, at.seg);
	le_put32(encoded + AT_OFF, at.off);
	le_put32(encoded + AT_MARK, mark);
	le_put64(encoded + AT_ID_HIGH, id_high);
	le_put32(encoded + AT_HEAD_CRC, crc32c(0, encoded, AT_HEAD_CRC));
}

uint64_t
record_size_of(const char *encoded)
{
	return aligned((uint64_t)RECORD_HEAD + le_get32(encoded + AT_META_LEN) + le_get32(encoded + AT_BLOB_LEN));
}

enum record_type
record_type_of(const char *encoded)
{
	return (enum record_type)(unsigned char)encoded[AT_TYPE];
}

/* ---------------------------------------------------------------- table of contents */

void
toc_add(struct bytes *entries, const struct toc_entry *e)
{
	char *p = bytes_room(entries, TOC_ENTRY);

	le_put64(p, e->id);
	le_put32(p + 8, e->off);
	le_put16(p + 12, e->item);
	p[14] = (char)e->kind;
	p[15] = (char)e->what;
	le_put64(p + 16, e->queue);
	entries->n += TOC_ENTRY;
}

static void
entry_of(const struct spool_item *item, struct toc_entry *e)
{
	e->kind = (uint8_t)item->kind;
	switch (item->kind) {
	case ITEM_MESSAGE:
		e->id = item->message.id;
		e->what = item->message.origin;
		e->queue = spool_queue_hash(item->message.binding, item->message.domain);
		break;
	case ITEM_ATTEMPT:
		e->id = item->attempt.id;
		break;
	case ITEM_OUTCOME:
		e->id = item->outcome.id;
		e->what = item->outcome.kind;
		break;
	case ITEM_EDIT:
		e->id = item->edit.id_lo;
		e->what = item->edit.action;
		break;
	case ITEM_HANDOVER:
		e->id = item->handover.owner;
		break;
	case ITEM_END:
		e->id = item->end.seg;
		break;
	case ITEM_COPY:
		e->id = item->copy.id;
		break;
	case ITEM_KIND_MAX:
		break;
	}
}

void
toc_add_record(struct bytes *entries, const char *encoded)
{
	struct record_head h = { .type = record_type_of(encoded), .items = le_get16(encoded + AT_ITEMS) };
	struct slice meta = slice_of(encoded + RECORD_HEAD, le_get32(encoded + AT_META_LEN));
	struct item_reader r;
	struct spool_item item;

	item_reader_init(&r, &h, meta);
	for (uint16_t n = 0; item_next(&r, &item) == OK; n++) {
		struct toc_entry e = { .off = le_get32(encoded + AT_OFF), .item = n };
		entry_of(&item, &e);
		toc_add(entries, &e);
	}
}

void
toc_encode(struct slice entries, struct place at, uint32_t mark, msgid_t id_high, struct bytes *out)
{
	size_t size = aligned(RECORD_HEAD + entries.n);
	char *p;

	out->n = 0;
	p = bytes_room(out, size);
	if (entries.n > 0)
		memcpy(p + RECORD_HEAD, entries.p, entries.n);
	memset(p + RECORD_HEAD + entries.n, 0, size - RECORD_HEAD - entries.n);
	head_encode(p, RECORD_TOC, 0, entries, slice_of(NULL, 0), 0);
	record_seal(p, at, mark, id_high);
	out->n = size;
}

enum err
toc_decode(struct slice bytes, struct place at, struct slice *entries)
{
	struct record_head h;
	enum err e = record_check(bytes, at, &h);

	if (e != OK)
		return e;
	if (h.type != RECORD_TOC || h.meta_len % TOC_ENTRY != 0)
		return ERR_DAMAGED;
	*entries = slice_of(bytes.p + RECORD_HEAD, h.meta_len);
	return OK;
}

uint32_t
toc_count(struct slice entries)
{
	return (uint32_t)(entries.n / TOC_ENTRY);
}

void
toc_get(struct slice entries, uint32_t i, struct toc_entry *out)
{
	const char *p = entries.p + (size_t)i * TOC_ENTRY;

	*out = (struct toc_entry){
		.id = le_get64(p),
		.off = le_get32(p + 8),
		.item = le_get16(p + 12),
		.kind = (uint8_t)p[14],
		.what = (uint8_t)p[15],
		.queue = le_get64(p + 16),
	};
}
