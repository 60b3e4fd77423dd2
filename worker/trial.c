/* The trial role: brings a configuration to life as far as that can be done without serving, and throws it away. Its
 * lines reach the master through the log's sink (master/trial.c). */
#include "worker/net/loop.h"
#include "worker/role.h"
#include "worker/worker_policy.h"

static int
run(struct role_env *env)
{
	/* No resolver: a script that waits for DNS while it loads is refused, as in a worker. */
	struct worker_policy *wp = worker_policy_new(env->conf, env->bundle, loop_new(), NULL);

	return wp == NULL ? 1 : 0;
}

const struct role_ops trial_role = { .run = run };
