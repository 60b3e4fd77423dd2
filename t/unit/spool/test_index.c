/* spool/spool_index, spool_state: what a commit writes is what the pages show. */
#include "spool_fixture.h"

#include "spool/spool_index_write.h"
#include "spool/spool_state.h"

struct place_to_be {
	struct fixture base;
	struct index *ix;
	char home[256];
};

static void
enter(struct place_to_be *p)
{
	struct index_conf conf = { .path = "index", .map_size = 64 << 20, .keeper = true };

	fixture_init(&p->base);
	assert_non_null(getcwd(p->home, sizeof(p->home)));
	assert_int_equal(chdir(p->base.dir), 0);
	assert_int_equal(index_open(&conf, &p->ix), OK);
}

static void
leave(struct place_to_be *p)
{
	index_close(&p->ix);
	assert_int_equal(chdir(p->home), 0);
	fixture_fini(&p->base);
}

static struct index_row
row(msgid_t id, const char *binding, const char *domain, uint8_t priority, usec_t due, enum row_state state)
{
	return (struct index_row){ .id = id,
				   .place = { 1, (uint32_t)id * 64 },
				   .priority = priority,
				   .state = (uint8_t)state,
				   .aside = state == ROW_HELD || state == ROW_QUARANTINED ? (uint8_t)state : 0,
				   .due = due,
				   .received_at = 1000,
				   .size = 10,
				   .sender = SLICE("a@x"),
				   .rcpt = SLICE("b@y"),
				   .binding = slice_str(binding),
				   .domain = slice_str(domain),
				   .reason = SLICE("") };
}

static void
change(struct place_to_be *p, const struct index_row *was, const struct index_row *now)
{
	struct index_writer *w = index_write_begin(p->ix, NULL, NULL);

	assert_int_equal(index_put_row(w, was, now), OK);
	assert_int_equal(index_write_finish(&w), OK);
}

static struct index_txn *
look(struct place_to_be *p)
{
	struct index_txn *t = NULL;

	assert_int_equal(index_begin(p->ix, &t), OK);
	return t;
}

/* ---- rows ---- */

static void
a_row_is_read_as_it_was_written(void **state)
{
	struct place_to_be p;
	struct index_row in = row(7, "out1", "example.com", 9, 5000, ROW_DOUBT), out, *kept;
	struct index_txn *t;

	(void)state;
	in.item = 3;
	in.fate = ROW_FAIL;
	in.origin = ORIGIN_GENERATED;
	in.deaths = 1;
	in.edits = 2;
	in.tries = 4;
	in.body_seg = 77;
	in.look = 123456;
	in.writer = UINT64_MAX;
	in.edit = 99;
	in.reason = SLICE("421 later");
	in.said_at = 4711;
	in.stage = 12;
	in.remote = SLICE("192.0.2.1:25");
	enter(&p);
	change(&p, NULL, &in);
	t = look(&p);
	assert_int_equal(index_message_get(t, 8, &out), ERR_NOTFOUND);
	assert_int_equal(index_message_get(t, 7, &out), OK);
	kept = index_row_dup(&out);
	index_end(&t);
	assert_int_equal(kept->item, 3);
	assert_int_equal(kept->place.off, 448);
	assert_int_equal(kept->fate, ROW_FAIL);
	assert_int_equal(kept->deaths, 1);
	assert_int_equal(kept->edits, 2);
	assert_int_equal(kept->tries, 4);
	assert_int_equal(kept->body_seg, 77);
	assert_int_equal(kept->look, 123456);
	assert_true(kept->writer == UINT64_MAX);
	assert_int_equal(kept->edit, 99);
	assert_true(slice_eq(kept->reason, SLICE("421 later")));
	assert_true(slice_eq(kept->domain, SLICE("example.com")));
	assert_int_equal(kept->said_at, 4711);
	assert_int_equal(kept->stage, 12);
	assert_true(slice_eq(kept->remote, SLICE("192.0.2.1:25")));
	free(kept);
	leave(&p);
}

