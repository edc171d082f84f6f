/*
 * mail_path - the path of MAIL and RCPT
 *
 * Follows    RFC 5321 4.1.2. More lenient in one thing: dots may stand anywhere in an unquoted local part (addresses
 *            like that exist and Postfix hands them on), and labels may hold '_' (so do names in the DNS).
 * Threads    Pure functions.
 */
#ifndef HANDOFF_MAIL_PATH_H
#define HANDOFF_MAIL_PATH_H

#include <stdbool.h>
#include <stddef.h>

/* Points into the command line. */
struct mail_path {
	const char *address; /* without <> and source route */
	size_t address_len;  /* 0 = null reverse-path */
	const char *domain;  /* after the '@'; with its brackets for an address literal */
	size_t domain_len;   /* 0 = none */
};

/*
 * path  = "<>" / "<" [ route ":" ] ( mailbox / local-part ) ">"
 * route = "@" domain *( "," "@" domain )
 * Reads one path at the start of text; *used is where it ended. False when it is none. A local part alone is let
 * through here: a sender may have no domain, and "postmaster" needs none (RFC 5321 4.5.1).
 */
bool mail_path_parse(const char *text, size_t len, struct mail_path *, size_t *used);

/* Domain of RFC 5321 4.1.2 (labels of at most 63, 253 in all); no literal, no final dot. */
bool mail_domain_check(const char *, size_t len);
/* "[192.0.2.1]", "[IPv6:2001:db8::1]" */
bool mail_literal_check(const char *, size_t len);

#endif
