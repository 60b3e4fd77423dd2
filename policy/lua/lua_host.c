#include <stdlib.h>
#include <string.h>

#include "policy/lua/lua_int.h"
#include "shm/base/log.h"
#include "shm/base/mem.h"

enum {
	LOAD_FACTOR = 100, /* loading a script may take so many times what a callout may */
	STATE_MEMORY_LEAST = 256 << 20,
	STATE_MEMORY_FACTOR = 16,
};

/* Lua gives every thread a copy of the main thread's extra space: there stands the host. */
struct lua_host *
lua_host_of(lua_State *L)
{
	return *(struct lua_host **)lua_getextraspace(L);
}

static int
on_panic(lua_State *L)
{
	log_panic("scriptlet", "error outside a callout: %s",
		  lua_type(L, -1) == LUA_TSTRING ? lua_tostring(L, -1) : luaL_typename(L, -1));
}

static void
load_error(struct lua_host *h, const char *fmt, const char *a, const char *b)
{
	if (h->load_errs != NULL)
		bytes_addf(h->load_errs, fmt, a, b);
	else
		log_error("scriptlet", fmt, a, b);
}

/* --- the state --------------------------------------------------------------------------------------------------- */

/* In protected mode: memory may run out. */
static int
open_libraries(lua_State *L)
{
	struct lua_host *h = lua_host_of(L);

	lua_pushliteral(L, "script budget is spent");
	h->spent_ref = luaL_ref(L, LUA_REGISTRYINDEX);
	finalizers_open(L);
	base_open(L);
	coroutine_open(L);
	string_open(L);
	library_open(L);
	ecstring_open(L);
	handles_open(L);
	msys_open(L);
	return 0;
}

static void
state_open(struct lua_host *h)
{
	h->used = 0;
	h->npending = 0;
	h->skip_before = 0;
	h->generation++;
	h->L = lua_newstate(budget_alloc, h);
	if (h->L == NULL)
		log_fatal("scriptlet", "no memory for a Lua state");
	lua_atpanic(h->L, on_panic);
	*(struct lua_host **)lua_getextraspace(h->L) = h;
	lua_pushcfunction(h->L, open_libraries);
	if (lua_pcall(h->L, 0, 0, 0) != LUA_OK)
		log_fatal("scriptlet", "cannot open the libraries: %s", lua_tostring(h->L, -1));
}

static void
state_close(struct lua_host *h)
{
	task_free_spare(h);
	lua_close(h->L);
	h->L = NULL;
}

/* --- loading ------------------------------------------------------------------------------------------------------ */

/* init() of the modules that were registered since: true, or the configuration is wrong. */
static void
run_inits(lua_State *L)
{
	struct lua_host *h = lua_host_of(L);

	for (unsigned i = 0; i < h->nmodules; i++) {
		if (!h->modules[i].fresh)
			continue;
		h->modules[i].fresh = false;
		lua_rawgeti(L, LUA_REGISTRYINDEX, h->modules[i].ref);
		if (lua_getfield(L, -1, "init") == LUA_TFUNCTION) {
			lua_insert(L, -2);
			lua_call(L, 1, 1);
			if (!lua_isboolean(L, -1) || !lua_toboolean(L, -1))
				luaL_error(L, "module %s: init returned %s, not true", h->modules[i].name,
					   luaL_typename(L, -1));
		}
		lua_settop(L, 0);
	}
}

/* Stack: require, module name. */
static int
load_protected(lua_State *L)
{
	lua_call(L, 1, 0);
	run_inits(L);
	finalizers_run(L, 0);
	return 0;
}

static int
load_on_error(lua_State *L)
{
	struct lua_host *h = lua_host_of(L);

	if (!budget_spent(L)) {
		h->budget->trace.n = 0;
		budget_stack(L, &h->budget->trace);
	}
	return 1;
}

static void
load_report(struct lua_host *h, const struct lua_host_script *s, const struct budget *b)
{
	const char *what = b->spent != SPENT_NOT               ? budget_spent_text(b->spent)
			   : lua_type(h->L, -1) == LUA_TSTRING ? lua_tostring(h->L, -1)
							       : "error object is no string";
	struct slice rest = slice_bytes(&b->trace);

	load_error(h, "script \"%s\": %s\n", s->name, what);
	while (rest.n > 0) {
		const size_t n = slice_find(rest, '\n');
		char *line = mem_strndup(rest.p, n);

		load_error(h, "script \"%s\":   %s\n", s->name, line);
		free(line);
		rest = slice_of(rest.p + n, rest.n - n);
		if (rest.n > 0)
			rest = slice_of(rest.p + 1, rest.n - 1);
	}
}

