/* The option rows of the whole daemon: against t/spec, against impetus.conf(5), and against each other.
 * WRITE_MAN=1 writes the man page's part instead of comparing it. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "master/master_options.h"
#include "policy/conf/conf.h"
#include "policy/conf/conf_known.h"
#include "policy/conf/conf_scope.h"
#include "policy/policy_options.h"
#include "worker/delivery/delivery_options.h"
#include "worker/log/ec_logger_options.h"
#include "worker/reception/reception_options.h"

#define MAN_PAGE  "etc/man/impetus.conf.5"
#define MAN_BEGIN "writes from here\n"
#define MAN_END   ".\\\" to here.\n"

enum { COLUMNS = 6, ROWS_MAX = 2000 };

/* Rows of a list in t/spec. */
struct list {
	char *text;
	const char *v[ROWS_MAX][COLUMNS];
	size_t n;
};

static struct list options, module_options, own;
static const struct opt_row *rows[OPT_COUNT];
static size_t n_rows;

static char *
read_file(const char *path)
{
	FILE *f = fopen(path, "r");
	struct bytes b = { 0 };
	size_t n;

	if (f == NULL)
		fail_msg("cannot open %s: the tests run in the top folder", path);
	do {
		n = fread(bytes_room(&b, 4096), 1, 4096, f);
		b.n += n;
	} while (n > 0);
	fclose(f);
	bytes_cstr(&b);
	return b.p;
}

static void
read_list(struct list *l, const char *path)
{
	char *line, *rest;

	rest = l->text = read_file(path);
	strsep(&rest, "\n");
	while ((line = strsep(&rest, "\n")) != NULL && line[0] != '\0') {
		assert_true(l->n < ROWS_MAX);
		for (size_t c = 0; c < COLUMNS; c++) {
			l->v[l->n][c] = strsep(&line, "\t");
			if (l->v[l->n][c] == NULL)
				l->v[l->n][c] = "";
		}
		l->n++;
	}
}

static int
set_up(void **state)
{
	const struct opt_table tables[] = { master_options, policy_options, ec_logger_options, reception_options,
					    delivery_options };

	(void)state;
	for (size_t t = 0; t < sizeof(tables) / sizeof(tables[0]); t++)
		for (size_t i = 0; i < tables[t].n; i++)
			rows[n_rows++] = &tables[t].rows[i];
	read_list(&options, "t/spec/options.tsv");
	read_list(&module_options, "t/spec/module_options.tsv");
	read_list(&own, "t/spec/own.tsv");
	return 0;
}

static int
tear_down(void **state)
{
	(void)state;
	free(options.text);
	free(module_options.text);
	free(own.text);
	return 0;
}

static bool
in_words(const char *words, const char *word, const char *separators)
{
	size_t n = strlen(word);

	while (*words != '\0') {
		size_t m = strcspn(words, separators);

		if (m == n && strncasecmp(words, word, n) == 0)
			return true;
		words += m + (words[m] != '\0');
	}
	return false;
}

/* What a spec list says of one option in one scope. */
struct said {
	const char *type, *def;
};

static bool
said_in_options(const struct list *l, const char *name, const char *scope, struct said *out)
{
	for (size_t i = 0; i < l->n; i++)
		if (strcasecmp(l->v[i][0], name) == 0 && in_words(l->v[i][3], scope, ",")) {
			*out = (struct said){ l->v[i][1], l->v[i][2] };
			return true;
		}
	return false;
}

/* Module options have the module's name as scope, those of its scripts "script". */
static bool
said_in_modules(const char *name, const char *scope, struct said *out)
{
	for (size_t i = 0; i < module_options.n; i++) {
		const char *const *v = module_options.v[i];
		bool here = strcmp(v[0], scope) == 0 || strcmp(v[0], "(any)") == 0 ||
			    (strcmp(scope, "script") == 0 && strcmp(v[4], "module/script") == 0);

		if (here && strcmp(v[1], name) == 0) {
			*out = (struct said){ v[2], v[3] };
			return true;
		}
	}
	return false;
}

static bool
said(const char *name, const char *scope, struct said *out)
{
	return said_in_options(&own, name, scope, out) || said_in_options(&options, name, scope, out) ||
	       said_in_modules(name, scope, out);
}

static bool
enum_fits(const struct opt_row *row, const char *type)
{
	const char *words = type + strlen("enum:");

	while (*words != '\0') {
		size_t n = strcspn(words, "|");
		char word[64];

		snprintf(word, sizeof(word), "%.*s", (int)n, words);
		if (!in_words(row->words, word, "|="))
			return false;
		words += n + (words[n] == '|');
	}
	return true;
}