/* What was never answered is written as before there was anything to say of it. */
static void
a_row_without_an_outcome_has_none(void **state)
{
	struct place_to_be p;
	struct index_row in = row(7, "out1", "example.com", 9, 5000, ROW_QUEUED), out = { .said_at = 1, .stage = 1 };
	struct index_txn *t;

	(void)state;
	enter(&p);
	change(&p, NULL, &in);
	t = look(&p);
	out.remote = SLICE("left over");
	assert_int_equal(index_message_get(t, 7, &out), OK);
	assert_int_equal(out.said_at, 0);
	assert_int_equal(out.stage, 0);
	assert_int_equal(out.remote.n, 0);
	index_end(&t);
	leave(&p);
}

/* Highest priority first, then the longest due, then the oldest; a page goes on behind any key. */
static void
a_queue_is_in_order_and_resumable(void **state)
{
	static const msgid_t order[] = { 5, 4, 1, 3, 2 };
	struct place_to_be p;
	struct index_row rows[] = { row(1, "out1", "y", 3, 100, ROW_QUEUED), row(2, "out1", "y", 3, 200, ROW_QUEUED),
				    row(3, "out1", "y", 3, 150, ROW_DOUBT),  row(4, "out1", "Y", 200, 900, ROW_QUEUED),
				    row(5, "out1", "y", 255, 0, ROW_QUEUED), row(6, "out1", "y", 3, 50, ROW_HELD),
				    row(7, "out1", "y", 3, 50, ROW_WORK),    row(8, "out2", "y", 3, 50, ROW_QUEUED) };
	uint64_t queue = spool_queue_hash(SLICE("out1"), SLICE("y"));
	struct index_queue_key after = index_queue_first(queue), key;
	struct index_row got[8];
	struct index_txn *t;
	size_t n;

	(void)state;
	enter(&p);
	for (size_t i = 0; i < 8; i++)
		change(&p, NULL, &rows[i]);
	t = look(&p);
	for (size_t i = 0; i < 5; i++) {
		assert_int_equal(index_queue_page(t, &after, &key, 1, &n), OK);
		assert_int_equal(key.id, order[i]);
		after = key;
	}
	assert_int_equal(index_queue_page(t, &after, &key, 1, &n), ERR_EOF);
	after = index_queue_first(queue);
	assert_int_equal(index_queue_rows(t, &after, got, 3, &n), OK);
	assert_int_equal(n, 3);
	after = index_row_key(&got[2]);
	assert_int_equal(index_queue_rows(t, &after, got, 8, &n), OK);
	assert_int_equal(n, 2);
	assert_int_equal(got[1].id, 2);
	index_end(&t);
	leave(&p);
}

static usec_t
wake_of(struct place_to_be *p, uint64_t queue)
{
	struct index_txn *t = look(p);
	struct index_wake w[4];
	struct index_queue q;
	size_t n = 0;
	enum err e = index_wake_page(t, (unsigned)(queue % PARTITIONS), NULL, w, 4, &n);
	usec_t due = e == OK ? w[0].due : INT64_MAX;

	assert_true(e == OK ? n == 1 : e == ERR_EOF);
	if (index_queue_get(t, queue, &q) == OK)
		assert_int_equal(q.wake, due);
	index_end(&t);
	return due;
}

static void
a_queue_wakes_for_its_earliest(void **state)
{
	struct place_to_be p;
	struct index_row a = row(1, "out1", "y", 3, 300, ROW_QUEUED), b = row(2, "out1", "y", 9, 500, ROW_QUEUED), c;
	uint64_t queue = spool_queue_hash(SLICE("out1"), SLICE("y"));

	(void)state;
	enter(&p);
	assert_int_equal(wake_of(&p, queue), INT64_MAX);
	change(&p, NULL, &b);
	assert_int_equal(wake_of(&p, queue), 500);
	change(&p, NULL, &a);
	assert_int_equal(wake_of(&p, queue), 300);
	c = a;
	c.state = ROW_WORK;
	change(&p, &a, &c);
	assert_int_equal(wake_of(&p, queue), 500);
	a.due = 50;
	change(&p, &c, &a);
	assert_int_equal(wake_of(&p, queue), 50);
	change(&p, &a, NULL);
	change(&p, &b, NULL);
	assert_int_equal(wake_of(&p, queue), INT64_MAX);
	leave(&p);
}

