/* The rejectlog: a line a refusal. */
#include "worker/log/ec_logger.h"
#include "worker/reception/esmtp_int.h"
#include "worker/reception/reception_options.h"

static void
log_line_of(struct esmtp *s, int code, const char *module, struct slice text)
{
	struct eclog_rejection line = { .now = clock_real(),
					.remote = slice_str(s->peer),
					.local = slice_str(s->local),
					.phase = slice_str(esmtp_state_text(s->state)),
					.code = (unsigned)code,
					.module = slice_str(module),
					.text = text };
	struct bytes conn_list = { 0 }, mess_list = { 0 };
	char conn[ID_TEXT];

	if (s->r->env.log == NULL)
		return;
	id_text(s->conn, conn);
	line.conn = conn;
	line.pathway = slice_str(conf_str(s->view, OPT_PATHWAY));
	policy_context_print(policy_session_conn(s->policy), &conn_list);
	policy_context_print(policy_session_mess(s->policy), &mess_list);
	line.ctx_conn = slice_bytes(&conn_list);
	line.ctx_mess = slice_bytes(&mess_list);
	eclog_log_rejection(s->r->env.log, &line);
	bytes_fini(&conn_list);
	bytes_fini(&mess_list);
}

void
esmtp_log_refusal(struct esmtp *s, int code, struct slice text)
{
	log_line_of(s, code, s->module[0] != '\0' ? s->module : "esmtp", text);
}

/* `why` is a whole reply, "550 5.7.0 ..."; the line has code and text apart. */
void
esmtp_log_discard(struct esmtp *s, struct slice why)
{
	uint64_t code = 550;
	struct slice text = SLICE("5.7.1 [internal] discarded by policy");

	if (why.n > 4 && slice_u64(slice_of(why.p, 3), 599, &code) && why.p[3] == ' ')
		text = slice_of(why.p + 4, why.n - 4);
	log_line_of(s, (int)code, s->run.verdict.module, text);
}
