/* conf_known.h - what the language knows and this version does not build (inside policy/conf only)
 * So that an existing configuration can be tried: such an option or stanza is named and passed over, unless ignoring it
 * would weaken security, lose mail or send it elsewhere; then it is an error. Who builds one gives it a row
 * (conf_row.h) or scope and deletes it here; a test holds both against t/spec. */
#ifndef POLICY_CONF_CONF_KNOWN_H
#define POLICY_CONF_CONF_KNOWN_H

#include <stdbool.h>
#include <stddef.h>

enum conf_known_kind { OPTION, STANZA };
enum conf_known_class {
	PASS,   /* named, passed over */
	REFUSE, /* an error */
};

struct conf_known {
	enum conf_known_kind kind;
	const char *name;
	const char *scopes; /* comma-separated; modules stand in "global" */
	enum conf_known_class class;
	const char *harmless; /* a value, or several with "=" between, that asks for nothing: never refused */
};

/* Any case; NULL when it is not there. */
const struct conf_known *conf_known_find(enum conf_known_kind kind, const char *name);
bool conf_known_in(const struct conf_known *k, const char *scope);
/* That value asks for what happens anyway. */
bool conf_known_harmless(const struct conf_known *k, const char *value);
/* All of them, for suggestions and tests: NULL behind the last. */
const struct conf_known *conf_known_at(size_t i);

#endif
