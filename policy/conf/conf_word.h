/* conf_word.h - checks of single words, for rows whose text must be more than text (struct opt_row, check)
 * Each gives NULL, or what would be right. */
#ifndef POLICY_CONF_CONF_WORD_H
#define POLICY_CONF_CONF_WORD_H

/* An absolute path. */
const char *conf_word_path(const char *word);
/* An absolute path, or nothing at all. */
const char *conf_word_path_or_none(const char *word);
/* A name that can stand in a protocol line: printable, without blanks, not empty. */
const char *conf_word_name(const char *word);
/* Text that can stand in one: no line end or other control character. */
const char *conf_word_line(const char *word);
/* "*" or an address. */
const char *conf_word_address(const char *word);

#endif
