/* ec_logger_options.h - option rows of the logs: the stanza ec_logger */
#ifndef WORKER_LOG_EC_LOGGER_OPTIONS_H
#define WORKER_LOG_EC_LOGGER_OPTIONS_H

#include "policy/conf/conf_row.h"

extern const struct opt_table ec_logger_options;

#endif
