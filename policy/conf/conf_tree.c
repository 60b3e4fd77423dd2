/* Statements into the tree: what each name means where it stands, and the merging of stanzas. */
#include "policy/conf/conf_tree.h"

#include <stdlib.h>
#include <strings.h>

#include "policy/conf/conf_known.h"
#include "policy/conf/conf_listen.h"
#include "policy/conf/conf_suggest.h"
#include "shm/base/mem.h"

struct builder {
	struct conf *c;
	struct conf_errors *errs;
	bool strict;
	bool *named; /* by position in conf_known: already said to be not built */
};

static int
conf_node_compare(const struct conf_node *a, const struct conf_node *b)
{
	if (a->parent != b->parent)
		return (uintptr_t)a->parent < (uintptr_t)b->parent ? -1 : 1;
	if (a->scope != b->scope)
		return a->scope < b->scope ? -1 : 1;
	return strcmp(a->key, b->key);
}

RB_GENERATE(conf_node_tree, conf_node, by_key, conf_node_compare)

struct conf_node *
conf_tree_find(const struct conf *c, const struct conf_node *parent, enum conf_scope_bit scope, const char *key)
{
	struct conf_node_tree nodes = c->nodes; /* searching takes a head that it does not change */
	struct conf_node want = { .parent = parent, .scope = conf_scope_of(scope), .key = key };

	return RB_FIND(conf_node_tree, &nodes, &want);
}

const struct conf_value *
conf_node_value(const struct conf_node *n, enum opt_id id)
{
	for (size_t i = 0; i < n->n_values; i++)
		if (n->values[i]->row->id == id)
			return n->values[i];
	return NULL;
}

/* "in domain", "at the top level": for messages. */
static const char *
place(struct builder *b, const struct conf_node *n)
{
	if (n->parent == NULL)
		return "at the top level";
	return arena_printf(b->c->arena, "in %s", n->scope->name);
}

/* FNV-1a over the path of the node: the same number in every process and in the next revision. */
static uint64_t
origin_of(const struct conf_node *n)
{
	uint64_t h = n->parent == NULL ? UINT64_C(0xcbf29ce484222325) : n->parent->origin;
	const char *parts[] = { n->scope->name, n->key };

	for (size_t i = 0; i < 2; i++)
		for (const char *c = parts[i];; c++) {
			h = (h ^ (uint8_t)*c) * UINT64_C(0x100000001b3);
			if (*c == '\0')
				break;
		}
	return h == 0 ? 1 : h;
}

static struct conf_node *
node_new(struct conf *c, struct conf_node *parent, const struct conf_scope *scope, const char *key)
{
	struct conf_node *n = arena_alloc(c->arena, sizeof(*n));

	TAILQ_INIT(&n->children);
	TAILQ_INIT(&n->regexes);
	n->parent = parent;
	n->scope = scope;
	n->key = key;
	n->written = key;
	n->origin = origin_of(n);
	if (parent != NULL) {
		TAILQ_INSERT_TAIL(&parent->children, n, sibling);
		RB_INSERT(conf_node_tree, &c->nodes, n);
	}
	return n;
}

static void
set_value(struct builder *b, struct conf_node *n, struct conf_value *v)
{
	for (size_t i = 0; i < n->n_values; i++) {
		struct conf_pos old = n->values[i]->raw.pos;

		if (n->values[i]->row != v->row)
			continue;
		if (strcmp(old.file, v->raw.pos.file) == 0)
			conf_report(b->errs, CONF_WARNING, v->raw.pos, "%s replaces the value of line %u", v->row->name,
				    old.line);
		n->values[i] = v;
		return;
	}
	if (n->n_values == n->cap_values) {
		struct conf_value **grown;

		n->cap_values = n->cap_values == 0 ? 4 : n->cap_values * 2;
		grown = arena_alloc(b->c->arena, n->cap_values * sizeof(*grown));
		if (n->n_values > 0)
			memcpy(grown, n->values, n->n_values * sizeof(*grown));
		n->values = grown;
	}
	n->values[n->n_values++] = v;
}

static int
by_row_name(const void *key, const void *element)
{
	const struct opt_row *const *row = element;

	return strcasecmp(key, (*row)->name);
}