static bool
type_fits(const struct opt_row *row, const char *type)
{
	switch (row->type) {
	case OPT_BOOL:
		return strcmp(type, "boolean") == 0;
	case OPT_INT:
		return strcmp(type, "int") == 0 || (row->words != NULL && strcmp(type, "string") == 0);
	case OPT_SECONDS:
		return strcmp(type, "seconds") == 0;
	case OPT_BYTES:
		return strcmp(type, "bytes") == 0;
	case OPT_MODE:
		return strcmp(type, "int") == 0;
	case OPT_ENUM:
		return strncmp(type, "enum:", 5) == 0 && enum_fits(row, type);
	case OPT_STRING:
	case OPT_RATE:
		return strcmp(type, "string") == 0;
	case OPT_LIST:
	case OPT_CIDRS:
	case OPT_DOMAINS:
		return strcmp(type, "list") == 0;
	case OPT_DICT:
		return strcmp(type, "dictionary") == 0;
	}
	return false;
}

static void
every_row_is_as_the_lists_say(void **state)
{
	const struct conf_scope *scope;

	(void)state;
	for (size_t i = 0; i < n_rows; i++) {
		const struct opt_row *row = rows[i];
		const char *def = row->def == NULL ? "" : row->def;

		for (size_t s = 0; (scope = conf_scope_at(s)) != NULL; s++) {
			struct said want;

			if ((row->scopes & scope->bit) == 0)
				continue;
			if (!said(row->name, scope->name, &want))
				fail_msg("%s is not in t/spec for scope %s", row->name, scope->name);
			if (!type_fits(row, want.type))
				fail_msg("%s: type is %s in t/spec", row->name, want.type);
			if (strcmp(def, want.def) != 0)
				fail_msg("%s: default is \"%s\", in t/spec \"%s\"", row->name, def, want.def);
		}
	}
}

static const struct opt_row *
row_named(const char *name)
{
	for (size_t i = 0; i < n_rows; i++)
		if (strcasecmp(rows[i]->name, name) == 0)
			return rows[i];
	return NULL;
}

/* An option is built in that scope, or named there as not built; never neither, never both. */
static void
check_covered(const char *name, const struct conf_scope *scope)
{
	const struct opt_row *row = row_named(name);
	const struct conf_known *k = conf_known_find(OPTION, name);
	bool built = row != NULL && (row->scopes & scope->bit) != 0;
	bool named = k != NULL && conf_known_in(k, scope->name);

	if (built == named)
		fail_msg("%s in %s: %s", name, scope->name, built ? "built, and listed as not built" : "not listed");
}

static bool
is_name(const char *s)
{
	return s[0] != '\0' && strspn(s, "abcdefghijklmnopqrstuvwxyz0123456789_") == strlen(s);
}

static void
every_option_of_the_language_is_built_or_named(void **state)
{
	const struct conf_scope *scope;

	(void)state;
	for (size_t i = 0; i < options.n; i++) {
		const char *const *v = options.v[i];

		if (!is_name(v[0]))
			continue;
		for (size_t s = 0; strcmp(v[1], "scope") != 0 && (scope = conf_scope_at(s)) != NULL; s++)
			if (in_words(v[3], scope->name, ","))
				check_covered(v[0], scope);
		if (strcmp(v[1], "scope") == 0 && !in_words(v[3], "acl", ",") && conf_scope_find(v[0]) == NULL &&
		    conf_known_find(STANZA, v[0]) == NULL)
			fail_msg("the stanza %s is neither built nor listed", v[0]);
	}
}

static void
every_module_is_built_or_named(void **state)
{
	struct list modules = { 0 };

	(void)state;
	read_list(&modules, "t/spec/modules.tsv");
	for (size_t i = 0; i < modules.n; i++)
		if (is_name(modules.v[i][0]) && conf_scope_find(modules.v[i][0]) == NULL &&
		    conf_known_find(STANZA, modules.v[i][0]) == NULL)
			fail_msg("the module %s is neither built nor listed", modules.v[i][0]);
	free(modules.text);
}

/* conf_known_find searches by halves. */
static void
the_list_of_what_is_not_built_is_sorted(void **state)
{
	const struct conf_known *k;

	(void)state;
	for (size_t i = 0; (k = conf_known_at(i)) != NULL; i++)
		if (conf_known_find(k->kind, k->name) != k)
			fail_msg("%s is not found", k->name);
}

static void
the_rows_of_all_modules_fit_together(void **state)
{
	struct conf_errors errs = { 0 };
	const struct opt_table tables[] = { master_options, policy_options, ec_logger_options, reception_options,
					    delivery_options };
	struct conf_source src = {
		.path = "none", .text = SLICE(""), .tables = tables, .n_tables = 5, .no_files = true
	};
	struct conf *c = conf_load(&src, &errs);

	(void)state;
	assert_non_null(c);
	for (unsigned id = 0; id < OPT_COUNT; id++)
		if (conf_row(c, (enum opt_id)id) == NULL)
			fail_msg("option number %u has no row", id);
	conf_unref(&c);
}

