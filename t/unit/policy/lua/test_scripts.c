/* Runs every t/policy/NAME.lua in a host of its own, together with t/policy/healthy.lua, and checks what the script's
 * own head says. Directives, in order, each a line "--! WORD ...": steps N | memory N | seconds N | tick N    budgets;
 * usec that each look at the clock takes (before anything runs) load TEXT            loading must fail and say TEXT;
 * nothing else is done dns NAME TYPE = A B  the fake resolver's answer (rows; "10/name" has a preference) dns NAME TYPE
 * ! ERR  ... its error; without a row a question is never answered PHASE cont           runs the phase: no opinion
 *   PHASE CODE TEXT      ... a reply that begins with CODE and has TEXT; 421 alone: our refusal after a failure
 *   PHASE discard TEXT   ... the message is discarded
 *   PHASE cancel         ... must wait, and is cancelled
 *   PHASE late           ... must wait until its time is over, and end as a failure
 *   session new          the session and its message end, another begins
 *   log TEXT | nolog TEXT    the paniclog so far has (has not) TEXT
 *   header TEXT | body TEXT | conn KEY=VALUE | mess KEY=VALUE | binding NAME | capability NAME   what stands there now
 *   bypass NAME          sets __bypass_NAME
 * At the end, whatever happened, the healthy module must still answer, and nothing may be left waiting. */
#include <dirent.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <arpa/inet.h>
#include <cmocka.h>

#include "policy/lua/lua_host.h"
#include "shm/base/log.h"
#include "shm/base/mem.h"

#define SCRIPTS "t/policy"

/* --- the worker that policy thinks it has ------------------------------------------------------------------------- */

struct answer {
	char name[128], type[8];
	const char *error;
	unsigned n;
	struct policy_dns_row rows[8];
	char text[256];
};

struct wait {
	bool live;
	policy_dns_done *dns;
	void (*timer)(void *arg);
	void *arg;
	usec_t at;
	const struct answer *answer;
};

struct world {
	struct policy_host_ops ops;
	struct policy *policy;
	struct lua_host *host;
	struct policy_session *session;
	struct policy_msg *msg, *clone;
	struct policy_bundle *bundle;
	struct lua_host_conf conf;
	struct answer answers[8];
	unsigned nanswers;
	struct wait waits[16];
	struct bytes log, capabilities;
	struct policy_run run;
	bool done;
	usec_t tick;
};

static usec_t now_mono = 1000000;
static usec_t tick;

static usec_t
fake_mono(void)
{
	return now_mono += tick;
}

static usec_t
fake_real(void)
{
	return INT64_C(1700000000) * USEC_PER_SEC;
}

static struct wait *
wait_new(struct world *w)
{
	for (size_t i = 0; i < sizeof(w->waits) / sizeof(w->waits[0]); i++) {
		if (!w->waits[i].live) {
			w->waits[i] = (struct wait){ .live = true };
			return &w->waits[i];
		}
	}
	fail_msg("too many waits at once");
	return NULL;
}

static void *
dns_start(void *arg, const char *name, const char *type, policy_dns_done *done, void *done_arg)
{
	struct world *w = arg;
	struct wait *wait = wait_new(w);

	wait->dns = done;
	wait->arg = done_arg;
	for (unsigned i = 0; i < w->nanswers; i++)
		if (strcmp(w->answers[i].name, name) == 0 && strcmp(w->answers[i].type, type) == 0)
			wait->answer = &w->answers[i];
	return wait;
}

static void
dns_cancel(void *arg, void *query)
{
	(void)arg;
	assert_true(((struct wait *)query)->live);
	((struct wait *)query)->live = false;
}

static void *
timer_start(void *arg, usec_t at, void (*fn)(void *fn_arg), void *fn_arg)
{
	struct wait *wait = wait_new(arg);

	wait->timer = fn;
	wait->arg = fn_arg;
	wait->at = at;
	return wait;
}

