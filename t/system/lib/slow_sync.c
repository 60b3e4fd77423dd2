/* slow_sync.c - an LD_PRELOAD library: a disk on which each fdatasync takes SLOW_SYNC_MS milliseconds longer */
#include <dlfcn.h>
#include <stdlib.h>
#include <unistd.h>

int
fdatasync(int fd)
{
	static int (*real)(int);
	const char *ms = getenv("SLOW_SYNC_MS");

	if (real == NULL)
		*(void **)&real = dlsym(RTLD_NEXT, "fdatasync");
	if (ms != NULL)
		usleep((useconds_t)atoi(ms) * 1000);
	return real(fd);
}
