#include <stdlib.h>
#include <string.h>

#include "policy/lua/lua_int.h"
#include "shm/base/mem.h"

/* Bytes made that cost a step, and what a refused allocation costs: it makes Lua collect the whole state. */
enum { BYTES_A_STEP = 64, BYTES_COLLECTED_A_STEP = 64, TRACE_MAX = 8192 };

void
budget_init(struct budget *b, uint64_t steps, size_t memory, usec_t deadline)
{
	const struct bytes trace = b->trace;

	*b = (struct budget){ .steps = steps > INT64_MAX ? INT64_MAX : (int64_t)steps,
			      .max_memory = memory,
			      .deadline = deadline,
			      .trace = trace };
	b->trace.n = 0;
}

void
budget_fini(struct budget *b)
{
	bytes_fini(&b->trace);
}

void
budget_enter(struct lua_host *h, struct budget *b)
{
	const usec_t now = clock_mono();

	b->base = h->used;
	b->slice_end = now + BUDGET_SLICE < b->deadline ? now + BUDGET_SLICE : b->deadline;
	h->budget = b;
}

void
budget_leave(struct lua_host *h)
{
	struct budget *b = h->budget;

	h->budget = NULL;
	b->held += h->used - b->base;
	if (b->steps < 0 && b->spent == SPENT_NOT)
		b->spent = SPENT_STEPS;
}

const char *
budget_spent_text(enum spent s)
{
	static const char *const texts[] = {
		[SPENT_NOT] = "within its budget",
		[SPENT_STEPS] = "out of instructions (script_max_instructions)",
		[SPENT_MEMORY] = "out of memory (script_max_memory)",
		[SPENT_CEILING] = "the scripts of this worker have used up their memory",
		[SPENT_TIME] = "out of time (script_max_time)",
		[SPENT_CANCELLED] = "cancelled",
	};
	return texts[s];
}

static void
memory_spent(struct lua_host *h, struct budget *b)
{
	if (b->spent != SPENT_NOT)
		return;
	b->spent = b->refused == SPENT_CEILING ? SPENT_CEILING : SPENT_MEMORY;
	h->worn = h->worn || b->spent == SPENT_CEILING;
}

/* May the state grow by so many bytes? A callout that alone fills less than its budget is never refused for what
 * lies about from others. */
static bool
memory_take(struct lua_host *h, struct budget *b, size_t grow)
{
	const size_t mine = b->held + (h->used - b->base) + grow;
	enum spent why = SPENT_NOT;

	if (mine > b->max_memory && h->used + grow > h->loaded + b->max_memory)
		why = SPENT_MEMORY;
	else if (h->used + grow > h->ceiling)
		why = SPENT_CEILING;
	if (why == SPENT_NOT) {
		b->steps -= (int64_t)(grow / BYTES_A_STEP);
		if (b->refused != SPENT_NOT) {
			b->refused = SPENT_NOT;
			b->trace.n = 0;
		}
		return true;
	}
	/* Lua collects and asks once more; that it asks again means that the memory is really in use. (Where it does
	 * not ask again, budget_note_error sees the error.) */
	b->steps -= (int64_t)(h->used / BYTES_COLLECTED_A_STEP);
	if (b->refused != SPENT_NOT) {
		memory_spent(h, b);
	} else if (h->task != NULL && b->spent == SPENT_NOT) {
		b->trace.n = 0;
		budget_stack(h->task->co, &b->trace);
	}
	b->refused = why;
	return false;
}

void *
budget_alloc(void *host, void *ptr, size_t osize, size_t nsize)
{
	struct lua_host *h = host;
	struct budget *b = h->budget;

	if (ptr == NULL)
		osize = 0; /* it says the kind of object then */
	if (nsize == 0) {
		free(ptr);
		h->used -= osize;
		if (b != NULL && h->used < b->base)
			b->base = h->used;
		return NULL;
	}
	if (nsize > osize && b != NULL && !memory_take(h, b, nsize - osize))
		return NULL;
	void *fresh = realloc(ptr, nsize);
	if (fresh == NULL) /* shrinking must not fail */
		return nsize <= osize ? ptr : NULL;
	h->used = h->used - osize + nsize;
	if (b != NULL && h->used < b->base)
		b->base = h->used;
	return fresh;
}

void
budget_stack(lua_State *L, struct bytes *out)
{
	lua_Debug ar;

	for (int level = 0, shown = 0; shown < TRACE_LEVELS && out->n < TRACE_MAX && lua_getstack(L, level, &ar);
	     level++) {
		lua_getinfo(L, "Sln", &ar);
		if (*ar.what == 'C' && ar.name == NULL)
			continue;
		shown++;
		if (ar.currentline > 0)
			bytes_addf(out, "%s:%d: in ", ar.short_src, ar.currentline);
		else
			bytes_addf(out, "[C]: in ");
		if (ar.name != NULL)
			bytes_addf(out, "%s '%s'\n", ar.namewhat, ar.name);
		else if (*ar.what == 'm')
			bytes_addf(out, "the file\n");
		else
			bytes_addf(out, "function <%s:%d>\n", ar.short_src, ar.linedefined);
	}
}

static void on_count(lua_State *L, lua_Debug *ar);

void
budget_watch(lua_State *L)
{
	lua_sethook(L, on_count, LUA_MASKCOUNT, BUDGET_COUNT);
}

bool
budget_spent(lua_State *L)
{
	const struct budget *b = lua_host_of(L)->budget;

	return b != NULL && b->spent != SPENT_NOT;
}

void
budget_note_error(lua_State *L, int status)
{
	struct lua_host *h = lua_host_of(L);

	if (status == LUA_ERRMEM && h->budget != NULL)
		memory_spent(h, h->budget);
}

int
budget_raise(lua_State *L)
{
	const struct lua_host *h = lua_host_of(L);

	if (h->budget->trace.n == 0)
		budget_stack(L, &h->budget->trace);
	lua_sethook(L, on_count, LUA_MASKCOUNT, 1);
	lua_rawgeti(L, LUA_REGISTRYINDEX, h->spent_ref);
	return lua_error(L);
}

void
budget_look(lua_State *L)
{
	struct budget *b = lua_host_of(L)->budget;

	if (b == NULL)
		return;
	if (b->spent == SPENT_NOT) {
		if ((b->steps -= BUDGET_COUNT) < 0)
			b->spent = SPENT_STEPS;
		else if (clock_mono() > b->slice_end)
			b->spent = SPENT_TIME;
		else
			return;
	}
	budget_raise(L);
}

static void
on_count(lua_State *L, lua_Debug *ar)
{
	(void)ar;
	budget_look(L);
}

bool
budget_take(struct lua_host *h, uint64_t n)
{
	struct budget *b = h->budget;

	if (b == NULL)
		return true;
	if (b->spent != SPENT_NOT)
		return false;
	if (n < (uint64_t)b->steps) {
		b->steps -= (int64_t)n;
		return true;
	}
	b->steps = -1;
	b->spent = SPENT_STEPS;
	return false;
}

void
budget_charge(lua_State *L, uint64_t n)
{
	if (!budget_take(lua_host_of(L), n))
		budget_raise(L);
}
