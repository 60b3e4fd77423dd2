#include "worker/worker_policy.h"

#include <arpa/inet.h>
#include <stdlib.h>
#include <unistd.h>

#include "policy/conf/conf.h"
#include "policy/lua/lua_host.h"
#include "shm/base/log.h"
#include "shm/base/mem.h"
#include "shm/shm_area.h"
#include "worker/net/loop.h"
#include "worker/net/resolver.h"

struct worker_policy {
	struct policy *policy;
	struct lua_host *lua;
	const struct conf *conf;
	struct loop *loop;
	struct resolver *resolver;
	struct policy_host_ops ops;
};

const char *
worker_hostname(const struct conf *conf)
{
	static char system_name[256];
	const char *name = conf_str(conf_global(conf), OPT_HOSTNAME);

	if (*name != '\0')
		return name;
	if (gethostname(system_name, sizeof system_name - 1) != 0 || *system_name == '\0')
		return "localhost";
	return system_name;
}

/* ---- DNS for scripts */

struct lookup {
	struct resolver_query *query;
	policy_dns_done *done;
	void *arg;
};

static struct slice
record_text(const struct dns_answer *a, const struct dns_record *r, char *out, size_t size)
{
	if (a->type != DNS_A && a->type != DNS_AAAA)
		return r->text;
	inet_ntop(a->type == DNS_A ? AF_INET : AF_INET6, &r->addr, out, (socklen_t)size);
	return slice_str(out);
}

static void
on_answer(void *arg, const struct dns_answer *a)
{
	struct lookup *l = arg;
	policy_dns_done *done = l->done;
	void *done_arg = l->arg;
	struct policy_dns_row *rows;
	char(*text)[INET6_ADDRSTRLEN];

	free(l);
	if (a->status != DNS_OK) {
		done(done_arg, dns_status_text(a->status), NULL, 0);
		return;
	}
	rows = mem_array(NULL, a->n, sizeof *rows);
	text = mem_array(NULL, a->n, sizeof *text);
	for (uint16_t i = 0; i < a->n; i++)
		rows[i] = (struct policy_dns_row){ .preference = a->records[i].preference,
						   .text = record_text(a, &a->records[i], text[i], sizeof text[i]) };
	done(done_arg, NULL, rows, a->n);
	free(rows);
	free(text);
}

static void *
dns_start(void *arg, const char *name, const char *type, policy_dns_done *done, void *done_arg)
{
	struct worker_policy *wp = arg;
	enum dns_type number;
	struct lookup *l;

	/* Policy has checked the type's name; a type that is not served is asked as one that nobody answers. */
	if (!dns_type_parse(slice_str(type), &number))
		number = DNS_TXT;
	l = mem_zalloc(sizeof *l);
	l->done = done;
	l->arg = done_arg;
	l->query = resolver_query(wp->resolver, name, number, on_answer, l);
	return l;
}

static void
dns_cancel(void *arg, void *query)
{
	struct lookup *l = query;

	(void)arg;
	resolver_cancel(&l->query);
	free(l);
}

/* ---- timers for scripts */

struct wait {
	struct loop *loop;
	struct ev_timer timer;
	void (*fn)(void *arg);
	void *arg;
};

static void
on_timer(void *arg)
{
	struct wait *w = arg;
	void (*fn)(void *) = w->fn;
	void *fn_arg = w->arg;

	free(w);
	fn(fn_arg);
}

static void *
timer_start(void *arg, usec_t at, void (*fn)(void *fn_arg), void *fn_arg)
{
	struct worker_policy *wp = arg;
	struct wait *w = mem_zalloc(sizeof *w);

	w->loop = wp->loop;
	w->fn = fn;
	w->arg = fn_arg;
	loop_timer_set(wp->loop, &w->timer, at > 0 ? at : 1, on_timer, w);
	return w;
}

static void
timer_stop(void *arg, void *timer)
{
	struct wait *w = timer;

	(void)arg;
	loop_timer_stop(w->loop, &w->timer);
	free(w);
}

