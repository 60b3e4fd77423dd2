#include "policy/conf/conf_word.h"

#include <string.h>

#include "policy/conf/conf_match.h"

const char *
conf_word_path(const char *word)
{
	return word[0] == '/' ? NULL : "an absolute path";
}

const char *
conf_word_path_or_none(const char *word)
{
	return word[0] == '\0' ? NULL : conf_word_path(word);
}

static bool
has_below(const char *word, unsigned char least)
{
	for (; *word != '\0'; word++)
		if ((unsigned char)*word < least || *word == 0x7f)
			return true;
	return false;
}

const char *
conf_word_name(const char *word)
{
	return word[0] == '\0' || has_below(word, '!') ? "a name without blanks" : NULL;
}

const char *
conf_word_line(const char *word)
{
	return has_below(word, ' ') ? "text on one line, without control characters" : NULL;
}

const char *
conf_word_address(const char *word)
{
	struct conf_addr a;

	return strcmp(word, "*") == 0 || conf_addr_parse(word, &a) ? NULL
								   : "an address, or * to leave it to the kernel";
}
