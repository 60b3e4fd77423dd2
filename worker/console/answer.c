#include "worker/console/answer.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "shm/base/log.h"
#include "shm/base/visible.h"

void
answer_init(struct answer *a, bool json)
{
	*a = (struct answer){ .json = json, .first = true };
	if (json)
		bytes_add_char(&a->out, '{');
}

void
answer_fini(struct answer *a)
{
	bytes_fini(&a->out);
	bytes_fini(&a->cells);
}

void
answer_reset(struct answer *a)
{
	bool json = a->json;

	answer_fini(a);
	answer_init(a, json);
}

struct slice
answer_text(struct answer *a)
{
	if (a->json)
		bytes_add_str(&a->out, "}\n");
	return slice_bytes(&a->out);
}

static void
json_string(struct bytes *out, struct slice s)
{
	bytes_add_char(out, '"');
	while (s.n > 0) {
		unsigned char c = (unsigned char)s.p[0];
		size_t n = utf8_length(s.p, s.n);
		if (c == '"' || c == '\\')
			bytes_addf(out, "\\%c", c);
		else if (n == 0)
			bytes_add_str(out, "\\ufffd");
		else if (!code_is_visible(utf8_code(s.p, n)))
			bytes_addf(out, "\\u%04x", (unsigned)utf8_code(s.p, n));
		else
			bytes_add(out, s.p, n);
		n = n != 0 ? n : 1;
		s.p += n;
		s.n -= n;
	}
	bytes_add_char(out, '"');
}

static void
plain_string(struct bytes *out, struct slice s)
{
	bytes_add_slice(out, s);
	if (s.n > 0)
		make_visible(out->p + out->n - s.n, s.n);
}

static bool
take_line(struct slice *text, struct slice *line)
{
	size_t n = slice_find(*text, '\n');

	if (text->n == 0)
		return false;
	*line = slice_of(text->p, n);
	n += n < text->n;
	*text = slice_of(text->p + n, text->n - n);
	return true;
}

/* Lines are the speaker's own; what stands in them may be anybody's. */
static void
plain_lines(struct bytes *out, struct slice s)
{
	struct slice line;

	while (take_line(&s, &line)) {
		plain_string(out, line);
		bytes_add_char(out, '\n');
	}
}

static void
json_name(struct answer *a, const char *name)
{
	if (!a->first)
		bytes_add_char(&a->out, ',');
	a->first = false;
	json_string(&a->out, slice_str(name));
	bytes_add_char(&a->out, ':');
}

void
answer_str(struct answer *a, const char *name, struct slice value)
{
	if (a->json) {
		json_name(a, name);
		json_string(&a->out, value);
		return;
	}
	bytes_addf(&a->out, "%-24s ", name);
	plain_string(&a->out, value);
	bytes_add_char(&a->out, '\n');
}

void
answer_num(struct answer *a, const char *name, int64_t value)
{
	if (a->json) {
		json_name(a, name);
		bytes_addf(&a->out, "%lld", (long long)value);
	} else
		bytes_addf(&a->out, "%-24s %lld\n", name, (long long)value);
}

static void
time_text(char out[32], usec_t t)
{
	time_t seconds = (time_t)(t / USEC_PER_SEC);
	struct tm tm;

	if (t == 0 || gmtime_r(&seconds, &tm) == NULL)
		snprintf(out, 32, "now");
	else
		strftime(out, 32, "%Y-%m-%d %H:%M:%S", &tm);
}

void
answer_time(struct answer *a, const char *name, usec_t value)
{
	char text[32];

	if (a->json) {
		answer_num(a, name, value / USEC_PER_SEC);
		return;
	}
	time_text(text, value);
	answer_str(a, name, slice_str(text));
}

void
answer_lines(struct answer *a, const char *name, struct slice text)
{
	struct slice line;
	bool first = true;

	if (!a->json) {
		for (; take_line(&text, &line); name = "")
			answer_str(a, name, line);
		return;
	}
	json_name(a, name);
	bytes_add_char(&a->out, '[');
	for (; take_line(&text, &line); first = false) {
		if (!first)
			bytes_add_char(&a->out, ',');
		json_string(&a->out, line);
	}
	bytes_add_char(&a->out, ']');
}

