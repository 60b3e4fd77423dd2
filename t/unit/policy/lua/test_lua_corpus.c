/* policy/lua: the corpus of t/fuzz/fuzz_lua.c. */
#define CORPUS       "lua"
#define CORPUS_LEAST 7
#include "t/fuzz/corpus_test.h"
#include "t/fuzz/fuzz_lua.c"
