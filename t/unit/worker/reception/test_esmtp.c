/* worker/reception: the session: order of replies, pipelining, limits, the ends. */
#include "t/smtp/rig.h"

#include <malloc.h>

static void
one_message(void **state)
{
	struct rig *g = rig_ready();

	(void)state;
	rig_talk(g, "MAIL FROM:<a@b.example> SIZE=100 BODY=8BITMIME\r\n", "250 2.1.0 MAIL FROM accepted\r\n");
	rig_talk(g, "RCPT TO:<x@example.com>\r\n", "250 2.1.5 RCPT TO accepted\r\n");
	rig_talk(g, "DATA\r\n", "354 continue.  finished with \"\\r\\n.\\r\\n\"\r\n");
	rig_talk(g, "Subject: hi\r\n\r\nbody\r\n.\r\n", "250 2.0.0 OK 00/00-00000-00000002\r\n");
	assert_int_equal(g->nmails, 1);
	assert_string_equal(g->mails[0].rcpts, "x@example.com ");
	assert_string_equal(g->mails[0].sender, "a@b.example");
	assert_string_equal(g->mails[0].domain, "example.com");
	assert_string_equal(g->mails[0].binding, "default");
	assert_string_equal(bytes_cstr(&g->mails[0].content), "Subject: hi\r\n\r\nbody\r\n");
	assert_non_null(strstr(bytes_cstr(&g->mails[0].received), "id 00/00-00000-00000002 for <x@example.com>;"));
	assert_string_equal(bytes_cstr(&g->phases),
			    "connect ehlo mailfrom rcptto data data_spool data_spool_each_rcpt set_binding "
			    "final_validation ");
	rig_talk(g, "QUIT\r\n", "221 2.3.0 mx.test closing connection\r\n");
	assert_true(g->closed);
	rig_free(g);
}

static const char pipelined[] = "EHLO c\r\nMAIL FROM:<>\r\nRCPT TO:<x@example.com>\r\nRCPT TO:<x@evil.example>\r\n"
				"RCPT TO:<y@example.com>\r\nDATA\r\nA: b\r\n\r\n..dot\r\n.\r\nMAIL FROM:<b@c>\r\n"
				"RCPT TO:<z@example.com>\r\nDATA\r\n.\r\nRSET\r\nNOOP x\r\nQUIT\r\n";
static const char pipelined_replies[] =
	"220 mx.test ESMTP\r\n250-mx.test says EHLO to 192.0.2.1:4321\r\n250-SIZE\r\n250-8BITMIME\r\n250-SMTPUTF8\r\n"
	"250-ENHANCEDSTATUSCODES\r\n250 PIPELINING\r\n250 2.1.0 MAIL FROM accepted\r\n250 2.1.5 RCPT TO accepted\r\n"
	"550 5.7.1 relaying denied\r\n250 2.1.5 RCPT TO accepted\r\n354 continue.  finished with \"\\r\\n.\\r\\n\"\r\n"
	"250 2.0.0 OK 00/00-00000-00000002\r\n250 2.1.0 MAIL FROM accepted\r\n250 2.1.5 RCPT TO accepted\r\n"
	"354 continue.  finished with \"\\r\\n.\\r\\n\"\r\n250 2.0.0 OK 00/00-00000-00000004\r\n250 2.0.0 OK\r\n"
	"250 2.0.0 OK\r\n221 2.3.0 mx.test closing connection\r\n";

static void
check_pipelined(struct rig *g)
{
	rig_expect(g, pipelined_replies);
	assert_true(g->closed);
	assert_int_equal(g->nmails, 2);
	assert_string_equal(g->mails[0].rcpts, "x@example.com y@example.com ");
	assert_string_equal(bytes_cstr(&g->mails[0].content), "A: b\r\n\r\n.dot\r\n");
	assert_string_equal(g->mails[1].rcpts, "z@example.com ");
	assert_int_equal(g->mails[1].content.n, 0);
}

/* One transaction and another in one piece, and in two pieces cut at every byte: the same replies, the same mail. */
static void
every_split_of_a_pipelined_transaction(void **state)
{
	size_t n = sizeof pipelined - 1;

	(void)state;
	for (size_t cut = 0; cut <= n; cut++) {
		struct rig *g = rig_new("relay_domains = ( \"example.com\" )");

		rig_connect_from(g, "192.0.2.1");
		rig_send(g, slice_of(pipelined, cut));
		rig_wait(g, USEC_PER_SEC);
		rig_send(g, slice_of(pipelined + cut, n - cut));
		check_pipelined(g);
		rig_free(g);
	}
}

