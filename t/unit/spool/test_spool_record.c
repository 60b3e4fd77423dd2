/* Records: what was added comes back; what is not whole is refused. */
#include "t/unit/spool/spool_fixture.h"

#include "spool/spool_record.h"

static const struct place HERE = { 12, 4096 };

static void
assert_slice(struct slice a, struct slice b)
{
	assert_true(slice_eq(a, b));
}

static char *
encoded(struct record *r, size_t *n)
{
	char *p;

	assert_int_equal(record_fits(r), OK);
	*n = record_encoded_size(r);
	p = mem_alloc(*n);
	record_encode(r, p);
	record_seal(p, HERE, 4000, 99);
	assert_int_equal(record_size_of(p), *n);
	return p;
}

/* What the sample wishes: 0, or a time, which makes its item another version. */
static usec_t timed;

static struct spool_message
sample(void)
{
	struct spool_message m = message_of(101, "r@example.com");

	m.conn = 7;
	m.received_at = -3;
	m.due = timed;
	m.priority = 2;
	m.notify = NOTIFY_FAILURE;
	m.flags = MSG_8BITMIME | MSG_DSN;
	m.orcpt = SLICE("rfc822;x");
	m.envid = SLICE("E1");
	m.ret = SLICE("HDRS");
	m.size = 1234567890123;
	m.header_blob = 0;
	m.body_blob = 1;
	m.ctx_blob = 2;
	return m;
}

static void
add_message(struct record *r)
{
	struct spool_message m = sample();

	record_add_blob(r, SLICE("Subject: x\r\n\r\n"));
	record_add_body(r, 44, 4096, 300000, 0xabcdef01);
	record_add_blob(r, slice_of(NULL, 0));
	record_add_message(r, &m);
}

static void
check_message(const struct spool_item *i)
{
	struct spool_message m = sample();

	assert_int_equal(i->kind, ITEM_MESSAGE);
	assert_true(i->message.id == m.id && i->message.batch == m.batch && i->message.conn == m.conn);
	assert_true(i->message.received_at == m.received_at && i->message.size == m.size);
	assert_true(i->message.due == m.due);
	assert_int_equal(i->message.origin, m.origin);
	assert_int_equal(i->message.protocol, m.protocol);
	assert_int_equal(i->message.priority, m.priority);
	assert_int_equal(i->message.notify, m.notify);
	assert_int_equal(i->message.flags, m.flags);
	assert_slice(i->message.sender, m.sender);
	assert_slice(i->message.rcpt, m.rcpt);
	assert_slice(i->message.orcpt, m.orcpt);
	assert_slice(i->message.envid, m.envid);
	assert_slice(i->message.ret, m.ret);
	assert_slice(i->message.binding, m.binding);
	assert_slice(i->message.domain, m.domain);
	assert_slice(i->message.peer, m.peer);
	assert_int_equal(i->message.header_blob, 0);
	assert_int_equal(i->message.body_blob, 1);
	assert_int_equal(i->message.conn_ctx_blob, BLOB_NONE);
	assert_int_equal(i->message.ctx_blob, 2);
}

static void
add_timed(struct record *r)
{
	timed = 1234567890123456;
	add_message(r);
	timed = 0;
}

static void
check_timed(const struct spool_item *i)
{
	timed = 1234567890123456;
	check_message(i);
	timed = 0;
}

static const struct spool_attempt ATTEMPT = { 101, 3, 2, { 8, 4096 }, 55 };

static void
add_attempt(struct record *r)
{
	record_add_attempt(r, &ATTEMPT);
}
static void
check_attempt(const struct spool_item *i)
{
	assert_int_equal(i->kind, ITEM_ATTEMPT);
	assert_true(i->attempt.id == 101 && i->attempt.n == 3 && i->attempt.item == 2 && i->attempt.at == 55);
	assert_true(i->attempt.place.seg == 8 && i->attempt.place.off == 4096);
}

static void
add_outcome(struct record *r)
{
	struct spool_outcome o = { .id = 101,
				   .n = 3,
				   .item = 2,
				   .kind = OUTCOME_DEFERRED,
				   .stage = 4,
				   .place = { 8, 4096 },
				   .at = 60,
				   .next_due = 70,
				   .text = SLICE("451 later"),
				   .remote = SLICE("192.0.2.1:25") };

	record_add_outcome(r, &o);
}
static void
check_outcome(const struct spool_item *i)
{
	assert_int_equal(i->kind, ITEM_OUTCOME);
	assert_true(i->outcome.id == 101 && i->outcome.n == 3 && i->outcome.item == 2 && i->outcome.at == 60);
	assert_true(i->outcome.kind == OUTCOME_DEFERRED && i->outcome.stage == 4 && i->outcome.next_due == 70);
	assert_true(i->outcome.place.seg == 8 && i->outcome.place.off == 4096);
	assert_slice(i->outcome.text, SLICE("451 later"));
	assert_slice(i->outcome.remote, SLICE("192.0.2.1:25"));
}

