#include "spool/spool_fold.h"

#include <stdlib.h>

#include "shm/base/log.h"
#include "shm/base/mem.h"
#include "spool/spool_fold_int.h"

#define CMP(a, b) ((a) < (b) ? -1 : (a) > (b))

static int
frow_cmp(struct frow *a, struct frow *b)
{
	return CMP(a->id, b->id);
}

static int
fseg_cmp(struct fseg *a, struct fseg *b)
{
	return CMP(a->s.number, b->s.number);
}

static int
fattempt_cmp(struct fattempt *a, struct fattempt *b)
{
	return a->a.id != b->a.id ? CMP(a->a.id, b->a.id) : CMP(a->a.n, b->a.n);
}

static int
fedit_cmp(struct fedit *a, struct fedit *b)
{
	if (a->e.id != b->e.id)
		return CMP(a->e.id, b->e.id);
	if (a->e.at != b->e.at)
		return CMP(a->e.at, b->e.at);
	if (a->e.place.seg != b->e.place.seg)
		return CMP(a->e.place.seg, b->e.place.seg);
	return CMP(a->e.place.off, b->e.place.off);
}

static int
fwriter_cmp(struct fwriter *a, struct fwriter *b)
{
	return CMP(a->w.writer, b->w.writer);
}

static int
fhand_cmp(struct fhand *a, struct fhand *b)
{
	return a->h.owner != b->h.owner ? CMP(a->h.owner, b->h.owner) : CMP(a->h.writer, b->h.writer);
}

RB_GENERATE(frow_tree, frow, node, frow_cmp)
RB_GENERATE(fseg_tree, fseg, node, fseg_cmp)
RB_GENERATE(fattempt_tree, fattempt, node, fattempt_cmp)
RB_GENERATE(fedit_tree, fedit, node, fedit_cmp)
RB_GENERATE(fwriter_tree, fwriter, node, fwriter_cmp)
RB_GENERATE(fhand_tree, fhand, node, fhand_cmp)

/* ---- small tools ---- */

bool
place_eq(struct place a, struct place b)
{
	return a.seg == b.seg && a.off == b.off;
}

char *
slices_keep(struct slice **list, size_t n)
{
	size_t total = 1;
	char *text, *p;

	for (size_t i = 0; i < n; i++)
		total += list[i]->n;
	p = text = mem_alloc(total);
	for (size_t i = 0; i < n; i++) {
		if (list[i]->n > 0)
			memcpy(p, list[i]->p, list[i]->n);
		list[i]->p = p;
		p += list[i]->n;
	}
	return text;
}

void
fold_touch(struct fold *f, struct fstate *st)
{
	st->dirty = true;
	f->dirty = true;
}

/* ---- life ---- */

struct fold *
fold_new(const struct fold_world *world, void *arg)
{
	struct fold *f = mem_zalloc(sizeof(*f));

	f->w = world;
	f->arg = arg;
	STAILQ_INIT(&f->damages);
	return f;
}

/* That a root has no parent is all the static analyzer must be told to see that RB_REMOVE takes it out. */
void
fold_forget(struct fold *f)
{
	struct fseg *s;
	struct fattempt *a;
	struct fwriter *w;
	struct fhand *h;
	struct fdamage *d;

	frows_free(f);
	fedits_free(&f->edits);
	fedits_free(&f->ranges);
	while ((a = RB_ROOT(&f->attempts)) != NULL)
		fattempt_free(f, a);
	while ((s = RB_ROOT(&f->segs)) != NULL) {
		require_that(RB_PARENT(s, node) == NULL, "fold");
		RB_REMOVE(fseg_tree, &f->segs, s);
		free(s);
	}
	while ((w = RB_ROOT(&f->writers)) != NULL) {
		require_that(RB_PARENT(w, node) == NULL, "fold");
		RB_REMOVE(fwriter_tree, &f->writers, w);
		free(w);
	}
	while ((h = RB_ROOT(&f->hands)) != NULL) {
		require_that(RB_PARENT(h, node) == NULL, "fold");
		RB_REMOVE(fhand_tree, &f->hands, h);
		free(h->text);
		free(h);
	}
	while ((d = STAILQ_FIRST(&f->damages)) != NULL) {
		STAILQ_REMOVE_HEAD(&f->damages, link);
		free(d);
	}
	f->tail = 0;
	f->net = 0;
	f->doubts = 0;
	f->moved_n = 0;
}

