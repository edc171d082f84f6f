/*
 * dns_wire - builds DNS packets byte by byte, valid or not
 *
 * Purpose    What a test's server answers. Nothing is checked: lies in counts, lengths and pointers are the
 * point.
 */
#ifndef T_DNS_WIRE_H
#define T_DNS_WIRE_H

#include <stddef.h>
#include <stdint.h>

enum {
	DNS_WIRE_QR = 0x8000,
	DNS_WIRE_AA = 0x0400,
	DNS_WIRE_TC = 0x0200,
	DNS_WIRE_RD = 0x0100,
	DNS_WIRE_RA = 0x0080,
	DNS_WIRE_AD = 0x0020
};

struct dns_wire {
	uint8_t bytes[65535];
	size_t len;
};

void wire_u8(struct dns_wire *, unsigned);
void wire_u16(struct dns_wire *, unsigned);
void wire_u32(struct dns_wire *, uint32_t);
void wire_bytes(struct dns_wire *, const void *, size_t);
void wire_name(struct dns_wire *, const char *); /* "a.example", "" = root; \DDD is one byte of a label */
void wire_pointer(struct dns_wire *, unsigned to);
/* Starts a new packet; the counts are raised by the functions below. */
void wire_header(struct dns_wire *, unsigned id, unsigned flags_and_rcode);
void wire_count(struct dns_wire *, unsigned section /* 0 question .. 3 additional */, int by);
void wire_question(struct dns_wire *, const char *name, unsigned type);
/* Owner, fixed part and rdata; section 1 answer, 2 authority, 3 additional */
void wire_rr(struct dns_wire *, unsigned section, const char *owner, unsigned type, uint32_t ttl,
        const void *rdata, size_t len);
void wire_a(struct dns_wire *, const char *owner, uint32_t ttl, const char *ip); /* A or AAAA */
void wire_mx(struct dns_wire *, const char *owner, uint32_t ttl, unsigned preference, const char *host);
void wire_cname(struct dns_wire *, const char *owner, uint32_t ttl, const char *target);
void wire_soa(struct dns_wire *, const char *owner, uint32_t ttl, uint32_t minimum);
void wire_ns(struct dns_wire *, const char *owner, uint32_t ttl, const char *host); /* authority */
void wire_opt(struct dns_wire *, unsigned size, unsigned extended_rcode);

#endif
