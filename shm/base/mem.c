#include "shm/base/mem.h"

#include <malloc.h>
#include <stdlib.h>
#include <string.h>

#include "shm/base/fault.h"
#include "shm/base/log.h"

void *
mem_alloc(size_t n)
{
	void *p = fault_fails("mem.alloc") ? NULL : malloc(n != 0 ? n : 1);

	if (p == NULL)
		log_fatal("memory", "out of memory (%zu bytes asked for)", n);
	return p;
}

void *
mem_zalloc(size_t n)
{
	void *p = fault_fails("mem.alloc") ? NULL : calloc(1, n != 0 ? n : 1);

	if (p == NULL)
		log_fatal("memory", "out of memory (%zu bytes asked for)", n);
	return p;
}

void *
mem_array(void *old, size_t count, size_t size)
{
	void *p = fault_fails("mem.alloc") ? NULL : reallocarray(old, count != 0 ? count : 1, size);

	if (p == NULL)
		log_fatal("memory", "out of memory (%zu times %zu bytes asked for)", count, size);
	return p;
}

char *
mem_strndup(const char *s, size_t n)
{
	char *p = mem_alloc(n + 1);

	memcpy(p, s, n);
	p[n] = '\0';
	return p;
}

char *
mem_strdup(const char *s)
{
	return mem_strndup(s, strlen(s));
}

enum { GIVE_BACK_MIN = 8 << 20 };

void
mem_give_back(void)
{
	struct mallinfo2 m = mallinfo2();

	if (m.fordblks >= GIVE_BACK_MIN)
		(void)malloc_trim(0);
}