static bool
binding_known(void *arg, struct slice name)
{
	struct worker_policy *wp = arg;
	size_t index;

	return conf_binding_find(wp->conf, name, &index);
}

/* ---- trace */

static void
on_trace(void *arg, const struct policy_trace *t)
{
	(void)arg;
	log_info("trace", "%-22s hook %-10s %-16s %-6s %5lld us", t->phase, t->hook, *t->where != '\0' ? t->where : "-",
		 t->answer, (long long)t->usec);
}

static void
log_lines(const struct bytes *lines)
{
	struct slice rest = slice_bytes(lines);

	while (rest.n > 0) {
		size_t n = slice_find(rest, '\n');
		log_error("scriptlet", "%.*s", (int)n, rest.p);
		n += n < rest.n;
		rest.p += n;
		rest.n -= n;
	}
}

static struct lua_host *
load_scripts(struct worker_policy *wp, const struct policy_bundle *bundle)
{
	const struct conf_view *v = conf_global(wp->conf);
	size_t n = conf_script_count(wp->conf);
	struct lua_host_script *scripts = mem_array(NULL, n, sizeof *scripts);
	struct bytes errs = { 0 };
	struct lua_host *host;

	for (size_t i = 0; i < n; i++) {
		const struct conf_script *s = conf_script_at(wp->conf, i);
		scripts[i] = (struct lua_host_script){ .name = s->name, .source = s->source };
	}
	host = lua_host_new(wp->policy,
			    &(struct lua_host_conf){
				    .max_instructions = (uint64_t)conf_int(v, OPT_SCRIPT_MAX_INSTRUCTIONS),
				    .max_memory = (size_t)conf_int(v, OPT_SCRIPT_MAX_MEMORY),
				    .max_time = conf_int(v, OPT_SCRIPT_MAX_TIME) * USEC_PER_SEC,
				    .bundle = bundle,
				    .scripts = scripts,
				    .nscripts = n,
			    },
			    &errs);
	if (host == NULL)
		log_lines(&errs);
	bytes_fini(&errs);
	free(scripts);
	return host;
}

struct worker_policy *
worker_policy_new(const struct conf *conf, const struct policy_bundle *bundle, struct loop *loop,
		  struct resolver *resolver)
{
	struct worker_policy *wp = mem_zalloc(sizeof *wp);

	wp->conf = conf;
	wp->loop = loop;
	wp->resolver = resolver;
	wp->ops = (struct policy_host_ops){
		.timer_start = timer_start, .timer_stop = timer_stop, .binding_known = binding_known, .arg = wp
	};
	if (resolver != NULL) {
		wp->ops.dns_start = dns_start;
		wp->ops.dns_cancel = dns_cancel;
	}
	wp->policy = policy_new(worker_hostname(conf), &wp->ops);
	if (conf_bool(conf_global(conf), OPT_TRACE))
		policy_trace_set(wp->policy, on_trace, wp);
	wp->lua = load_scripts(wp, bundle);
	if (wp->lua == NULL)
		worker_policy_free(&wp);
	return wp;
}

void
worker_policy_free(struct worker_policy **wpp)
{
	struct worker_policy *wp = *wpp;

	if (wp == NULL)
		return;
	*wpp = NULL;
	lua_host_free(&wp->lua);
	policy_free(&wp->policy);
	free(wp);
}

struct policy *
worker_policy_get(const struct worker_policy *wp)
{
	return wp->policy;
}

void
worker_policy_tell_slot(const struct worker_policy *wp, struct shm_slot *slot)
{
	struct lua_host_stats n;

	lua_host_stats(wp->lua, &n);
	slot_set(slot, CELL_LUA_BYTES, (int64_t)n.memory);
	slot_set(slot, CELL_POLICY_WAITING, n.waiting);
	slot_set(slot, CELL_POLICY_RUNS, (int64_t)n.callouts);
	slot_set(slot, CELL_SCRIPT_ERRORS, (int64_t)n.failed);
	slot_set(slot, CELL_SCRIPT_OVERRUNS, (int64_t)n.overruns);
}
