/* Headers: fields put together are the header, parts of a message never say more than the whole, and no name or value
 * that is written makes a second field. */
#include <stdint.h>

#include "shm/base/log.h"
#include "spool/format/header.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

static void
check_fields(struct slice header)
{
	struct slice rest = header;
	struct header_field f;
	struct bytes text = { 0 };
	const char *at = header.p;

	while (header_next(&rest, &f)) {
		require_that(f.whole.p == at && f.name.n > 0, "fuzz");
		at += f.whole.n;
		text.n = 0;
		header_unfold(f.value, &text);
		require_that(text.n <= f.value.n, "fuzz");
	}
	require_that(rest.n == 0, "fuzz");
	bytes_fini(&text);
}

static void
check_parts(struct slice message, size_t length)
{
	size_t seen = 0;
	bool ended;

	for (size_t n = 0; n <= message.n; n += 1 + message.n / 64) {
		size_t part = header_length(slice_of(message.p, n), false, &ended);

		require_that(part >= seen && part <= length && (!ended || part == length), "fuzz");
		seen = part;
	}
}

/* One field more, and only that. */
static void
check_write(struct slice value)
{
	struct bytes out = { 0 }, edited = { 0 };

	header_write(&out, SLICE("X-Test"), value);
	require_that(header_count(slice_bytes(&out), SLICE("X-Test")) == 1, "fuzz");
	check_fields(slice_bytes(&out));
	header_replace(slice_bytes(&out), SLICE("x-test"), value, &edited);
	require_that(slice_eq(slice_bytes(&out), slice_bytes(&edited)), "fuzz");
	bytes_fini(&out);
	bytes_fini(&edited);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
	struct slice message = slice_of(data, n);
	struct bytes without = { 0 };
	bool ended;
	size_t length = header_length(message, true, &ended);

	require_that(ended && length <= n, "fuzz");
	check_fields(slice_of(message.p, length));
	check_parts(message, length);
	check_write(message);
	(void)header_without(slice_of(message.p, length), SLICE("a"), -1, &without);
	require_that(header_count(slice_bytes(&without), SLICE("a")) == 0, "fuzz");
	bytes_fini(&without);
	return 0;
}
