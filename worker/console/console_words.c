/* A command line into words: no session, no command, only text. */
#include "worker/console/console_int.h"

enum err
command_split(struct bytes *line, struct slice *words, unsigned *n)
{
	char *at = line->p, *end, *to = line->p;

	*n = 0;
	if (line->n == 0)
		return OK;
	end = at + line->n;
	for (;;) {
		bool quoted;
		char *start;
		while (at < end && (*at == ' ' || *at == '\t'))
			at++;
		if (at == end)
			return OK;
		if (*n == COMMAND_WORDS)
			return ERR_SYNTAX;
		quoted = *at == '"';
		at += quoted;
		for (start = to; at < end && (quoted ? *at != '"' : *at != ' ' && *at != '\t'); at++) {
			if (quoted && *at == '\\' && at + 1 < end)
				at++;
			*to++ = *at;
		}
		if (quoted && at == end)
			return ERR_SYNTAX;
		/* Past the quote, or the blank: a word never grows into the next one's place. */
		at += at < end;
		words[(*n)++] = slice_of(start, (size_t)(to - start));
		to = to < at ? to + 1 : to;
	}
}
