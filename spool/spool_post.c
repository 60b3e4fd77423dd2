#include "spool/spool_post.h"

#include <errno.h>
#include <poll.h>
#include <stdint.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "shm/base/log.h"

bool
postbox_init(struct postbox *box)
{
	box->fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (box->fd < 0)
		return false;
	pthread_mutex_init(&box->lock, NULL);
	STAILQ_INIT(&box->list);
	return true;
}

void
postbox_fini(struct postbox *box)
{
	require_that(STAILQ_EMPTY(&box->list), "spool");
	pthread_mutex_destroy(&box->lock);
	close(box->fd);
}

void
postbox_put(struct postbox *box, struct post *p, void (*run)(struct post *p))
{
	uint64_t one = 1;
	bool first;

	p->run = run;
	pthread_mutex_lock(&box->lock);
	first = STAILQ_EMPTY(&box->list);
	STAILQ_INSERT_TAIL(&box->list, p, link);
	pthread_mutex_unlock(&box->lock);
	if (first && write(box->fd, &one, sizeof one) < 0 && errno != EAGAIN)
		log_panic("spool", "eventfd cannot be written");
}

void
postbox_run(struct postbox *box)
{
	struct post_list list = STAILQ_HEAD_INITIALIZER(list);
	struct post *p;
	uint64_t count;

	/* First the eventfd, then the list: what is put between the two is run now and its wake-up finds nothing. */
	if (read(box->fd, &count, sizeof count) < 0 && errno != EAGAIN && errno != EINTR)
		log_panic("spool", "eventfd cannot be read");
	pthread_mutex_lock(&box->lock);
	STAILQ_CONCAT(&list, &box->list);
	pthread_mutex_unlock(&box->lock);
	while ((p = STAILQ_FIRST(&list)) != NULL) {
		STAILQ_REMOVE_HEAD(&list, link);
		p->run(p);
	}
}

void
postbox_wait(struct postbox *box)
{
	struct pollfd fd = { .fd = box->fd, .events = POLLIN };

	while (poll(&fd, 1, -1) < 0 && errno == EINTR)
		;
}
