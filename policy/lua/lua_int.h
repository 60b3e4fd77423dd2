/* lua_int.h - what the files of policy/lua share; the only place, with its siblings, that sees Lua's headers
 * Files: lua_host (one state, loading), lua_budget (allocator, count hook, charging), lua_task (coroutines and the one
 * driver that resumes them), lua_base, lua_coroutine, lua_string, lua_library (what of the standard library scripts
 * see), lua_match (patterns, pure), lua_gc (finalizers of scripts), lua_handle (userdata for session and message),
 * lua_vctx, lua_ac, lua_msg, lua_ecstring, lua_core, lua_msys (the msys API).
 *
 * Facts of Lua 5.4.4 that this code rests on:
 * - A hook is per thread, as is its count of instructions, and is off while a hook or a finalizer runs. An error raised
 *   in a hook leaves it off in that coroutine unless a pcall inside the coroutine catches it. So every coroutine's body,
 *   ours and scripts', runs in a lua_pcallk of ours; message handlers are ours and never call a script's one once the
 *   budget is spent; and no function of a script ever becomes a finalizer of Lua's (lua_gc.c).
 * - An allocation that is refused is tried once more after a full collection, then raised as LUA_ERRMEM without any
 *   message handler.
 * - An error caught by a pcall that can be yielded across unwinds the C stack to lua_resume, with Lua's count of C
 *   calls, while the Lua stack stays; and walks that whole stack to shrink it. So pcall has a bound of its own
 *   (lua_base.c), or a script could spend hours in dying.
 * - lua_resetthread runs pending __close functions in the thread it resets, under that thread's hook. */
#ifndef POLICY_LUA_LUA_INT_H
#define POLICY_LUA_LUA_INT_H

#include <lauxlib.h>
#include <lua.h>
#include <lualib.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/queue.h>

#include "policy/lua/lua_host.h"
#include "policy/policy_int.h"

enum {
	BUDGET_COUNT = 100, /* instructions between two looks at the budget */
	MODULES_MAX = 256,  /* registered modules of all scripts */
	TASKS_SPARE = 64,   /* coroutines kept for the next callouts */
	TRACE_LEVELS = 12,  /* frames in the log */
	CLOSE_DEPTH = 8,    /* coroutines closed inside one another */
	PCALL_DEPTH = 1000, /* calls in one coroutine below which pcall is possible */
	LOG_TEXT_MAX = 4096,
};
#define BUDGET_SLICE (3 * USEC_PER_SEC) /* longest time for which a script may hold the loop */

/* --- budgets: lua_budget.c ------------------------------------------------------------------------------------ */

enum spent {
	SPENT_NOT,
	SPENT_STEPS,
	SPENT_MEMORY,
	SPENT_CEILING, /* the state as a whole */
	SPENT_TIME,
	SPENT_CANCELLED,
};

struct budget {
	int64_t steps; /* left */
	size_t max_memory;
	size_t held;        /* what earlier slices of this callout still hold, at most */
	size_t base;        /* bytes of the state when this slice began, or less when others' garbage went since */
	enum spent refused; /* why the last allocation was refused, if it was */
	usec_t deadline;    /* wall time, monotonic */
	usec_t slice_end;   /* of this slice */
	enum spent spent;
	struct bytes trace; /* where it happened, a line a frame; survives the coroutine */
};

void *budget_alloc(void *host, void *ptr, size_t osize, size_t nsize);
void budget_init(struct budget *b, uint64_t steps, size_t memory, usec_t deadline);
void budget_fini(struct budget *b);
/* From enter to leave, what the state does is charged to b. */
void budget_enter(struct lua_host *h, struct budget *b);
void budget_leave(struct lua_host *h);
/* Makes thread L look at the budget. */
void budget_watch(lua_State *L);
/* What the hook does: charges for BUDGET_COUNT instructions and raises when time or steps are over. */
void budget_look(lua_State *L);
/* n steps more. Raises when that was too much. */
void budget_charge(lua_State *L, uint64_t n);
/* The same without raising: false when it is spent. */
bool budget_take(struct lua_host *h, uint64_t n);
/* Is the budget of what runs now spent? */
bool budget_spent(lua_State *L);
/* A protected call of ours ended so: out of memory is out of budget. */
void budget_note_error(lua_State *L, int status);
/* Raises, now and at every instruction from here on. Only once it is spent. */
int budget_raise(lua_State *L);
const char *budget_spent_text(enum spent s);
/* Appends L's stack to *out, a line a frame. */
void budget_stack(lua_State *L, struct bytes *out);

