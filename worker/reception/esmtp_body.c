/* Content as it arrives: in memory up to what a record holds inline, beyond that into the store as it comes. The header
 * stays in memory; a message that is all header for longer than HEADER_MAX has the rest of it in its body. */
#include "shm/base/log.h"
#include "spool/format/header.h"
#include "spool/spool.h"
#include "worker/reception/esmtp_int.h"
#include "worker/reception/reception_options.h"

enum {
	INLINE_MAX = BLOB_INLINE_MAX,
	HEADER_MAX = 1 << 20,
	SIZE_HARD_MAX = INT32_MAX, /* where max_message_size has none */
};

void
esmtp_body_fini(const struct reception_store *store, struct esmtp_body *b)
{
	bytes_fini(&b->data);
	if (b->large != NULL)
		store->body_free(b->large);
	b->large = NULL;
	b->waiting = false;
}

/* Words side by side: what the processor looks at in one step, or two. */
enum { WORDS = 4 };
typedef uint64_t words __attribute__((vector_size(WORDS * sizeof(uint64_t))));

/* Any byte above 127, any NUL? (A zero byte of v shows in the high bit of (v - 1) & ~v.) Every byte of every message
 * comes by here. */
static void
look_at(struct esmtp_body *b, struct slice s)
{
	const uint64_t low = UINT64_C(0x0101010101010101), high = UINT64_C(0x8080808080808080);
	words any_high = { 0 }, any_zero = { 0 }, v;
	uint64_t highs = 0, zeros = 0;
	size_t i = 0;

	for (; i + sizeof v <= s.n; i += sizeof v) {
		memcpy(&v, s.p + i, sizeof v);
		any_high |= v;
		any_zero |= (v - low) & ~v;
	}
	for (int w = 0; w < WORDS; w++) {
		highs |= any_high[w] & high;
		zeros |= any_zero[w] & high;
	}
	for (; i < s.n; i++) {
		highs |= (unsigned char)s.p[i] & 0x80u;
		zeros |= s.p[i] == '\0';
	}
	b->eightbit = b->eightbit || highs != 0;
	b->nul = b->nul || zeros != 0;
}

static void
on_room(void *arg)
{
	struct esmtp *s = arg;

	s->txn->body.waiting = false;
	esmtp_go_on(s);
}

static void
store_append(struct esmtp *s, struct slice bytes)
{
	struct esmtp_body *b = &s->txn->body;
	enum err e;

	if (b->failed != OK || bytes.n == 0)
		return;
	e = s->r->env.store->body_append(b->large, bytes);
	if (e == ERR_AGAIN)
		b->waiting = true;
	else if (e != OK)
		b->failed = e;
	b->large_size += bytes.n;
}

static void
hold(struct esmtp *s, int64_t n)
{
	s->txn->held += n;
	reception_hold(s->r, n);
}

void
esmtp_body_let_go(struct esmtp *s)
{
	hold(s, -s->txn->held);
}

/* Too much for memory: the header stays, the rest goes to the store. */
static void
begin_streaming(struct esmtp *s)
{
	struct esmtp_body *b = &s->txn->body;
	const struct reception_store *store = s->r->env.store;
	bool ended;
	size_t header = header_length(slice_bytes(&b->data), false, &ended);

	if (!ended && b->data.n < HEADER_MAX)
		return;
	if (ended && b->data.n - header <= INLINE_MAX)
		return;
	hold(s, BODY_PENDING_MAX);
	b->header = header;
	b->large = store->body_new(store->arg, on_room, s);
	if (b->large == NULL)
		b->failed = ERR_FULL;
	store_append(s, slice_of(b->data.p + header, b->data.n - header));
	b->data.n = header;
}

void
esmtp_body_add(struct esmtp *s, struct slice bytes)
{
	struct esmtp_body *b = &s->txn->body;
	int64_t max = conf_int(s->view, OPT_MAX_MESSAGE_SIZE);

	b->size += bytes.n;
	if (b->size > (uint64_t)(max > 0 ? max : SIZE_HARD_MAX))
		b->too_big = true;
	if (!b->too_big && b->large == NULL && b->failed == OK && !reception_room(s->r)) {
		b->failed = ERR_FULL;
		b->no_room = true;
	}
	if (b->too_big || b->failed != OK) {
		esmtp_body_fini(s->r->env.store, b);
		esmtp_body_let_go(s);
		return;
	}
	look_at(b, bytes);
	if (b->large != NULL) {
		store_append(s, bytes);
		return;
	}
	bytes_add_slice(&b->data, bytes);
	hold(s, (int64_t)bytes.n);
	if (b->data.n > INLINE_MAX)
		begin_streaming(s);
}
