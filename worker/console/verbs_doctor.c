/* verbs_doctor.c - is the service well: asks keeper and resolver, makes the checks, says what to do
 * Whoever is asked has a deadline: that he does not answer is a finding, not a failure of the command. */
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include "policy/conf/conf.h"
#include "shm/base/mem.h"
#include "worker/console/doctor.h"

enum { DOCTOR_SECONDS = 10, SLOW_COMMIT_MS = 5000 };

static void
doctor_free(void *own)
{
	struct doctor *d = own;

	bytes_fini(&d->dns_said);
	free(d);
}

const char *
doctor_size(uint64_t bytes, char out[24])
{
	static const char *const units[] = { "bytes", "KiB", "MiB", "GiB", "TiB" };
	double v = (double)bytes;
	int u = 0;

	for (; v >= 1024 && u < 4; u++)
		v /= 1024;
	snprintf(out, 24, u == 0 ? "%.0f %s" : "%.1f %s", v, units[u]);
	return out;
}

static const char *
grade_text(enum doctor_grade g)
{
	static const char *const text[] = { "ok", "warning", "critical" };

	return text[g];
}

void
doctor_say(struct doctor *d, const char *check, enum doctor_grade grade, const char *advice, const char *fmt, ...)
{
	struct answer *a = &d->c->answer;
	char figure[512];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(figure, sizeof figure, fmt, ap);
	va_end(ap);
	d->worst = grade > d->worst ? grade : d->worst;
	answer_cell_str(a, slice_str(check));
	answer_cell_str(a, slice_str(grade_text(grade)));
	answer_cell_str(a, slice_str(figure));
	answer_cell_str(a, slice_str(grade == DOCTOR_OK ? "" : advice));
}

/* ---- what was asked ---- */

static void
say_keeper(struct doctor *d)
{
	int64_t tail = shm_total(d->c->console->env->area, CELL_TAIL_BYTES);
	long long ms = (long long)(d->commit_took / USEC_PER_MS);
	char size[24];

	doctor_size(tail > 0 ? (uint64_t)tail : 0, size);
	if (d->taking_over && (!d->commit_there || d->commit == ERR_EOF))
		doctor_say(d, "keeper", d->commit_there ? DOCTOR_OK : DOCTOR_WARNING, "ask again",
			   "a new generation takes over, and with it the next keeper");
	else if (!d->commit_there)
		doctor_say(d, "keeper", DOCTOR_CRITICAL, "see the paniclog; the master starts a keeper that hangs anew",
			   "no commit within %d s, %s not folded", DOCTOR_SECONDS, size);
	else if (d->commit == ERR_EOF)
		doctor_say(d, "keeper", DOCTOR_CRITICAL, "see the paniclog; the master starts the next one",
			   "none is there, or it ended when it was asked, %s not folded", size);
	else if (d->commit != OK)
		doctor_say(d, "keeper", DOCTOR_CRITICAL, "see the paniclog; mail flows on, the index lags",
			   "cannot commit: %s, %s not folded", err_text(d->commit), size);
	else
		doctor_say(d, "keeper", ms > SLOW_COMMIT_MS ? DOCTOR_WARNING : DOCTOR_OK,
			   "the disk or the processor is overloaded", "committed in %lld ms when asked", ms);
}

static void
say_dns(struct doctor *d)
{
	struct slice said = slice_bytes(&d->dns_said);
	const char *advice = "look at resolv_conf, and at the servers named there; mail that needs DNS waits";

	if (d->taking_over && (!d->dns_asked || (d->dns_there && d->dns == ERR_EOF)))
		doctor_say(d, "dns", DOCTOR_OK, "", "a new generation takes over, and its workers are not asked yet");
	else if (!d->dns_asked)
		doctor_say(d, "dns", DOCTOR_CRITICAL, "see processes", "no worker serves that could ask");
	else if (!d->dns_there)
		doctor_say(d, "dns", DOCTOR_CRITICAL, advice, "no word from the worker within %d s", DOCTOR_SECONDS);
	else
		doctor_say(d, "dns", d->dns == OK ? DOCTOR_OK : DOCTOR_CRITICAL, advice, "%s%.*s",
			   d->dns == OK ? "the resolver answers: " : "", said.n != 0 ? (int)said.n : 512,
			   said.n != 0 ? said.p : err_text(d->dns));
}

