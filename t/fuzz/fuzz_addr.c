/* Addresses: what is accepted lies within what was given, has the parts that it says, and reads the same again. */
#include <stdint.h>
#include <stdlib.h>

#include "spool/format/addr.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

static void
check(bool good)
{
	if (!good)
		abort();
}

static void
check_addr(const struct addr *a, struct slice in, unsigned allow)
{
	struct sockaddr_storage ss;
	struct addr again;
	struct bytes value = { 0 };

	if (a->null) {
		check(a->text.n == 0 && a->local.n == 0 && a->domain.n == 0);
		return;
	}
	check(a->text.p >= in.p && a->text.p + a->text.n <= in.p + in.n);
	check(a->local.p == a->text.p && a->local.n > 0);
	if (a->domain.n > 0) {
		check(a->text.n == a->local.n + 1 + a->domain.n && a->text.p[a->local.n] == '@');
		check(a->literal ? domain_literal(a->domain, &ss) : domain_valid(a->domain, true));
		check(slice_find(a->domain, '@') == a->domain.n);
	}
	for (size_t i = 0; i < a->text.n; i++)
		check((unsigned char)a->text.p[i] >= ' ' && a->text.p[i] != 0x7f);
	check(a->quoted || slice_find(a->local, '@') == a->local.n);
	check((allow & ADDR_UTF8) || !a->utf8);
	check(addr_parse(a->text, allow, &again) == OK);
	check(slice_eq(again.local, a->local) && slice_eq(again.domain, a->domain));
	addr_local_value(a, &value);
	check(value.n <= a->local.n);
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
		check(rest.p > in.p && rest.p[-1] == '>' && rest.p + rest.n == in.p + in.n);
		check_addr(&a, in, allow);
	} else {
		check(rest.p == in.p && rest.n == in.n);
	}
	if (addr_parse(in, allow, &a) == OK)
		check_addr(&a, in, allow);
	(void)utf8_valid(in);
	return 0;
}
