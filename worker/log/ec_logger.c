#include "worker/log/ec_logger.h"

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <stdlib.h>
#include <unistd.h>

#include "shm/base/fault.h"
#include "shm/base/mem.h"
#include "shm/base/visible.h"

enum { BACKLOG_DEFAULT = 4 << 20, WRITE_MOST = 64 << 10, FATAL_BYTES = 4096 + 32 /* a line, and its time */ };

struct file {
	int fd;
	struct bytes waiting; /* whole lines */
	bool torn;            /* the last write ended within a line */
};

struct eclog {
	struct eclog_conf conf;
	pthread_t loop;       /* whose lines may be handed to conf.run */
	pthread_mutex_t lock; /* guards what follows; held for copies only, never for a write */
	struct file file[ECLOG_FILES];
	enum { NOT_SCHEDULED, SOON, AT_ONCE } scheduled; /* the writer */
	uint64_t lines, lost, told;
	pthread_mutex_t writing; /* one writer at a time, so lines keep their order */
	struct bytes line;       /* loop thread: the line being built */
};

struct eclog *
eclog_new(const struct eclog_conf *conf)
{
	struct eclog *l = mem_zalloc(sizeof *l);

	l->conf = *conf;
	l->loop = pthread_self();
	if (l->conf.backlog == 0)
		l->conf.backlog = BACKLOG_DEFAULT;
	pthread_mutex_init(&l->lock, NULL);
	pthread_mutex_init(&l->writing, NULL);
	for (int i = 0; i < ECLOG_FILES; i++)
		l->file[i].fd = conf->fd[i];
	return l;
}

int
eclog_fd(const struct eclog *l, enum eclog_file file)
{
	return l->file[file].fd;
}

void
eclog_free(struct eclog **lp)
{
	struct eclog *l = *lp;

	if (l == NULL)
		return;
	*lp = NULL;
	eclog_flush(l);
	for (int i = 0; i < ECLOG_FILES; i++) {
		if (l->file[i].fd >= 0)
			close(l->file[i].fd);
		bytes_fini(&l->file[i].waiting);
	}
	bytes_fini(&l->line);
	pthread_mutex_destroy(&l->lock);
	pthread_mutex_destroy(&l->writing);
	free(l);
}

static uint64_t
count_lines(struct slice s)
{
	uint64_t lines = 0;

	for (size_t i = 0; i < s.n; i++)
		lines += s.p[i] == '\n';
	return lines;
}

/* The longest run of whole lines that one write should carry. */
static size_t
whole_lines(struct slice s)
{
	size_t n = s.n < WRITE_MOST ? s.n : WRITE_MOST;

	while (n > 0 && s.p[n - 1] != '\n')
		n--;
	return n != 0 ? n : slice_find(s, '\n') + 1;
}

static ssize_t
write_some(int fd, const char *p, size_t n)
{
	int injected = fault_error("log.write");
	ssize_t w;

	if (injected != 0) {
		errno = injected;
		return -1;
	}
	do
		w = write(fd, p, n);
	while (w < 0 && errno == EINTR);
	return w;
}

/* Gives the number of lines lost. A line torn by a full disk is closed before the next one begins. */
static uint64_t
write_lines(struct file *f, int fd, struct slice s)
{
	uint64_t lost = 0;

	while (s.n > 0) {
		size_t n = whole_lines(s);
		ssize_t w;
		if (f->torn && write_some(fd, "\n", 1) == 1)
			f->torn = false;
		w = f->torn ? -1 : write_some(fd, s.p, n);
		if (w < 0)
			lost += count_lines(slice_of(s.p, n));
		else if ((size_t)w < n) {
			lost += count_lines(slice_of(s.p + w, n - (size_t)w));
			f->torn = w > 0 && s.p[w - 1] != '\n';
		}
		s.p += n;
		s.n -= n;
	}
	return lost;
}

static void
write_file(struct eclog *l, struct file *f)
{
	struct bytes taken;
	uint64_t lost;
	int fd;

	pthread_mutex_lock(&l->lock);
	taken = f->waiting;
	f->waiting = (struct bytes){ 0 };
	fd = f->fd;
	pthread_mutex_unlock(&l->lock);
	if (taken.n == 0)
		return;
	lost = fd >= 0 ? write_lines(f, fd, slice_bytes(&taken)) : 0;
	bytes_fini(&taken);
	pthread_mutex_lock(&l->lock);
	l->lost += lost;
	pthread_mutex_unlock(&l->lock);
}

