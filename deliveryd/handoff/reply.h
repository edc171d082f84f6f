/*
 * reply - the handoff's replies by name
 *
 * Threads    Pure functions.
 */
#ifndef HANDOFF_REPLY_H
#define HANDOFF_REPLY_H

#include <stdbool.h>
#include "base/str.h"

enum reply {
	REPLY_NONE, /* nothing wrong */
#define REPLY(name, code, enhanced, text) REPLY_##name,
#include "handoff/reply.def"
#undef REPLY
	REPLY_N
};

void reply_add(struct str *out, enum reply); /* the whole line with CRLF */
int reply_code(enum reply);                  /* 0 for REPLY_NONE */
bool reply_is_transient(enum reply);

#endif
