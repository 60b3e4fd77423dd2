/* Delivery from a taken message to its outcome: with the spool and the owner in memory, against a server of our own on
 * the loopback, whose answers follow from the recipient's name. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <arpa/inet.h>
#include <sys/mman.h>
#include <sys/socket.h>

#include "policy/conf/conf.h"
#include "shm/base/crc32c.h"
#include "shm/base/log.h"
#include "shm/shm_area.h"
#include "shm/shm_limits.h"
#include "t/unit/worker/delivery/fake_spool.h"
#include "worker/delivery/delivery.h"
#include "worker/delivery/delivery_options.h"
#include "worker/net/resolver.h"
#include "worker/net/stream.h"

enum { TURNS_MAX = 20000, TURN_USEC = 200, STILL_TURNS = 30, SESSIONS_MAX = 64 };

static usec_t fake_now = 1000 * USEC_PER_SEC;
static const usec_t real_zero = INT64_C(1700000000) * USEC_PER_SEC;

static usec_t
fake_mono(void)
{
	return fake_now;
}

static usec_t
fake_real(void)
{
	return real_zero + fake_now;
}

/* ---- the far side ---- */

struct far_session {
	struct far *far;
	struct stream *s;
	char rcpt[100];
	bool body;
	unsigned messages;
	struct bytes in;
};

struct far {
	struct loop *loop;
	struct ev_io io;
	int fd;
	uint16_t port;
	struct far_session sessions[SESSIONS_MAX];
	unsigned open, peak, accepted, messages, most_a_session;
	const char *greeting;
	struct bytes last; /* the last message, as it came */
	bool pipelining;
};

static void
far_end(struct far_session *f)
{
	if (f->s != NULL) {
		stream_flush(f->s);
		stream_close(&f->s);
		bytes_fini(&f->in);
		f->far->open--;
	}
}

static void
far_say(struct far_session *f, const char *text)
{
	stream_writef(f->s, "%s\r\n", text);
}

static void
far_rcpt(struct far_session *f, struct slice line)
{
	snprintf(f->rcpt, sizeof(f->rcpt), "%.*s", (int)(line.n - 9), line.p + 9);
	if (strncmp(f->rcpt, "perm", 4) == 0)
		far_say(f, "550 5.1.1 no such user");
	else if (strncmp(f->rcpt, "temp", 4) == 0)
		far_say(f, "450 4.2.1 not now");
	else if (strncmp(f->rcpt, "early", 5) == 0)
		far_end(f);
	else
		far_say(f, "250 2.1.5 fine");
}

static void
far_line(struct far_session *f, struct slice line)
{
	if (slice_istarts(line, SLICE("EHLO")))
		far_say(f, f->far->pipelining ? "250-far\r\n250-PIPELINING\r\n250 8BITMIME" : "250 far");
	else if (slice_istarts(line, SLICE("MAIL")))
		far_say(f, "250 2.1.0 fine");
	else if (slice_istarts(line, SLICE("RCPT")))
		far_rcpt(f, line);
	else if (slice_istarts(line, SLICE("RSET")))
		far_say(f, "250 reset");
	else if (slice_istarts(line, SLICE("QUIT")))
		far_end(f);
	else if (strncmp(f->rcpt, "perm", 4) == 0 || strncmp(f->rcpt, "temp", 4) == 0)
		far_say(f, "554 5.5.1 no recipient");
	else {
		far_say(f, "354 go");
		f->body = true;
	}
}

static void
far_message(struct far_session *f, struct slice bytes)
{
	struct far *far = f->far;

	f->body = false;
	far->last.n = 0;
	bytes_add_slice(&far->last, bytes);
	if (strncmp(f->rcpt, "drop", 4) == 0) {
		far_end(f);
		return;
	}
	far->messages++;
	f->messages++;
	if (f->messages > far->most_a_session)
		far->most_a_session = f->messages;
	far_say(f, strncmp(f->rcpt, "spam", 4) == 0 ? "554 5.7.1 spam" : "250 2.0.0 taken");
}

static void
far_on_stream(struct stream *s, enum stream_event ev, void *arg)
{
	struct far_session *f = arg;

	if (ev == STREAM_EOF || ev == STREAM_ERROR) {
		far_end(f);
		return;
	}
	if (ev != STREAM_READABLE)
		return;
	bytes_add_slice(&f->in, stream_in(s));
	stream_consume(s, stream_in(s).n);
	while (f->s != NULL) {
		const char *end = f->in.n < 2 ? NULL : memmem(f->in.p, f->in.n, "\r\n", 2);

		if (f->body)
			end = f->in.n < 5 ? NULL : memmem(f->in.p, f->in.n, "\r\n.\r\n", 5);
		if (end == NULL)
			return;
		size_t n = (size_t)(end - f->in.p), all = f->body ? n + 5 : n + 2;

		if (f->body)
			far_message(f, slice_of(f->in.p, n + 2));
		else
			far_line(f, slice_of(f->in.p, n));
		if (f->s != NULL)
			bytes_drop(&f->in, all);
	}
}

