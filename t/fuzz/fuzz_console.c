/* The control socket against anybody who may open it, and other processes that answer anything: every line gets one
 * framed answer, in order; JSON is JSON; text has no control characters of anyone's but those of a message that was
 * asked for; what is asked of others keeps to the table of requests.
 * Input: lines as a client sends them, in pieces that end with \1; \2 begins an answer of another process (u8 status,
 * text up to the next \1), given to the oldest open question. */
#include <fcntl.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include "policy/conf/conf.h"
#include "shm/base/mem.h"
#include "spool/format/addr.h"
#include "spool/spool_keeper.h"
#include "t/fuzz/home.h"
#include "worker/console/console_int.h"
#include "worker/delivery/delivery_options.h"

enum { QUESTIONS = 256, TURNS = 6 };

/* Once a process: a small spool as the console finds it, with a hostile name or two in it. */
static struct {
	struct home home;
	struct shm_area *area;
	struct index *index;
	struct state *state;
	struct conf *conf;
} s;

struct world {
	struct console k;
	struct role_env env;
	int client, others;
	struct bytes got;
	struct req_head asked[QUESTIONS];
	unsigned first, n;
	unsigned lines, answers;
	bool closed;
};

static usec_t fake_now = 1000 * USEC_PER_SEC;

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

static usec_t
fake_clock(void)
{
	return fake_now;
}

/* ---- the spool ---- */

static bool
nobody_lives(void *arg, uint64_t writer)
{
	(void)arg;
	(void)writer;
	return false;
}

static bool
no_mark(void *arg, uint64_t writer, uint32_t *seg, uint32_t *mark)
{
	(void)arg;
	(void)writer;
	(void)seg;
	(void)mark;
	return false;
}

static uint32_t
put(int fd, uint32_t off, struct record *r)
{
	uint64_t n = record_encoded_size(r);
	char *buf = mem_alloc(n);

	record_encode(r, buf);
	record_seal(buf, (struct place){ 1, off }, off, 20);
	require_that(segment_write(fd, off, buf, n) == OK, "fuzz");
	free(buf);
	record_fini(r);
	return off + (uint32_t)n;
}

static uint32_t
put_message(int fd, uint32_t off, msgid_t id, struct slice rcpt, struct slice domain)
{
	struct record r = { .items = 0 };
	struct spool_message m = { .id = id,
				   .batch = id,
				   .received_at = 1,
				   .origin = ORIGIN_ACCEPTED,
				   .sender = SLICE("a@\x1b[2Jx"),
				   .rcpt = rcpt,
				   .binding = SLICE("out1"),
				   .domain = domain,
				   .peer = SLICE("192.0.2.1:25"),
				   .header_blob = BLOB_NONE,
				   .body_blob = BLOB_NONE,
				   .conn_ctx_blob = BLOB_NONE,
				   .ctx_blob = BLOB_NONE };

	m.header_blob = record_add_blob(&r, SLICE("Subject: \xff\"\\\r\n"));
	m.body_blob = record_add_blob(&r, SLICE("\r\nbody \x1b[1m\r\n"));
	m.size = 30;
	record_add_message(&r, &m);
	return put(fd, off, &r);
}

/* Queued, in doubt, held, quarantined. */
static void
put_mail(int fd)
{
	uint32_t off = SEGMENT_HEAD;
	struct place at = { 1, off };
	struct spool_edit hold = { .action = EDIT_HOLD, .at = 9, .reason = SLICE("why\nnot \x9b") };

	off = put_message(fd, off, 1, SLICE("b@y.test"), SLICE("y.test"));
	for (msgid_t id = 2; id <= 4; id++) {
		struct record r = { .items = 0 };
		struct spool_attempt a = { .id = id, .n = 1, .at = 1000 };

		at.off = off;
		a.place = hold.place = at;
		hold.id_lo = hold.id_hi = id;
		hold.action = id == 3 ? EDIT_HOLD : EDIT_QUARANTINE;
		off = put_message(fd, off, id, SLICE("\"q\\\"\"@\xc3\xa9.test"), SLICE("\xc3\xa9.test"));
		if (id == 2)
			record_add_attempt(&r, &a);
		else
			record_add_edit(&r, &hold);
		off = put(fd, off, &r);
	}
}

