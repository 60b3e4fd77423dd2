/* The effective configuration in its own language. Defaults stand in comments: written out, they would hide what the
 * scope falls back to. */
#include "policy/conf/conf_tree.h"

static void
print_indent(struct bytes *out, unsigned depth)
{
	while (depth-- > 0)
		bytes_add_char(out, '\t');
}

/* Everything is quoted: then nothing in it can have a meaning. */
static void
print_quoted(struct bytes *out, const char *text)
{
	bytes_add_char(out, '"');
	for (; *text != '\0'; text++) {
		if (*text == '\\' || *text == '"')
			bytes_add_char(out, '\\');
		bytes_add_char(out, *text);
	}
	bytes_add_char(out, '"');
}

static void
print_list(struct bytes *out, const struct conf_raw *raw)
{
	bytes_add_str(out, "(");
	for (size_t i = 0; i < raw->n; i++) {
		bytes_add_char(out, ' ');
		print_quoted(out, raw->words[i].text);
	}
	bytes_add_str(out, " )");
}

static void
print_dict(struct bytes *out, const struct conf_dict *d)
{
	bytes_add_str(out, "[");
	for (size_t i = 0; i < d->n; i++) {
		bytes_add_char(out, ' ');
		print_quoted(out, d->v[i].key);
		bytes_add_str(out, " = ");
		print_quoted(out, d->v[i].value);
	}
	bytes_add_str(out, " ]");
}

static void
print_value(struct bytes *out, const struct conf_value *v, unsigned depth)
{
	print_indent(out, depth);
	bytes_addf(out, "%s%s = ", v->node == NULL ? "# " : "", v->row->name);
	if (v->raw.kind == RAW_LIST)
		print_list(out, &v->raw);
	else if (v->raw.kind == RAW_DICT)
		print_dict(out, &v->dict);
	else
		print_quoted(out, v->raw.words[0].text);
	bytes_add_char(out, '\n');
}

/* Where a default is in force, and not the value of a scope around. */
static bool
falls_back_to_default(const struct conf_node *n, const struct opt_row *row)
{
	return n->parent == NULL || ((row->scopes & IN_GLOBAL) == 0 && n->scope->instance != INSTANCE_NAME);
}

static void
print_values(const struct conf *c, struct bytes *out, const struct conf_node *n, unsigned depth)
{
	for (unsigned id = 0; id < OPT_COUNT; id++) {
		const struct opt_row *row = c->rows[id];
		const struct conf_value *v;

		if (row == NULL || (row->scopes & n->scope->bit) == 0)
			continue;
		v = conf_node_value(n, row->id);
		if (v == NULL && falls_back_to_default(n, row))
			v = c->defaults[id];
		if (v != NULL)
			print_value(out, v, depth);
	}
}

static void
print_node(const struct conf *c, struct bytes *out, const struct conf_node *n, unsigned depth)
{
	const struct conf_node *child;

	print_indent(out, depth);
	bytes_add_str(out, n->scope->written);
	if (n->written[0] != '\0') {
		bytes_add_char(out, ' ');
		print_quoted(out, n->written);
	}
	bytes_add_str(out, " {\n");
	print_values(c, out, n, depth + 1);
	TAILQ_FOREACH (child, &n->children, sibling)
		print_node(c, out, child, depth + 1);
	print_indent(out, depth);
	bytes_add_str(out, "}\n");
}

void
conf_print(const struct conf *c, struct bytes *out)
{
	const struct conf_node *child;

	print_values(c, out, c->root, 0);
	TAILQ_FOREACH (child, &c->root->children, sibling)
		print_node(c, out, child, 0);
}
