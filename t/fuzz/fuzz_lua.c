/* A script of anybody's in the host, through all phases of two sessions, with budgets on: it loads or is refused with a
 * reason, every phase ends, nothing waits for ever, its memory stays under the ceiling, and it leaves no descriptor and
 * no changed folder behind. The input is the source. Names for DNS decide by their first letter what is answered. */
#include <arpa/inet.h>
#include <fcntl.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "policy/lua/lua_host.h"
#include "shm/base/log.h"

enum { WAITS = 64, STEPS = 100000, CALLOUT_MEMORY = 1 << 20, CEILING = 8 << 20, TURNS_MAX = 2000 };

struct wait {
	bool live;
	policy_dns_done *dns;
	void (*timer)(void *arg);
	void *arg;
	usec_t at;
	char name;
};

struct world {
	struct policy_host_ops ops;
	struct policy *policy;
	struct policy_bundle *bundle;
	struct lua_host *host;
	struct policy_session *session;
	struct policy_msg *msg, *clone;
	struct wait waits[WAITS];
	struct policy_run run;
	bool done;
};

static usec_t now;

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

static usec_t
mono(void)
{
	return now += 10; /* each look takes a while, so that wall time is a budget too */
}

static usec_t
real(void)
{
	return INT64_C(1700000000) * USEC_PER_SEC;
}

static void
silent(void *arg, enum log_level level, const char *line, size_t len)
{
	(void)arg;
	(void)level;
	(void)line;
	(void)len;
}

/* ---- what a worker would do for it ---- */

static struct wait *
wait_new(struct world *w)
{
	for (size_t i = 0; i < WAITS; i++)
		if (!w->waits[i].live) {
			w->waits[i] = (struct wait){ .live = true };
			return &w->waits[i];
		}
	abort(); /* one session, one phase: it cannot wait for so much */
}

static void *
on_dns(void *arg, const char *name, const char *type, policy_dns_done *done, void *done_arg)
{
	struct wait *wait = wait_new(arg);

	(void)type;
	wait->dns = done;
	wait->arg = done_arg;
	wait->name = name[0];
	return wait;
}

static void
on_cancel(void *arg, void *wait)
{
	(void)arg;
	require_that(((struct wait *)wait)->live, "fuzz");
	((struct wait *)wait)->live = false;
}

static void *
on_timer(void *arg, usec_t at, void (*fn)(void *fn_arg), void *fn_arg)
{
	struct wait *wait = wait_new(arg);

	wait->timer = fn;
	wait->arg = fn_arg;
	wait->at = at;
	return wait;
}

static bool
on_capability(void *session, struct slice name)
{
	(void)session;
	return name.n > 0;
}

static int64_t
on_sessions(void *session, struct slice cidr, struct slice service)
{
	(void)session;
	(void)cidr;
	(void)service;
	return 3;
}

static bool
on_binding(void *arg, struct slice name)
{
	(void)arg;
	return slice_eq(name, SLICE("out1"));
}

static const struct policy_view_ops view = { on_capability, on_capability, on_sessions };

static void
answer_dns(struct wait *wait)
{
	struct policy_dns_row rows[3] = { { 10, SLICE("192.0.2.1") }, { 0, SLICE("") }, { 65535, SLICE("a\0b\xff") } };

	wait->live = false;
	if (wait->name == 'e')
		wait->dns(wait->arg, "SERVFAIL", NULL, 0);
	else
		wait->dns(wait->arg, NULL, rows, (unsigned)wait->name % 4);
}

/* The next thing that is due; some questions are never answered. */
static bool
turn(struct world *w)
{
	struct wait *next = NULL;

	for (size_t i = 0; i < WAITS; i++) {
		struct wait *wait = &w->waits[i];

		if (wait->live && wait->dns != NULL && wait->name != 'n') {
			answer_dns(wait);
			return true;
		}
		if (wait->live && wait->timer != NULL && (next == NULL || wait->at < next->at))
			next = wait;
	}
	if (next == NULL)
		return false;
	now = next->at > now ? next->at : now;
	next->live = false;
	next->timer(next->arg);
	return true;
}

