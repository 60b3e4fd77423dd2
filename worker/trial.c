/* The trial role: brings a configuration to life as far as that can be done without serving, and throws it away. Its
 * lines reach the master through the log's sink (master/trial.c). */
#include "policy/conf/conf.h"
#include "policy/lua/lua_host.h"
#include "policy/policy.h"
#include "shm/base/log.h"
#include "shm/base/mem.h"
#include "worker/role.h"

static struct lua_host_script *
scripts_of(const struct conf *conf, size_t *n)
{
	struct lua_host_script *v;

	*n = conf_script_count(conf);
	v = mem_array(NULL, *n + 1, sizeof(*v));
	for (size_t i = 0; i < *n; i++) {
		v[i].name = conf_script_at(conf, i)->name;
		v[i].source = conf_script_at(conf, i)->source;
	}
	return v;
}

static void
tell_lines(struct slice text)
{
	while (text.n > 0) {
		size_t n = slice_find(text, '\n');

		if (n > 0)
			log_error("script", "%.*s", (int)n, text.p);
		text = n == text.n ? slice_of(text.p, 0) : slice_of(text.p + n + 1, text.n - n - 1);
	}
}

static int
run(struct role_env *env)
{
	const struct conf_view *v = conf_global(env->conf);
	const struct policy_host_ops nothing = { .arg = NULL };
	struct policy *p = policy_new(conf_str(v, OPT_HOSTNAME), &nothing);
	struct lua_host_conf c = { .max_instructions = (uint64_t)conf_int(v, OPT_SCRIPT_MAX_INSTRUCTIONS),
		.max_memory = (size_t)conf_int(v, OPT_SCRIPT_MAX_MEMORY),
		.max_time = conf_int(v, OPT_SCRIPT_MAX_TIME) * USEC_PER_SEC,
		.bundle = env->bundle };
	struct bytes errs = { 0 };
	struct lua_host *h;

	c.scripts = scripts_of(env->conf, &c.nscripts);
	h = lua_host_new(p, &c, &errs);
	tell_lines(slice_bytes(&errs));
	bytes_fini(&errs);
	return h == NULL ? 1 : 0;
}

const struct role_ops trial_role = { .run = run };
