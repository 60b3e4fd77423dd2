#include "policy/conf/conf_report.h"

#include <stdarg.h>
#include <stdlib.h>

#include "shm/base/mem.h"

enum { REPORTS_MAX = 500 };

static const char *
severity_text(enum conf_severity severity)
{
	switch (severity) {
	case CONF_ERROR:
		return "error";
	case CONF_NOT_BUILT:
		return "not built";
	case CONF_WARNING:
		return "warning";
	}
	return "?";
}

void
conf_report(struct conf_errors *errs, enum conf_severity severity, struct conf_pos pos, const char *fmt, ...)
{
	va_list ap;
	char *text;

	errs->count[severity]++;
	if (errs->n >= REPORTS_MAX)
		return;
	if (errs->n == errs->cap) {
		errs->cap = errs->cap == 0 ? 16 : errs->cap * 2;
		errs->v = mem_array(errs->v, errs->cap, sizeof(*errs->v));
	}
	va_start(ap, fmt);
	if (vasprintf(&text, fmt, ap) < 0)
		text = mem_strdup(fmt);
	va_end(ap);
	errs->v[errs->n++] = (struct conf_error){
		.severity = severity,
		.file = mem_strdup(pos.file == NULL ? "" : pos.file),
		.line = pos.line,
		.column = pos.column,
		.text = text,
	};
}

void
conf_error_print(const struct conf_error *e, struct bytes *out)
{
	bytes_add_str(out, e->file);
	if (e->line > 0)
		bytes_addf(out, ":%u:%u", e->line, e->column);
	bytes_addf(out, ": %s: %s", severity_text(e->severity), e->text);
}

static void
free_const(const char *p)
{
	union {
		const char *in;
		char *out;
	} u = { .in = p };

	free(u.out);
}

void
conf_errors_fini(struct conf_errors *errs)
{
	for (size_t i = 0; i < errs->n; i++) {
		free_const(errs->v[i].file);
		free_const(errs->v[i].text);
	}
	free(errs->v);
	*errs = (struct conf_errors){ 0 };
}
