/*
 * A DSN: multipart/report with what a person reads, what a program reads (RFC 3464), and the header of the
 * original. Nothing of the peer's goes in unchecked: replies and names are reduced to printable ASCII, so that no
 * byte of theirs can end a line or a part.
 */
#include "report/dsn.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "base/clock.h"
#include "base/names.h"
#include "base/utf8.h"
#include "base/xtext.h"

#define DSN_LINE_MAX 900	     /* octets of one generated line; RFC 5321 4.5.3.1.6 allows 998 */
#define DSN_HEADERS_MAX (32u << 10) /* octets of the original's header that are returned */

/* Printable ASCII as it is, blanks for the rest; at most max octets. */
static void add_safe(struct str *out, const char *text, size_t max)
{
	for (size_t i = 0; text[i] && i < max; i++)
		str_add_char(out, text[i] >= 32 && text[i] < 127 ? text[i] : ' ');
}

/* An address as it is, blanks for what is no text; at most max octets. */
static void add_address(struct str *out, const char *address, size_t max)
{
	size_t len = strlen(address), n;
	uint32_t code;

	for (size_t i = 0; i < len && i < max; i += n) {
		n = utf8_next(address + i, len - i, &code);
		if (n == 0 || utf8_is_control(code)) {
			str_add_char(out, ' ');
			n = 1;
		} else {
			str_add_mem(out, address + i, n);
		}
	}
}

/* RFC 6533 3, utf-8-addr-xtext: the form of such an address that a 7-bit status takes. What has that form already,
 * as an ORCPT, keeps its backslashes. */
static void add_utf8_address(struct str *out, const char *address, bool escaped)
{
	size_t len = strlen(address), n;
	uint32_t code;

	for (size_t i = 0; i < len && i < 500; i += n) {
		n = utf8_next(address + i, len - i, &code);
		if (n == 0) {
			n = 1;
			code = '?';
		}
		if (code <= 32 || code > 126 || (!escaped && (code == '\\' || code == '+' || code == '=')))
			str_printf(out, "\\x{%X}", (unsigned)code);
		else
			str_add_char(out, (char)code);
	}
	str_add(out, "\r\n");
}

static void add_field(struct str *out, const char *name, const char *prefix, const char *value)
{
	str_printf(out, "%s: %s", name, prefix);
	add_safe(out, value, DSN_LINE_MAX);
	str_add(out, "\r\n");
}

/* RFC 3464 2.3.1: the type as given, the address decoded. */
static void add_original_recipient(struct str *out, const struct dsn_recipient *r)
{
	const char *semicolon = r->orcpt ? strchr(r->orcpt, ';') : NULL;
	struct str address;

	if (!semicolon)
		return;
	str_add(out, "Original-Recipient: ");
	str_add_mem(out, r->orcpt, (size_t)(semicolon - r->orcpt));
	str_add(out, "; ");
	if (ascii_ieq_mem(r->orcpt, (size_t)(semicolon - r->orcpt), "utf-8", strlen("utf-8"))) {
		add_utf8_address(out, semicolon + 1, true);
		return;
	}
	str_init(&address);
	xtext_decode(&address, semicolon + 1, strlen(semicolon + 1));
	if (address.data)
		add_safe(out, address.data, DSN_LINE_MAX);
	str_add(out, "\r\n");
	str_free(&address);
}

static void add_envelope_id(struct str *out, const char *envid)
{
	struct str text;

	str_init(&text);
	xtext_decode(&text, envid, strlen(envid));
	if (text.data)
		add_field(out, "Original-Envelope-Id", "", text.data);
	str_free(&text);
}

static bool is_failure(const struct dsn_recipient *r)
{
	return strcmp(r->action, "failed") == 0;
}

static unsigned n_failures(const struct dsn *d)
{
	unsigned n = 0;

	for (unsigned i = 0; i < d->n_recipients; i++)
		n += is_failure(&d->recipients[i]);
	return n;
}

static bool header_is_8bit(const struct dsn *d)
{
	for (size_t i = 0; i < d->headers_len; i++)
		if ((unsigned char)d->headers[i] > 127)
			return true;
	return false;
}

static bool recipients_are_8bit(const struct dsn *d)
{
	for (unsigned i = 0; i < d->n_recipients; i++)
		if (!utf8_is_ascii(d->recipients[i].final_recipient))
			return true;
	return false;
}

static void print_head(const struct dsn *d, const char *boundary, struct str *out)
{
	char date[TIME_TEXT_SIZE], id[ID_TEXT_SIZE];

	str_printf(out, "Date: %s\r\n", time_print_rfc5322(d->now_wall_us, date));
	str_add(out, "From: \"Mail Delivery System\" <");
	add_safe(out, d->from, 320);
	str_add(out, ">\r\nTo: <");
	add_address(out, d->original->sender, 320);
	str_printf(out, ">\r\nSubject: %s\r\n",
	        n_failures(d) ? "Undelivered mail returned to sender" : "Successful mail delivery report");
	str_printf(out, "Message-ID: <%s.dsn@", id_print(d->dsn_id, id));
	add_safe(out, d->reporting_mta, 255);
	str_add(out, ">\r\nAuto-Submitted: auto-replied\r\nMIME-Version: 1.0\r\n");
	if (header_is_8bit(d) || recipients_are_8bit(d)) /* RFC 2045 6.4: what holds an 8bit part is 8bit itself */
		str_add(out, "Content-Transfer-Encoding: 8bit\r\n");
	str_printf(out, "Content-Type: multipart/report; report-type=delivery-status;\r\n\tboundary=\"%s\"\r\n\r\n",
		boundary);
}

