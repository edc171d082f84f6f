/*
 * dns - look-ups as an interface: the resolver, or a test's table
 *
 * Threads    The queue's loop only.
 * Order      done() runs exactly once, never from inside dns_lookup(), not after dns_cancel().
 */
#ifndef ROUTE_DNS_H
#define ROUTE_DNS_H

#include <stdbool.h>
#include <stdint.h>
#include "base/addr.h"

enum dns_type {
	DNS_A = 1,
	DNS_MX = 15,
	DNS_AAAA = 28,
	DNS_TLSA = 52,
	DNS_CNAME = 5,
	DNS_NS = 2,
	DNS_PTR = 12,
	DNS_TXT = 16
};
enum dns_outcome {
	DNS_ANSWER, /* records of the asked type, n > 0 */
	DNS_NODATA, /* the name exists, no such record */
	DNS_NXDOMAIN,
	DNS_FAILED, /* SERVFAIL, silence, malformed, CNAME loop, ...: transient; `why` says */
};
struct dns_record {
	union {
		struct addr addr; /* A, AAAA */
		struct {
			uint16_t preference;
			const char *host;
		} mx; /* normal form; "" = null MX's "." */
		struct {
			const uint8_t *data;
			uint16_t len;
		} raw; /* TLSA, others: rdata */
	};
};
struct dns_answer {
	enum dns_outcome outcome;
	const struct dns_record *records; /* at most 100 */
	unsigned n;
	const char *name; /* canonical name after CNAMEs */
	bool authentic;   /* AD, from a server we trust for it */
	uint32_t ttl_s;   /* clamped; also of negative answers */
	const char *why;  /* "SERVFAIL from 127.0.0.1:53", "no answer in 20 s": for events */
};
typedef void dns_done(void *ctx, const struct dns_answer *borrowed);

struct dns_query; /* handle, valid until done() or dns_cancel() */
struct dns {
	struct dns_query *(*lookup)(struct dns *, const char *name, enum dns_type, dns_done *, void *ctx);
	void (*cancel)(struct dns *, struct dns_query **);
};
static inline struct dns_query *dns_lookup(
        struct dns *d, const char *name, enum dns_type t, dns_done *done, void *ctx)
{
	return d->lookup(d, name, t, done, ctx);
}
static inline void dns_cancel(struct dns *d, struct dns_query **q)
{
	d->cancel(d, q);
}

#endif
