#include "shm/base/arena.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include "shm/base/mem.h"

enum { BLOCK_BYTES = 2048 - 32 };

struct block {
	struct block *next;
	size_t cap, used;
	_Alignas(max_align_t) char data[];
};

struct hook {
	struct hook *next;
	void (*fn)(void *arg);
	void *arg;
};

struct arena {
	struct block *blocks;
	struct hook *hooks;
	size_t size;
};

struct arena *
arena_new(void)
{
	return mem_zalloc(sizeof(struct arena));
}

void
arena_free(struct arena **ap)
{
	struct arena *a = *ap;

	if (a == NULL)
		return;
	*ap = NULL;
	for (struct hook *h = a->hooks; h != NULL; h = h->next)
		h->fn(h->arg);
	for (struct block *b = a->blocks, *next; b != NULL; b = next) {
		next = b->next;
		free(b);
	}
	free(a);
}

static struct block *
block_add(struct arena *a, size_t n)
{
	size_t cap = n > BLOCK_BYTES / 4 ? n : BLOCK_BYTES;
	struct block *b = mem_alloc(sizeof *b + cap);

	b->cap = cap;
	b->used = 0;
	a->size += sizeof *b + cap;
	/* A block made for one large piece goes behind the current one, which still has room. */
	if (a->blocks != NULL && cap == n) {
		b->next = a->blocks->next;
		a->blocks->next = b;
	} else {
		b->next = a->blocks;
		a->blocks = b;
	}
	return b;
}

void *
arena_alloc(struct arena *a, size_t n)
{
	struct block *b = a->blocks;
	void *p;

	n = (n + _Alignof(max_align_t) - 1) & ~(_Alignof(max_align_t) - 1);
	if (b == NULL || b->cap - b->used < n)
		b = block_add(a, n);
	p = b->data + b->used;
	b->used += n;
	return memset(p, 0, n);
}

struct slice
arena_slice(struct arena *a, struct slice s)
{
	char *p = arena_alloc(a, s.n + 1);

	if (s.n != 0)
		memcpy(p, s.p, s.n);
	return slice_of(p, s.n);
}

char *
arena_strdup(struct arena *a, const char *s)
{
	size_t n = strlen(s) + 1;

	return memcpy(arena_alloc(a, n), s, n);
}

char *
arena_printf(struct arena *a, const char *fmt, ...)
{
	va_list ap;
	char *p;
	int w;

	va_start(ap, fmt);
	w = vsnprintf(NULL, 0, fmt, ap);
	va_end(ap);
	p = arena_alloc(a, (size_t)(w < 0 ? 0 : w) + 1);
	va_start(ap, fmt);
	vsnprintf(p, (size_t)(w < 0 ? 0 : w) + 1, fmt, ap);
	va_end(ap);
	return p;
}

void
arena_on_free(struct arena *a, void (*fn)(void *arg), void *arg)
{
	struct hook *h = arena_alloc(a, sizeof *h);

	h->fn = fn;
	h->arg = arg;
	h->next = a->hooks;
	a->hooks = h;
}

size_t
arena_size(const struct arena *a)
{
	return a->size;
}