/* --- the state: lua_host.c ------------------------------------------------------------------------------------ */

/* A module that a script registered. */
struct module {
	char *name;
	int ref;      /* its table */
	int self_ref; /* metatable of its per-session tables: __index is the module's table */
	bool fresh;   /* init is still to run */
};

/* One function of a module, hanging on a phase. */
struct callout {
	struct lua_host *host;
	unsigned module;
	enum policy_phase phase;
	int ref;     /* the function */
	char *where; /* "site.lua:12" */
};

/* A dead one (the state was renewed, or its object went) points to nothing. */
struct handle {
	void *object;
};

struct task;
TAILQ_HEAD(task_list, task);

struct lua_host {
	lua_State *L;
	struct policy *policy;
	struct lua_host_conf conf; /* scripts: our copy */
	size_t used;               /* bytes of the state */
	size_t loaded;             /* of these after loading */
	size_t ceiling;
	struct budget *budget; /* charged now; NULL: nobody's */
	struct task *task;     /* running now; NULL: loading, or outside */
	uint64_t serial;       /* of the callout that runs or ran last */
	bool loading;
	bool worn;           /* the ceiling was hit: the next callout begins with a new state */
	uint64_t generation; /* of the state: what was made in an earlier one is dead */
	struct module modules[MODULES_MAX];
	unsigned nmodules;
	struct callout **callouts;
	size_t ncallouts;
	struct task_list waiting;
	struct task_list spare;
	struct bytes *load_errs;
	struct bytes scratch; /* for C code between two calls that can raise: so nothing is lost when one does */
	unsigned closing;     /* coroutines being closed, one inside another */
	struct lua_host_stats stats;
	int spent_ref;               /* the value that a spent budget raises */
	int guards_ref, pending_ref; /* lua_gc.c */
	size_t npending;
	uint64_t skip_before; /* serial: objects of earlier callouts are not finalized between callouts any more */
};

struct lua_host *lua_host_of(lua_State *L);
/* When a collection does not help: throws the state away and loads the scripts again; what waits ends as failed.
 * Nothing of it may be running. */
void lua_host_renew(struct lua_host *h);

/* --- coroutines: lua_task.c ------------------------------------------------------------------------------------- */

enum task_wait {
	WAIT_NOT,
	WAIT_DNS,
	WAIT_AGAIN, /* VALIDATE_AGAIN: called once more after a moment */
};

/* One callout of one session, on a coroutine of its own. */
struct task {
	TAILQ_ENTRY(task) link;
	struct lua_host *host;
	lua_State *co;
	int ref; /* keeps co */
	struct policy_run *run;
	const struct callout *callout;
	struct budget budget;
	uint64_t serial;
	enum task_wait wait;
	void *wait_handle; /* query or timer of what is waited for */
	void *deadline;    /* timer, from the first wait on */
	bool finished;     /* the body came to its end; what follows is its result */
	bool failed;       /* ... which is an error */
	/* what a wait brought; holds while the task is resumed */
	bool dns_ready;
	const char *dns_error;
	const struct policy_dns_row *dns_rows;
	size_t dns_n;
};

policy_hook_fn task_hook;
/* The task whose script calls; raises when there is none (while a script is loaded). */
struct task *task_check(lua_State *L, const char *function);
/* The run, or NULL. */
struct policy_run *task_run(lua_State *L);
/* Before a wait begins: raises where the script cannot be suspended. */
void task_check_wait(lua_State *L, const char *function);
/* The wait of a running task is not to be (it could not suspend after all). */
void task_wait_stop(struct task *t);
void task_on_dns(void *arg, const char *error, const struct policy_dns_row *rows, size_t n);
/* Ends all that wait as failed. */
void task_fail_waiting(struct lua_host *h);
void task_free_spare(struct lua_host *h);