static void
every_byte_alone(void **state)
{
	struct rig *g = rig_new("relay_domains = ( \"example.com\" )");

	(void)state;
	rig_connect_from(g, "192.0.2.1");
	for (size_t i = 0; i < sizeof pipelined - 1; i++)
		rig_send(g, slice_of(pipelined + i, 1));
	check_pipelined(g);
	rig_free(g);
}

/* Each phase in turn waits: nothing behind it is answered before it is, and all is answered in order afterwards. */
static void
replies_keep_their_order_while_a_phase_waits(void **state)
{
	(void)state;
	for (int phase = 0; phase < PHASE_MAX; phase++) {
		struct rig *g = rig_new("relay_domains = ( \"example.com\" )");
		size_t said;

		g->waits[phase] = true;
		rig_connect_from(g, "192.0.2.1");
		rig_send(g, slice_of(pipelined, sizeof pipelined - 1));
		rig_turn(g);
		assert_non_null(g->waiting);
		said = g->got.n;
		assert_memory_equal(bytes_cstr(&g->got), pipelined_replies, said);
		rig_wait(g, 3600 * USEC_PER_SEC);
		assert_int_equal(g->got.n, said);
		while (g->waiting != NULL) {
			rig_policy_answers(g);
			rig_turn(g);
		}
		check_pipelined(g);
		rig_free(g);
	}
}

/* While the first message is being synced the next transaction runs, but no reply overtakes. */
static void
the_next_transaction_runs_while_the_spool_syncs(void **state)
{
	struct rig *g = rig_new("relay_domains = ( \"example.com\" )");
	const char *at = strstr(pipelined_replies, "250 2.0.0 OK 00");

	(void)state;
	g->hold_sync = true;
	rig_connect_from(g, "192.0.2.1");
	rig_send(g, slice_of(pipelined, sizeof pipelined - 1));
	rig_turn(g);
	assert_int_equal(g->nmails, 2);
	assert_int_equal(g->got.n, (size_t)(at - pipelined_replies));
	rig_synced(g, 1, OK);
	rig_turn(g);
	assert_int_equal(g->got.n, (size_t)(at - pipelined_replies));
	rig_synced(g, 0, OK);
	check_pipelined(g);
	rig_free(g);
}

static void
start_message(struct rig *g)
{
	rig_send(g, SLICE("MAIL FROM:<a@b>\r\nRCPT TO:<x@example.com>\r\nRCPT TO:<y@example.com>\r\nDATA\r\n"));
	rig_turn(g);
	(void)rig_said(g);
}

static void
what_the_spool_says_is_what_the_client_hears(void **state)
{
	static const struct {
		enum err submit, sync;
		const char *reply;
		bool closed;
	} rows[] = {
		{ OK, OK, "250 2.0.0 OK 00/00-00000-00000002\r\n", false },
		{ OK, ERR_IO, "451 4.3.0 transaction failed\r\n", false },
		{ OK, ERR_FULL, "452 4.3.1 Insufficient system storage\r\n", false },
		{ OK, ERR_DAMAGED, "", true },
		{ ERR_FULL, OK, "452 4.3.1 Insufficient system storage\r\n", false },
		{ ERR_RANGE, OK, "451 4.3.0 transaction failed\r\n", false },
	};

	(void)state;
	for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
		struct rig *g = rig_ready();

		g->submit_says = rows[i].submit;
		g->sync_says = rows[i].sync;
		start_message(g);
		rig_talk(g, "x\r\n.\r\n", rows[i].reply);
		assert_int_equal(g->closed, rows[i].closed);
		rig_free(g);
	}
}

static void
the_client_may_go_while_the_spool_syncs(void **state)
{
	struct rig *g = rig_ready();

	(void)state;
	g->hold_sync = true;
	start_message(g);
	rig_send(g, SLICE("x\r\n.\r\n"));
	rig_hang_up(g);
	assert_int_equal(g->nmails, 1);
	rig_synced(g, 0, OK);
	rig_free(g);
}