static bool
load_script(struct lua_host *h, const struct lua_host_script *s)
{
	struct budget b = { 0 };
	lua_State *L = h->L;

	if (policy_bundle_find(h->conf.bundle, slice_str(s->source)) == NULL) {
		load_error(h, "script \"%s\": there is no file for source \"%s\" on the search path\n", s->name,
			   s->source);
		return false;
	}
	budget_init(&b, h->conf.max_instructions * LOAD_FACTOR, h->ceiling, clock_mono() + h->conf.max_time);
	h->serial = 0;
	budget_enter(h, &b);
	budget_watch(L);
	lua_pushcfunction(L, load_on_error);
	lua_pushcfunction(L, load_protected);
	lua_pushcfunction(L, base_require); /* not the global: a script may have done anything to that */
	lua_pushstring(L, s->source);
	const int status = lua_pcall(L, 2, 0, 1);
	lua_sethook(L, NULL, 0, 0);
	budget_leave(h);
	if (status != LUA_OK || b.spent != SPENT_NOT)
		load_report(h, s, &b);
	lua_settop(L, 0);
	const bool ok = status == LUA_OK && b.spent == SPENT_NOT;
	budget_fini(&b);
	return ok;
}

static bool
load_all(struct lua_host *h)
{
	bool ok = true;

	h->loading = true;
	for (size_t i = 0; i < h->conf.nscripts; i++)
		ok = load_script(h, &h->conf.scripts[i]) && ok;
	h->loading = false;
	lua_gc(h->L, LUA_GCCOLLECT);
	h->loaded = h->used;
	return ok;
}

void
lua_host_renew(struct lua_host *h)
{
	h->worn = false;
	lua_gc(h->L, LUA_GCCOLLECT);
	if (h->used < h->ceiling / 4 * 3) /* it was one callout's, and that is over */
		return;
	log_error("scriptlet", "the scripts of this worker hold %zu bytes: they are loaded anew", h->used);
	task_fail_waiting(h);
	state_close(h);
	for (size_t i = 0; i < h->ncallouts; i++)
		h->callouts[i]->ref = LUA_NOREF;
	for (unsigned i = 0; i < h->nmodules; i++)
		h->modules[i].ref = h->modules[i].self_ref = LUA_NOREF;
	h->stats.renewed++;
	state_open(h);
	load_all(h);
}

/* --- the host ------------------------------------------------------------------------------------------------------
 */

static void
copy_conf(struct lua_host *h, const struct lua_host_conf *conf)
{
	struct lua_host_script *scripts = mem_array(NULL, conf->nscripts + 1, sizeof(*scripts));

	for (size_t i = 0; i < conf->nscripts; i++) {
		scripts[i].name = mem_strdup(conf->scripts[i].name);
		scripts[i].source = mem_strdup(conf->scripts[i].source);
	}
	h->conf = *conf;
	h->conf.scripts = scripts;
	h->ceiling = conf->state_memory;
	if (h->ceiling == 0)
		h->ceiling = conf->max_memory * STATE_MEMORY_FACTOR;
	if (conf->state_memory == 0 && h->ceiling < STATE_MEMORY_LEAST)
		h->ceiling = STATE_MEMORY_LEAST;
}

struct lua_host *
lua_host_new(struct policy *p, const struct lua_host_conf *conf, struct bytes *errs)
{
	struct lua_host *h = mem_zalloc(sizeof(*h));

	h->policy = p;
	TAILQ_INIT(&h->waiting);
	TAILQ_INIT(&h->spare);
	copy_conf(h, conf);
	state_open(h);
	h->load_errs = errs;
	const bool ok = load_all(h);
	h->load_errs = NULL;
	if (!ok)
		lua_host_free(&h);
	return h;
}

static void
callouts_free(struct lua_host *h)
{
	for (size_t i = 0; i < h->ncallouts; i++) {
		free(h->callouts[i]->where);
		free(h->callouts[i]);
	}
	free(h->callouts);
	for (unsigned i = 0; i < h->nmodules; i++)
		free(h->modules[i].name);
}

void
lua_host_free(struct lua_host **hp)
{
	struct lua_host *h = *hp;

	*hp = NULL;
	if (h == NULL)
		return;
	task_fail_waiting(h);
	policy_hook_remove(h->policy, task_hook);
	state_close(h);
	callouts_free(h);
	bytes_fini(&h->scratch);
	for (size_t i = 0; i < h->conf.nscripts; i++) {
		free((void *)(uintptr_t)h->conf.scripts[i].name);
		free((void *)(uintptr_t)h->conf.scripts[i].source);
	}
	free((void *)(uintptr_t)h->conf.scripts);
	free(h);
}

void
lua_host_stats(const struct lua_host *h, struct lua_host_stats *out)
{
	*out = h->stats;
	out->memory = h->used;
}
