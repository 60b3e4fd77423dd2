#include "policy/policy.h"

#include <stdio.h>
#include <stdlib.h>

#include "policy/policy_int.h"
#include "shm/base/log.h"
#include "shm/base/mem.h"

enum { HOOKS_MAX = 64, REPLY_TEXT_MAX = 900 };

struct chain {
	size_t n;
	struct link {
		struct policy_hook hook;
		char *bypass; /* context key that skips it */
	} links[HOOKS_MAX];
};

struct policy {
	char *hostname;
	const struct policy_host_ops *host;
	policy_trace_fn *trace;
	void *trace_arg;
	struct chain chains[PHASE_MAX];
};

struct policy *
policy_new(const char *hostname, const struct policy_host_ops *ops)
{
	struct policy *p = mem_zalloc(sizeof(*p));

	p->hostname = mem_strdup(hostname);
	p->host = ops;
	return p;
}

void
policy_free(struct policy **pp)
{
	struct policy *p = *pp;

	*pp = NULL;
	if (p == NULL)
		return;
	for (int phase = 0; phase < PHASE_MAX; phase++)
		for (size_t i = 0; i < p->chains[phase].n; i++)
			free(p->chains[phase].links[i].bypass);
	free(p->hostname);
	free(p);
}

const struct policy_host_ops *
policy_host(const struct policy *p)
{
	return p->host;
}

const char *
policy_hostname(const struct policy *p)
{
	return p->hostname;
}

void
policy_trace_set(struct policy *p, policy_trace_fn *fn, void *arg)
{
	p->trace = fn;
	p->trace_arg = arg;
}

enum err
policy_hook_add(struct policy *p, enum policy_phase phase, const struct policy_hook *hook)
{
	struct chain *c = &p->chains[phase];
	struct bytes key = { 0 };

	if (c->n == HOOKS_MAX)
		return ERR_FULL;
	bytes_addf(&key, "__bypass_%s", hook->name);
	c->links[c->n++] = (struct link){ *hook, mem_strdup(bytes_cstr(&key)) };
	bytes_fini(&key);
	return OK;
}

size_t
policy_hook_count(const struct policy *p, enum policy_phase phase)
{
	return p->chains[phase].n;
}

static void
chain_remove(struct chain *c, policy_hook_fn *fn)
{
	size_t kept = 0;

	for (size_t i = 0; i < c->n; i++) {
		if (c->links[i].hook.fn == fn)
			free(c->links[i].bypass);
		else
			c->links[kept++] = c->links[i];
	}
	c->n = kept;
}

void
policy_hook_remove(struct policy *p, policy_hook_fn *fn)
{
	for (int phase = 0; phase < PHASE_MAX; phase++)
		chain_remove(&p->chains[phase], fn);
}

static bool
hook_bypassed(const struct policy_run *r, const struct link *l)
{
	struct slice value;

	return policy_context_get(policy_session_conn(r->session), slice_str(l->bypass), &value) &&
	       slice_ieq(value, SLICE("true"));
}

static void
run_trace(const struct policy *p, const struct policy_run *r, const struct link *l, const char *answer)
{
	if (p->trace == NULL)
		return;
	const struct policy_trace t = {
		.run = r,
		.phase = policy_phases[r->phase].name,
		.hook = l->hook.name,
		.where = l->hook.where,
		.answer = answer,
		.usec = clock_mono() - r->state.started,
	};
	p->trace(p->trace_arg, &t);
}

/* The one exit of every failure: whatever was said before, the answer is "later". */
static void
run_refuse(const struct policy *p, struct policy_run *r, const char *module)
{
	struct bytes text = { 0 };

	bytes_addf(&text, "%s temporary issue, please retry your message later", p->hostname);
	r->verdict = (struct policy_verdict){ 0 };
	policy_reply(r, 421, slice_bytes(&text), true);
	r->verdict.failed = true;
	r->verdict.module = module;
	bytes_fini(&text);
}

