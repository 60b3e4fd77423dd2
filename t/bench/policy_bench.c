/* What policy costs: CPU time for a message's nine phases with a script that reads and writes contexts in each and adds
 * a header, without network and disk. Prints one line: microseconds a message, one message a session (the worst case),
 * and ten. The house's bound is 25. Usage: policy_bench [messages] */
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "policy/lua/lua_host.h"
#include "shm/base/log.h"

static const char script[] =
	"local core = require('msys.core')\n"
	"local CONN, MESS, CONT = core.VCTX_CONN, core.VCTX_MESS, core.VALIDATE_CONT\n"
	"local mod = {}\n"
	"function mod:validate_connect(ac, vctx) vctx:set(CONN, 'peer', ac.remote_addr) return CONT end\n"
	"function mod:validate_ehlo(str, ac, vctx)\n"
	"  if vctx:get(CONN, 'peer') == '' then return nil end\n"
	"  vctx:set(CONN, 'helo', tostring(str)) return CONT end\n"
	"function mod:validate_mailfrom(str, ac, vctx)\n"
	"  vctx:set(MESS, 'from', tostring(str)) vctx:set(MESS, 'score', 0) return CONT end\n"
	"function mod:validate_rcptto(msg, str, ac, vctx)\n"
	"  vctx:set(MESS, 'score', tonumber(vctx:get(MESS, 'score')) + 1) return CONT end\n"
	"function mod:validate_data(msg, ac, vctx)\n"
	"  if vctx:get(CONN, 'helo') == 'spam' then vctx:set_code(550, '5.7.1 no') return core.VALIDATE_DONE end\n"
	"  vctx:set(MESS, 'subject', msg:header('Subject')[1] or '') return CONT end\n"
	"function mod:validate_data_spool(msg, ac, vctx)\n"
	"  vctx:set(MESS, 'size', msg:get_message_size()) return CONT end\n"
	"function mod:validate_data_spool_each_rcpt(msg, ac, vctx)\n"
	"  msg:header('X-Score', vctx:get(MESS, 'score')) msg:context_set(MESS, 'binding', 'out1') return CONT end\n"
	"function mod:validate_set_binding(msg) msg:binding(msg:context_get(MESS, 'binding')) return CONT end\n"
	"function mod:core_final_validation(msg, ac, vctx) msg:context_set(MESS, 'final', msg.id) end\n"
	"msys.registerModule('site', mod)\n";

static const char header[] = "Received: from client.example ([192.0.2.1]:4321) by mx.example.test with ESMTP id 1;\r\n"
			     "\tFri, 21 Nov 2025 08:00:00 +0000\r\nFrom: Somebody <somebody@sender.example>\r\n"
			     "To: <someone@example.com>\r\nSubject: a message of the usual kind\r\n"
			     "Date: Fri, 21 Nov 2025 08:00:00 +0000\r\nMessage-ID: <1@sender.example>\r\n"
			     "MIME-Version: 1.0\r\nContent-Type: text/plain; charset=utf-8\r\n";

static void
ask(struct policy_run *r, enum policy_phase phase, struct policy_msg *msg, struct slice str)
{
	r->phase = phase;
	r->msg = msg;
	r->str = str;
	if (policy_run(r) != OK || r->verdict.kind != VERDICT_CONT) {
		fprintf(stderr, "phase %s: %d\n", policy_phases[phase].name, r->verdict.code);
		exit(1);
	}
}

static void
one_message(struct policy_session *s, struct policy_run *r)
{
	const struct policy_msg_env env = { .sender = SLICE("somebody@sender.example"),
					    .rcpt = SLICE("someone@example.com"),
					    .id = 1 };
	struct policy_msg *m = policy_msg_new(s, &env), *clone;

	ask(r, PHASE_MAILFROM, m, env.sender);
	ask(r, PHASE_RCPTTO, m, env.rcpt);
	policy_msg_set_header(m, policy_block_borrow(slice_of(header, sizeof(header) - 1), NULL, NULL));
	policy_msg_set_body(m, policy_block_borrow(SLICE("\r\nHello\r\n"), NULL, NULL));
	ask(r, PHASE_DATA, m, env.rcpt);
	ask(r, PHASE_DATA_SPOOL, m, env.rcpt);
	clone = policy_msg_clone(m, 2, env.rcpt);
	ask(r, PHASE_EACH_RCPT, clone, env.rcpt);
	ask(r, PHASE_SET_BINDING, clone, env.rcpt);
	ask(r, PHASE_FINAL, clone, env.rcpt);
	policy_msg_free(&clone);
	policy_msg_free(&m);
	policy_session_reset(s);
}

static double
measure(struct policy *p, int messages, int per_session)
{
	struct policy_session_env env = { .conn = 1, .protocol = POLICY_ESMTP };
	struct policy_run run = { 0 };
	struct timespec a, b;

	env.remote.ss_family = AF_INET;
	clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &a);
	for (int i = 0; i < messages; i += per_session) {
		struct policy_session *s = policy_session_new(p, &env);

		run.session = s;
		ask(&run, PHASE_CONNECT, NULL, SLICE(""));
		ask(&run, PHASE_EHLO, NULL, SLICE("client.example"));
		for (int k = 0; k < per_session; k++)
			one_message(s, &run);
		policy_session_free(&s);
	}
	clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &b);
	policy_run_fini(&run);
	return ((double)(b.tv_sec - a.tv_sec) * 1e6 + (double)(b.tv_nsec - a.tv_nsec) / 1e3) / messages;
}

int
main(int argc, char **argv)
{
	const int messages = argc > 1 ? atoi(argv[1]) : 200000;
	const struct policy_host_ops ops = { 0 };
	const struct lua_host_script scripts[] = { { "site", "site" } };
	struct policy *p = policy_new("mx.example.test", &ops);
	struct policy_bundle *bundle = policy_bundle_new();
	struct bytes errs = { 0 };
	const struct lua_host_conf conf = { .max_instructions = 10000000,
					    .max_memory = 64 << 20,
					    .max_time = 60 * USEC_PER_SEC,
					    .bundle = bundle,
					    .scripts = scripts,
					    .nscripts = 1 };

	policy_bundle_add(bundle, "site", "site.lua", slice_of(script, sizeof(script) - 1));
	struct lua_host *h = lua_host_new(p, &conf, &errs);
	if (h == NULL) {
		fprintf(stderr, "%s", bytes_cstr(&errs));
		return 1;
	}
	measure(p, messages / 10, 1);
	printf("policy: %.2f us of CPU a message, nine phases", measure(p, messages, 1));
	printf("; %.2f us with ten messages a session\n", measure(p, messages, 10));
	lua_host_free(&h);
	policy_free(&p);
	policy_bundle_free(&bundle);
	return 0;
}
