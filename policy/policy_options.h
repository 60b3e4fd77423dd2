/* policy_options.h - option rows of the script host */
#ifndef POLICY_POLICY_OPTIONS_H
#define POLICY_POLICY_OPTIONS_H

#include "policy/conf/conf_row.h"

extern const struct opt_table policy_options;

#endif
