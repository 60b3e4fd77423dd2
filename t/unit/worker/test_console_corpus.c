/* worker/console: the corpus of t/fuzz/fuzz_console.c. */
#define CORPUS       "console"
#define CORPUS_LEAST 6
#include "t/fuzz/corpus_test.h"
#include "t/fuzz/fuzz_console.c"