static void
far_on_accept(struct ev_io *io, uint32_t events, void *arg)
{
	struct far *far = arg;
	int fd = accept4(io->fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
	struct far_session *f = NULL;

	(void)events;
	for (size_t i = 0; i < SESSIONS_MAX && f == NULL; i++)
		f = far->sessions[i].s == NULL ? &far->sessions[i] : NULL;
	assert_non_null(f);
	*f = (struct far_session){ .far = far };
	f->s = stream_new(far->loop, fd, far_on_stream, f);
	far->accepted++;
	if (++far->open > far->peak)
		far->peak = far->open;
	far_say(f, far->greeting);
}

/* A socket on the loopback; listening, or not: then connections to it are refused. */
static int
make_port(uint16_t *port, bool listening)
{
	struct sockaddr_in sin = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	socklen_t len = sizeof(sin);
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

	assert_int_equal(bind(fd, (struct sockaddr *)&sin, sizeof(sin)), 0);
	assert_int_equal(getsockname(fd, (struct sockaddr *)&sin, &len), 0);
	if (listening)
		assert_int_equal(listen(fd, 64), 0);
	*port = ntohs(sin.sin_port);
	return fd;
}

/* ---- the world ---- */

struct world {
	struct loop *loop;
	struct far far;
	struct spool *sp;
	struct conf *conf;
	struct resolver *resolver;
	struct shm_area *area;
	struct delivery *d;
	int dead_fd;
	uint16_t dead_port;
	bool drained;
	unsigned made;
};

static const struct opt_row extra_rows[] = {
	{ .id = OPT_HOSTNAME,
	  .name = "hostname",
	  .type = OPT_STRING,
	  .scopes = IN_GLOBAL,
	  .side = SIDE_BOTH,
	  .help = "x" },
};
static const struct opt_table extra = OPT_TABLE(extra_rows);

static struct conf *
load(const char *fmt, unsigned port, unsigned dead)
{
	static struct opt_table tables[2];
	char text[2000], more[1500];
	struct conf_source src = { .path = "test.conf", .tables = tables, .n_tables = 2, .no_files = true };
	struct conf_errors errs = { 0 };
	struct conf *c;

	tables[0] = delivery_options;
	tables[1] = extra;
	snprintf(more, sizeof(more), fmt, port, dead);
	snprintf(text, sizeof(text), "hostname = \"mx.example.test\"\n%s", more);
	src.text = slice_str(text);
	c = conf_load(&src, &errs);
	for (size_t i = 0; i < errs.n; i++)
		print_message("%u:%u: %s\n", errs.v[i].line, errs.v[i].column, errs.v[i].text);
	assert_non_null(c);
	conf_errors_fini(&errs);
	return c;
}

static void
on_drained(void *arg)
{
	((struct world *)arg)->drained = true;
}

static void
on_made(void *arg, const struct delivery_made *m)
{
	struct world *w = arg;

	assert_int_equal(m->place.seg, 2);
	w->made++;
}

#define GATEWAY "gateway = \"127.0.0.1\"\nremote_smtp_port = %u\n"

static void
world_open_own(struct world *w, const char *conf, const struct sockaddr_storage *own, size_t own_n)
{
	struct resolver_conf rc;
	struct delivery_env env = { .own = own, .own_n = own_n, .drained = on_drained, .made = on_made, .arg = w };

	clock_set_source(fake_mono, fake_real);
	*w = (struct world){ 0 };
	w->loop = loop_new();
	w->far = (struct far){ .loop = w->loop, .greeting = "220 far", .pipelining = true };
	w->far.fd = make_port(&w->far.port, true);
	w->dead_fd = make_port(&w->dead_port, false);
	loop_io_add(w->loop, &w->far.io, w->far.fd, EPOLLIN, far_on_accept, &w->far);
	w->sp = fake_spool = mem_zalloc(sizeof(*w->sp));
	w->sp->loop = w->loop;
	w->sp->queues[0] =
		(struct owner_queue){ .sp = w->sp, .binding = SLICE("default"), .domain = SLICE("far.example") };
	w->conf = load(conf, w->far.port, w->dead_port);
	resolver_conf_parse(SLICE(""), &rc);
	w->resolver = resolver_new(w->loop, &rc);
	w->area = shm_area_new();
	env.loop = w->loop;
	env.conf = w->conf;
	env.spool = w->sp;
	env.owner = (struct spool_owner *)w->sp;
	env.resolver = w->resolver;
	env.limits = shm_area_limits(w->area);
	w->d = delivery_new(&env);
}

static void
world_open(struct world *w, const char *conf)
{
	world_open_own(w, conf, NULL, 0);
}

static bool
all_done(const struct world *w)
{
	for (size_t i = 0; i < w->sp->n; i++) {
		if (w->sp->msgs[i].dones == 0)
			return false;
	}
	return true;
}

static void
turn(struct world *w)
{
	loop_turn(w->loop, TURN_USEC);
	fake_show(w->sp);
}

/* Until every message has its end; when nothing moves the clock jumps, `most` seconds at most. */
static void
world_run(struct world *w, unsigned most)
{
	usec_t end = fake_now + most * USEC_PER_SEC;
	unsigned still = 0;
	size_t seen = 0;

	for (unsigned i = 0; i < TURNS_MAX && !all_done(w) && fake_now <= end; i++) {
		struct delivery_counts c;
		size_t now;

		turn(w);
		delivery_counts(w->d, &c);
		now = w->far.accepted + w->far.messages + c.in_work * 1000 + w->far.last.n;
		for (size_t k = 0; k < w->sp->n; k++)
			now += w->sp->msgs[k].attempts + w->sp->msgs[k].outcomes * 7;
		still = now == seen ? still + 1 : 0;
		seen = now;
		if (still > STILL_TURNS) {
			fake_now += USEC_PER_SEC / 2;
			still = 0;
		}
	}
}

static void
world_close(struct world *w)
{
	delivery_free(&w->d);
	assert_null(w->d);
	for (size_t i = 0; i < SESSIONS_MAX; i++)
		far_end(&w->far.sessions[i]);
	loop_io_del(w->loop, &w->far.io);
	close(w->far.fd);
	close(w->dead_fd);
	resolver_free(&w->resolver);
	for (int i = 0; i < 5; i++) {
		fake_now += 10 * USEC_PER_SEC;
		loop_turn(w->loop, 0);
	}
	assert_int_equal(limit_count(shm_area_limits(w->area),
				     limit_key("binding_domain", SLICE("default"), SLICE("far.example"))),
			 0);
	fake_free(w->sp);
	shm_area_free(&w->area);
	conf_unref(&w->conf);
	bytes_fini(&w->far.last);
	loop_free(&w->loop);
	clock_set_source(NULL, NULL);
}

/* ---- what answers become ---- */

static const struct ending {
	const char *sender, *rcpt;
	enum outcome_kind kind;
	unsigned attempts, stage;
	const char *text;
	unsigned notices;
} endings[] = {
	{ "a@x", "ok@far.example", OUTCOME_DELIVERED, 1, 9, "250 2.0.0 taken", 0 },
	{ "a@x", "perm@far.example", OUTCOME_BOUNCED, 1, 4, "550 5.1.1 no such user", 1 },
	{ "", "perm@far.example", OUTCOME_BOUNCED, 1, 4, "550 5.1.1 no such user", 0 },
	{ "a@x", "spam@far.example", OUTCOME_BOUNCED, 1, 9, "554 5.7.1 spam", 1 },
	{ "a@x", "temp@far.example", OUTCOME_DEFERRED, 1, 4, "450 4.2.1 not now", 0 },
	{ "a@x", "early@far.example", OUTCOME_DEFERRED, 1, 4, "451 4.4.2 [internal] connection closed by remote host",
	  0 },
	{ "a@x", "drop@far.example", OUTCOME_DOUBTFUL, 1, 9, "451 4.4.2 [internal] connection closed by remote host",
	  0 },
	{ "a@x", "\xc3\xa9@far.example", OUTCOME_BOUNCED, 0, 2, "550 5.6.7 [internal] SMTPUTF8 required", 1 },
};
enum { ENDINGS = sizeof(endings) / sizeof(endings[0]) };

static void
check_ending(const struct ending *e, const struct fake_msg *m)
{
	if (m->dones != 1 || m->outcomes != 1 || m->kind != e->kind || m->attempts != e->attempts ||
	    m->stage != e->stage || strncmp(m->text, e->text, strlen(e->text)) != 0 || m->notices != e->notices ||
	    m->n != 1)
		fail_msg("%s: dones %u outcomes %u kind %d attempts %u stage %u n %u notices %u text %s", e->rcpt,
			 m->dones, m->outcomes, m->kind, m->attempts, m->stage, m->n, m->notices, m->text);
	if (e->kind == OUTCOME_DEFERRED || e->kind == OUTCOME_DOUBTFUL)
		assert_true(m->next_due > m->message.received_at + 59 * USEC_PER_SEC);
	if (e->notices > 0)
		assert_string_equal(m->notice_to, e->sender);
}

static void
answers_become_outcomes(void **state)
{
	(void)state;
	for (int pipelining = 0; pipelining < 2; pipelining++) {
		struct world w;

		world_open(&w, GATEWAY "retry_interval = 60\nmax_outbound_connections = 1\n");
		w.far.pipelining = pipelining != 0;
		for (size_t i = 0; i < ENDINGS; i++)
			fake_add(w.sp, endings[i].sender, endings[i].rcpt);
		world_run(&w, 30);
		for (size_t i = 0; i < ENDINGS; i++)
			check_ending(&endings[i], &w.sp->msgs[i]);
		assert_int_equal(w.made, 3);
		assert_non_null(
			strstr(bytes_cstr(&w.sp->msgs[1].notice), "Diagnostic-Code: smtp; 550 5.1.1 no such user"));
		assert_non_null(strstr(bytes_cstr(&w.sp->msgs[1].notice), "Remote-MTA: dns; 127.0.0.1"));
		assert_non_null(strstr(bytes_cstr(&w.sp->msgs[1].notice), "Subject: test"));
		world_close(&w);
	}
}

static void
many_messages_share_few_connections(void **state)
{
	struct world w;

	(void)state;
	world_open(&w, GATEWAY "max_outbound_connections = 3\nmax_deliveries_per_connection = 4\n");
	for (int i = 0; i < 60; i++)
		fake_add(w.sp, "a@x", "ok@far.example");
	world_run(&w, 60);
	assert_true(all_done(&w));
	assert_int_equal(w.far.messages, 60);
	assert_int_equal(w.far.peak, 3);
	assert_int_equal(w.far.most_a_session, 4);
	assert_in_range(w.far.accepted, 15, 20);
	for (size_t i = 0; i < 60; i++)
		assert_int_equal(w.sp->msgs[i].kind, OUTCOME_DELIVERED);
	world_close(&w);
}

static void
the_dot_waits_for_the_attempt(void **state)
{
	struct world w;

	(void)state;
	world_open(&w, GATEWAY);
	fake_add(w.sp, "a@x", "ok@far.example");
	w.sp->hold_sync = true;
	for (int i = 0; i < 300; i++)
		turn(&w);
	assert_int_equal(w.sp->msgs[0].attempts, 1);
	assert_int_equal(w.far.accepted, 1);
	assert_int_equal(w.far.messages, 0);
	w.sp->hold_sync = false;
	fake_soon(w.sp);
	world_run(&w, 5);
	assert_int_equal(w.far.messages, 1);
	assert_int_equal(w.sp->msgs[0].kind, OUTCOME_DELIVERED);
	world_close(&w);
}

static void
a_failing_disk_delivers_nothing_unnamed(void **state)
{
	struct world w;

	(void)state;
	world_open(&w, GATEWAY);
	fake_add(w.sp, "a@x", "ok@far.example");
	w.sp->fail_attempts = 1;
	world_run(&w, 30);
	assert_int_equal(w.far.messages, 0);
	assert_int_equal(w.sp->msgs[0].kind, OUTCOME_DEFERRED);
	world_close(&w);

	world_open(&w, GATEWAY);
	fake_add(w.sp, "a@x", "perm@far.example");
	w.sp->fail_outcomes = 3;
	world_run(&w, 30);
	assert_int_equal(w.sp->msgs[0].outcomes, 1);
	assert_int_equal(w.sp->msgs[0].dones, 1);
	assert_int_equal(w.sp->msgs[0].notices, 1);
	assert_int_equal(w.made, 1);
	world_close(&w);
}

static void
a_closed_gate_writes_nothing(void **state)
{
	struct world w;

	(void)state;
	world_open(&w, GATEWAY);
	fake_add(w.sp, "a@x", "ok@far.example")->gate_closed = true;
	fake_add(w.sp, "a@x", "perm@far.example")->gate_closed = true;
	world_run(&w, 30);
	for (int i = 0; i < 2; i++) {
		assert_int_equal(w.sp->msgs[i].attempts, 0);
		assert_int_equal(w.sp->msgs[i].outcomes, 0);
		assert_int_equal(w.sp->msgs[i].releases, 1);
	}
	assert_int_equal(w.far.messages, 0);
	world_close(&w);
}

/* ---- hosts ---- */

static void
the_next_host_is_tried_at_once(void **state)
{
	struct world w;

	(void)state;
	world_open(&w, "remote_smtp_port = %u\nroutes = ( \"smtp://127.0.0.1?port=%u\" \"127.0.0.1\" )\n");
	fake_add(w.sp, "a@x", "ok@far.example");
	world_run(&w, 5);
	assert_int_equal(w.sp->msgs[0].kind, OUTCOME_DELIVERED);
	assert_int_equal(w.sp->msgs[0].attempts, 1);
	world_close(&w);
}

static void
hosts_that_refuse_defer(void **state)
{
	static const struct {
		const char *conf, *greeting, *text;
		unsigned stage;
		enum outcome_kind kind;
	} rows[] = {
		{ "remote_smtp_port = %u\nretry_interval = 60\ngateway = \"127.0.0.1\"\n", "421 busy", "421 busy", 12,
		  OUTCOME_DEFERRED },
		{ "remote_smtp_port = %u\nretry_interval = 60\ngateway = \"127.0.0.1\"\n", "554 never you",
		  "554 never you", 12, OUTCOME_BOUNCED },
		{ "remote_smtp_port = %u\nroutes = ( \"smtp://127.0.0.1?port=%u\" )\n", "220 far",
		  "451 4.4.1 [internal] No valid hosts (unable to make any connections)", 0, OUTCOME_DEFERRED },
		{ "remote_smtp_port = %u\ngateway = \"127.0.0.1\"\nbind_address = \"192.0.2.77\"\n", "220 far",
		  "451 4.4.1 [internal] No valid hosts (cannot bind 192.0.2.77: Cannot assign requested address)", 0,
		  OUTCOME_DEFERRED },
		{ "# %u %u\n", "220 far", "451 4.4.3 [internal] Domain Lookup Failed", 0, OUTCOME_DEFERRED },
	};

	(void)state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		struct world w;

		world_open(&w, rows[i].conf);
		w.far.greeting = rows[i].greeting;
		for (int k = 0; k < 3; k++)
			fake_add(w.sp, "a@x", "ok@far.example");
		world_run(&w, 60);
		for (int k = 0; k < 3; k++) {
			const struct fake_msg *m = &w.sp->msgs[k];

			if (m->kind != rows[i].kind || m->stage != rows[i].stage || m->attempts != 0 ||
			    strncmp(m->text, rows[i].text, strlen(rows[i].text)) != 0)
				fail_msg("row %zu message %d: kind %d stage %u %s", i, k, m->kind, m->stage, m->text);
		}
		world_close(&w);
	}
}