void
fold_free(struct fold **f)
{
	if (*f == NULL)
		return;
	fold_forget(*f);
	free((*f)->ended);
	free((*f)->moved);
	free((*f)->stack);
	free(*f);
	*f = NULL;
}

/* ---- start ---- */

void
fold_load_meta(struct fold *f, const struct index_meta *m)
{
	f->meta = *m;
	f->base_high = m->highest_id;
}

void
fold_load_ledger(struct fold *f, const struct index_ledger *l)
{
	f->ledger = *l;
}

void
fold_load_segment(struct fold *f, const struct index_segment *s)
{
	struct fseg *fs = fseg_want(f, s->number);
	uint32_t end = fs->s.end;

	fs->s = *s;
	if (end < fs->s.end)
		fs->s.end = end;
	fs->st.in_map = true;
}

void
fold_load_attempt(struct fold *f, const struct index_attempt *a)
{
	struct fattempt *fa = mem_zalloc(sizeof(*fa));

	fa->a = *a;
	fa->text = slices_keep((struct slice *[]){ &fa->a.rcpt, &fa->a.domain, &fa->a.binding }, 3);
	fa->st.in_map = true;
	RB_INSERT(fattempt_tree, &f->attempts, fa);
	f->doubts += a->state == ATTEMPT_DOUBT;
}

static struct fwriter *
fwriter_want(struct fold *f, uint64_t writer)
{
	struct fwriter key = { .w.writer = writer }, *w = RB_FIND(fwriter_tree, &f->writers, &key);

	if (w == NULL) {
		w = mem_zalloc(sizeof(*w));
		w->w.writer = writer;
		RB_INSERT(fwriter_tree, &f->writers, w);
	}
	return w;
}

void
fold_load_writer(struct fold *f, const struct fold_writer *w)
{
	struct fwriter *fw = fwriter_want(f, w->writer);

	fw->w = *w;
	fw->st.in_map = true;
}

void
fold_load_handover(struct fold *f, const struct index_handover *h)
{
	struct fhand *fh = mem_zalloc(sizeof(*fh));

	fh->h = *h;
	fh->text = slices_keep((struct slice *[]){ &fh->h.ids }, 1);
	fh->st.in_map = true;
	RB_INSERT(fhand_tree, &f->hands, fh);
}

void
fold_load_range(struct fold *f, const struct fold_edit *e)
{
	fedit_new(&f->ranges, e)->st.in_map = true;
}

/* ---- files ---- */

struct fseg *
fseg_find(struct fold *f, uint32_t number)
{
	struct fseg key = { .s.number = number };

	return RB_FIND(fseg_tree, &f->segs, &key);
}

struct fseg *
fseg_want(struct fold *f, uint32_t number)
{
	struct fseg *s = fseg_find(f, number);

	if (s == NULL) {
		s = mem_zalloc(sizeof(*s));
		s->s.number = number;
		s->s.end = UINT32_MAX;
		RB_INSERT(fseg_tree, &f->segs, s);
	}
	return s;
}

void
fseg_add(struct fold *f, uint32_t number, enum fseg_count what, int n)
{
	struct fseg *s = number == 0 ? NULL : fseg_find(f, number);
	uint32_t *count;

	if (s == NULL)
		return;
	count = what == FSEG_MESSAGES ? &s->s.messages : what == FSEG_ATTEMPTS ? &s->s.attempts : &s->s.edits;
	require_that(n > 0 || *count > 0, "fold");
	*count += (uint32_t)n;
	fold_touch(f, &s->st);
}

