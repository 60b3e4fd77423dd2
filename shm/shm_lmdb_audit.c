/* The file's own format, as LMDB 0.9 writes it (data version 1, little-endian words of the machine): two meta pages, then
 * trees of pages. A page: number, pad, flags, then for a leaf or branch the bounds of its free middle and the offsets of
 * its nodes, for the first of a long value's pages how many they are. A node: two words that are the length of the value,
 * or of the child's number the lower part; flags, or its upper part; length of the key; key; value. The tree of free
 * pages and the tree of tables hang on the meta page, each table's tree on its entry in the latter. */
#include <endian.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "shm/base/log.h"
#include "shm/base/mem.h"
#include "shm/shm_lmdb_int.h"

enum { PAGE_HEAD = 16, NODE_HEAD = 8, DB_SIZE = 48, DEEPEST = 32 };
enum { AT_FLAGS = 10, AT_LOWER = 12, AT_UPPER = 14, AT_LONG = 12 };
enum { PAGE_BRANCH = 1, PAGE_LEAF = 2, PAGE_LONG = 4 };
enum { NODE_LONG = 1, NODE_TABLE = 2 };
enum {
	META_MAGIC = 16,
	META_VERSION = 20,
	META_FREE = LMDB_AT_PAGE_SIZE,
	META_MAIN = 88,
	META_LAST = LMDB_AT_LAST_PAGE,
	META_TXN = 144
};
enum { INTEGER_KEYS = 8 };
#define MAGIC   UINT32_C(0xBEEFC0DE)
#define NO_ROOT UINT64_MAX

enum tree_kind { TREE_FREE, TREE_MAIN, TREE_TABLE };

/* What a tree is said to be, and in `seen` what it is. */
struct tree {
	enum tree_kind kind;
	uint16_t depth;
	uint32_t seed;
	uint64_t root;
	struct tree_sums {
		uint64_t branches, leaves, longs, entries;
	} said, seen;
};

/* A page of the way down, and between which keys its own must lie. */
struct level {
	unsigned char *page;
	unsigned at, n;
	bool from_set, to_set;
	struct slice from, to;
};

struct lmdb_audit {
	struct lmdb *l;
	struct lmdb_txn *t;
	int fd;
	size_t page_size;
	uint64_t last;      /* page */
	uint8_t *met;       /* a bit a page */
	struct bytes value; /* a long one */
	struct level way[DEEPEST];
	unsigned depth; /* levels in use; 0: the next tree begins */
	struct tree trees[2 + LMDB_TABLES_MAX];
	unsigned n_trees, tree;
	uint64_t most; /* pages to look through */
	size_t pages;  /* read by this step */
};

/* ---- words ---- */

static uint16_t
word16(const unsigned char *p)
{
	uint16_t v;

	memcpy(&v, p, sizeof(v));
	return v;
}

static uint32_t
word32(const unsigned char *p)
{
	uint32_t v;

	memcpy(&v, p, sizeof(v));
	return v;
}

static uint64_t
word64(const unsigned char *p)
{
	uint64_t v;

	memcpy(&v, p, sizeof(v));
	return v;
}

/* ---- pages ---- */

static enum err
read_at(struct lmdb_audit *a, uint64_t page, unsigned char *out, size_t n)
{
	size_t got = 0;

	while (got < n) {
		ssize_t r = pread(a->fd, out + got, n - got, (off_t)(page * a->page_size + got));

		if (r < 0 && errno == EINTR)
			continue;
		if (r < 0 && errno != EIO)
			return ERR_IO;
		if (r <= 0)
			return ERR_DAMAGED; /* cut off, or a sector that cannot be read */
		got += (size_t)r;
	}
	a->pages += (n + a->page_size - 1) / a->page_size;
	return OK;
}

/* False: no such page, or met before. */
static bool
meet(struct lmdb_audit *a, uint64_t page, uint64_t n)
{
	if (page < 2 || n == 0 || page > a->last || n > a->last - page + 1)
		return false;
	for (; n > 0; page++, n--) {
		if ((a->met[page / 8] >> (page % 8) & 1) != 0)
			return false;
		a->met[page / 8] |= (uint8_t)(1 << (page % 8));
	}
	return true;
}

/* Leaves and branches: its middle is free, and what is behind it is nodes. */
static bool
page_whole(const struct lmdb_audit *a, const unsigned char *p, uint64_t number, uint16_t flags)
{
	unsigned lower = word16(p + AT_LOWER), upper = word16(p + AT_UPPER);

	return word64(p) == number && word16(p + AT_FLAGS) == flags && lower > PAGE_HEAD && lower % 2 == 0 &&
	       lower <= upper && upper <= a->page_size;
}

