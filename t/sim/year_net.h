/* year_net.h - the network of test_year_sim.c: twins of the outbound connection and of the resolver
 * Hosts are up, refuse, say nothing, greylist, are busy, closed, or forget what they said (enum mode). */
#ifndef T_SIM_YEAR_NET_H
#define T_SIM_YEAR_NET_H

#include "t/sim/year_world.h"

/* ---- connections ---- */

/* Which life a connection is of: its dconn knows its queue's delivery. */
static int
life_of(const struct dconn *c)
{
	for (int i = 0; i < sim.n_open; i++)
		if (year.workers[sim.open[i]].d == c->q->d)
			return sim.open[i];
	MUST(false, "a connection of nobody");
	return 0;
}

/* How long the message has yet, where that is not long; else 0. */
static usec_t
last_moments(int mail)
{
	usec_t left = deadline_of(&sim.mail[mail]) - sim_real();

	return left > 0 && left < S(300) ? left : 0;
}

/* Soon; or at the very moment of the message's deadline, or just before, where that is near. */
static usec_t
answer_at(int mail)
{
	usec_t left = last_moments(mail);

	if (left == 0 || roll(2) == 0)
		return sim.now + MS(1 + roll(600));
	return sim.now + (roll(2) == 0 || left < S(1) ? left : left - MS(1 + roll(900)));
}

/* That a host cannot be reached is an answer, too: to whoever waits for it. */
static usec_t
connected_at(const struct smtp_client *c, const struct dconn *conn)
{
	const struct job *first = TAILQ_FIRST(&conn->q->waiting);

	if (year.far[c->host].mode == SILENT)
		return sim.now + S(c->timeouts.connect);
	if (year.far[c->host].mode == UP || first == NULL)
		return sim.now + MS(1 + roll(300));
	return answer_at(mail_no(first->m->id));
}

struct smtp_client *
smtp_client_new(const struct smtp_client_conf *conf)
{
	const struct sockaddr_in *to = (const struct sockaddr_in *)(const void *)conf->remote;
	struct smtp_client *c = NULL;

	for (int i = 0; i < CLIENTS && c == NULL; i++)
		c = year.clients[i].used ? NULL : &year.clients[i];
	MUST(c != NULL, "too many connections");
	*c = (struct smtp_client){ .used = true,
				   .ops = conf->ops,
				   .arg = conf->arg,
				   .host = (int)(ntohl(to->sin_addr.s_addr) & 0xff),
				   .timeouts = conf->timeouts };
	c->life = life_of(conf->arg);
	c->when = connected_at(c, conf->arg);
	year.permits = true;
	on_connect(c->life, conf->arg);
	return c;
}

void
smtp_client_free(struct smtp_client **cp)
{
	year.permits = true;
	if (*cp != NULL)
		(*cp)->used = false;
	*cp = NULL;
}

void
smtp_client_set_arg(struct smtp_client *c, void *arg)
{
	c->arg = arg;
	on_connect(c->life, arg);
}

void
smtp_client_send(struct smtp_client *c, const struct smtp_mail *mail)
{
	const struct dconn *conn = c->arg;

	MUST(c->at == RESTS && c->mail == NULL && !c->quit, "a mail to a connection that is not idle");
	c->mail = mail;
	c->mail_no = mail_no(conn->job->m->id);
	c->dot_may = c->lost = false;
	c->at = OPENS;
	c->when = sim.now + (year.far[c->host].mode == SILENT ? S(c->timeouts.mailfrom) : MS(1 + roll(200)));
	year.sends++;
	on_send(c->life, c->mail_no, conn);
}

void
smtp_client_give(struct smtp_client *c, struct slice bytes, bool last)
{
	(void)bytes;
	if (last && c->at == WANTS)
		c->at = DOTS;
	c->when = c->dot_may && c->at == DOTS ? sim.now + MS(1 + roll(100)) : sim.now + S(c->timeouts.body);
}

void
smtp_client_dot(struct smtp_client *c)
{
	c->dot_may = true;
	if (c->at == DOTS)
		c->when = sim.now + MS(1 + roll(100));
}

