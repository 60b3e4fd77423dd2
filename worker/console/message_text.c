/* message_text.c - reads one message's bytes for an operator, straight from its segment */
#include "worker/console/message_text.h"

#include <fcntl.h>
#include <unistd.h>

#include "spool/spool_segment.h"

static enum err
read_exact(int fd, uint64_t off, size_t n, struct bytes *to)
{
	size_t got = 0;
	enum err e;

	to->n = 0;
	e = segment_read(fd, off, bytes_room(to, n), n, &got);
	if (e != OK)
		return e;
	to->n = got;
	return got == n ? OK : ERR_DAMAGED;
}

/* Blob n of the record, cut at `most` bytes; the CRC is checked when all of it was read. */
static enum err
read_blob(int dir, int fd, const struct record_head *h, uint16_t n, size_t most, struct bytes *out)
{
	struct bytes raw = { 0 };
	struct blob_ref ref;
	uint64_t at = (uint64_t)h->at.off + RECORD_HEAD + h->meta_len;
	uint32_t count;
	int from = fd;
	enum err e;

	if (n == BLOB_NONE)
		return OK;
	if ((e = read_exact(fd, at, 4, &raw)) == OK && (e = blob_table_count(h, slice_bytes(&raw), &count)) == OK &&
	    (e = read_exact(fd, at, blob_table_size(count), &raw)) == OK)
		e = blob_table_get(h, slice_bytes(&raw), n, &ref);
	if (e == OK && ref.where == BLOB_BODY && (from = segment_open(dir, ref.seg)) < 0)
		e = ERR_NOTFOUND;
	if (e == OK) {
		uint64_t off = ref.where == BLOB_BODY ? ref.off : h->at.off + ref.off;
		e = read_exact(from, off, ref.len < most ? ref.len : most, &raw);
		if (e == OK && ref.len <= most)
			e = blob_check(&ref, slice_bytes(&raw));
		bytes_add_slice(out, slice_bytes(&raw));
	}
	if (from >= 0 && from != fd)
		close(from);
	bytes_fini(&raw);
	return e;
}

static enum err
read_record(int dir, int fd, const struct index_row *row, size_t most, struct message_text *out)
{
	struct record_head h;
	struct spool_item item;
	enum err e;

	if ((e = read_exact(fd, row->place.off, RECORD_HEAD, &out->raw)) != OK ||
	    (e = record_head_read(slice_bytes(&out->raw), row->place, &h)) != OK ||
	    (e = read_exact(fd, (uint64_t)row->place.off + RECORD_HEAD, h.meta_len, &out->raw)) != OK ||
	    (e = record_meta_check(&h, slice_bytes(&out->raw))) != OK ||
	    (e = item_get(&h, slice_bytes(&out->raw), row->item, &item)) != OK)
		return e;
	if (item.kind != ITEM_MESSAGE || item.message.id != row->id)
		return ERR_NOTFOUND;
	out->envelope = item.message;
	if ((e = read_blob(dir, fd, &h, item.message.header_blob, most, &out->header)) != OK)
		return e;
	return read_blob(dir, fd, &h, item.message.body_blob, most, &out->body);
}

enum err
message_text_read(int spool_fd, const struct index_row *row, size_t most, struct message_text *out)
{
	int dir = openat(spool_fd, "journal", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	int fd = dir >= 0 ? segment_open(dir, row->place.seg) : -1;
	enum err e = fd >= 0 ? read_record(dir, fd, row, most, out) : ERR_NOTFOUND;

	if (fd >= 0)
		close(fd);
	if (dir >= 0)
		close(dir);
	return e;
}

void
message_text_fini(struct message_text *m)
{
	bytes_fini(&m->raw);
	bytes_fini(&m->header);
	bytes_fini(&m->body);
}
