#include "policy/policy_options.h"

#define DAY 86400

static const struct opt_row rows[] = {
	{ .id = OPT_SCRIPT_MAX_INSTRUCTIONS,
	  .name = "script_max_instructions",
	  .type = OPT_INT,
	  .def = "10000000",
	  .min = 1000,
	  .max = INT64_C(1) << 40,
	  .scopes = IN_GLOBAL,
	  .side = SIDE_BOTH,
	  .help = "Instructions that a script may spend on one phase of one session." },
	{ .id = OPT_SCRIPT_MAX_MEMORY,
	  .name = "script_max_memory",
	  .type = OPT_BYTES,
	  .def = "67108864",
	  .min = 65536,
	  .max = INT64_C(1) << 40,
	  .scopes = IN_GLOBAL,
	  .side = SIDE_BOTH,
	  .help = "Bytes that a script may allocate in one phase of one session." },
	{ .id = OPT_SCRIPT_MAX_TIME,
	  .name = "script_max_time",
	  .type = OPT_SECONDS,
	  .def = "60",
	  .min = 1,
	  .max = DAY,
	  .scopes = IN_GLOBAL,
	  .side = SIDE_BOTH,
	  .help = "Time that a script may take for one phase of one session, waiting included." },
	{ .id = OPT_SOURCE,
	  .name = "source",
	  .type = OPT_STRING,
	  .scopes = IN_SCRIPT,
	  .help = "Module or file of the script. It is sought in the configuration file's directory, its lua/, then "
		  "the "
		  "installed policy directory." },
	{ .id = OPT_ENABLED,
	  .name = "enabled",
	  .type = OPT_BOOL,
	  .def = "true",
	  .scopes = IN_SCRIPTLET | IN_EC_LOGGER,
	  .help = "false turns the module off." },
};

const struct opt_table policy_options = OPT_TABLE(rows);