static void
client_result(struct smtp_client *c, enum smtp_how how, int code, const char *text, enum smtp_stage stage, bool lost)
{
	c->result = (struct smtp_result){
		.how = how, .code = code, .internal = how != SMTP_REPLY, .stage = stage, .text = slice_str(text)
	};
	c->lost = lost;
	c->at = TELLS;
	c->when = answer_at(c->mail_no);
}

void
smtp_client_break(struct smtp_client *c, int code, const char *text)
{
	(void)text;
	if (c->mail != NULL && c->at != TELLS)
		client_result(c, SMTP_LOST, code, "451 4.3.0 [internal] broken off", SMTP_BODY, true);
	c->when = sim.now;
}

void
smtp_client_quit(struct smtp_client *c)
{
	c->quit = true;
	if (c->at == RESTS || c->at == CONNECTS) {
		c->at = QUITS;
		c->when = sim.now + MS(roll(50));
	}
}

bool
smtp_client_is_idle(const struct smtp_client *c)
{
	return c->at == RESTS && c->mail == NULL && !c->quit;
}

bool
smtp_client_greeted(const struct smtp_client *c)
{
	return c->greeted;
}

unsigned
smtp_client_delivered(const struct smtp_client *c)
{
	return c->delivered;
}

enum smtp_stage
smtp_client_stage(const struct smtp_client *c)
{
	return c->at == CONNECTS ? SMTP_NOT_CONNECTED : SMTP_IDLE;
}

uint64_t
smtp_client_sent(const struct smtp_client *c)
{
	(void)c;
	return 20;
}

/* The client may free itself, and another may come into its place. */
static void
client_down(struct smtp_client *c, int code, const char *text, enum smtp_stage stage, bool internal)
{
	struct smtp_down why = { .stage = stage,
				 .greeted = c->greeted,
				 .asked = c->quit,
				 .code = code,
				 .internal = internal,
				 .text = slice_str(text) };

	c->ops->down(c->arg, &why);
}

static void
client_connected(struct smtp_client *c)
{
	switch (year.far[c->host].mode) {
	case REFUSES:
		client_down(c, 451, "451 4.4.1 [internal] cannot connect: refused", SMTP_NOT_CONNECTED, true);
		return;
	case SILENT:
		client_down(c, 450, "450 4.4.1 [internal] Connection Timed Out", SMTP_NOT_CONNECTED, true);
		return;
	case BUSY:
		client_down(c, 421, "421 4.3.2 busy", SMTP_BANNER, false);
		return;
	case CLOSED:
		client_down(c, 554, "554 5.3.2 no mail here", SMTP_BANNER, false);
		return;
	default:
		c->greeted = true;
		c->at = RESTS;
		c->when = sim.now + S(c->timeouts.idle);
		c->ops->idle(c->arg);
	}
}

/* MAIL and RCPT are answered. */
static void
client_opened(struct smtp_client *c)
{
	struct hand *h = &year.hand[c->mail_no];
	enum mode mode = year.far[c->host].mode;

	h->greylisted = h->greylisted == 0 ? sim.now : h->greylisted;
	if (mode == SILENT) {
		client_result(c, SMTP_LOST, 451, "451 4.4.2 [internal] no MAIL FROM response", SMTP_MAIL, true);
	} else if (mode == REFUSES || (mode == FLAKY && roll(3) == 0)) {
		client_result(c, c->delivered > 0 ? SMTP_UNTRIED : SMTP_LOST, 451, "451 4.4.2 [internal] closed",
			      SMTP_MAIL, true);
	} else if (mode == BUSY || (mode == GREY && sim.now - h->greylisted < S(600)) ||
		   (!sim.calm && last_moments(c->mail_no) > 0 && roll(2) == 0)) {
		client_result(c, SMTP_REPLY, 450, "450 4.7.1 later", SMTP_RCPT, false);
	} else if (h->perm) {
		client_result(c, SMTP_REPLY, 550, "550 5.1.1 no such user", SMTP_RCPT, false);
	} else {
		c->at = WANTS;
		c->when = sim.now + MS(1 + roll(100));
		c->ops->opened(c->arg);
	}
}