static void
hanging_up_cancels_what_waits(void **state)
{
	(void)state;
	for (int phase = 0; phase < PHASE_MAX; phase++) {
		struct rig *g = rig_new("relay_domains = ( \"example.com\" )");

		g->waits[phase] = true;
		rig_connect_from(g, "192.0.2.1");
		rig_send(g, slice_of(pipelined, sizeof pipelined - 1));
		rig_hang_up(g);
		assert_int_equal(g->cancelled, 1);
		assert_null(g->waiting);
		assert_int_equal(reception_sessions(g->r), 0);
		rig_free(g);
	}
}

static void
policy_refuses_in_each_phase(void **state)
{
	(void)state;
	for (int phase = PHASE_CONNECT; phase < PHASE_MAX; phase++) {
		struct rig *g = rig_new("relay_domains = ( \"example.com\" )");

		g->verdicts[phase] = (struct policy_verdict){ .kind = VERDICT_REPLY,
							      .code = 421,
							      .text = SLICE("4.7.0 bye"),
							      .disconnect = true,
							      .failed = true };
		rig_connect_from(g, "192.0.2.1");
		rig_send(g, slice_of(pipelined, sizeof pipelined - 1));
		rig_turn(g);
		assert_non_null(strstr(bytes_cstr(&g->got), "421 4.7.0 bye\r\n"));
		assert_true(g->closed);
		assert_int_equal(g->nmails, 0);
		rig_free(g);
	}
}

static void
a_refused_sender_or_recipient_does_not_count(void **state)
{
	struct rig *g = rig_ready();

	(void)state;
	g->verdicts[PHASE_MAILFROM] =
		(struct policy_verdict){ .kind = VERDICT_REPLY, .code = 550, .text = SLICE("5.7.1 no") };
	rig_talk(g, "MAIL FROM:<a@b>\r\n", "550 5.7.1 no\r\n");
	rig_talk(g, "RCPT TO:<x@example.com>\r\n", "503 5.5.1 RCPT TO without MAIL FROM\r\n");
	g->verdicts[PHASE_MAILFROM] = (struct policy_verdict){ 0 };
	g->verdicts[PHASE_RCPTTO] =
		(struct policy_verdict){ .kind = VERDICT_REPLY, .code = 450, .text = SLICE("4.7.1 later") };
	rig_talk(g, "MAIL FROM:<a@b>\r\n", "250 2.1.0 MAIL FROM accepted\r\n");
	rig_talk(g, "RCPT TO:<x@example.com>\r\n", "450 4.7.1 later\r\n");
	rig_talk(g, "DATA\r\n", "503 5.5.1 DATA without RCPT TO\r\n");
	rig_free(g);
}

static void
one_of_two_refused_after_the_dot_gets_a_notice(void **state)
{
	struct rig *g = rig_ready();

	(void)state;
	g->refuse_rcpt = "x@example.com";
	start_message(g);
	rig_talk(g, "Subject: s\r\n\r\nx\r\n.\r\n", "250 2.0.0 OK 00/00-00000-00000002\r\n");
	assert_string_equal(g->mails[0].rcpts, "y@example.com ");
	assert_true(g->mails[0].has_notice);
	assert_non_null(strstr(bytes_cstr(&g->mails[0].notice), "550 5.7.1 not you"));
	/* The null sender gets none. */
	rig_send(g, SLICE("MAIL FROM:<>\r\nRCPT TO:<x@example.com>\r\nRCPT TO:<y@example.com>\r\nDATA\r\n"));
	rig_turn(g);
	(void)rig_said(g);
	rig_talk(g, ".\r\n", "250 2.0.0 OK 00/00-00000-00000004\r\n");
	assert_false(g->mails[1].has_notice);
	assert_string_equal(g->mails[1].rcpts, "y@example.com ");
	/* All refused: the client hears it. */
	rig_send(g, SLICE("MAIL FROM:<a@b>\r\nRCPT TO:<x@example.com>\r\nDATA\r\n"));
	rig_turn(g);
	(void)rig_said(g);
	rig_talk(g, ".\r\n", "550 5.7.1 not you\r\n");
	assert_int_equal(g->nmails, 2);
	rig_free(g);
}

