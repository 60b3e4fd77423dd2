/* worker/log: line formats, escaping, whole lines under failing writes. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "shm/base/fault.h"
#include "shm/base/log.h"
#include "shm/base/mem.h"
#include "worker/log/ec_logger.h"

static int files[ECLOG_FILES];

static struct eclog *
open_logs(eclog_run *run, void *arg, size_t backlog)
{
	struct eclog_conf conf = { .receptions = true,
				   .deliveries = true,
				   .transient_failures = true,
				   .permanent_failures = true,
				   .rejections = true,
				   .errors = true,
				   .run = run,
				   .run_arg = arg,
				   .backlog = backlog };

	for (int i = 0; i < ECLOG_FILES; i++) {
		files[i] = memfd_create("log", MFD_CLOEXEC);
		conf.fd[i] = fcntl(files[i], F_DUPFD_CLOEXEC, 0);
		assert_true(files[i] >= 0 && conf.fd[i] >= 0);
	}
	return eclog_new(&conf);
}

static void
expect_file(enum eclog_file f, const char *want)
{
	char got[4096] = "";
	ssize_t n = pread(files[f], got, sizeof got - 1, 0);

	assert_true(n >= 0);
	assert_string_equal(got, want);
	close(files[f]);
}

static const struct eclog_delivery sample = { .now = 1700000000 * USEC_PER_SEC,
					      .id = "I",
					      .batch = "B",
					      .conn = "C",
					      .domain = { "example.com", 11 },
					      .size = 12,
					      .group = { "default", 7 },
					      .binding = { "out1", 4 },
					      .retries = 2,
					      .stage = 7,
					      .queued = 1000042,
					      .ip = { "127.0.0.1", 9 },
					      .text = { "451 4.3.0 a@b\r\nc", 16 } };

static void
mainlog_lines_have_their_fields(void **state)
{
	struct eclog *l = open_logs(NULL, NULL, 0);
	struct eclog_reception r = { .now = 1700000000 * USEC_PER_SEC,
				     .id = "I",
				     .batch = "B",
				     .conn = "C",
				     .rcpt_local = SLICE("a@\\b"),
				     .rcpt_domain = SLICE("example.com"),
				     .from_local = SLICE("x\ny"),
				     .from_domain = SLICE("d"),
				     .size = 5,
				     .protocol = SLICE("esmtp"),
				     .group = SLICE("default"),
				     .binding = SLICE("out1") };

	(void)state;
	eclog_log_reception(l, &r);
	eclog_log_delivery(l, &sample);
	eclog_log_transient(l, &sample);
	eclog_log_permanent(l, &sample);
	eclog_heartbeat(l, 1700000060 * USEC_PER_SEC);
	eclog_free(&l);
	expect_file(ECLOG_MAIN,
		    "1700000000@I@B@C@R@a\\@\\\\b@example.com@x?y@d@unknown@5@esmtp@default@out1\n"
		    "1700000000@I@B@C@D@example.com@12@default@out1@2@1.000042@127.0.0.1\n"
		    "1700000000@I@B@C@T@example.com@12@default@out1@7@2@1.000042@127.0.0.1@451 4.3.0 a@b??c\n"
		    "1700000000@I@B@C@P@example.com@12@default@out1@7@2@1.000042@127.0.0.1@451 4.3.0 a@b??c\n"
		    "1700000060@@@@M1\n");
	expect_file(ECLOG_REJECT, "1700000060: Marker 1\n");
}

static void
rejectlog_line_has_its_parts(void **state)
{
	struct eclog *l = open_logs(NULL, NULL, 0);
	struct bytes conn = { 0 };
	struct eclog_rejection r = { .now = 1700000000 * USEC_PER_SEC,
				     .remote = SLICE("127.0.0.1:1"),
				     .local = SLICE("127.0.0.1:25"),
				     .conn = "C",
				     .phase = SLICE("reading body"),
				     .code = 550,
				     .module = SLICE("scriptlet"),
				     .text = SLICE("5.7.1 no") };

	(void)state;
	eclog_context(&conn, SLICE("ehlo_string"), SLICE("EHLO \"x\""));
	eclog_context(&conn, SLICE("k"), SLICE("v"));
	r.ctx_conn = slice_bytes(&conn);
	eclog_log_rejection(l, &r);
	eclog_free(&l);
	expect_file(ECLOG_REJECT, "1700000000: R=\"127.0.0.1:1\" L=\"127.0.0.1:25\" C=\"C\" PATH=\"default\" "
				  "PATH_GRP=\"default\" P=\"reading body\" E=550 M=scriptlet "
				  "CTXCONN=[ehlo_string=\"EHLO \\\"x\\\"\",k=v] CTXMESS=[] 5.7.1 no\n");
	bytes_fini(&conn);
}

static unsigned asked_soon, asked_at_once;

static void
keep_job(void *arg, bool urgent, void (*job)(void *), void *job_arg)
{
	(void)job_arg;
	asked_soon += !urgent;
	asked_at_once += urgent;
	*(void (**)(void *))arg = job;
}

/* Mail's lines share a write that may wait; a line of the paniclog does not wait with them. */
static void
the_paniclog_is_written_at_once(void **state)
{
	void (*job)(void *) = NULL;
	struct eclog *l = open_logs(keep_job, &job, 0);

	(void)state;
	asked_soon = asked_at_once = 0;
	eclog_log_delivery(l, &sample);
	eclog_log_delivery(l, &sample);
	assert_true(asked_soon == 1 && asked_at_once == 0);
	eclog_panic_line(l, LOG_LVL_ERROR, "what", 4);
	eclog_panic_line(l, LOG_LVL_ERROR, "went wrong", 10);
	eclog_log_delivery(l, &sample);
	assert_true(asked_soon == 1 && asked_at_once == 1);
	job(l);
	eclog_log_delivery(l, &sample);
	assert_true(asked_soon == 2 && asked_at_once == 1);
	job(l);
	eclog_free(&l);
	for (int i = 0; i < ECLOG_FILES; i++)
		close(files[i]);
}