enum err
fseg_look(struct fold *f, uint32_t number, struct fseg **out)
{
	struct fseg *s = fseg_find(f, number);
	struct fold_file file;
	enum err e;

	*out = s;
	if (s != NULL && (s->file || s->st.in_map))
		return OK;
	*out = NULL;
	e = f->w->find(f->arg, number, &file);
	if (e == OK)
		e = fold_see(f, &file);
	if (e == OK)
		*out = fseg_find(f, number);
	return e == ERR_NOTFOUND ? OK : e;
}

void
fseg_ends(struct fold *f, struct fseg *s, uint32_t at)
{
	if (at >= s->s.end)
		return;
	s->s.end = at;
	fold_touch(f, &s->st);
}

static void
see_file(struct fold *f, const struct fold_file *file)
{
	struct fseg *s = fseg_want(f, file->number);

	if (s->s.state == SEG_OVER)
		return;
	if (!s->file && !s->st.in_map) {
		s->s.kind = file->kind;
		s->s.slot = file->slot;
		s->s.writer = file->writer;
		fold_touch(f, &s->st);
	}
	s->file = true;
	s->keepers = file->keepers;
	s->copies = file->copies;
	if (file->mark > s->s.mark)
		s->s.mark = file->mark;
	if (file->sealed && s->s.state == SEG_OPEN) {
		s->s.state = SEG_SEALED;
		fold_touch(f, &s->st);
	}
}

enum err
fold_see(struct fold *f, const struct fold_file *file)
{
	struct fseg *ends;
	enum err e;

	see_file(f, file);
	if (file->end_of == 0 || file->end_of > file->number)
		return OK;
	e = fseg_look(f, file->end_of, &ends);
	if (e == OK && ends != NULL)
		fseg_ends(f, ends, file->end_at);
	return e;
}

bool
fold_segment_get(struct fold *f, uint32_t number, struct index_segment *out)
{
	const struct fseg *s = fseg_find(f, number);

	if (s == NULL || (!s->file && !s->st.in_map))
		return false;
	*out = s->s;
	return true;
}

bool
fold_segment_next(struct fold *f, uint32_t after, struct index_segment *out)
{
	struct fseg key = { .s.number = after + 1 };
	struct fseg *s = RB_NFIND(fseg_tree, &f->segs, &key);

	while (s != NULL && !s->file && !s->st.in_map)
		s = RB_NEXT(fseg_tree, &f->segs, s);
	if (s == NULL)
		return false;
	*out = s->s;
	return true;
}

/* ---- folding in order ---- */

static enum err
limit_of(struct fold *f, struct fseg *s, uint32_t *limit)
{
	if (s->s.end != UINT32_MAX) {
		*limit = s->s.end;
		return OK;
	}
	return f->w->limit(f->arg, s->s.number, s->s.folded, limit);
}

bool
fseg_foldable(const struct fseg *s)
{
	return s->file && s->s.kind == SEGMENT_JOURNAL && s->s.state != SEG_OVER && !s->complete;
}

static enum err
push(struct fold *f, struct fseg *s, uint32_t upto)
{
	struct fframe *fr;
	uint32_t limit;
	enum err e = limit_of(f, s, &limit);

	if (e != OK)
		return e;
	if (f->stack_n == f->stack_cap) {
		f->stack_cap = f->stack_cap == 0 ? 16 : f->stack_cap * 2;
		f->stack = mem_array(f->stack, f->stack_cap, sizeof(*f->stack));
	}
	fr = &f->stack[f->stack_n++];
	*fr = (struct fframe){ .s = s, .upto = upto, .limit = limit };
	return OK;
}

/* Nothing more begins below the limit. */
static void
reached(struct fold *f, const struct fframe *fr)
{
	struct fseg *s = fr->s;

	if (s->s.folded < fr->limit) {
		s->s.folded = fr->limit;
		fold_touch(f, &s->st);
	}
	if (s->s.state == SEG_SEALED)
		s->complete = true;
}

/* Facts only point back in time, so a ring can come from false bytes only: it is not followed. */
static bool
on_stack(const struct fold *f, const struct fseg *s)
{
	for (size_t i = 0; i < f->stack_n; i++)
		if (f->stack[i].s == s)
			return true;
	return false;
}

