#include "policy/conf/conf_listen.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/un.h>

static const char right[] = "an address as *:25, 192.0.2.1:25, [::1]:25, [*]:25, or an absolute path";

static const char *
parse_path(struct arena *arena, const char *path, struct conf_listen *out)
{
	struct sockaddr_un un = { .sun_family = AF_UNIX };
	size_t n = strlen(path);

	if (n >= sizeof(un.sun_path))
		return "a path of at most 107 bytes";
	memcpy(un.sun_path, path, n + 1);
	memcpy(&out->sa, &un, sizeof(un));
	out->salen = (socklen_t)sizeof(un);
	out->text = arena_strdup(arena, path);
	return NULL;
}

static const char *
parse_ipv4(struct arena *arena, const char *host, uint16_t port, struct conf_listen *out)
{
	struct sockaddr_in in = { .sin_family = AF_INET, .sin_port = htons(port) };

	if (host[0] == '\0' || strcmp(host, "*") == 0)
		host = "0.0.0.0";
	if (inet_pton(AF_INET, host, &in.sin_addr) != 1)
		return right;
	memcpy(&out->sa, &in, sizeof(in));
	out->salen = (socklen_t)sizeof(in);
	out->text = arena_printf(arena, "%s:%u", in.sin_addr.s_addr == 0 ? "*" : host, port);
	return NULL;
}

static const char *
parse_ipv6(struct arena *arena, const char *host, uint16_t port, struct conf_listen *out)
{
	struct sockaddr_in6 in6 = { .sin6_family = AF_INET6, .sin6_port = htons(port) };
	char text[INET6_ADDRSTRLEN];

	if (strcmp(host, "*") != 0 && inet_pton(AF_INET6, host, &in6.sin6_addr) != 1)
		return right;
	memcpy(&out->sa, &in6, sizeof(in6));
	out->salen = (socklen_t)sizeof(in6);
	inet_ntop(AF_INET6, &in6.sin6_addr, text, sizeof(text));
	out->text = arena_printf(arena, "[%s]:%u", IN6_IS_ADDR_UNSPECIFIED(&in6.sin6_addr) ? "*" : text, port);
	return NULL;
}

const char *
conf_listen_parse(struct arena *arena, const char *address, struct conf_listen *out)
{
	const char *colon = strrchr(address, ':');
	size_t n;
	uint64_t port;
	char host[INET6_ADDRSTRLEN + 2];

	memset(&out->sa, 0, sizeof(out->sa));
	if (address[0] == '/')
		return parse_path(arena, address, out);
	if (colon == NULL || !slice_u64(slice_str(colon + 1), 65535, &port))
		return right;
	n = (size_t)(colon - address);
	if (n >= sizeof(host))
		return right;
	memcpy(host, address, n);
	host[n] = '\0';
	if (host[0] != '[')
		return parse_ipv4(arena, host, (uint16_t)port, out);
	if (host[n - 1] != ']')
		return right;
	host[n - 1] = '\0';
	return parse_ipv6(arena, host + 1, (uint16_t)port, out);
}