static void add_line(struct eclog *l, enum eclog_file file, struct slice line);

/* The operator hears of lost lines in the log they belong beside, as soon as lines can be written again. */
static void
tell_lost(struct eclog *l)
{
	struct bytes text = { 0 };
	uint64_t lost;

	pthread_mutex_lock(&l->lock);
	lost = l->lost - l->told;
	l->told = l->lost;
	pthread_mutex_unlock(&l->lock);
	if (lost == 0)
		return;
	bytes_addf(&text, "%lld:ec_logger: %llu log lines were lost (log disk full, failing or too slow)\n",
		   (long long)(clock_real() / USEC_PER_SEC), (unsigned long long)lost);
	add_line(l, ECLOG_PANIC, slice_bytes(&text));
	bytes_fini(&text);
}

void
eclog_flush(struct eclog *l)
{
	pthread_mutex_lock(&l->writing);
	for (int i = 0; i < ECLOG_FILES; i++)
		write_file(l, &l->file[i]);
	pthread_mutex_unlock(&l->writing);
}

static void
writer_job(void *arg)
{
	struct eclog *l = arg;

	pthread_mutex_lock(&l->lock);
	l->scheduled = NOT_SCHEDULED;
	pthread_mutex_unlock(&l->lock);
	tell_lost(l);
	eclog_flush(l);
}

static void
add_line(struct eclog *l, enum eclog_file file, struct slice line)
{
	struct file *f = &l->file[file];
	bool here = l->conf.run == NULL || !pthread_equal(pthread_self(), l->loop), schedule, urgent;

	pthread_mutex_lock(&l->lock);
	l->lines += f->fd >= 0;
	if (f->fd >= 0 && f->waiting.n + line.n <= l->conf.backlog)
		bytes_add_slice(&f->waiting, line);
	else if (f->fd >= 0)
		l->lost++;
	urgent = file == ECLOG_PANIC;
	schedule = f->waiting.n > 0 && !here && l->scheduled < (urgent ? AT_ONCE : SOON);
	if (schedule)
		l->scheduled = urgent ? AT_ONCE : SOON;
	pthread_mutex_unlock(&l->lock);
	if (schedule)
		l->conf.run(l->conf.run_arg, urgent, writer_job, l);
	else if (here)
		eclog_flush(l);
}

void
eclog_reopen(struct eclog *l, const int fd[ECLOG_FILES])
{
	eclog_flush(l);
	pthread_mutex_lock(&l->writing);
	pthread_mutex_lock(&l->lock);
	for (int i = 0; i < ECLOG_FILES; i++) {
		if (fd[i] < 0)
			continue;
		if (l->file[i].fd >= 0)
			close(l->file[i].fd);
		l->file[i].fd = fd[i];
		l->file[i].torn = false;
	}
	pthread_mutex_unlock(&l->lock);
	pthread_mutex_unlock(&l->writing);
}

uint64_t
eclog_lines(const struct eclog *l)
{
	return l->lines;
}

uint64_t
eclog_lost(const struct eclog *l)
{
	return l->lost;
}

/* The last field: to the end of the line, so nothing in it needs an escape. */
static void
add_text(struct bytes *b, struct slice s)
{
	char *p = bytes_room(b, s.n);

	if (s.n > 0)
		memcpy(p, s.p, s.n);
	make_visible(p, s.n);
	b->n += s.n;
}

static void
add_field(struct bytes *b, struct slice s)
{
	char *p = bytes_room(b, 2 * s.n + 1), *at = p, *clean = p + s.n + 1; /* read from behind what is written */

	if (s.n > 0)
		memcpy(clean, s.p, s.n);
	make_visible(clean, s.n);
	for (size_t i = 0; i < s.n; i++) {
		if (clean[i] == '@' || clean[i] == '\\')
			*at++ = '\\';
		*at++ = clean[i];
	}
	*at++ = '@';
	b->n += (size_t)(at - p);
}

static void
add_seconds(struct bytes *b, usec_t real)
{
	bytes_add_decimal(b, real > 0 ? (uint64_t)(real / USEC_PER_SEC) : 0);
}

static void
add_number(struct bytes *b, uint64_t v)
{
	bytes_add_decimal(b, v);
	bytes_add_char(b, '@');
}