const struct opt_row *
conf_row_named(const struct conf *c, const char *name)
{
	const struct opt_row *const *found = bsearch(name, c->by_name, c->n_rows, sizeof(c->by_name[0]), by_row_name);

	return found == NULL ? NULL : *found;
}

/* May that option stand in n? In a Listen or Peer it must also be one of the listener around. */
static bool
may_stand(const struct opt_row *row, const struct conf_node *n)
{
	const uint32_t listeners = IN_ESMTP_LISTENER | IN_CONTROL_LISTENER;

	if ((row->scopes & n->scope->bit) == 0)
		return false;
	if ((n->scope->bit & (IN_LISTEN | IN_PEER)) == 0 || (row->scopes & listeners) == 0)
		return true;
	while ((n->scope->bit & listeners) == 0)
		n = n->parent;
	return (row->scopes & n->scope->bit) != 0;
}

static void
not_built(struct builder *b, const struct conf_known *k, const struct conf_stmt *s)
{
	size_t i = (size_t)(k - conf_known_at(0));
	const char *what = k->kind == STANZA ? "stanza" : "option";
	bool harmless = !s->stanza && s->value.kind == RAW_WORD && conf_known_harmless(k, s->value.words[0].text);

	if (k->class == REFUSE && !harmless)
		conf_report(b->errs, CONF_ERROR, s->name.pos,
			    "the %s %s is not built in this version, and to ignore it would not be safe", what,
			    k->name);
	else if (!b->named[i])
		conf_report(b->errs, b->strict ? CONF_ERROR : CONF_NOT_BUILT, s->name.pos,
			    "the %s %s is passed over by this version", what, k->name);
	b->named[i] = true;
}

static const char *
suggestion(struct builder *b, const char *name, bool stanza)
{
	const struct conf_known *k;
	const struct conf_scope *scope;
	struct conf_suggest s;

	conf_suggest_init(&s, name);
	for (size_t i = 0; !stanza && i < b->c->n_rows; i++)
		conf_suggest_offer(&s, b->c->by_name[i]->name);
	for (size_t i = 1; stanza && (scope = conf_scope_at(i)) != NULL; i++)
		conf_suggest_offer(&s, scope->name);
	for (size_t i = 0; (k = conf_known_at(i)) != NULL; i++)
		if ((k->kind == STANZA) == stanza)
			conf_suggest_offer(&s, k->name);
	return s.best == NULL ? "" : arena_printf(b->c->arena, "; did you mean %s?", s.best);
}

/* The option's name is no name that may stand in n: says why. */
static void
misplaced_option(struct builder *b, const struct conf_node *n, const struct conf_stmt *s, const struct opt_row *row,
		 const struct conf_known *k)
{
	struct bytes scopes = { 0 };
	const char *name = s->name.text;

	if (row != NULL)
		conf_scope_names(row->scopes, &scopes);
	else if (k != NULL)
		bytes_add_str(&scopes, k->scopes);
	if (scopes.n > 0)
		conf_report(b->errs, CONF_ERROR, s->name.pos, "the option %s cannot stand %s; it belongs in %s", name,
			    place(b, n), bytes_cstr(&scopes));
	else if (conf_scope_find(name) != NULL || conf_known_find(STANZA, name) != NULL)
		conf_report(b->errs, CONF_ERROR, s->name.pos, "%s is a stanza, no option; write %s { ... }", name,
			    name);
	else
		conf_report(b->errs, CONF_ERROR, s->name.pos, "there is no option %s%s", name,
			    suggestion(b, name, false));
	bytes_fini(&scopes);
}

static void
build_option(struct builder *b, struct conf_node *n, const struct conf_stmt *s)
{
	const struct opt_row *row = conf_row_named(b->c, s->name.text);
	const struct conf_known *k = conf_known_find(OPTION, s->name.text);
	struct conf_value *v;

	if (row != NULL && may_stand(row, n)) {
		v = arena_alloc(b->c->arena, sizeof(*v));
		if (!conf_value_parse(b->c->arena, b->errs, row, &s->value, v))
			return;
		v->node = n;
		set_value(b, n, v);
	} else if (k != NULL && conf_known_in(k, n->scope->name))
		not_built(b, k, s);
	else
		misplaced_option(b, n, s, row, k);
}

static bool
has_any(const char *s, const char *chars)
{
	return strpbrk(s, chars) != NULL;
}