/* One thing that is due, as the loop would; false: nothing is. */
static bool
turn(struct world *w, bool late)
{
	struct wait *next = NULL;

	for (size_t i = 0; i < sizeof(w->waits) / sizeof(w->waits[0]); i++) {
		struct wait *wait = &w->waits[i];

		if (!wait->live)
			continue;
		if (wait->dns != NULL && wait->answer != NULL) {
			wait->live = false;
			wait->dns(wait->arg, wait->answer->error, wait->answer->rows, wait->answer->n);
			return true;
		}
		if (wait->timer != NULL && (next == NULL || wait->at < next->at))
			next = wait;
	}
	if (next == NULL || (!late && next->at > now_mono + USEC_PER_SEC))
		return false;
	if (next->at > now_mono)
		now_mono = next->at;
	next->live = false;
	next->timer(next->arg);
	return true;
}

static bool
capability_add(void *session, struct slice name)
{
	struct world *w = session;

	bytes_add_slice(&w->capabilities, name);
	bytes_add_char(&w->capabilities, '\n');
	return true;
}

static bool
capability_remove(void *session, struct slice name)
{
	(void)session;
	(void)name;
	return true;
}

static int64_t
inbound_sessions(void *session, struct slice cidr, struct slice service)
{
	(void)session;
	if (!slice_eq(service, SLICE("SMTP")))
		return -1;
	return cidr.n == 0 ? 3 : 7;
}

static bool
binding_known(void *arg, struct slice name)
{
	(void)arg;
	return slice_eq(name, SLICE("out1"));
}

static const struct policy_view_ops view = { capability_add, capability_remove, inbound_sessions };

static void
sink(void *arg, enum log_level level, const char *line, size_t len)
{
	struct world *w = arg;

	(void)level;
	bytes_add(&w->log, line, len);
	bytes_add_char(&w->log, '\n');
}

/* --- the fixture ---------------------------------------------------------------------------------------------------
 */

static char *
read_text(const char *path, size_t *n)
{
	struct bytes b = { 0 };
	const int fd = open(path, O_RDONLY | O_CLOEXEC);
	ssize_t got;

	assert_true(fd >= 0);
	while ((got = read(fd, bytes_room(&b, 4096), 4096)) > 0)
		b.n += (size_t)got;
	close(fd);
	bytes_cstr(&b);
	*n = b.n;
	return b.p;
}

static void
session_begin(struct world *w)
{
	struct policy_session_env env = { .ops = &view, .owner = w, .conn = 0x1234, .protocol = POLICY_ESMTP };
	struct sockaddr_in *in = (struct sockaddr_in *)(void *)&env.remote;
	const struct policy_msg_env mail = { .sender = SLICE("from@sender.example"),
					     .rcpt = SLICE("to@example.com"),
					     .id = 1,
					     .batch = 2,
					     .conn = 0x1234 };

	in->sin_family = AF_INET;
	in->sin_port = htons(4321);
	in->sin_addr.s_addr = inet_addr("192.0.2.7");
	w->session = policy_session_new(w->policy, &env);
	w->msg = policy_msg_new(w->session, &mail);
	policy_msg_replace_header(w->msg, SLICE("Received: from x by y\r\nSubject: =?iso-8859-1?Q?caf=E9?= au\r\n"
						" lait\r\nTo: <to@example.com>\r\n"));
	policy_msg_replace_body(w->msg, SLICE("\r\nHello\r\nworld\r\n"));
}

static void
session_end(struct world *w)
{
	policy_run_fini(&w->run);
	policy_msg_free(&w->clone);
	policy_msg_free(&w->msg);
	policy_session_free(&w->session);
}

static void
add_script(struct world *w, const char *name, const char *path)
{
	size_t n;
	char *text = read_text(path, &n);

	assert_int_equal(policy_bundle_add(w->bundle, name, path, slice_of(text, n)), OK);
	free(text);
}

