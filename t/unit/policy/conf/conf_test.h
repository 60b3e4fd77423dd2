/* conf_test.h - what the tests of policy/conf share: a table of rows of every type, and loading from text */
#ifndef T_UNIT_POLICY_CONF_CONF_TEST_H
#define T_UNIT_POLICY_CONF_CONF_TEST_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "policy/conf/conf.h"

#define SENDING_ROW(ident, text, kind, value)                                                       \
	{                                                                                           \
		.id = (ident), .name = (text), .type = (kind), .def = (value), .scopes = IN_SENDING \
	}

static const struct opt_row test_rows[] = {
	{ .id = OPT_HOSTNAME, .name = "hostname", .type = OPT_STRING, .scopes = IN_GLOBAL },
	{ .id = OPT_WORKERS,
	  .name = "workers",
	  .type = OPT_INT,
	  .def = "auto",
	  .min = 1,
	  .max = 32,
	  .words = "auto",
	  .scopes = IN_GLOBAL },
	{ .id = OPT_IN_DOUBT,
	  .name = "in_doubt",
	  .type = OPT_ENUM,
	  .def = "retry",
	  .words = "retry|hold|done",
	  .scopes = IN_GLOBAL },
	{ .id = OPT_USER, .name = "user", .type = OPT_STRING, .def = "impetus", .scopes = IN_SECURITY },
	{ .id = OPT_CHROOT, .name = "chroot", .type = OPT_STRING, .scopes = IN_SECURITY },
	{ .id = OPT_FILE_MODE,
	  .name = "file_mode",
	  .type = OPT_MODE,
	  .def = "0660",
	  .max = 0777,
	  .scopes = IN_ESMTP_LISTENER | IN_CONTROL_LISTENER | IN_LISTEN },
	{ .id = OPT_ENABLE,
	  .name = "enable",
	  .type = OPT_BOOL,
	  .def = "true",
	  .scopes = IN_ESMTP_LISTENER | IN_CONTROL_LISTENER | IN_LISTEN },
	{ .id = OPT_ENABLED,
	  .name = "enabled",
	  .type = OPT_BOOL,
	  .def = "true",
	  .scopes = IN_SCRIPTLET | IN_EC_LOGGER },
	{ .id = OPT_SOURCE, .name = "source", .type = OPT_STRING, .scopes = IN_SCRIPT },
	{ .id = OPT_MAINLOG, .name = "mainlog", .type = OPT_STRING, .def = "/x/mainlog", .scopes = IN_EC_LOGGER },
	{ .id = OPT_RELAY_HOSTS, .name = "relay_hosts", .type = OPT_CIDRS, .scopes = IN_GLOBAL | IN_RECEIVING },
	{ .id = OPT_RELAY_DOMAINS, .name = "relay_domains", .type = OPT_DOMAINS, .scopes = IN_GLOBAL | IN_PATHWAYS },
	{ .id = OPT_OPEN_RELAY, .name = "open_relay", .type = OPT_BOOL, .def = "false", .scopes = IN_RECEIVING },
	{ .id = OPT_IDLE_TIME, .name = "idle_time", .type = OPT_SECONDS, .def = "0", .scopes = IN_RECEIVING },
	{ .id = OPT_SMTP_EXTENSIONS,
	  .name = "smtp_extensions",
	  .type = OPT_LIST,
	  .words = "ENHANCEDSTATUSCODES",
	  .scopes = IN_RECEIVING },
	{ .id = OPT_CONTEXT, .name = "context", .type = OPT_DICT, .scopes = IN_RECEIVING },
	{ .id = OPT_PATHWAY,
	  .name = "pathway",
	  .type = OPT_STRING,
	  .def = "default",
	  .scopes = IN_ESMTP_LISTENER | IN_LISTEN | IN_PEER },
	{ .id = OPT_MAX_RECIPIENTS_PER_CONNECTION,
	  .name = "max_recipients_per_connection",
	  .type = OPT_INT,
	  .def = "0",
	  .scopes = IN_GLOBAL | IN_ESMTP_LISTENER | IN_LISTEN | IN_PEER },
	{ .id = OPT_ROUTES, .name = "routes", .type = OPT_LIST, .scopes = IN_GLOBAL | IN_DOMAIN },
	{ .id = OPT_BIND_ADDRESS,
	  .name = "bind_address",
	  .type = OPT_STRING,
	  .def = "*",
	  .scopes = IN_GLOBAL | IN_BINDING_GROUP | IN_BINDING },
	{ .id = OPT_MAX_OUTBOUND_CONNECTIONS,
	  .name = "max_outbound_connections",
	  .type = OPT_INT,
	  .def = "32",
	  .min = -1,
	  .max = 1000,
	  .scopes = IN_SENDING },
	{ .id = OPT_BLACKHOLE,
	  .name = "blackhole",
	  .type = OPT_ENUM,
	  .def = "false",
	  .words = "false|inline=true|internal",
	  .scopes = IN_SENDING },
	SENDING_ROW(OPT_GATEWAY, "gateway", OPT_STRING, NULL),
	SENDING_ROW(OPT_RETRY_INTERVAL, "retry_interval", OPT_SECONDS, "1200"),
	SENDING_ROW(OPT_SUSPEND_DELIVERY, "suspend_delivery", OPT_BOOL, "false"),
	SENDING_ROW(OPT_OUTBOUND_THROTTLE_MESSAGES, "outbound_throttle_messages", OPT_RATE, NULL),
};

static const struct opt_table test_table = OPT_TABLE(test_rows);

static inline struct conf *
load_text(const char *text, bool strict, struct conf_errors *errs)
{
	struct conf_source src = { .path = "test.conf",
				   .text = slice_str(text),
				   .tables = &test_table,
				   .n_tables = 1,
				   .strict = strict,
				   .no_files = true };

	return conf_load(&src, errs);
}

/* All reports, a line each. Freed with free. */
static inline char *
reports(const struct conf_errors *errs)
{
	struct bytes out = { 0 };

	for (size_t i = 0; i < errs->n; i++) {
		conf_error_print(&errs->v[i], &out);
		bytes_add_char(&out, '\n');
	}
	bytes_cstr(&out);
	return out.p;
}

/* Loads what must load without an error. */
static inline struct conf *
load_good(const char *text)
{
	struct conf_errors errs = { 0 };
	struct conf *c = load_text(text, false, &errs);

	if (c == NULL)
		fail_msg("%s", reports(&errs));
	conf_errors_fini(&errs);
	return c;
}

#endif
