#include <stdlib.h>

#include "policy/policy_msg.h"
#include "shm/base/mem.h"

struct policy_block {
	uint32_t refs;
	bool loaded;
	struct slice bytes; /* when loaded; n is known before */
	char *own;          /* heap memory that holds them, or NULL */
	enum err (*load)(void *arg, struct slice *out);
	void (*release)(void *arg);
	void *arg;
};

static struct policy_block *
block_new(void)
{
	struct policy_block *b = mem_zalloc(sizeof(*b));

	b->refs = 1;
	b->loaded = true;
	return b;
}

struct policy_block *
policy_block_copy(struct slice s)
{
	struct policy_block *b = block_new();

	b->own = slice_dup(s);
	b->bytes = slice_of(b->own, s.n);
	return b;
}

struct policy_block *
policy_block_take(struct bytes *from)
{
	struct policy_block *b = block_new();

	b->own = from->p;
	b->bytes = slice_of(from->p, from->n);
	*from = (struct bytes){ 0 };
	return b;
}

struct policy_block *
policy_block_borrow(struct slice s, void (*release)(void *arg), void *arg)
{
	struct policy_block *b = block_new();

	b->bytes = s;
	b->release = release;
	b->arg = arg;
	return b;
}

struct policy_block *
policy_block_lazy(size_t size, enum err (*load)(void *arg, struct slice *out), void (*release)(void *arg), void *arg)
{
	struct policy_block *b = policy_block_borrow(slice_of(NULL, size), release, arg);

	b->loaded = false;
	b->load = load;
	return b;
}

void
policy_block_ref(struct policy_block *b)
{
	b->refs++;
}

void
policy_block_unref(struct policy_block **p)
{
	struct policy_block *b = *p;

	*p = NULL;
	if (b == NULL || --b->refs > 0)
		return;
	if (b->release != NULL)
		b->release(b->arg);
	free(b->own);
	free(b);
}

size_t
policy_block_size(const struct policy_block *b)
{
	return b->bytes.n;
}

enum err
policy_block_bytes(struct policy_block *b, struct slice *out)
{
	if (!b->loaded) {
		struct slice got = { 0 };
		const enum err e = b->load(b->arg, &got);

		if (e != OK)
			return e;
		if (got.n != b->bytes.n)
			return ERR_DAMAGED;
		b->bytes = got;
		b->loaded = true;
	}
	*out = b->bytes;
	return OK;
}
