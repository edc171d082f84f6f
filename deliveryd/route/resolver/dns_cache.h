/*
 * dns_cache - answers by name and type, until their TTL is over
 *
 * Purpose    Bounded in entries and bytes: the one used longest ago goes first.
 * Threads    The queue's loop only.
 */
#ifndef ROUTE_DNS_CACHE_H
#define ROUTE_DNS_CACHE_H

#include <stdint.h>
#include "route/resolver/dns_answer.h"
#include "route/resolver/dns_packet.h"

struct dns_cache;
struct dns_cache *dns_cache_new(unsigned max_entries, size_t max_bytes);
void dns_cache_free(struct dns_cache **);
/* NULL if there is none; else borrowed until the next call. *expires_us: mono. */
struct dns_result *dns_cache_find(
        struct dns_cache *, const struct dns_question *, uint64_t now_us, uint64_t *expires_us);
/* Takes a reference of its own; replaces what stood there. */
void dns_cache_put(struct dns_cache *, const struct dns_question *, struct dns_result *, uint64_t expires_us);
bool dns_cache_drop(struct dns_cache *, const struct dns_question *); /* false: it was not there */
/* TLSA records of hosts, at any port; looks at all entries, once. How many there were */
unsigned dns_cache_drop_tlsa(struct dns_cache *, const struct dns_name *hosts, unsigned n);
void dns_cache_clear(struct dns_cache *);
unsigned dns_cache_entries(const struct dns_cache *);
size_t dns_cache_bytes(const struct dns_cache *);

#endif
