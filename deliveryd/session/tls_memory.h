/*
 * tls_memory - what a net loop remembers of TLS with a host: tickets to resume by, and hosts where it fails
 *
 * Purpose    Saves handshakes, and the detour over a handshake that fails. Kept per binding, host, address and demand,
 *            so that nothing one binding or profile learned is used for another. Fixed size: a new entry drives out the
 *            one at its place.
 * Threads    The loop's.
 */
#ifndef SESSION_TLS_MEMORY_H
#define SESSION_TLS_MEMORY_H

#include <gnutls/gnutls.h>
#include "base/addr.h"
#include "conf/conf.h"
#include "session/tlsa.h"

struct tls_memory;
struct tls_memory *tls_memory_new(void);
void tls_memory_free(struct tls_memory **);

struct tls_place {
	const char *binding, *mx;
	const struct addr *peer;
	const struct conn_options *demand;
	enum tls_verify verify;  /* in place of its tls_verify */
	const struct tlsa *tlsa; /* NULL = no DANE */
};
/* The ticket, borrowed until the next call; size 0 = none. */
gnutls_datum_t tls_memory_ticket(struct tls_memory *, const struct tls_place *, uint64_t now_us);
void tls_memory_keep_ticket(
        struct tls_memory *, const struct tls_place *, gnutls_datum_t takes, uint64_t now_us);
/* Forgets the ticket too. */
void tls_memory_set_broken(struct tls_memory *, const struct tls_place *, uint64_t until_us);
bool tls_memory_is_broken(struct tls_memory *, const struct tls_place *, uint64_t now_us);
void tls_memory_forget_ticket(struct tls_memory *, const struct tls_place *);

#endif
