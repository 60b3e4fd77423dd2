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

#include <cmocka.h>

#include "shm/base/mem.h"
#include "t/policy/worker.h"

#define SCRIPTS "t/policy"

/* --- the worker that policy thinks it has ------------------------------------------------------------------------- */

struct answer {
	char name[128], type[8];
	const char *error;
	unsigned n;
	struct policy_dns_row rows[8];
	char text[256];
};

struct world {
	struct worker worker; /* the first: what is answered is found by it */
	struct lua_host_conf conf;
	struct answer answers[8];
	unsigned nanswers;
	struct bytes log;
	usec_t tick;
};

static bool
answer(struct worker *w, struct wait *wait)
{
	const struct world *world = (const struct world *)(const void *)w;
	const struct answer *a = NULL;

	for (unsigned i = 0; i < world->nanswers; i++)
		if (strcmp(world->answers[i].name, wait->name) == 0 && strcmp(world->answers[i].type, wait->type) == 0)
			a = &world->answers[i];
	if (a == NULL)
		return false;
	wait->live = false;
	wait->dns(wait->arg, a->error, a->rows, a->n);
	return true;
}

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
add_script(struct world *w, const char *name, const char *path)
{
	size_t n;
	char *text = read_text(path, &n);

	assert_int_equal(policy_bundle_add(w->worker.bundle, name, path, slice_of(text, n)), OK);
	free(text);
}

static void
world_open(struct world *w)
{
	*w = (struct world){ .conf = { .max_instructions = 1000000,
				       .max_memory = 4 << 20,
				       .state_memory = 16 << 20,
				       .max_time = 10 * USEC_PER_SEC } };
	worker_open(&w->worker, answer, sink, w);
	worker_tick = 0;
}

static void
world_close(struct world *w)
{
	worker_close(&w->worker);
	bytes_fini(&w->log);
}

/* --- directives ----------------------------------------------------------------------------------------------------
 */

static void
check_reply(const struct world *w, const char *want, const char *line)
{
	const struct policy_verdict *v = &w->worker.run.verdict;
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

	if (!policy_msg_discarded(w->worker.run.msg, &why) || strstr(why.p, want) == NULL)
		fail_msg("%s: not discarded so", line);
}

static void
do_phase(struct world *w, enum policy_phase phase, const char *want, const char *line)
{
	enum err e = worker_phase(&w->worker, phase);

	if (strcmp(want, "cancel") == 0) {
		assert_int_equal(e, ERR_AGAIN);
		policy_cancel(&w->worker.run);
		assert_false(w->worker.done);
		return;
	}
	const bool late = strcmp(want, "late") == 0;
	if (late)
		assert_int_equal(e, ERR_AGAIN);
	for (int i = 0; e == ERR_AGAIN && !w->worker.done && i < 1000; i++)
		if (!worker_turn(&w->worker, late ? INT64_MAX : worker_now + USEC_PER_SEC))
			break;
	if (e == ERR_AGAIN && !w->worker.done)
		fail_msg("%s: still waits", line);
	bytes_cstr(&w->log);
	if (late) {
		check_reply(w, "421", line);
	} else if (strcmp(want, "cont") == 0) {
		if (w->worker.run.verdict.kind != VERDICT_CONT)
			fail_msg("%s: got %d %s\n%s", line, w->worker.run.verdict.code, w->worker.run.verdict.text.p,
				 w->log.p);
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
	struct policy_msg *m = w->worker.clone != NULL ? w->worker.clone : w->worker.msg;

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
		check_has("capabilities", slice_bytes(&w->worker.capabilities), rest, true, line);
	else
		fail_msg("%s: what is that?", line);
}

static void
directive(struct world *w, const char *word, char *rest, const char *line)
{
	if (strcmp(word, "dns") == 0) {
		add_answer(w, rest);
	} else if (strcmp(word, "session") == 0) {
		worker_session_end(&w->worker);
		worker_session(&w->worker);
	} else if (strcmp(word, "bypass") == 0) {
		char key[64];

		snprintf(key, sizeof(key), "__bypass_%s", rest);
		policy_context_set(policy_session_conn(w->worker.session), slice_str(key), SLICE("true"));
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
	w->conf.bundle = w->worker.bundle;
	w->worker.host = lua_host_new(w->worker.policy, &w->conf, &errs);
	bytes_cstr(&errs);
	if (load != NULL) {
		assert_null(w->worker.host);
		check_has("errors", slice_bytes(&errs), load, true, load);
	} else if (w->worker.host == NULL) {
		fail_msg("does not load:\n%s", errs.p);
	}
	bytes_fini(&errs);
	return w->worker.host != NULL;
}

static void
check_healthy(struct world *w)
{
	struct lua_host_stats stats;

	worker_session_end(&w->worker);
	worker_session(&w->worker);
	worker_tick = 0;
	assert_int_equal(worker_phase(&w->worker, PHASE_EHLO), OK);
	check_reply(w, "250 healthy client.example", "afterwards");
	lua_host_stats(w->worker.host, &stats);
	assert_int_equal(stats.waiting, 0);
	assert_false(worker_waits(&w->worker));
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
			worker_session(&w.worker);
			worker_tick = w.tick;
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
