/* log.h - what the operator reads: lines for the paniclog
 * A line has a level, a subject ("spool", "esmtp", ...) and a text. Where it goes is decided by the sink that the role
 * sets; before one is set, lines go to stderr. Each call is one line; control characters in it are made visible by
 * the sink's caller here, so a peer's text can never begin a line of its own.
 * Threads: every thread may log; the sink must be callable from all of them.
 * Panic is for broken invariants of ours (abort, the watchdog's and the finger's business); fatal ends the process with
 * exit status 1: at start, or in a child that cannot go on. */
#ifndef SHM_BASE_LOG_H
#define SHM_BASE_LOG_H

#include <stdarg.h>
#include <stddef.h>

enum log_level {
	LOG_LVL_FATAL, /* this process ends */
	LOG_LVL_ERROR, /* something was lost or refused, an operator must act */
	LOG_LVL_WARN,  /* it goes on, but not as asked for */
	LOG_LVL_INFO,  /* milestones: start, reload, stop */
	LOG_LVL_DEBUG, /* for us */
};

/* Receives one whole line without newline; `level` is the line's. Must not log. */
typedef void log_sink(void *arg, enum log_level level, const char *line, size_t len);

/* Sets where lines go; NULL goes back to stderr. Borrows arg until the next call. */
void log_set_sink(log_sink *sink, void *arg);
/* Lines below this level are dropped before they are formatted. Default: LOG_LVL_INFO. */
void log_set_level(enum log_level most);

void log_line(enum log_level level, const char *subject, const char *fmt, ...) __attribute__((format(printf, 3, 4)));
/* The same with ": " and the text of errno (as it is on entry) added. */
void log_errno(enum log_level level, const char *subject, const char *fmt, ...) __attribute__((format(printf, 3, 4)));

#define log_error(subject, ...) log_line(LOG_LVL_ERROR, subject, __VA_ARGS__)
#define log_warn(subject, ...)  log_line(LOG_LVL_WARN, subject, __VA_ARGS__)
#define log_info(subject, ...)  log_line(LOG_LVL_INFO, subject, __VA_ARGS__)
#define log_debug(subject, ...) log_line(LOG_LVL_DEBUG, subject, __VA_ARGS__)

/* Logs at LOG_LVL_FATAL and exits with status 1 (no atexit handlers). */
_Noreturn void log_fatal(const char *subject, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
/* Logs at LOG_LVL_FATAL, "panic: " before the text, and aborts. */
_Noreturn void log_panic(const char *subject, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

/* An invariant of ours: stays in every build. */
#define require_that(cond, subject)                                                                   \
	do {                                                                                          \
		if (!(cond))                                                                          \
			log_panic(subject, "%s:%d: broken invariant: %s", __FILE__, __LINE__, #cond); \
	} while (0)

#endif
