/* policy_msg.h - a message as policy sees it: envelope, header, body, dictionaries, and where it is to go
 * One is made when MAIL is accepted (policy_msg_new) and filled as the transaction goes on; after data_spool one clone
 * per recipient is made (policy_msg_clone). Header and body are blocks that clones share until one of them changes
 * its own: so a thousand recipients cost a thousand envelopes, and whether a clone differs from the message is a
 * comparison of pointers (policy_msg_header_own, policy_msg_body_own).
 * The message's bytes are header then body, nothing between: the empty line, where there is one, begins the body
 * (spool/format/header.h). The header includes our Received field and is neither transparent nor dot-stuffed.
 * Contexts: before it is cloned the message has no message dictionary of its own, it is the session's; each clone has
 * a copy of both dictionaries, which is what goes to the spool.
 * Owner: the mail transaction (or who makes an internal message). Thread: loop. Getters' slices hold until the field
 * changes or the message is freed, and have a NUL behind them where the comment says text. */
#ifndef POLICY_POLICY_MSG_H
#define POLICY_POLICY_MSG_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "policy/policy_context.h"
#include "shm/base/bytes.h"
#include "shm/base/clock.h"
#include "shm/base/err.h"
#include "spool/spool_id.h"

struct policy_msg;
struct policy_session;

/* Shared, immutable bytes with a count of users. */
struct policy_block;
/* Copies. */
struct policy_block *policy_block_copy(struct slice s);
/* Takes the buffer's memory; *b is empty afterwards. */
struct policy_block *policy_block_take(struct bytes *b);
/* Borrows memory (a mapping) until the last user is gone; then release(arg). */
struct policy_block *policy_block_borrow(struct slice s, void (*release)(void *arg), void *arg);
/* Bytes that are elsewhere (a streamed body): `size` is known, load(arg, out) is called at most once, when a script
 * first asks for the bytes; what it gives must hold until release(arg). A load that fails is a script error. */
struct policy_block *policy_block_lazy(size_t size, enum err (*load)(void *arg, struct slice *out),
				       void (*release)(void *arg), void *arg);
void policy_block_ref(struct policy_block *b);
/* Clears the caller's pointer; NULL inside is fine. */
void policy_block_unref(struct policy_block **b);
size_t policy_block_size(const struct policy_block *b);
/* ERR_IO and others only from a lazy block's load. */
enum err policy_block_bytes(struct policy_block *b, struct slice *out);

/* The facts of a message; text fields are copied. ids are 0 when not yet known and may be set later. */
struct policy_msg_env {
	struct slice sender; /* bare address, empty: null sender */
	struct slice rcpt;
	msgid_t id, batch, conn;
	usec_t received_at; /* real */
};

/* Without header and body (both empty). The session is borrowed and must outlive it; an internal message has a session
 * of its own (policy_session_new_internal). Never NULL. */
struct policy_msg *policy_msg_new(struct policy_session *s, const struct policy_msg_env *env);
/* For one recipient: shares blocks and dictionaries with m, copies binding, domain and priority; envelope sender of m.
 * m may be freed before its clones. */
struct policy_msg *policy_msg_clone(struct policy_msg *m, msgid_t id, struct slice rcpt);
/* Clears the caller's pointer; NULL inside is fine. Handles that scripts kept of it turn into errors. */
void policy_msg_free(struct policy_msg **m);

struct policy_session *policy_msg_session(const struct policy_msg *m);
msgid_t policy_msg_id(const struct policy_msg *m);
msgid_t policy_msg_batch(const struct policy_msg *m);
msgid_t policy_msg_conn(const struct policy_msg *m);
void policy_msg_set_ids(struct policy_msg *m, msgid_t id, msgid_t batch);
usec_t policy_msg_received_at(const struct policy_msg *m);

/* Text. Policy may change both (msg:mailfrom, msg:rcptto): what counts for the spool is what stands here at the end. */
struct slice policy_msg_sender(const struct policy_msg *m);
struct slice policy_msg_rcpt(const struct policy_msg *m);
void policy_msg_set_sender(struct policy_msg *m, struct slice addr);
void policy_msg_set_rcpt(struct policy_msg *m, struct slice addr);

/* Takes one reference of each block. */
void policy_msg_set_header(struct policy_msg *m, struct policy_block *header);
void policy_msg_set_body(struct policy_msg *m, struct policy_block *body);
/* Copies, for the rare change. */
void policy_msg_replace_header(struct policy_msg *m, struct slice header);
void policy_msg_replace_body(struct policy_msg *m, struct slice body);
struct policy_block *policy_msg_header(const struct policy_msg *m); /* lent; never NULL */
struct policy_block *policy_msg_body(const struct policy_msg *m);   /* lent; never NULL */
size_t policy_msg_size(const struct policy_msg *m);
/* Does it have a header (body) of its own, other than that of `shared`? */
bool policy_msg_header_own(const struct policy_msg *m, const struct policy_msg *shared);
bool policy_msg_body_own(const struct policy_msg *m, const struct policy_msg *shared);

/* Text; empty: none chosen ("default" binding; the recipient's domain or the configuration routes). */
struct slice policy_msg_binding(const struct policy_msg *m);
struct slice policy_msg_routing_domain(const struct policy_msg *m);
void policy_msg_set_binding(struct policy_msg *m, struct slice name);
void policy_msg_set_routing_domain(struct policy_msg *m, struct slice domain);
uint8_t policy_msg_priority(const struct policy_msg *m); /* 0 or 1 */
void policy_msg_set_priority(struct policy_msg *m, uint8_t priority);
/* Not tried before then (real time), 0: at once. Clones inherit it. */
usec_t policy_msg_due(const struct policy_msg *m);
void policy_msg_set_due(struct policy_msg *m, usec_t due);

/* Discarded: the client is told success, nothing is written but the rejectlog line with this text ("550 5.7.0 ...").
 * Discarding the message before it is cloned discards it for every recipient: clones inherit it. */
bool policy_msg_discarded(const struct policy_msg *m, struct slice *why);
void policy_msg_discard(struct policy_msg *m, struct slice why);

/* The dictionaries that msg:context_* works on: the clone's own, or the session's while it is not cloned. */
struct policy_context *policy_msg_conn_context(struct policy_msg *m);
struct policy_context *policy_msg_mess_context(struct policy_msg *m);
bool policy_msg_is_clone(const struct policy_msg *m);
/* What the spool keeps (policy_contexts_pack). Appends. */
void policy_msg_pack_contexts(struct policy_msg *m, struct bytes *out);

#endif
