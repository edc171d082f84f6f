/*
 * smtp_script - reads a t/smtp script and runs it in a world of its own
 *
 * One line, one step; '#' begins a comment, '\' at the end of a line goes on in the next. Values with blanks stand in
 * double quotes (\" \\ \r \n \xHH within them). After each step the world runs until nothing more happens.
 *
 *   before or between messages
 *     mx DOMAIN PREF HOST           an MX record; HOST gets a scripted MX host, an address, and an A record
 *     cname|secure|tlsa|addr|nodata|nxdomain|servfail|silent|delay|ttl|answer|forget ...     as fake_dns_script() has them
 *     set PATH JSON                 policy.json: `set domains/x.test/gateway "127.0.1.1"`; then `reload`
 *     file NAME MODE TEXT           a file beside the configuration: `file token 0640 secret`
 *     reload | restart              the new policy; stop in order and start again on the spool
 *     source ADDR on|off            whether the address is on this machine
 *     HOST POINT...: ACTION...      what the MX host does (scripted_mx.h)
 *     HOST forget                   it behaves again
 *     HOST tls [NAME]               it does STARTTLS, with a certificate for NAME (itself) by the authority "ca.pem"
 *     HOST tlsa "U S M" [wrong]     a TLSA record for that certificate (usage 2: for its authority), signed
 *   what happens
 *     send [from=A] to=A[,A...] [binding=NAME] [body=TEXT] [size=BYTES] [8bit] [utf8] [requiretls] [tls_optional] [times=N]
 *          [ret=full|hdrs] [envid=X] [notify=never|[success][,failure][,delay]] [orcpt=same|TYPE;X]
 *          [name=N] [helo=N] [proto=P] [client=ADDR]     what XFORWARD brought
 *     advance 90s|15m|2h|5d
 *   what must have come of it
 *     expect EVENT [key=value | key~part]...   the next event of that kind not yet expected. EVENT: delivered deferred
 *                                   bounced expired uncertain dsn source_down source_up, or as in the log; keys as in
 *                                   the log (tls.version within tls), and to= for recipient, from= for sender, dsn= for enhanced.
 *     expect nothing                no event but those expected
 *     expect active|deferred|held|connections=N ...   as in `bindpost summary`
 *     ignore EVENT                  those so far need not be expected one by one
 *     HOST got N | connections N | open N | most N
 *     HOST saw TEXT | HOST saw not TEXT | HOST log TEXT         the commands it got, see scripted_mx_log()
 *     HOST mail I KEY VALUE         source hello sender recipients params body of the I-th message, from 0;
 *                                   VALUE ~PART: contains it
 *
 * At the end nothing may have happened that was not expected, receptions, starts and delivered reports apart, and no MX host may have
 * seen what no client may do.
 */
#ifndef T_LIB_SMTP_SCRIPT_H
#define T_LIB_SMTP_SCRIPT_H

#include "base/error.h"

/* False: err names the line and says what is wrong. */
bool smtp_script_run(const char *name, const char *text, struct error *err);

#endif
