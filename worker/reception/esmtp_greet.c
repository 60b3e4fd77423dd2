/* The greeting, EHLO and HELO. */
#include <stdlib.h>

#include "shm/base/mem.h"
#include "worker/reception/esmtp_int.h"
#include "worker/reception/reception_options.h"

static const char *
host_name(const struct esmtp *s)
{
	const char *own = conf_str(s->view, OPT_BANNER_HOSTNAME);

	return own[0] != '\0' ? own : policy_hostname(s->r->env.policy);
}

static void
greet_now(struct esmtp *s)
{
	const struct policy_verdict *v = &s->run.verdict;
	const char *fixed = conf_str(s->view, OPT_STATIC_BANNER);

	if (!policy_verdict_refuses(v))
		esmtp_enter(s, ES_BANNER);
	else
		s->current->last = true;
	if (v->kind == VERDICT_REPLY)
		esmtp_reply_verdict(s->current, v, 220, "");
	else if (strncmp(fixed, "220", 3) == 0)
		esmtp_reply(s->current, 220, fixed + (fixed[3] == ' ' ? 4 : 3));
	else
		esmtp_replyf(s->current, 220, "%s ESMTP", host_name(s));
}

void
esmtp_greet(struct esmtp *s)
{
	(void)esmtp_cmd_new(s, NULL);
	if (esmtp_ask(s, PHASE_CONNECT, NULL, slice_of(NULL, 0), greet_now) == OK)
		greet_now(s);
}

/* Capabilities that policy adds and takes away. */

static bool
capability_add(void *session, struct slice keyword)
{
	struct esmtp *s = session;

	if (keyword.n == 0 || keyword.n > 200 || s->caps.n > 4096)
		return false;
	for (size_t i = 0; i < keyword.n; i++)
		if ((unsigned char)keyword.p[i] < ' ' || (unsigned char)keyword.p[i] > '~')
			return false;
	bytes_add_slice(&s->caps, keyword);
	bytes_add_char(&s->caps, '\n');
	return true;
}

/* Only what policy itself added can go: what we offer we also do. */
static bool
capability_remove(void *session, struct slice keyword)
{
	struct esmtp *s = session;
	struct bytes left = { 0 };
	struct slice at = slice_bytes(&s->caps);
	bool found = false;

	while (at.n > 0) {
		size_t n = slice_find(at, '\n');
		struct slice line = slice_of(at.p, n);

		if (slice_ieq(slice_of(line.p, slice_find(line, ' ')), keyword))
			found = true;
		else
			bytes_add(&left, at.p, n + 1);
		at = slice_of(at.p + n + 1, at.n - n - 1);
	}
	bytes_fini(&s->caps);
	s->caps = left;
	return found;
}

const struct policy_view_ops esmtp_view_ops = { .capability_add = capability_add,
						.capability_remove = capability_remove };

static void
ehlo_reply(struct esmtp *s)
{
	struct bytes text = { 0 };
	int64_t max = conf_int(s->view, OPT_MAX_MESSAGE_SIZE);
	bool plain_codes = conf_is_set(s->view, OPT_SMTP_EXTENSIONS) &&
			   !conf_has_word(s->view, OPT_SMTP_EXTENSIONS, "ENHANCEDSTATUSCODES");

	bytes_addf(&text, "%s says EHLO to %s\n", host_name(s), s->peer);
	if (max > 0)
		bytes_addf(&text, "SIZE %lld\n", (long long)max);
	else
		bytes_add_str(&text, "SIZE\n");
	bytes_add_str(&text, "8BITMIME\nSMTPUTF8\n");
	if (!plain_codes)
		bytes_add_str(&text, "ENHANCEDSTATUSCODES\n");
	bytes_add_slice(&text, slice_bytes(&s->caps));
	bytes_add_str(&text, "PIPELINING");
	esmtp_reply_slice(s->current, 250, slice_bytes(&text));
	bytes_fini(&text);
}

static void
greeted(struct esmtp *s)
{
	const struct policy_verdict *v = &s->run.verdict;

	if (policy_verdict_refuses(v)) {
		esmtp_reply_verdict(s->current, v, 0, "");
		return;
	}
	/* EHLO is a RSET too (RFC 5321 4.1.4). */
	esmtp_txn_drop(s);
	if (s->state != ES_READY)
		esmtp_enter(s, ES_READY);
	if (v->kind == VERDICT_REPLY && !s->extended)
		esmtp_reply_verdict(s->current, v, 0, "");
	else if (s->extended)
		ehlo_reply(s);
	else
		esmtp_replyf(s->current, 250, "%s says HELO to %s", host_name(s), s->peer);
}

static bool
check(struct esmtp_cmd *c, struct slice args, const char *text)
{
	struct slice name;

	if (args_helo(args, &name) == ARGS_OK)
		return true;
	esmtp_reply(c, 501, text);
	return false;
}

bool
esmtp_check_ehlo(struct esmtp_cmd *c, struct slice args)
{
	return check(c, args, "5.5.2 invalid EHLO");
}

bool
esmtp_check_helo(struct esmtp_cmd *c, struct slice args)
{
	return check(c, args, "5.5.2 invalid HELO");
}

static void
run(struct esmtp_cmd *c, struct slice args, bool extended)
{
	struct esmtp *s = c->s;
	struct policy_context *context = policy_session_conn(s->policy);

	s->extended = extended;
	free(s->helo);
	s->helo = slice_dup(args);
	(void)policy_context_set(context, SLICE("ehlo_string"), s->line);
	(void)policy_context_set(context, SLICE("ehlo_domain"), args);
	if (esmtp_ask(s, PHASE_EHLO, NULL, slice_str(s->helo), greeted) == OK)
		greeted(s);
}

void
esmtp_run_ehlo(struct esmtp_cmd *c, struct slice args)
{
	run(c, args, true);
}

void
esmtp_run_helo(struct esmtp_cmd *c, struct slice args)
{
	run(c, args, false);
}
