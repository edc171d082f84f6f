/*
 * dsn - renders a delivery status notification
 *
 * Follows    RFC 3464, 3462 (multipart/report), 6522; RFC 3461 6 for what goes into it.
 * Threads    Pure function of its input.
 */
#ifndef REPORT_DSN_H
#define REPORT_DSN_H

#include "base/str.h"
#include "message.h"

struct dsn_recipient {
	const char *final_recipient; /* address */
	const char *orcpt;           /* type, ';', xtext; NULL */
	bool orcpt_is_final;         /* it was given, and is final_recipient */
	const char *action;          /* "failed", "relayed", "delivered" */
	const char *status;          /* "5.1.1" */
	const char *diagnostic;      /* remote or own reply, raw text; printed safely */
	bool diagnostic_is_remote;   /* "smtp;" and Remote-MTA, else "x-bindpost;" */
	const char *remote_mta;      /* NULL */
};
struct dsn {
	const struct message *original;
	const struct dsn_recipient *recipients;
	unsigned n_recipients;
	const char *reporting_mta; /* hostname */
	const char *from;          /* mailer-daemon@hostname */
	uint64_t now_wall_us;
	uint64_t dsn_id;
	const char *headers; /* the original's header section, raw; cut by us; NULL = none */
	size_t headers_len;
	bool whole; /* `headers` is the whole message */
};
/* The whole message with CRLF line ends, ready for a body_writer. */
void dsn_print(const struct dsn *, struct str *out);

#endif
