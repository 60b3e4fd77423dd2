/* worker/reception: the dialogues of t/smtp, played on the session code. t/smtp/README has their language. */
#include "t/smtp/rig.h"

#include <fnmatch.h>
#include <glob.h>

struct play {
	struct rig *g;
	struct bytes conf;
	const char *file, *from;
	unsigned line;
	size_t mails; /* looked at */
};

#define complain(p, ...)                                            \
	do {                                                        \
		char text_[4096];                                   \
		snprintf(text_, sizeof text_, __VA_ARGS__);         \
		fail_msg("%s:%u: %s", (p)->file, (p)->line, text_); \
	} while (0)

static int
hex(char c)
{
	return c >= '0' && c <= '9' ? c - '0' : ascii_lower(c) - 'a' + 10;
}

/* \{N}X; *s stands behind the backslash. */
static void
repeat(const char **s, struct bytes *out)
{
	char *end;
	unsigned long n = strtoul(*s + 1, &end, 10);

	memset(bytes_room(out, n), end[1], n);
	out->n += n;
	*s = end + 2;
}

static void
unescape(const char *s, struct bytes *out)
{
	static const char names[] = "rnt0\\", values[] = "\r\n\t\0\\";

	while (*s != '\0') {
		const char *name;

		if (*s != '\\') {
			bytes_add_char(out, *s++);
			continue;
		}
		s++;
		if (*s == '{') {
			repeat(&s, out);
		} else if (*s == 'x') {
			bytes_add_char(out, (char)(hex(s[1]) * 16 + hex(s[2])));
			s += 3;
		} else if ((name = strchr(names, *s)) != NULL && *s != '\0') {
			bytes_add_char(out, values[name - names]);
			s++;
		} else {
			bytes_add_char(out, '\\');
		}
	}
}

static void
begin(struct play *p)
{
	if (p->g != NULL)
		return;
	p->g = rig_new(bytes_cstr(&p->conf));
	rig_connect_from(p->g, p->from);
}

static void
client_says(struct play *p, const char *text, bool line)
{
	struct bytes out = { 0 };

	if (line)
		bytes_add_str(&out, text);
	else
		unescape(text, &out);
	if (line)
		bytes_add_str(&out, "\r\n");
	rig_send(p->g, slice_bytes(&out));
	rig_turn(p->g);
	bytes_fini(&out);
}

static void
server_says(struct play *p, const char *pattern)
{
	struct slice said = slice_bytes(&p->g->got);
	size_t n = slice_find(said, '\n');
	char line[1024];

	if (n == said.n || n == 0 || said.p[n - 1] != '\r' || n > sizeof line)
		complain(p, "wanted \"%s\", nothing was said (%s)", pattern, bytes_cstr(&p->g->got));
	memcpy(line, said.p, n - 1);
	line[n - 1] = '\0';
	if (fnmatch(pattern, line, FNM_NOESCAPE) != 0 && strcmp(pattern, line) != 0)
		complain(p, "wanted \"%s\", got \"%s\"", pattern, line);
	bytes_drop(&p->g->got, n + 1);
}

static void
mail_came(struct play *p, char *args)
{
	char *bar = strchr(args, '|');
	struct bytes rcpts = { 0 }, content = { 0 };
	struct rig_mail *m = &p->g->mails[p->mails];

	if (p->mails >= p->g->nmails)
		complain(p, "no message came");
	p->mails++;
	*bar = '\0';
	unescape(args, &rcpts);
	if (strcmp(m->rcpts, bytes_cstr(&rcpts)) != 0)
		complain(p, "it is for %s", m->rcpts);
	unescape(bar + 2, &content);
	if (strcmp(bar + 2, "*") != 0 && !slice_eq(slice_bytes(&content), slice_bytes(&m->content)))
		complain(p, "its content is \"%s\"", bytes_cstr(&m->content));
	bytes_fini(&rcpts);
	bytes_fini(&content);
}

static void
nothing_said(struct play *p)
{
	if (p->g->got.n != 0)
		complain(p, "the server says \"%s\"", bytes_cstr(&p->g->got));
}

static bool
word(char *line, const char *w, char **rest)
{
	size_t n = strlen(w);

	if (strncmp(line, w, n) != 0 || (line[n] != ' ' && line[n] != '\0'))
		return false;
	*rest = line[n] == ' ' ? line + n + 1 : line + n;
	return true;
}

static void
play_line(struct play *p, char *line)
{
	char *rest;

	if (line[0] == '#' || line[0] == '\0')
		return;
	if (word(line, "CONF", &rest)) {
		bytes_addf(&p->conf, "%s\n", rest);
		return;
	}
	if (word(line, "FROM", &rest)) {
		free((void *)(uintptr_t)p->from);
		p->from = mem_strdup(rest);
		return;
	}
	begin(p);
	if (word(line, "C:", &rest))
		nothing_said(p), client_says(p, rest, true);
	else if (word(line, "C|", &rest))
		nothing_said(p), client_says(p, rest, false);
	else if (word(line, "S:", &rest))
		server_says(p, rest);
	else if (word(line, "WAIT", &rest))
		rig_wait(p->g, atoi(rest) * USEC_PER_SEC);
	else if (word(line, "MAIL", &rest))
		mail_came(p, rest);
	else if (word(line, "NONE", &rest))
		nothing_said(p);
	else if (word(line, "CLOSED", &rest) && !p->g->closed)
		complain(p, "it is still open");
	else if (word(line, "NOMAIL", &rest) && p->mails != p->g->nmails)
		complain(p, "%zu more messages came", p->g->nmails - p->mails);
	else if (!word(line, "CLOSED", &rest) && !word(line, "NOMAIL", &rest))
		complain(p, "what is \"%s\"?", line);
}

static void
play_file(const char *path)
{
	struct play p = { .file = path, .from = mem_strdup("127.0.0.1") };
	FILE *f = fopen(path, "re");
	char *line = NULL;
	size_t cap = 0;
	ssize_t n;

	assert_non_null(f);
	while ((n = getline(&line, &cap, f)) > 0) {
		line[n - 1] = '\0';
		p.line++;
		play_line(&p, line);
	}
	nothing_said(&p);
	free(line);
	fclose(f);
	rig_free(p.g);
	bytes_fini(&p.conf);
	free((void *)(uintptr_t)p.from);
}

static void
all_dialogues(void **state)
{
	glob_t found;

	(void)state;
	assert_int_equal(glob("t/smtp/*.dlg", 0, NULL, &found), 0);
	for (size_t i = 0; i < found.gl_pathc; i++)
		play_file(found.gl_pathv[i]);
	assert_true(found.gl_pathc >= 10);
	globfree(&found);
}

int
main(void)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test(all_dialogues) };

	return cmocka_run_group_tests(tests, NULL, NULL);
}
