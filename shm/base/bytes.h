/* bytes.h - bytes with a length: slices that borrow, buffers that own
 * A slice is a view: it owns nothing and holds as long as what it was cut from. A struct bytes owns its memory and
 * grows; all zero is an empty one, so no init call is needed. Growing never fails (mem.h); callers bound sizes first.
 */
#ifndef SHM_BASE_BYTES_H
#define SHM_BASE_BYTES_H

#include <stdbool.h>
#include <stdint.h>
#include <stddef.h>
#include <string.h>

struct slice {
	const char *p;
	size_t n;
};

struct bytes {
	char *p; /* n bytes in use, not NUL-terminated unless bytes_cstr was called */
	size_t n;
	size_t cap;
};

#define SLICE(literal) ((struct slice){ "" literal, sizeof(literal) - 1 })

static inline struct slice
slice_of(const void *p, size_t n)
{
	return (struct slice){ p, n };
}
static inline struct slice
slice_str(const char *s)
{
	return (struct slice){ s, s == NULL ? 0 : strlen(s) };
}
static inline struct slice
slice_bytes(const struct bytes *b)
{
	return (struct slice){ b->p, b->n };
}
bool slice_eq(struct slice a, struct slice b);
/* ASCII only, whatever the locale: what protocols and option names need. */
bool slice_ieq(struct slice a, struct slice b);
bool slice_istarts(struct slice s, struct slice prefix);
/* Any byte above 127? */
bool slice_has_8bit(struct slice s);
/* Without spaces and tabs at both ends. */
struct slice slice_trim(struct slice s);
/* Position of c in s, or s.n. */
size_t slice_find(struct slice s, char c);
/* A heap copy with a NUL at its end. */
char *slice_dup(struct slice s);
enum { DECIMAL_TEXT = 20 }; /* digits of the largest uint64_t */
/* v in decimal, in `room`, without a NUL. What printf does, at a tenth of its price: for lines that every message pays. */
struct slice decimal_text(uint64_t v, char room[DECIMAL_TEXT]);
/* Decimal digits only, the whole of s; false when empty, other characters or above max. */
bool slice_u64(struct slice s, uint64_t max, uint64_t *out);

/* Makes room for n more bytes than there is. */
void bytes_grow(struct bytes *b, size_t n);
/* Room for n more bytes behind b->n; gives the place, never NULL. */
static inline char *
bytes_room(struct bytes *b, size_t n)
{
	if (b->p == NULL || b->cap - b->n < n)
		bytes_grow(b, n);
	return b->p + b->n;
}
void bytes_add(struct bytes *b, const void *p, size_t n);
void bytes_add_slice(struct bytes *b, struct slice s);
void bytes_add_str(struct bytes *b, const char *s);
static inline void
bytes_add_char(struct bytes *b, char c)
{
	*bytes_room(b, 1) = c;
	b->n++;
}
/* In decimal. */
void bytes_add_decimal(struct bytes *b, uint64_t v);
void bytes_addf(struct bytes *b, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
/* Drops the first n bytes; n must not exceed b->n. */
void bytes_drop(struct bytes *b, size_t n);
/* The content with a NUL behind it, which is not counted. Holds until the next change. */
const char *bytes_cstr(struct bytes *b);
/* Frees and zeroes. */
void bytes_fini(struct bytes *b);

/* Little-endian numbers, as everything on disk is. */
void bytes_add_u8(struct bytes *b, uint8_t v);
void bytes_add_u16(struct bytes *b, uint16_t v);
void bytes_add_u32(struct bytes *b, uint32_t v);
void bytes_add_u64(struct bytes *b, uint64_t v);
/* u32 length, then the bytes. */
void bytes_add_lstr(struct bytes *b, struct slice s);

/* A checked reader: takes from the front of *s; false, and *s untouched, when there is not enough. */
bool take_u8(struct slice *s, uint8_t *v);
bool take_u16(struct slice *s, uint16_t *v);
bool take_u32(struct slice *s, uint32_t *v);
bool take_u64(struct slice *s, uint64_t *v);
bool take_i64(struct slice *s, int64_t *v);
bool take_bytes(struct slice *s, size_t n, struct slice *v);
bool take_lstr(struct slice *s, struct slice *v);

/* ASCII lower case. */
static inline char
ascii_lower(char c)
{
	return c >= 'A' && c <= 'Z' ? (char)(c + 32) : c;
}

#endif
