#include "shm/base/fault.h"

#ifdef IMPETUS_FAULTS
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { RULES_MAX = 16, NAME_MAX_BYTES = 64 };

struct rule {
	char point[NAME_MAX_BYTES];
	int error; /* 0: kill */
	unsigned at, seen;
	bool onward;
};

static struct rule rules[RULES_MAX];
static int rules_n;
static pthread_once_t once = PTHREAD_ONCE_INIT;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

static const struct {
	const char *name;
	int value;
} errors[] = { { "ENOSPC", ENOSPC }, { "EIO", EIO },     { "ENOMEM", ENOMEM },
	       { "EDQUOT", EDQUOT }, { "EINTR", EINTR }, { "EMFILE", EMFILE } };

static bool
rule_parse(const char *text, struct rule *r)
{
	const char *eq = strchr(text, '='), *at = strchr(text, '@');
	size_t n;

	if (eq == NULL || eq == text || (size_t)(eq - text) >= sizeof r->point)
		return false;
	memcpy(r->point, text, (size_t)(eq - text));
	r->at = at != NULL ? (unsigned)strtoul(at + 1, NULL, 10) : 1;
	r->onward = text[strlen(text) - 1] == '*';
	n = strcspn(eq + 1, "@*");
	if (n == 4 && memcmp(eq + 1, "kill", 4) == 0)
		return true;
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

/* 0, or what the rule asks for: an errno, or SIGKILL. */
static int
rule_hit(const char *name, bool error)
{
	int hit = 0;

	pthread_once(&once, setup);
	pthread_mutex_lock(&lock);
	for (int i = 0; i < rules_n; i++) {
		struct rule *r = &rules[i];
		if ((r->error != 0) != error || strcmp(r->point, name) != 0)
			continue;
		r->seen++;
		if (r->seen == r->at || (r->onward && r->seen > r->at))
			hit = r->error != 0 ? r->error : SIGKILL;
	}
	pthread_mutex_unlock(&lock);
	return hit;
}

void
fault_point(const char *name)
{
	if (rule_hit(name, false) != 0 && only_one_dies())
		kill(getpid(), SIGKILL);
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
	return rule_hit(name, true);
}
#else
/* An empty translation unit is not C. */
typedef int fault_unused;
#endif