static const unsigned char *
node_at(const struct level *w, unsigned i)
{
	return w->page + word16(w->page + PAGE_HEAD + 2 * (size_t)i);
}

static struct slice
node_key(const unsigned char *node)
{
	return slice_of(node + NODE_HEAD, word16(node + 6));
}

static size_t
node_value(const unsigned char *node)
{
	return word16(node) | (size_t)word16(node + 2) << 16;
}

static uint64_t
node_child(const unsigned char *node)
{
	return word16(node) | (uint64_t)word16(node + 2) << 16 | (uint64_t)word16(node + 4) << 32;
}

static size_t
node_size(const unsigned char *node, bool leaf)
{
	size_t n = NODE_HEAD + word16(node + 6);

	if (leaf)
		n += (word16(node + 4) & NODE_LONG) != 0 ? sizeof(uint64_t) : node_value(node);
	return n + (n & 1);
}

/* Together the nodes are as long as the part of the page that they have. */
static bool
nodes_fit(const struct lmdb_audit *a, const struct level *w, bool leaf)
{
	size_t upper = word16(w->page + AT_UPPER), sum = 0;

	for (unsigned i = 0; i < w->n; i++) {
		size_t off = word16(w->page + PAGE_HEAD + 2 * (size_t)i);

		if (off < upper || off + NODE_HEAD > a->page_size ||
		    off + node_size(w->page + off, leaf) > a->page_size)
			return false;
		sum += node_size(w->page + off, leaf);
	}
	return sum == a->page_size - upper;
}

static int
compare(const struct tree *t, struct slice x, struct slice y)
{
	uint64_t a, b;

	if (t->kind != TREE_FREE)
		return lmdb_key_cmp(x, y);
	memcpy(&a, x.p, sizeof(a));
	memcpy(&b, y.p, sizeof(b));
	return (a > b) - (a < b);
}

/* The first key of a branch means nothing. */
static bool
keys_in_order(const struct tree *t, const struct level *w, bool leaf)
{
	for (unsigned i = leaf ? 0 : 1; i < w->n; i++) {
		struct slice k = node_key(node_at(w, i));

		if (k.n == 0 || k.n > LMDB_KEY_MAX || (t->kind == TREE_FREE && k.n != sizeof(uint64_t)))
			return false;
		if (i > (leaf ? 0 : 1) && compare(t, node_key(node_at(w, i - 1)), k) >= 0)
			return false;
		if ((w->from_set && compare(t, k, w->from) < 0) || (w->to_set && compare(t, k, w->to) >= 0))
			return false;
	}
	return true;
}

static enum err
enter(struct lmdb_audit *a, struct tree *t, uint64_t number)
{
	struct level *w = &a->way[a->depth];
	bool leaf = a->depth + 1 == t->depth;
	enum err e;

	if (!meet(a, number, 1))
		return ERR_DAMAGED;
	if (w->page == NULL)
		w->page = mem_alloc(a->page_size);
	e = read_at(a, number, w->page, a->page_size);
	if (e != OK)
		return e;
	if (!page_whole(a, w->page, number, leaf ? PAGE_LEAF : PAGE_BRANCH))
		return ERR_DAMAGED;
	w->at = 0;
	w->n = (unsigned)(word16(w->page + AT_LOWER) - PAGE_HEAD) / 2;
	if (!nodes_fit(a, w, leaf) || !keys_in_order(t, w, leaf))
		return ERR_DAMAGED;
	a->depth++;
	if (leaf)
		t->seen.leaves++;
	else
		t->seen.branches++;
	return OK;
}

/* ---- entries ---- */

/* Its pages are at least as many as it needs: a shorter one may have taken the place of a longer. */
static enum err
long_value(struct lmdb_audit *a, struct tree *t, uint64_t page, size_t n, struct slice *out)
{
	uint64_t needed = (PAGE_HEAD + (uint64_t)n + a->page_size - 1) / a->page_size, pages;
	unsigned char *p;
	enum err e;

	if (page > a->last || needed > a->last - page + 1)
		return ERR_DAMAGED;
	a->value.n = 0;
	p = (unsigned char *)bytes_room(&a->value, PAGE_HEAD + n);
	e = read_at(a, page, p, PAGE_HEAD + n);
	if (e != OK)
		return e;
	pages = word32(p + AT_LONG);
	if (word64(p) != page || word16(p + AT_FLAGS) != PAGE_LONG || pages < needed || !meet(a, page, pages))
		return ERR_DAMAGED;
	*out = slice_of(p + PAGE_HEAD, n);
	t->seen.longs += pages;
	return OK;
}

