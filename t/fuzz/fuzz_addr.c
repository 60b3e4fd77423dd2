/* Addresses: what is accepted lies within what was given, has the parts that it says, and reads the same again. */
#include <stdint.h>

#include "shm/base/log.h"
#include "spool/format/addr.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

static void
check_addr(const struct addr *a, struct slice in, unsigned allow)
{
	struct sockaddr_storage ss;
	struct addr again;
	struct bytes value = { 0 };

	if (a->null) {
		require_that(a->text.n == 0 && a->local.n == 0 && a->domain.n == 0, "fuzz");
		return;
	}
	require_that(a->text.p >= in.p && a->text.p + a->text.n <= in.p + in.n, "fuzz");
	require_that(a->local.p == a->text.p && a->local.n > 0, "fuzz");
	if (a->domain.n > 0) {
		require_that(a->text.n == a->local.n + 1 + a->domain.n && a->text.p[a->local.n] == '@', "fuzz");
		require_that(a->literal ? domain_literal(a->domain, &ss) : domain_valid(a->domain, true), "fuzz");
		require_that(slice_find(a->domain, '@') == a->domain.n, "fuzz");
	}
	for (size_t i = 0; i < a->text.n; i++)
		require_that((unsigned char)a->text.p[i] >= ' ' && a->text.p[i] != 0x7f, "fuzz");
	require_that(a->quoted || slice_find(a->local, '@') == a->local.n, "fuzz");
	require_that((allow & ADDR_UTF8) || !a->utf8, "fuzz");
	require_that(addr_parse(a->text, allow, &again) == OK, "fuzz");
	require_that(slice_eq(again.local, a->local) && slice_eq(again.domain, a->domain), "fuzz");
	addr_local_value(a, &value);
	require_that(value.n <= a->local.n, "fuzz");
	bytes_fini(&value);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
	struct slice in, rest;
	struct addr a;
	unsigned allow;

	if (n < 1)
		return 0;
	allow = data[0];
	in = rest = slice_of(data + 1, n - 1);
	if (addr_take_path(&rest, allow, &a) == OK) {
		require_that(rest.p > in.p && rest.p[-1] == '>' && rest.p + rest.n == in.p + in.n, "fuzz");
		check_addr(&a, in, allow);
	} else {
		require_that(rest.p == in.p && rest.n == in.n, "fuzz");
	}
	if (addr_parse(in, allow, &a) == OK)
		check_addr(&a, in, allow);
	(void)utf8_valid(in);
	return 0;
}
