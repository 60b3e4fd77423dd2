#include "worker/worker_ask.h"

#include <stdlib.h>

#include "shm/base/mem.h"
#include "spool/spool_owner.h"
#include "spool/spool_record.h"
#include "worker/ask.h"
#include "worker/delivery/delivery.h"
#include "worker/net/loop.h"
#include "worker/net/resolver.h"

enum { DNS_SECONDS = 5 };

/* ---- does the resolver answer? ---- */

struct dns_asked {
	struct req_channel *channel;
	struct req_head question;
	struct loop *loop;
	struct resolver_query *query;
	struct ev_timer deadline;
	usec_t began;
};

static void
dns_answered(struct dns_asked *a, enum err e, const char *said)
{
	struct bytes text = { 0 };

	bytes_addf(&text, "%s after %lld ms", said, (long long)((clock_mono() - a->began) / USEC_PER_MS));
	(void)req_answer(a->channel, &a->question, e, slice_bytes(&text), false);
	bytes_fini(&text);
	loop_timer_stop(a->loop, &a->deadline);
	free(a);
}

/* Whether the name exists says nothing of the resolver; that it knows does. */
static void
on_dns(void *arg, const struct dns_answer *answer)
{
	bool up = answer->status != DNS_TIMEOUT && answer->status != DNS_SERVFAIL;

	dns_answered(arg, up ? OK : ERR_TIMEOUT, dns_status_text(answer->status));
}

static void
on_dns_late(void *arg)
{
	struct dns_asked *a = arg;

	resolver_cancel(&a->query);
	dns_answered(a, ERR_TIMEOUT, "no answer");
}

static void
ask_dns(const struct worker_knows *k, struct req_channel *c, const struct req_msg *m, struct slice name)
{
	struct dns_asked *a = mem_zalloc(sizeof(*a));
	char *text = slice_dup(name);

	a->channel = c;
	a->question = m->head;
	a->loop = k->loop;
	a->began = clock_mono();
	loop_timer_set(k->loop, &a->deadline, loop_now(k->loop) + DNS_SECONDS * USEC_PER_SEC, on_dns_late, a);
	a->query = resolver_query(k->resolver, text, DNS_A, on_dns, a);
	free(text);
}

/* ---- why does it not leave? ---- */

static enum err
ask_why(const struct worker_knows *k, struct slice payload, struct bytes *out)
{
	struct owner_found found;
	struct ask_why w;
	enum err e = ask_why_decode(payload, &w);

	if (e != OK)
		return e;
	owner_find(k->owner, spool_queue_hash(w.binding, w.domain), w.id, &found);
	delivery_why(k->delivery, &w, &found, out);
	return OK;
}

void
worker_asked(const struct worker_knows *k, struct req_channel *c, const struct req_msg *m)
{
	struct bytes text = { 0 };
	enum ask_what what = 0;
	struct slice word;
	enum err e;

	if (m->payload.n > 0 && m->payload.p[0] == ASK_WHY)
		e = ask_why(k, m->payload, &text);
	else
		e = ask_about_decode(m->payload, &what, &word);
	if (e == OK && what == ASK_ABOUT_DNS) {
		ask_dns(k, c, m, word);
		return;
	}
	if (e == OK && what == ASK_ABOUT_DOMAIN)
		delivery_describe(k->delivery, word, &text);
	/* One packet: an operator reads no more, and a domain has few hosts. */
	if (text.n > REQ_PAYLOAD)
		text.n = REQ_PAYLOAD;
	(void)req_answer(c, &m->head, e, slice_bytes(&text), false);
	bytes_fini(&text);
}