static void
discarded_mail_is_not_written(void **state)
{
	static const enum policy_phase phases[] = { PHASE_DATA, PHASE_DATA_SPOOL, PHASE_EACH_RCPT };

	(void)state;
	for (size_t i = 0; i < sizeof phases / sizeof phases[0]; i++) {
		struct rig *g = rig_ready();

		g->discards[phases[i]] = true;
		start_message(g);
		rig_talk(g, "x\r\n.\r\n", "250 2.0.0 OK 00/00-00000-00000002\r\n");
		assert_int_equal(g->nmails, 0);
		rig_free(g);
	}
}

static void
policy_may_word_the_250(void **state)
{
	struct rig *g = rig_ready();

	(void)state;
	g->verdicts[PHASE_DATA] =
		(struct policy_verdict){ .kind = VERDICT_REPLY, .code = 250, .text = SLICE("2.0.0 thanks") };
	start_message(g);
	rig_talk(g, "x\r\n.\r\n", "250 2.0.0 thanks\r\n");
	assert_int_equal(g->nmails, 1);
	rig_free(g);
}

static void
a_tarpit_delays_its_reply_and_all_behind(void **state)
{
	struct rig *g = rig_ready();

	(void)state;
	g->verdicts[PHASE_MAILFROM] = (struct policy_verdict){ .tarpit = 30 };
	rig_talk(g, "MAIL FROM:<a@b>\r\nNOOP\r\n", "");
	rig_wait(g, 29 * USEC_PER_SEC);
	rig_expect(g, "");
	rig_wait(g, 1 * USEC_PER_SEC);
	rig_expect(g, "250 2.1.0 MAIL FROM accepted\r\n250 2.0.0 OK\r\n");
	/* Hanging up in one leaves nothing behind. */
	rig_talk(g, "RSET\r\nMAIL FROM:<a@b>\r\n", "250 2.0.0 OK\r\n");
	rig_hang_up(g);
	rig_free(g);
}

static void
too_many_recipients(void **state)
{
	struct rig *g = rig_new("relay_domains = ( \"example.com\" )\n"
				"ESMTP_Listener { max_recipients_per_message = 2 Listen \"127.0.0.1:25\" { } }");

	(void)state;
	rig_connect_from(g, "192.0.2.1");
	rig_send(g, SLICE("EHLO x\r\nMAIL FROM:<a@b>\r\nRCPT TO:<1@example.com>\r\nRCPT TO:<2@example.com>\r\n"));
	rig_turn(g);
	(void)rig_said(g);
	rig_talk(g, "RCPT TO:<3@example.com>\r\n",
		 "452 4.5.3 Service unavailable, recipients per message limit reached\r\n");
	rig_send(g, SLICE("DATA\r\n.\r\n"));
	rig_turn(g);
	assert_string_equal(g->mails[0].rcpts, "1@example.com 2@example.com ");
	rig_free(g);
}

static void
a_full_spool_refuses_before_data(void **state)
{
	struct rig *g = rig_ready();

	(void)state;
	g->accepting = false;
	rig_talk(g, "MAIL FROM:<a@b>\r\n", "452 4.3.1 Insufficient system storage\r\n");
	g->accepting = true;
	rig_talk(g, "MAIL FROM:<a@b>\r\nRCPT TO:<1@example.com>\r\n",
		 "250 2.1.0 MAIL FROM accepted\r\n250 2.1.5 RCPT TO accepted\r\n");
	g->accepting = false;
	rig_talk(g, "DATA\r\n", "452 4.3.1 Insufficient system storage\r\n");
	rig_free(g);
}

static void
messages_that_are_too_large(void **state)
{
	struct rig *g = rig_new("relay_domains = ( \"example.com\" )\n"
				"ESMTP_Listener { max_message_size = 1000 Listen \"127.0.0.1:25\" { } }");
	char line[102];

	(void)state;
	rig_connect_from(g, "192.0.2.1");
	rig_send(g, SLICE("HELO x\r\n"));
	rig_turn(g);
	(void)rig_said(g);
	rig_talk(g, "MAIL FROM:<a@b> SIZE=1001\r\n", "552 5.3.4 message size limit exceeded\r\n");
	rig_talk(g, "MAIL FROM:<a@b> SIZE=1000\r\n", "250 2.1.0 MAIL FROM accepted\r\n");
	rig_send(g, SLICE("RCPT TO:<1@example.com>\r\nDATA\r\n"));
	rig_turn(g);
	(void)rig_said(g);
	memset(line, 'x', 100);
	memcpy(line + 98, "\r\n", 3);
	for (int i = 0; i < 11; i++)
		rig_send(g, slice_str(line));
	rig_talk(g, ".\r\n", "552 5.3.4 message size limit exceeded\r\n");
	assert_int_equal(g->nmails, 0);
	rig_talk(g, "NOOP\r\n", "250 2.0.0 OK\r\n");
	rig_free(g);
}

