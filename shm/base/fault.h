/* fault.h - named points at which a test build dies or fails on request
 * In the product these are nothing. With IMPETUS_FAULTS defined (the test and sanitizer builds) the environment
 * variable IMPETUS_FAULT names what is to happen, comma-separated: POINT=kill[@N] kills this process by SIGKILL at the
 * N-th passage (default 1), POINT=ENAME[@N] makes fault_error return that errno once, POINT=ENAME[@N]* from then on.
 * Only the first process that reaches a kill dies when IMPETUS_FAULT_ONCE names a file: it is created, O_EXCL, by the
 * one that dies. Points are named subject.moment, e.g. "journal.before_sync"; t/crash lists them. Any thread. */
#ifndef SHM_BASE_FAULT_H
#define SHM_BASE_FAULT_H

#include <stddef.h>

#ifdef IMPETUS_FAULTS
void fault_point(const char *name);
/* A message that kills: aborts when the words of IMPETUS_CRASH_HEADER stand in the n bytes of its header. */
void fault_header(const char *header, size_t n);
/* 0, or the errno to fail with. */
int fault_error(const char *name);
/* For unit tests: these rules instead of those before, counted anew; NULL: none. */
void fault_set(const char *rules);
#else
#define fault_point(name)       ((void)0)
#define fault_header(header, n) ((void)0)
#define fault_error(name)       (0)
#endif

#endif