static void
client_dot(struct smtp_client *c)
{
	enum mode mode = year.far[c->host].mode;
	bool taken = mode != FLAKY || roll(2) == 0;

	if (!c->dot_may) {
		client_result(c, SMTP_LOST, 451, "451 4.4.2 [internal] send BODY failed", SMTP_BODY, true);
		return;
	}
	if (taken)
		on_dot(c->life, c->mail_no);
	if (mode == FLAKY)
		client_result(c, SMTP_DOUBT, 451, "451 4.4.2 [internal] no BODY response", SMTP_CONFIRM, true);
	else
		client_result(c, SMTP_REPLY, 250, "250 2.0.0 taken", SMTP_CONFIRM, false);
	c->delivered += taken && mode != FLAKY;
}

static void
client_tells(struct smtp_client *c)
{
	struct smtp_result r = c->result;
	bool lost = c->lost;

	c->mail = NULL;
	c->at = RESTS;
	c->when = sim.now + S(c->timeouts.idle);
	c->lost = false;
	if (lost) {
		c->at = QUITS;
		c->when = sim.now;
	}
	c->ops->mail_done(c->arg, &r, 1);
	if (!c->used || lost)
		return;
	if (c->quit) {
		c->at = QUITS;
		c->when = sim.now + MS(1);
	} else {
		c->ops->idle(c->arg);
	}
}

static void
client_run(struct smtp_client *c)
{
	year.polls = 0;
	switch (c->at) {
	case CONNECTS:
		client_connected(c);
		break;
	case RESTS:
		c->quit = true;
		client_down(c, 421, "421 4.4.2 [internal] idle", SMTP_IDLE, true);
		break;
	case OPENS:
		client_opened(c);
		break;
	case WANTS:
		c->when = sim.now + S(c->timeouts.body);
		c->ops->want(c->arg);
		break;
	case DOTS:
		client_dot(c);
		break;
	case TELLS:
		client_tells(c);
		break;
	case QUITS:
		client_down(c, 451, "451 4.4.2 [internal] connection closed", SMTP_IDLE, true);
		break;
	}
}

/* ---- DNS ---- */

struct resolver_query *
resolver_query(struct resolver *r, const char *name, enum dns_type type, resolver_done *done, void *arg)
{
	struct resolver_query *q = mem_zalloc(sizeof *q);

	(void)r;
	snprintf(q->name, sizeof q->name, "%s", name);
	q->type = type;
	q->done = done;
	q->arg = arg;
	q->when = sim.now + (roll(50) == 0 ? S(20) : MS(roll(50)));
	q->next = year.queries;
	q->at = &year.queries;
	if (q->next != NULL)
		q->next->at = &q->next;
	year.queries = q;
	return q;
}

static void
query_free(struct resolver_query *q)
{
	*q->at = q->next;
	if (q->next != NULL)
		q->next->at = q->at;
	free(q);
}

void
resolver_cancel(struct resolver_query **qp)
{
	if (*qp != NULL)
		query_free(*qp);
	*qp = NULL;
}

/* dN.test has two MX, hN.test and one that it shares with the others; each host
 * one address, 10.0.0.N. */
static void
query_answer(struct resolver_query *q)
{
	struct resolver_query ask = *q;
	struct dns_record r[2] = { { .ttl = 60 }, { .ttl = 60 } };
	struct dns_answer a = { .status = DNS_OK,
				.type = q->type,
				.ttl = 60,
				.name = ask.name,
				.canonical = ask.name,
				.n = 1,
				.records = r };
	char host[16];

	query_free(q);
	if (!sim.calm && roll(100) == 0) {
		a.status = roll(2) == 0 ? DNS_SERVFAIL : DNS_TIMEOUT;
		a.n = 0;
	} else if (ask.type == DNS_MX) {
		snprintf(host, sizeof host, "h%c.test", ask.name[1]);
		r[0].text = slice_str(host);
		r[0].preference = 10;
		r[1].text = SLICE("h7.test");
		r[1].preference = 20;
		a.n = 2;
	} else {
		r[0].addr.a.s_addr = htonl(0x0a000000u + (uint32_t)(ask.name[1] - '0'));
	}
	ask.done(ask.arg, &a);
}

static void
queries_run(void)
{
	for (struct resolver_query *q = year.queries; q != NULL;) {
		if (q->when > sim.now) {
			q = q->next;
			continue;
		}
		query_answer(q);
		year.polls = 0;
		q = year.queries;
	}
}

#endif
