/* resolver_conf.c - the resolver file: "nameserver" and "options" lines, read by us because c-ares 1.18 passes over
 * ports. Pure. */
#include "worker/net/resolver.h"

#include <arpa/inet.h>
#include <stdio.h>

enum { TIMEOUT_DEFAULT_MS = 5000, ATTEMPTS_DEFAULT = 2, CACHE_DEFAULT = 65536 };

static struct slice
next_word(struct slice *s)
{
	size_t from = 0, to;

	while (from < s->n && (s->p[from] == ' ' || s->p[from] == '\t' || s->p[from] == '\r'))
		from++;
	for (to = from; to < s->n && s->p[to] != ' ' && s->p[to] != '\t' && s->p[to] != '\r';)
		to++;
	struct slice word = slice_of(s->p + from, to - from);

	*s = slice_of(s->p + to, s->n - to);
	return word;
}

static bool
parse_ip(struct slice host, unsigned port, struct sockaddr_storage *out)
{
	char text[INET6_ADDRSTRLEN];
	struct sockaddr_in *v4 = (struct sockaddr_in *)out;
	struct sockaddr_in6 *v6 = (struct sockaddr_in6 *)out;

	if (host.n == 0 || host.n >= sizeof(text))
		return false;
	memcpy(text, host.p, host.n);
	text[host.n] = '\0';
	memset(out, 0, sizeof(*out));
	if (inet_pton(AF_INET, text, &v4->sin_addr) == 1) {
		v4->sin_family = AF_INET;
		v4->sin_port = htons((uint16_t)port);
		return true;
	}
	if (inet_pton(AF_INET6, text, &v6->sin6_addr) == 1) {
		v6->sin6_family = AF_INET6;
		v6->sin6_port = htons((uint16_t)port);
		return true;
	}
	return false;
}

/* ADDRESS, [ADDRESS], [ADDRESS]:PORT, IPV4:PORT. */
static bool
parse_server(struct slice word, struct sockaddr_storage *out)
{
	struct slice host = word, rest = { 0 };
	uint64_t port = 53;
	size_t at;

	if (word.n > 0 && word.p[0] == '[') {
		at = slice_find(word, ']');
		if (at == word.n)
			return false;
		host = slice_of(word.p + 1, at - 1);
		rest = slice_of(word.p + at + 1, word.n - at - 1);
	} else if ((at = slice_find(word, ':')) < word.n && memchr(word.p + at + 1, ':', word.n - at - 1) == NULL) {
		host = slice_of(word.p, at);
		rest = slice_of(word.p + at, word.n - at);
	}
	if (rest.n > 0 && (rest.p[0] != ':' || !slice_u64(slice_of(rest.p + 1, rest.n - 1), 65535, &port) || port == 0))
		return false;
	return parse_ip(host, (unsigned)port, out);
}

static bool
take_number(struct slice word, const char *name, uint64_t min, uint64_t max, uint64_t *out)
{
	size_t n = strlen(name);
	uint64_t v;

	if (word.n <= n || memcmp(word.p, name, n) != 0 || !slice_u64(slice_of(word.p + n, word.n - n), 1000000, &v))
		return false;
	*out = v < min ? min : v > max ? max : v;
	return true;
}

static void
parse_options(struct slice line, struct resolver_conf *out)
{
	struct slice word;
	uint64_t v;

	while ((word = next_word(&line)).n > 0) {
		if (take_number(word, "timeout:", 1, 60, &v))
			out->timeout_ms = (unsigned)v * 1000;
		else if (take_number(word, "retrans:", 1, 60000, &v))
			out->timeout_ms = (unsigned)v;
		else if (take_number(word, "attempts:", 1, 10, &v) || take_number(word, "retry:", 1, 10, &v))
			out->attempts = (unsigned)v;
	}
}

static bool
parse_line(struct slice line, struct resolver_conf *out)
{
	struct slice word = next_word(&line);

	if (word.n == 0 || word.p[0] == '#' || word.p[0] == ';')
		return true;
	if (slice_eq(word, SLICE("options"))) {
		parse_options(line, out);
		return true;
	}
	if (!slice_eq(word, SLICE("nameserver")))
		return true;
	if (out->n == RESOLVER_SERVERS_MAX || !parse_server(next_word(&line), &out->servers[out->n]))
		return false;
	out->n++;
	return true;
}

unsigned
resolver_conf_parse(struct slice text, struct resolver_conf *out)
{
	unsigned unread = 0;

	*out = (struct resolver_conf){
		.timeout_ms = TIMEOUT_DEFAULT_MS,
		.attempts = ATTEMPTS_DEFAULT,
		.max_ttl = UINT32_MAX,
		.cache_max = CACHE_DEFAULT,
	};
	while (text.n > 0) {
		size_t end = slice_find(text, '\n');

		if (!parse_line(slice_of(text.p, end), out))
			unread++;
		if (end < text.n)
			end++;
		text = slice_of(text.p + end, text.n - end);
	}
	return unread;
}