static void
large_messages_go_to_the_store_as_they_come(void **state)
{
	static const size_t rooms[] = { 0, 100000 };

	(void)state;
	for (size_t i = 0; i < sizeof rooms / sizeof rooms[0]; i++) {
		struct rig *g = rig_ready();
		struct bytes content = { 0 }, wire = { 0 };

		g->large_room = rooms[i];
		start_message(g);
		bytes_add_str(&content, "Subject: large\r\n\r\n");
		bytes_add_str(&wire, "Subject: large\r\n\r\n");
		while (content.n < 700000) {
			bytes_add_str(&content, ".0123456789012345678901234567890123456789\r\nx\n.\r\r\n");
			bytes_add_str(&wire, "..0123456789012345678901234567890123456789\r\nx\n.\r\r\n");
		}
		bytes_add_str(&wire, ".\r\n");
		for (size_t at = 0; at < wire.n;) {
			size_t n = wire.n - at < 50000 ? wire.n - at : 50000;
			ssize_t sent = send(g->fd, wire.p + at, n, MSG_DONTWAIT | MSG_NOSIGNAL);

			at += sent > 0 ? (size_t)sent : 0;
			rig_turn(g);
			rig_make_room(g);
			rig_turn(g);
		}
		rig_expect(g, "250 2.0.0 OK 00/00-00000-00000002\r\n");
		assert_int_equal(g->larges, 1);
		assert_int_equal(g->mails[0].content.n, content.n);
		assert_memory_equal(g->mails[0].content.p, content.p, content.n);
		bytes_fini(&content);
		bytes_fini(&wire);
		rig_free(g);
	}
}

static void
a_store_that_fails_in_the_middle_is_said_at_the_end(void **state)
{
	struct rig *g = rig_ready();
	char line[1003];

	(void)state;
	start_message(g);
	memset(line, 'x', 1000);
	memcpy(line + 1000, "\r\n", 3);
	g->large_says = ERR_FULL;
	for (int i = 0; i < 400; i++)
		rig_send(g, slice_str(line));
	rig_talk(g, ".\r\n", "452 4.3.1 Insufficient system storage\r\n");
	assert_int_equal(g->nmails, 0);
	rig_free(g);
}

static void
a_looping_message_is_refused(void **state)
{
	struct rig *g = rig_ready();

	(void)state;
	start_message(g);
	for (int i = 0; i < 20; i++)
		rig_send(g, SLICE("Received: from a by b; date\r\n"));
	rig_talk(g, "\r\n.\r\n", "250 2.0.0 OK 00/00-00000-00000002\r\n");
	start_message(g);
	for (int i = 0; i < 21; i++)
		rig_send(g, SLICE("Received: from a by b; date\r\n"));
	rig_talk(g, "\r\n.\r\n", "554 5.4.6 mail loop detected\r\n");
	rig_free(g);
}

static void
draining_sessions_finish_their_transaction(void **state)
{
	struct rig *g = rig_ready();

	(void)state;
	start_message(g);
	reception_drain(g->r);
	rig_talk(g, "x\r\n.\r\n", "250 2.0.0 OK 00/00-00000-00000002\r\n");
	rig_talk(g, "NOOP\r\n", "250 2.0.0 OK\r\n");
	assert_false(g->drained);
	rig_talk(g, "MAIL FROM:<a@b>\r\n", "421 4.3.2 Reconfiguration in progress\r\n");
	assert_true(g->closed);
	assert_true(g->drained);
	rig_free(g);
}

static void
stopping_waits_for_what_the_spool_has(void **state)
{
	struct rig *g = rig_ready();

	(void)state;
	g->hold_sync = true;
	start_message(g);
	rig_send(g, SLICE("x\r\n.\r\n"));
	rig_turn(g);
	reception_stop(g->r);
	rig_expect(g, "");
	assert_false(g->drained);
	rig_synced(g, 0, OK);
	rig_expect(g, "250 2.0.0 OK 00/00-00000-00000002\r\n421 4.3.2 Service is shutting down\r\n");
	assert_true(g->closed);
	assert_true(g->drained);
	rig_free(g);
}

