/* ctl_client.h - the console's wire: a command line out, a framed answer back
 * A request is one line: words separated by blanks, a word with blanks or quotes in double quotes ('\' escapes '"' and
 * '\'), optionally led by "--json". The answer is a line with '+' (done) or '-' (refused), the decimal length of what
 * follows, then that many bytes. One session takes any number of requests, one after another.
 * Errors: ERR_IO (errno says why), ERR_EOF (the other side went away), ERR_SYNTAX (not our protocol). */
#ifndef MASTER_CTL_CLIENT_H
#define MASTER_CTL_CLIENT_H

#include <stdbool.h>

#include "shm/base/bytes.h"
#include "shm/base/err.h"

/* Largest answer that is believed. */
enum { CTL_ANSWER_MOST = 1 << 30 };

/* Connects to the control socket at path; the descriptor is the caller's. */
enum err ctl_connect(const char *path, int *fd);
/* Sends one line (without newline) and reads the whole answer into *text, which is emptied first. */
enum err ctl_ask(int fd, struct slice line, bool *done, struct bytes *text);
/* Adds a word, quoted where it must be; a blank before it unless it is the first. */
void ctl_add_word(struct bytes *line, const char *word);

#endif