/* Seconds with six digits behind the point. */
static void
add_duration(struct bytes *b, usec_t t)
{
	uint64_t us = t > 0 ? (uint64_t)t : 0;
	char *p;

	bytes_add_decimal(b, us / USEC_PER_SEC);
	us %= USEC_PER_SEC;
	p = bytes_room(b, 8);
	p[0] = '.';
	for (int i = 6; i > 0; i--, us /= 10)
		p[i] = (char)('0' + us % 10);
	p[7] = '@';
	b->n += 8;
}

static void
begin(struct eclog *l, usec_t now, const char *id, const char *batch, const char *conn, char type)
{
	const char *const ids[] = { id, batch, conn };

	l->line.n = 0;
	add_seconds(&l->line, now);
	bytes_add_char(&l->line, '@');
	for (size_t i = 0; i < sizeof ids / sizeof ids[0]; i++) {
		bytes_add_str(&l->line, ids[i]);
		bytes_add_char(&l->line, '@');
	}
	bytes_add_char(&l->line, type);
	bytes_add_char(&l->line, '@');
}

static void
end(struct eclog *l, enum eclog_file file)
{
	bytes_add_char(&l->line, '\n');
	add_line(l, file, slice_bytes(&l->line));
}

void
eclog_log_reception(struct eclog *l, const struct eclog_reception *r)
{
	if (!l->conf.receptions)
		return;
	begin(l, r->now, r->id, r->batch, r->conn, 'R');
	add_field(&l->line, r->rcpt_local);
	add_field(&l->line, r->rcpt_domain);
	add_field(&l->line, r->from_local);
	add_field(&l->line, r->from_domain);
	add_field(&l->line, r->peer_ip.n != 0 ? r->peer_ip : SLICE("unknown"));
	add_number(&l->line, r->size);
	add_field(&l->line, r->protocol);
	add_field(&l->line, r->group);
	add_text(&l->line, r->binding);
	end(l, ECLOG_MAIN);
}

static void
begin_outbound(struct eclog *l, const struct eclog_delivery *d, char type)
{
	begin(l, d->now, d->id, d->batch, d->conn, type);
	add_field(&l->line, d->domain);
	add_number(&l->line, d->size);
	add_field(&l->line, d->group);
	add_field(&l->line, d->binding);
}

void
eclog_log_delivery(struct eclog *l, const struct eclog_delivery *d)
{
	if (!l->conf.deliveries)
		return;
	begin_outbound(l, d, 'D');
	add_number(&l->line, d->retries);
	add_duration(&l->line, d->queued);
	add_text(&l->line, d->ip);
	end(l, ECLOG_MAIN);
}

static void
log_failure(struct eclog *l, const struct eclog_delivery *d, char type)
{
	begin_outbound(l, d, type);
	add_number(&l->line, d->stage);
	add_number(&l->line, d->retries);
	add_duration(&l->line, d->queued);
	add_field(&l->line, d->ip);
	add_text(&l->line, d->text);
	end(l, ECLOG_MAIN);
}

void
eclog_log_transient(struct eclog *l, const struct eclog_delivery *d)
{
	if (l->conf.transient_failures)
		log_failure(l, d, 'T');
}

void
eclog_log_permanent(struct eclog *l, const struct eclog_delivery *d)
{
	if (l->conf.permanent_failures)
		log_failure(l, d, 'P');
}

void
eclog_context(struct bytes *list, struct slice key, struct slice value)
{
	bool quote = value.n == 0;

	for (size_t i = 0; i < value.n; i++)
		quote = quote || memchr(" ,\"[]\\=", value.p[i], 7) != NULL || (unsigned char)value.p[i] < 0x20;
	if (list->n != 0)
		bytes_add_char(list, ',');
	bytes_add_slice(list, key);
	bytes_add_char(list, '=');
	if (!quote) {
		bytes_add_slice(list, value);
		return;
	}
	bytes_add_char(list, '"');
	for (size_t i = 0; i < value.n; i++) {
		if (value.p[i] == '"' || value.p[i] == '\\')
			bytes_add_char(list, '\\');
		bytes_add_char(list, value.p[i]);
	}
	bytes_add_char(list, '"');
}

static struct slice
or_default(struct slice s)
{
	return s.n != 0 ? s : SLICE("default");
}

