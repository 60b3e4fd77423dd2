/* policy.h - the phases of a message's reception, the hooks that hang on them, and what they decide
 * A phase is a row of one table. Hooks (C modules, scripts) hang on a phase in the order in which they were added. Who
 * receives or makes a message fills a struct policy_run and calls policy_run: the verdict is there at once (OK) or
 * later (ERR_AGAIN, then r->done is called from the loop, never before policy_run has returned). A run that waits is
 * cancelled with policy_cancel; nothing of it is called afterwards.
 *
 * The rule that holds the roof up: no error path ends in accepting mail. A hook that fails, overruns its budget,
 * returns what its phase does not allow or asks for what is not built gives the verdict 421 "HOST temporary issue,
 * please retry your message later", with module set to the hook's module for the rejectlog and the reason in the
 * paniclog.
 *
 * Order for SMTP: connect, ehlo, mailfrom, rcptto (each), data, data_spool, then per recipient (policy_msg_clone)
 * data_spool_each_rcpt, set_binding, final_validation. Internal messages: set_binding, final_validation.
 * Owner: the worker, one struct policy each. Thread: loop. */
#ifndef POLICY_POLICY_H
#define POLICY_POLICY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/socket.h>

#include "policy/policy_context.h"
#include "policy/policy_msg.h"
#include "shm/base/bytes.h"
#include "shm/base/clock.h"
#include "shm/base/err.h"

struct policy;
struct policy_run;
struct policy_session;

enum policy_phase {
	PHASE_CONNECT,
	PHASE_EHLO,
	PHASE_MAILFROM,
	PHASE_RCPTTO,
	PHASE_DATA,
	PHASE_DATA_SPOOL,
	PHASE_EACH_RCPT,
	PHASE_SET_BINDING,
	PHASE_FINAL,
	PHASE_MAX
};

/* Parameters of a callout, in order (after self). */
enum policy_param { PARAM_END, PARAM_STR, PARAM_MSG, PARAM_AC, PARAM_VCTX };
enum { POLICY_PARAMS = 4 };

/* What a phase lets its hooks change; asking for the rest is an error of the hook. */
enum policy_may {
	MAY_CODE = 1 << 0,       /* set_code, disconnect */
	MAY_TARPIT = 1 << 1,     /* */
	MAY_CAPABILITY = 1 << 2, /* EHLO keywords */
	MAY_SENDER = 1 << 3,     /* */
	MAY_RCPT = 1 << 4,       /* */
	MAY_CONTENT = 1 << 5,    /* header and body */
	MAY_DISCARD = 1 << 6,    /* */
	MAY_ROUTE = 1 << 7,      /* routing domain */
	MAY_BINDING = 1 << 8,    /* binding, priority, time */
	MAY_READ = 1 << 9,       /* header and body may be read */
};

/* What a hook may answer; anything else is an error. */
enum policy_result {
	RESULT_CONT = 1 << 0,
	RESULT_DONE = 1 << 1,
	RESULT_AGAIN = 1 << 2,
	RESULT_NONE = 1 << 3, /* the value is ignored */
};

struct policy_phase_row {
	const char *name;              /* "data_spool_each_rcpt": traces, logs */
	const char *callout;           /* "validate_data_spool_each_rcpt": the name of the function in scripts */
	uint8_t params[POLICY_PARAMS]; /* enum policy_param, PARAM_END behind the last */
	unsigned may;                  /* enum policy_may */
	unsigned results;              /* enum policy_result */
};

extern const struct policy_phase_row policy_phases[PHASE_MAX];
/* The phase whose callout has that name; false: none. */
bool policy_phase_by_callout(struct slice callout, enum policy_phase *out);

