/*
 * smtp_trace - what a session tells report/trace: its dialogue, without what must not be told
 *
 * Purpose    Commands when they have gone out, replies as they come, the message as its size. Of AUTH the mechanism is
 *            shown and nothing else we say; a reply that repeats the password is hidden.
 * Cost       Nobody looks: one load for each call.
 * Threads    The session's net loop.
 */
#ifndef SESSION_SMTP_TRACE_H
#define SESSION_SMTP_TRACE_H

#include <stddef.h>

struct session;
struct smtp_trace; /* what a session that was looked at keeps */

void smtp_trace_state(struct session *);    /* a state was entered */
void smtp_trace_commands(struct session *); /* session.out has gone out whole */
void smtp_trace_input(struct session *, const char *raw, size_t len);
void smtp_trace_body(struct session *); /* the message has gone out */
void smtp_trace_tls(struct session *);  /* TLS is up */
void smtp_trace_free(struct smtp_trace **);

#endif
