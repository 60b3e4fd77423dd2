#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>

#include "policy/conf/conf_match.h"

/* A domain is short: an expression that needs more steps for one is a trap for the loop. */
enum { MATCH_LIMIT = 20000, HEAP_LIMIT_KIB = 1024 };

struct conf_regex {
	pcre2_code *code;
	pcre2_match_data *data;
	pcre2_match_context *limits;
};

static void
regex_free(void *arg)
{
	struct conf_regex *re = arg;

	pcre2_match_context_free(re->limits);
	pcre2_match_data_free(re->data);
	pcre2_code_free(re->code);
}

struct conf_regex *
conf_regex_new(struct arena *arena, const char *pattern, const char **why)
{
	struct conf_regex *re = arena_alloc(arena, sizeof(*re));
	PCRE2_SIZE at;
	int error;

	re->code = pcre2_compile((PCRE2_SPTR)pattern, PCRE2_ZERO_TERMINATED, PCRE2_CASELESS, &error, &at, NULL);
	if (re->code == NULL) {
		PCRE2_UCHAR text[128];

		pcre2_get_error_message(error, text, sizeof(text));
		*why = arena_printf(arena, "at character %zu: %s", (size_t)at + 1, (const char *)text);
		return NULL;
	}
	re->data = pcre2_match_data_create(1, NULL);
	re->limits = pcre2_match_context_create(NULL);
	pcre2_set_match_limit(re->limits, MATCH_LIMIT);
	pcre2_set_heap_limit(re->limits, HEAP_LIMIT_KIB);
	arena_on_free(arena, regex_free, re);
	return re;
}

bool
conf_regex_has(const struct conf_regex *re, const char *subject)
{
	return pcre2_match(re->code, (PCRE2_SPTR)subject, PCRE2_ZERO_TERMINATED, 0, 0, re->data, re->limits) >= 0;
}
