/*
 * dns_hash - uthash over names: the key is foreign, so the hash is keyed (SipHash)
 */
#ifndef ROUTE_DNS_HASH_H
#define ROUTE_DNS_HASH_H

#include <stdlib.h>
#include <string.h>
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

/* TLSA records of one of these hosts, at whatever port: "_25._tcp." and the name */
static inline bool dns_key_is_tlsa_of(
        const uint8_t *key, unsigned len, const struct dns_name *hosts, unsigned n)
{
	static const char tcp[] = "\4_tcp";
	unsigned at;

	if (len < 3 || key[0] != (unsigned)DNS_TLSA >> 8 || key[1] != (uint8_t)DNS_TLSA)
		return false;
	at = 3u + key[2]; /* behind the port */
	if (len < at + sizeof(tcp) - 1 || memcmp(key + at, tcp, sizeof(tcp) - 1) != 0)
		return false;
	at += (unsigned)sizeof(tcp) - 1;
	for (unsigned i = 0; i < n; i++)
		if (len - at == hosts[i].len && memcmp(key + at, hosts[i].wire, hosts[i].len) == 0)
			return true;
	return false;
}

#endif