/* --- libraries: each leaves nothing on the stack ------------------------------------------------------------------ */

void base_open(lua_State *L);
int base_require(lua_State *L);
void coroutine_open(lua_State *L);
void string_open(lua_State *L);
void library_open(lua_State *L); /* table, math, utf8, os, debug */
void msys_open(lua_State *L);
void core_open(lua_State *L, int msys); /* msys.core into the table at that index */
void ecstring_open(lua_State *L);
void handles_open(lua_State *L);

/* lua_gc.c */
void finalizers_open(lua_State *L);
int finalizers_setmetatable(lua_State *L);
/* Runs those that became due of objects that callout `serial` made; errors are logged. */
void finalizers_run(lua_State *L, uint64_t serial);
/* Takes one of those of earlier callouts: pushes function and object; false: none. Those to be skipped go. */
bool finalizers_next(lua_State *L);

/* --- handles: lua_handle.c ---------------------------------------------------------------------------------------- */

#define CLASS_AC       "msys.core:_accept_construct"
#define CLASS_VCTX     "msys.core:_validate_context"
#define CLASS_MSG      "msys.core:_ec_message"
#define CLASS_ECSTRING "msys.core:_ec_string"

/* Makes the class's metatable: methods by name, `fields` (may be NULL) answers what is no method, set (may be NULL)
 * takes assignments. Names in `unbuilt` (NULL-terminated, may be NULL) raise when called. */
struct class_def {
	const char *name;
	const luaL_Reg *methods;
	lua_CFunction field; /* stack: object, key */
	lua_CFunction set;   /* stack: object, key, value */
	const char *const *unbuilt;
};
void class_open(lua_State *L, const struct class_def *def);
/* "msys: NAME is not built yet" as a function. */
void push_unbuilt(lua_State *L, const char *name);

void push_ac(lua_State *L, struct policy_session *s);
void push_vctx(lua_State *L, struct policy_session *s);
void push_msg(lua_State *L, struct policy_msg *m);
/* The table that a module has for this session. */
void push_self(lua_State *L, struct policy_session *s, unsigned module);
/* The only doors: raise for another type and for a dead handle. */
struct policy_session *check_ac(lua_State *L, int arg);
struct policy_session *check_vctx(lua_State *L, int arg);
struct policy_msg *check_msg(lua_State *L, int arg);

/* Raises unless the running phase allows it. */
struct policy_run *check_may(lua_State *L, enum policy_may what, const char *function);
struct slice check_slice(lua_State *L, int arg);
struct slice opt_slice(lua_State *L, int arg, struct slice def);
void push_slice(lua_State *L, struct slice s);
/* An ec_string or what Lua makes a string of. */
struct slice check_text(lua_State *L, int arg);
void push_ecstring(lua_State *L, struct slice text);
void ecstring_set(lua_State *L, int arg, struct slice text);

/* dictionary selectors */
enum { CTX_CONN = 1, CTX_MESS = 2 };
/* context_get and its sisters, for vctx and msg alike: key at arg + 1, type at arg. */
struct policy_context *context_select(lua_State *L, int arg, struct policy_context *conn, struct policy_context *mess);
int context_push(lua_State *L, const struct policy_context *c, struct slice key);
int context_exists(lua_State *L, const struct policy_context *c, struct slice key);
int context_exists_and_get(lua_State *L, const struct policy_context *c, struct slice key);
void context_store(lua_State *L, struct policy_context *c, struct slice key, int value_arg);

extern const luaL_Reg vctx_methods[], ac_methods[], msg_methods[];
int vctx_field(lua_State *L);
int ac_field(lua_State *L);
int msg_field(lua_State *L);
int msg_set_field(lua_State *L);
extern const char *const vctx_unbuilt[];
extern const char *const ac_unbuilt[];
extern const char *const msg_unbuilt[];

#endif
