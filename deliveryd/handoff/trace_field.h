/*
 * trace_field - the Received field we put on top of each message
 *
 * Follows    RFC 5321 4.4. What the client said of itself is printed only as far as it is harmless there: anything
 *            that could end a word or comment, or the line, becomes '?'.
 * Threads    Pure functions.
 */
#ifndef HANDOFF_TRACE_FIELD_H
#define HANDOFF_TRACE_FIELD_H

#include "base/addr.h"
#include "base/str.h"

struct trace {
	const char *helo, *name;   /* NULL or "" = unknown */
	const struct addr *client; /* NULL or AF_UNSPEC = unknown */
	bool local;                /* submitted on the MTA's machine, or handed over by Unix socket */
	const char *hostname;      /* ours */
	const char *protocol;      /* LMTP, ESMTP, SMTP */
	uint64_t id, wall_us;
};

/* Appends the folded field with its last CRLF. */
void trace_field_print(const struct trace *, struct str *out);
/* What any Received field of this machine contains (blanks made one): "by HOSTNAME (bindpost)" */
void trace_field_token(const char *hostname, struct str *out);

#endif
