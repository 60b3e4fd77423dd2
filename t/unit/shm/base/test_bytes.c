/* shm/base: bytes, arena, crc32c: what every other module stands on. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "shm/base/arena.h"
#include "shm/base/bytes.h"
#include "shm/base/crc32c.h"
#include "shm/base/mem.h"

static void
numbers_survive_the_round_trip(void **state)
{
	struct bytes b = { 0 };
	struct slice s, text;
	uint8_t v8;
	uint16_t v16;
	uint32_t v32;
	uint64_t v64;

	(void)state;
	bytes_add_u8(&b, 0xfe);
	bytes_add_u16(&b, 0xfedc);
	bytes_add_u32(&b, 0xfedcba98);
	bytes_add_u64(&b, UINT64_C(0xfedcba9876543210));
	bytes_add_lstr(&b, SLICE("word"));
	s = slice_bytes(&b);
	assert_true(take_u8(&s, &v8) && v8 == 0xfe);
	assert_true(take_u16(&s, &v16) && v16 == 0xfedc);
	assert_true(take_u32(&s, &v32) && v32 == 0xfedcba98);
	assert_true(take_u64(&s, &v64) && v64 == UINT64_C(0xfedcba9876543210));
	assert_true(take_lstr(&s, &text) && slice_eq(text, SLICE("word")));
	assert_int_equal(s.n, 0);
	assert_false(take_u8(&s, &v8));
	bytes_fini(&b);
}

static void
a_length_beyond_the_end_is_refused(void **state)
{
	struct slice s = slice_of("\xff\xff\xff\x7f"
				  "abc",
				  7),
		     text;

	(void)state;
	assert_false(take_lstr(&s, &text));
	assert_int_equal(s.n, 7);
}

static void
numbers_are_written_in_decimal(void **state)
{
	static const struct {
		uint64_t v;
		const char *text;
	} rows[] = { { 0, "0" },
		     { 7, "7" },
		     { 10, "10" },
		     { 4294967296, "4294967296" },
		     { UINT64_MAX, "18446744073709551615" } };
	char room[DECIMAL_TEXT];

	(void)state;
	for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
		struct bytes b = { 0 };

		assert_true(slice_eq(decimal_text(rows[i].v, room), slice_str(rows[i].text)));
		bytes_add_decimal(&b, rows[i].v);
		assert_string_equal(bytes_cstr(&b), rows[i].text);
		bytes_fini(&b);
	}
}

/* What just fits the room that is left, and what just does not (the NUL counts). */
static void
printing_grows_as_needed(void **state)
{
	(void)state;
	for (int width = 0; width < 200; width++) {
		struct bytes b = { 0 };

		bytes_addf(&b, "%s", "begun ");
		bytes_addf(&b, "%0*d%c", width, 0, '!');
		bytes_addf(&b, "%s", "");
		assert_int_equal(b.n, 6 + (width > 1 ? width : 1) + 1);
		assert_memory_equal(b.p, "begun 0", 7);
		assert_int_equal(b.p[b.n - 1], '!');
		bytes_fini(&b);
	}
}

static void
room_for_nothing_is_a_place_too(void **state)
{
	struct bytes b = { 0 };

	(void)state;
	assert_non_null(bytes_room(&b, 0));
	bytes_fini(&b);
}

static void
decimal_is_strict(void **state)
{
	static const struct {
		const char *text;
		uint64_t max;
		int good;
		uint64_t value;
	} rows[] = { { "0", 10, 1, 0 },
		     { "10", 10, 1, 10 },
		     { "11", 10, 0, 0 },
		     { "", 10, 0, 0 },
		     { "-1", 10, 0, 0 },
		     { "1x", 100, 0, 0 },
		     { "18446744073709551615", UINT64_MAX, 1, UINT64_MAX },
		     { "18446744073709551616", UINT64_MAX, 0, 0 } };

	(void)state;
	for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
		uint64_t v = 0;
		assert_int_equal(slice_u64(slice_str(rows[i].text), rows[i].max, &v), rows[i].good);
		if (rows[i].good)
			assert_true(v == rows[i].value);
	}
}

static void
crc_is_castagnoli(void **state)
{
	(void)state;
	assert_int_equal(crc32c(0, "123456789", 9), 0xe3069283);
	assert_int_equal(crc32c(crc32c(0, "1234", 4), "56789", 5), 0xe3069283);
}

static int order;
static void
hook(void *arg)
{
	*(int *)arg = ++order;
}

static void
arena_runs_its_hooks_backwards(void **state)
{
	struct arena *a = arena_new();
	int first = 0, second = 0;

	(void)state;
	arena_on_free(a, hook, &first);
	arena_on_free(a, hook, &second);
	for (int i = 0; i < 1000; i++)
		assert_int_equal(((uintptr_t)arena_alloc(a, (size_t)i * 7 % 3000)) % _Alignof(max_align_t), 0);
	assert_string_equal(arena_printf(a, "%d-%s", 7, "x"), "7-x");
	arena_free(&a);
	assert_null(a);
	assert_int_equal(second, 1);
	assert_int_equal(first, 2);
}

#ifndef __SANITIZE_ADDRESS__ /* whose allocator has its own ways */
static size_t
resident(void)
{
	unsigned long all, in;
	FILE *f = fopen("/proc/self/statm", "r");

	assert_non_null(f);
	assert_int_equal(fscanf(f, "%lu %lu", &all, &in), 2);
	fclose(f);
	return in * (size_t)sysconf(_SC_PAGESIZE);
}

/* Pieces that stay lie all over what was in use. */
static void
memory_between_what_stays_is_given_back(void **state)
{
	enum { PIECES = 20000, PIECE = 5000, STAYS = 16 };
	static char *pieces[PIECES];
	size_t before;

	(void)state;
	for (int i = 0; i < PIECES; i++)
		pieces[i] = memset(mem_alloc(PIECE), 1, PIECE);
	for (int i = 0; i < PIECES; i++)
		if (i % STAYS != 0)
			free(pieces[i]);
	before = resident();
	assert_in_range(before, PIECES * PIECE, SIZE_MAX);
	mem_give_back();
	assert_in_range(resident(), 0, before / 2);
	for (int i = 0; i < PIECES; i += STAYS)
		free(pieces[i]);
}
#endif

int
main(void)
{
	const struct CMUnitTest tests[] = {
#ifndef __SANITIZE_ADDRESS__
		cmocka_unit_test(memory_between_what_stays_is_given_back),
#endif
		cmocka_unit_test(numbers_survive_the_round_trip),
		cmocka_unit_test(a_length_beyond_the_end_is_refused),
		cmocka_unit_test(numbers_are_written_in_decimal),
		cmocka_unit_test(printing_grows_as_needed),
		cmocka_unit_test(room_for_nothing_is_a_place_too),
		cmocka_unit_test(decimal_is_strict),
		cmocka_unit_test(crc_is_castagnoli),
		cmocka_unit_test(arena_runs_its_hooks_backwards),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
