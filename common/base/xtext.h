/*
 * xtext - the form in which the values of SMTP parameters travel
 *
 * Follows    RFC 3461 4: xtext = *( xchar / hexchar ), xchar = "!" to "~" without "+" and "=", hexchar = "+" and two
 *            upper-case hexadecimal digits.
 * Threads    Pure functions.
 */
#ifndef BASE_XTEXT_H
#define BASE_XTEXT_H

#include "base/str.h"

bool xtext_ok(const char *, size_t len);
/* Whatever is no xchar becomes a hexchar. */
void xtext_encode(struct str *out, const char *text);
/* Of what xtext_ok() has passed. */
void xtext_decode(struct str *out, const char *xtext, size_t len);

#endif
