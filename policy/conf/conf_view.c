/* Fallback: which stanzas speak for a place, in which order, and the views that come of it.
 *
 * Sending, binding B of group G, domain D:   G/B/D, G/D, G/B, G, D, global.
 * Receiving, client P on listen L of listener E:   E/L/P, E/P, E/L, E, global; the longest P first. Behind each that
 * names a pathway stand that pathway and its group. Domains in one container: the exact one, then expressions in order
 * of declaration. */
#include <stdlib.h>

#include "policy/conf/conf_tree.h"
#include "shm/base/log.h"
#include "shm/base/mem.h"

static int
conf_view_compare(const struct conf_view *a, const struct conf_view *b)
{
	if (a->n_nodes != b->n_nodes)
		return a->n_nodes < b->n_nodes ? -1 : 1;
	for (size_t i = 0; i < a->n_nodes; i++)
		if (a->nodes[i] != b->nodes[i])
			return (uintptr_t)a->nodes[i] < (uintptr_t)b->nodes[i] ? -1 : 1;
	return 0;
}

RB_GENERATE(conf_view_tree, conf_view, by_nodes, conf_view_compare)

/* The nodes of the view that is looked for, highest first, in the revision's scratch array. */
struct walk {
	const struct conf *c;
	size_t n;
};

static void
add(struct walk *w, const struct conf_node *n)
{
	struct conf_views *views = w->c->views;

	/* What says nothing makes no difference: so places share their views. */
	if (n == NULL || n->n_values == 0)
		return;
	if (w->n == views->scratch_cap) {
		views->scratch_cap = views->scratch_cap == 0 ? 64 : views->scratch_cap * 2;
		views->scratch = mem_array(views->scratch, views->scratch_cap, sizeof(views->scratch[0]));
	}
	views->scratch[w->n++] = n;
}

static void
fill(struct conf_view *v)
{
	const struct conf *c = v->conf;

	memcpy(v->v, c->defaults, sizeof(v->v));
	for (size_t i = v->n_nodes; i > 0; i--)
		for (size_t j = 0; j < v->nodes[i - 1]->n_values; j++) {
			const struct conf_value *value = v->nodes[i - 1]->values[j];

			v->v[value->row->id] = value;
		}
}

static const struct conf_view *
view_of(struct walk *w)
{
	const struct conf *c = w->c;
	struct conf_view want, *v;

	add(w, c->root);
	want.nodes = c->views->scratch;
	want.n_nodes = w->n;
	v = RB_FIND(conf_view_tree, &c->views->tree, &want);
	if (v != NULL)
		return v;
	v = arena_alloc(c->arena, sizeof(*v));
	v->conf = c;
	v->n_nodes = w->n;
	v->nodes = arena_alloc(c->arena, w->n * sizeof(*v->nodes));
	if (w->n > 0)
		memcpy(v->nodes, c->views->scratch, w->n * sizeof(*v->nodes));
	fill(v);
	RB_INSERT(conf_view_tree, &c->views->tree, v);
	return v;
}

const struct conf_view *
conf_view_of_node(const struct conf *c, const struct conf_node *n)
{
	struct walk w = { .c = c };

	add(&w, n);
	return view_of(&w);
}

/* Sending */

static void
add_domains(struct walk *w, const struct conf_node *container, const char *domain)
{
	const struct conf_node *n;

	if (container == NULL || domain[0] == '\0')
		return;
	add(w, conf_tree_find(w->c, container, IN_DOMAIN, domain));
	TAILQ_FOREACH (n, &container->regexes, regex_sibling)
		if (conf_regex_has(n->regex, domain))
			add(w, n);
}

const struct conf_view *
conf_sending(const struct conf *c, struct slice binding, struct slice domain)
{
	struct walk w = { .c = c };
	char key[CONF_DOMAIN_MAX];
	const struct conf_node *b, *group;
	size_t index;

	if (!conf_domain_key(domain, key))
		key[0] = '\0';
	b = c->bindings[conf_binding_find(c, binding, &index) ? index : 0];
	group = b != NULL && b->parent != c->root ? b->parent : conf_tree_find(c, c->root, IN_BINDING_GROUP, "default");
	add_domains(&w, b, key);
	add_domains(&w, group, key);
	add(&w, b);
	add(&w, group);
	add_domains(&w, c->root, key);
	return view_of(&w);
}

/* Receiving */

static bool
add_pathway(struct walk *w, const char *name)
{
	const struct conf_node *n = conf_tree_find(w->c, w->c->root, IN_PATHWAY, name), *group;

	if (n == NULL) {
		TAILQ_FOREACH (group, &w->c->root->children, sibling)
			if (group->scope->bit == IN_PATHWAY_GROUP &&
			    (n = conf_tree_find(w->c, group, IN_PATHWAY, name)) != NULL)
				break;
	}
	add(w, n);
	if (n != NULL && n->parent != w->c->root)
		add(w, n->parent);
	else
		add(w, conf_tree_find(w->c, w->c->root, IN_PATHWAY_GROUP, "default"));
	return true;
}

/* True when it names a pathway. */
static bool
add_with_pathway(struct walk *w, const struct conf_node *n)
{
	const struct conf_value *v = conf_node_value(n, OPT_PATHWAY);

	add(w, n);
	return v != NULL && add_pathway(w, v->raw.words[0].text);
}

/* The next peer in container that contains the client: the longest network that is shorter than `below` bits. */
static const struct conf_node *
next_peer(const struct conf_node *container, const struct sockaddr *peer, unsigned below)
{
	const struct conf_node *n, *best = NULL;

	TAILQ_FOREACH (n, &container->children, sibling)
		if (n->scope->bit == IN_PEER && n->net.bits < below && (best == NULL || n->net.bits > best->net.bits) &&
		    conf_net_has_peer(&n->net, peer))
			best = n;
	return best;
}

