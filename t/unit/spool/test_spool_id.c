/* Ids: text both ways, and that they only rise. */
#include "t/unit/spool/spool_fixture.h"

#include "spool/spool_id.h"

static usec_t now;
static usec_t
fake_clock(void)
{
	return now;
}

static void
text_maps_both_ways(void **state)
{
	static const struct {
		msgid_t id;
		const char *text;
	} rows[] = {
		{ 0, "00/00-00000-00000000" },
		{ 1, "00/00-00000-00000001" },
		{ UINT64_MAX, "ff/ff-65535-ffffffff" },
		{ UINT64_C(0x123400ff89abcdef), "12/34-00255-89abcdef" },
		{ UINT64_C(0x0100000000000000), "01/00-00000-00000000" },
	};
	char text[ID_TEXT];
	msgid_t id;

	(void)state;
	for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
		id_text(rows[i].id, text);
		assert_string_equal(text, rows[i].text);
		assert_true(id_parse(slice_str(text), &id));
		assert_true(id == rows[i].id);
	}
	assert_true(id_parse(SLICE("12/34-00255-89ABCDEF"), &id));
	assert_true(id == UINT64_C(0x123400ff89abcdef));
}

static void
what_is_no_id_is_refused(void **state)
{
	static const char *const rows[] = { "",
					    "00/00-00000-0000000",
					    "00/00-00000-000000000",
					    "00-00-00000-00000000",
					    "0g/00-00000-00000000",
					    "00/00-65536-00000000",
					    "00/00-0000a-00000000",
					    " 0/00-00000-00000000",
					    "00/00-00000+00000000",
					    "00/00-00000-0000000-" };
	msgid_t id = 7;

	(void)state;
	for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
		assert_false(id_parse(slice_str(rows[i]), &id));
		assert_true(id == 7);
	}
}

static void
ids_rise_whatever_the_clock_does(void **state)
{
	static const usec_t clocks[] = { 5000000, 5000000, 4000000, 0, 6000000, -5, 5999999, INT64_C(9000000000) };
	struct id_source src;
	msgid_t last = 0;

	(void)state;
	clock_set_source(NULL, fake_clock);
	id_source_init(&src, 9, 0);
	for (size_t i = 0; i < sizeof clocks / sizeof clocks[0]; i++) {
		now = INT64_C(1700000000) * USEC_PER_SEC + clocks[i];
		for (int k = 0; k < 40000; k++) { /* more than a millisecond has */
			msgid_t id = id_next(&src);
			assert_true(id > last);
			assert_int_equal(id_slot(id), 9);
			last = id;
		}
	}
	assert_true(id_last(&src) == last);
	clock_set_source(NULL, NULL);
}

static void
a_million_are_unique_over_slots(void **state)
{
	enum { SOURCES = 4, EACH = 250000 };
	struct id_source src[SOURCES];
	msgid_t last[SOURCES] = { 0 };

	(void)state;
	/* Each rises by itself and each has its slot in it: so no two are the same. */
	for (int s = 0; s < SOURCES; s++)
		id_source_init(&src[s], (uint8_t)s, 0);
	for (int i = 0; i < EACH; i++)
		for (int s = 0; s < SOURCES; s++) {
			msgid_t id = id_next(&src[s]);
			assert_true(id > last[s] && id_slot(id) == s);
			last[s] = id;
		}
}

static void
a_successor_begins_above_the_floor(void **state)
{
	struct id_source first, second;
	msgid_t high = 0;

	(void)state;
	clock_set_source(NULL, fake_clock);
	now = INT64_C(1800000000) * USEC_PER_SEC;
	id_source_init(&first, 200, 0);
	for (int i = 0; i < 100; i++)
		high = id_next(&first);
	now -= 3600 * USEC_PER_SEC;
	id_source_init(&second, 2, high);
	assert_true(id_next(&second) > high);
	clock_set_source(NULL, NULL);
}

static void
an_id_says_when(void **state)
{
	struct id_source src;
	msgid_t id;

	(void)state;
	clock_set_source(NULL, fake_clock);
	now = INT64_C(1763712000123456);
	id_source_init(&src, 63, 0);
	id = id_next(&src);
	assert_true(id_time(id) == INT64_C(1763712000123000));
	assert_true(id_at(now) <= id && id_at(now + 1000) > id);
	assert_true(id_at(0) == 0);
	clock_set_source(NULL, NULL);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(text_maps_both_ways),
		cmocka_unit_test(what_is_no_id_is_refused),
		cmocka_unit_test(ids_rise_whatever_the_clock_does),
		cmocka_unit_test(a_million_are_unique_over_slots),
		cmocka_unit_test(a_successor_begins_above_the_floor),
		cmocka_unit_test(an_id_says_when),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
