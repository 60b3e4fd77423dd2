#include <arpa/inet.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>

#include "policy/policy_int.h"
#include "shm/base/mem.h"

struct policy_session {
	struct policy *policy;
	struct policy_session_env env;
	struct policy_context conn, mess;
	struct policy_attachment attached[LANGUAGE_MAX];
};

struct policy_session *
policy_session_new(struct policy *p, const struct policy_session_env *env)
{
	struct policy_session *s = mem_zalloc(sizeof(*s));

	s->policy = p;
	s->env = *env;
	return s;
}

struct policy_session *
policy_session_new_internal(struct policy *p, msgid_t conn)
{
	const struct policy_session_env env = { .conn = conn, .protocol = POLICY_INTERNAL };

	return policy_session_new(p, &env);
}

void
policy_session_free(struct policy_session **p)
{
	struct policy_session *s = *p;

	*p = NULL;
	if (s == NULL)
		return;
	policy_attachments_end(s->attached);
	policy_context_clear(&s->conn);
	policy_context_clear(&s->mess);
	free(s);
}

struct policy *
policy_session_policy(const struct policy_session *s)
{
	return s->policy;
}

const struct policy_session_env *
policy_session_env(const struct policy_session *s)
{
	return &s->env;
}

struct policy_context *
policy_session_conn(struct policy_session *s)
{
	return &s->conn;
}

struct policy_context *
policy_session_mess(struct policy_session *s)
{
	return &s->mess;
}

void
policy_session_reset(struct policy_session *s)
{
	policy_context_clear(&s->mess);
}

struct policy_attachment *
policy_session_attachment(struct policy_session *s, enum policy_language lang)
{
	return &s->attached[lang];
}

void
policy_attachments_end(struct policy_attachment list[LANGUAGE_MAX])
{
	for (int i = 0; i < LANGUAGE_MAX; i++) {
		if (list[i].ptr != NULL)
			list[i].gone(list[i].ptr);
		list[i].ptr = NULL;
	}
}

void
policy_addr_text(const struct sockaddr_storage *a, bool port, char out[64])
{
	char ip[INET6_ADDRSTRLEN] = "";
	const struct sockaddr_in *in4 = (const struct sockaddr_in *)(const void *)a;
	const struct sockaddr_in6 *in6 = (const struct sockaddr_in6 *)(const void *)a;
	const bool six = a->ss_family == AF_INET6;

	out[0] = '\0';
	if (six)
		inet_ntop(AF_INET6, &in6->sin6_addr, ip, sizeof(ip));
	else if (a->ss_family == AF_INET)
		inet_ntop(AF_INET, &in4->sin_addr, ip, sizeof(ip));
	else
		return;
	if (port)
		snprintf(out, 64, "%s%c%u", ip, six ? '.' : ':', ntohs(six ? in6->sin6_port : in4->sin_port));
	else
		snprintf(out, 64, "%s", ip);
}