/* Rule 2. *need: a segment that has to be taken past *off before this record; NULL: none. */
static enum err
item_needs(struct fold *f, const struct fseg *self, struct place p, struct fseg **need)
{
	struct fseg *s;
	enum err e;

	if (p.seg == 0 || p.seg == self->s.number)
		return OK;
	e = fseg_look(f, p.seg, &s);
	if (e != OK || s == NULL)
		return e;
	if (fseg_foldable(s) && s->s.folded <= p.off && !on_stack(f, s))
		*need = s;
	return OK;
}

static struct place
place_named(const struct spool_item *it)
{
	switch (it->kind) {
	case ITEM_ATTEMPT:
		return it->attempt.place;
	case ITEM_OUTCOME:
		return it->outcome.place;
	case ITEM_EDIT:
		return it->edit.place;
	default:
		return (struct place){ 0, 0 };
	}
}

static bool
all_folded(const struct fseg *s)
{
	return !fseg_foldable(s) || (s->s.end != UINT32_MAX && s->s.folded >= s->s.end);
}

static enum err
wait_for_news(struct fold *f)
{
	f->waits = true;
	return ERR_AGAIN;
}

/* "All of mine but these" is to be believed only with all that its writer said before: the next owner looks no further.
 * OK with the stack grown: an earlier segment first. */
static enum err
handover_needs(struct fold *f, const struct fseg *self)
{
	struct fseg *s;
	enum err e;

	RB_FOREACH (s, fseg_tree, &f->segs) {
		if (s->s.number >= self->s.number)
			break;
		if (s->s.writer != self->s.writer || all_folded(s) || on_stack(f, s))
			continue;
		e = push(f, s, UINT32_MAX);
		if (e == ERR_NOTFOUND)
			continue;
		if (e != OK || s->s.folded < f->stack[f->stack_n - 1].limit)
			return e;
		f->stack_n--;
		if (s->s.state == SEG_OPEN && s->s.end == UINT32_MAX)
			return wait_for_news(f); /* it is about to be sealed, or a later one to say where it ends */
	}
	return OK;
}

/* Segment s is folded to its end, before p. Who speaks of a place knew it synced: what stood there is lost, or nothing
 * ever did. In a ring it is not known yet. */
static bool
never_there(const struct fold *f, const struct fseg *s, struct place p)
{
	bool ends = s->s.state == SEG_SEALED || s->s.end != UINT32_MAX;

	return s->file && s->s.kind == SEGMENT_JOURNAL && ends && s->s.folded <= p.off && !on_stack(f, s);
}

/* A fact of this record, all of whose needs are met, that cannot have come true; seg 0: none. */
static struct place
false_place(struct fold *f, const struct fseg *self, const struct fold_record *rec)
{
	for (uint32_t i = 0; i < rec->count && rec->items != NULL; i++) {
		struct place p = place_named(&rec->items[i].item);
		const struct fseg *s = p.seg == 0 || p.seg == self->s.number ? NULL : fseg_find(f, p.seg);

		if (s != NULL && never_there(f, s, p))
			return p;
	}
	return (struct place){ 0, 0 };
}

/* OK with the stack grown: the record has to wait. */
static enum err
record_needs(struct fold *f, struct fseg *self, const struct fold_record *rec)
{
	size_t depth = f->stack_n;

	for (uint32_t i = 0; i < rec->count && rec->items != NULL; i++) {
		struct place p = place_named(&rec->items[i].item);
		struct fseg *need = NULL;
		enum err e = item_needs(f, self, p, &need);

		if (e == OK && rec->items[i].item.kind == ITEM_HANDOVER)
			e = handover_needs(f, self);
		if (e != OK || f->stack_n != depth)
			return e;
		if (need == NULL)
			continue;
		e = push(f, need, p.off + 1);
		if (e == ERR_NOTFOUND) {
			need->file = false;
			continue;
		}
		if (e != OK)
			return e;
		if (f->stack[f->stack_n - 1].limit > p.off)
			return OK;
		f->stack_n--;
		if (need->s.state == SEG_OPEN && need->s.end == UINT32_MAX)
			return wait_for_news(f); /* it was synced before it was spoken of: its mark is an old one */
	}
	return OK;
}