static void
add_edit(struct record *r)
{
	struct spool_edit e = { .id_lo = 1,
				.id_hi = 9,
				.action = EDIT_FAIL,
				.item = 6,
				.place = { 2, 8 },
				.at = 5,
				.binding = SLICE("b"),
				.domain = SLICE("d"),
				.reason = SLICE("why") };

	record_add_edit(r, &e);
}
static void
check_edit(const struct spool_item *i)
{
	assert_int_equal(i->kind, ITEM_EDIT);
	assert_true(i->edit.id_lo == 1 && i->edit.id_hi == 9 && i->edit.action == EDIT_FAIL && i->edit.item == 6);
	assert_true(i->edit.place.seg == 2 && i->edit.place.off == 8 && i->edit.at == 5);
	assert_slice(i->edit.binding, SLICE("b"));
	assert_slice(i->edit.domain, SLICE("d"));
	assert_slice(i->edit.reason, SLICE("why"));
}

static void
add_handover(struct record *r)
{
	static const msgid_t ids[] = { 5, 6, 7 };

	record_add_handover(r, 4242, ids, 3);
}
static void
check_handover(const struct spool_item *i)
{
	assert_int_equal(i->kind, ITEM_HANDOVER);
	assert_true(i->handover.owner == 4242 && i->handover.count == 3 && handover_id(&i->handover, 2) == 7);
}

static void
add_end(struct record *r)
{
	struct spool_end e = { 31, 8192 };

	record_add_end(r, &e);
}
static void
check_end(const struct spool_item *i)
{
	assert_int_equal(i->kind, ITEM_END);
	assert_true(i->end.seg == 31 && i->end.mark == 8192);
}

static void
add_copy(struct record *r)
{
	struct spool_copy c = { 101, { 3, 4 }, 1, 2, 5, 600, SLICE("held") };

	record_add_copy(r, &c);
}
static void
check_copy(const struct spool_item *i)
{
	assert_int_equal(i->kind, ITEM_COPY);
	assert_true(i->copy.id == 101 && i->copy.from.seg == 3 && i->copy.from.off == 4 && i->copy.from_item == 1);
	assert_true(i->copy.state == 2 && i->copy.tries == 5 && i->copy.due == 600);
	assert_slice(i->copy.reason, SLICE("held"));
}

static const struct {
	void (*add)(struct record *r);
	void (*check)(const struct spool_item *i);
	enum record_type type; /* of a record with this item and a message */
} kinds[] = {
	{ add_message, check_message, RECORD_MESSAGE },
	{ add_attempt, check_attempt, RECORD_ATTEMPT },
	{ add_outcome, check_outcome, RECORD_OUTCOME },
	{ add_edit, check_edit, RECORD_EDIT },
	{ add_handover, check_handover, RECORD_HANDOVER },
	{ add_end, check_end, RECORD_END },
	{ add_copy, check_copy, RECORD_COPY },
	{ add_timed, check_timed, RECORD_MESSAGE },
};
enum { KINDS = sizeof kinds / sizeof kinds[0] };

static void
every_item_comes_back(void **state)
{
	struct record r = { 0 };

	(void)state;
	for (int k = 0; k < KINDS; k++) {
		struct record_head h;
		struct item_reader reader;
		struct spool_item item;
		struct slice meta;
		size_t n;
		char *p;
		record_reset(&r);
		add_message(&r);
		kinds[k].add(&r);
		p = encoded(&r, &n);
		assert_int_equal(record_check(slice_of(p, n), HERE, &h), OK);
		assert_int_equal(h.type, kinds[k].type);
		assert_int_equal(record_type_of(p), kinds[k].type);
		assert_true(h.mark == 4000 && h.id_high == 99 && h.items == 2 && record_size(&h) == n);
		meta = slice_of(p + RECORD_HEAD, h.meta_len);
		item_reader_init(&reader, &h, meta);
		assert_int_equal(item_next(&reader, &item), OK);
		check_message(&item);
		assert_int_equal(item_next(&reader, &item), OK);
		kinds[k].check(&item);
		assert_int_equal(item_next(&reader, &item), ERR_EOF);
		assert_int_equal(item_get(&h, meta, 1, &item), OK);
		kinds[k].check(&item);
		assert_int_equal(item_get(&h, meta, 2, &item), ERR_NOTFOUND);
		free(p);
	}
	record_fini(&r);
}

static char *
record_of_all(size_t *n)
{
	struct record r = { 0 };
	char *p;

	for (int k = 0; k < KINDS; k++)
		kinds[k].add(&r);
	p = encoded(&r, n);
	record_fini(&r);
	return p;
}

