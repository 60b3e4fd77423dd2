#include "shm/shm_area.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <unistd.h>

#include "shm/base/log.h"
#include "shm/shm_area_int.h"
#include "shm/shm_limits.h"

/* ---- records under a sequence count ---- */

enum { SEQ_TRIES = 1000 };

static void
seq_begin(_Atomic uint32_t *seq)
{
	atomic_store_explicit(seq, atomic_load_explicit(seq, memory_order_relaxed) | 1, memory_order_relaxed);
	atomic_thread_fence(memory_order_release);
}

static void
seq_end(_Atomic uint32_t *seq)
{
	atomic_store_explicit(seq, atomic_load_explicit(seq, memory_order_relaxed) + 1, memory_order_release);
}

static void
words_store(shm_word *dst, const void *src, size_t n)
{
	uint64_t w;

	for (size_t i = 0; i * 8 < n; i++) {
		w = 0;
		memcpy(&w, (const char *)src + i * 8, n - i * 8 < 8 ? n - i * 8 : 8);
		atomic_store_explicit(&dst[i], w, memory_order_relaxed);
	}
}

static void
words_load(void *dst, const shm_word *src, size_t n)
{
	uint64_t w;

	for (size_t i = 0; i * 8 < n; i++) {
		w = atomic_load_explicit(&src[i], memory_order_relaxed);
		memcpy((char *)dst + i * 8, &w, n - i * 8 < 8 ? n - i * 8 : 8);
	}
}

static void
seq_write(_Atomic uint32_t *seq, shm_word *dst, const void *src, size_t n)
{
	seq_begin(seq);
	words_store(dst, src, n);
	seq_end(seq);
}

/* False when no consistent copy could be had: the count was scribbled over. */
static bool
seq_read(const _Atomic uint32_t *seq, const shm_word *src, void *dst, size_t n)
{
	uint32_t before;

	for (int i = 0; i < SEQ_TRIES; i++) {
		before = atomic_load_explicit(seq, memory_order_acquire);
		words_load(dst, src, n);
		atomic_thread_fence(memory_order_acquire);
		if ((before & 1) == 0 && atomic_load_explicit(seq, memory_order_relaxed) == before)
			return true;
	}
	return false;
}

/* ---- the mapping ---- */

static bool
open_bells(struct shm_area *a)
{
	for (int i = 0; i < SLOTS_MAX; i++) {
		a->bells[i] = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
		if (a->bells[i] < 0)
			return false;
	}
	return true;
}

static struct area_map *
map_new(void)
{
	struct area_map *map;
	int fd = memfd_create("impetus", MFD_CLOEXEC), e;

	if (fd < 0)
		return NULL;
	map = ftruncate(fd, (off_t)sizeof(*map)) < 0
		      ? MAP_FAILED
		      : mmap(NULL, sizeof(*map), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_NORESERVE, fd, 0);
	e = errno;
	close(fd);
	errno = e;
	return map == MAP_FAILED ? NULL : map;
}

struct shm_area *
shm_area_new(void)
{
	struct shm_area *a = calloc(1, sizeof(*a));
	uint8_t nobody[PARTITIONS];

	if (a == NULL)
		return NULL;
	memset(a->bells, -1, sizeof(a->bells));
	a->map = map_new();
	if (a->map == NULL || !open_bells(a) || !limits_init(&a->map->limits)) {
		int e = errno;

		shm_area_free(&a);
		errno = e;
		return NULL;
	}
	atomic_store(&a->map->lives_next, 1);
	memset(nobody, SLOT_NOBODY, sizeof(nobody));
	for (int p = 0; p < PARTITIONS; p++)
		atomic_store_explicit(&a->map->partitions.owner[p], nobody[p], memory_order_relaxed);
	return a;
}

void
shm_area_free(struct shm_area **a)
{
	struct shm_area *area = *a;

	if (area == NULL)
		return;
	*a = NULL;
	for (int i = 0; i < SLOTS_MAX; i++)
		if (area->bells[i] >= 0)
			close(area->bells[i]);
	if (area->map != NULL)
		munmap(area->map, sizeof(*area->map));
	free(area);
}

void
shm_area_each_fd(const struct shm_area *a, void (*keep)(int fd, void *arg), void *arg)
{
	for (int i = 0; i < SLOTS_MAX; i++)
		keep(a->bells[i], arg);
}

struct shm_limits *
shm_area_limits(struct shm_area *a)
{
	return &a->map->limits;
}