static void
counts_follow_the_rows(void **state)
{
	struct place_to_be p;
	struct index_row a = row(1, "out1", "y", 3, 1, ROW_QUEUED), b = row(2, "out1", "z", 3, 1, ROW_HELD), c = b;
	struct index_binding bind[4];
	struct index_queue q[4];
	struct index_counts sum;
	struct index_txn *t;
	size_t n;

	(void)state;
	enter(&p);
	change(&p, NULL, &a);
	change(&p, NULL, &b);
	t = look(&p);
	assert_int_equal(index_queue_list(t, 0, q, 4, &n), OK);
	assert_int_equal(n, 2);
	assert_int_equal(index_binding_list(t, SLICE(""), bind, 4, &n), OK);
	assert_int_equal(n, 1);
	assert_int_equal(bind[0].counts.in[ROW_HELD], 1);
	assert_int_equal(bind[0].counts.bytes, 20);
	assert_int_equal(index_binding_list(t, bind[0].name, bind, 4, &n), ERR_EOF);
	assert_int_equal(index_totals(t, &sum), OK);
	assert_int_equal(sum.in[ROW_QUEUED], 1);
	index_end(&t);
	c.state = ROW_QUEUED;
	c.aside = 0;
	change(&p, &b, &c);
	change(&p, &a, NULL);
	t = look(&p);
	assert_int_equal(index_queue_list(t, 0, q, 4, &n), OK);
	assert_int_equal(n, 1);
	assert_int_equal(q[0].counts.in[ROW_QUEUED], 1);
	assert_int_equal(q[0].counts.in[ROW_HELD], 0);
	assert_int_equal(index_binding_get(t, SLICE("out1"), &bind[0]), OK);
	assert_int_equal(bind[0].counts.in[ROW_QUEUED], 1);
	index_end(&t);
	leave(&p);
}

static void
what_is_set_aside_is_listed(void **state)
{
	struct place_to_be p;
	struct index_row a = row(1, "out1", "y", 3, 1, ROW_HELD), b = row(2, "out1", "y", 3, 1, ROW_QUARANTINED),
			 got[4];
	struct index_txn *t;
	size_t n;

	(void)state;
	enter(&p);
	change(&p, NULL, &a);
	change(&p, NULL, &b);
	t = look(&p);
	assert_int_equal(index_aside_page(t, 0, ASIDE_ANY, got, 4, &n), OK);
	assert_int_equal(n, 2);
	assert_int_equal(index_aside_page(t, 0, ASIDE_QUARANTINED, got, 4, &n), OK);
	assert_int_equal(n, 1);
	assert_int_equal(got[0].id, 2);
	assert_int_equal(index_aside_page(t, 1, ASIDE_HELD, got, 4, &n), ERR_EOF);
	index_end(&t);
	change(&p, &b, NULL);
	t = look(&p);
	assert_int_equal(index_aside_page(t, 0, ASIDE_QUARANTINED, got, 4, &n), ERR_EOF);
	index_end(&t);
	leave(&p);
}

/* ---- the other tables ---- */

