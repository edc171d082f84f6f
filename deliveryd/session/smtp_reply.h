/*
 * smtp_reply - parses what an SMTP server answers, as it comes in
 *
 * Purpose    Eats bytes until one reply is complete. Bounded: a server can neither fill memory nor make us read
 *            for ever. Of a multi-line reply the last line decides; the three digits decide over an enhanced code
 *            that contradicts them.
 * Follows    RFC 5321 4.2, RFC 2034. Lenient where servers are sloppy: a bare LF ends a line, the text may be
 *            missing, and anything but '-' or a fourth digit behind the digits makes a last line.
 * Ownership  A value, nothing to free.
 */
#ifndef SESSION_SMTP_REPLY_H
#define SESSION_SMTP_REPLY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "session/outcome.h"

#define SMTP_REPLY_MAX_BYTES (64 * 1024)
#define SMTP_REPLY_MAX_LINES 500
#define SMTP_REPLY_LINE_MAX 512 /* of a longer line the rest is not kept */

/* One complete line, without digits and line end: for the replies whose lines matter one by one (EHLO). */
typedef void smtp_reply_line_fn(void *ctx, unsigned number, const char *text, size_t len);

struct smtp_reply {
	/* complete after SMTP_REPLY_DONE */
	unsigned code;
	char enhanced[12];
	char text[OUTCOME_REPLY_MAX]; /* lines joined by " "; NUL bytes became '?' */

	/* the parser's */
	unsigned digits; /* of the line being read */
	unsigned line_code;
	bool more, in_text; /* more: '-' stood behind the digits */
	unsigned lines, line_enhanced_code;
	uint32_t bytes;
	size_t text_len, line_len;
	char line[SMTP_REPLY_LINE_MAX];
	smtp_reply_line_fn *on_line;
	void *ctx;
};

enum smtp_reply_result {
	SMTP_REPLY_MORE, /* all bytes eaten, the reply is not complete */
	SMTP_REPLY_DONE, /* one reply complete; *used says where the next begins */
	SMTP_REPLY_BAD,  /* not SMTP: no three digits, first digit outside 2 to 5, over 64 KB or 500 lines */
};

/* Ready for the next reply. on_line may be NULL. */
void smtp_reply_init(struct smtp_reply *, smtp_reply_line_fn *on_line, void *ctx);
enum smtp_reply_result smtp_reply_feed(struct smtp_reply *, const char *raw, size_t len, size_t *used);
/* True if some bytes of a reply have been read, but not all. */
bool smtp_reply_begun(const struct smtp_reply *);
/* The reply as an outcome; its class follows from the first digit (3yz: transient). */
void smtp_reply_outcome(const struct smtp_reply *, enum outcome_state, struct outcome *);

#endif
