/* conf_scope.h - the stanzas that are built: name, where they may stand, whether they have an instance
 * (inside policy/conf only) */
#ifndef POLICY_CONF_CONF_SCOPE_H
#define POLICY_CONF_CONF_SCOPE_H

#include "policy/conf/conf_row.h"
#include "shm/base/bytes.h"

enum conf_instance {
	INSTANCE_NONE,
	INSTANCE_NAME,   /* many, each with its name */
	INSTANCE_MODULE, /* one; it may have a name */
};

struct conf_scope {
	enum conf_scope_bit bit;
	const char *name;    /* lower case */
	const char *written; /* as the printer writes it */
	enum conf_instance instance;
	uint32_t parents;
};

/* Any case; NULL when there is none of that name. */
const struct conf_scope *conf_scope_find(const char *name);
const struct conf_scope *conf_scope_of(enum conf_scope_bit bit);
/* i-th scope, "global" first; NULL behind the last. */
const struct conf_scope *conf_scope_at(size_t i);
/* Appends "a, b and c". */
void conf_scope_names(uint32_t scopes, struct bytes *out);

#endif
