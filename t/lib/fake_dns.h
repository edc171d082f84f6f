/*
 * fake_dns - a resolver that answers from a table
 *
 * Purpose    Stands for the resolver in tests: records, negative answers, failures, delays, silence. A name
 * with any record exists: other types are NODATA. A name without is NXDOMAIN. Order      As struct dns
 * promises: done() once, never from inside the look-up, not after cancel. Threads    The loop's.
 */
#ifndef T_FAKE_DNS_H
#define T_FAKE_DNS_H

#include "base/loop.h"
#include "route/resolver/dns.h"

struct fake_dns;
struct fake_dns *fake_dns_new(struct loop *);
struct dns *fake_dns_dns(struct fake_dns *);
void fake_dns_free(struct fake_dns **); /* look-ups still out are dropped */

void fake_dns_mx(
        struct fake_dns *, const char *name, unsigned preference, const char *host /* "" = null MX */);
void fake_dns_addr(struct fake_dns *, const char *name, const char *ip); /* A or AAAA, as it reads */
void fake_dns_raw(struct fake_dns *, const char *name, enum dns_type, const void *rdata, size_t len);
/* An alias; each name on the way has to be authentic for the answer to be. */
void fake_dns_cname(struct fake_dns *, const char *name, const char *target);
/* Answers this (name, type) so, whatever records stand: DNS_NODATA, DNS_NXDOMAIN, DNS_FAILED (why may be
 * NULL). type 0 = all types. DNS_ANSWER takes it back. */
void fake_dns_outcome(struct fake_dns *, const char *name, unsigned type, enum dns_outcome, const char *why);
void fake_dns_delay(struct fake_dns *, const char *name, uint64_t us);  /* UINT64_MAX = never answers */
void fake_dns_ttl(struct fake_dns *, const char *name, uint32_t ttl_s); /* 300 unless told */
void fake_dns_authentic(struct fake_dns *, const char *name, bool);
void fake_dns_forget(struct fake_dns *, const char *name); /* as if never mentioned */
unsigned fake_dns_asked(const struct fake_dns *, const char *name, unsigned type /* 0 = all */);
unsigned fake_dns_open(const struct fake_dns *); /* look-ups not yet answered or cancelled */

/*
 * One line of a script; false = not one of ours or malformed (err says which).
 *   mx NAME PREF HOST | mx NAME null | addr NAME IP | nodata NAME [mx|a|aaaa] | nxdomain NAME [TYPE]
 *   servfail NAME [TYPE] | silent NAME | delay NAME MS | ttl NAME S | answer NAME | forget NAME
 *   cname NAME TARGET | secure NAME | tlsa NAME USAGE SELECTOR MATCHING HEX
 */
bool fake_dns_script(struct fake_dns *, const char *line, struct error *);

#endif