static void
world_open(struct world *w)
{
	*w = (struct world){ .conf = { .max_instructions = 1000000,
				       .max_memory = 4 << 20,
				       .state_memory = 16 << 20,
				       .max_time = 10 * USEC_PER_SEC } };
	w->ops = (struct policy_host_ops){ dns_start, dns_cancel, timer_start, dns_cancel, binding_known, w };
	w->policy = policy_new("mx.example.test", &w->ops);
	w->bundle = policy_bundle_new();
	log_set_sink(sink, w);
	clock_set_source(fake_mono, fake_real);
	tick = 0;
}

static void
world_close(struct world *w)
{
	session_end(w);
	lua_host_free(&w->host);
	policy_free(&w->policy);
	policy_bundle_free(&w->bundle);
	bytes_fini(&w->log);
	bytes_fini(&w->capabilities);
	log_set_sink(NULL, NULL);
	clock_set_source(NULL, NULL);
}

/* --- directives ----------------------------------------------------------------------------------------------------
 */

static void
on_done(struct policy_run *r, void *arg)
{
	(void)r;
	((struct world *)arg)->done = true;
}

/* In the phases of one recipient a clone is what they see, as in reception. */
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

static enum err
run_phase(struct world *w, enum policy_phase phase)
{
	policy_run_fini(&w->run);
	w->done = false;
	w->run.phase = phase;
	w->run.session = w->session;
	w->run.msg = msg_for(w, phase);
	w->run.str = phase == PHASE_EHLO ? SLICE("client.example") : SLICE("someone@example.net");
	w->run.done = on_done;
	w->run.arg = w;
	return policy_run(&w->run);
}

static void
check_reply(const struct world *w, const char *want, const char *line)
{
	const struct policy_verdict *v = &w->run.verdict;
	char *text;
	const int code = (int)strtol(want, &text, 10);

	text += strspn(text, " ");
	if (v->kind != VERDICT_REPLY || v->code != code || strstr(v->text.p, text) == NULL)
		fail_msg("%s: got %d \"%s\"\n%s", line, v->code, v->kind == VERDICT_REPLY ? v->text.p : "",
			 w->log.n > 0 ? w->log.p : "");
	if (*text == '\0' && code == 421) {
		assert_true(v->failed && v->disconnect);
		assert_string_equal(v->module, "scriptlet");
		assert_string_equal(v->text.p, "mx.example.test temporary issue, please retry your message later");
	}
}

static void
check_discard(struct world *w, const char *want, const char *line)
{
	struct slice why;

	if (!policy_msg_discarded(w->run.msg, &why) || strstr(why.p, want) == NULL)
		fail_msg("%s: not discarded so", line);
}

static void
do_phase(struct world *w, enum policy_phase phase, const char *want, const char *line)
{
	enum err e = run_phase(w, phase);

	if (strcmp(want, "cancel") == 0) {
		assert_int_equal(e, ERR_AGAIN);
		policy_cancel(&w->run);
		assert_false(w->done);
		return;
	}
	const bool late = strcmp(want, "late") == 0;
	if (late)
		assert_int_equal(e, ERR_AGAIN);
	for (int i = 0; e == ERR_AGAIN && !w->done && i < 1000; i++)
		if (!turn(w, late))
			break;
	if (e == ERR_AGAIN && !w->done)
		fail_msg("%s: still waits", line);
	bytes_cstr(&w->log);
	if (late) {
		check_reply(w, "421", line);
	} else if (strcmp(want, "cont") == 0) {
		if (w->run.verdict.kind != VERDICT_CONT)
			fail_msg("%s: got %d %s\n%s", line, w->run.verdict.code, w->run.verdict.text.p, w->log.p);
	} else if (strncmp(want, "discard ", 8) == 0) {
		check_discard(w, want + 8, line);
	} else {
		check_reply(w, want, line);
	}
}

static void
add_answer(struct world *w, char *spec)
{
	struct answer *a = &w->answers[w->nanswers++];
	char *save, *word;
	int used = 0;
	char how;

	assert_int_equal(sscanf(spec, "%127s %7s %c %n", a->name, a->type, &how, &used), 3);
	snprintf(a->text, sizeof(a->text), "%s", spec + used);
	if (how == '!') {
		a->error = a->text;
		return;
	}
	for (word = strtok_r(a->text, " ", &save); word != NULL; word = strtok_r(NULL, " ", &save)) {
		struct policy_dns_row *row = &a->rows[a->n++];
		const char *slash = strchr(word, '/');

		row->preference = slash == NULL ? 0 : (unsigned)atoi(word);
		row->text = slice_str(slash == NULL ? word : slash + 1);
	}
}