static void print_text(const struct dsn *d, const char *boundary, struct str *out)
{
	char date[TIME_TEXT_SIZE], id[ID_TEXT_SIZE];

	str_printf(out, "--%s\r\nContent-Type: text/plain; charset=%s\r\n\r\n", boundary,
		recipients_are_8bit(d) ? "utf-8\r\nContent-Transfer-Encoding: 8bit" : "us-ascii");
	str_add(out, "This is the mail system at host ");
	add_safe(out, d->reporting_mta, 255);
	str_printf(out, ".\r\n\r\nYour message of %s (id %s)\r\n%s\r\n",
	        time_print_rfc5322(d->original->received_wall_us, date), id_print(d->original->id, id),
	        n_failures(d) == d->n_recipients ? "could not be delivered to:"
	        : n_failures(d)                  ? "could not be delivered to all of its recipients:"
	                        : "was delivered, or passed on to a host that sends no such reports:");
	for (unsigned i = 0; i < d->n_recipients; i++) {
		const struct dsn_recipient *r = &d->recipients[i];

		str_add(out, "\r\n<");
		add_address(out, r->final_recipient, 320);
		str_add(out, ">\r\n    ");
		if (!is_failure(r))
			str_printf(out, "%s: ", r->action);
		if (r->diagnostic_is_remote && r->remote_mta) {
			str_add(out, "host ");
			add_safe(out, r->remote_mta, 255);
			str_add(out, " said: ");
		}
		add_safe(out, r->diagnostic ? r->diagnostic : r->status, 600);
		str_add(out, "\r\n");
	}
	str_add(out, "\r\n");
}

static void print_status(const struct dsn *d, const char *boundary, struct str *out)
{
	char date[TIME_TEXT_SIZE];

	str_printf(out, "--%s\r\nContent-Type: message/delivery-status\r\n\r\n", boundary);
	if (d->original->envid)
		add_envelope_id(out, d->original->envid);
	add_field(out, "Reporting-MTA", "dns; ", d->reporting_mta);
	str_printf(out, "Arrival-Date: %s\r\n", time_print_rfc5322(d->original->received_wall_us, date));
	for (unsigned i = 0; i < d->n_recipients; i++) {
		const struct dsn_recipient *r = &d->recipients[i];

		str_add(out, "\r\n");
		add_original_recipient(out, r);
		if (r->orcpt_is_final && utf8_is_ascii(r->final_recipient))
			add_field(out, "Original-Recipient", "rfc822; ", r->final_recipient);
		if (utf8_is_ascii(r->final_recipient)) {
			add_field(out, "Final-Recipient", "rfc822; ", r->final_recipient);
		} else {
			str_add(out, "Final-Recipient: utf-8; ");
			add_utf8_address(out, r->final_recipient, false);
		}
		add_field(out, "Action", "", r->action);
		add_field(out, "Status", "", r->status);
		if (r->diagnostic_is_remote && r->remote_mta)
			add_field(out, "Remote-MTA", "dns; ", r->remote_mta);
		if (r->diagnostic)
			add_field(out, "Diagnostic-Code", r->diagnostic_is_remote ? "smtp; " : "x-bindpost; ",
				r->diagnostic);
		str_printf(out, "Last-Attempt-Date: %s\r\n", time_print_rfc5322(d->now_wall_us, date));
	}
	str_add(out, "\r\n");
}

/* The original's header up to a whole line within the bound; the empty line that ends it is ours. */
static void print_headers(const struct dsn *d, const char *boundary, struct str *out)
{
	size_t len = d->headers_len < DSN_HEADERS_MAX ? d->headers_len : DSN_HEADERS_MAX;

	if (d->whole) {
		str_printf(out, "--%s\r\nContent-Type: message/rfc822\r\n%s\r\n", boundary,
		        header_is_8bit(d) ? "Content-Transfer-Encoding: 8bit\r\n" : "");
		str_add_mem(out, d->headers, d->headers_len);
		str_add(out, "\r\n");
		return;
	}
	while (len && d->headers[len - 1] != '\n')
		len--;
	str_printf(out, "--%s\r\nContent-Type: text/rfc822-headers%s\r\n\r\n", boundary,
		header_is_8bit(d) ? "; charset=utf-8\r\nContent-Transfer-Encoding: 8bit" : "");
	str_add_mem(out, d->headers, len);
	if (len < 4 || memcmp(d->headers + len - 4, "\r\n\r\n", 4) != 0)
		str_add(out, "\r\n");
}

void dsn_print(const struct dsn *d, struct str *out)
{
	char boundary[64];

	/* the header cannot hold this: it is made of our id and the time of now */
	snprintf(boundary, sizeof(boundary), "=_bindpost_%016" PRIx64 "_%" PRIx64, d->dsn_id, d->now_wall_us);
	print_head(d, boundary, out);
	str_printf(out, "This is a MIME-encapsulated message.\r\n\r\n");
	print_text(d, boundary, out);
	print_status(d, boundary, out);
	if (d->headers)
		print_headers(d, boundary, out);
	str_printf(out, "--%s--\r\n", boundary);
}
