/* wire.h - what the load generator and the sink of the benches share: the message, and the running counts
 * A message carries its serial number in a header line and at its end, between them text that depends on its length
 * only, with lines that begin with dots. So the sink can tell a lost, doubled, mixed up or altered message without
 * having been told what was sent. What is written here is the wire's form: dots are stuffed already.
 * Counts live in one shared mapping: processes add, the parent prints. Errors: those of the system end the program. */
#ifndef T_BENCH_WIRE_H
#define T_BENCH_WIRE_H

#include <netinet/in.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { WIRE_LINE = 64, WIRE_HEAD_MAX = 512, WIRE_TAIL_MAX = WIRE_LINE + 4 };

/* The text between head and tail; grows as asked, the same bytes ever. Valid until the next call. */
const char *wire_fill(size_t bytes);
/* Header lines and the empty line; bytes: of the body (fill and the tail's line). Returns the length. */
size_t wire_head(char out[WIRE_HEAD_MAX], uint32_t serial, const char *from, const char *to, size_t bytes);
/* The last line and the final dot. */
size_t wire_tail(char out[WIRE_TAIL_MAX], uint32_t serial);

enum wire_found { WIRE_INTACT, WIRE_ALTERED, WIRE_FOREIGN };
/* Is data, up to and without the final dot's line, one of ours, unaltered? *serial is set unless it is foreign. */
enum wire_found wire_check(const char *data, size_t len, uint32_t *serial);

/* "127.0.0.1:2525" or "2525" -> address. false: not one. */
bool wire_address(const char *text, struct sockaddr_in *out);

typedef _Atomic uint64_t count_t;

/* Memory that child processes share, zeroed. */
void *wire_share(size_t bytes);
static inline void
count_add(count_t *c, uint64_t n)
{
	atomic_fetch_add_explicit(c, n, memory_order_relaxed);
}
static inline uint64_t
count_get(count_t *c)
{
	return atomic_load_explicit(c, memory_order_relaxed);
}
/* Lifts the limit on descriptors to what the system allows. */
void wire_descriptors(void);
/* As a string of decimal digits, a number from min to max: else the program ends, naming what it was for. */
uint64_t wire_number(const char *text, const char *what, uint64_t min, uint64_t max);

#endif
