/* lua_host.h - scripts: one Lua state a worker, each phase of each session a coroutine of it
 * A script file registers modules (msys.registerModule); each callout of each module becomes a hook of policy's chain.
 * Budgets cannot be caught by a script: instructions (pattern steps and bytes made count too), memory that is allocated
 * while the callout runs, and wall time, waits included. What is over budget, raises, or answers wrongly ends in one
 * exit: paniclog lines with script:line and traceback, and a temporary refusal of that session. Owner: the worker.
 * Thread: loop. Lua's own headers stay in policy/lua. */
#ifndef POLICY_LUA_LUA_HOST_H
#define POLICY_LUA_LUA_HOST_H

#include <stddef.h>
#include <stdint.h>

#include "policy/policy.h"
#include "policy/policy_bundle.h"
#include "shm/base/bytes.h"
#include "shm/base/err.h"

struct lua_host;

/* One `script "name" { source = "source" }` stanza. */
struct lua_host_script {
	const char *name;
	const char *source; /* module name in the bundle */
};

struct lua_host_conf {
	uint64_t max_instructions;          /* a callout; script_max_instructions */
	size_t max_memory;                  /* bytes a callout; script_max_memory */
	usec_t max_time;                    /* a callout, waits included; script_max_time */
	size_t state_memory;                /* ceiling of the whole state; 0: 16 times max_memory, at least 256 MiB */
	const struct policy_bundle *bundle; /* borrowed for the host's life */
	const struct lua_host_script *scripts; /* in order; copied */
	size_t nscripts;
};

/* Loads and runs the scripts; their callouts hang on p's chain afterwards. NULL: a script is missing, does not compile,
 * or raised: `errs` has a line for each reason, "file:line: text", and nothing hangs on p. (impetusd -t and the trial
 * child do just this.) */
struct lua_host *lua_host_new(struct policy *p, const struct lua_host_conf *conf, struct bytes *errs);
/* Runs that wait end as failed first. Sessions of p must be gone. Clears the caller's pointer; NULL inside is fine. */
void lua_host_free(struct lua_host **h);

struct lua_host_stats {
	size_t memory;     /* bytes of the state now */
	uint64_t callouts; /* begun */
	uint64_t failed;   /* ended in a refusal of ours */
	uint64_t overruns; /* of these: over a budget */
	uint32_t waiting;  /* suspended now */
	uint32_t spare;    /* coroutines kept for the next callout */
	uint64_t renewed;  /* states thrown away because their memory was used up */
};
void lua_host_stats(const struct lua_host *h, struct lua_host_stats *out);

#endif
