/* delivery_options.h - option rows of mail going out */
#ifndef WORKER_DELIVERY_DELIVERY_OPTIONS_H
#define WORKER_DELIVERY_DELIVERY_OPTIONS_H

#include "policy/conf/conf_row.h"

extern const struct opt_table delivery_options;

#endif
