/* worker_policy.h - a worker's policy: the hook chain, the scripts on it, and what scripts may ask of the worker
 * DNS and timers for scripts, the names of bindings, and with the option `trace` a paniclog line for each hook.
 * Owner: the worker role. Thread: the loop's. Errors: scripts that do not load are logged, each with file and line. */
#ifndef WORKER_WORKER_POLICY_H
#define WORKER_WORKER_POLICY_H

#include "policy/policy.h"
#include "shm/base/err.h"

struct conf;
struct loop;
struct policy_bundle;
struct resolver;
struct shm_slot;
struct worker_policy;

/* Borrows all until worker_policy_free. resolver NULL: names are not looked up (a trial). */
struct worker_policy *worker_policy_new(const struct conf *conf, const struct policy_bundle *bundle, struct loop *loop,
					struct resolver *resolver);
/* Clears the caller's pointer; NULL inside is fine. */
void worker_policy_free(struct worker_policy **wp);
struct policy *worker_policy_get(const struct worker_policy *wp);
/* What the scripts have done and use, to the slot's cells. */
void worker_policy_tell_slot(const struct worker_policy *wp, struct shm_slot *slot);

/* The name that this server goes by: the option hostname, or what the system says. Holds as long as conf. */
const char *worker_hostname(const struct conf *conf);

#endif