/* ---- the answer ---- */

static void
report(struct doctor *d)
{
	static const char *const columns[] = { "check", "status", "figure", "advice" };
	struct command *c = d->c;

	d->taking_over = doctor_takes_over(c->console->env);
	answer_table(&c->answer, "checks", columns, 4);
	doctor_disk(d);
	doctor_index(d);
	say_keeper(d);
	doctor_last_commit(d);
	doctor_journals(d);
	doctor_mail(d);
	doctor_processes(d);
	doctor_limits(d);
	say_dns(d);
	doctor_logs(d);
	doctor_clock(d);
	answer_table_end(&c->answer, NULL);
	answer_str(&c->answer, "status", slice_str(grade_text(d->worst)));
	c->status = (unsigned)d->worst;
	command_end(c, OK);
}

static void
report_when_all(struct doctor *d)
{
	if (d->commit_there == d->commit_asked && d->dns_there == d->dns_asked)
		report(d);
}

static void
on_late(void *arg)
{
	struct command *c = arg;

	report(c->own);
}

static void
on_commit(void *arg, enum err status, struct slice payload, bool more)
{
	struct command *c = arg;
	struct doctor *d = c->own;

	(void)payload;
	if (more)
		return;
	d->commit_there = true;
	d->commit = status;
	d->commit_took = clock_mono() - d->began;
	report_when_all(d);
}

static void
on_dns(void *arg, enum err status, struct slice payload, bool more)
{
	struct command *c = arg;
	struct doctor *d = c->own;

	bytes_add_slice(&d->dns_said, payload);
	if (more)
		return;
	d->dns_there = true;
	d->dns = status;
	report_when_all(d);
}

/* A name that no cache has, so that the question goes out: that there is none is an answer. */
static void
ask_dns(struct doctor *d, int slot)
{
	struct console *k = d->c->console;
	struct bytes name = { 0 }, ask = { 0 };

	bytes_addf(&name, "doctor-%llx.%s", (unsigned long long)clock_real(),
		   conf_str(conf_global(k->env->conf), OPT_HOSTNAME));
	ask_about_encode(ASK_ABOUT_DNS, slice_bytes(&name), &ask);
	d->dns_asked = req_ask(k->channel, REQ_WORKER_ASK, (uint8_t)slot, slice_bytes(&ask), on_dns, d->c) == OK;
	bytes_fini(&name);
	bytes_fini(&ask);
}

enum err
verb_doctor(struct command *c)
{
	struct console *k = c->console;
	struct doctor *d = mem_zalloc(sizeof *d);
	struct slot_who who;

	d->c = c;
	d->began = clock_mono();
	c->own = d;
	c->own_free = doctor_free;
	d->committed_at = shm_total(k->env->area, CELL_COMMITTED_AT);
	d->commit_asked = true;
	d->commit = req_ask(k->channel, REQ_KEEPER_COMMIT, REQ_TO_KEEPER, SLICE(""), on_commit, c);
	d->commit_there = d->commit != OK;
	for (int slot = 0; slot < SLOTS_MAX && !d->dns_asked; slot++)
		if (slot_who(shm_slot(k->env->area, slot), &who) && who.role == ROLE_WORKER &&
		    who.state == SLOT_SERVING)
			ask_dns(d, slot);
	loop_timer_set(k->loop, &c->deadline, loop_now(k->loop) + DOCTOR_SECONDS * USEC_PER_SEC, on_late, c);
	return ERR_AGAIN;
}
