/*
 * outcome - what the other side said, or how it failed to: data, never an error
 */
#ifndef SESSION_OUTCOME_H
#define SESSION_OUTCOME_H

#include <stdbool.h>
#include <stdint.h>
#include "base/str.h"

enum outcome_class {
	OUTCOME_NONE,      /* no result yet (not begun) */
	OUTCOME_OK,        /* 2yz for this recipient after end of data */
	OUTCOME_TRANSIENT, /* 4yz, or lost before end of data */
	OUTCOME_PERMANENT, /* 5yz */
	OUTCOME_UNCERTAIN, /* end of data sent, no reply */
};
/* Where in the dialogue; the names are the events' `state`. */
enum outcome_state {
	STATE_RESOLVE,
	STATE_CONNECT,
	STATE_BANNER,
	STATE_EHLO,
	STATE_STARTTLS,
	STATE_AUTH,
	STATE_XCLIENT,
	STATE_MAIL,
	STATE_RCPT,
	STATE_DATA,
	STATE_DOT,
};
const char *outcome_state_name(enum outcome_state);
const char *outcome_class_name(enum outcome_class); /* "none" "ok" "transient" "permanent" "uncertain" */

#define OUTCOME_REPLY_MAX 1024

struct outcome {
	enum outcome_class class;
	enum outcome_state state;
	bool ours;    /* the text is ours, not the peer's */
	bool lost;    /* due to the connection (421, loss), not said about this recipient */
	bool proxy; /* the egress proxy is to blame, for every mail that would go through it */
	bool unfit;   /* the host cannot do what the message demands of TLS: if none can, it is permanent */
	bool put_off; /* too many recipients (RFC 5321 4.5.3.1.10): others were accepted, this one goes next */
	uint16_t code;     /* 3 digits, 0 = none */
	char enhanced[12]; /* "4.7.1", "" = none */
	/* Text behind the three digits, lines joined by " ", raw bytes of the peer (NUL as '?'; its enhanced
	 * code is still in it); always terminated. Ours: the text alone, the enhanced code is not in it. */
	char reply[OUTCOME_REPLY_MAX];
};
/* One of our own: "4.4.1" "no route to host" */
void outcome_own(struct outcome *, enum outcome_class, enum outcome_state, int code, const char *enhanced,
        const char *fmt, ...) __attribute__((format(printf, 6, 7)));
/* Appends "550 5.1.1 No such user": code, enhanced code (if it is not in the text already) and text, raw. */
void outcome_print(const struct outcome *, struct str *);

#endif
