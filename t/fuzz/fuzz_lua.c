/* A script of anybody's in the host, through all phases of two sessions, with budgets on: it loads or is refused with a
 * reason, every phase ends, nothing waits for ever, its memory stays under the ceiling, and it leaves no descriptor and
 * no changed folder behind. The input is the source. Names for DNS decide by their first letter what is answered. */
#include <fcntl.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <unistd.h>

#include "t/policy/worker.h"

enum { STEPS = 100000, CALLOUT_MEMORY = 1 << 20, CEILING = 8 << 20, TURNS_MAX = 2000 };

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

static void
silent(void *arg, enum log_level level, const char *line, size_t len)
{
	(void)arg;
	(void)level;
	(void)line;
	(void)len;
}

/* By the first letter of the name; some questions are never answered. */
static bool
answer(struct worker *w, struct wait *wait)
{
	struct policy_dns_row rows[3] = { { 10, SLICE("192.0.2.1") }, { 0, SLICE("") }, { 65535, SLICE("a\0b\xff") } };

	(void)w;
	if (wait->name[0] == 'n')
		return false;
	wait->live = false;
	if (wait->name[0] == 'e')
		wait->dns(wait->arg, "SERVFAIL", NULL, 0);
	else
		wait->dns(wait->arg, NULL, rows, (unsigned char)wait->name[0] % 4);
	return true;
}

/* ---- a session's phases ---- */

static void
check_verdict(const struct policy_verdict *v)
{
	if (v->kind != VERDICT_REPLY)
		return;
	require_that(v->code >= 200 && v->code <= 599 && !(v->disconnect && v->code < 400), "fuzz");
	require_that(!v->failed || v->code == 421, "fuzz");
	for (size_t i = 0; i < v->text.n; i++)
		require_that(v->text.p[i] != '\n' && v->text.p[i] != '\r', "fuzz");
}

static void
check_host(const struct worker *w)
{
	struct lua_host_stats stats;

	lua_host_stats(w->host, &stats);
	require_that(stats.memory <= CEILING, "fuzz");
	require_that(!w->done || stats.waiting == 0, "fuzz");
}

static void
run_phase(struct worker *w, enum policy_phase phase)
{
	enum err e = worker_phase(w, phase);

	require_that(e == OK || e == ERR_AGAIN, "fuzz");
	w->done = e == OK;
	for (unsigned i = 0; !w->done; i++) {
		require_that(i < TURNS_MAX && worker_turn(w, INT64_MAX), "fuzz");
		check_host(w);
	}
	check_host(w);
	check_verdict(&w->run.verdict);
}

static void
session(struct worker *w)
{
	worker_session(w);
	for (int p = 0; p < PHASE_MAX; p++)
		run_phase(w, (enum policy_phase)p);
	worker_session_end(w);
}

/* ---- the script ---- */

static void
load(struct worker *w, struct slice source)
{
	static const struct lua_host_script scripts[] = { { "site", "site" } };
	const struct lua_host_conf conf = { .max_instructions = STEPS,
					    .max_memory = CALLOUT_MEMORY,
					    .state_memory = CEILING,
					    .max_time = 2 * USEC_PER_SEC,
					    .bundle = w->bundle,
					    .scripts = scripts,
					    .nscripts = 1 };
	struct bytes errs = { 0 };

	require_that(policy_bundle_add(w->bundle, "site", "site.lua", source) == OK, "fuzz");
	require_that(policy_bundle_add(w->bundle, "lib.helper", "lib/helper.lua", SLICE("return { twice = 2 }")) == OK,
		     "fuzz");
	w->host = lua_host_new(w->policy, &conf, &errs);
	require_that((w->host != NULL) == (errs.n == 0), "fuzz");
	require_that(w->host == NULL || source.n == 0 || source.p[0] != '\x1b', "fuzz"); /* never bytecode */
	bytes_fini(&errs);
}

static int
lowest_free(void)
{
	int fd = open("/dev/null", O_RDONLY | O_CLOEXEC);

	close(fd);
	return fd;
}

static void
folder(char *out, size_t size)
{
	if (getcwd(out, size) == NULL)
		abort();
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
	struct worker w;
	int free_before = lowest_free();
	char before[512], after[512];

	folder(before, sizeof(before));
	worker_now = 1000000;
	worker_tick = 10; /* each look takes a while, so that wall time is a budget too */
	worker_open(&w, answer, silent, NULL);
	load(&w, n == 0 ? SLICE("") : slice_of(data, n));
	if (w.host != NULL) {
		session(&w);
		session(&w);
	}
	require_that(!worker_waits(&w), "fuzz");
	worker_close(&w);
	folder(after, sizeof(after));
	require_that(strcmp(before, after) == 0 && lowest_free() == free_before, "fuzz");
	return 0;
}
