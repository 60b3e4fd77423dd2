/* visible.h - text of strangers made fit for a terminal and for a line of a log
 * Peers, scripts and next hops choose bytes that end up before an operator's eyes. What steers a terminal or the order
 * of reading is taken away: control characters (C0, DEL, and C1 in UTF-8 or as single bytes), separators of lines and
 * paragraphs, marks of direction, the byte order mark; and what is no UTF-8 (RFC 3629), for nobody can tell what a
 * terminal makes of that. Letters of any script stay.
 * Pure; no errors. */
#ifndef SHM_BASE_VISIBLE_H
#define SHM_BASE_VISIBLE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Length of the valid UTF-8 sequence at p (1 to 4; of n bytes that are there), 0 when there is none or n is 0. ASCII
 * control characters count as valid. */
size_t utf8_length(const char *p, size_t n);
/* The character of a valid sequence of that length. */
uint32_t utf8_code(const char *p, size_t length);
bool code_is_visible(uint32_t code);
/* Each byte of what must not be seen becomes '?', in place: the length stays. A tab counts as one. */
void make_visible(char *p, size_t n);

#endif