/* ---- what another worker has lent ---- */

/* It is for the owner to say that there is no way: nothing of it is failed or put off here. */
static void
borrowed_mail_goes_back(void **state)
{
	static const struct {
		const char *conf, *greeting;
	} rows[] = {
		{ "remote_smtp_port = %u\ngateway = \"127.0.0.1\"\n", "421 busy" },
		{ "remote_smtp_port = %u\ngateway = \"127.0.0.1\"\n", "554 never you" },
		{ "remote_smtp_port = %u\nroutes = ( \"smtp://127.0.0.1?port=%u\" )\n", "220 far" },
		{ "# %u %u\n", "220 far" },
	};

	(void)state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		struct world w;

		world_open(&w, rows[i].conf);
		w.far.greeting = rows[i].greeting;
		w.sp->queues[0].borrowed = true;
		for (int k = 0; k < 3; k++)
			fake_add(w.sp, "a@x", "ok@far.example");
		world_run(&w, 5);
		for (int k = 0; k < 3; k++)
			assert_true(w.sp->msgs[k].releases > 0 && w.sp->msgs[k].outcomes == 0);
		world_close(&w);
	}
}

/* Others have all the connections there may be: it goes back too, and is sent when there is one. */
static void
borrowed_mail_wants_a_permit(void **state)
{
	struct world w;
	uint64_t key;

	(void)state;
	world_open(&w, GATEWAY "max_outbound_connections = 2\n");
	key = limit_key("binding_domain", SLICE("default"), SLICE("far.example"));
	w.sp->queues[0].borrowed = true;
	for (int k = 0; k < 2; k++)
		assert_true(limit_take(shm_area_limits(w.area), 9, key, 2));
	fake_add(w.sp, "a@x", "ok@far.example");
	world_run(&w, 20);
	assert_true(w.sp->msgs[0].releases > 0 && w.sp->msgs[0].outcomes == 0);
	limit_give(shm_area_limits(w.area), 9, key);
	world_run(&w, 30);
	assert_int_equal(w.far.messages, 1);
	limit_give(shm_area_limits(w.area), 9, key);
	world_close(&w);
}

