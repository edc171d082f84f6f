/*
 * dns_hash - uthash over names: the key is foreign, so the hash is keyed (SipHash)
 */
#ifndef ROUTE_DNS_HASH_H
#define ROUTE_DNS_HASH_H

#include <stdlib.h>
#include "base/clock.h"
#include "base/mem.h"

#define uthash_malloc(size) mem_alloc(size)
#define uthash_fatal(text) abort()
#define HASH_FUNCTION(key, len, hash) (hash) = (unsigned)hash_bytes(key, len)
#include <uthash.h>

#include "route/resolver/dns_packet.h"

#define DNS_KEY_MAX (2 + DNS_NAME_MAX)

struct dns_key {
	uint8_t bytes[DNS_KEY_MAX]; /* type, then the name in wire form */
	unsigned len;
};

static inline void dns_key_set(struct dns_key *k, const struct dns_question *q)
{
	k->bytes[0] = (uint8_t)((unsigned)q->type >> 8);
	k->bytes[1] = (uint8_t)q->type;
	memcpy(k->bytes + 2, q->name.wire, q->name.len);
	k->len = 2u + q->name.len;
}

#endif