static void
make_spool(void)
{
	static const struct keeper_hooks hooks = { .alive = nobody_lives, .mark = no_mark };
	_Atomic uint32_t highest = 1;
	struct keeper_conf conf = { .spool_fd = s.home.dir,
				    .index_path = "index",
				    .index_size = 16 << 20,
				    .highest = &highest,
				    .writer = 1000,
				    .segment_size = SEGMENT_SIZE_MIN,
				    .hooks = &hooks };
	struct keeper *k;
	struct state *state;
	int fd = home_segment(&s.home, 1, SEGMENT_JOURNAL);

	put_mail(fd);
	close(fd);
	require_that(keeper_open(&conf, &k) == OK && keeper_settle(k, clock_mono()) == OK, "fuzz");
	keeper_close(&k);
	require_that(state_open("state", true, &state) == OK, "fuzz");
	require_that(state_binding_set(state, SLICE("out1"),
				       &(struct state_binding){ .suspension = STATE_SUSPENDED, .since = 1 }) == OK,
		     "fuzz");
	state_close(&state);
}

static void
end(void)
{
	index_close(&s.index);
	state_close(&s.state);
	conf_unref(&s.conf);
	shm_area_free(&s.area);
	home_end(&s.home);
}

static void
load_conf(void)
{
	struct conf_source src = { .path = "fuzz.conf",
				   .text = SLICE(
					   "Binding \"out1\" { }\nBinding_Group \"g\" { Binding \"out2\" { } }\n"),
				   .tables = &delivery_options,
				   .n_tables = 1,
				   .no_files = true };
	struct conf_errors errs = { 0 };

	s.conf = conf_load(&src, &errs);
	require_that(s.conf != NULL, "fuzz");
	conf_errors_fini(&errs);
}

