#include "shm/base/fault.h"

#ifdef IMPETUS_FAULTS
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

enum { RULES_MAX = 16 };

/* Those of the environment: each process counts for itself. */
static struct fault_rule rules[RULES_MAX];
static int rules_n;
/* Those of the file: shared by all. */
static struct fault_board *board;
static pthread_once_t once = PTHREAD_ONCE_INIT;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

static const struct {
	const char *name;
	int value;
} errors[] = { { "ENOSPC", ENOSPC }, { "EIO", EIO },     { "ENOMEM", ENOMEM }, { "ENFILE", ENFILE },
	       { "EDQUOT", EDQUOT }, { "EINTR", EINTR }, { "EMFILE", EMFILE } };

static bool
rule_parse(const char *text, struct fault_rule *r)
{
	const char *eq = strchr(text, '='), *at = strchr(text, '@');
	size_t n;

	if (eq == NULL || eq == text || (size_t)(eq - text) >= sizeof r->point)
		return false;
	memcpy(r->point, text, (size_t)(eq - text));
	r->at = at != NULL ? (unsigned)strtoul(at + 1, NULL, 10) : 1;
	r->onward = text[strlen(text) - 1] == '*';
	n = strcspn(eq + 1, "@*");
	r->action = FAULT_ERROR;
	if (n == 4 && memcmp(eq + 1, "kill", 4) == 0) {
		r->action = FAULT_KILL;
		return true;
	}
	if (n == 5 && memcmp(eq + 1, "short", 5) == 0) {
		r->action = FAULT_SHORT;
		return true;
	}
	for (size_t i = 0; i < sizeof errors / sizeof errors[0]; i++)
		if (strlen(errors[i].name) == n && memcmp(eq + 1, errors[i].name, n) == 0)
			r->error = errors[i].value;
	return r->error != 0;
}

static void
rules_take(const char *text)
{
	char *copy, *save = NULL;

	memset(rules, 0, sizeof rules);
	rules_n = 0;
	if (text == NULL || (copy = strdup(text)) == NULL)
		return;
	for (char *t = strtok_r(copy, ",", &save); t != NULL && rules_n < RULES_MAX; t = strtok_r(NULL, ",", &save))
		if (rule_parse(t, &rules[rules_n]))
			rules_n++;
	free(copy);
}

static void
setup(void)
{
	rules_take(getenv("IMPETUS_FAULT"));
}

void
fault_set(const char *text)
{
	pthread_once(&once, setup);
	pthread_mutex_lock(&lock);
	rules_take(text);
	pthread_mutex_unlock(&lock);
}

static bool
only_one_dies(void)
{
	const char *path = getenv("IMPETUS_FAULT_ONCE");
	int fd;

	if (path == NULL)
		return true;
	fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
	if (fd >= 0)
		close(fd);
	return fd >= 0;
}

/* Before the first fork: children share it, whatever their root directory will be. */
__attribute__((constructor)) static void
board_map(void)
{
	const char *path = getenv("IMPETUS_FAULT_FILE");
	int fd = path != NULL ? open(path, O_RDWR | O_CLOEXEC) : -1;
	void *map;

	if (fd < 0)
		return;
	map = mmap(NULL, sizeof *board, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	close(fd);
	if (map != MAP_FAILED)
		board = map;
}

static bool
rule_is_for(const struct fault_rule *r, const char *name, uint32_t action)
{
	return action != FAULT_OFF && strcmp(r->point, name) == 0 && (r->pid == 0 || r->pid == (uint32_t)getpid());
}

/* This passage is the one. */
static bool
rule_counts(struct fault_rule *r)
{
	uint32_t seen = atomic_fetch_add(&r->seen, 1) + 1;
	bool hit = seen == r->at || (r->onward && seen > r->at);

	if (hit)
		atomic_fetch_add(&r->hits, 1);
	return hit;
}

/* A copy of the action, so that a rule that is taken away meanwhile is seen whole or not at all. */
static bool
rules_hit(struct fault_rule *list, uint32_t n, const char *name, const uint32_t want[2], struct fault_rule *out)
{
	bool any = false;

	for (uint32_t i = 0; i < n; i++) {
		uint32_t action = atomic_load_explicit(&list[i].action, memory_order_acquire);

		if ((action != want[0] && action != want[1]) || !rule_is_for(&list[i], name, action) ||
		    !rule_counts(&list[i]))
			continue;
		*out = (struct fault_rule){ .action = action, .error = list[i].error };
		any = true;
	}
	return any;
}

static bool
hit(const char *name, uint32_t want, uint32_t or, struct fault_rule *out)
{
	const uint32_t wanted[2] = { want, or };
	bool any;

	pthread_once(&once, setup);
	pthread_mutex_lock(&lock);
	any = rules_hit(rules, (uint32_t)rules_n, name, wanted, out);
	pthread_mutex_unlock(&lock);
	if (board != NULL)
		any = rules_hit(board->rule, atomic_load_explicit(&board->rules, memory_order_relaxed), name, wanted,
				out) ||
		      any;
	return any;
}

void
fault_point(const char *name)
{
	struct fault_rule r;

	if (!hit(name, FAULT_KILL, FAULT_KILL_ALL, &r) || !only_one_dies())
		return;
	kill(r.action == FAULT_KILL_ALL ? 0 : getpid(), SIGKILL);
}

void
fault_header(const char *header, size_t n)
{
	const char *deadly = getenv("IMPETUS_CRASH_HEADER");

	if (deadly != NULL && memmem(header, n, deadly, strlen(deadly)) != NULL)
		abort();
}

int
fault_error(const char *name)
{
	struct fault_rule r;

	return hit(name, FAULT_ERROR, FAULT_ERROR, &r) ? r.error : 0;
}

bool
fault_fails(const char *name)
{
	int error = fault_error(name);

	if (error == 0)
		return false;
	errno = error;
	return true;
}

size_t
fault_short(const char *name, size_t n)
{
	struct fault_rule r;

	return n > 1 && hit(name, FAULT_SHORT, FAULT_SHORT, &r) ? n / 2 : n;
}
#else
/* An empty translation unit is not C. */
typedef int fault_unused;
#endif