/* Who lends leaves the borrower its part of the connections, also of those that stand already. */
static void
connections_are_shared_with_borrowers(void **state)
{
	struct delivery_counts c = { .connections = 0 };
	struct world w;

	(void)state;
	world_open(&w, GATEWAY "max_outbound_connections = 4\n");
	for (int i = 0; i < 200; i++)
		fake_add(w.sp, "a@x", "ok@far.example");
	for (int i = 0; i < TURNS_MAX && c.connections < 4; i++) {
		turn(&w);
		delivery_counts(w.d, &c);
	}
	assert_int_equal(c.connections, 4);
	w.sp->queues[0].lent_to = 1;
	for (int i = 0; i < TURNS_MAX && c.connections > 2; i++) {
		turn(&w);
		delivery_counts(w.d, &c);
	}
	assert_int_equal(c.connections, 2);
	assert_false(all_done(&w));
	world_run(&w, 60);
	assert_int_equal(w.far.messages, 200);
	delivery_counts(w.d, &c);
	assert_true(c.connections <= 2);
	world_close(&w);
}

/* A host that is down is asked less and less often, and mail for it is not lost in the meantime. */
static void
a_dead_host_is_not_hammered(void **state)
{
	struct world w;
	unsigned deferred = 0;

	(void)state;
	world_open(&w, "remote_smtp_port = %u\ngateway = \"127.0.0.1\"\n");
	w.far.greeting = "421 busy";
	for (int i = 0; i < 200; i++)
		fake_add(w.sp, "a@x", "ok@far.example");
	world_run(&w, 300);
	for (int i = 0; i < 200; i++)
		deferred += w.sp->msgs[i].kind == OUTCOME_DEFERRED;
	assert_int_equal(deferred, 200);
	assert_in_range(w.far.accepted, 2, 30);
	world_close(&w);
}

