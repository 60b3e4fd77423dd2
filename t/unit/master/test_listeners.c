/* Sockets over two revisions: what stays is the same socket, what goes is closed, an address in use says so. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <arpa/inet.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "master/listeners.h"
#include "master/master_options.h"
#include "policy/conf/conf.h"
#include "shm/base/log.h"
#include "worker/log/ec_logger_options.h"
#include "worker/reception/reception_options.h"

/* The roles are not started here. */
const struct role_ops worker_role, keeper_role, console_role, trial_role;

static char dir[] = "/tmp/impetus-listen.XXXXXX";
static const struct identity us;

static struct conf *
conf_of(const char *text)
{
	const struct opt_table tables[] = { master_options, reception_options, ec_logger_options };
	struct conf_source src = { .path = "t.conf", .text = slice_str(text), .tables = tables, .n_tables = 3 };
	struct conf_errors errs = { 0 };
	struct conf *c = conf_load(&src, &errs);

	for (size_t i = 0; c == NULL && i < errs.n; i++)
		print_message("%s\n", errs.v[i].text);
	conf_errors_fini(&errs);
	assert_non_null(c);
	return c;
}

static enum err
open_text(const char *fmt, const char *path, const struct listeners *old, struct listeners *out, struct bytes *why)
{
	char text[512];
	struct conf *c;
	enum err e;

	snprintf(text, sizeof(text), fmt, path);
	c = conf_of(text);
	e = listeners_open(c, &us, old, out, why);
	conf_unref(&c);
	return e;
}

static ino_t
inode(int fd)
{
	struct stat st;

	assert_int_equal(fstat(fd, &st), 0);
	return st.st_ino;
}

static unsigned
port_of(const struct role_listener *r)
{
	const struct sockaddr_in *in = (const void *)&r->addr;

	return ntohs(in->sin_port);
}

static void
test_both_families_and_a_path(void **state)
{
	struct listeners l;
	struct bytes why = { 0 };
	struct role_listener *v;
	struct stat st;
	char path[64];
	unsigned n;

	(void)state;
	snprintf(path, sizeof(path), "%s/sub/control", dir);
	assert_int_equal(open_text("Control_Listener { Listen \"%s\" { file_mode = \"0640\" } }\n"
				   "ESMTP_Listener { Listen \"127.0.0.1:0\" { } Listen \"[::1]:0\" { } }",
				   path, NULL, &l, &why),
			 OK);
	assert_int_equal(l.n, 3);
	v = listeners_of_kind(&l, LISTENER_ESMTP, &n);
	assert_int_equal(n, 2);
	assert_int_equal(v[0].addr.ss_family, AF_INET);
	assert_int_not_equal(port_of(&v[0]), 0);
	assert_int_equal(v[1].addr.ss_family, AF_INET6);
	assert_int_not_equal(v[0].index, v[1].index);
	free(v);
	assert_int_equal(stat(path, &st), 0);
	assert_int_equal(st.st_mode & 0777, 0640);
	listeners_close(&l, NULL);
	assert_int_equal(access(path, F_OK), -1);
	bytes_fini(&why);
}

static void
test_what_stays_is_the_same_socket(void **state)
{
	struct listeners a, b;
	struct bytes why = { 0 };
	char path[64];
	ino_t was;

	(void)state;
	snprintf(path, sizeof(path), "%s/control", dir);
	assert_int_equal(open_text("Control_Listener { Listen \"%s\" { } }", path, NULL, &a, &why), OK);
	was = inode(a.v[0].fd);
	assert_int_equal(
		open_text("Control_Listener { Listen \"%s\" { } }\nESMTP_Listener { Listen \"127.0.0.1:0\" { } }", path,
			  &a, &b, &why),
		OK);
	assert_int_equal(b.n, 2);
	for (size_t i = 0; i < 2; i++)
		if (b.v[i].kind == LISTENER_CONTROL)
			assert_int_equal(inode(b.v[i].fd), was);
	listeners_close(&a, &b); /* the path lives on */
	assert_int_equal(access(path, F_OK), 0);
	listeners_close_kind(&b, LISTENER_ESMTP);
	assert_int_equal(b.n, 1);
	assert_int_equal(access(path, F_OK), 0);
	listeners_close(&b, NULL);
	assert_int_equal(access(path, F_OK), -1);
	bytes_fini(&why);
}

static void
test_an_address_in_use(void **state)
{
	struct listeners a, b;
	struct bytes why = { 0 };
	char path[64], address[32];

	(void)state;
	assert_int_equal(open_text("ESMTP_Listener { Listen \"127.0.0.1:%s\" { } }", "0", NULL, &a, &why), OK);
	snprintf(address, sizeof(address), "%u", port_of(&a.v[0]));
	assert_int_equal(open_text("ESMTP_Listener { Listen \"127.0.0.1:%s\" { } }", address, NULL, &b, &why),
			 ERR_EXISTS);
	assert_int_equal(b.n, 0);
	assert_non_null(strstr(bytes_cstr(&why), address));
	listeners_close(&a, NULL);
	snprintf(path, sizeof(path), "%s/control", dir);
	assert_int_equal(open_text("Control_Listener { Listen \"%s\" { } }", path, NULL, &a, &why), OK);
	assert_int_equal(open_text("Control_Listener { Listen \"%s\" { } }", path, NULL, &b, &why), ERR_EXISTS);
	assert_int_equal(access(path, F_OK), 0); /* the one that serves has lost nothing */
	listeners_close(&a, NULL);
	bytes_fini(&why);
}

static int
setup(void **state)
{
	(void)state;
	return mkdtemp(dir) == NULL ? -1 : 0;
}

static int
teardown(void **state)
{
	char sub[64];

	(void)state;
	snprintf(sub, sizeof(sub), "%s/sub", dir);
	(void)rmdir(sub);
	return rmdir(dir);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_both_families_and_a_path),
		cmocka_unit_test(test_what_stays_is_the_same_socket),
		cmocka_unit_test(test_an_address_in_use),
	};

	return cmocka_run_group_tests(tests, setup, teardown);
}
