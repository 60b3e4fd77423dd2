#include "spool/format/addr.h"

#include <arpa/inet.h>
#include <netinet/in.h>

static bool
is_atext(unsigned char c)
{
	static const char marks[] = "!#$%&'*+-/=?^_`{|}~";

	return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
	       (c != '\0' && strchr(marks, c) != NULL);
}

static bool
is_let_dig(unsigned char c, bool utf8)
{
	return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || (utf8 && c >= 0x80);
}

/* How many bytes the well-formed sequence at p has; 0 when it is none. The second byte's bounds exclude overlong forms,
 * surrogates and values above 10FFFF (Unicode 15, table 3-7). */
static size_t
utf8_sequence(const unsigned char *p, size_t n)
{
	unsigned char low = 0x80, high = 0xbf;
	size_t len = p[0] >= 0xf0 ? 4 : p[0] >= 0xe0 ? 3 : 2;

	if (p[0] < 0xc2 || p[0] > 0xf4 || n < len)
		return 0;
	if (p[0] == 0xe0)
		low = 0xa0;
	else if (p[0] == 0xed)
		high = 0x9f;
	else if (p[0] == 0xf0)
		low = 0x90;
	else if (p[0] == 0xf4)
		high = 0x8f;
	if (p[1] < low || p[1] > high)
		return 0;
	for (size_t i = 2; i < len; i++)
		if ((p[i] & 0xc0) != 0x80)
			return 0;
	return len;
}

bool
utf8_valid(struct slice s)
{
	const unsigned char *p = (const unsigned char *)s.p;

	for (size_t i = 0; i < s.n;) {
		size_t len = p[i] < 0x80 ? 1 : utf8_sequence(p + i, s.n - i);
		if (len == 0)
			return false;
		i += len;
	}
	return true;
}

static bool
has_8bit(struct slice s)
{
	for (size_t i = 0; i < s.n; i++)
		if ((unsigned char)s.p[i] >= 0x80)
			return true;
	return false;
}

/* sub-domain = Let-dig [Ldh-str]; "_" is let through, the world has it in names that get mail. */
static size_t
label_length(struct slice s, bool utf8)
{
	size_t n = 0;

	while (n < s.n && (is_let_dig((unsigned char)s.p[n], utf8) || s.p[n] == '-' || s.p[n] == '_'))
		n++;
	if (n == 0 || n > 63 || s.p[0] == '-' || s.p[n - 1] == '-')
		return 0;
	return n;
}

/* Length of the domain name at the front of s, 0 when there is none. */
static size_t
domain_length(struct slice s, bool utf8)
{
	size_t at = 0;

	for (;;) {
		size_t n = label_length(slice_of(s.p + at, s.n - at), utf8);
		if (n == 0)
			return 0;
		at += n;
		if (at == s.n || s.p[at] != '.')
			return at;
		at++;
	}
}

bool
domain_valid(struct slice domain, bool utf8)
{
	return domain.n > 0 && domain.n <= ADDR_DOMAIN_MAX && domain_length(domain, utf8) == domain.n &&
	       (!utf8 || utf8_valid(domain));
}

bool
domain_literal(struct slice domain, struct sockaddr_storage *out)
{
	struct sockaddr_in v4 = { .sin_family = AF_INET };
	struct sockaddr_in6 v6 = { .sin6_family = AF_INET6 };
	char text[INET6_ADDRSTRLEN];
	struct slice in;

	if (domain.n < 3 || domain.p[0] != '[' || domain.p[domain.n - 1] != ']')
		return false;
	in = slice_of(domain.p + 1, domain.n - 2);
	if (slice_istarts(in, SLICE("IPv6:")))
		in = slice_of(in.p + 5, in.n - 5);
	if (in.n == 0 || in.n >= sizeof text || memchr(in.p, '\0', in.n) != NULL)
		return false;
	memcpy(text, in.p, in.n);
	text[in.n] = '\0';
	memset(out, 0, sizeof *out);
	if (in.n == domain.n - 2 && inet_pton(AF_INET, text, &v4.sin_addr) == 1)
		memcpy(out, &v4, sizeof v4);
	else if (inet_pton(AF_INET6, text, &v6.sin6_addr) == 1)
		memcpy(out, &v6, sizeof v6);
	else
		return false;
	return true;
}

/* Local-part = Dot-string / Quoted-string (RFC 5321 4.1.2). Each takes from the front of *s. */

/* Dot-string = Atom *("." Atom) */
static enum err
take_dot_string(struct slice *s, struct addr *out)
{
	size_t n = 0;
	bool atom = false;

	for (; n < s->n; n++) {
		unsigned char c = (unsigned char)s->p[n];

		if (c == '.' ? !atom : !is_atext(c) && c < 0x80)
			break;
		atom = c != '.';
	}
	if (n == 0 || !atom)
		return ERR_SYNTAX;
	return take_bytes(s, n, &out->local) ? OK : ERR_SYNTAX;
}

