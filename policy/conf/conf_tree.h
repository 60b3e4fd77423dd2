/* conf_tree.h - a configuration from inside: values, stanzas, views (inside policy/conf only)
 * A node is one stanza instance, all its appearances merged. It keeps only the options that are written in it; what an
 * option is worth at a place is found by walking nodes in the order of fallback, which is what a view does once. */
#ifndef POLICY_CONF_CONF_TREE_H
#define POLICY_CONF_CONF_TREE_H

#include <sys/queue.h>
#include <bsd/sys/tree.h>

#include "policy/conf/conf.h"
#include "policy/conf/conf_match.h"
#include "policy/conf/conf_parse.h"
#include "policy/conf/conf_scope.h"

struct conf_value {
	const struct opt_row *row;
	const struct conf_node *node; /* where it is written; NULL: a default */
	struct conf_raw raw;
	int64_t num; /* of numbers, booleans, words */
	struct conf_rate rate;
	struct conf_list list;
	struct conf_dict dict;
	struct conf_net *nets; /* list.n of them */
	struct conf_domains *domains;
};

TAILQ_HEAD(conf_nodes, conf_node);

struct conf_node {
	RB_ENTRY(conf_node) by_key;
	TAILQ_ENTRY(conf_node) sibling; /* in order of first appearance */
	struct conf_nodes children;
	struct conf_nodes regexes; /* those of the children that are domains written as expressions */
	TAILQ_ENTRY(conf_node) regex_sibling;
	const struct conf_node *parent; /* NULL: the global one */
	const struct conf_scope *scope;
	const char *key;     /* the one spelling of its instance, "" without */
	const char *written; /* as first written */
	struct conf_pos pos;
	struct conf_value **values;
	size_t n_values, cap_values;
	struct conf_regex *regex;  /* of a domain written as one */
	struct conf_net net;       /* of a peer */
	struct conf_listen listen; /* of a listen */
	uint64_t origin;
};

RB_HEAD(conf_node_tree, conf_node);
RB_PROTOTYPE(conf_node_tree, conf_node, by_key, conf_node_compare)

struct conf_view {
	RB_ENTRY(conf_view) by_nodes;
	const struct conf *conf;
	const struct conf_node **nodes; /* highest first */
	size_t n_nodes;
	const struct conf_value *v[OPT_COUNT];
};

RB_HEAD(conf_view_tree, conf_view);
RB_PROTOTYPE(conf_view_tree, conf_view, by_nodes, conf_view_compare)

/* What is remembered; all else in a revision never changes. */
struct conf_views {
	struct conf_view_tree tree;
	const struct conf_node **scratch; /* nodes of the view being looked for */
	size_t scratch_cap;
};

struct conf {
	unsigned refs;
	struct arena *arena;
	const char *dir;
	const struct opt_row *rows[OPT_COUNT];
	const struct opt_row *by_name[OPT_COUNT]; /* n_rows of them, sorted */
	size_t n_rows;
	const struct conf_value *defaults[OPT_COUNT];
	struct conf_node *root;
	struct conf_node_tree nodes;
	struct conf_views *views;
	struct conf_listen *listens;
	const struct conf_node **listen_nodes; /* by the same index */
	size_t n_listens;
	const struct conf_node **bindings; /* [0] is "default": NULL when it is not written */
	size_t n_bindings;
	struct conf_script *scripts;
	size_t n_scripts;
};

/* conf_value.c. False, after a report, when raw is no value for row. Everything in the arena. */
bool conf_value_parse(struct arena *arena, struct conf_errors *errs, const struct opt_row *row,
		      const struct conf_raw *raw, struct conf_value *out);

/* conf_tree.c: the statements into c->root and below. */
void conf_tree_build(struct conf *c, const struct conf_stmts *stmts, bool strict, struct conf_errors *errs);
/* The stanza of that scope and key below parent; NULL when it is not written. */
struct conf_node *conf_tree_find(const struct conf *c, const struct conf_node *parent, enum conf_scope_bit scope,
				 const char *key);
const struct conf_value *conf_node_value(const struct conf_node *n, enum opt_id id);
const struct opt_row *conf_row_named(const struct conf *c, const char *name);

/* conf_check.c: what only the whole tell: names that must be unique or exist; fills listens, bindings and scripts. */
void conf_check(struct conf *c, struct conf_errors *errs);

/* conf_view.c: the view of one stanza before the global one; NULL: of the global one alone. */
const struct conf_view *conf_view_of_node(const struct conf *c, const struct conf_node *n);
/* The view of a listen without any peer. */
const struct conf_view *conf_view_of_listen(const struct conf *c, const struct conf_node *listen);

#endif