/* ---- a session's phases ---- */

static void
on_done(struct policy_run *r, void *arg)
{
	(void)r;
	((struct world *)arg)->done = true;
}

static struct policy_msg *
msg_for(struct world *w, enum policy_phase phase)
{
	if (phase < PHASE_MAILFROM)
		return NULL;
	if (phase < PHASE_EACH_RCPT)
		return w->msg;
	if (w->clone == NULL)
		w->clone = policy_msg_clone(w->msg, 3, policy_msg_rcpt(w->msg));
	return w->clone;
}

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
check_host(const struct world *w)
{
	struct lua_host_stats stats;

	lua_host_stats(w->host, &stats);
	require_that(stats.memory <= CEILING, "fuzz");
	require_that(!w->done || stats.waiting == 0, "fuzz");
}

static void
run_phase(struct world *w, enum policy_phase phase)
{
	enum err e;

	w->run = (struct policy_run){ .phase = phase,
				      .session = w->session,
				      .msg = msg_for(w, phase),
				      .str = phase == PHASE_EHLO ? SLICE("client.example")
								 : SLICE("someone@example.net"),
				      .done = on_done,
				      .arg = w };
	w->done = false;
	e = policy_run(&w->run);
	require_that(e == OK || e == ERR_AGAIN, "fuzz");
	w->done = e == OK;
	for (unsigned i = 0; !w->done; i++) {
		require_that(i < TURNS_MAX && turn(w), "fuzz");
		check_host(w);
	}
	check_host(w);
	check_verdict(&w->run.verdict);
	policy_run_fini(&w->run);
}

static void
session(struct world *w)
{
	struct policy_session_env env = { .ops = &view, .owner = w, .conn = 0x1234, .protocol = POLICY_ESMTP };
	const struct policy_msg_env mail = { .sender = SLICE("from@sender.example"),
					     .rcpt = SLICE("to@example.com"),
					     .id = 1,
					     .batch = 2,
					     .conn = 0x1234 };
	struct sockaddr_in in = { .sin_family = AF_INET,
				  .sin_port = htons(4321),
				  .sin_addr.s_addr = htonl(0xc0000207) };

	memcpy(&env.remote, &in, sizeof(in));
	w->session = policy_session_new(w->policy, &env);
	w->msg = policy_msg_new(w->session, &mail);
	policy_msg_replace_header(w->msg, SLICE("Received: from x by y\r\nSubject: =?iso-8859-1?Q?caf=E9?= au\r\n"
						" lait\r\nTo: <to@example.com>\r\n"));
	policy_msg_replace_body(w->msg, SLICE("\r\nHello\r\nworld\r\n"));
	for (int p = 0; p < PHASE_MAX; p++)
		run_phase(w, (enum policy_phase)p);
	policy_msg_free(&w->clone);
	policy_msg_free(&w->msg);
	policy_session_free(&w->session);
}

/* ---- the script ---- */

static void
load(struct world *w, struct slice source)
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
	struct world w = { .done = true };
	int free_before = lowest_free();
	char before[512], after[512];

	folder(before, sizeof(before));
	now = 1000000;
	clock_set_source(mono, real);
	log_set_sink(silent, NULL);
	w.ops = (struct policy_host_ops){ on_dns, on_cancel, on_timer, on_cancel, on_binding, &w };
	w.policy = policy_new("mx.example.test", &w.ops);
	w.bundle = policy_bundle_new();
	load(&w, n == 0 ? SLICE("") : slice_of(data, n));
	if (w.host != NULL) {
		session(&w);
		session(&w);
	}
	for (size_t i = 0; i < WAITS; i++)
		require_that(!w.waits[i].live, "fuzz");
	lua_host_free(&w.host);
	policy_free(&w.policy);
	policy_bundle_free(&w.bundle);
	clock_set_source(NULL, NULL);
	log_set_sink(NULL, NULL);
	folder(after, sizeof(after));
	require_that(strcmp(before, after) == 0 && lowest_free() == free_before, "fuzz");
	return 0;
}
