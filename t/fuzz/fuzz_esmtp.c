/* The whole session: whatever a client says, every answer is a reply, and it makes no difference to replies and mail
 * in what pieces the bytes come, or whether policy answers at once. The first byte is the size of the pieces, the second
 * which phases wait. */
#define RIG_IN_FUZZER
#include "t/smtp/rig.h"

#include "shm/base/log.h"
#include "spool/format/reply.h"

enum { PIECES_MAX = 512 };

struct heard {
	struct bytes said, mail;
};

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

static void
note(struct rig *g, struct heard *h)
{
	h->said = g->got;
	g->got = (struct bytes){ 0 };
	for (size_t i = 0; i < g->nmails; i++) {
		bytes_addf(&h->mail, "%s|%s|", g->mails[i].sender, g->mails[i].rcpts);
		bytes_add_slice(&h->mail, slice_bytes(&g->mails[i].content));
	}
}

static void
play(struct slice in, size_t piece, unsigned waits, struct heard *h)
{
	struct rig *g = rig_new("relay_domains = ( \"example.com\" )");

	g->next_id = 0;
	for (int i = 0; i < PHASE_MAX; i++)
		g->waits[i] = (waits >> (i % 8) & 1) != 0;
	rig_connect_from(g, "192.0.2.1");
	while (in.n > 0 && !g->closed && g->nmails < RIG_MAILS - 8) {
		size_t n = in.n < piece ? in.n : piece;

		rig_send(g, slice_of(in.p, n));
		in = slice_of(in.p + n, in.n - n);
		for (rig_turn(g); g->waiting != NULL; rig_turn(g))
			rig_policy_answers(g);
	}
	for (rig_turn(g); g->waiting != NULL; rig_turn(g))
		rig_policy_answers(g);
	note(g, h);
	rig_free(g);
}

static void
check_replies(struct slice said)
{
	struct bytes text = { 0 };
	int code;

	while (said.n > 0)
		if (reply_take(&said, &code, &text) != OK)
			abort();
	bytes_fini(&text);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
	struct heard whole = { 0 }, parts = { 0 };
	struct slice in;
	size_t piece;

	log_set_level(LOG_LVL_FATAL);
	if (n < 2)
		return 0;
	in = slice_of(data + 2, n - 2);
	piece = data[0] + 1u;
	if (in.n / piece > PIECES_MAX)
		piece = in.n / PIECES_MAX + 1;
	play(in, SIZE_MAX, 0, &whole);
	play(in, piece, data[1], &parts);
	check_replies(slice_bytes(&whole.said));
	if (!slice_eq(slice_bytes(&whole.said), slice_bytes(&parts.said)) ||
	    !slice_eq(slice_bytes(&whole.mail), slice_bytes(&parts.mail)))
		abort();
	bytes_fini(&whole.said);
	bytes_fini(&whole.mail);
	bytes_fini(&parts.said);
	bytes_fini(&parts.mail);
	return 0;
}