/* ---- slots ---- */

struct shm_slot *
shm_slot(struct shm_area *a, int slot)
{
	require_that(slot >= 0 && slot < SLOTS_MAX, "shm");
	return &a->map->slots[slot];
}

int
slot_number(const struct shm_area *a, const struct shm_slot *s)
{
	return (int)(s - a->map->slots);
}

static uint64_t
new_writer(void)
{
	uint64_t w = 0;

	while (w == 0)
		if (getrandom(&w, sizeof(w), 0) != (ssize_t)sizeof(w))
			log_panic("shm", "no random numbers");
	return w;
}

static void
life_write(struct shm_area *a, const struct life *l)
{
	struct shm_life *line = &a->map->lives[l->serial % LIVES_KEPT];

	seq_write(&line->seq, line->words, l, sizeof(*l));
}

static void
slot_who_write(struct shm_slot *s, const struct slot_who *w)
{
	seq_write(&s->who_seq, s->who, w, sizeof(*w));
}

static void
slot_start_anew(struct shm_slot *s)
{
	slot_finger_clear(s);
	atomic_store(&s->mark, 0);
	atomic_store(&s->heartbeat, 0);
	atomic_store(&s->state, SLOT_STARTING);
}

void
shm_slot_take(struct shm_area *a, int slot, enum role role, uint32_t generation, uint64_t *writer)
{
	struct shm_slot *s = shm_slot(a, slot);
	struct slot_who w = { .generation = generation, .writer = new_writer(), .role = role, .born = clock_mono() };
	struct life l = { .serial = atomic_load(&a->map->lives_next),
			  .writer = w.writer,
			  .generation = generation,
			  .slot = (uint8_t)slot,
			  .role = role,
			  .born_mono = w.born };

	require_that(atomic_load(&s->taken) == 0, "shm");
	slot_start_anew(s);
	slot_who_write(s, &w);
	life_write(a, &l);
	atomic_store(&a->map->lives_next, l.serial + 1);
	atomic_store(&s->taken, 1);
	*writer = w.writer;
}

void
shm_slot_born(struct shm_area *a, int slot, pid_t pid)
{
	struct shm_slot *s = shm_slot(a, slot);
	struct slot_who w;
	struct life l;

	words_load(&w, s->who, sizeof(w));
	w.pid = pid;
	slot_who_write(s, &w);
	if (life_find(a, w.writer, &l)) {
		l.pid = pid;
		life_write(a, &l);
	}
}

/* Under the sequence count: a reader never sees a counter in both places or in none. */
static void
fold_cells(struct area_map *map, struct shm_slot *s)
{
	int64_t v;

	seq_begin(&map->dead_seq);
	for (int c = 0; c < CELL_MAX; c++) {
		v = atomic_exchange_explicit(&s->cells[c], 0, memory_order_relaxed);
		if (cell_kind((enum cell)c) == CELL_IS_COUNTER)
			atomic_fetch_add_explicit(&map->dead[c], v, memory_order_relaxed);
	}
	seq_end(&map->dead_seq);
}

static void
life_end(struct shm_area *a, struct shm_slot *s, uint64_t writer, int signo, bool convicts)
{
	struct life l;

	if (!life_find(a, writer, &l))
		return;
	l.ended = true;
	l.signo = signo;
	l.convicts = convicts;
	l.ended_mono = clock_mono();
	slot_mark(s, &l.seg, &l.mark);
	slot_finger(s, &l.finger);
	life_write(a, &l);
	if (convicts && l.finger.kind == FINGER_PEER)
		atomic_fetch_add(&a->map->peer_deaths, 1);
}

void
shm_slot_reap(struct shm_area *a, int slot, int signo, bool convicts)
{
	struct shm_slot *s = shm_slot(a, slot);
	struct slot_who w;

	words_load(&w, s->who, sizeof(w));
	life_end(a, s, w.writer, signo, convicts);
	fold_cells(a->map, s);
	limits_clear_slot(&a->map->limits, slot);
	atomic_store(&s->taken, 0);
	atomic_store(&s->state, SLOT_FREE);
	memset(&w, 0, sizeof(w));
	slot_who_write(s, &w);
	slot_finger_clear(s);
}

void
slot_set_state(struct shm_slot *s, enum slot_state state)
{
	atomic_store(&s->state, (uint32_t)state);
}