static const char *
domain_key(struct conf *c, const char *written)
{
	char key[CONF_DOMAIN_MAX];
	size_t n = strlen(written);

	if (n > 2 && written[0] == '/' && written[n - 1] == '/')
		return written;
	if (has_any(written, " \t\r\n/*") || !conf_domain_key(slice_str(written), key))
		return NULL;
	return arena_strdup(c->arena, key);
}

/* No domain has a "*" in it, so a stanza that is named by a glob would match nothing. The expression that means what a
 * glob means in a list: "*.x" what is below x, "*x" what ends in x. */
static const char *
glob_as_regex(struct conf *c, const char *glob)
{
	struct bytes b = { 0 };
	const char *text;

	for (const char *p = glob + 1; *p != '\0'; p++)
		if (*p == '.')
			bytes_add_str(&b, "[.]");
		else
			bytes_add_char(&b, *p);
	text = arena_strdup(c->arena, bytes_cstr(&b));
	bytes_fini(&b);
	return text;
}

static const char *
domain_right(struct conf *c, const char *written)
{
	char key[CONF_DOMAIN_MAX];

	if (strcmp(written, "*") == 0)
		return "a domain: options for every domain stand outside of domain stanzas";
	if (written[0] != '*' || strchr(written + 1, '*') != NULL || has_any(written, " \t\r\n/") ||
	    !conf_domain_key(slice_str(written + 1 + (written[1] == '.')), key))
		return "a domain, an address as 192.0.2.1 or [IPv6:2001:db8::1], or a /regular expression/";
	return arena_printf(c->arena, "the expression \"/%s$/\": globs match in lists only", glob_as_regex(c, written));
}

/* The one spelling of an instance; NULL and *right when it is none. */
static const char *
instance_key(struct conf *c, const struct conf_scope *scope, const char *written, const char **right)
{
	struct conf_listen listen;
	struct conf_net net;
	const char *key;

	*right = "a name without blanks";
	switch (scope->bit) {
	case IN_DOMAIN:
		*right = domain_right(c, written);
		return domain_key(c, written);
	case IN_LISTEN:
		*right = conf_listen_parse(c->arena, written, &listen);
		return *right == NULL ? listen.text : NULL;
	case IN_PEER:
		*right = "an address, or a network as 192.0.2.0/24 or 2001:db8::/32";
		return conf_net_parse(written, &net) ? conf_net_text(c->arena, &net) : NULL;
	case IN_BINDING:
		*right = "a name without blanks and colons";
		key = has_any(written, ":") ? NULL : written;
		break;
	default:
		key = written;
	}
	return key == NULL || key[0] == '\0' || has_any(key, " \t\r\n") ? NULL : key;
}

/* What a new node needs to be asked later; false after a report. */
static bool
node_prepare(struct builder *b, struct conf_node *parent, struct conf_node *n, struct conf_pos pos)
{
	struct arena *arena = b->c->arena;
	size_t length = strlen(n->key);
	const char *why;

	if (n->scope->bit == IN_LISTEN)
		return conf_listen_parse(arena, n->key, &n->listen) == NULL;
	if (n->scope->bit == IN_PEER)
		return conf_net_parse(n->key, &n->net);
	if (n->scope->bit != IN_DOMAIN || n->key[0] != '/')
		return true;
	n->regex = conf_regex_new(arena, arena_slice(arena, slice_of(n->key + 1, length - 2)).p, &why);
	if (n->regex == NULL)
		conf_report(b->errs, CONF_ERROR, pos, "the expression %s is not valid, %s", n->key, why);
	else
		TAILQ_INSERT_TAIL(&parent->regexes, n, regex_sibling);
	return n->regex != NULL;
}

/* The key of a stanza that has no instance, or one as a module has it; NULL after a report. */
static const char *
single_key(struct builder *b, struct conf_node *parent, const struct conf_scope *scope, const struct conf_stmt *s)
{
	struct conf_node *first = conf_tree_find(b->c, parent, scope->bit, "");
	const char *instance = s->instance.text == NULL ? "" : s->instance.text;

	if (scope->instance == INSTANCE_NONE && s->instance.text != NULL) {
		conf_report(b->errs, CONF_ERROR, s->instance.pos, "found \"%s\", expected {: %s has no name", instance,
			    scope->name);
		return NULL;
	}
	if (first != NULL && strcmp(first->written, instance) != 0) {
		conf_report(b->errs, CONF_ERROR, s->name.pos, "there can be one %s; \"%s\" is in %s, line %u",
			    scope->name, first->written, first->pos.file, first->pos.line);
		return NULL;
	}
	return "";
}

