/* What only the whole tree tells: names that must be unique, names that must exist, and the lists of what there is. */
#include <stdlib.h>

#include "policy/conf/conf_tree.h"

struct check {
	struct conf *c;
	struct conf_errors *errs;
};

/* All nodes of one scope, wherever they are. */
struct found {
	const struct conf_node **v;
	size_t n;
};

static struct found
find_all(struct conf *c, enum conf_scope_bit scope)
{
	struct found f = { 0 };
	struct conf_node *n;

	RB_FOREACH (n, conf_node_tree, &c->nodes)
		f.n += n->scope->bit == scope;
	f.v = arena_alloc(c->arena, f.n * sizeof(*f.v));
	f.n = 0;
	RB_FOREACH (n, conf_node_tree, &c->nodes)
		if (n->scope->bit == scope)
			f.v[f.n++] = n;
	return f;
}

static int
by_key(const void *a, const void *b)
{
	const struct conf_node *const *x = a, *const *y = b;
	int order = strcmp((*x)->key, (*y)->key);

	if (order != 0)
		return order;
	return ((*x)->pos.line > (*y)->pos.line) - ((*x)->pos.line < (*y)->pos.line);
}

/* Sorted by name; the same name in two containers is an error, since only one of them could be meant. */
static struct found
unique(struct check *k, enum conf_scope_bit scope)
{
	struct found f = find_all(k->c, scope);

	if (f.n > 1)
		qsort(f.v, f.n, sizeof(*f.v), by_key);
	for (size_t i = 1; i < f.n; i++) {
		const struct conf_node *a = f.v[i - 1], *b = f.v[i];

		if (strcmp(a->key, b->key) == 0)
			conf_report(k->errs, CONF_ERROR, b->pos,
				    "the %s \"%s\" is already in another place: %s, line %u; it can be in one only",
				    b->scope->name, b->key, a->pos.file, a->pos.line);
	}
	return f;
}

static void
check_bindings(struct check *k)
{
	struct found f = unique(k, IN_BINDING);
	struct conf *c = k->c;

	c->bindings = arena_alloc(c->arena, (f.n + 1) * sizeof(*c->bindings));
	c->n_bindings = 1;
	for (size_t i = 0; i < f.n; i++) {
		if (strcmp(f.v[i]->key, "default") == 0)
			c->bindings[0] = f.v[i];
		else
			c->bindings[c->n_bindings++] = f.v[i];
	}
}

static bool
has_pathway(const struct found *pathways, const char *name)
{
	for (size_t i = 0; i < pathways->n; i++)
		if (strcmp(pathways->v[i]->key, name) == 0)
			return true;
	return strcmp(name, "default") == 0;
}

static void
check_pathways(struct check *k)
{
	struct found f = unique(k, IN_PATHWAY);
	struct conf_node *n;

	RB_FOREACH (n, conf_node_tree, &k->c->nodes) {
		const struct conf_value *v = conf_node_value(n, OPT_PATHWAY);

		if (v != NULL && !has_pathway(&f, v->raw.words[0].text))
			conf_report(k->errs, CONF_ERROR, v->raw.pos,
				    "there is no pathway \"%s\"; write Pathway \"%s\" { }", v->raw.words[0].text,
				    v->raw.words[0].text);
	}
}

static bool
is_enabled(const struct conf *c, const struct conf_view *view)
{
	return c->rows[OPT_ENABLE] == NULL || conf_bool(view, OPT_ENABLE);
}

static void
check_listens(struct check *k)
{
	struct conf *c = k->c;
	struct found all = find_all(c, IN_LISTEN);
	const struct conf_node *listener, *n;

	c->listens = arena_alloc(c->arena, all.n * sizeof(*c->listens));
	c->listen_nodes = arena_alloc(c->arena, all.n * sizeof(*c->listen_nodes));
	TAILQ_FOREACH (listener, &c->root->children, sibling) {
		TAILQ_FOREACH (n, &listener->children, sibling) {
			const struct conf_view *view;

			if (n->scope->bit != IN_LISTEN)
				continue;
			view = conf_view_of_listen(c, n);
			if (!is_enabled(c, view))
				continue;
			c->listens[c->n_listens] = n->listen;
			c->listens[c->n_listens].kind =
				listener->scope->bit == IN_CONTROL_LISTENER ? LISTEN_CONTROL : LISTEN_ESMTP;
			c->listens[c->n_listens].view = view;
			c->listen_nodes[c->n_listens++] = n;
		}
	}
	for (size_t i = 0; i < c->n_listens; i++)
		for (size_t j = 0; j < i; j++)
			if (strcmp(c->listens[i].text, c->listens[j].text) == 0)
				conf_report(k->errs, CONF_ERROR, c->listen_nodes[i]->pos,
					    "%s is already a listen of the other listener, line %u", c->listens[i].text,
					    c->listen_nodes[j]->pos.line);
}

static void
check_scripts(struct check *k)
{
	struct conf *c = k->c;
	const struct conf_node *scriptlet = conf_tree_find(c, c->root, IN_SCRIPTLET, ""), *n;

	c->scripts = arena_alloc(c->arena, find_all(c, IN_SCRIPT).n * sizeof(*c->scripts));
	if (!conf_has_stanza(c, IN_SCRIPTLET))
		return;
	TAILQ_FOREACH (n, &scriptlet->children, sibling) {
		const struct conf_value *source = conf_node_value(n, OPT_SOURCE);

		if (source == NULL || source->raw.words[0].text[0] == '\0') {
			conf_report(k->errs, CONF_ERROR, n->pos, "the script \"%s\" needs a source", n->key);
			continue;
		}
		c->scripts[c->n_scripts++] = (struct conf_script){
			.name = n->key,
			.source = source->raw.words[0].text,
			.file = n->pos.file,
			.line = n->pos.line,
			.column = n->pos.column,
		};
	}
}

void
conf_check(struct conf *c, struct conf_errors *errs)
{
	struct check k = { c, errs };

	check_bindings(&k);
	check_pathways(&k);
	check_listens(&k);
	check_scripts(&k);
}
