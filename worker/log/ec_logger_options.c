#include "worker/log/ec_logger_options.h"

#include "policy/conf/conf_word.h"

#define LOG_PATH(ident, text, path, what)                                                                          \
	{                                                                                                          \
		.id = (ident), .name = (text), .type = OPT_STRING, .check = conf_word_path_or_none, .def = (path), \
		.scopes = IN_EC_LOGGER, .help = "Path of the " what ". An empty one writes none."                  \
	}
#define LOG_MODE(ident, text, what)                                                                    \
	{                                                                                              \
		.id = (ident), .name = (text), .type = OPT_MODE, .def = "0644", .min = 0, .max = 0777, \
		.scopes = IN_EC_LOGGER, .help = "Mode of the " what " when it is made."                \
	}
#define LOG_WANTED(ident, text, what)                                                                   \
	{                                                                                               \
		.id = (ident), .name = (text), .type = OPT_BOOL, .def = "true", .scopes = IN_EC_LOGGER, \
		.help = "Write " what "."                                                               \
	}

static const struct opt_row rows[] = {
	LOG_PATH(OPT_MAINLOG, "mainlog", "/var/log/impetus/mainlog.ec", "message log"),
	LOG_PATH(OPT_REJECTLOG, "rejectlog", "/var/log/impetus/rejectlog.ec", "rejection log"),
	LOG_PATH(OPT_PANICLOG, "paniclog", "/var/log/impetus/paniclog.ec", "error log"),
	LOG_MODE(OPT_MAINLOG_MODE, "mainlog_mode", "message log"),
	LOG_MODE(OPT_REJECTLOG_MODE, "rejectlog_mode", "rejection log"),
	LOG_MODE(OPT_PANICLOG_MODE, "paniclog_mode", "error log"),
	LOG_WANTED(OPT_LOG_RECEPTIONS, "log_receptions", "a line for each message accepted"),
	LOG_WANTED(OPT_LOG_DELIVERIES, "log_deliveries", "a line for each delivery"),
	LOG_WANTED(OPT_LOG_TRANSIENT_FAILURES, "log_transient_failures", "a line for each failed try"),
	LOG_WANTED(OPT_LOG_PERMANENT_FAILURES, "log_permanent_failures", "a line for each bounce or expiry"),
	LOG_WANTED(OPT_LOG_REJECTIONS, "log_rejections", "the rejection log"),
	LOG_WANTED(OPT_LOG_ERRORS, "log_errors", "the error log"),
	{ .id = OPT_HEARTBEAT,
	  .name = "heartbeat",
	  .type = OPT_SECONDS,
	  .def = "60",
	  .min = 0,
	  .max = 86400,
	  .scopes = IN_EC_LOGGER,
	  .help = "Seconds between marks in message and rejection log; 0 writes none." },
};

const struct opt_table ec_logger_options = OPT_TABLE(rows);
