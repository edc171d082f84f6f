/*
 * outcome - what the other side said, or how it failed to: data, never an error
 */
#ifndef SESSION_OUTCOME_H
#define SESSION_OUTCOME_H

#include <stdbool.h>
#include <stdint.h>

enum outcome_class {
	OUTCOME_NONE,	   /* no result yet (not begun) */
	OUTCOME_OK,	   /* 2yz for this recipient after end of data */
	OUTCOME_TRANSIENT, /* 4yz, or lost before end of data */
	OUTCOME_PERMANENT, /* 5yz */
	OUTCOME_UNCERTAIN, /* end of data sent, no reply */
};
/* Where in the dialogue; the names are the events' `state`. */
enum outcome_state {
	STATE_RESOLVE, STATE_CONNECT, STATE_BANNER, STATE_EHLO, STATE_STARTTLS, STATE_AUTH, STATE_XCLIENT, STATE_MAIL,
	STATE_RCPT, STATE_DATA, STATE_DOT,
};
const char *outcome_state_name(enum outcome_state);

#define OUTCOME_REPLY_MAX 1024

struct outcome {
	enum outcome_class class;
	enum outcome_state state;
	bool ours;	    /* the text is ours, not the peer's */
	uint16_t code;	    /* 3 digits, 0 = none */
	char enhanced[12];  /* "4.7.1", "" = none */
	char reply[OUTCOME_REPLY_MAX]; /* lines joined by " ", raw bytes of the peer; always terminated */
};
/* One of our own: "4.4.1" "no route to host" */
void outcome_own(struct outcome *, enum outcome_class, enum outcome_state, int code, const char *enhanced, const char *fmt, ...)
	__attribute__((format(printf, 6, 7)));

#endif
