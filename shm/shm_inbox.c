#include "shm/shm_inbox.h"

#include <stdatomic.h>
#include <stdint.h>
#include <unistd.h>

#include "shm/base/log.h"
#include "shm/shm_area_int.h"

static struct inbox *
inbox_of(const struct shm_area *a, int to)
{
	require_that(to >= 0 && to < SLOTS_MAX, "shm");
	return &area_map(a)->inboxes[to];
}

/* The bit is set after the tail, and the consumer looks at the tail again after it has cleared the bit: so no hint
 * stays behind a cleared bit. */
bool
inbox_put(struct shm_area *a, int from, int to, const struct hint *h)
{
	struct inbox *in = inbox_of(a, to);
	struct inbox_ring *r;
	uint32_t tail;

	require_that(from >= 0 && from < SLOTS_MAX, "shm");
	r = &in->rings[from];
	tail = atomic_load_explicit(&r->tail, memory_order_relaxed);
	if (tail - atomic_load_explicit(&r->head, memory_order_acquire) >= INBOX_RING)
		return false;
	r->ring[tail % INBOX_RING] = *h;
	atomic_store_explicit(&r->tail, tail + 1, memory_order_release);
	atomic_fetch_or(&in->from, UINT64_C(1) << from);
	return true;
}

static bool
ring_take(struct inbox_ring *r, struct hint *h)
{
	uint32_t head = atomic_load_explicit(&r->head, memory_order_relaxed);
	uint32_t tail = atomic_load_explicit(&r->tail, memory_order_acquire);

	if (tail == head)
		return false;
	/* a scribbled index: what is there is lost, as hints may be */
	if (tail - head > INBOX_RING) {
		atomic_store_explicit(&r->head, tail, memory_order_release);
		return false;
	}
	*h = r->ring[head % INBOX_RING];
	atomic_store_explicit(&r->head, head + 1, memory_order_release);
	return true;
}

static bool
take_from(struct inbox *in, int from, struct hint *h)
{
	if (ring_take(&in->rings[from], h))
		return true;
	atomic_fetch_and(&in->from, ~(UINT64_C(1) << from));
	if (!ring_take(&in->rings[from], h))
		return false;
	atomic_fetch_or(&in->from, UINT64_C(1) << from);
	return true;
}

bool
inbox_take(struct shm_area *a, int to, struct hint *h, int *from)
{
	struct inbox *in = inbox_of(a, to);
	uint64_t waiting = atomic_load(&in->from);
	uint32_t turn = atomic_load_explicit(&in->turn, memory_order_relaxed);
	int slot;

	for (uint32_t i = 0; waiting != 0 && i < SLOTS_MAX; i++) {
		slot = (int)((turn + i) % SLOTS_MAX);
		if ((waiting >> slot & 1) == 0 || !take_from(in, slot, h))
			continue;
		atomic_store_explicit(&in->turn, (uint32_t)slot + 1, memory_order_relaxed);
		if (from != NULL)
			*from = slot;
		return true;
	}
	return false;
}

void
inbox_clear(struct shm_area *a, int to)
{
	struct inbox *in = inbox_of(a, to);
	struct inbox_ring *r;

	for (int i = 0; i < SLOTS_MAX; i++) {
		r = &in->rings[i];
		atomic_store_explicit(&r->head, atomic_load_explicit(&r->tail, memory_order_acquire),
				      memory_order_release);
	}
}

/* ---- bells ---- */

void
doorbell_ring(const struct shm_area *a, int slot)
{
	uint64_t one = 1;

	/* EAGAIN: it has rung 2^64 - 2 times unheard; it is ringing */
	if (slot >= 0 && slot < SLOTS_MAX && write(a->bells[slot], &one, sizeof(one)) < 0)
		return;
}

int
doorbell_fd(const struct shm_area *a, int slot)
{
	require_that(slot >= 0 && slot < SLOTS_MAX, "shm");
	return a->bells[slot];
}

void
doorbell_answer(const struct shm_area *a, int slot)
{
	uint64_t n;

	if (read(doorbell_fd(a, slot), &n, sizeof(n)) < 0)
		return;
}