static void
begin(void)
{
	struct index_conf conf = { .path = "index", .map_size = 16 << 20 };
	int home = open(".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	uint8_t owners[PARTITIONS];

	clock_set_source(fake_clock, fake_clock);
	home_begin(&s.home);
	require_that(fchdir(s.home.dir) == 0, "fuzz");
	s.area = shm_area_new();
	memset(owners, 2, sizeof(owners));
	partitions_publish(s.area, 1, owners);
	make_spool();
	require_that(index_open(&conf, &s.index) == OK && state_open("state", false, &s.state) == OK, "fuzz");
	load_conf();
	require_that(home >= 0 && fchdir(home) == 0, "fuzz");
	close(home);
	atexit(end);
}

/* ---- what comes back ---- */

/* JSON as RFC 8259 has it: what stands at p is one value; gives where it ends, or NULL. */
static const char *json_value(const char *p, const char *end, unsigned depth);

static const char *
json_string_end(const char *p, const char *end)
{
	for (p++; p < end && *p != '"'; p++) {
		if ((unsigned char)*p < ' ')
			return NULL;
		if (*p == '\\' && ++p < end && *p == 'u')
			p += 4;
	}
	return p < end ? p + 1 : NULL;
}

static const char *
json_list(const char *p, const char *end, char close, unsigned depth)
{
	for (p++; p != NULL && p < end && *p != close; p += *p == ',') {
		if (close == '}') {
			p = *p == '"' ? json_string_end(p, end) : NULL;
			p = p != NULL && p < end && *p == ':' ? p + 1 : NULL;
		}
		p = p == NULL ? NULL : json_value(p, end, depth + 1);
		if (p == NULL || p >= end || (*p != ',' && *p != close) || (*p == ',' && p + 1 < end && p[1] == close))
			return NULL;
	}
	return p != NULL && p < end ? p + 1 : NULL;
}

static const char *
json_value(const char *p, const char *end, unsigned depth)
{
	if (p >= end || depth > 4)
		return NULL;
	if (*p == '"')
		return json_string_end(p, end);
	if (*p == '{' || *p == '[')
		return json_list(p, end, *p == '{' ? '}' : ']', depth);
	if (*p != '-' && (*p < '0' || *p > '9'))
		return NULL;
	for (p++; p < end && *p >= '0' && *p <= '9'; p++)
		;
	return p;
}

static void
check_text(struct slice text, bool message)
{
	if (text.n > 0 && text.p[0] == '{') {
		const char *after = json_value(text.p, text.p + text.n, 0);

		require_that(utf8_valid(text), "fuzz");
		if (after != NULL && after + 1 == text.p + text.n && *after == '\n')
			return;
	}
	for (size_t i = 0; i < text.n && !message; i++)
		require_that(((unsigned char)text.p[i] >= ' ' && text.p[i] != 127) || text.p[i] == '\n', "fuzz");
}

/* Whole answers; a message's own text may hold anything. */
static void
read_answers(struct world *w)
{
	struct slice in = slice_bytes(&w->got);
	uint64_t length;

	for (;;) {
		size_t n = slice_find(in, '\n');
		struct slice text, words;

		if (n == in.n)
			break;
		require_that(n >= 2 && (in.p[0] == '+' || in.p[0] == '-'), "fuzz");
		words = slice_of(in.p + 1, n - 1); /* length, and an exit status if the command has one */
		words.n = slice_find(words, ' ');
		require_that(slice_u64(words, 1 << 20, &length), "fuzz");
		if (in.n - n - 1 < length)
			break;
		text = slice_of(in.p + n + 1, length);
		check_text(text, memmem(text.p, text.n, "\r\nbody ", 7) != NULL);
		w->answers++;
		in = slice_of(in.p + n + 1 + length, in.n - n - 1 - length);
	}
	bytes_drop(&w->got, w->got.n - in.n);
}

static void
read_client(struct world *w)
{
	ssize_t n = -1;

	while (w->client >= 0 && (n = recv(w->client, bytes_room(&w->got, 4096), 4096, MSG_DONTWAIT)) != 0) {
		if (n < 0)
			break;
		w->got.n += (size_t)n;
	}
	if (w->client >= 0 && n == 0)
		w->closed = true;
	read_answers(w);
}

/* ---- the others ---- */

/* What the console asks is what the master would let through. */
static void
read_questions(struct world *w)
{
	static char buf[sizeof(struct req_head) + REQ_PAYLOAD];
	struct req_head h;
	ssize_t n;

	while ((n = recv(w->others, buf, sizeof(buf), MSG_DONTWAIT)) > 0) {
		struct req_meter meter = { .used = { 0 } };
		const struct req_row *row;

		require_that((size_t)n >= sizeof(h), "fuzz");
		memcpy(&h, buf, sizeof(h));
		row = req_row(h.type);
		require_that(req_violation(&h, (size_t)n, ROLE_CONSOLE, SLOT_SERVING, ROLE_NONE, &meter, fake_now) ==
				     NULL,
			     "fuzz");
		require_that(row != NULL && row->reply && w->n < QUESTIONS, "fuzz");
		w->asked[w->n++] = h;
	}
}

static void
answer(struct world *w, uint8_t status, struct slice text)
{
	struct req_head h;
	char buf[sizeof(h) + 1024];
	size_t n = text.n < 1024 ? text.n : 1024;

	read_questions(w);
	if (w->first == w->n)
		return;
	h = w->asked[w->first];
	h.flags = (status & 0x80) != 0 ? REQ_REPLY | REQ_MORE : REQ_REPLY;
	h.status = status & 0x7f;
	h.len = (uint16_t)n;
	w->first += (status & 0x80) == 0;
	memcpy(buf, &h, sizeof(h));
	memcpy(buf + sizeof(h), text.p, n);
	(void)send(w->others, buf, sizeof(h) + n, MSG_DONTWAIT | MSG_NOSIGNAL);
}

/* No question comes unasked; notices are not the console's. */
static void
on_request(void *arg, struct req_channel *c, struct req_msg *m)
{
	(void)arg;
	(void)c;
	(void)m;
	abort();
}

static void
turns(struct world *w)
{
	for (int i = 0; i < TURNS; i++) {
		loop_turn(w->k.loop, 0);
		require_that(req_channel_turn(w->k.channel, on_request, w) == OK, "fuzz");
		read_questions(w);
		read_client(w);
	}
}

/* ---- a client's session ---- */

static void
say(struct world *w, struct slice piece)
{
	for (size_t i = 0; i < piece.n; i++)
		w->lines += piece.p[i] == '\n';
	if (w->client >= 0 && piece.n > 0)
		(void)send(w->client, piece.p, piece.n, MSG_DONTWAIT | MSG_NOSIGNAL);
}

static void
play(struct world *w, struct slice in)
{
	while (in.n > 0 && !w->closed) {
		size_t n = slice_find(in, '\1');
		struct slice piece = slice_of(in.p, n);

		n += n < in.n;
		in = slice_of(in.p + n, in.n - n);
		if (piece.n >= 2 && piece.p[0] == '\2')
			answer(w, (uint8_t)piece.p[1], slice_of(piece.p + 2, piece.n - 2));
		else
			say(w, piece);
		turns(w);
	}
	/* Who was asked and says nothing is given up; then every line has its answer. */
	for (unsigned i = 0; i <= w->lines && !w->closed && w->answers < w->lines; i++) {
		fake_now += (COMMAND_SECONDS + 1) * USEC_PER_SEC;
		turns(w);
	}
	require_that(w->closed || w->answers == w->lines, "fuzz");
}

static void
world_open(struct world *w)
{
	int fd[2], others[2];
	uint64_t writer;

	*w = (struct world){ .client = -1 };
	w->env = (struct role_env){ .role = ROLE_CONSOLE,
				    .slot = 1,
				    .area = s.area,
				    .conf = s.conf,
				    .spool_dirfd = s.home.dir,
				    .spool_path = s.home.folder };
	require_that(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fd) == 0, "fuzz");
	require_that(req_pair(&others[0], &others[1]) == OK, "fuzz");
	w->others = others[0];
	w->client = fd[0];
	w->k = (struct console){ .env = &w->env,
				 .loop = loop_new(),
				 .channel = req_channel_new(others[1], 1),
				 .index = s.index,
				 .state = s.state };
	TAILQ_INIT(&w->k.sessions);
	shm_slot_take(s.area, 2, ROLE_WORKER, 1, &writer);
	slot_set_state(shm_slot(s.area, 2), SLOT_SERVING);
	session_new(&w->k, fd[1]);
}

static void
world_close(struct world *w)
{
	struct session *session;

	while ((session = TAILQ_FIRST(&w->k.sessions)) != NULL)
		session_free(session);
	close(w->client);
	for (int i = 0; i < 3; i++) {
		fake_now += 100 * USEC_PER_SEC;
		loop_turn(w->k.loop, 0);
	}
	req_channel_free(&w->k.channel);
	loop_free(&w->k.loop);
	close(w->others);
	bytes_fini(&w->got);
	shm_slot_reap(s.area, 2, 0, true);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
	struct world w;

	if (s.area == NULL)
		begin();
	clock_set_source(fake_clock, fake_clock);
	fake_now = 1000 * USEC_PER_SEC;
	world_open(&w);
	play(&w, slice_of(data, n));
	world_close(&w);
	clock_set_source(NULL, NULL);
	return 0;
}
