/*
 * tls_creds - what a TLS client needs by configuration: trust, own certificate, algorithms
 *
 * Purpose    One set for each different demand (tls_ca, tls_certificate, tls_key, tls_priority, tls_min_version, and
 *            whether anything is verified), made when it is first needed and kept. Files are read by a worker thread:
 *            the loop does not wait for the disk, nor for the parsing of all the authorities of the system. After
 *            tls_creds_reload() files are read anew; until that has succeeded the old set serves.
 * Ownership  Sets are counted; the cache belongs to the loop it was made for.
 * Threads    The loop's.
 */
#ifndef SESSION_TLS_CREDS_H
#define SESSION_TLS_CREDS_H

#include <gnutls/gnutls.h>
#include "base/error.h"
#include "base/loop.h"
#include "conf/conf.h"

struct tls_creds; /* immutable */
struct tls_creds_cache;

/* threads 0: files are read at once (tests) */
struct tls_creds_cache *tls_creds_cache_new(struct loop *, unsigned threads);
void tls_creds_cache_free(struct tls_creds_cache **); /* nobody waits any more */
void tls_creds_reload(struct tls_creds_cache *);

/* In whoever waits; zeroed before use. */
struct tls_creds_wait {
	struct tls_creds_wait *next, **link;
	void (*ready)(void *ctx, struct tls_creds *takes_ref /* NULL: why */, const struct error *why);
	void *ctx;
};
/* A reference; NULL: wait->ready() comes later, once, from the loop, unless cancelled. */
struct tls_creds *tls_creds_get(
        struct tls_creds_cache *, const struct conn_options *, bool verify, struct tls_creds_wait *);
void tls_creds_cancel(struct tls_creds_wait *);
void tls_creds_unref(struct tls_creds **);
gnutls_certificate_credentials_t tls_creds_certificates(const struct tls_creds *);
gnutls_priority_t tls_creds_priority(const struct tls_creds *);

#endif