static void
attempts_places_and_handovers(void **state)
{
	static const char ids[] = { 5, 0, 0, 0, 0, 0, 0, 0, 9, 0, 0, 0, 0, 0, 0, 0 };
	struct place_to_be p;
	struct index_attempt a = { .id = 1, .n = 2, .state = ATTEMPT_OPEN, .rcpt = SLICE("b@y") }, got[4];
	struct index_segment s = { .number = 4, .folded = 500, .end = UINT32_MAX, .writer = 9 };
	struct index_handover h = { .owner = 3, .writer = 9, .ids = slice_of(ids, sizeof(ids)) }, found;
	struct index_writer *w;
	struct index_txn *t;
	bool yes;
	size_t n;

	(void)state;
	enter(&p);
	w = index_write_begin(p.ix, NULL, NULL);
	assert_int_equal(index_put_attempt(w, &a), OK);
	a.id = 2;
	a.state = ATTEMPT_DOUBT;
	assert_int_equal(index_put_attempt(w, &a), OK);
	assert_int_equal(index_put_segment(w, &s), OK);
	assert_int_equal(index_put_handover(w, &h), OK);
	assert_int_equal(index_write_finish(&w), OK);
	t = look(&p);
	assert_int_equal(index_attempt_page(t, 0, 0, false, got, 4, &n), OK);
	assert_int_equal(n, 2);
	assert_int_equal(index_attempt_page(t, 0, 0, true, got, 4, &n), OK);
	assert_int_equal(n, 1);
	assert_int_equal(got[0].id, 2);
	assert_int_equal(index_attempt_page(t, 2, 2, true, got, 4, &n), ERR_EOF);
	assert_int_equal(index_folded(t, (struct place){ 4, 499 }, &yes), OK);
	assert_true(yes);
	assert_int_equal(index_folded(t, (struct place){ 4, 500 }, &yes), OK);
	assert_false(yes);
	assert_int_equal(index_folded(t, (struct place){ 5, 1 }, &yes), OK);
	assert_false(yes);
	assert_int_equal(index_handover_get(t, 3, 8, &found), ERR_NOTFOUND);
	assert_int_equal(index_handover_get(t, 3, 9, &found), OK);
	assert_int_equal(index_handover_count(&found), 2);
	assert_true(index_handover_has(&found, 9));
	assert_false(index_handover_has(&found, 6));
	index_end(&t);
	leave(&p);
}

static usec_t
next_look(void *arg, const struct index_row *r)
{
	*(unsigned *)arg += (unsigned)r->id;
	return r->look + 1000;
}

static void
the_sweep_takes_what_is_due(void **state)
{
	struct place_to_be p;
	struct index_row a = row(1, "out1", "y", 3, 1, ROW_QUEUED), b = row(2, "out1", "y", 3, 1, ROW_HELD);
	struct index_writer *w;
	struct index_look l[4];
	struct index_txn *t;
	unsigned sum = 0;
	size_t n;

	(void)state;
	a.look = 500;
	b.look = 600;
	enter(&p);
	change(&p, NULL, &a);
	change(&p, NULL, &b);
	w = index_write_begin(p.ix, NULL, NULL);
	assert_int_equal(index_sweep(w, 499, 10, next_look, &sum), ERR_EOF);
	assert_int_equal(index_sweep(w, 550, 10, next_look, &sum), OK);
	assert_int_equal(index_write_finish(&w), OK);
	assert_int_equal(sum, 1);
	t = look(&p);
	assert_int_equal(index_expiry_page(t, NULL, l, 4, &n), OK);
	assert_int_equal(n, 2);
	assert_int_equal(l[0].id, 2);
	assert_int_equal(l[1].at, 1500);
	index_end(&t);
	leave(&p);
}

static void
an_abandoned_commit_leaves_nothing(void **state)
{
	struct place_to_be p;
	struct index_row a = row(1, "out1", "y", 3, 1, ROW_QUEUED), got;
	struct index_writer *w;
	struct index_txn *t;

	(void)state;
	enter(&p);
	w = index_write_begin(p.ix, NULL, NULL);
	assert_int_equal(index_put_row(w, NULL, &a), OK);
	index_write_abort(&w);
	assert_null(w);
	t = look(&p);
	assert_int_equal(index_message_get(t, 1, &got), ERR_NOTFOUND);
	assert_int_equal(index_ledger(t, &(struct index_ledger){ 0 }), ERR_AGAIN);
	index_end(&t);
	leave(&p);
}

static off_t
file_size(void)
{
	struct stat st;

	assert_int_equal(stat("index/data.mdb", &st), 0);
	return st.st_size;
}

