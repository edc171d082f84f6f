/*
 * tlsa - what a host's zone demands of its certificate
 *
 * Purpose    The TLSA records of one host as its certificate is judged by them: those that can be used, of digests under
 *            the same usage and selector only the strongest, and the names a certificate may be for. Records of which
 *            none can be used still demand TLS.
 * Follows    RFC 6698, 7671 (9: digests), 7672 (3.1: only usages 2 and 3 can be used).
 * Ownership  Counted, immutable.
 * Threads    Any.
 */
#ifndef SESSION_TLSA_H
#define SESSION_TLSA_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum tlsa_usage { TLSA_USAGE_TA = 2, TLSA_USAGE_EE = 3 };
enum tlsa_selector { TLSA_CERTIFICATE, TLSA_KEY, TLSA_N_SELECTORS };
enum tlsa_matching { TLSA_FULL, TLSA_SHA256, TLSA_SHA512, TLSA_N_MATCHINGS };

struct tlsa_record {
	enum tlsa_usage usage;
	enum tlsa_selector selector;
	enum tlsa_matching matching;
	uint16_t len;
	const uint8_t *data;
};
struct tlsa {
	atomic_uint refs;
	const char *base;         /* the name the records were found at, without _25._tcp: for SNI */
	const char *const *names; /* the first is base, the only one without usage 2; NULL at the end */
	const struct tlsa_record *records;
	unsigned n_records; /* 0 = TLS, with whatever certificate */
	bool mx_secure;     /* the host's name came DNSSEC-signed too */
	uint64_t hash;      /* of all this */
};
struct tlsa_rdata { /* as DNS has it */
	const uint8_t *data;
	uint16_t len;
};
/* names: besides base, NULL at the end */
struct tlsa *tlsa_new(
        const char *base, const char *const *names, bool mx_secure, const struct tlsa_rdata *, unsigned n);
struct tlsa *tlsa_ref(struct tlsa *);
void tlsa_unref(struct tlsa **);
/* The same demand; NULL = none. */
bool tlsa_equal(const struct tlsa *, const struct tlsa *);

/* "_25._tcp.mx.example.com"; false = there can be no such name */
bool tlsa_name(const char *host, uint16_t port, char *out, size_t size);
/* The record, if it can be used. Its data is borrowed. */
bool tlsa_record_parse(const uint8_t *rdata, size_t len, struct tlsa_record *);

#endif