static bool
add_peers(struct walk *w, const struct conf_node *container, const struct sockaddr *peer)
{
	const struct conf_node *n;
	bool pathway = false;

	if (peer == NULL)
		return false;
	for (unsigned below = 129; (n = next_peer(container, peer, below)) != NULL; below = n->net.bits)
		pathway |= add_with_pathway(w, n);
	return pathway;
}

static const struct conf_view *
receiving(const struct conf *c, const struct conf_node *listen, const struct sockaddr *peer, const char *by_script)
{
	struct walk w = { .c = c };
	const struct conf_node *listener = listen->parent;
	bool pathway = by_script != NULL && add_pathway(&w, by_script);

	pathway |= add_peers(&w, listen, peer);
	pathway |= add_peers(&w, listener, peer);
	pathway |= add_with_pathway(&w, listen);
	pathway |= add_with_pathway(&w, listener);
	if (!pathway)
		add_pathway(&w, "default");
	return view_of(&w);
}

const struct conf_view *
conf_view_of_listen(const struct conf *c, const struct conf_node *listen)
{
	return receiving(c, listen, NULL, NULL);
}

const struct conf_view *
conf_receiving(const struct conf *c, size_t listen_index, const struct sockaddr *peer, const char *pathway)
{
	require_that(listen_index < c->n_listens, "conf");
	return receiving(c, c->listen_nodes[listen_index], peer, pathway);
}

/* Values */

static const struct conf_value *
value(const struct conf_view *v, enum opt_id id, uint32_t types)
{
	require_that((size_t)id < OPT_COUNT && v->conf->rows[id] != NULL, "conf");
	require_that((types & 1u << v->conf->rows[id]->type) != 0, "conf");
	return v->v[id];
}

bool
conf_bool(const struct conf_view *v, enum opt_id id)
{
	const struct conf_value *x = value(v, id, 1u << OPT_BOOL);

	return x != NULL && x->num != 0;
}

int64_t
conf_int(const struct conf_view *v, enum opt_id id)
{
	const struct conf_value *x =
		value(v, id, 1u << OPT_INT | 1u << OPT_SECONDS | 1u << OPT_BYTES | 1u << OPT_MODE | 1u << OPT_ENUM);

	return x == NULL ? 0 : x->num;
}

const char *
conf_str(const struct conf_view *v, enum opt_id id)
{
	const struct conf_value *x = value(v, id, 1u << OPT_STRING);

	return x == NULL ? "" : x->raw.words[0].text;
}

bool
conf_is_set(const struct conf_view *v, enum opt_id id)
{
	return value(v, id, UINT32_MAX) != NULL;
}

uint64_t
conf_origin(const struct conf_view *v, enum opt_id id)
{
	const struct conf_value *x = value(v, id, UINT32_MAX);

	return x == NULL || x->node == NULL ? 0 : x->node->origin;
}

uint32_t
conf_origin_scope(const struct conf_view *v, enum opt_id id)
{
	const struct conf_value *x = value(v, id, UINT32_MAX);

	return x == NULL || x->node == NULL ? 0 : x->node->scope->bit;
}

void
conf_where(const struct conf_view *v, enum opt_id id, struct bytes *out)
{
	const struct conf_value *x = value(v, id, UINT32_MAX);

	if (x == NULL || x->node == NULL)
		bytes_add_str(out, "default");
	else
		bytes_addf(out, "%s:%u", x->raw.pos.file, x->raw.pos.line);
}

void
conf_written(const struct conf_view *v, enum opt_id id, struct bytes *out)
{
	const struct conf_value *x = value(v, id, UINT32_MAX);

	for (size_t i = 0; x != NULL && i < x->raw.n; i++)
		bytes_addf(out, "%s%s", i > 0 ? " " : "", x->raw.words[i].text);
}

struct conf_rate
conf_rate(const struct conf_view *v, enum opt_id id)
{
	const struct conf_value *x = value(v, id, 1u << OPT_RATE);

	return x == NULL ? (struct conf_rate){ 0, 1 } : x->rate;
}

struct conf_list
conf_list(const struct conf_view *v, enum opt_id id)
{
	const struct conf_value *x = value(v, id, 1u << OPT_LIST | 1u << OPT_CIDRS | 1u << OPT_DOMAINS);

	return x == NULL ? (struct conf_list){ 0, NULL } : x->list;
}

bool
conf_has_addr(const struct conf_view *v, enum opt_id id, const struct sockaddr *sa)
{
	const struct conf_value *x = value(v, id, 1u << OPT_CIDRS);

	for (size_t i = 0; x != NULL && i < x->list.n; i++)
		if (conf_net_has_peer(&x->nets[i], sa))
			return true;
	return false;
}

bool
conf_has_domain(const struct conf_view *v, enum opt_id id, struct slice domain)
{
	const struct conf_value *x = value(v, id, 1u << OPT_DOMAINS);

	return x != NULL && conf_domains_has(x->domains, domain);
}

bool
conf_has_word(const struct conf_view *v, enum opt_id id, const char *word)
{
	const struct conf_value *x = value(v, id, 1u << OPT_LIST);

	for (size_t i = 0; x != NULL && i < x->list.n; i++)
		if (slice_ieq(slice_str(x->list.v[i]), slice_str(word)))
			return true;
	return false;
}

struct conf_dict
conf_dict(const struct conf_view *v, enum opt_id id)
{
	const struct conf_value *x = value(v, id, 1u << OPT_DICT);

	return x == NULL ? (struct conf_dict){ 0, NULL } : x->dict;
}