static void
we_do_not_connect_to_ourselves(void **state)
{
	struct world w;
	struct sockaddr_storage own[2] = { 0 };
	struct sockaddr_in *sin = (struct sockaddr_in *)&own[0];

	(void)state;
	for (int wildcard = 0; wildcard < 2; wildcard++) {
		sin->sin_family = AF_INET;
		sin->sin_addr.s_addr = htonl(wildcard ? INADDR_ANY : INADDR_LOOPBACK);
		world_open_own(&w, GATEWAY, own, 1);
		sin->sin_port = htons(w.far.port);
		delivery_free(&w.d);
		{
			struct delivery_env env = { .loop = w.loop,
						    .conf = w.conf,
						    .spool = w.sp,
						    .resolver = w.resolver,
						    .limits = shm_area_limits(w.area),
						    .own = own,
						    .own_n = 1,
						    .arg = &w };

			env.owner = (struct spool_owner *)w.sp;
			w.d = delivery_new(&env);
		}
		fake_add(w.sp, "a@x", "ok@far.example");
		world_run(&w, 5);
		assert_int_equal(w.sp->msgs[0].kind, OUTCOME_BOUNCED);
		assert_string_equal(w.sp->msgs[0].text, "554 5.4.6 [internal] mail loop detected");
		assert_int_equal(w.sp->msgs[0].notices, 1);
		assert_int_equal(w.far.accepted, 0);
		world_close(&w);
	}
}

/* ---- other ends ---- */

