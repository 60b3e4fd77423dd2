#include "spool/spool_state.h"

#include <errno.h>
#include <stdlib.h>

#include "shm/base/mem.h"
#include "shm/shm_lmdb.h"

enum { S_BINDING, S_ASSIGNMENT, S_TABLES };
/* Of a binding's value: the second has who said it behind the rest. */
enum { S_V1 = 1, S_V2 = 2 };

static const char *const state_tables[S_TABLES] = { "binding", "assignment" };

struct state {
	char *path;
	bool keeper;
	struct lmdb *env; /* NULL: nothing was ever written */
};

static enum err
open_env(struct state *s)
{
	struct lmdb_conf conf = { .path = s->path,
				  .tables = state_tables,
				  .ntables = S_TABLES,
				  .map_size = UINT64_C(1) << 36,
				  .read_only = !s->keeper };

	if (s->env != NULL)
		return OK;
	return lmdb_open(&conf, &s->env);
}

enum err
state_open(const char *path, bool keeper, struct state **out)
{
	struct state *s = mem_zalloc(sizeof(*s));
	enum err e;

	s->path = mem_strdup(path);
	s->keeper = keeper;
	e = open_env(s);
	if (e != OK && keeper) {
		state_close(&s);
		return e;
	}
	*out = s;
	return OK;
}

void
state_close(struct state **s)
{
	if (*s == NULL)
		return;
	lmdb_close(&(*s)->env);
	free((*s)->path);
	free(*s);
	*s = NULL;
}

static enum err
get(struct state *s, unsigned table, struct slice key, struct bytes *value)
{
	struct lmdb_txn *t;
	struct slice v;
	enum err e = OK;

	if (key.n == 0 || key.n > STATE_KEY_MAX)
		return ERR_RANGE;
	if (open_env(s) != OK)
		return ERR_AGAIN;
	t = lmdb_read(s->env);
	if (lmdb_get(t, table, key, &v)) {
		value->n = 0;
		bytes_add_slice(value, v);
	} else {
		e = lmdb_txn_error(t) != OK ? lmdb_txn_error(t) : ERR_NOTFOUND;
	}
	lmdb_abort(&t);
	return e;
}

static enum err
set(struct state *s, unsigned table, struct slice key, struct slice value)
{
	struct lmdb_txn *t;

	if (key.n == 0 || key.n > STATE_KEY_MAX || value.n > STATE_VALUE_MAX)
		return ERR_RANGE;
	t = lmdb_write(s->env);
	if (value.n == 0)
		(void)lmdb_del(t, table, key);
	else
		lmdb_put(t, table, key, value);
	return lmdb_commit(&t);
}

/* ---- bindings ---- */

void
state_who(struct state_binding *b, struct slice who)
{
	size_t n = who.n < sizeof b->who - 1 ? who.n : sizeof b->who - 1;

	if (n > 0)
		memcpy(b->who, who.p, n);
	b->who[n] = '\0';
}

static bool
decode_binding(struct slice v, struct state_binding *out)
{
	uint8_t version, suspension;
	struct slice who = { 0 };
	uint64_t since;

	if (!take_u8(&v, &version) || version < S_V1 || version > S_V2 || !take_u8(&v, &suspension) ||
	    !take_u64(&v, &since) || (version == S_V2 && !take_lstr(&v, &who)) || v.n != 0 ||
	    suspension > STATE_RESUMED)
		return false;
	state_who(out, who);
	out->suspension = (enum state_suspension)suspension;
	out->since = (usec_t)since;
	return true;
}

enum err
state_binding_get(struct state *s, struct slice name, struct state_binding *out)
{
	struct bytes v = { 0 };
	enum err e = get(s, S_BINDING, name, &v);

	if (e == ERR_NOTFOUND || e == ERR_AGAIN) {
		*out = (struct state_binding){ .suspension = STATE_CONFIGURED };
		e = OK;
	} else if (e == OK && !decode_binding(slice_bytes(&v), out)) {
		e = ERR_DAMAGED;
	}
	bytes_fini(&v);
	return e;
}

enum err
state_binding_set(struct state *s, struct slice name, const struct state_binding *b)
{
	struct bytes v = { 0 };
	enum err e;

	if (b->suspension != STATE_CONFIGURED) {
		bytes_add_u8(&v, S_V2);
		bytes_add_u8(&v, (uint8_t)b->suspension);
		bytes_add_u64(&v, (uint64_t)b->since);
		bytes_add_lstr(&v, slice_str(b->who));
	}
	e = set(s, S_BINDING, name, slice_bytes(&v));
	bytes_fini(&v);
	return e;
}

enum err
state_binding_each(struct state *s, void (*fn)(void *arg, struct slice name, const struct state_binding *b), void *arg)
{
	struct lmdb_txn *t;
	struct lmdb_cursor *c;
	struct state_binding b;
	struct slice k, v;
	bool more;
	enum err e;

	if (open_env(s) != OK)
		return ERR_AGAIN;
	t = lmdb_read(s->env);
	c = lmdb_cursor_open(t, S_BINDING);
	for (more = lmdb_seek(c, slice_of(NULL, 0), &k, &v); more; more = lmdb_next(c, &k, &v))
		if (decode_binding(v, &b))
			fn(arg, k, &b);
	lmdb_cursor_close(&c);
	e = lmdb_txn_error(t);
	lmdb_abort(&t);
	return e;
}

/* ---- assignments ---- */

enum err
state_assignment_get(struct state *s, struct slice key, struct bytes *value)
{
	return get(s, S_ASSIGNMENT, key, value);
}

enum err
state_assignment_set(struct state *s, struct slice key, struct slice value)
{
	return set(s, S_ASSIGNMENT, key, value);
}
