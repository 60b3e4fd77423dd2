/* le.h - little-endian numbers at fixed places: heads and tables on disk; bytes.h has them at the end of a buffer
 * The caller has checked that the bytes are there. Pure, no errors. */
#ifndef SHM_BASE_LE_H
#define SHM_BASE_LE_H

#include <endian.h>
#include <stdint.h>
#include <string.h>

static inline void
le_put16(char *p, uint16_t v)
{
	v = htole16(v);
	memcpy(p, &v, sizeof v);
}
static inline void
le_put32(char *p, uint32_t v)
{
	v = htole32(v);
	memcpy(p, &v, sizeof v);
}
static inline void
le_put64(char *p, uint64_t v)
{
	v = htole64(v);
	memcpy(p, &v, sizeof v);
}
static inline uint16_t
le_get16(const char *p)
{
	uint16_t v;

	memcpy(&v, p, sizeof v);
	return le16toh(v);
}
static inline uint32_t
le_get32(const char *p)
{
	uint32_t v;

	memcpy(&v, p, sizeof v);
	return le32toh(v);
}
static inline uint64_t
le_get64(const char *p)
{
	uint64_t v;

	memcpy(&v, p, sizeof v);
	return le64toh(v);
}

#endif