enum slot_state
slot_state(const struct shm_slot *s)
{
	uint32_t v = atomic_load(&s->state);

	return v <= SLOT_DRAINING ? (enum slot_state)v : SLOT_FREE;
}

bool
slot_who(const struct shm_slot *s, struct slot_who *out)
{
	if (atomic_load(&s->taken) == 0 || !seq_read(&s->who_seq, s->who, out, sizeof(*out)) || out->writer == 0)
		return false;
	out->state = slot_state(s);
	return true;
}

void
slot_beat(struct shm_slot *s, usec_t now_mono)
{
	atomic_store_explicit(&s->heartbeat, now_mono, memory_order_relaxed);
}

usec_t
slot_heartbeat(const struct shm_slot *s)
{
	return atomic_load_explicit(&s->heartbeat, memory_order_relaxed);
}

void
slot_publish_mark(struct shm_slot *s, uint32_t seg, uint32_t mark)
{
	atomic_store_explicit(&s->mark, (uint64_t)seg << 32 | mark, memory_order_release);
}

void
slot_mark(const struct shm_slot *s, uint32_t *seg, uint32_t *mark)
{
	uint64_t v = atomic_load_explicit(&s->mark, memory_order_acquire);

	*seg = (uint32_t)(v >> 32);
	*mark = (uint32_t)v;
}

/* ---- the finger ---- */

static void
finger_head(struct shm_slot *s, enum finger_kind kind, size_t len)
{
	atomic_store_explicit(&s->finger[0], (uint64_t)kind | (uint64_t)len << 8, memory_order_release);
}

void
slot_finger_message(struct shm_slot *s, uint64_t id)
{
	finger_head(s, FINGER_NONE, 0);
	atomic_store_explicit(&s->finger[1], id, memory_order_relaxed);
	finger_head(s, FINGER_MESSAGE, 0);
}

void
slot_finger_peer(struct shm_slot *s, struct slice peer)
{
	if (peer.n > FINGER_TEXT)
		peer.n = FINGER_TEXT;
	finger_head(s, FINGER_NONE, 0);
	words_store(&s->finger[2], peer.p, peer.n);
	finger_head(s, FINGER_PEER, peer.n);
}

void
slot_finger_clear(struct shm_slot *s)
{
	finger_head(s, FINGER_NONE, 0);
}

/* The words may be another process's nonsense: everything is bounded, and what cannot be printed is a '?'. */
void
slot_finger(const struct shm_slot *s, struct finger *out)
{
	uint64_t head = atomic_load_explicit(&s->finger[0], memory_order_acquire);
	size_t len = head >> 8 & 0xff;

	memset(out, 0, sizeof(*out));
	out->kind = (head & 0xff) <= FINGER_PEER ? (enum finger_kind)(head & 0xff) : FINGER_NONE;
	if (out->kind == FINGER_MESSAGE)
		out->id = atomic_load_explicit(&s->finger[1], memory_order_relaxed);
	if (out->kind != FINGER_PEER)
		return;
	if (len > FINGER_TEXT)
		len = FINGER_TEXT;
	words_load(out->text, &s->finger[2], len);
	for (size_t i = 0; i < len; i++)
		if (out->text[i] < ' ' || out->text[i] > '~')
			out->text[i] = '?';
}

/* ---- cells ---- */

void
slot_add(struct shm_slot *s, enum cell c, int64_t n)
{
	atomic_fetch_add_explicit(&s->cells[c], n, memory_order_relaxed);
}

void
slot_set(struct shm_slot *s, enum cell c, int64_t v)
{
	atomic_store_explicit(&s->cells[c], v, memory_order_relaxed);
}

int64_t
slot_get(const struct shm_slot *s, enum cell c)
{
	return atomic_load_explicit(&s->cells[c], memory_order_relaxed);
}

static int64_t
sum_once(const struct area_map *map, enum cell c)
{
	int64_t sum = cell_kind(c) == CELL_IS_COUNTER ? atomic_load_explicit(&map->dead[c], memory_order_relaxed) : 0;

	for (int i = 0; i < SLOTS_MAX; i++)
		sum += atomic_load_explicit(&map->slots[i].cells[c], memory_order_relaxed);
	return sum;
}