static void
every_row_is_complete(void **state)
{
	(void)state;
	for (size_t i = 0; i < n_rows; i++) {
		const struct opt_row *row = rows[i];
		size_t n = row->help == NULL ? 0 : strlen(row->help);

		if (n == 0 || row->help[n - 1] != '.' || !is_name(row->name) || row->scopes == 0)
			fail_msg("%s: a row has a name, scopes, and help in whole sentences", row->name);
		if (row->type == OPT_ENUM && row->words == NULL)
			fail_msg("%s: an enumeration has words", row->name);
	}
}

/* The configuration that is installed, and the one that must always run. */
static void
the_shipped_configurations_load_without_a_word(void **state)
{
	static const char *const paths[] = { "etc/impetus.conf", "t/spec/sample.conf" };
	const struct opt_table tables[] = { master_options, policy_options, ec_logger_options, reception_options,
					    delivery_options };

	(void)state;
	for (size_t i = 0; i < sizeof(paths) / sizeof(paths[0]); i++) {
		struct conf_errors errs = { 0 };
		struct conf_source src = { .path = paths[i], .tables = tables, .n_tables = 5, .strict = true };
		struct conf *c = conf_load(&src, &errs);

		if (errs.n > 0)
			fail_msg("%s:%u: %s", errs.v[0].file, errs.v[0].line, errs.v[0].text);
		assert_int_equal(conf_listen_count(c), 2);
		conf_unref(&c);
	}
}

/* The man page */

static const char *
type_text(enum opt_type type)
{
	static const char *const texts[] = {
		[OPT_BOOL] = "boolean", [OPT_INT] = "number",     [OPT_SECONDS] = "seconds", [OPT_BYTES] = "bytes",
		[OPT_MODE] = "mode",    [OPT_ENUM] = "word",      [OPT_STRING] = "text",     [OPT_RATE] = "rate",
		[OPT_LIST] = "list",    [OPT_CIDRS] = "networks", [OPT_DOMAINS] = "domains", [OPT_DICT] = "dictionary",
	};

	return texts[type];
}

static int
by_name(const void *a, const void *b)
{
	const struct opt_row *const *x = a, *const *y = b;

	return strcmp((*x)->name, (*y)->name);
}

static void
man_words(const char *words, struct bytes *out)
{
	if (words == NULL)
		return;
	bytes_add_str(out, " (");
	for (const char *c = words; *c != '\0'; c++) {
		if (*c == '|' || *c == '=')
			bytes_add_str(out, ", ");
		else
			bytes_add_char(out, *c);
	}
	bytes_add_char(out, ')');
}

static void
man_option(const struct opt_row *row, struct bytes *out)
{
	bytes_addf(out, ".It Ic %s\n%s", row->name, type_text(row->type));
	man_words(row->words, out);
	bytes_addf(out, "; default %s; in ", row->def == NULL ? "none" : row->def);
	conf_scope_names(row->scopes, out);
	bytes_addf(out, ".\n.br\n%s\n", row->help);
}

static void
man_options(struct bytes *out)
{
	const struct opt_row *sorted[OPT_COUNT];

	memcpy(sorted, rows, sizeof(sorted));
	qsort(sorted, n_rows, sizeof(sorted[0]), by_name);
	bytes_add_str(out, ".Bl -tag -width Ds\n");
	for (size_t i = 0; i < n_rows; i++)
		man_option(sorted[i], out);
	bytes_add_str(out, ".El\n");
}

static void
write_man(const char *page, const char *begin, const char *end, struct bytes *want)
{
	FILE *f = fopen(MAN_PAGE, "w");

	assert_non_null(f);
	fwrite(page, 1, (size_t)(begin - page), f);
	fwrite(want->p, 1, want->n, f);
	fputs(end, f);
	assert_int_equal(fclose(f), 0);
}

static void
the_man_page_has_every_row(void **state)
{
	char *page = read_file(MAN_PAGE), *begin = strstr(page, MAN_BEGIN), *end = strstr(page, MAN_END);
	struct bytes want = { 0 };

	(void)state;
	assert_non_null(begin);
	assert_non_null(end);
	begin += strlen(MAN_BEGIN);
	man_options(&want);
	if (getenv("WRITE_MAN") != NULL)
		write_man(page, begin, end, &want);
	else if (want.n != (size_t)(end - begin) || memcmp(want.p, begin, want.n) != 0)
		fail_msg("%s is not as the rows are; WRITE_MAN=1 build/t/unit/master/test_options mends it", MAN_PAGE);
	bytes_fini(&want);
	free(page);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(every_row_is_complete),
		cmocka_unit_test(the_rows_of_all_modules_fit_together),
		cmocka_unit_test(every_row_is_as_the_lists_say),
		cmocka_unit_test(every_option_of_the_language_is_built_or_named),
		cmocka_unit_test(every_module_is_built_or_named),
		cmocka_unit_test(the_list_of_what_is_not_built_is_sorted),
		cmocka_unit_test(the_shipped_configurations_load_without_a_word),
		cmocka_unit_test(the_man_page_has_every_row),
	};

	return cmocka_run_group_tests(tests, set_up, tear_down);
}
