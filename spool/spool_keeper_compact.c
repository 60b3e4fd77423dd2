#include <errno.h>
#include <stdlib.h>
#include <sys/stat.h>

#include "shm/base/fault.h"
#include "shm/base/log.h"
#include "shm/base/mem.h"
#include "spool/spool_keeper_int.h"

/* A segment is mostly dead when what lives in it is at most this part of its file: then a byte is written for seven
 * that come free, and the journals of a queue that only drains take at most eight times what lives in them. */
enum { LIVE_PART = 8 };
/* More messages than this are not looked for: it bounds a turn, and what the map is asked. */
enum { LIVE_MOST = 8192 };
/* At most a tenth of the time. */
enum { COMPACT_SHARE = 10 };

struct compact {
	struct keeper *k;
	struct kfile *f;
	struct index_txn *t;
	uint64_t most; /* bytes */
	uint32_t moved;
	struct bytes out;      /* encoded records, one behind the other */
	struct index_row *row; /* of the record in hand, by item; id 0: not alive here */
	size_t row_cap;
};

/* ---- which one ---- */

/* The next one in turn. One that was found too full is looked at again when half of that has gone. */
static struct kfile *
choose(struct keeper *k)
{
	struct index_segment s;

	for (uint32_t after = k->compacted; fold_segment_next(k->fold, after, &s); after = s.number) {
		struct kfile *f =
			s.messages <= LIVE_MOST && fold_movable(k->fold, s.number) ? kfile_find(k, s.number) : NULL;

		if (f == NULL || f->bad || !f->sealed || (f->held != 0 && s.messages > f->held / 2))
			continue;
		f->held = s.messages;
		k->compacted = s.number;
		return f;
	}
	k->compacted = 0;
	return NULL;
}

/* ---- one record ---- */

/* Alive here, and nobody at it: ERR_AGAIN if somebody is. */
static enum err
alive_here(struct compact *c, const struct spool_item *it, uint32_t off, uint16_t item, struct index_row *row)
{
	enum err e;

	row->id = 0;
	if (it->kind != ITEM_MESSAGE)
		return OK;
	e = index_message_get(c->t, it->message.id, row);
	if (e == ERR_NOTFOUND ||
	    (e == OK && (row->place.seg != c->f->number || row->place.off != off || row->item != item))) {
		row->id = 0;
		return OK;
	}
	return e == OK && (row->state == ROW_WORK || row->state == ROW_DOUBT) ? ERR_AGAIN : e;
}

static enum err
find_alive(struct compact *c, const struct record_head *h, struct slice raw, uint32_t *alive)
{
	struct item_reader r;
	struct spool_item it;
	enum err e = OK;

	*alive = 0;
	if (c->row_cap < h->items) {
		c->row_cap = h->items;
		c->row = mem_array(c->row, c->row_cap, sizeof(*c->row));
	}
	item_reader_init(&r, h, slice_of(raw.p + RECORD_HEAD, h->meta_len));
	for (uint16_t i = 0; e == OK && i < h->items; i++) {
		e = item_next(&r, &it);
		if (e == OK)
			e = alive_here(c, &it, h->at.off, i, &c->row[i]);
		*alive += e == OK && c->row[i].id != 0;
	}
	return e;
}

/* The record with all its blobs, checked, in k->whole. */
static enum err
read_whole(struct compact *c, const struct record_head *h)
{
	struct keeper *k = c->k;
	size_t n = (size_t)record_size(h), got;
	struct record_head again;
	enum err e;

	k->whole.n = 0;
	e = segment_read(c->f->fd, h->at.off, bytes_room(&k->whole, n), n, &got);
	if (e == OK && got < n)
		e = ERR_DAMAGED;
	if (e == OK)
		e = record_check(slice_of(k->whole.p, n), h->at, &again);
	k->whole.n = n;
	return e;
}

/* Blobs keep their order; those of the dead stay behind. */
static enum err
take_blob(struct compact *c, const struct record_head *h, struct record *to, uint16_t *map, uint32_t blobs, uint16_t *n)
{
	struct slice table = slice_of(c->k->whole.p + RECORD_HEAD + h->meta_len, blob_table_size(blobs));
	struct blob_ref ref;
	enum err e;

	if (*n == BLOB_NONE)
		return OK;
	e = blob_table_get(h, table, *n, &ref);
	if (e != OK)
		return ERR_DAMAGED;
	if (map[*n] == BLOB_NONE)
		map[*n] = ref.where == BLOB_BODY ? record_add_body(to, ref.seg, ref.off, ref.len, ref.crc)
						 : record_add_blob(to, slice_of(c->k->whole.p + ref.off, ref.len));
	*n = map[*n];
	return OK;
}

static enum err
take_message(struct compact *c, const struct record_head *h, struct record *to, uint16_t *map, uint32_t blobs,
	     struct spool_message m, const struct index_row *row)
{
	uint16_t *refs[] = { &m.header_blob, &m.body_blob, &m.conn_ctx_blob, &m.ctx_blob };
	struct spool_copy copy = { .id = row->id,
				   .from = row->place,
				   .from_item = row->item,
				   .state = row->state,
				   .tries = row->tries,
				   .due = row->due,
				   .reason = row->reason };
	enum err e = OK;

