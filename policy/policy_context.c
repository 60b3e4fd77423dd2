#include "policy/policy_context.h"

#include <stdlib.h>
#include <string.h>

#include "shm/base/mem.h"

enum { CONTEXT_VERSION = 1 };

/* Immutable, shared by all dictionaries that hold it. */
struct pair {
	uint32_t refs;
	uint32_t klen, vlen;
	char text[]; /* key, NUL, value, NUL */
};

struct policy_dict {
	uint32_t refs; /* a dictionary with more than one user is copied before it is written */
	uint32_t n, cap;
	size_t bytes; /* of all keys and values */
	struct entry {
		uint32_t hash;
		struct pair *pair;
	} * entries;
};

static uint32_t
key_hash(struct slice key)
{
	uint32_t h = 2166136261u ^ (uint32_t)key.n;

	for (size_t i = 0; i < key.n; i++)
		h = (h ^ (unsigned char)key.p[i]) * 16777619u;
	return h;
}

static struct pair *
pair_new(struct slice key, struct slice value)
{
	struct pair *p = mem_alloc(sizeof(*p) + key.n + value.n + 2);

	p->refs = 1;
	p->klen = (uint32_t)key.n;
	p->vlen = (uint32_t)value.n;
	if (key.n > 0)
		memcpy(p->text, key.p, key.n);
	p->text[key.n] = '\0';
	if (value.n > 0)
		memcpy(p->text + key.n + 1, value.p, value.n);
	p->text[key.n + 1 + value.n] = '\0';
	return p;
}

static void
pair_unref(struct pair *p)
{
	if (--p->refs == 0)
		free(p);
}

static struct slice
pair_key(const struct pair *p)
{
	return slice_of(p->text, p->klen);
}

static struct slice
pair_value(const struct pair *p)
{
	return slice_of(p->text + p->klen + 1, p->vlen);
}

static void
dict_unref(struct policy_dict *d)
{
	if (d == NULL || --d->refs > 0)
		return;
	for (uint32_t i = 0; i < d->n; i++)
		pair_unref(d->entries[i].pair);
	free(d->entries);
	free(d);
}

static struct policy_dict *
dict_copy(const struct policy_dict *from)
{
	struct policy_dict *d = mem_zalloc(sizeof(*d));

	d->refs = 1;
	d->n = from->n;
	d->cap = from->n + 4;
	d->bytes = from->bytes;
	d->entries = mem_array(NULL, d->cap, sizeof(d->entries[0]));
	for (uint32_t i = 0; i < d->n; i++) {
		d->entries[i] = from->entries[i];
		d->entries[i].pair->refs++;
	}
	return d;
}

/* c's dictionary, its own alone. */
static struct policy_dict *
context_own(struct policy_context *c)
{
	if (c->dict == NULL) {
		c->dict = mem_zalloc(sizeof(*c->dict));
		c->dict->refs = 1;
	} else if (c->dict->refs > 1) {
		struct policy_dict *copy = dict_copy(c->dict);

		c->dict->refs--;
		c->dict = copy;
	}
	return c->dict;
}

/* Place of key, or n. */
static uint32_t
dict_find(const struct policy_dict *d, struct slice key, uint32_t hash)
{
	uint32_t i;

	for (i = 0; i < d->n; i++)
		if (d->entries[i].hash == hash && slice_eq(pair_key(d->entries[i].pair), key))
			break;
	return i;
}

static void
dict_append(struct policy_dict *d, uint32_t hash, struct pair *pair)
{
	if (d->n == d->cap) {
		d->cap = d->cap == 0 ? 16 : d->cap * 2;
		d->entries = mem_array(d->entries, d->cap, sizeof(d->entries[0]));
	}
	d->entries[d->n++] = (struct entry){ hash, pair };
}

enum err
policy_context_set(struct policy_context *c, struct slice key, struct slice value)
{
	const uint32_t hash = key_hash(key);
	const struct policy_dict *now = c->dict;
	const uint32_t n = now == NULL ? 0 : now->n;
	const uint32_t at = now == NULL ? 0 : dict_find(now, key, hash);
	const size_t room = POLICY_CONTEXT_BYTES - (now == NULL ? 0 : now->bytes);
	const size_t freed = at < n ? (size_t)now->entries[at].pair->klen + now->entries[at].pair->vlen : 0;

	if (key.n > POLICY_CONTEXT_BYTES || value.n > POLICY_CONTEXT_BYTES || key.n + value.n > room + freed)
		return ERR_FULL;
	if (at == n && n == POLICY_CONTEXT_KEYS)
		return ERR_FULL;
	struct pair *pair = pair_new(key, value); /* first: value may lie in what is replaced */
	struct policy_dict *d = context_own(c);
	if (at < n) {
		pair_unref(d->entries[at].pair);
		d->entries[at].pair = pair;
	} else {
		dict_append(d, hash, pair);
	}
	d->bytes = d->bytes - freed + key.n + value.n;
	return OK;
}

bool
policy_context_get(const struct policy_context *c, struct slice key, struct slice *value)
{
	if (c->dict == NULL)
		return false;
	const uint32_t at = dict_find(c->dict, key, key_hash(key));
	if (at == c->dict->n)
		return false;
	*value = pair_value(c->dict->entries[at].pair);
	return true;
}