static void
check_has(const char *what, struct slice text, const char *want, bool has, const char *line)
{
	if ((memmem(text.p, text.n, want, strlen(want)) != NULL) != has)
		fail_msg("%s: %s is\n%.*s", line, what, (int)text.n, text.p);
}

static void
check_block(const char *what, struct policy_block *b, const char *want, const char *line)
{
	struct slice s = { 0 };

	assert_int_equal(policy_block_bytes(b, &s), OK);
	check_has(what, s, want, true, line);
}

static void
check_context(const struct policy_context *c, const char *want, const char *line)
{
	struct bytes text = { 0 };

	policy_context_print(c, &text);
	bytes_add_char(&text, ',');
	check_has("context", slice_bytes(&text), want, true, line);
	bytes_fini(&text);
}

static void
check_state(struct world *w, const char *word, const char *rest, const char *line)
{
	struct policy_msg *m = w->clone != NULL ? w->clone : w->msg;

	if (strcmp(word, "log") == 0 || strcmp(word, "nolog") == 0)
		check_has("log", slice_bytes(&w->log), rest, word[0] == 'l', line);
	else if (strcmp(word, "header") == 0)
		check_block("header", policy_msg_header(m), rest, line);
	else if (strcmp(word, "body") == 0)
		check_block("body", policy_msg_body(m), rest, line);
	else if (strcmp(word, "conn") == 0)
		check_context(policy_msg_conn_context(m), rest, line);
	else if (strcmp(word, "mess") == 0)
		check_context(policy_msg_mess_context(m), rest, line);
	else if (strcmp(word, "binding") == 0)
		assert_string_equal(policy_msg_binding(m).p, rest);
	else if (strcmp(word, "capability") == 0)
		check_has("capabilities", slice_bytes(&w->capabilities), rest, true, line);
	else
		fail_msg("%s: what is that?", line);
}

static void
directive(struct world *w, const char *word, char *rest, const char *line)
{
	if (strcmp(word, "dns") == 0) {
		add_answer(w, rest);
	} else if (strcmp(word, "session") == 0) {
		session_end(w);
		session_begin(w);
	} else if (strcmp(word, "bypass") == 0) {
		char key[64];

		snprintf(key, sizeof(key), "__bypass_%s", rest);
		policy_context_set(policy_session_conn(w->session), slice_str(key), SLICE("true"));
	} else {
		for (int p = 0; p < PHASE_MAX; p++) {
			if (strcmp(policy_phases[p].name, word) == 0) {
				do_phase(w, (enum policy_phase)p, rest, line);
				return;
			}
		}
		check_state(w, word, rest, line);
	}
}

/* Budgets are set before the host is made; false: this is no such line. */
static bool
setting(struct world *w, const char *word, const char *rest)
{
	const uint64_t n = strtoull(rest, NULL, 10);

	if (strcmp(word, "steps") == 0)
		w->conf.max_instructions = n;
	else if (strcmp(word, "memory") == 0)
		w->conf.max_memory = n;
	else if (strcmp(word, "ceiling") == 0)
		w->conf.state_memory = n;
	else if (strcmp(word, "seconds") == 0)
		w->conf.max_time = (usec_t)n * USEC_PER_SEC;
	else if (strcmp(word, "tick") == 0)
		w->tick = (usec_t)n;
	else
		return false;
	return true;
}