/* Its first word is how many there are. */
static bool
free_pages(struct lmdb_audit *a, struct slice v)
{
	const unsigned char *p = (const unsigned char *)v.p;
	uint64_t n;

	if (v.n < sizeof(n) || v.n % sizeof(n) != 0 || (n = word64(p)) > v.n / sizeof(n) - 1)
		return false;
	for (uint64_t i = 1; i <= n; i++)
		if (!meet(a, word64(p + i * sizeof(n)), 1))
			return false;
	return true;
}

static bool
sum_good(const struct tree *t, struct slice k, struct slice v)
{
	if (v.n < LMDB_SUM)
		return false;
	v.n -= LMDB_SUM;
	return le32toh(word32((const unsigned char *)v.p + v.n)) == lmdb_sum(t->seed, k, v);
}

static bool
add_tree(struct lmdb_audit *a, enum tree_kind kind, const unsigned char *db, uint32_t seed)
{
	struct tree *t = &a->trees[a->n_trees];

	if (a->n_trees == sizeof(a->trees) / sizeof(a->trees[0]) || (kind != TREE_FREE && word16(db + 4) != 0) ||
	    word16(db + 6) > DEEPEST)
		return false;
	*t = (struct tree){ .kind = kind, .seed = seed, .depth = word16(db + 6), .root = word64(db + 40) };
	t->said = (struct tree_sums){ word64(db + 8), word64(db + 16), word64(db + 24), word64(db + 32) };
	a->n_trees++;
	return (t->root == NO_ROOT) == (t->depth == 0);
}

static enum err
entry(struct lmdb_audit *a, struct tree *t, const unsigned char *node)
{
	struct slice k = node_key(node), v = slice_of(node + NODE_HEAD + k.n, node_value(node));
	unsigned flags = word16(node + 4);
	bool good = false;
	enum err e = OK;

	if (flags == NODE_LONG && t->kind != TREE_MAIN)
		e = long_value(a, t, word64((const unsigned char *)v.p), v.n, &v);
	else if (flags != (t->kind == TREE_MAIN ? NODE_TABLE : 0))
		e = ERR_DAMAGED;
	if (e != OK)
		return e;
	switch (t->kind) {
	case TREE_FREE:
		good = free_pages(a, v);
		break;
	case TREE_MAIN:
		good = v.n == DB_SIZE && add_tree(a, TREE_TABLE, (const unsigned char *)v.p, lmdb_sum_seed(k));
		break;
	case TREE_TABLE:
		good = sum_good(t, k, v);
		break;
	}
	t->seen.entries++;
	return good ? OK : ERR_DAMAGED;
}

/* ---- the walk ---- */

static enum err
leaf_page(struct lmdb_audit *a, struct tree *t)
{
	struct level *w = &a->way[a->depth - 1];
	enum err e = OK;

	for (; e == OK && w->at < w->n; w->at++)
		e = entry(a, t, node_at(w, w->at));
	a->depth--;
	return e;
}

static enum err
branch_page(struct lmdb_audit *a, struct tree *t)
{
	struct level *w = &a->way[a->depth - 1], *down = w + 1;
	unsigned i = w->at++;

	if (i == w->n) {
		a->depth--;
		return OK;
	}
	down->from_set = i > 0 || w->from_set;
	down->from = i > 0 ? node_key(node_at(w, i)) : w->from;
	down->to_set = i + 1 < w->n || w->to_set;
	down->to = i + 1 < w->n ? node_key(node_at(w, i + 1)) : w->to;
	return enter(a, t, node_child(node_at(w, i)));
}

static bool
counts_agree(const struct tree *t)
{
	return t->said.branches == t->seen.branches && t->said.leaves == t->seen.leaves &&
	       t->said.longs == t->seen.longs && t->said.entries == t->seen.entries;
}

static uint64_t
tree_pages(const struct tree *t)
{
	uint64_t n = t->said.branches, more[] = { t->said.leaves, t->said.longs };

	for (size_t i = 0; i < sizeof(more) / sizeof(more[0]); i++)
		if (__builtin_add_overflow(n, more[i], &n))
			return UINT64_MAX;
	return n;
}

static int
by_pages(const void *x, const void *y)
{
	uint64_t a = tree_pages(x), b = tree_pages(y);

	return (a > b) - (a < b);
}

/* Of the tables, the small ones first, as many as may be. */
static void
choose_tables(struct lmdb_audit *a)
{
	uint64_t left = a->most;
	unsigned n = 2;

	qsort(&a->trees[2], a->n_trees - 2, sizeof(a->trees[0]), by_pages);
	for (; n < a->n_trees && tree_pages(&a->trees[n]) <= left; n++)
		left -= tree_pages(&a->trees[n]);
	a->n_trees = n;
}