static void
a_trickle_does_not_move_the_deadline(void **state)
{
	struct rig *g = rig_ready();

	(void)state;
	rig_send(g, SLICE("N"));
	for (int i = 0; i < 29; i++) {
		rig_wait(g, 10 * USEC_PER_SEC);
		rig_send(g, SLICE("O"));
	}
	rig_expect(g, "");
	rig_wait(g, 20 * USEC_PER_SEC);
	rig_expect(g, "421 4.4.2 Timeout, closing connection\r\n");
	assert_true(g->closed);
	rig_free(g);
}

/* However its bytes come. */
static void
each_message_is_announced_once(void **state)
{
	struct rig *g = rig_ready();

	(void)state;
	start_message(g);
	assert_int_equal(g->announced, 0);
	rig_send(g, SLICE("Subject: x\r\n\r\nfirst\r\n"));
	rig_wait(g, USEC_PER_SEC);
	assert_int_equal(g->announced, 1);
	rig_send(g, SLICE("second\r\n.\r\n"));
	rig_wait(g, USEC_PER_SEC);
	assert_int_equal(g->announced, 1);
	rig_free(g);
}

static void
content_has_a_deadline_too(void **state)
{
	struct rig *g = rig_ready();

	(void)state;
	start_message(g);
	for (int i = 0; i < 59; i++) {
		rig_wait(g, 10 * USEC_PER_SEC);
		rig_send(g, SLICE("x"));
	}
	rig_expect(g, "");
	rig_wait(g, 30 * USEC_PER_SEC);
	rig_expect(g, "421 4.4.2 Timeout, closing connection\r\n");
	rig_free(g);
}

static void
idle_time_runs_only_while_the_peer_is_waited_for(void **state)
{
	struct rig *g = rig_new("ESMTP_Listener { idle_time = 60 Listen \"127.0.0.1:25\" { } }");

	(void)state;
	g->waits[PHASE_EHLO] = true;
	rig_connect_from(g, "192.0.2.1");
	rig_expect(g, "220 mx.test ESMTP\r\n");
	rig_wait(g, 59 * USEC_PER_SEC);
	rig_send(g, SLICE("HELO x\r\n"));
	rig_wait(g, 600 * USEC_PER_SEC);
	rig_expect(g, "");
	rig_policy_answers(g);
	rig_expect(g, "250 mx.test says HELO to 192.0.2.1:4321\r\n");
	rig_wait(g, 59 * USEC_PER_SEC);
	rig_expect(g, "");
	rig_wait(g, 2 * USEC_PER_SEC);
	rig_expect(g, "421 4.4.2 Timeout, closing connection\r\n");
	rig_free(g);
}

static void
a_peer_that_closes_its_side_gets_its_answers(void **state)
{
	struct rig *g = rig_ready();

	(void)state;
	g->hold_sync = true;
	rig_send(g, SLICE("MAIL FROM:<a@b>\r\nRCPT TO:<x@example.com>\r\nDATA\r\nx\r\n.\r\nNOOP\r\nNOO"));
	assert_int_equal(shutdown(g->fd, SHUT_WR), 0);
	rig_turn(g);
	(void)rig_said(g);
	rig_synced(g, 0, OK);
	rig_expect(g, "250 2.0.0 OK 00/00-00000-00000002\r\n250 2.0.0 OK\r\n");
	assert_true(g->closed);
	rig_free(g);
}

static void
bad_commands_have_an_end(void **state)
{
	struct rig *g = rig_ready();

	(void)state;
	for (int i = 0; i < 99; i++)
		rig_talk(g, "FOO\r\n", "500 5.5.2 unrecognized command\r\n");
	rig_talk(g, "FOO\r\n", "421 4.7.0 Too many errors, closing connection\r\n");
	assert_true(g->closed);
	rig_free(g);
}

