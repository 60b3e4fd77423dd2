/* master_options.h - option rows of the server as a whole: processes, spool, sockets, identity */
#ifndef MASTER_MASTER_OPTIONS_H
#define MASTER_MASTER_OPTIONS_H

#include "policy/conf/conf_row.h"

extern const struct opt_table master_options;

#endif