static enum err
tree_ends(struct lmdb_audit *a, const struct tree *t)
{
	a->tree++;
	if (!counts_agree(t))
		return ERR_DAMAGED;
	if (t->kind == TREE_MAIN)
		choose_tables(a);
	return OK;
}

static enum err
walk_on(struct lmdb_audit *a)
{
	struct tree *t = &a->trees[a->tree];
	enum err e;

	e = a->depth == t->depth ? leaf_page(a, t) : branch_page(a, t);
	return e == OK && a->depth == 0 ? tree_ends(a, t) : e;
}

static enum err
begin_tree(struct lmdb_audit *a)
{
	struct tree *t = &a->trees[a->tree];

	if (t->depth == 0)
		return tree_ends(a, t);
	a->way[0].from_set = a->way[0].to_set = false;
	return enter(a, t, t->root);
}

enum err
lmdb_audit_step(struct lmdb_audit *a, size_t pages)
{
	enum err e = OK;

	a->pages = 0;
	while (e == OK && a->pages < pages && a->tree < a->n_trees)
		e = a->depth == 0 ? begin_tree(a) : walk_on(a);
	return e == OK && a->tree == a->n_trees ? ERR_EOF : e;
}

/* ---- begin, end ---- */

static bool
meta_whole(const struct lmdb_audit *a, const unsigned char *p)
{
	return word32(p + META_MAGIC) == MAGIC && word32(p + META_VERSION) == 1 &&
	       word32(p + META_FREE) == a->page_size && (word16(p + META_FREE + 4) & INTEGER_KEYS) != 0;
}

/* Commits write the two in turn, so their numbers are neighbours: else one is false, and the snapshot perhaps an old one
 * that nobody kept. Both are 0 in a file that is new. */
static bool
metas_agree(const unsigned char *own, const unsigned char *other)
{
	uint64_t x = word64(own + META_TXN), y = word64(other + META_TXN);

	return x == y + 1 || y == x + 1 || (x == 0 && y == 0);
}

/* Pages at the file's end that were taken and given back may never have been written: only the map bounds them. */
static enum err
take_meta(struct lmdb_audit *a, const unsigned char *p, uint64_t map_pages)
{
	a->last = word64(p + META_LAST);
	if (a->last >= map_pages || !add_tree(a, TREE_FREE, p + META_FREE, 0) ||
	    !add_tree(a, TREE_MAIN, p + META_MAIN, 0))
		return ERR_DAMAGED;
	a->met = mem_zalloc(a->last / 8 + 1);
	return OK;
}

/* The snapshot's own meta page is the one that its number says. */
static enum err
read_meta(struct lmdb_audit *a, uint64_t map_pages)
{
	uint64_t txn = mdb_txn_id(a->t->txn);
	unsigned char *own = mem_alloc(2 * a->page_size), *other = own + a->page_size;
	enum err e = read_at(a, txn & 1, own, a->page_size);

	if (e == OK)
		e = read_at(a, (txn & 1) ^ 1, other, a->page_size);
	if (e == OK &&
	    (!meta_whole(a, own) || !meta_whole(a, other) || word64(own + META_TXN) != txn || !metas_agree(own, other)))
		e = ERR_DAMAGED;
	if (e == OK)
		e = take_meta(a, own, map_pages);
	free(own);
	return e;
}

enum err
lmdb_audit_begin(struct lmdb *l, uint64_t most, struct lmdb_audit **out)
{
	struct lmdb_audit *a = mem_zalloc(sizeof(*a));
	MDB_envinfo info;
	MDB_stat st;
	mdb_filehandle_t fd;
	enum err e;

	require_that(l->sums, "lmdb");
	a->l = l;
	a->t = lmdb_read(l);
	e = a->t->err;
	if (e == OK &&
	    (mdb_env_stat(l->env, &st) != 0 || mdb_env_info(l->env, &info) != 0 || mdb_env_get_fd(l->env, &fd) != 0))
		e = ERR_STATE;
	if (e == OK) {
		a->fd = fd;
		a->page_size = st.ms_psize;
		a->most = most / a->page_size;
		e = read_meta(a, info.me_mapsize / a->page_size);
	}
	if (e != OK)
		lmdb_audit_end(&a);
	else
		*out = a;
	return e;
}

uint64_t
lmdb_audit_bytes(const struct lmdb_audit *a)
{
	return (a->last + 1) * a->page_size;
}

void
lmdb_audit_end(struct lmdb_audit **ap)
{
	struct lmdb_audit *a = *ap;

	if (a == NULL)
		return;
	*ap = NULL;
	lmdb_abort(&a->t);
	for (unsigned i = 0; i < DEEPEST; i++)
		free(a->way[i].page);
	bytes_fini(&a->value);
	free(a->met);
	free(a);
}
