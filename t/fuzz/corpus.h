/* corpus.h - runs a fuzzer's corpus in an ordinary test, so that what it once broke stays mended */
#ifndef T_FUZZ_CORPUS_H
#define T_FUZZ_CORPUS_H

#include <glob.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include "shm/base/mem.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

/* Files run; the fuzzer's function aborts where something is wrong. */
static size_t
corpus_run(const char *pattern)
{
	glob_t found;
	size_t n;

	if (glob(pattern, 0, NULL, &found) != 0)
		return 0;
	for (size_t i = 0; i < found.gl_pathc; i++) {
		enum { MOST = 1 << 20 };
		FILE *f = fopen(found.gl_pathv[i], "re");
		uint8_t *data = mem_alloc(MOST);
		size_t got = f != NULL ? fread(data, 1, MOST, f) : 0;

		if (f != NULL)
			fclose(f);
		(void)LLVMFuzzerTestOneInput(data, got);
		free(data);
	}
	n = found.gl_pathc;
	globfree(&found);
	return n;
}

#endif
