/* Replies of remote servers: whatever comes, each reply taken consumes bytes, and its text stays on one line. */
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include "spool/format/dsn.h"
#include "spool/format/reply.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
	struct slice in = slice_of(data, n);
	struct bytes text = { 0 };
	char status[16];
	int code;

	for (;;) {
		size_t before = in.n;

		if (reply_take(&in, &code, &text) != OK)
			break;
		if (in.n >= before || code < 200 || code > 599)
			abort();
		for (size_t i = 0; i < text.n; i++) {
			if ((unsigned char)text.p[i] < ' ')
				abort();
		}
		dsn_status(slice_bytes(&text), status);
	}
	bytes_fini(&text);
	return 0;
}
