/*
 * tls_dane - whether a certificate is the one DNS says (RFC 7672)
 *
 * Purpose    Usage 3: the host's own certificate or key matches a record; neither names nor dates count. Usage 2: an
 *            authority of the chain matches, or stands in DNS in full; then the chain has to lead to it, with no other
 *            authority to trust, its dates count, and it has to be for one of the names.
 * Threads    Pure.
 */
#ifndef SESSION_TLS_DANE_H
#define SESSION_TLS_DANE_H

#include <gnutls/gnutls.h>
#include "base/error.h"
#include "session/tlsa.h"

/* chain: DER, the host's own first. *verified: "dane-ee", "dane-ta" or, with false, "no" (err says why). */
bool tls_dane_verify(
        const gnutls_datum_t *chain, unsigned n, const struct tlsa *, const char **verified, struct error *);

#endif
