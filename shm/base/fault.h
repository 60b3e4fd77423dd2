/* fault.h - named points at which a test build dies or fails on request
 * In the product these are nothing. With IMPETUS_FAULTS defined (the test and sanitizer builds) there are two ways to
 * ask for something:
 * The environment variable IMPETUS_FAULT, comma-separated: POINT=kill[@N] kills this process by SIGKILL at the N-th
 * passage (default 1), POINT=ENAME[@N] makes fault_error return that errno once, POINT=ENAME[@N]* from then on. Only the
 * first process that reaches a kill dies when IMPETUS_FAULT_ONCE names a file: it is created, O_EXCL, by the one that dies.
 * A file that IMPETUS_FAULT_FILE names, struct fault_board: mapped before main, so it also reaches children in another
 * root; whoever runs the test writes rules into it while we run, takes them away, and reads how often a point was passed.
 * Passages are counted over all processes there. Points are named subject.moment, e.g. "journal.before_sync"; those of
 * the spool are listed in spool/spool_faults.h. Any thread. */
#ifndef SHM_BASE_FAULT_H
#define SHM_BASE_FAULT_H

#include <stdbool.h>
#include <stddef.h>

#ifdef IMPETUS_FAULTS
#include <stdatomic.h>
#include <stdint.h>

enum { FAULT_BOARD_RULES = 16, FAULT_NAME = 40 };

enum fault_action {
	FAULT_OFF,
	FAULT_KILL,     /* fault_point: this process */
	FAULT_KILL_ALL, /* fault_point: its process group: the whole service, as the power does */
	FAULT_ERROR,    /* fault_error, fault_fails */
	FAULT_SHORT,    /* fault_short */
};

/* t/crash/lib/board.py writes the same layout. `action` is written last. */
struct fault_rule {
	char point[FAULT_NAME];
	_Atomic uint32_t action;
	int32_t error; /* an errno; where a library has codes of its own, one of those */
	uint32_t at;   /* the passage that is hit, from 1 */
	uint32_t onward;
	uint32_t pid; /* only this process; 0: any */
	_Atomic uint32_t seen, hits;
	uint32_t unused;
};

struct fault_board {
	_Atomic uint32_t rules; /* how many are looked at */
	uint32_t unused[3];
	struct fault_rule rule[FAULT_BOARD_RULES];
};

void fault_point(const char *name);
/* A message that kills: aborts when the words of IMPETUS_CRASH_HEADER stand in the n bytes of its header. */
void fault_header(const char *header, size_t n);
/* 0, or the errno to fail with. */
int fault_error(const char *name);
/* The same as a question: true, and errno is set. */
bool fault_fails(const char *name);
/* How many of n bytes a write is to write: n, or about half of them. */
size_t fault_short(const char *name, size_t n);
/* For unit tests: these rules instead of those before, counted anew; NULL: none. */
void fault_set(const char *rules);
#else
#define fault_point(name)       ((void)0)
#define fault_header(header, n) ((void)0)
#define fault_error(name)       (0)
#define fault_fails(name)       (false)
#define fault_short(name, n)    (n)
#endif

#endif