int64_t
shm_total(const struct shm_area *a, enum cell c)
{
	uint32_t before;
	int64_t sum = 0;

	for (int i = 0; i < SEQ_TRIES; i++) {
		before = atomic_load_explicit(&a->map->dead_seq, memory_order_acquire);
		sum = sum_once(a->map, c);
		atomic_thread_fence(memory_order_acquire);
		if ((before & 1) == 0 && atomic_load_explicit(&a->map->dead_seq, memory_order_relaxed) == before)
			break;
	}
	return sum;
}

/* ---- the roll ---- */

uint64_t
lives_next(const struct shm_area *a)
{
	return atomic_load(&a->map->lives_next);
}

bool
life_get(const struct shm_area *a, uint64_t serial, struct life *out)
{
	const struct shm_life *line = &a->map->lives[serial % LIVES_KEPT];

	if (serial == 0 || !seq_read(&line->seq, line->words, out, sizeof(*out)))
		return false;
	out->finger.text[FINGER_TEXT] = '\0';
	return out->serial == serial;
}

bool
life_find(const struct shm_area *a, uint64_t writer, struct life *out)
{
	/* next is included: a life is written before the number moves on */
	uint64_t next = lives_next(a), first = next > LIVES_KEPT ? next - LIVES_KEPT : 1;
	struct life l;

	for (uint64_t serial = next; serial >= first; serial--)
		if (life_get(a, serial, &l) && l.writer == writer) {
			*out = l;
			return true;
		}
	return false;
}

unsigned
lives_peer_deaths(const struct shm_area *a, struct slice peer, usec_t since)
{
	struct life l;
	unsigned n = 0;

	if (atomic_load_explicit(&a->map->peer_deaths, memory_order_relaxed) == 0)
		return 0;
	if (peer.n > FINGER_TEXT)
		peer.n = FINGER_TEXT;
	for (uint64_t next = lives_next(a), i = 1; i <= LIVES_KEPT && i < next; i++)
		if (life_get(a, next - i, &l) && l.ended && l.convicts && l.ended_mono >= since &&
		    l.finger.kind == FINGER_PEER && slice_eq(slice_str(l.finger.text), peer))
			n++;
	return n;
}

/* ---- partitions ---- */

void
partitions_publish(struct shm_area *a, uint32_t generation, const uint8_t owner[PARTITIONS])
{
	struct shm_partitions *t = &a->map->partitions;
	uint32_t version = atomic_load(&t->version) + 1;

	seq_begin(&t->seq);
	atomic_store_explicit(&t->generation, generation, memory_order_relaxed);
	for (int p = 0; p < PARTITIONS; p++)
		atomic_store_explicit(&t->owner[p], owner[p], memory_order_relaxed);
	seq_end(&t->seq);
	atomic_store(&t->version, version == 0 ? 1 : version);
}

uint32_t
partitions_version(const struct shm_area *a)
{
	return atomic_load_explicit(&a->map->partitions.version, memory_order_acquire);
}

unsigned
partition_owner(const struct shm_area *a, unsigned partition)
{
	unsigned owner;

	if (partition >= PARTITIONS)
		return SLOT_NOBODY;
	owner = atomic_load_explicit(&a->map->partitions.owner[partition], memory_order_relaxed);
	return owner < SLOTS_MAX ? owner : SLOT_NOBODY;
}

void
partitions_read(const struct shm_area *a, struct partition_table *out)
{
	const struct shm_partitions *t = &a->map->partitions;
	uint32_t before;

	for (int i = 0; i < SEQ_TRIES; i++) {
		before = atomic_load_explicit(&t->seq, memory_order_acquire);
		out->version = partitions_version(a);
		out->generation = atomic_load_explicit(&t->generation, memory_order_relaxed);
		for (unsigned p = 0; p < PARTITIONS; p++)
			out->owner[p] = (uint8_t)partition_owner(a, p);
		atomic_thread_fence(memory_order_acquire);
		if ((before & 1) == 0 && atomic_load_explicit(&t->seq, memory_order_relaxed) == before)
			return;
	}
}

/* ---- what is in force ---- */

void
area_set_now(struct shm_area *a, const struct area_now *now)
{
	seq_write(&a->map->now_seq, a->map->now, now, sizeof(*now));
}

void
area_get_now(const struct shm_area *a, struct area_now *out)
{
	seq_read(&a->map->now_seq, a->map->now, out, sizeof(*out));
}

_Atomic uint32_t *
shm_segment_highest(struct shm_area *a)
{
	return &a->map->segment_highest;
}

_Atomic uint64_t *
shm_index_suspect(struct shm_area *a)
{
	return &a->map->index_suspect;
}
