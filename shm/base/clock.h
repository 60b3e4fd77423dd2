/* clock.h - the two clocks, and the seam by which tests and simulations set them
 * Monotonic time drives timers, budgets and throttles; real time is for ids, due times and log lines, and may step in
 * either direction. Microseconds, signed 64 bit. No errors. Any thread. */
#ifndef SHM_BASE_CLOCK_H
#define SHM_BASE_CLOCK_H

#include <stdint.h>

typedef int64_t usec_t;
#define USEC_PER_SEC INT64_C(1000000)
#define USEC_PER_MS  INT64_C(1000)

usec_t clock_mono(void);
/* Since 1970-01-01 UTC. */
usec_t clock_real(void);
/* Puts another source in place of the system's; both NULL goes back. Before threads start, tests only. */
void clock_set_source(usec_t (*mono)(void), usec_t (*real)(void));

#endif
