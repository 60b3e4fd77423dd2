/* mend.h - makes a fuzzer's bytes pass the checksums of the spool's files
 * Chance never finds a CRC, and a hostile or rotten file that has one is what the code behind it must live through. Only
 * magic numbers, places and CRCs are written; lengths are cut to what is there. The offsets are the format's
 * (spool_record.h, spool_segment.c, spool_keeper_ended.c): when that changes, these move along. */
#ifndef T_FUZZ_MEND_H
#define T_FUZZ_MEND_H

#include <string.h>

#include "shm/base/crc32c.h"
#include "shm/base/le.h"
#include "spool/spool_record.h"
#include "spool/spool_segment.h"

enum { MEND_TABLE = 4, MEND_ENTRY = 28, MEND_ENDED = 24 };

/* CRCs of the blob table at p, of n bytes, and of the inline blobs of its record. */
static inline uint32_t
mend_blobs(char *record, size_t table, size_t n)
{
	uint32_t count = n >= MEND_TABLE ? le_get32(record + table) : 0;

	if (count == 0)
		return 0;
	if (count > (n - MEND_TABLE) / MEND_ENTRY) {
		count = (uint32_t)((n - MEND_TABLE) / MEND_ENTRY);
		le_put32(record + table, count);
	}
	for (uint32_t i = 0; i < count; i++) {
		char *p = record + table + MEND_TABLE + (size_t)i * MEND_ENTRY;
		uint64_t off = le_get64(p + 8), len = le_get64(p + 16);

		if (p[0] == BLOB_INLINE && off <= table + n && len <= table + n - off)
			le_put32(p + 24, crc32c(0, record + off, len));
	}
	return crc32c(0, record + table, MEND_TABLE + (size_t)count * MEND_ENTRY);
}

/* A record of n bytes, at least RECORD_HEAD. */
static inline void
mend_record(char *p, size_t n, struct place at)
{
	uint32_t room = (uint32_t)(n - RECORD_HEAD), meta = le_get32(p + 8), blobs = le_get32(p + 12);

	meta = meta > room ? room : meta;
	blobs = blobs > room - meta ? room - meta : blobs;
	le_put32(p, UINT32_C(0x31636572));
	p[5] = 0;
	le_put32(p + 8, meta);
	le_put32(p + 12, blobs);
	le_put32(p + 32, mend_blobs(p, RECORD_HEAD + (size_t)meta, blobs));
	le_put32(p + 28, crc32c(0, p + RECORD_HEAD, meta));
	record_seal(p, at, le_get32(p + 24), le_get64(p + 36));
}

/* A head page: SEGMENT_HEAD bytes. */
static inline void
mend_head(char *p, uint32_t number)
{
	le_put32(p, UINT32_C(0x67657369));
	le_put16(p + 4, 1);
	le_put32(p + 8, number);
	le_put32(p + 48, crc32c(0, p, 48));
}

static inline void
mend_seal(char *p, uint32_t number)
{
	le_put32(p + 2048, UINT32_C(0x6c616573));
	le_put32(p + 2052, number);
	le_put32(p + 2048 + 24, crc32c(0, p + 2048, 24));
}

static inline void
mend_ended(char *p, size_t n, uint32_t seg)
{
	for (; n >= MEND_ENDED; p += MEND_ENDED, n -= MEND_ENDED) {
		le_put32(p + 16, seg);
		le_put32(p + 20, crc32c(0, p, 20));
	}
}

#endif
