/* DNS replies and the resolver file: nothing is read beyond its end, and what is believed is well formed. */
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include "worker/net/resolver.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

static const enum dns_type types[] = { DNS_A, DNS_AAAA, DNS_MX, DNS_TXT, DNS_PTR, DNS_CNAME, DNS_NS };

/* The first byte chooses the type; the name is the question's own, so that the rest is reached. */
int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
	struct resolver_conf conf;
	struct dns_answer *a;

	(void)resolver_conf_parse(slice_of(data, n), &conf);
	if (n < 1)
		return 0;
	a = dns_answer_parse(data + 1, n - 1, "a.x", types[data[0] % 7]);
	if (a->status == DNS_OK && a->n == 0)
		abort();
	for (unsigned i = 0; i < a->n; i++) {
		if (a->type != DNS_A && a->type != DNS_AAAA && a->records[i].text.p[a->records[i].text.n] != '\0')
			abort();
	}
	dns_answer_free(&a);
	return 0;
}
