/*
 * scripted_mx - an MX host on loopback that says what a script tells it
 *
 * Purpose    Runs in the loop of the test, so a fake clock moves it too. Without a script it accepts everything. Each
 *            line overrides what it does at one point of the dialogue:
 *
 *              POINT[/N] [TEXT]: ACTION[; ACTION]...
 *
 *            POINT  CONNECT (instead of the banner) EHLO HELO LHLO MAIL RCPT DATA BODY (the first bytes after 354)
 *                   DOT RSET QUIT IDLE (behind the reply to DOT) SASL (a line behind 334), or any other command's verb
 *                   BDAT (before the chunk: a reply here means that it is not known, and the chunk is taken for commands;
 *                   the reply to the chunk is DOT)
 *            /N     only the N-th time since the MX was made; TEXT: only when the command contains it (RCPT; DOT of
 *                   LMTP: the recipient's address). Of several lines that fit the last one counts.
 *            ACTION 250 TEXT, 250-TEXT  a reply line ("\n" within it makes further lines)
 *                   send TEXT           bytes as they are; \r \n \t \0 \\ \xHH
 *                   trickle TEXT        the same, one byte every ten seconds
 *                   endless TEXT        the same, again and again
 *                   wait N              go on after N seconds
 *                   silent              says nothing more on this connection, but reads on
 *                   close, reset        an orderly close; RST
 *                   stall               reads no more
 *                   tls [PRIORITY]      a TLS handshake, as server (scripted_mx_tls()); then the dialogue from EHLO on
 *                   renegotiate N       asks N times for a new handshake (TLS 1.2)
 *                   refuse              stops listening (for CONNECT, before there is a connection)
 *            An empty ACTION is what is done without a script.
 * Ownership  The caller's; scripted_mx_free() closes what is open.
 */
#ifndef T_LIB_SCRIPTED_MX_H
#define T_LIB_SCRIPTED_MX_H

#include "base/addr.h"
#include "base/loop.h"
#include "base/str.h"

struct scripted_mx;

/* A message it has taken (for LMTP: with at least one recipient). */
struct scripted_mail {
	char *source, *hello, *sender, *recipients; /* recipients joined by ' ', those accepted */
	char *params;                               /* of MAIL, behind the address */
	char *body;                                 /* dots unstuffed, up to the end of data */
	size_t body_len;
	unsigned connection; /* which one it came over, from 1 on */
};

struct scripted_mx *scripted_mx_new(struct loop *, const char *address); /* "127.0.0.5", "::1"; any port */
void scripted_mx_free(struct scripted_mx **);
/* It has a certificate: offers STARTTLS and does it, unless told otherwise. client_ca: asks for a certificate of the
 * client's, signed by that; NULL = does not ask. All PEM. */
void scripted_mx_tls(struct scripted_mx *, const char *certificate, const char *key, const char *client_ca);
const struct addr *scripted_mx_addr(const struct scripted_mx *);
/* False if the line is not of the form above. */
bool scripted_mx_line(struct scripted_mx *, const char *line);
void scripted_mx_forget(struct scripted_mx *); /* the script */

unsigned scripted_mx_connections(const struct scripted_mx *); /* made so far */
unsigned scripted_mx_open(const struct scripted_mx *);        /* open now */
unsigned scripted_mx_most(const struct scripted_mx *);        /* open at once at most */
unsigned scripted_mx_n_mails(const struct scripted_mx *);
const struct scripted_mail *scripted_mx_mail(const struct scripted_mx *, unsigned i);
/* All command lines so far, joined by '|'; a connection begins with "+", ends with "-" (closed by the client) or
 * "!" (reset by it); a handshake is "TLS[SNI]", with " resumed" and " client CN" behind it where it was. A body is "(N bytes)", "(N bytes...)" if it had no end. */
const char *scripted_mx_log(const struct scripted_mx *);
void scripted_mx_log_clear(struct scripted_mx *);
/* What the client did that no client may do: commands sent ahead without PIPELINING, bare CR or LF, overlong
 * commands. NULL = nothing. */
const char *scripted_mx_offence(const struct scripted_mx *);

#endif
