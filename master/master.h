/* master.h - the daemon: from a checked configuration to the last child's end
 * Errors are said on stderr until the logs are open, then in the paniclog. Returns the exit status. Thread: one. */
#ifndef MASTER_MASTER_H
#define MASTER_MASTER_H

#include <stdbool.h>

struct master_options_given {
	const char *conf_path; /* absolute */
	bool foreground;
};

int master_run(const struct master_options_given *given);

#endif