bool
policy_context_delete(struct policy_context *c, struct slice key)
{
	const uint32_t hash = key_hash(key);

	if (c->dict == NULL || dict_find(c->dict, key, hash) == c->dict->n)
		return false;
	struct policy_dict *d = context_own(c);
	const uint32_t at = dict_find(d, key, hash);
	struct pair *gone = d->entries[at].pair;
	d->bytes -= (size_t)gone->klen + gone->vlen;
	d->n--;
	memmove(d->entries + at, d->entries + at + 1, (d->n - at) * sizeof(d->entries[0]));
	pair_unref(gone);
	return true;
}

size_t
policy_context_count(const struct policy_context *c)
{
	return c->dict == NULL ? 0 : c->dict->n;
}

void
policy_context_at(const struct policy_context *c, size_t i, struct slice *key, struct slice *value)
{
	*key = pair_key(c->dict->entries[i].pair);
	*value = pair_value(c->dict->entries[i].pair);
}

void
policy_context_share(struct policy_context *to, const struct policy_context *from)
{
	struct policy_dict *d = from->dict;

	if (d != NULL)
		d->refs++;
	dict_unref(to->dict);
	to->dict = d;
}

void
policy_context_clear(struct policy_context *c)
{
	dict_unref(c->dict);
	c->dict = NULL;
}

void
policy_context_pack(const struct policy_context *c, struct bytes *out)
{
	const size_t n = policy_context_count(c);

	if (n == 0)
		return;
	bytes_add_u8(out, CONTEXT_VERSION);
	bytes_add_u32(out, (uint32_t)n);
	for (size_t i = 0; i < n; i++) {
		bytes_add_lstr(out, pair_key(c->dict->entries[i].pair));
		bytes_add_lstr(out, pair_value(c->dict->entries[i].pair));
	}
}

static enum err
take_pairs(struct slice *in, uint32_t n, struct policy_context *c)
{
	struct slice key, value;

	for (uint32_t i = 0; i < n; i++) {
		if (!take_lstr(in, &key) || !take_lstr(in, &value))
			return ERR_DAMAGED;
		if (policy_context_set(c, key, value) != OK)
			return ERR_DAMAGED;
	}
	return in->n == 0 ? OK : ERR_DAMAGED;
}

enum err
policy_context_unpack(struct slice packed, struct policy_context *c)
{
	uint8_t version;
	uint32_t n;

	policy_context_clear(c);
	if (packed.n == 0)
		return OK;
	if (!take_u8(&packed, &version))
		return ERR_DAMAGED;
	if (version != CONTEXT_VERSION)
		return ERR_VERSION;
	if (!take_u32(&packed, &n))
		return ERR_DAMAGED;
	const enum err e = take_pairs(&packed, n, c);
	if (e != OK)
		policy_context_clear(c);
	return e;
}

/* One dictionary behind its length. */
static void
pack_sized(const struct policy_context *c, struct bytes *out)
{
	struct bytes one = { 0 };

	policy_context_pack(c, &one);
	bytes_add_lstr(out, slice_bytes(&one));
	bytes_fini(&one);
}

void
policy_contexts_pack(const struct policy_context *conn, const struct policy_context *mess, struct bytes *out)
{
	if (policy_context_count(conn) == 0 && policy_context_count(mess) == 0)
		return;
	bytes_add_u8(out, CONTEXT_VERSION);
	pack_sized(conn, out);
	pack_sized(mess, out);
}

enum err
policy_contexts_unpack(struct slice packed, struct policy_context *conn, struct policy_context *mess)
{
	struct slice first, second;
	uint8_t version;
	enum err e;

	policy_context_clear(conn);
	policy_context_clear(mess);
	if (packed.n == 0)
		return OK;
	if (!take_u8(&packed, &version))
		return ERR_DAMAGED;
	if (version != CONTEXT_VERSION)
		return ERR_VERSION;
	if (!take_lstr(&packed, &first) || !take_lstr(&packed, &second) || packed.n != 0)
		return ERR_DAMAGED;
	if ((e = policy_context_unpack(first, conn)) == OK)
		e = policy_context_unpack(second, mess);
	if (e != OK)
		policy_context_clear(conn);
	return e;
}

static void
print_value(struct slice v, struct bytes *out)
{
	bool quote = false;

	for (size_t i = 0; i < v.n; i++)
		quote = quote || v.p[i] == ' ' || v.p[i] == ',' || v.p[i] == '"' || v.p[i] == ']';
	if (quote)
		bytes_add_char(out, '"');
	for (size_t i = 0; i < v.n; i++) {
		const unsigned char ch = (unsigned char)v.p[i];

		if (ch < 0x20 || ch == 0x7f)
			bytes_add_char(out, '?');
		else if (ch == '"')
			bytes_add_char(out, '\'');
		else
			bytes_add_char(out, (char)ch);
	}
	if (quote)
		bytes_add_char(out, '"');
}

void
policy_context_print(const struct policy_context *c, struct bytes *out)
{
	bool first = true;

	for (size_t i = 0; i < policy_context_count(c); i++) {
		struct slice key, value;

		policy_context_at(c, i, &key, &value);
		if (key.n > 0 && key.p[0] == '#')
			continue;
		if (!first)
			bytes_add_char(out, ',');
		first = false;
		print_value(key, out);
		bytes_add_char(out, '=');
		print_value(value, out);
	}
}