static const char *
stanza_key(struct builder *b, struct conf_node *parent, const struct conf_scope *scope, const struct conf_stmt *s)
{
	const char *key, *right;

	if (scope->instance != INSTANCE_NAME)
		return single_key(b, parent, scope, s);
	if (s->instance.text == NULL) {
		conf_report(b->errs, CONF_ERROR, s->name.pos, "%s needs a name: %s \"...\" { }", scope->name,
			    scope->name);
		return NULL;
	}
	key = instance_key(b->c, scope, s->instance.text, &right);
	if (key == NULL)
		conf_report(b->errs, CONF_ERROR, s->instance.pos, "found \"%.80s\" for %s, expected %s",
			    s->instance.text, scope->name, right);
	return key;
}

static void build_body(struct builder *b, struct conf_node *n, const struct conf_stmts *stmts);

static void
build_known_stanza(struct builder *b, struct conf_node *parent, const struct conf_scope *scope,
		   const struct conf_stmt *s)
{
	const char *key = stanza_key(b, parent, scope, s);
	struct conf_node *n;

	if (key == NULL)
		return;
	n = conf_tree_find(b->c, parent, scope->bit, key);
	if (n == NULL) {
		n = node_new(b->c, parent, scope, key);
		n->written = s->instance.text == NULL ? "" : s->instance.text;
		n->pos = s->name.pos;
		if (!node_prepare(b, parent, n, s->instance.pos))
			return;
	}
	build_body(b, n, &s->body);
}

static void
misplaced_stanza(struct builder *b, const struct conf_node *parent, const struct conf_stmt *s,
		 const struct conf_scope *scope, const struct conf_known *k)
{
	struct bytes scopes = { 0 };
	const char *name = s->name.text;

	if (scope != NULL)
		conf_scope_names(scope->parents, &scopes);
	else if (k != NULL)
		bytes_add_str(&scopes, k->scopes);
	if (scopes.n > 0)
		conf_report(b->errs, CONF_ERROR, s->name.pos, "the stanza %s cannot stand %s; it belongs in %s", name,
			    place(b, parent), bytes_cstr(&scopes));
	else if (conf_row_named(b->c, name) != NULL || conf_known_find(OPTION, name) != NULL)
		conf_report(b->errs, CONF_ERROR, s->name.pos, "%s is an option, no stanza; write %s = ...", name, name);
	else
		conf_report(b->errs, CONF_ERROR, s->name.pos, "there is no stanza %s%s", name,
			    suggestion(b, name, true));
	bytes_fini(&scopes);
}

static void
build_stanza(struct builder *b, struct conf_node *parent, const struct conf_stmt *s)
{
	const struct conf_scope *scope = conf_scope_find(s->name.text);
	const struct conf_known *k = conf_known_find(STANZA, s->name.text);

	if (scope != NULL && (scope->parents & parent->scope->bit) != 0)
		build_known_stanza(b, parent, scope, s);
	else if (k != NULL && conf_known_in(k, parent->scope->name))
		not_built(b, k, s);
	else
		misplaced_stanza(b, parent, s, scope, k);
}

static void
build_body(struct builder *b, struct conf_node *n, const struct conf_stmts *stmts)
{
	const struct conf_stmt *s;

	STAILQ_FOREACH (s, stmts, next) {
		if (s->stanza)
			build_stanza(b, n, s);
		else
			build_option(b, n, s);
	}
}

void
conf_tree_build(struct conf *c, const struct conf_stmts *stmts, bool strict, struct conf_errors *errs)
{
	struct builder b = { .c = c, .errs = errs, .strict = strict };
	size_t n = 0;

	while (conf_known_at(n) != NULL)
		n++;
	b.named = mem_zalloc(n * sizeof(*b.named));
	c->root = node_new(c, NULL, conf_scope_of(IN_GLOBAL), "");
	build_body(&b, c->root, stmts);
	free(b.named);
}
