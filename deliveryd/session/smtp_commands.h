/*
 * smtp_commands - builds the client's commands from checked text
 *
 * Purpose    What goes into a command was checked first: no control byte, no byte that would end the address, no
 *            8-bit byte unless the transaction is SMTPUTF8. The caller asks smtp_address_ok() and reports what is
 *            not.
 * Follows    RFC 5321 4.1.1, 1870 (SIZE), 6152 (8BITMIME), 6531 (SMTPUTF8), 3461 (DSN), 3030 (CHUNKING).
 * Threads    Pure functions.
 */
#ifndef SESSION_SMTP_COMMANDS_H
#define SESSION_SMTP_COMMANDS_H

#include <stdbool.h>
#include <stdint.h>
#include "base/str.h"
#include "message.h"

/* What the server offered in its reply to EHLO or LHLO. */
enum smtp_extension {
	SMTP_EXT_PIPELINING = 1 << 0,
	SMTP_EXT_SIZE = 1 << 1,
	SMTP_EXT_8BITMIME = 1 << 2,
	SMTP_EXT_SMTPUTF8 = 1 << 3,
	SMTP_EXT_STARTTLS = 1 << 4,
	SMTP_EXT_AUTH_PLAIN = 1 << 5,
	SMTP_EXT_AUTH_LOGIN = 1 << 6,
	SMTP_EXT_AUTH_XOAUTH2 = 1 << 7,
	SMTP_EXT_DSN = 1 << 8,
	SMTP_EXT_XCLIENT = 1 << 9,
	SMTP_EXT_REQUIRETLS = 1 << 10,
	SMTP_EXT_CHUNKING = 1 << 11,
};
struct smtp_offer {
	unsigned extensions; /* enum smtp_extension */
	uint64_t max_size;   /* of SIZE; 0 = none named */
	unsigned xclient;    /* attributes announced: smtp_xclient_attribute() */
};
/* The bit of an attribute of XCLIENT in `xclient`; 0 = no such. */
unsigned smtp_xclient_attribute(const char *name, size_t len);
/* One line of the reply to EHLO, behind the digits. */
void smtp_offer_line(struct smtp_offer *, const char *raw, size_t len);

struct smtp_mail_params {
	bool size, body_8bitmime, smtputf8, requiretls;
	uint64_t bytes;
};

void smtp_command_bdat(struct str *, uint64_t bytes); /* the last and only chunk */
bool smtp_address_ok(const char *address, bool utf8);
bool smtp_address_is_ascii(const char *address);
/* A name for EHLO: printable ASCII without blanks. */
bool smtp_ehlo_name_ok(const char *name);

void smtp_command_plain(struct str *, const char *verb);                   /* "DATA\r\n" */
void smtp_command_hello(struct str *, const char *verb, const char *name); /* "EHLO name\r\n" */
void smtp_command_mail(struct str *, const char *sender, const struct smtp_mail_params *,
        const struct message *dsn /* its RET and ENVID; NULL = none */);
/* dsn: NOTIFY and ORCPT; NULL = none. utf8: the transaction is SMTPUTF8 */
void smtp_command_rcpt(struct str *, const char *recipient, const struct recipient *dsn, bool utf8);

#endif
