/* host_memory.h - which next hops did not answer lately, so that a dead one is not hammered
 * A host that cannot be reached, or breaks the protocol before it takes mail, is left alone for a second, then two,
 * four and so on up to the caller's bound; one success forgets it all. In memory only, of this worker only, bounded:
 * the one longest unused is forgotten. Pure: the clock is the caller's (monotonic). */
#ifndef WORKER_DELIVERY_HOST_MEMORY_H
#define WORKER_DELIVERY_HOST_MEMORY_H

#include <stdbool.h>
#include <sys/socket.h>

#include "shm/base/bytes.h"
#include "shm/base/clock.h"

struct host_memory;

enum { HOST_MEMORY_MAX = 4096 };

struct host_memory *host_memory_new(void);
/* Clears the caller's pointer; NULL inside is fine. */
void host_memory_free(struct host_memory **m);
/* It failed at `now`: avoided for the doubling time, at most `most`. why is kept for the console. */
void host_failed(struct host_memory *m, const struct sockaddr_storage *a, usec_t now, usec_t most, struct slice why);
void host_worked(struct host_memory *m, const struct sockaddr_storage *a);
/* When it may be tried again; 0: at once. */
usec_t host_until(struct host_memory *m, const struct sockaddr_storage *a, usec_t now);
/* What is known of a host that failed and has not worked since; false: nothing. */
struct host_state {
	unsigned failures;
	usec_t until;    /* may be past */
	const char *why; /* holds until the next change */
};
bool host_look(struct host_memory *m, const struct sockaddr_storage *a, struct host_state *out);
/* One line a host that is avoided now. */
void host_memory_describe(const struct host_memory *m, usec_t now, struct bytes *out);

/* "192.0.2.1:25", "[2001:db8::1]:25"; without_port: the address alone, no brackets. */
enum { HOST_TEXT = 64 };
void host_text(const struct sockaddr_storage *a, bool with_port, char out[HOST_TEXT]);
/* The way back from text with a port. False: it is none. */
bool host_parse(struct slice text, struct sockaddr_storage *out);

#endif