static void
a_file_that_is_mostly_free_is_copied_compact(void **state)
{
	struct place_to_be p;
	struct index_writer *w;
	struct index_txn *t;
	struct index_row got;
	off_t before;

	(void)state;
	enter(&p);
	w = index_write_begin(p.ix, NULL, NULL);
	for (msgid_t id = 1; id <= 3000; id++) {
		struct index_row a = row(id, "out1", "y", 3, (usec_t)id, ROW_QUEUED);

		assert_int_equal(index_put_row(w, NULL, &a), OK);
	}
	assert_int_equal(index_write_finish(&w), OK);
	before = file_size();
	assert_int_equal(index_compact(p.ix, 0), OK);
	assert_true(file_size() == before); /* it is full */
	w = index_write_begin(p.ix, NULL, NULL);
	for (msgid_t id = 2; id <= 3000; id++) {
		struct index_row a = row(id, "out1", "y", 3, (usec_t)id, ROW_QUEUED);

		a.look = a.received_at + INT64_C(86400) * USEC_PER_SEC;
		assert_int_equal(index_put_row(w, &a, NULL), OK);
	}
	assert_int_equal(index_write_finish(&w), OK);
	assert_int_equal(index_compact(p.ix, (uint64_t)before * 2), OK);
	assert_true(file_size() >= before); /* too small to matter */
	assert_int_equal(index_compact(p.ix, 0), OK);
	assert_true(file_size() < before / 2);
	assert_int_equal(access("index.copy", F_OK), -1);
	t = look(&p);
	assert_int_equal(index_message_get(t, 1, &got), OK);
	index_end(&t);
	leave(&p);
}

/* ---- state ---- */

static void
count_binding(void *arg, struct slice name, const struct state_binding *b)
{
	*(unsigned *)arg += (unsigned)name.n * 10 + (unsigned)b->suspension;
}

static void
bindings_keep_their_state(void **state)
{
	struct place_to_be p;
	struct state *s = NULL;
	struct state_binding b = { .suspension = STATE_SUSPENDED, .since = 42, .who = "root" }, got;
	struct bytes v = { 0 };
	unsigned sum = 0;

	(void)state;
	enter(&p);
	assert_int_equal(state_open("state", true, &s), OK);
	assert_int_equal(state_binding_get(s, SLICE("out1"), &got), OK);
	assert_int_equal(got.suspension, STATE_CONFIGURED);
	assert_int_equal(state_binding_set(s, SLICE("out1"), &b), OK);
	b.suspension = STATE_RESUMED;
	assert_int_equal(state_binding_set(s, SLICE("out22"), &b), OK);
	assert_int_equal(state_assignment_set(s, SLICE("key"), SLICE("out1")), OK);
	state_close(&s);
	assert_int_equal(state_open("state", true, &s), OK);
	assert_int_equal(state_binding_get(s, SLICE("out1"), &got), OK);
	assert_int_equal(got.suspension, STATE_SUSPENDED);
	assert_int_equal(got.since, 42);
	assert_string_equal(got.who, "root");
	state_who(&got, SLICE("a name that is much longer than what anybody who looks at it would ever want to read"));
	assert_int_equal(strlen(got.who), STATE_WHO - 1);
	assert_int_equal(state_binding_each(s, count_binding, &sum), OK);
	assert_int_equal(sum, 40 + STATE_SUSPENDED + 50 + STATE_RESUMED);
	b.suspension = STATE_CONFIGURED;
	assert_int_equal(state_binding_set(s, SLICE("out1"), &b), OK);
	assert_int_equal(state_binding_get(s, SLICE("out1"), &got), OK);
	assert_int_equal(got.suspension, STATE_CONFIGURED);
	assert_int_equal(state_assignment_get(s, SLICE("key"), &v), OK);
	assert_true(slice_eq(slice_bytes(&v), SLICE("out1")));
	assert_int_equal(state_assignment_set(s, SLICE(""), SLICE("out1")), ERR_RANGE);
	assert_int_equal(state_assignment_get(s, SLICE("none"), &v), ERR_NOTFOUND);
	bytes_fini(&v);
	state_close(&s);
	leave(&p);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_row_is_read_as_it_was_written),
		cmocka_unit_test(a_row_without_an_outcome_has_none),
		cmocka_unit_test(a_queue_is_in_order_and_resumable),
		cmocka_unit_test(a_queue_wakes_for_its_earliest),
		cmocka_unit_test(counts_follow_the_rows),
		cmocka_unit_test(what_is_set_aside_is_listed),
		cmocka_unit_test(attempts_places_and_handovers),
		cmocka_unit_test(the_sweep_takes_what_is_due),
		cmocka_unit_test(an_abandoned_commit_leaves_nothing),
		cmocka_unit_test(a_file_that_is_mostly_free_is_copied_compact),
		cmocka_unit_test(bindings_keep_their_state),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
