#include "spool/format/trace.h"

#include "spool/format/date.h"

enum { PEER_TEXT_MAX = 320 }; /* of what a peer chose: EHLO name, sender */

/* What a peer said, inside a comment or a path: no control characters, no parenthesis or backslash that would end or
 * bend the comment. */
static void
add_clean(struct bytes *out, struct slice s)
{
	size_t n = s.n < PEER_TEXT_MAX ? s.n : PEER_TEXT_MAX;
	char *p = bytes_room(out, n);

	for (size_t i = 0; i < n; i++) {
		unsigned char c = (unsigned char)s.p[i];
		bool bad = c <= ' ' || c == 0x7f || c == '(' || c == ')' || c == '\\' || c == '<' || c == '>';
		p[i] = bad ? '?' : (char)c;
	}
	out->n += n;
}

static struct slice
without_port(struct slice peer)
{
	size_t n = peer.n;

	while (n > 0 && peer.p[n - 1] != ':')
		n--;
	peer.n = n > 0 ? n - 1 : peer.n;
	if (peer.n > 1 && peer.p[0] == '[' && peer.p[peer.n - 1] == ']')
		peer = slice_of(peer.p + 1, peer.n - 2);
	return peer;
}

void
trace_received(struct bytes *out, const struct trace_received *t)
{
	char date[DATE_TEXT];
	struct slice ip = without_port(t->peer);

	date_text(t->at, date);
	bytes_add_str(out, slice_find(ip, ':') < ip.n ? "Received: from [IPv6:" : "Received: from [");
	add_clean(out, ip);
	bytes_add_str(out, t->peer.n > 0 && t->peer.p[0] == '[' ? "] (" : "] ([");
	add_clean(out, t->peer);
	if (t->peer.n > 0 && t->peer.p[0] != '[')
		bytes_add_str(out, "]");
	if (t->helo.n > 0) {
		bytes_add_str(out, " helo=");
		add_clean(out, t->helo);
	}
	bytes_add_str(out, ")\r\n\tby ");
	add_clean(out, t->hostname);
	bytes_add_str(out, " (envelope-from <");
	add_clean(out, t->sender);
	bytes_add_str(out, ">)\r\n\t(impetus " IMPETUS_VERSION ") with ");
	bytes_add_slice(out, t->protocol);
	bytes_add_str(out, "\r\n\tid ");
	bytes_add_slice(out, t->id);
	if (t->recipient.n > 0) {
		bytes_add_str(out, " for <");
		add_clean(out, t->recipient);
		bytes_add_str(out, ">");
	}
	bytes_add_str(out, "; ");
	bytes_add_str(out, date);
	bytes_add_str(out, "\r\n");
}
