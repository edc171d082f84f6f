/*
 * names - domains and mail addresses in the one form in which they are compared
 *
 * Follows    RFC 5321 4.1.2, 5890-5892 (libidn2), design section 6: local part as given (source route
 * stripped),
 *            '@', domain in lower-case A-label form, without <>.
 * Threads    Pure functions.
 */
#ifndef BASE_NAMES_H
#define BASE_NAMES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "base/error.h"
#include "base/str.h"

#define DOMAIN_MAX 254 /* octets of a domain name as text, without a final dot */

/* Lower case, U-labels to A-labels, one final dot removed; address literals keep "[...]" in lower case, tag
 * "IPv6:". False if it cannot be a domain (empty label, label over 63, total over 253, bytes that IDNA
 * refuses). */
bool domain_normalize(const char *raw, size_t len, char out[DOMAIN_MAX + 64], struct error *);
/* Local part and domain of "<@route:local@domain>", "local@domain" or "local" as given; the LAST '@' outside
 * quotes splits. `domain_len` 0 = none. Points into raw. */
struct mailaddr {
	const char *local, *domain;
	size_t local_len, domain_len;
};
bool mailaddr_split(const char *raw, size_t len, struct mailaddr *);
/* Appends the normal form. The null sender (<> or empty) appends nothing. A domain IDNA refuses is only
 * lower-cased. */
void mailaddr_normalize(const char *raw, size_t len, struct str *out);

/* design 5: 1 to 64 bytes of printable ASCII without space : ; , / " ' */
bool name_check(const char *what, const char *name, struct error *);

/* Message ids as text: 16 lower-case hex digits of the 64-bit id, so text sorts as time. */
#define ID_TEXT_SIZE 17
const char *id_print(uint64_t id, char buf[ID_TEXT_SIZE]);
bool id_parse(const char *, uint64_t *id);

#endif
