#include "policy/conf/conf.h"

#include <stdlib.h>
#include <strings.h>

#include "policy/conf/conf_tree.h"
#include "shm/base/log.h"

static int
by_name(const void *a, const void *b)
{
	const struct opt_row *const *x = a, *const *y = b;

	return strcasecmp((*x)->name, (*y)->name);
}

static void
join_rows(struct conf *c, const struct conf_source *src)
{
	for (size_t t = 0; t < src->n_tables; t++)
		for (size_t i = 0; i < src->tables[t].n; i++) {
			const struct opt_row *row = &src->tables[t].rows[i];

			require_that((size_t)row->id < OPT_COUNT && c->rows[row->id] == NULL, "conf");
			c->rows[row->id] = row;
			c->by_name[c->n_rows++] = row;
		}
	if (c->n_rows > 0)
		qsort(c->by_name, c->n_rows, sizeof(c->by_name[0]), by_name);
}

/* A default goes through the user's parser: it cannot mean anything that a user could not write. */
static void
parse_default(struct conf *c, const struct opt_row *row)
{
	struct conf_errors errs = { 0 };
	struct conf_word word = { { row->name, 0, 0 }, row->def };
	struct conf_raw raw = {
		.kind = RAW_WORD, .pos = word.pos, .words = arena_alloc(c->arena, sizeof(word)), .n = 1
	};
	struct conf_value *v = arena_alloc(c->arena, sizeof(*v));

	raw.words[0] = word;
	if (!conf_value_parse(c->arena, &errs, row, &raw, v))
		log_panic("conf", "the default of %s is not valid", row->name);
	conf_errors_fini(&errs);
	c->defaults[row->id] = v;
}

static struct conf *
conf_new(const struct conf_source *src)
{
	struct arena *arena = arena_new();
	struct conf *c = arena_alloc(arena, sizeof(*c));

	c->refs = 1;
	c->arena = arena;
	c->dir = conf_dir_of(arena, arena_strdup(arena, src->path));
	RB_INIT(&c->nodes);
	c->views = arena_alloc(arena, sizeof(*c->views));
	RB_INIT(&c->views->tree);
	join_rows(c, src);
	for (size_t i = 0; i < c->n_rows; i++)
		if (c->by_name[i]->def != NULL)
			parse_default(c, c->by_name[i]);
	return c;
}

static void
parse_source(struct conf *c, const struct conf_source *src, struct conf_errors *errs, struct conf_stmts *stmts)
{
	struct conf_reader r = { .arena = c->arena, .errs = errs, .dir = c->dir, .no_files = src->no_files };
	struct conf_file file = { .dir = c->dir };

	STAILQ_INIT(stmts);
	if (src->text.p == NULL) {
		conf_parse_file(&r, src->path, stmts);
		return;
	}
	file.path = arena_strdup(c->arena, src->path);
	conf_parse_text(&r, &file, src->text, stmts);
}

struct conf *
conf_load(const struct conf_source *src, struct conf_errors *errs)
{
	struct conf *c = conf_new(src);
	size_t before = errs->count[CONF_ERROR];
	struct conf_stmts stmts;

	parse_source(c, src, errs, &stmts);
	conf_tree_build(c, &stmts, src->strict, errs);
	conf_check(c, errs);
	if (errs->count[CONF_ERROR] != before)
		conf_unref(&c);
	return c;
}

struct conf *
conf_ref(struct conf *c)
{
	c->refs++;
	return c;
}

void
conf_unref(struct conf **cp)
{
	struct conf *c = *cp;
	struct arena *arena;

	*cp = NULL;
	if (c == NULL || --c->refs > 0)
		return;
	free(c->views->scratch);
	arena = c->arena; /* c lies in it */
	arena_free(&arena);
}

const char *
conf_dir(const struct conf *c)
{
	return c->dir;
}

const struct opt_row *
conf_row(const struct conf *c, enum opt_id id)
{
	return c->rows[id];
}

const struct conf_view *
conf_global(const struct conf *c)
{
	return conf_view_of_node(c, NULL);
}

const struct conf_view *
conf_stanza(const struct conf *c, enum conf_scope_bit scope)
{
	return conf_view_of_node(c, conf_tree_find(c, c->root, scope, ""));
}

bool
conf_has_stanza(const struct conf *c, enum conf_scope_bit scope)
{
	const struct conf_node *n = conf_tree_find(c, c->root, scope, "");
	const struct opt_row *enabled = c->rows[OPT_ENABLED];

	if (n == NULL || enabled == NULL || (enabled->scopes & scope) == 0)
		return n != NULL;
	return conf_bool(conf_view_of_node(c, n), OPT_ENABLED);
}

size_t
conf_listen_count(const struct conf *c)
{
	return c->n_listens;
}

const struct conf_listen *
conf_listen_at(const struct conf *c, size_t index)
{
	require_that(index < c->n_listens, "conf");
	return &c->listens[index];
}

size_t
conf_binding_count(const struct conf *c)
{
	return c->n_bindings;
}

const char *
conf_binding_name(const struct conf *c, size_t index)
{
	require_that(index < c->n_bindings, "conf");
	return index == 0 ? "default" : c->bindings[index]->key;
}

const char *
conf_binding_group(const struct conf *c, size_t index)
{
	const struct conf_node *b;

	require_that(index < c->n_bindings, "conf");
	b = c->bindings[index];
	return b == NULL || b->parent == c->root ? "default" : b->parent->key;
}

bool
conf_binding_find(const struct conf *c, struct slice name, size_t *index)
{
	size_t low = 1, high = c->n_bindings;

	if (slice_eq(name, SLICE("default"))) {
		*index = 0;
		return true;
	}
	while (low < high) {
		size_t middle = low + (high - low) / 2;
		struct slice key = slice_str(c->bindings[middle]->key);
		int order = memcmp(name.p, key.p, name.n < key.n ? name.n : key.n);

		if (order == 0 && name.n == key.n) {
			*index = middle;
			return true;
		}
		if (order < 0 || (order == 0 && name.n < key.n))
			high = middle;
		else
			low = middle + 1;
	}
	return false;
}

size_t
conf_script_count(const struct conf *c)
{
	return c->n_scripts;
}

const struct conf_script *
conf_script_at(const struct conf *c, size_t index)
{
	require_that(index < c->n_scripts, "conf");
	return &c->scripts[index];
}
