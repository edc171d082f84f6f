/*
 * xforward - what the MTA in front tells of its own client
 *
 * Follows    Postfix's XFORWARD_README. The first XFORWARD makes all attributes unknown; each overwrites those it
 *            names; all are gone at the end of the transaction. Real and forwarded facts are never mixed. ADDR
 *            [UNAVAILABLE] means local submission: then nothing else counts.
 * Threads    Pure functions.
 */
#ifndef HANDOFF_XFORWARD_H
#define HANDOFF_XFORWARD_H

#include <stdbool.h>
#include "base/addr.h"
#include "handoff/lmtp_command.h"

#define XFORWARD_VALUE_MAX 255
#define XFORWARD_ATTRIBUTES "NAME ADDR PORT PROTO HELO IDENT SOURCE"

struct xforward {
	bool given;         /* an XFORWARD came since the last transaction */
	bool local;         /* submitted on the MTA's own machine */
	bool name_later;    /* NAME=[TEMPUNAVAIL] */
	uint16_t port;      /* 0 = unknown */
	struct addr client; /* AF_UNSPEC = unknown */
	/* "" = unknown; printable ASCII without blanks and what is special in header fields */
	char name[XFORWARD_VALUE_MAX + 1], helo[XFORWARD_VALUE_MAX + 1], proto[65];
};

void xforward_clear(struct xforward *);
/* All attributes of the command are taken, or none. */
enum reply xforward_parse(const struct lmtp_command *, struct xforward *);

#endif