/* What policy decided. All zero: no opinion, the phase's usual reply. */
enum policy_verdict_kind {
	VERDICT_CONT,  /* go on as usual */
	VERDICT_REPLY, /* answer with code and text: 2xx goes on (own text), 4xx and 5xx refuse */
};
struct policy_verdict {
	enum policy_verdict_kind kind;
	int code;           /* 200..599, with VERDICT_REPLY */
	struct slice text;  /* behind the code, enhanced code included where the script gave one; no line breaks */
	bool disconnect;    /* close after the reply (code is 4xx or 5xx then) */
	bool failed;        /* our own refusal after an error of a hook: in the phases of one recipient it refuses the
			     * whole transaction, for nothing may be said about a message that was not judged */
	const char *module; /* who decided, for M=; "" when nobody did */
	unsigned tarpit;    /* seconds by which this reply is to be delayed */
};
static inline bool
policy_verdict_refuses(const struct policy_verdict *v)
{
	return v->kind == VERDICT_REPLY && v->code >= 400;
}

/* One question to policy. All zero, then filled by the asker; reused for the next one after it is over. It stays where
 * it is while it waits. verdict.text holds until the run is used again or policy_run_fini. */
struct policy_run {
	enum policy_phase phase;
	struct policy_session *session;
	struct policy_msg *msg; /* from mailfrom on; NULL in connect and ehlo */
	struct slice str; /* ehlo: the name given; mailfrom, rcptto: the bare address. Borrowed until it is over */
	void (*done)(struct policy_run *r, void *arg);
	void *arg;

	struct policy_verdict verdict; /* valid when it is over */

	/* policy's own */
	struct policy_run_state {
		size_t hook;    /* index of the hook that runs or is next */
		bool running;   /* between policy_run and the end */
		bool in_hook;   /* a hook's function is on the C stack */
		bool waits;     /* a hook has answered ANSWER_WAIT: the end is told by done */
		usec_t started; /* of this hook, for the trace */
		void (*cancel)(struct policy_run *r, void *arg);
		void *cancel_arg;
		struct bytes text;
	} state;
};

/* OK: r->verdict is there. ERR_AGAIN: r->done is called when it is. */
enum err policy_run(struct policy_run *r);
/* Ends a run that waits; done is not called. Over already or never begun: fine. */
void policy_cancel(struct policy_run *r);
/* Cancels, and frees what the verdict's text holds. The struct is all zero in its state afterwards. */
void policy_run_fini(struct policy_run *r);

/* --- the session that policy sees ---------------------------------------------------------------------------- */

/* Numbers of ac.protocol and msg.recv_method. */
enum policy_protocol { POLICY_ESMTP = 1, POLICY_ECSTREAM, POLICY_INTERNAL, POLICY_HTTP };

/* What scripts ask of a session that only its owner can do. A NULL function, or false: "not possible here", an error
 * for the script. `session` is policy_session_env.owner. */
struct policy_view_ops {
	/* One keyword line more (fewer) in this session's EHLO reply. */
	bool (*capability_add)(void *session, struct slice keyword);
	bool (*capability_remove)(void *session, struct slice keyword);
	/* Open inbound sessions. cidr: "" the peer's address on this listener; "/24" its block; "addr/mask" that block.
	 * Negative: cannot be read as any of these, or no such service. */
	int64_t (*inbound_sessions)(void *session, struct slice cidr, struct slice service);
};

struct policy_session_env {
	const struct policy_view_ops *ops; /* NULL: an internal message, nobody is there */
	void *owner;
	msgid_t conn;
	enum policy_protocol protocol;
	struct sockaddr_storage remote, local; /* family 0: none */
};

/* Copies env. Never NULL. The connection dictionary starts empty: the asker sets what the listener's context option
 * and the core's keys say. */
struct policy_session *policy_session_new(struct policy *p, const struct policy_session_env *env);
/* For messages that we make ourselves: no peer, protocol internal. */
struct policy_session *policy_session_new_internal(struct policy *p, msgid_t conn);
/* Its messages must be freed and its runs over or cancelled. Clears the caller's pointer; NULL inside is fine. */
void policy_session_free(struct policy_session **s);
struct policy *policy_session_policy(const struct policy_session *s);
const struct policy_session_env *policy_session_env(const struct policy_session *s);
/* Dictionaries, to be read and set by the asker at any time. */
struct policy_context *policy_session_conn(struct policy_session *s);
struct policy_context *policy_session_mess(struct policy_session *s);
/* A new mail transaction begins (MAIL, RSET): the message dictionary is emptied. */
void policy_session_reset(struct policy_session *s);
/* "192.0.2.1:25", "2001:db8::1.25" (Momentum's spelling), "" for none; port 0 and `port` false leave it out. */
void policy_addr_text(const struct sockaddr_storage *a, bool port, char out[64]);

