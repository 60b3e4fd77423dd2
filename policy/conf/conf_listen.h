/* conf_listen.h - the address of a Listen stanza (inside policy/conf only) */
#ifndef POLICY_CONF_CONF_LISTEN_H
#define POLICY_CONF_CONF_LISTEN_H

#include "policy/conf/conf.h"
#include "shm/base/arena.h"

/*	address = [ "*" | IPv4 ] ":" port | "[" ( "*" | IPv6 ) "]:" port | absolute path
 * Fills text (in the arena), sa and salen; NULL, or what would be right. Port 0 lets the kernel choose. */
const char *conf_listen_parse(struct arena *arena, const char *address, struct conf_listen *out);

#endif
