#include "policy/conf/conf_scope.h"

#include <strings.h>

static const struct conf_scope scopes[] = {
	{ IN_GLOBAL, "global", "", INSTANCE_NONE, 0 },
	{ IN_BINDING_GROUP, "binding_group", "Binding_Group", INSTANCE_NAME, IN_GLOBAL },
	{ IN_BINDING, "binding", "Binding", INSTANCE_NAME, IN_GLOBAL | IN_BINDING_GROUP },
	{ IN_DOMAIN, "domain", "Domain", INSTANCE_NAME, IN_GLOBAL | IN_BINDING_GROUP | IN_BINDING },
	{ IN_ESMTP_LISTENER, "esmtp_listener", "ESMTP_Listener", INSTANCE_NONE, IN_GLOBAL },
	{ IN_CONTROL_LISTENER, "control_listener", "Control_Listener", INSTANCE_NONE, IN_GLOBAL },
	{ IN_LISTEN, "listen", "Listen", INSTANCE_NAME, IN_ESMTP_LISTENER | IN_CONTROL_LISTENER },
	{ IN_PEER, "peer", "Peer", INSTANCE_NAME, IN_ESMTP_LISTENER | IN_CONTROL_LISTENER | IN_LISTEN },
	{ IN_PATHWAY, "pathway", "Pathway", INSTANCE_NAME, IN_GLOBAL | IN_PATHWAY_GROUP },
	{ IN_PATHWAY_GROUP, "pathway_group", "Pathway_Group", INSTANCE_NAME, IN_GLOBAL },
	{ IN_SECURITY, "security", "security", INSTANCE_NONE, IN_GLOBAL },
	{ IN_EC_LOGGER, "ec_logger", "ec_logger", INSTANCE_MODULE, IN_GLOBAL },
	{ IN_SCRIPTLET, "scriptlet", "scriptlet", INSTANCE_MODULE, IN_GLOBAL },
	{ IN_SCRIPT, "script", "script", INSTANCE_NAME, IN_SCRIPTLET },
	{ IN_MAIL_LOOP, "mail_loop", "mail_loop", INSTANCE_MODULE, IN_GLOBAL },
};

enum { SCOPES = sizeof(scopes) / sizeof(scopes[0]) };

const struct conf_scope *
conf_scope_find(const char *name)
{
	for (size_t i = 1; i < SCOPES; i++)
		if (strcasecmp(scopes[i].name, name) == 0)
			return &scopes[i];
	return NULL;
}

const struct conf_scope *
conf_scope_of(enum conf_scope_bit bit)
{
	for (size_t i = 0; i < SCOPES; i++)
		if (scopes[i].bit == bit)
			return &scopes[i];
	return NULL;
}

const struct conf_scope *
conf_scope_at(size_t i)
{
	return i < SCOPES ? &scopes[i] : NULL;
}

void
conf_scope_names(uint32_t bits, struct bytes *out)
{
	int left = __builtin_popcount(bits);

	for (size_t i = 0; i < SCOPES; i++) {
		if ((bits & scopes[i].bit) == 0)
			continue;
		bytes_add_str(out, scopes[i].name);
		if (--left > 0)
			bytes_add_str(out, left == 1 ? " and " : ", ");
	}
}