/* --- hooks ---------------------------------------------------------------------------------------------------- */

enum policy_answer {
	ANSWER_CONT,   /* next hook */
	ANSWER_DONE,   /* no further hook in this phase */
	ANSWER_WAIT,   /* from a hook's function only: it calls policy_answer later; it has called policy_waits */
	ANSWER_FAILED, /* temporary refusal; the hook has logged why */
};

/* A hook speaks by policy_reply and by its answer. */
typedef enum policy_answer policy_hook_fn(struct policy_run *r, void *arg);
struct policy_hook {
	const char *name;   /* "__bypass_NAME", traces; a script's is what it registered */
	const char *module; /* M= in the rejectlog: "scriptlet" for all scripts */
	const char *where;  /* "site.lua:12" for the trace; "" for C */
	policy_hook_fn *fn;
	void *arg;
};

/* Adds a hook at the end of the phase's chain. Strings and arg are borrowed for the life of p. At most 64 a phase. */
enum err policy_hook_add(struct policy *p, enum policy_phase phase, const struct policy_hook *hook);
size_t policy_hook_count(const struct policy *p, enum policy_phase phase);
/* Takes all hooks away whose fn it is (a script host that is replaced). No run may be under way. */
void policy_hook_remove(struct policy *p, policy_hook_fn *fn);

/* Before ANSWER_WAIT: cancel is called when the asker gives up. */
void policy_waits(struct policy_run *r, void (*cancel)(struct policy_run *r, void *arg), void *arg);
/* Ends the waiting of r's hook: CONT, DONE or FAILED. Not from inside the hook's function. */
void policy_answer(struct policy_run *r, enum policy_answer a);
/* Sets the verdict's reply; the last one counts. ERR_RANGE: no code between 200 and 599, or disconnect with 2xx or 3xx.
 * Line breaks in text become spaces. */
enum err policy_reply(struct policy_run *r, int code, struct slice text, bool disconnect);

/* --- one policy ----------------------------------------------------------------------------------------------- */

struct policy_dns_row {
	unsigned preference; /* MX */
	struct slice text;   /* address, name or text */
};
typedef void policy_dns_done(void *arg, const char *error, const struct policy_dns_row *rows, size_t n);

/* What policy asks of its worker. Callbacks come from the loop, never before the call has returned. */
struct policy_host_ops {
	/* type is one of A AAAA MX TXT PTR NS CNAME. done once: error NULL and rows, or error such as "NXDOMAIN" and
	 * no rows. Rows hold until done returns. Never gives NULL. NULL function: no resolver. */
	void *(*dns_start)(void *arg, const char *name, const char *type, policy_dns_done *done, void *done_arg);
	void (*dns_cancel)(void *arg, void *query);
	/* fn(fn_arg) once, at that monotonic time. The handle is over when fn was called or timer_stop. */
	void *(*timer_start)(void *arg, usec_t at, void (*fn)(void *fn_arg), void *fn_arg);
	void (*timer_stop)(void *arg, void *timer);
	/* May a message be given this binding? NULL: any name. */
	bool (*binding_known)(void *arg, struct slice name);
	void *arg;
};

/* One line of the trace: a hook has answered. */
struct policy_trace {
	const struct policy_run *run;
	const char *phase, *hook, *where;
	const char *answer; /* "CONT", "DONE", "FAILED", "BYPASS" */
	usec_t usec;        /* from its begin to its answer, waiting included */
};
typedef void policy_trace_fn(void *arg, const struct policy_trace *t);

/* hostname is copied: HOST in our own refusals. ops is borrowed for the life of the policy. */
struct policy *policy_new(const char *hostname, const struct policy_host_ops *ops);
/* Sessions must be gone. Clears the caller's pointer; NULL inside is fine. */
void policy_free(struct policy **p);
const struct policy_host_ops *policy_host(const struct policy *p);
const char *policy_hostname(const struct policy *p);
/* fn NULL: none. */
void policy_trace_set(struct policy *p, policy_trace_fn *fn, void *arg);

#endif
