/*
 * milter_negotiate - what a connection asks the MTA for, given what the rules need
 *
 * Follows    Milter protocol version 6 (libmilter's xxfi_negotiate). Steps nobody looks at are turned off, replies
 *            nobody waits for too, and only the macros the rules need are asked for: Postfix sends {daemon_port}, for
 *            one, only then.
 */
#ifndef MILTER_NEGOTIATE_H
#define MILTER_NEGOTIATE_H

#include <libmilter/mfapi.h>
#include "policy/policy.h"

struct negotiated {
	struct policy_needs needs; /* what was asked for */
	unsigned long steps;       /* the SMFIP_ flags in force */
};

/* Fills in actions and steps for the MTA's offer; false if the MTA lets us neither insert nor delete headers. */
bool milter_negotiate(SMFICTX *, const struct policy_needs *, unsigned long offered_actions,
        unsigned long offered_steps, unsigned long *actions, unsigned long *steps, struct negotiated *out);
/* True if all of `now` was asked for. */
bool negotiated_covers(const struct negotiated *, const struct policy_needs *now);
/* SMFIS_NOREPLY where the MTA does not wait, else SMFIS_CONTINUE. */
sfsistat negotiated_continue(const struct negotiated *, unsigned long no_reply_flag);

#endif
