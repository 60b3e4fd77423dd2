#include "shm/base/clock.h"

#include <stddef.h>
#include <time.h>

static usec_t (*mono_source)(void);
static usec_t (*real_source)(void);

static usec_t
read_clock(clockid_t id)
{
	struct timespec ts;

	clock_gettime(id, &ts);
	return (usec_t)ts.tv_sec * USEC_PER_SEC + ts.tv_nsec / 1000;
}

usec_t
clock_mono(void)
{
	return mono_source != NULL ? mono_source() : read_clock(CLOCK_MONOTONIC);
}

usec_t
clock_real(void)
{
	return real_source != NULL ? real_source() : read_clock(CLOCK_REALTIME);
}

void
clock_set_source(usec_t (*mono)(void), usec_t (*real)(void))
{
	mono_source = mono;
	real_source = real;
}
