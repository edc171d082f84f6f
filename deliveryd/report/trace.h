/*
 * trace - what sessions and other sides say to each other, for those who look at it just now
 *
 * Purpose    Sessions give their lines; each reader gets those of the binding and domain it asked for, as JSON, one
 *            object a line (the keys stand in bindpost-api(7)). Nothing is kept for later. Secrets do not come here:
 *            who says a line has taken them out.
 * Cost       Nobody looks: one load. A reader who is slow loses lines, and is told how many; nobody waits for him.
 * Ownership  The hub outlives its readers and those who speak.
 * Threads    trace_on(), trace_number() and trace_post() any; a reader belongs to its loop.
 */
#ifndef REPORT_TRACE_H
#define REPORT_TRACE_H

#include "base/addr.h"
#include "base/loop.h"
#include "base/str.h"

#define TRACE_READERS_MAX 8
#define TRACE_WAITING_MAX ((size_t)256 << 10) /* bytes that wait for a reader; what comes then is dropped */

struct trace;
struct trace *trace_new(struct clock *);
void trace_free(struct trace **); /* no reader, nobody who speaks */

/* --- speaking: NULL is fine, and nobody looks ---------------------------------------------------------------- */
bool trace_on(const struct trace *);
uint64_t trace_number(struct trace *); /* of a session: 1, 2, ... */

/* Borrowed during the call. NULL or AF_UNSPEC: the key is left out. */
struct trace_line {
	uint64_t session, since_us; /* its number; since it began */
	const char *binding, *next_hop, *domain /* of the recipients at hand */, *mx;
	struct addr peer, source;
	char direction; /* '>' we say, '<' the other side says, '*' what happens */
	const char *text;
	size_t len; /* any bytes */
};
void trace_post(struct trace *, const struct trace_line *);

/* --- looking -------------------------------------------------------------------------------------------------- */
struct trace_reader;
/* NULL = of all. `domain` is the recipients' or the next hop's. ready() is called on the loop when lines wait, once until
 * they are taken. NULL when as many as may be are looking already. */
struct trace_reader *trace_read(struct trace *, const char *binding, const char *domain, struct loop *,
        void (*ready)(void *ctx), void *ctx);
/* Appends what waits, and how many lines were dropped after it. */
void trace_take(struct trace_reader *, struct str *out);
void trace_end(struct trace_reader **);

#endif