/* Bytes in use by malloc, for a session that has said EHLO and is idle. */
static void
an_idle_session_is_small(void **state)
{
	enum { SESSIONS = 200, LIMIT = 6 * 1024 };
	struct rig *g = rig_new("relay_domains = ( \"example.com\" )");
	int fds[SESSIONS];
	size_t before, after;

	(void)state;
	rig_connect_from(g, "192.0.2.1");
	rig_send(g, SLICE("EHLO client.example\r\n"));
	before = mallinfo2().uordblks;
	for (int i = 0; i < SESSIONS; i++) {
		fds[i] = g->fd;
		rig_connect_from(g, "192.0.2.1");
		rig_send(g, SLICE("EHLO client.example\r\n"));
		(void)rig_said(g);
	}
	after = mallinfo2().uordblks;
	assert_int_equal(reception_sessions(g->r), SESSIONS + 1);
	if (after - before > SESSIONS * LIMIT)
		fail_msg("%zu bytes a session", (after - before) / SESSIONS);
	for (int i = 0; i < SESSIONS; i++)
		close(fds[i]);
	rig_free(g);
}

/* A body of `n` bytes in which only the byte at `at` is c. */
static void
check_odd_byte(size_t n, size_t at, char c)
{
	static const char begin[] = "MAIL FROM:<a@b.example>\r\nRCPT TO:<x@example.com>\r\nDATA\r\n";
	struct rig *g = rig_ready();
	struct bytes text = { 0 };

	bytes_add_str(&text, begin);
	memset(bytes_room(&text, n), 'a', n);
	text.p[text.n + at] = c;
	text.n += n;
	bytes_add_str(&text, "\r\n.\r\n");
	rig_send(g, slice_bytes(&text));
	rig_wait(g, USEC_PER_SEC);
	assert_int_equal(g->nmails, 1);
	assert_int_equal(g->mails[0].eightbit, (unsigned char)c > 127);
	assert_int_equal(g->mails[0].nul, c == '\0');
	bytes_fini(&text);
	rig_free(g);
}

/* Content is looked at in pieces of many bytes: wherever the odd byte lies in one, or behind the last whole one. */
static void
an_odd_byte_is_seen_wherever_it_is(void **state)
{
	(void)state;
	for (size_t at = 0; at < 75; at++) {
		check_odd_byte(75, at, '\0');
		check_odd_byte(75, at, (char)0x80);
		check_odd_byte(75, at, (char)0xff);
		check_odd_byte(75, at, 0x7f);
	}
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(one_message),
		cmocka_unit_test(every_split_of_a_pipelined_transaction),
		cmocka_unit_test(every_byte_alone),
		cmocka_unit_test(replies_keep_their_order_while_a_phase_waits),
		cmocka_unit_test(the_next_transaction_runs_while_the_spool_syncs),
		cmocka_unit_test(what_the_spool_says_is_what_the_client_hears),
		cmocka_unit_test(the_client_may_go_while_the_spool_syncs),
		cmocka_unit_test(hanging_up_cancels_what_waits),
		cmocka_unit_test(policy_refuses_in_each_phase),
		cmocka_unit_test(a_refused_sender_or_recipient_does_not_count),
		cmocka_unit_test(one_of_two_refused_after_the_dot_gets_a_notice),
		cmocka_unit_test(discarded_mail_is_not_written),
		cmocka_unit_test(policy_may_word_the_250),
		cmocka_unit_test(a_tarpit_delays_its_reply_and_all_behind),
		cmocka_unit_test(too_many_recipients),
		cmocka_unit_test(a_full_spool_refuses_before_data),
		cmocka_unit_test(messages_that_are_too_large),
		cmocka_unit_test(large_messages_go_to_the_store_as_they_come),
		cmocka_unit_test(a_store_that_fails_in_the_middle_is_said_at_the_end),
		cmocka_unit_test(a_looping_message_is_refused),
		cmocka_unit_test(draining_sessions_finish_their_transaction),
		cmocka_unit_test(stopping_waits_for_what_the_spool_has),
		cmocka_unit_test(a_trickle_does_not_move_the_deadline),
		cmocka_unit_test(each_message_is_announced_once),
		cmocka_unit_test(content_has_a_deadline_too),
		cmocka_unit_test(idle_time_runs_only_while_the_peer_is_waited_for),
		cmocka_unit_test(a_peer_that_closes_its_side_gets_its_answers),
		cmocka_unit_test(bad_commands_have_an_end),
		cmocka_unit_test(an_idle_session_is_small),
		cmocka_unit_test(an_odd_byte_is_seen_wherever_it_is),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
