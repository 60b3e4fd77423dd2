/* mem.h - allocation that never returns NULL
 * A child may die of out-of-memory (its slot comes back, nothing is lost); the master must not, so the master uses
 * malloc and checks. Sizes that come from the network are bounded before they reach these calls. */
#ifndef SHM_BASE_MEM_H
#define SHM_BASE_MEM_H

#include <stddef.h>

/* All end the process with a fatal line when there is no memory; n = 0 gives a pointer that may be freed. */
void *mem_alloc(size_t n);
void *mem_zalloc(size_t n);
/* count * size, overflow checked. */
void *mem_array(void *old, size_t count, size_t size);
char *mem_strdup(const char *s);
char *mem_strndup(const char *s, size_t n);
/* What was freed between things in use goes back to the system, if it is much. Takes a millisecond or so for each ten
 * megabytes then: now and then, between turns. */
void mem_give_back(void);

#endif