static void
an_old_message_gets_its_last_try(void **state)
{
	struct world w;

	(void)state;
	world_open(&w, GATEWAY "message_expiration = 600\n");
	fake_add(w.sp, "a@x", "temp@far.example")->message.received_at -= 700 * USEC_PER_SEC;
	fake_add(w.sp, "a@x", "ok@far.example")->message.received_at -= 700 * USEC_PER_SEC;
	world_run(&w, 5);
	assert_int_equal(w.sp->msgs[0].kind, OUTCOME_EXPIRED);
	assert_string_equal(w.sp->msgs[0].text, "554 5.4.7 [internal] exceeded max time without delivery");
	assert_int_equal(w.sp->msgs[0].notices, 1);
	assert_non_null(strstr(bytes_cstr(&w.sp->msgs[0].notice), "last answer: 450 4.2.1 not now"));
	assert_int_equal(w.sp->msgs[1].kind, OUTCOME_DELIVERED);
	world_close(&w);
}

static void
a_blackhole_swallows(void **state)
{
	struct world w;

	(void)state;
	world_open(&w, GATEWAY "blackhole = internal\n");
	fake_add(w.sp, "a@x", "ok@far.example");
	world_run(&w, 5);
	assert_int_equal(w.sp->msgs[0].kind, OUTCOME_DISCARDED);
	assert_string_equal(w.sp->msgs[0].text, "554 5.7.0 [internal] Blackholed");
	assert_int_equal(w.sp->msgs[0].notices, 0);
	assert_int_equal(w.far.accepted, 0);
	world_close(&w);
}

static void
a_lost_message_is_let_go(void **state)
{
	struct world w;

	(void)state;
	world_open(&w, GATEWAY);
	fake_add(w.sp, "a@x", "ok@far.example")->lost = 1;
	world_run(&w, 5);
	assert_int_equal(w.sp->msgs[0].dones, 1);
	assert_int_equal(w.sp->msgs[0].outcomes, 0);
	world_close(&w);
}

static void
errands_are_run(void **state)
{
	static const struct {
		enum owner_errand what;
		const char *reason, *text;
		usec_t age;             /* seconds */
		enum outcome_kind kind; /* 0: released */
		unsigned notices, n;
	} rows[] = {
		{ OWNER_FAIL, "554 manually failed.", "554 manually failed.", 0, OUTCOME_BOUNCED, 1, 3 },
		{ OWNER_FAIL, "", "554 5.7.0 [internal] Message manually purged", 0, OUTCOME_BOUNCED, 1, 3 },
		{ OWNER_DROP, "", "554 5.7.0 [internal] Message manually purged", 0, OUTCOME_DISCARDED, 0, 3 },
		{ OWNER_DOUBT_DONE, "", "250", 0, OUTCOME_DELIVERED, 0, 2 },
		{ OWNER_LOOK_EXPIRY, "", "554 5.4.7 [internal] exceeded max time without delivery", 700,
		  OUTCOME_EXPIRED, 1, 3 },
		{ OWNER_LOOK_EXPIRY, "", "", 500, 0, 0, 0 },
	};

	(void)state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		struct world w;
		struct fake_msg *m;

		world_open(&w, GATEWAY "message_expiration = 600\n");
		m = fake_add(w.sp, "a@x", "ok@far.example");
		m->m.tries = 2;
		m->taken = true;
		m->message.received_at -= rows[i].age * USEC_PER_SEC;
		w.sp->ops->errand(w.sp->ops_arg, &m->m, rows[i].what, slice_str(rows[i].reason));
		for (int k = 0; k < 20; k++)
			loop_turn(w.loop, 0);
		assert_int_equal(m->dones, rows[i].kind != 0);
		assert_int_equal(m->releases, rows[i].kind == 0);
		assert_int_equal(m->notices, rows[i].notices);
		if (rows[i].kind != 0) {
			assert_int_equal(m->kind, rows[i].kind);
			assert_int_equal(m->n, rows[i].n);
			assert_memory_equal(m->text, rows[i].text, strlen(rows[i].text));
		}
		assert_int_equal(w.far.accepted, 0);
		world_close(&w);
	}
}

/* ---- large bodies ---- */

static void
a_body_in_a_file_is_streamed(void **state)
{
	size_t n = 1500001;
	char *body = malloc(n);

	(void)state;
	for (size_t i = 0; i < n; i++)
		body[i] = i % 64 == 62 ? '\r' : i % 64 == 63 ? '\n' : i % 128 == 0 ? '.' : 'b';
	memcpy(body, "\r\n", 2);
	memcpy(body + n - 2, "\r\n", 2);
	for (int how = 0; how < 3; how++) {
		struct world w;
		struct fake_msg *m;
		size_t dots = 0;

		world_open(&w, GATEWAY);
		m = fake_add(w.sp, "a@x", "ok@far.example");
		m->body_fd = memfd_create("body", MFD_CLOEXEC);
		assert_int_equal(write(m->body_fd, body, n), n);
		m->body_len = n;
		m->cold = how == 1;
		m->body_crc = crc32c(0, body, n) + (how == 2);
		world_run(&w, 30);
		if (how == 2) { /* damaged on disk: never sent whole */
			assert_int_equal(w.far.messages, 0);
			assert_int_equal(m->kind, OUTCOME_DEFERRED);
			assert_true(m->aside > 0);
		} else {
			assert_int_equal(m->kind, OUTCOME_DELIVERED);
			for (size_t i = 2; i < n; i++)
				dots += body[i] == '.' && body[i - 1] == '\n' && body[i - 2] == '\r';
			assert_int_equal(w.far.last.n, strlen(m->header) + n + dots);
		}
		close(m->body_fd);
		world_close(&w);
	}
	free(body);
}

