#include "shm/base/log.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "shm/base/visible.h"

enum { LINE_BYTES = 4096 };

static log_sink *sink_fn;
static void *sink_arg;
static enum log_level most_level = LOG_LVL_INFO;

void
log_set_sink(log_sink *sink, void *arg)
{
	sink_fn = sink;
	sink_arg = arg;
}

void
log_set_level(enum log_level most)
{
	most_level = most;
}

static void
emit(enum log_level level, const char *subject, const char *fmt, va_list ap, int with_errno)
{
	char line[LINE_BYTES];
	size_t n;
	int w;

	if (level > most_level)
		return;
	w = snprintf(line, sizeof line, "%s: ", subject);
	n = w < 0 ? 0 : (size_t)w;
	w = vsnprintf(line + n, sizeof line - n, fmt, ap);
	n += w < 0 ? 0 : (size_t)w;
	if (with_errno >= 0 && n < sizeof line) {
		char text[128];
		w = snprintf(line + n, sizeof line - n, ": %s", strerror_r(with_errno, text, sizeof text));
		n += w < 0 ? 0 : (size_t)w;
	}
	if (n >= sizeof line)
		n = sizeof line - 1;
	for (char *tab = line; (tab = memchr(tab, '\t', n - (size_t)(tab - line))) != NULL;)
		*tab = ' ';
	make_visible(line, n);
	if (sink_fn != NULL) {
		sink_fn(sink_arg, level, line, n);
		return;
	}
	line[n] = '\n';
	/* stderr is all there is: a failed write has nobody left to be told. */
	if (write(STDERR_FILENO, line, n + 1) < 0)
		return;
}

void
log_line(enum log_level level, const char *subject, const char *fmt, ...)
{
	int saved = errno;
	va_list ap;

	va_start(ap, fmt);
	emit(level, subject, fmt, ap, -1);
	va_end(ap);
	errno = saved;
}

void
log_errno(enum log_level level, const char *subject, const char *fmt, ...)
{
	int saved = errno;
	va_list ap;

	va_start(ap, fmt);
	emit(level, subject, fmt, ap, saved);
	va_end(ap);
	errno = saved;
}

void
log_fatal(const char *subject, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	emit(LOG_LVL_FATAL, subject, fmt, ap, -1);
	va_end(ap);
	_exit(1);
}

void
log_panic(const char *subject, const char *fmt, ...)
{
	char text[LINE_BYTES];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(text, sizeof text, fmt, ap);
	va_end(ap);
	log_line(LOG_LVL_FATAL, subject, "panic: %s", text);
	abort();
}