static void
no_truncation_passes(void **state)
{
	size_t n, whole;
	char *p = record_of_all(&n);
	struct record_head h;

	(void)state;
	assert_int_equal(record_check(slice_of(p, n), HERE, &h), OK);
	whole = RECORD_HEAD + h.meta_len + h.blob_len; /* the zeroes behind may be missing */
	for (size_t cut = 0; cut < whole; cut++) {
		char *part = mem_alloc(cut); /* of its own, so that a sanitizer sees a read too far */
		memcpy(part, p, cut);
		assert_int_not_equal(record_check(slice_of(part, cut), HERE, &h), OK);
		free(part);
	}
	assert_int_equal(record_check(slice_of(p, whole), HERE, &h), OK);
	free(p);
}

static void
no_changed_byte_passes(void **state)
{
	size_t n, whole;
	char *p = record_of_all(&n);
	struct record_head h;

	(void)state;
	assert_int_equal(record_check(slice_of(p, n), HERE, &h), OK);
	whole = RECORD_HEAD + h.meta_len + h.blob_len;
	for (size_t i = 0; i < whole; i++)
		for (unsigned bit = 0; bit < 8; bit++) {
			p[i] = (char)(p[i] ^ 1 << bit);
			assert_int_not_equal(record_check(slice_of(p, n), HERE, &h), OK);
			p[i] = (char)(p[i] ^ 1 << bit);
		}
	assert_int_equal(record_check(slice_of(p, n), HERE, &h), OK);
	free(p);
}

static void
old_bytes_do_not_pass_for_new(void **state)
{
	static const struct place elsewhere[] = { { 12, 4104 }, { 13, 4096 }, { 0, 0 } };
	char zeroes[RECORD_HEAD] = { 0 };
	struct record_head h;
	size_t n;
	char *p = record_of_all(&n);

	(void)state;
	for (size_t i = 0; i < sizeof elsewhere / sizeof elsewhere[0]; i++)
		assert_int_equal(record_head_read(slice_of(p, n), elsewhere[i], &h), ERR_NOTFOUND);
	assert_int_equal(record_head_read(slice_of(zeroes, sizeof zeroes), HERE, &h), ERR_NOTFOUND);
	record_seal(p, elsewhere[1], 0, 1); /* written again to another place */
	assert_int_equal(record_check(slice_of(p, n), elsewhere[1], &h), OK);
	assert_int_equal(record_check(slice_of(p, n), HERE, &h), ERR_NOTFOUND);
	free(p);
}

static void
blobs_are_found_one_by_one(void **state)
{
	struct record r = { 0 };
	struct record_head h;
	struct blob_ref ref;
	struct slice table;
	uint32_t count;
	size_t n;
	char *p;

	(void)state;
	add_message(&r);
	p = encoded(&r, &n);
	assert_int_equal(record_check(slice_of(p, n), HERE, &h), OK);
	table = slice_of(p + RECORD_HEAD + h.meta_len, h.blob_len);
	assert_int_equal(blob_table_count(&h, table, &count), OK);
	assert_int_equal(count, 3);
	assert_int_equal(blob_table_get(&h, table, 0, &ref), OK);
	assert_slice(slice_of(p + ref.off, ref.len), SLICE("Subject: x\r\n\r\n"));
	assert_int_equal(blob_check(&ref, slice_of(p + ref.off, ref.len)), OK);
	assert_int_equal(blob_check(&ref, SLICE("Subject: y\r\n\r\n")), ERR_DAMAGED);
	assert_int_equal(blob_table_get(&h, table, 1, &ref), OK);
	assert_true(ref.where == BLOB_BODY && ref.seg == 44 && ref.off == 4096 && ref.len == 300000 &&
		    ref.crc == 0xabcdef01);
	assert_int_equal(blob_table_get(&h, table, 2, &ref), OK);
	assert_true(ref.where == BLOB_INLINE && ref.len == 0);
	assert_int_equal(blob_table_get(&h, table, 3, &ref), ERR_NOTFOUND);
	free(p);
	record_fini(&r);
}

static void
what_does_not_fit_is_refused(void **state)
{
	struct record r = { 0 };
	struct spool_end e = { 1, 1 };

	(void)state;
	assert_int_equal(record_fits(&r), ERR_RANGE); /* empty */
	record_add_end(&r, &e);
	assert_int_equal(record_fits(&r), OK);
	record_add_blob(&r, slice_of("", RECORD_BLOBS_MAX));
	assert_int_equal(record_fits(&r), ERR_RANGE);
	record_reset(&r);
	for (int i = 0; i < BLOB_NONE; i++)
		assert_int_equal(record_add_blob(&r, slice_of(NULL, 0)), i);
	assert_int_equal(record_add_blob(&r, slice_of(NULL, 0)), BLOB_NONE);
	record_reset(&r);
	for (int i = 0; i <= RECORD_ITEMS_MAX; i++)
		record_add_end(&r, &e);
	assert_int_equal(record_fits(&r), ERR_RANGE);
	record_fini(&r);
}