/* ---- limits and ends ---- */

static void
the_rate_is_kept(void **state)
{
	struct world w;

	(void)state;
	world_open(&w, GATEWAY "outbound_throttle_messages = \"5/10\"\n");
	for (int i = 0; i < 12; i++)
		fake_add(w.sp, "a@x", "ok@far.example");
	world_run(&w, 4);
	assert_int_equal(w.far.messages, 5);
	world_run(&w, 10);
	assert_int_equal(w.far.messages, 10);
	world_run(&w, 10);
	assert_int_equal(w.far.messages, 12);
	world_close(&w);
}

static void
a_drain_finishes_what_is_in_work(void **state)
{
	struct world w;
	unsigned released = 0, done = 0;

	(void)state;
	world_open(&w, GATEWAY "max_outbound_connections = 2\n");
	for (int i = 0; i < 20; i++)
		fake_add(w.sp, "a@x", "ok@far.example");
	w.sp->hold_sync = true;
	for (int i = 0; i < 200; i++)
		turn(&w);
	delivery_drain(w.d);
	for (int i = 0; i < 50; i++)
		turn(&w);
	assert_false(w.drained);
	w.sp->hold_sync = false;
	fake_soon(w.sp);
	for (int i = 0; i < 200 && !w.drained; i++)
		turn(&w);
	assert_true(w.drained);
	assert_true(delivery_idle(w.d));
	for (int i = 0; i < 20; i++) {
		const struct fake_msg *m = &w.sp->msgs[i];

		released += m->releases;
		done += m->dones;
		assert_int_equal(m->attempts, m->outcomes);
		assert_false(m->taken);
	}
	assert_int_equal(done, 2);
	assert_int_equal(w.far.messages, 2);
	assert_in_range(released, 1, 18);
	world_close(&w);
}

/* Whatever the moment: nothing is left behind and nothing is called afterwards. */
static void
it_can_end_at_any_moment(void **state)
{
	(void)state;
	for (unsigned turns = 0; turns < 120; turns += 3) {
		struct world w;

		world_open(&w, GATEWAY "max_outbound_connections = 4\n");
		for (int i = 0; i < 20; i++)
			fake_add(w.sp, "a@x", endings[(unsigned)i % ENDINGS].rcpt);
		for (unsigned i = 0; i < turns; i++)
			turn(&w);
		world_close(&w);
	}
}

/* Where a sync that comes later costs no throughput it may. With one connection and mail that waits for it, it would. */
static void
records_are_patient_where_it_costs_nothing(void **state)
{
	(void)state;
	for (int most = 1; most <= 8; most += 7) {
		struct world w;
		char conf[200];

		snprintf(conf, sizeof(conf), "%smax_outbound_connections = %d\n", GATEWAY, most);
		world_open(&w, conf);
		for (int i = 0; i < 4; i++)
			fake_add(w.sp, "a@x", "ok@far.example");
		world_run(&w, 5);
		for (int i = 0; i < 4; i++) {
			const struct fake_msg *m = &w.sp->msgs[i];

			assert_int_equal(m->kind, OUTCOME_DELIVERED);
			assert_int_equal(m->attempt_patient, most > 1 || i == 3);
		}
		assert_true(w.sp->msgs[3].outcome_patient);
		fake_add(w.sp, "a@x", "perm@far.example");
		world_run(&w, 5);
		assert_int_equal(w.sp->msgs[4].notices, 1);
		assert_false(w.sp->msgs[4].outcome_patient); /* a notice is a new message */
		world_close(&w);
	}
}

/* ---- queues that go the same way */

static struct owner_queue *
more_queue(struct world *w, int n, const char *binding, const char *domain)
{
	w->sp->queues[n] =
		(struct owner_queue){ .sp = w->sp, .binding = slice_str(binding), .domain = slice_str(domain) };
	return &w->sp->queues[n];
}

static uint32_t
held(const struct world *w, const struct owner_queue *q)
{
	return limit_count(shm_area_limits(w->area), limit_key("binding_domain", q->binding, q->domain));
}

static void
queues_share_a_connection_to_one_host(void **state)
{
	struct world w;
	const struct fake_msg *m;

	(void)state;
	world_open(&w, GATEWAY);
	(void)more_queue(&w, 1, "default", "b.example");
	(void)more_queue(&w, 2, "default", "c.example");
	for (int i = 0; i < 12; i++) {
		m = fake_add_to(&w.sp->queues[i % 3], "a@x", "ok@far.example");
		world_run(&w, 2);
		assert_int_equal(m->kind, OUTCOME_DELIVERED);
		assert_int_equal(m->attempts, 1);
		/* Whoever has it answers for it, alone. */
		for (int q = 0; q < 3; q++)
			assert_int_equal(held(&w, &w.sp->queues[q]), q == i % 3);
	}
	assert_int_equal(w.far.accepted, 1);
	assert_int_equal(w.far.most_a_session, 12);
	world_close(&w);
}