static void
a_slow_disk_costs_lines_and_counts_them(void **state)
{
	void (*job)(void *) = NULL;
	struct eclog *l = open_logs(keep_job, &job, 150);

	(void)state;
	for (int i = 0; i < 4; i++)
		eclog_log_delivery(l, &sample);
	assert_non_null(job);
	assert_int_equal(eclog_lost(l), 2);
	assert_int_equal(eclog_lines(l), 4);
	job(l);
	eclog_free(&l);
	expect_file(ECLOG_MAIN, "1700000000@I@B@C@D@example.com@12@default@out1@2@1.000042@127.0.0.1\n"
				"1700000000@I@B@C@D@example.com@12@default@out1@2@1.000042@127.0.0.1\n");
}

static void
a_panic_line_is_one_line(void **state)
{
	struct eclog *l = open_logs(NULL, NULL, 0);
	char got[256] = "";

	(void)state;
	eclog_panic_line(l, LOG_LVL_ERROR, "a\nb", 3);
	assert_true(pread(files[ECLOG_PANIC], got, sizeof got - 1, 0) > 0);
	assert_non_null(strstr(got, ":a?b\n"));
	eclog_free(&l);
}

/* A process that dies for want of memory says so, and dies once. */
static void
a_last_line_needs_no_memory(void **state)
{
	struct eclog *l = open_logs(NULL, NULL, 0);
	char got[256] = "";
	int status;
	pid_t pid = fork();

	(void)state;
	if (pid == 0) {
		log_set_sink(eclog_panic_line, l);
		fault_set("mem.alloc=ENOMEM@1*");
		(void)mem_alloc(1);
		_exit(0);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 1);
	assert_true(pread(files[ECLOG_PANIC], got, sizeof got - 1, 0) > 0);
	assert_non_null(strstr(got, ":memory: out of memory (1 bytes asked for)\n"));
	eclog_free(&l);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(mainlog_lines_have_their_fields),
		cmocka_unit_test(rejectlog_line_has_its_parts),
		cmocka_unit_test(the_paniclog_is_written_at_once),
		cmocka_unit_test(a_slow_disk_costs_lines_and_counts_them),
		cmocka_unit_test(a_panic_line_is_one_line),
		cmocka_unit_test(a_last_line_needs_no_memory),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
