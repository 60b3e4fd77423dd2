/* Fuzzing policy/conf: any text either loads or is refused with reasons; what loads can be asked at every place, and
 * prints to a text that loads again and prints the same. t/fuzz/corpus/conf is its corpus, which the unit tests also
 * run. */
#include <netinet/in.h>
#include <stdint.h>
#include <string.h>

#include "policy/conf/conf.h"
#include "shm/base/log.h"

/* One option of every type, and of every kind of scope. */
static const struct opt_row fuzz_rows[] = {
	{ .id = OPT_HOSTNAME, .name = "hostname", .type = OPT_STRING, .scopes = IN_GLOBAL },
	{ .id = OPT_WORKERS,
	  .name = "workers",
	  .type = OPT_INT,
	  .def = "auto",
	  .min = 1,
	  .max = 32,
	  .words = "auto",
	  .scopes = IN_GLOBAL },
	{ .id = OPT_USER, .name = "user", .type = OPT_STRING, .scopes = IN_SECURITY },
	{ .id = OPT_ENABLE,
	  .name = "enable",
	  .type = OPT_BOOL,
	  .def = "true",
	  .scopes = IN_ESMTP_LISTENER | IN_CONTROL_LISTENER | IN_LISTEN },
	{ .id = OPT_FILE_MODE,
	  .name = "file_mode",
	  .type = OPT_MODE,
	  .max = 0777,
	  .scopes = IN_CONTROL_LISTENER | IN_LISTEN },
	{ .id = OPT_SOURCE, .name = "source", .type = OPT_STRING, .scopes = IN_SCRIPT },
	{ .id = OPT_RELAY_HOSTS, .name = "relay_hosts", .type = OPT_CIDRS, .scopes = IN_GLOBAL | IN_RECEIVING },
	{ .id = OPT_RELAY_DOMAINS, .name = "relay_domains", .type = OPT_DOMAINS, .scopes = IN_GLOBAL | IN_PATHWAYS },
	{ .id = OPT_IDLE_TIME, .name = "idle_time", .type = OPT_SECONDS, .def = "0", .scopes = IN_RECEIVING },
	{ .id = OPT_CONTEXT, .name = "context", .type = OPT_DICT, .scopes = IN_RECEIVING },
	{ .id = OPT_PATHWAY, .name = "pathway", .type = OPT_STRING, .scopes = IN_ESMTP_LISTENER | IN_LISTEN | IN_PEER },
	{ .id = OPT_ROUTES, .name = "routes", .type = OPT_LIST, .scopes = IN_GLOBAL | IN_DOMAIN },
	{ .id = OPT_BLACKHOLE,
	  .name = "blackhole",
	  .type = OPT_ENUM,
	  .def = "false",
	  .words = "false|inline=true|internal",
	  .scopes = IN_SENDING },
	{ .id = OPT_OUTBOUND_THROTTLE_MESSAGES,
	  .name = "outbound_throttle_messages",
	  .type = OPT_RATE,
	  .scopes = IN_SENDING },
};

static struct conf *
fuzz_load(struct slice text, struct conf_errors *errs)
{
	static const struct opt_table table = OPT_TABLE(fuzz_rows);
	struct conf_source src = {
		.path = "fuzz.conf", .text = text, .tables = &table, .n_tables = 1, .no_files = true
	};

	return conf_load(&src, errs);
}

static void
ask_receiving(const struct conf *c)
{
	struct sockaddr_in peer = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	struct sockaddr sa;

	memcpy(&sa, &peer, sizeof(sa));
	for (size_t i = 0; i < conf_listen_count(c); i++) {
		const struct conf_view *v = conf_receiving(c, i, &sa, i % 2 == 0 ? NULL : "p");

		require_that(conf_receiving(c, i, &sa, i % 2 == 0 ? NULL : "p") == v, "fuzz");
		conf_has_addr(v, OPT_RELAY_HOSTS, &sa);
		conf_has_domain(v, OPT_RELAY_DOMAINS, SLICE("a.example.com"));
		conf_dict(v, OPT_CONTEXT);
		conf_int(v, OPT_IDLE_TIME);
	}
}

static void
ask_sending(const struct conf *c)
{
	static const char *const domains[] = { "example.com", "A.B.", "[192.0.2.1]", "[IPv6:::1]", "", "/x/" };

	for (size_t b = 0; b < conf_binding_count(c); b++)
		for (size_t d = 0; d < sizeof(domains) / sizeof(domains[0]); d++) {
			struct slice name = slice_str(conf_binding_name(c, b));
			const struct conf_view *v = conf_sending(c, name, slice_str(domains[d]));
			size_t found;

			require_that(conf_binding_find(c, name, &found) && found == b, "fuzz");
			conf_rate(v, OPT_OUTBOUND_THROTTLE_MESSAGES);
			conf_origin(v, OPT_OUTBOUND_THROTTLE_MESSAGES);
			conf_int(v, OPT_BLACKHOLE);
		}
}

static void
print_and_read_back(const struct conf *c)
{
	struct bytes first = { 0 }, second = { 0 };
	struct conf_errors errs = { 0 };
	struct conf *again;

	conf_print(c, &first);
	bytes_cstr(&first);
	again = fuzz_load(slice_bytes(&first), &errs);
	require_that(again != NULL, "fuzz");
	conf_print(again, &second);
	require_that(slice_eq(slice_bytes(&first), slice_bytes(&second)), "fuzz");
	conf_unref(&again);
	conf_errors_fini(&errs);
	bytes_fini(&first);
	bytes_fini(&second);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct conf_errors errs = { 0 };
	struct conf *c = fuzz_load(size == 0 ? SLICE("") : slice_of(data, size), &errs);

	require_that((c == NULL) == (errs.count[CONF_ERROR] > 0), "fuzz");
	for (size_t i = 0; i < errs.n; i++)
		require_that(errs.v[i].line > 0 && errs.v[i].column > 0, "fuzz");
	if (c != NULL) {
		ask_receiving(c);
		ask_sending(c);
		print_and_read_back(c);
	}
	conf_unref(&c);
	conf_errors_fini(&errs);
	return 0;
}
