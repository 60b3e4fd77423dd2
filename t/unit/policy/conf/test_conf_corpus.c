/* policy/conf: the fuzzer's corpus, in the ordinary tests; what it once broke stays mended. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <dirent.h>
#include <stdio.h>

#include "t/fuzz/fuzz_conf.c"

static void
run_file(const char *path)
{
	FILE *f = fopen(path, "r");
	struct bytes text = { 0 };
	size_t n;

	assert_non_null(f);
	do {
		n = fread(bytes_room(&text, 4096), 1, 4096, f);
		text.n += n;
	} while (n > 0);
	fclose(f);
	LLVMFuzzerTestOneInput((const uint8_t *)text.p, text.n);
	/* Cut anywhere, it is still a text: every end of file inside a construct is tried. */
	for (n = 0; n < text.n; n += 7)
		LLVMFuzzerTestOneInput((const uint8_t *)text.p, n);
	bytes_fini(&text);
}

static void
the_corpus_runs(void **state)
{
	DIR *d = opendir("t/fuzz/corpus/conf");
	struct dirent *e;
	unsigned files = 0;

	(void)state;
	assert_non_null(d);
	while ((e = readdir(d)) != NULL) {
		char path[512];

		if (e->d_name[0] == '.')
			continue;
		snprintf(path, sizeof(path), "t/fuzz/corpus/conf/%s", e->d_name);
		run_file(path);
		files++;
	}
	closedir(d);
	assert_true(files >= 10);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(the_corpus_runs),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