static void
add_named(struct bytes *b, const char *before, struct slice value, const char *after)
{
	bytes_add_str(b, before);
	add_text(b, value);
	bytes_add_str(b, after);
}

void
eclog_log_rejection(struct eclog *l, const struct eclog_rejection *r)
{
	struct bytes *b = &l->line;

	if (!l->conf.rejections)
		return;
	b->n = 0;
	bytes_addf(b, "%lld: ", (long long)(r->now / USEC_PER_SEC));
	add_named(b, "R=\"", r->remote, "\" ");
	add_named(b, "L=\"", r->local, "\" ");
	bytes_addf(b, "C=\"%s\" ", r->conn);
	add_named(b, "PATH=\"", or_default(r->pathway), "\" ");
	add_named(b, "PATH_GRP=\"", or_default(r->pathway_group), "\" ");
	add_named(b, "P=\"", r->phase, "\" ");
	bytes_addf(b, "E=%u ", r->code);
	add_named(b, "M=", r->module, " ");
	add_named(b, "CTXCONN=[", r->ctx_conn, "] ");
	add_named(b, "CTXMESS=[", r->ctx_mess, "] ");
	add_text(b, r->text);
	end(l, ECLOG_REJECT);
}

void
eclog_heartbeat(struct eclog *l, usec_t now)
{
	l->line.n = 0;
	bytes_addf(&l->line, "%lld@@@@M1\n", (long long)(now / USEC_PER_SEC));
	add_line(l, ECLOG_MAIN, slice_bytes(&l->line));
	l->line.n = 0;
	bytes_addf(&l->line, "%lld: Marker 1\n", (long long)(now / USEC_PER_SEC));
	add_line(l, ECLOG_REJECT, slice_bytes(&l->line));
}

/* A pipe that is full because its reader sleeps must not stop a loop, least of all the master's. */
static bool
stderr_takes(void)
{
	struct pollfd p = { .fd = STDERR_FILENO, .events = POLLOUT };

	return poll(&p, 1, 0) == 1;
}

/* Whoever dies may hold it itself, out of memory in the middle of a line. */
static bool
comes_free(pthread_mutex_t *lock)
{
	struct timespec until;

	clock_gettime(CLOCK_REALTIME, &until);
	until.tv_sec += 1;
	if (pthread_mutex_timedlock(lock, &until) != 0)
		return false;
	pthread_mutex_unlock(lock);
	return true;
}

/* The last line of a process, which may have no memory left: nothing is allocated here, and nobody runs the writer any
 * more. If it cannot be written there is nobody left to be told. */
static void
fatal_line(struct eclog *l, const char *line, size_t n)
{
	char text[FATAL_BYTES];
	int head = snprintf(text, sizeof text, "%lld:", (long long)(clock_real() / USEC_PER_SEC));
	size_t used = head > 0 ? (size_t)head : 0;

	for (size_t i = 0; i < n && used + 1 < sizeof text; i++)
		text[used++] = (unsigned char)line[i] < ' ' ? '?' : line[i];
	text[used++] = '\n';
	if (comes_free(&l->writing) && comes_free(&l->lock))
		eclog_flush(l);
	if (l->conf.panic_to_stderr && stderr_takes())
		l->conf.panic_to_stderr = write(STDERR_FILENO, text, used) >= 0;
	if (l->conf.errors && l->file[ECLOG_PANIC].fd >= 0)
		(void)write_lines(&l->file[ECLOG_PANIC], l->file[ECLOG_PANIC].fd, slice_of(text, used));
}

void
eclog_panic_line(void *arg, enum log_level level, const char *line, size_t n)
{
	struct eclog *l = arg;
	struct bytes b = { 0 };

	if (level == LOG_LVL_FATAL) {
		fatal_line(l, line, n);
		return;
	}
	bytes_addf(&b, "%lld:", (long long)(clock_real() / USEC_PER_SEC));
	add_text(&b, slice_of(line, n));
	bytes_add_char(&b, '\n');
	/* Told twice rather than lost: the copy for -f must not depend on the log disk. */
	if (l->conf.panic_to_stderr && stderr_takes() && write(STDERR_FILENO, b.p, b.n) < 0)
		l->conf.panic_to_stderr = false; /* nobody reads it any more */
	if (l->conf.errors)
		add_line(l, ECLOG_PANIC, slice_bytes(&b));
	bytes_fini(&b);
}
