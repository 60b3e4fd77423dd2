/* ctl_client.h - the console's wire: a command line out, a framed answer back
 * A request is one line: words separated by blanks, a word with blanks or quotes in double quotes ('\' escapes '"' and
 * '\'), optionally led by "--json". The answer is a line with '+' (done) or '-' (refused), the decimal length of what
 * follows, then that many bytes; a done command may say an exit status behind the length ("+123 1"). One session takes any number of requests, one after another.
 * Errors: ERR_IO (errno says why), ERR_EOF (the other side went away), ERR_SYNTAX (not our protocol). */
#ifndef MASTER_CTL_CLIENT_H
#define MASTER_CTL_CLIENT_H

#include <stdbool.h>

#include "shm/base/bytes.h"
#include "shm/base/err.h"

/* Largest answer that is believed. */
enum { CTL_ANSWER_MOST = 1 << 30, CTL_STATUS_MOST = 3 };

/* Connects to the control socket at path; the descriptor is the caller's. */
enum err ctl_connect(const char *path, int *fd);
struct ctl_answer {
	bool done;
	int status; /* the command's exit status: 1 for a refusal */
	struct bytes text;
};
/* Sends one line (without newline) and reads the whole answer; its text is emptied first, and the caller's to free. */
enum err ctl_ask(int fd, struct slice line, struct ctl_answer *a);
/* Adds a word, quoted where it must be; a blank before it unless it is the first. */
void ctl_add_word(struct bytes *line, const char *word);

#endif
