/* LMDB believes the pages it reads: one false offset, and it reads behind the file (SIGBUS), behind the map (SIGSEGV), or
 * finds an assertion of its own false and aborts. A file that can be built anew must not end who reads it, so such a
 * call is left by a jump. The library holds no lock while it reads, so a reading transaction can be ended as any other;
 * of a writing one nothing is touched again. */
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stddef.h>

#include "shm/shm_lmdb_int.h"

static _Thread_local sigjmp_buf *landing; /* NULL: outside a guarded call */
static struct sigaction before_segv, before_bus;
static pthread_mutex_t install_lock = PTHREAD_MUTEX_INITIALIZER;

/* A signal that somebody sent is not about a page. */
static void
on_fault(int signo, siginfo_t *info, void *context)
{
	(void)context;
	if (landing != NULL && info->si_code > 0)
		lmdb_guard_fall();
	(void)sigaction(signo, signo == SIGBUS ? &before_bus : &before_segv, NULL);
	if (info->si_code <= 0)
		(void)raise(signo); /* a fault comes again by itself, and names its true place */
}

/* Nothing to do if it is ours already: who came behind us is who was before us, once more. */
static void
take_over(int signo, struct sigaction *before)
{
	/* NODEFER: the jump leaves the signal unblocked without a call to restore the mask. */
	struct sigaction ours = { .sa_sigaction = on_fault, .sa_flags = SA_SIGINFO | SA_NODEFER }, now;

	(void)sigemptyset(&ours.sa_mask);
	if (sigaction(signo, NULL, &now) != 0 || now.sa_sigaction == on_fault)
		return;
	*before = now;
	(void)sigaction(signo, &ours, NULL);
}

void
lmdb_guard_install(void)
{
	pthread_mutex_lock(&install_lock);
	take_over(SIGSEGV, &before_segv);
	take_over(SIGBUS, &before_bus);
	pthread_mutex_unlock(&install_lock);
}

bool
lmdb_guard_run(void (*fn)(void *arg), void *arg)
{
	sigjmp_buf here;

	if (sigsetjmp(here, 0) != 0) {
		landing = NULL;
		return false;
	}
	landing = &here;
	fn(arg);
	landing = NULL;
	return true;
}

_Noreturn void
lmdb_guard_fall(void)
{
	siglongjmp(*landing, 1);
}