/* Takes a hook's answer. True: the chain goes on behind it. */
static bool
run_settle(const struct policy *p, struct policy_run *r, const struct link *l, enum policy_answer a)
{
	static const char *const names[] = { "CONT", "DONE", "WAIT", "FAILED" };

	if (a == ANSWER_FAILED)
		run_refuse(p, r, l->hook.module);
	run_trace(p, r, l, names[a]);
	return a == ANSWER_CONT;
}

/* Runs hooks until the chain ends or one waits. */
static enum err
run_drive(struct policy_run *r)
{
	const struct policy *p = policy_session_policy(r->session);
	const struct chain *c = &p->chains[r->phase];

	for (; r->state.hook < c->n; r->state.hook++) {
		const struct link *l = &c->links[r->state.hook];

		if (p->trace != NULL)
			r->state.started = clock_mono();
		if (hook_bypassed(r, l)) {
			run_trace(p, r, l, "BYPASS");
			continue;
		}
		r->state.in_hook = true;
		const enum policy_answer a = l->hook.fn(r, l->hook.arg);
		r->state.in_hook = false;
		if (a == ANSWER_WAIT) {
			require_that(r->state.cancel != NULL, "policy");
			r->state.waits = true;
			return ERR_AGAIN;
		}
		if (!run_settle(p, r, l, a))
			break;
	}
	r->state.running = false;
	return OK;
}

enum err
policy_run(struct policy_run *r)
{
	const struct bytes text = r->state.text;

	require_that(!r->state.running, "policy");
	r->state = (struct policy_run_state){ .running = true, .text = text };
	r->state.text.n = 0;
	r->verdict = (struct policy_verdict){ .module = "" };
	return run_drive(r);
}

void
policy_waits(struct policy_run *r, void (*cancel)(struct policy_run *r, void *arg), void *arg)
{
	r->state.cancel = cancel;
	r->state.cancel_arg = arg;
}

void
policy_answer(struct policy_run *r, enum policy_answer a)
{
	const struct policy *p = policy_session_policy(r->session);
	const struct link *l = &p->chains[r->phase].links[r->state.hook];

	require_that(r->state.waits && !r->state.in_hook && a != ANSWER_WAIT, "policy");
	r->state.waits = false;
	r->state.cancel = NULL;
	if (run_settle(p, r, l, a)) {
		r->state.hook++;
		if (run_drive(r) == ERR_AGAIN)
			return;
	}
	r->state.running = false;
	r->done(r, r->arg); /* r may be gone after this */
}

void
policy_cancel(struct policy_run *r)
{
	if (r->state.waits) {
		r->state.waits = false;
		r->state.cancel(r, r->state.cancel_arg);
		r->state.cancel = NULL;
	}
	r->state.running = false;
}

void
policy_run_fini(struct policy_run *r)
{
	policy_cancel(r);
	bytes_fini(&r->state.text);
	r->state = (struct policy_run_state){ 0 };
	r->verdict = (struct policy_verdict){ .module = "" };
}

enum err
policy_reply(struct policy_run *r, int code, struct slice text, bool disconnect)
{
	const struct policy *p = policy_session_policy(r->session);
	const struct chain *c = &p->chains[r->phase];

	if (code < 200 || code > 599 || (disconnect && code < 400))
		return ERR_RANGE;
	if (text.n > REPLY_TEXT_MAX)
		text.n = REPLY_TEXT_MAX;
	r->state.text.n = 0;
	bytes_add_slice(&r->state.text, text);
	for (size_t i = 0; i < r->state.text.n; i++)
		if ((unsigned char)r->state.text.p[i] < 0x20 || r->state.text.p[i] == 0x7f)
			r->state.text.p[i] = ' ';
	r->verdict.kind = VERDICT_REPLY;
	r->verdict.code = code;
	r->verdict.text = slice_of(bytes_cstr(&r->state.text), r->state.text.n);
	r->verdict.disconnect = disconnect;
	r->verdict.module = r->state.hook < c->n ? c->links[r->state.hook].hook.module : "";
	return OK;
}