/* The host; false: the script says that it does not load, and it did not. */
static bool
host_open(struct world *w, const char *load)
{
	static const struct lua_host_script scripts[] = { { "site", "site" }, { "healthy", "healthy" } };
	struct bytes errs = { 0 };

	w->conf.scripts = scripts;
	w->conf.nscripts = 2;
	w->conf.bundle = w->bundle;
	w->host = lua_host_new(w->policy, &w->conf, &errs);
	bytes_cstr(&errs);
	if (load != NULL) {
		assert_null(w->host);
		check_has("errors", slice_bytes(&errs), load, true, load);
	} else if (w->host == NULL) {
		fail_msg("does not load:\n%s", errs.p);
	}
	bytes_fini(&errs);
	return w->host != NULL;
}

static void
check_healthy(struct world *w)
{
	struct lua_host_stats stats;

	session_end(w);
	session_begin(w);
	tick = 0;
	assert_int_equal(run_phase(w, PHASE_EHLO), OK);
	check_reply(w, "250 healthy client.example", "afterwards");
	lua_host_stats(w->host, &stats);
	assert_int_equal(stats.waiting, 0);
	for (size_t i = 0; i < sizeof(w->waits) / sizeof(w->waits[0]); i++)
		assert_false(w->waits[i].live);
}

/* Each "--! " line of the script to fn. */
struct lines {
	char *text, *save;
};

static bool
next_line(struct lines *l, char **word, char **rest, char *whole, size_t size)
{
	char *line;

	while ((line = strtok_r(l->text, "\n", &l->save)) != NULL) {
		l->text = NULL;
		if (strncmp(line, "--! ", 4) != 0)
			continue;
		snprintf(whole, size, "%s", line + 4);
		*word = line + 4;
		*rest = *word + strcspn(*word, " ");
		if (**rest != '\0')
			*(*rest)++ = '\0';
		return true;
	}
	return false;
}

static void
run_script(void **state)
{
	const char *path = *state;
	size_t n;
	char *text = read_text(path, &n), *word, *rest, whole[512];
	struct lines lines = { text, NULL };
	struct world w;
	bool open = false, loads = true;

	world_open(&w);
	add_script(&w, "site", path);
	add_script(&w, "healthy", SCRIPTS "/healthy.lua");
	add_script(&w, "lib.helper", SCRIPTS "/lib/helper.lua");
	while (loads && next_line(&lines, &word, &rest, whole, sizeof(whole))) {
		if (!open && setting(&w, word, rest))
			continue;
		if (!open) {
			loads = host_open(&w, strcmp(word, "load") == 0 ? rest : NULL);
			session_begin(&w);
			tick = w.tick;
			open = true;
		}
		if (loads)
			directive(&w, word, rest, whole);
	}
	assert_true(open); /* a script without directives tests nothing */
	if (loads)
		check_healthy(&w);
	world_close(&w);
	free(text);
}

static int
is_script(const struct dirent *ent)
{
	const size_t n = strlen(ent->d_name);

	return n > 4 && strcmp(ent->d_name + n - 4, ".lua") == 0 && strcmp(ent->d_name, "healthy.lua") != 0;
}

int
main(int argc, char **argv)
{
	struct dirent **list;
	const int n = scandir(SCRIPTS, &list, is_script, alphasort);
	struct CMUnitTest *tests;
	int count = 0;

	if (n <= 0) {
		fprintf(stderr, "no scripts in %s\n", SCRIPTS);
		return 1;
	}
	tests = calloc((size_t)n, sizeof(*tests));
	for (int i = 0; i < n; i++) {
		struct bytes path = { 0 };

		bytes_addf(&path, "%s/%s", SCRIPTS, list[i]->d_name);
		if (argc < 2 || strstr(list[i]->d_name, argv[1]) != NULL)
			tests[count++] = (struct CMUnitTest){ .name = mem_strdup(list[i]->d_name),
							      .test_func = run_script,
							      .initial_state = mem_strdup(bytes_cstr(&path)) };
		bytes_fini(&path);
		free(list[i]);
	}
	free(list);
	const int failed = _cmocka_run_group_tests("scripts", tests, (size_t)count, NULL, NULL);
	for (int i = 0; i < count; i++) {
		free((void *)(uintptr_t)tests[i].name);
		free(tests[i].initial_state);
	}
	free(tests);
	return failed;
}