void
answer_say(struct answer *a, const char *fmt, ...)
{
	va_list ap;
	char *line = NULL;

	va_start(ap, fmt);
	if (vasprintf(&line, fmt, ap) < 0)
		log_fatal("console", "out of memory");
	va_end(ap);
	if (a->json) {
		json_name(a, "message");
		json_string(&a->out, slice_str(line));
	} else {
		plain_lines(&a->out, slice_str(line));
	}
	free(line);
}

void
answer_line(struct answer *a, struct slice line)
{
	plain_string(&a->out, line);
	bytes_add_char(&a->out, '\n');
}

void
answer_table(struct answer *a, const char *name, const char *const *columns, unsigned n)
{
	require_that(n > 0 && n <= ANSWER_COLUMNS, "console");
	a->columns = columns;
	a->ncolumns = n;
	a->column = 0;
	a->rows = 0;
	a->cells.n = 0;
	if (a->json) {
		json_name(a, name);
		bytes_add_char(&a->out, '[');
	}
}

/* JSON: what stands before a cell's value. */
static void
json_cell(struct answer *a)
{
	if (a->column == 0)
		bytes_add_str(&a->out, a->rows != 0 ? ",{" : "{");
	else
		bytes_add_char(&a->out, ',');
	json_string(&a->out, slice_str(a->columns[a->column]));
	bytes_add_char(&a->out, ':');
}

static void
next_cell(struct answer *a)
{
	if (++a->column < a->ncolumns)
		return;
	if (a->json)
		bytes_add_char(&a->out, '}');
	a->column = 0;
	a->rows++;
}

void
answer_cell_str(struct answer *a, struct slice value)
{
	if (a->json) {
		json_cell(a);
		json_string(&a->out, value);
	} else
		bytes_add_lstr(&a->cells, value);
	next_cell(a);
}

void
answer_cell_num(struct answer *a, int64_t value)
{
	char text[24];

	if (a->json) {
		json_cell(a);
		bytes_addf(&a->out, "%lld", (long long)value);
	} else {
		snprintf(text, sizeof text, "%lld", (long long)value);
		bytes_add_lstr(&a->cells, slice_str(text));
	}
	next_cell(a);
}

void
answer_cell_time(struct answer *a, usec_t value)
{
	char text[32];

	if (a->json) {
		answer_cell_num(a, value / USEC_PER_SEC);
		return;
	}
	time_text(text, value);
	answer_cell_str(a, slice_str(text));
}

static void
add_row(struct answer *a, const size_t *width, const struct slice *cells)
{
	for (unsigned i = 0; i < a->ncolumns; i++) {
		plain_string(&a->out, cells[i]);
		for (size_t pad = cells[i].n; i + 1 < a->ncolumns && pad < width[i] + 2; pad++)
			bytes_add_char(&a->out, ' ');
	}
	bytes_add_char(&a->out, '\n');
}

static bool
take_row(struct answer *a, struct slice *rest, struct slice *cells)
{
	for (unsigned i = 0; i < a->ncolumns; i++)
		if (!take_lstr(rest, &cells[i]))
			return false;
	return true;
}

void
answer_table_end(struct answer *a, const char *none)
{
	struct slice cells[ANSWER_COLUMNS] = { 0 }, rest = slice_bytes(&a->cells);
	size_t width[ANSWER_COLUMNS] = { 0 };

	if (a->json) {
		bytes_add_char(&a->out, ']');
		return;
	}
	if (a->rows == 0) {
		if (none != NULL)
			bytes_addf(&a->out, "%s\n", none);
		return;
	}
	for (unsigned i = 0; i < a->ncolumns; i++)
		width[i] = strlen(a->columns[i]);
	while (take_row(a, &rest, cells))
		for (unsigned i = 0; i < a->ncolumns; i++)
			width[i] = cells[i].n > width[i] ? cells[i].n : width[i];
	for (unsigned i = 0; i < a->ncolumns; i++)
		cells[i] = slice_str(a->columns[i]);
	add_row(a, width, cells);
	rest = slice_bytes(&a->cells);
	while (take_row(a, &rest, cells))
		add_row(a, width, cells);
}
