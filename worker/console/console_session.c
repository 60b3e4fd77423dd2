#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include "shm/base/mem.h"
#include "shm/shm_area.h"
#include "worker/console/console_int.h"

struct session {
	TAILQ_ENTRY(session) link;
	struct console *console;
	struct stream *stream;
	struct command *command; /* under way */
	char who[16];
};

static void
command_free(struct command *c)
{
	loop_timer_stop(c->console->loop, &c->deadline);
	req_forget(c->console->channel, c);
	answer_fini(&c->answer);
	bytes_fini(&c->reply);
	bytes_fini(&c->line);
	if (c->own_free != NULL)
		c->own_free(c->own);
	else
		free(c->own);
	free(c);
}

void
session_free(struct session *s)
{
	if (s->command != NULL)
		command_free(s->command);
	TAILQ_REMOVE(&s->console->sessions, s, link);
	s->console->nsessions--;
	stream_close(&s->stream);
	free(s);
}

struct session *
session_next(struct session *s)
{
	return TAILQ_NEXT(s, link);
}

bool
session_busy(const struct session *s)
{
	return s->command != NULL || stream_pending(s->stream) > 0;
}

void
command_end(struct command *c, enum err e)
{
	struct session *s = c->session;
	struct slice text = answer_text(&c->answer);

	if (e == OK && c->status != 0)
		stream_writef(s->stream, "+%zu %u\n", text.n, c->status);
	else
		stream_writef(s->stream, "%c%zu\n", e == OK ? '+' : '-', text.n);
	stream_write(s->stream, text);
	s->command = NULL;
	command_free(c);
	stream_hold_reading(s->stream, false);
}

/* The verb whose words begin the line; the longest one, so "binding summary" is found before a verb "binding". */
static const struct verb *
find_verb(const struct slice *words, unsigned n, unsigned *taken)
{
	const struct verb *best = NULL;

	*taken = 0;
	for (const struct verb *v = console_verbs; v->words != NULL; v++) {
		struct slice rest = slice_str(v->words);
		unsigned i = 0;
		for (; rest.n > 0; i++) {
			size_t len = slice_find(rest, ' ');
			if (i == n || !slice_ieq(words[i], slice_of(rest.p, len)))
				break;
			len += len < rest.n;
			rest.p += len;
			rest.n -= len;
		}
		if (rest.n == 0 && i > *taken) {
			best = v;
			*taken = i;
		}
	}
	return best;
}

static enum err
run_words(struct command *c, struct slice *words, unsigned n)
{
	unsigned taken;
	const struct verb *v = find_verb(words, n, &taken);

	if (v == NULL)
		return command_refuse(c, ERR_NOTFOUND, "unknown command '%.*s': help lists them",
				      n > 0 ? (int)words[0].n : 0, n > 0 ? words[0].p : "");
	c->nwords = n - taken;
	for (unsigned i = 0; i < c->nwords; i++)
		c->words[i] = words[taken + i];
	if (c->nwords < v->least || c->nwords > v->most)
		return command_refuse(c, ERR_SYNTAX, "usage: %s %s", v->words, v->usage);
	return v->run(c);
}

static void
run_line(struct session *s, struct slice line)
{
	struct slice words[COMMAND_WORDS];
	struct command *c = mem_zalloc(sizeof *c);
	unsigned n, first;
	enum err e;
	bool json;

	bytes_add_slice(&c->line, line);
	e = command_split(&c->line, words, &n);
	json = e == OK && n > 0 && slice_eq(words[0], SLICE("--json"));
	slot_add(shm_slot(s->console->env->area, s->console->env->slot), CELL_CONSOLE_COMMANDS, 1);
	c->console = s->console;
	c->session = s;
	s->command = c;
	first = json;
	answer_init(&c->answer, json);
	stream_hold_reading(s->stream, true);
	if (e != OK)
		e = command_refuse(c, e, "a quote without end, or more than %d words", COMMAND_WORDS);
	else
		e = run_words(c, words + first, n - first);
	if (e != ERR_AGAIN)
		command_end(c, e);
}

/* One line at a time: reading is held while a command runs, so what a client sends ahead waits in its socket. */
static void
on_readable(struct session *s)
{
	struct slice in = stream_in(s->stream);
	size_t n = slice_find(in, '\n');
	struct bytes line = { 0 };

	if (n == in.n) {
		if (n > COMMAND_LINE)
			session_free(s);
		return;
	}
	bytes_add(&line, in.p, n > 0 && in.p[n - 1] == '\r' ? n - 1 : n);
	stream_consume(s->stream, n + 1);
	run_line(s, slice_bytes(&line));
	bytes_fini(&line);
}

static void
on_event(struct stream *stream, enum stream_event ev, void *arg)
{
	struct session *s = arg;

	(void)stream;
	if (ev == STREAM_READABLE)
		on_readable(s);
	else if (ev == STREAM_EOF || ev == STREAM_ERROR)
		session_free(s);
}

/* The oldest session that waits for nothing goes, so that idle ones never lock out the next who asks. */
bool
session_make_room(struct console *k)
{
	struct session *s;

	TAILQ_FOREACH (s, &k->sessions, link) {
		if (!session_busy(s)) {
			session_free(s);
			return true;
		}
	}
	return false;
}

/* The number only: the user database is outside of our root. */
static void
name_peer(struct session *s, int fd)
{
	struct ucred peer;
	socklen_t n = sizeof peer;

	if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &n) != 0)
		snprintf(s->who, sizeof s->who, "unknown");
	else if (peer.uid == 0)
		snprintf(s->who, sizeof s->who, "root");
	else
		snprintf(s->who, sizeof s->who, "uid %u", (unsigned)peer.uid);
}

const char *
session_who(const struct session *s)
{
	return s->who;
}

void
session_new(struct console *k, int fd)
{
	struct session *s;

	if (k->nsessions >= SESSIONS_MOST && !session_make_room(k)) {
		close(fd);
		return;
	}
	s = mem_zalloc(sizeof *s);
	s->console = k;
	name_peer(s, fd);
	s->stream = stream_new(k->loop, fd, on_event, s);
	TAILQ_INSERT_TAIL(&k->sessions, s, link);
	k->nsessions++;
}
