/*
 * lmtp_command - command lines of LMTP and ESMTP, taken apart
 *
 * Purpose    From a line without its CRLF to verb and argument, and from an argument to its values. What is wrong is
 *            told as the reply that says so.
 * Follows    RFC 5321 4.1, 2033, 1870 (SIZE), 6152 (BODY), 6531 (SMTPUTF8), 3461 (DSN), 8689 (REQUIRETLS). Keywords in any case; blanks
 *            are spaces only, one or more (tabs are control characters: 501).
 * Threads    Pure functions. Results point into the line.
 */
#ifndef HANDOFF_LMTP_COMMAND_H
#define HANDOFF_LMTP_COMMAND_H

#include <stdint.h>
#include "handoff/mail_path.h"
#include "handoff/reply.h"

/* A command line with its CRLF, as Postfix's line_length_limit: well over RFC 5321's 512 and its extensions. */
#define LMTP_LINE_MAX 2048

enum lmtp_verb {
#define VERB(name, argument) LMTP_##name,
#include "handoff/lmtp_command.def"
#undef VERB
	LMTP_N_VERBS
};

struct lmtp_command {
	enum lmtp_verb verb;
	const char *arg; /* without blanks at either end */
	size_t arg_len;
};

/* REPLY_NONE = well-formed so far */
enum reply lmtp_command_parse(const char *line, size_t len, struct lmtp_command *);
/* The first line of a browser, or of something made to speak to us as one does */
bool lmtp_line_is_http(const char *line, size_t len);

/* helo = domain / address-literal */
enum reply lmtp_hello_parse(const struct lmtp_command *);

struct lmtp_mail {
	struct mail_path path;
	uint64_t size; /* 0 = not given */
	bool body_8bitmime, smtputf8, requiretls;
	uint8_t ret;       /* enum message_ret */
	const char *envid; /* xtext; NULL = not given */
	size_t envid_len;
};
/* mail = "FROM:" path *( SP parameter ); extensions: LHLO or EHLO was said, so parameters are known */
enum reply lmtp_mail_parse(const struct lmtp_command *, bool extensions, struct lmtp_mail *);
struct lmtp_rcpt {
	struct mail_path path;
	uint8_t notify;    /* enum recipient_notify */
	const char *orcpt; /* type, ';' and xtext; NULL = not given */
	size_t orcpt_len;
};
/* rcpt = "TO:" path *( SP parameter ); smtputf8: MAIL said so */
enum reply lmtp_rcpt_parse(const struct lmtp_command *, bool extensions, bool smtputf8, struct lmtp_rcpt *);

#endif
