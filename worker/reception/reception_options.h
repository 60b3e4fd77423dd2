/* reception_options.h - option rows of mail coming in */
#ifndef WORKER_RECEPTION_RECEPTION_OPTIONS_H
#define WORKER_RECEPTION_RECEPTION_OPTIONS_H

#include "policy/conf/conf_row.h"

extern const struct opt_table reception_options;

#endif
