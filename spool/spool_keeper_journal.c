#include <errno.h>
#include <stdlib.h>
#include <unistd.h>

#include "shm/base/fault.h"
#include "shm/base/log.h"
#include "shm/base/mem.h"
#include "spool/spool_keeper_int.h"

/* Of segments for moved messages, if those of the workers are not smaller. */
#define COPIES_SIZE (UINT64_C(16) << 20)

/* The keeper writes little and at once: a record, a sync. Its segments are small. */

static enum err
append(struct keeper *k, const struct record *r)
{
	uint64_t n = record_encoded_size(r);
	char *buf = mem_alloc((size_t)n);
	int wrong;
	enum err e;

	record_encode(r, buf);
	record_seal(buf, (struct place){ k->own.number, k->own_off }, k->own_off, fold_highest_id(k->fold));
	e = segment_write(k->own.fd, k->own_off, buf, (size_t)n);
	wrong = fault_error("keeper.own_sync");
	if (wrong != 0)
		errno = wrong;
	if (e == OK && (wrong != 0 || fdatasync(k->own.fd) != 0))
		e = ERR_IO;
	free(buf);
	if (e == OK)
		k->own_off += (uint32_t)n;
	return e;
}

static enum err
make(struct keeper *k)
{
	enum err e = segment_make(&k->maker, SEGMENT_JOURNAL, SEGMENT_SIZE_MIN, fold_highest_id(k->fold), &k->own);

	if (e == OK)
		k->own_off = SEGMENT_HEAD;
	return e;
}

/* After a failed sync that file is never written again: a new one says where it ends. */
static enum err
go_on_elsewhere(struct keeper *k)
{
	struct spool_end end = { .seg = k->own.number, .mark = k->own_off };
	struct record r = { .items = 0 };
	enum err e;

	segment_close(&k->own);
	e = make(k);
	if (e != OK)
		return e;
	record_add_end(&r, &end);
	e = append(k, &r);
	record_fini(&r);
	return e;
}

/* The fold is shown the segment as it is now. */
static enum err
show(struct keeper *k, uint32_t number)
{
	struct fold_file file;
	enum err e = keeper_find(k, number, &file);

	return e == OK ? fold_see(k->fold, &file) : e;
}

enum err
keeper_write_edit(struct keeper *k, const struct spool_edit *edit)
{
	struct record r = { .items = 0 };
	enum err e = OK;

	record_add_edit(&r, edit);
	if (k->own.fd >= 0 && k->own_off + record_encoded_size(&r) > k->own.size)
		segment_close(&k->own);
	if (k->own.fd < 0)
		e = make(k);
	if (e == OK)
		e = append(k, &r);
	if (e == ERR_IO && k->own.fd >= 0) {
		log_errno(LOG_LVL_ERROR, "keeper", "segment %u of the keeper cannot be written", k->own.number);
		e = go_on_elsewhere(k);
		if (e == OK)
			e = append(k, &r);
	}
	record_fini(&r);
	return e == OK ? show(k, k->own.number) : e;
}

/* ---- messages that are moved */

static enum err
copies_room(struct keeper *k, uint64_t n)
{
	uint64_t size = k->conf.segment_size < COPIES_SIZE ? k->conf.segment_size : COPIES_SIZE;
	enum err e;

	if (k->copy.fd >= 0 && k->copy_off + n <= k->copy.size)
		return OK;
	segment_close(&k->copy);
	if (size < SEGMENT_HEAD + n)
		size = SEGMENT_HEAD + n;
	e = segment_make(&k->maker, SEGMENT_JOURNAL, size, fold_highest_id(k->fold), &k->copy);
	k->copy_off = SEGMENT_HEAD;
	return e;
}

static enum err
append_copies(struct keeper *k, struct bytes *records)
{
	int wrong;
	enum err e;

	for (size_t at = 0; at < records->n; at += (size_t)record_size_of(records->p + at))
		record_seal(records->p + at, (struct place){ k->copy.number, k->copy_off + (uint32_t)at }, k->copy_off,
			    fold_highest_id(k->fold));
	e = segment_write(k->copy.fd, k->copy_off, records->p, records->n);
	fault_point("compact.before_sync");
	wrong = fault_error("compact.sync");
	if (wrong != 0)
		errno = wrong;
	if (e == OK && (wrong != 0 || fdatasync(k->copy.fd) != 0))
		e = ERR_IO;
	fault_point("compact.after_sync");
	return e;
}

/* What a failed sync leaves behind is never folded by this keeper, and to another one it says nothing false: the
 * messages stand where they stood. So no END is needed. */
enum err
keeper_write_copies(struct keeper *k, struct bytes *records)
{
	enum err e = copies_room(k, records->n);

	if (e == OK)
		e = append_copies(k, records);
	if (e != OK) {
		segment_close(&k->copy);
		k->copy.number = 0;
		return e;
	}
	k->copy_off += (uint32_t)records->n;
	return show(k, k->copy.number);
}

void
keeper_journal_close(struct keeper *k)
{
	segment_close(&k->own);
	segment_close(&k->copy);
}
