/* policy_int.h - what the files of policy/ share, and the door for script hosts (policy/lua)
 * A language's host may hang one pointer on a session and one on a message (its handle tables); it is told when they
 * go. */
#ifndef POLICY_POLICY_INT_H
#define POLICY_POLICY_INT_H

#include "policy/policy.h"

enum policy_language { LANGUAGE_LUA, LANGUAGE_MAX };

struct policy_attachment {
	void *ptr;
	void (*gone)(void *ptr); /* called once, when the session (message) is freed; not for NULL ptr */
};

struct policy_attachment *policy_session_attachment(struct policy_session *s, enum policy_language lang);
struct policy_attachment *policy_msg_attachment(struct policy_msg *m, enum policy_language lang);
void policy_attachments_end(struct policy_attachment list[LANGUAGE_MAX]);

/* Is this allowed in the run's phase? */
static inline bool
policy_run_may(const struct policy_run *r, enum policy_may what)
{
	return (policy_phases[r->phase].may & (unsigned)what) != 0;
}

#endif
