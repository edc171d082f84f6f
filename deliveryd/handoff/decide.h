/*
 * decide - which binding each recipient's copy belongs to, or why it is refused
 *
 * Purpose    Design section 6: what the stamp says, else what `unstamped` or `bad_stamp` says; the null reverse-path is
 *            never refused for its stamp; recipient rules per final recipient; `default_binding` none.
 * Threads    Pure functions of their input.
 */
#ifndef HANDOFF_DECIDE_H
#define HANDOFF_DECIDE_H

#include "handoff/handoff.h"
#include "handoff/message_header.h"
#include "handoff/reply.h"
#include "handoff/xforward.h"

struct decide_input {
	const struct policy_view *view;
	const struct message_header *header; /* ended */
	const struct xforward *xforward;
	const struct handoff_shared *shared;
	const char *sender; /* without <> */
	uint64_t id, wall_us;
	uint64_t size; /* as the milter counts it */
};

/* What has to be captured of a message for this policy and sender, before its first byte. */
struct decide_needs {
	bool fields, body;
	bool until_stamp; /* none of it any more once a stamp has come */
	size_t body_max;
};
void decide_needs(const struct policy_view *, const char *sender, struct decide_needs *);

/*
 * REPLY_NONE: *out holds (decision_free() it), each recipient is asked for. Else all recipients get the reply. *reason
 * says what was wrong with the stamp; STAMP_OK for a good one and for none.
 */
enum reply decide_message(const struct decide_input *, struct decision *out, enum stamp_reason *reason);
enum reply decide_recipient(
        const struct decide_input *, const struct decision *, const char *rcpt, struct recipient_choice *);

#endif