/* Quoted-string = DQUOTE *( qtext / "\" %d32-126 ) DQUOTE */
static enum err
take_quoted_string(struct slice *s, struct addr *out)
{
	for (size_t n = 1; n < s->n; n++) {
		unsigned char c = (unsigned char)s->p[n];

		if (c == '"') {
			out->quoted = true;
			return take_bytes(s, n + 1, &out->local) ? OK : ERR_SYNTAX;
		}
		if (c == '\\' && (++n == s->n || (unsigned char)s->p[n] >= 0x7f))
			return ERR_SYNTAX;
		c = (unsigned char)s->p[n];
		if (c < ' ' || c == 0x7f)
			return ERR_SYNTAX;
	}
	return ERR_SYNTAX;
}

static enum err
take_literal(struct slice *s, struct addr *out)
{
	struct sockaddr_storage ignored;
	size_t n = slice_find(*s, ']');

	if (n == s->n || !domain_literal(slice_of(s->p, n + 1), &ignored))
		return ERR_SYNTAX;
	out->literal = true;
	return take_bytes(s, n + 1, &out->domain) ? OK : ERR_SYNTAX;
}

static enum err
take_domain(struct slice *s, struct addr *out)
{
	size_t n;

	if (s->n > 0 && s->p[0] == '[')
		return take_literal(s, out);
	n = domain_length(*s, true);
	return n != 0 && take_bytes(s, n, &out->domain) ? OK : ERR_SYNTAX;
}

/* Lengths and 8-bit bytes, once the pieces are known. */
static enum err
check_whole(struct addr *a, unsigned allow)
{
	if (a->local.n > ADDR_LOCAL_MAX || a->domain.n > ADDR_DOMAIN_MAX || a->text.n > ADDR_MAX)
		return ERR_RANGE;
	a->utf8 = has_8bit(a->text);
	if (!a->utf8)
		return OK;
	if (!(allow & ADDR_UTF8))
		return ERR_UNSUPPORTED;
	return utf8_valid(a->text) ? OK : ERR_SYNTAX;
}

/* Mailbox = Local-part "@" ( Domain / address-literal ) */
static enum err
take_mailbox(struct slice *s, unsigned allow, struct addr *out)
{
	const char *begin = s->p;
	enum err e;

	e = s->n > 0 && s->p[0] == '"' ? take_quoted_string(s, out) : take_dot_string(s, out);
	if (e != OK)
		return e;
	if (s->n > 0 && s->p[0] == '@') {
		s->p++;
		s->n--;
		e = take_domain(s, out);
		if (e != OK)
			return e;
	} else if (!(allow & ADDR_BARE_LOCAL) &&
		   !((allow & ADDR_POSTMASTER) && slice_ieq(out->local, SLICE("postmaster")))) {
		return ERR_SYNTAX;
	}
	out->text = slice_of(begin, (size_t)(s->p - begin));
	return check_whole(out, allow);
}

/* A-d-l ":" with A-d-l = At-domain *( "," At-domain ): MUST be accepted, SHOULD be ignored (RFC 5321 C). */
static enum err
skip_route(struct slice *s)
{
	struct addr ignored = { 0 };

	while (s->n > 0 && s->p[0] == '@') {
		s->p++;
		s->n--;
		if (take_domain(s, &ignored) != OK || s->n == 0)
			return ERR_SYNTAX;
		if (s->p[0] == ':') {
			s->p++;
			s->n--;
			return OK;
		}
		if (s->p[0] != ',')
			return ERR_SYNTAX;
		s->p++;
		s->n--;
	}
	return ERR_SYNTAX;
}

enum err
addr_take_path(struct slice *s, unsigned allow, struct addr *out)
{
	struct slice at = *s;
	struct addr a = { 0 };
	enum err e = OK;

	if (at.n < 2 || at.p[0] != '<')
		return ERR_SYNTAX;
	at = slice_of(at.p + 1, at.n - 1);
	if (at.p[0] == '>' && (allow & ADDR_NULL)) {
		a.null = true;
	} else {
		if (at.p[0] == '@')
			e = skip_route(&at);
		if (e == OK)
			e = take_mailbox(&at, allow, &a);
	}
	if (e != OK)
		return e;
	if (at.n == 0 || at.p[0] != '>')
		return ERR_SYNTAX;
	*s = slice_of(at.p + 1, at.n - 1);
	*out = a;
	return OK;
}

enum err
addr_parse(struct slice s, unsigned allow, struct addr *out)
{
	struct addr a = { 0 };
	enum err e;

	if (s.n == 0) {
		if (!(allow & ADDR_NULL))
			return ERR_SYNTAX;
		a.null = true;
		*out = a;
		return OK;
	}
	e = take_mailbox(&s, allow, &a);
	if (e != OK)
		return e;
	if (s.n != 0)
		return ERR_SYNTAX;
	*out = a;
	return OK;
}

void
addr_local_value(const struct addr *a, struct bytes *out)
{
	if (!a->quoted) {
		bytes_add_slice(out, a->local);
		return;
	}
	for (size_t i = 1; i + 1 < a->local.n; i++) {
		if (a->local.p[i] == '\\')
			i++;
		bytes_add_char(out, a->local.p[i]);
	}
}