static void
checkpoint(struct fold *f, struct fseg *s, const struct fold_record *rec)
{
	f->tail += rec->next - s->s.folded;
	s->s.folded = rec->next;
	if (rec->mark > s->s.mark)
		s->s.mark = rec->mark;
	if (rec->id_high > f->meta.highest_id)
		f->meta.highest_id = rec->id_high;
	fold_touch(f, &s->st);
}

/* One record of the topmost segment, or its end. */
static enum err
step(struct fold *f)
{
	size_t depth = f->stack_n;
	struct fframe *fr = &f->stack[depth - 1];
	struct fseg *s = fr->s;
	struct fold_record rec;
	struct place nothing;
	enum err e;

	/* Without a bound the limit ends it, also one that false bytes have set to the greatest number there is. */
	if (fr->upto != UINT32_MAX && s->s.folded >= fr->upto) {
		f->stack_n--;
		return OK;
	}
	e = s->s.folded >= fr->limit ? ERR_EOF : f->w->record(f->arg, s->s.number, s->s.folded, fr->limit, &rec);
	if (e == ERR_EOF) {
		reached(f, fr);
		f->stack_n--;
		return OK;
	}
	/* Its file has gone; whose end is known was not asked for before. It holds up nobody: nothing comes of it. */
	if (e == ERR_NOTFOUND) {
		s->file = false;
		f->stack_n--;
		return OK;
	}
	if (e != OK)
		return e;
	e = record_needs(f, s, &rec);
	if (e != OK || f->stack_n != depth)
		return e;
	nothing = false_place(f, s, &rec);
	e = fold_apply(f, s, &rec);
	if (e != OK)
		return e;
	if (nothing.seg != 0)
		fold_apply_false(f, s, &rec, nothing);
	checkpoint(f, s, &rec);
	return OK;
}

static enum err
run(struct fold *f, struct fseg *s, uint64_t budget)
{
	uint64_t start = f->tail;
	enum err e;

	f->stack_n = 0;
	e = push(f, s, UINT32_MAX);
	while (e == OK && f->stack_n > 0) {
		if (budget > 0 && f->tail - start >= budget)
			return ERR_AGAIN;
		e = step(f);
	}
	if (e == ERR_NOTFOUND && f->stack_n == 0) {
		s->file = false;
		e = OK;
	}
	return e;
}

/* What this keeper says of others; in a rebuild what was moved before that, for facts are about a message that is there.
 * One that waits holds up nobody: what no writer has made known is not what the others speak of. */
static enum err
keepers_first(struct fold *f, const struct fseg *s, bool copies, uint64_t budget)
{
	uint64_t start = f->tail;
	struct fseg *k;

	RB_FOREACH (k, fseg_tree, &f->segs) {
		uint64_t done = f->tail - start;
		enum err e;

		if (k == s || !fseg_foldable(k) || (copies ? !k->copies : !k->keepers))
			continue;
		if (budget > 0 && done >= budget)
			return ERR_AGAIN;
		e = run(f, k, budget == 0 ? 0 : budget - done);
		if (e != OK && !f->waits)
			return e;
		f->waits = false;
	}
	return OK;
}

enum err
fold_segment(struct fold *f, uint32_t number, uint64_t budget)
{
	struct fseg *s = fseg_find(f, number);
	enum err e;

	f->waits = false;
	if (s == NULL || !fseg_foldable(s))
		return OK;
	e = f->meta.rebuilding && !s->copies ? keepers_first(f, s, true, budget) : OK;
	if (e == OK && !s->copies)
		e = keepers_first(f, s, false, budget);
	return e == OK ? run(f, s, budget) : e;
}

bool
fold_waits(const struct fold *f)
{
	return f->waits;
}