static void
a_table_of_contents_lists_all_items(void **state)
{
	struct bytes entries = { 0 }, toc = { 0 };
	struct toc_entry e;
	struct slice back;
	size_t n;
	char *p = record_of_all(&n);

	(void)state;
	toc_add_record(&entries, p);
	toc_encode(slice_bytes(&entries), (struct place){ 12, 0 }, 0, 5, &toc);
	assert_int_equal(toc_decode(slice_bytes(&toc), (struct place){ 12, 0 }, &back), OK);
	assert_int_equal(toc_count(back), KINDS);
	for (uint32_t i = 0; i < KINDS; i++) {
		toc_get(back, i, &e);
		assert_int_equal(e.item, i);
		assert_int_equal(e.off, HERE.off);
	}
	toc_get(back, 0, &e);
	assert_true(e.kind == ITEM_MESSAGE && e.id == 101 && e.what == ORIGIN_ACCEPTED);
	assert_true(e.queue == spool_queue_hash(SLICE("out1"), SLICE("EXAMPLE.com")));
	toc_get(back, 2, &e);
	assert_true(e.kind == ITEM_OUTCOME && e.what == OUTCOME_DEFERRED && e.queue == 0);
	assert_int_equal(toc_decode(slice_bytes(&toc), HERE, &back), ERR_NOTFOUND);
	toc.p[RECORD_HEAD] ^= 1;
	assert_int_equal(toc_decode(slice_bytes(&toc), (struct place){ 12, 0 }, &back), ERR_DAMAGED);
	bytes_fini(&entries);
	bytes_fini(&toc);
	free(p);
}

/* Which partition a queue has may never change: two versions share the table. */
static void
queues_keep_their_number(void **state)
{
	bool seen[PARTITIONS] = { false };
	int hit = 0;

	(void)state;
	assert_true(spool_queue_hash(SLICE("a"), SLICE("b")) != spool_queue_hash(SLICE("ab"), SLICE("")));
	assert_true(spool_queue_hash(SLICE("a"), SLICE("X.org")) == spool_queue_hash(SLICE("a"), SLICE("x.ORG")));
	assert_true(spool_queue_hash(SLICE("out1"), SLICE("example.com")) == UINT64_C(0x46bebd2cc0aa4362));
	for (int i = 0; i < 4096; i++) {
		char domain[32];
		snprintf(domain, sizeof domain, "d%d.example", i);
		unsigned part = (unsigned)(spool_queue_hash(SLICE("out1"), slice_str(domain)) % PARTITIONS);
		hit += !seen[part];
		seen[part] = true;
	}
	assert_true(hit > 950); /* by chance 1,005 of 1,024 */
}

/* A search passes over what can be no record's beginning, and over no beginning. */
static void
a_search_stops_where_a_record_may_begin(void **state)
{
	struct record r = { .items = 0 };
	struct spool_end end = { 3, 4096 };
	char buf[1024] = { 0 };

	(void)state;
	record_add_end(&r, &end);
	assert_int_equal(record_skip(slice_of(buf, 0)), 0);
	assert_int_equal(record_skip(slice_of(buf, RECORD_HEAD - 1)), 0);
	assert_int_equal(record_skip(slice_of(buf, RECORD_HEAD)), RECORD_ALIGN);
	assert_true(record_skip(slice_of(buf, sizeof(buf))) > sizeof(buf) - RECORD_HEAD);
	for (size_t at = 0; at + record_encoded_size(&r) <= sizeof(buf); at += RECORD_ALIGN) {
		memset(buf, 0, sizeof(buf));
		record_encode(&r, buf + at);
		record_seal(buf + at, (struct place){ 3, (uint32_t)at }, 0, 0);
		assert_int_equal(record_skip(slice_of(buf, sizeof(buf))), at);
	}
	record_fini(&r);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(every_item_comes_back),
		cmocka_unit_test(no_truncation_passes),
		cmocka_unit_test(no_changed_byte_passes),
		cmocka_unit_test(old_bytes_do_not_pass_for_new),
		cmocka_unit_test(blobs_are_found_one_by_one),
		cmocka_unit_test(what_does_not_fit_is_refused),
		cmocka_unit_test(a_table_of_contents_lists_all_items),
		cmocka_unit_test(queues_keep_their_number),
		cmocka_unit_test(a_search_stops_where_a_record_may_begin),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
