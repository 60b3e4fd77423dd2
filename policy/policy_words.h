/* policy_words.h - header text as people read it: RFC 2047 encoded words to UTF-8 and back
 * Pure. Charsets known: UTF-8, US-ASCII, ISO-8859-1, ISO-8859-15, Windows-1252; a word in another one, or a broken one,
 * stays as it was written. */
#ifndef POLICY_POLICY_WORDS_H
#define POLICY_POLICY_WORDS_H

#include "shm/base/bytes.h"

/* Appends the value of a field (folded or not) on one line, encoded words decoded. */
void policy_words_decode(struct slice value, struct bytes *out);
/* Appends text as the value of a field: words that are not ASCII become encoded words (UTF-8), long ones are split and
 * folded; lines over 900 bytes are folded at a space. Words that begin with "<" or have an "@" stay. */
void policy_words_encode(struct slice text, struct bytes *out);

#endif