static void
what_differs_is_not_shared(void **state)
{
	struct world w;

	(void)state;
	world_open(&w, GATEWAY "Binding \"other\" { }\n"
			       "Domain \"name.example\" { ehlo_hostname = \"another.example\" }\n"
			       "Domain \"time.example\" { body_timeout = 7 }\n");
	(void)more_queue(&w, 1, "other", "far.example");
	(void)more_queue(&w, 2, "default", "name.example");
	(void)more_queue(&w, 3, "default", "time.example");
	for (int i = 0; i < 8; i++) {
		const struct fake_msg *m = fake_add_to(&w.sp->queues[i % 4], "a@x", "ok@far.example");

		world_run(&w, 2);
		assert_int_equal(m->kind, OUTCOME_DELIVERED);
	}
	assert_int_equal(w.far.accepted, 4);
	assert_int_equal(w.far.most_a_session, 2);
	world_close(&w);
}

/* It has gone while it rested: nobody's try. */
static void
a_connection_taken_over_may_be_gone(void **state)
{
	struct world w;
	struct owner_queue *b;
	const struct fake_msg *m;

	(void)state;
	world_open(&w, GATEWAY);
	b = more_queue(&w, 1, "default", "b.example");
	fake_add(w.sp, "a@x", "ok@far.example");
	world_run(&w, 2);
	m = fake_add_to(b, "a@x", "ok@far.example");
	turn(&w);
	far_end(&w.far.sessions[0]);
	world_run(&w, 2);
	assert_int_equal(m->kind, OUTCOME_DELIVERED);
	assert_int_equal(m->attempts, 1);
	assert_int_equal(m->n, 1);
	assert_int_equal(w.far.accepted, 2);
	world_close(&w);
}

/* A connection at rest is no way around a queue's limit; one that is full of work is nobody's to take. */
static void
a_limit_holds_for_what_is_taken_over(void **state)
{
	struct world w;
	struct owner_queue *b;

	(void)state;
	world_open(&w, GATEWAY "Domain \"b.example\" { max_outbound_connections = 1 }\n");
	b = more_queue(&w, 1, "default", "b.example");
	for (int i = 0; i < 6; i++)
		fake_add(w.sp, "a@x", "ok@far.example");
	world_run(&w, 2);
	assert_true(w.far.accepted > 1);
	for (int i = 0; i < 30; i++)
		fake_add_to(b, "a@x", "ok@far.example");
	for (int i = 0; i < TURNS_MAX && !all_done(&w); i++) {
		turn(&w);
		assert_true(held(&w, b) <= 1);
	}
	assert_true(all_done(&w));
	assert_int_equal(w.far.messages, 36);
	world_close(&w);
}

/* What rests is not to keep out who has mail, till it has rested long enough. */
static void
a_shared_limit_is_no_wait_for_what_rests(void **state)
{
	struct world w;

	(void)state;
	world_open(&w, GATEWAY "server_max_outbound_connections = 1\n"
			       "idle_timeout = 3600\n"
			       "Domain \"b.example\" { body_timeout = 7 }\n");
	(void)more_queue(&w, 1, "default", "b.example");
	for (int i = 0; i < 6; i++) {
		const struct fake_msg *m = fake_add_to(&w.sp->queues[i % 2], "a@x", "ok@far.example");

		world_run(&w, 60);
		assert_int_equal(m->kind, OUTCOME_DELIVERED);
		assert_int_equal(m->dones, 1);
	}
	assert_int_equal(w.far.peak, 1);
	assert_int_equal(w.far.accepted, 6);
	world_close(&w);
}

static void
quiet(void *arg, enum log_level level, const char *line, size_t n)
{
	(void)arg;
	(void)level;
	(void)line;
	(void)n;
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(answers_become_outcomes),
		cmocka_unit_test(many_messages_share_few_connections),
		cmocka_unit_test(the_dot_waits_for_the_attempt),
		cmocka_unit_test(a_failing_disk_delivers_nothing_unnamed),
		cmocka_unit_test(a_closed_gate_writes_nothing),
		cmocka_unit_test(the_next_host_is_tried_at_once),
		cmocka_unit_test(hosts_that_refuse_defer),
		cmocka_unit_test(borrowed_mail_goes_back),
		cmocka_unit_test(borrowed_mail_wants_a_permit),
		cmocka_unit_test(connections_are_shared_with_borrowers),
		cmocka_unit_test(a_dead_host_is_not_hammered),
		cmocka_unit_test(we_do_not_connect_to_ourselves),
		cmocka_unit_test(an_old_message_gets_its_last_try),
		cmocka_unit_test(a_blackhole_swallows),
		cmocka_unit_test(a_lost_message_is_let_go),
		cmocka_unit_test(errands_are_run),
		cmocka_unit_test(a_body_in_a_file_is_streamed),
		cmocka_unit_test(the_rate_is_kept),
		cmocka_unit_test(a_drain_finishes_what_is_in_work),
		cmocka_unit_test(it_can_end_at_any_moment),
		cmocka_unit_test(records_are_patient_where_it_costs_nothing),
		cmocka_unit_test(queues_share_a_connection_to_one_host),
		cmocka_unit_test(what_differs_is_not_shared),
		cmocka_unit_test(a_connection_taken_over_may_be_gone),
		cmocka_unit_test(a_limit_holds_for_what_is_taken_over),
		cmocka_unit_test(a_shared_limit_is_no_wait_for_what_rests),
	};

	log_set_sink(quiet, NULL);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
