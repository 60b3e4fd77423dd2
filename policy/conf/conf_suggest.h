/* conf_suggest.h - the name that a misspelt one was meant to be (inside policy/conf only) */
#ifndef POLICY_CONF_CONF_SUGGEST_H
#define POLICY_CONF_CONF_SUGGEST_H

#include <stddef.h>

struct conf_suggest {
	const char *wanted;
	const char *best; /* NULL: nothing is near enough */
	unsigned distance;
};

void conf_suggest_init(struct conf_suggest *s, const char *wanted);
/* Offers a candidate; borrows it. Of equally near ones the first stays. */
void conf_suggest_offer(struct conf_suggest *s, const char *candidate);

#endif