	for (size_t i = 0; e == OK && i < sizeof(refs) / sizeof(refs[0]); i++)
		e = take_blob(c, h, to, map, blobs, refs[i]);
	if (e != OK)
		return e;
	record_add_copy(to, &copy);
	record_add_message(to, &m);
	c->moved++;
	return OK;
}

static enum err
take_alive(struct compact *c, const struct record_head *h, struct record *to)
{
	struct slice meta = slice_of(c->k->whole.p + RECORD_HEAD, h->meta_len);
	struct item_reader r;
	struct spool_item it;
	uint16_t *map = mem_alloc(BLOB_NONE * sizeof(*map));
	uint32_t blobs = 0;
	enum err e = OK;

	memset(map, 0xff, BLOB_NONE * sizeof(*map));
	if (h->blob_len > 0)
		e = blob_table_count(h, slice_of(meta.p + meta.n, h->blob_len), &blobs);
	item_reader_init(&r, h, meta);
	for (uint16_t i = 0; e == OK && i < h->items; i++) {
		e = item_next(&r, &it);
		if (e == OK && c->row[i].id != 0)
			e = take_message(c, h, to, map, blobs, it.message, &c->row[i]);
	}
	free(map);
	return e;
}

/* ERR_FULL: there is more alive than is worth moving. */
static enum err
take_record(struct compact *c, const struct record_head *h)
{
	struct record r = { .items = 0 };
	enum err e = read_whole(c, h);
	uint64_t n;

	if (e == OK)
		e = take_alive(c, h, &r);
	if (e == OK)
		e = record_fits(&r);
	n = e == OK ? record_encoded_size(&r) : 0;
	if (e == OK && c->out.n + n > c->most)
		e = ERR_FULL;
	if (e == OK) {
		record_encode(&r, bytes_room(&c->out, (size_t)n));
		c->out.n += (size_t)n;
	}
	record_fini(&r);
	return e;
}

/* ---- one segment ---- */

static enum err
take_segment(struct compact *c)
{
	struct record_head h;
	struct slice raw;
	struct index_segment s;
	uint32_t off = SEGMENT_HEAD, alive;
	enum err e = OK;

	(void)fold_segment_get(c->k->fold, c->f->number, &s);
	while (e == OK && off < s.folded && c->moved < s.messages) {
		e = keeper_raw(c->k, c->f, off, s.folded, &h, &raw);
		if (e != OK)
			break;
		off += (uint32_t)record_size(&h);
		if (h.type == RECORD_TOC)
			continue;
		e = find_alive(c, &h, raw, &alive);
		if (e == OK && alive > 0)
			e = take_record(c, &h);
	}
	/* All of them, or none: the file goes only when it is empty. */
	return e == OK && c->moved != s.messages ? ERR_DAMAGED : e;
}

static enum err
gather(struct compact *c)
{
	struct stat st;
	enum err e = index_begin(c->k->index, &c->t);

	if (e != OK)
		return e;
	if (kfile_fd(c->k, c->f) < 0 || fstat(c->f->fd, &st) != 0)
		e = ERR_IO;
	c->most = e == OK ? (uint64_t)st.st_size / LIVE_PART : 0;
	if (e == OK)
		e = take_segment(c);
	index_end(&c->t);
	return e;
}

/* The move: copies on disk, then in the map; the old segment is given back by the next turn. */
static enum err
write_out(struct compact *c)
{
	struct keeper *k = c->k;
	enum err e;

	fault_point("compact.before_write");
	e = keeper_write_copies(k, &c->out);
	if (e != OK) {
		log_errno(LOG_LVL_ERROR, "keeper", "messages of segment %u cannot be moved (%s)", c->f->number,
			  err_text(e));
		return OK; /* they stand where they stood */
	}
	e = fold_segment(k->fold, k->copy.number, 0);
	if (e == OK)
		e = keeper_commit(k);
	fault_point("compact.after_commit");
	return e;
}

/* A disk that is nearly full has no room for a new segment; what is left in the present one may still be used. */
static bool
has_room(struct keeper *k)
{
	return !disk_short(&k->disk) || k->copy.fd >= 0;
}

enum err
keeper_compact(struct keeper *k)
{
	struct compact c = { .k = k };
	usec_t began = clock_mono(), took;
	enum err e;

	if (k->conf.compact_every == 0 || k->now < k->compact_at || fold_rebuilding(k->fold) || fold_dirty(k->fold) ||
	    !has_room(k))
		return OK;
	k->compact_at = k->now + k->conf.compact_every;
	c.f = choose(k);
	if (c.f == NULL)
		return OK;
	e = gather(&c);
	if (e == OK && disk_short(&k->disk) && k->copy_off + c.out.n > k->copy.size)
		e = ERR_FULL;
	if (e == OK) {
		log_debug("keeper", "segment %u is mostly dead: %u messages are moved", c.f->number, c.moved);
		e = write_out(&c);
	} else {
		/* A message in work, too many, damage: the segment stays, and so does the mail. */
		if (e == ERR_AGAIN)
			c.f->held = 0;
		e = OK;
	}
	bytes_fini(&c.out);
	free(c.row);
	took = (clock_mono() - began) * COMPACT_SHARE;
	if (took > k->conf.compact_every)
		k->compact_at = k->now + took;
	return e;
}
