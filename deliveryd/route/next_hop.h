/*
 * next_hop - reads the name of a next hop: a domain, an address literal, a gateway
 *
 * Purpose    NEXT_HOP_DOMAIN: "example.com", "[192.0.2.1]", "[IPv6:2001:db8::1]" (RFC 5321 4.1.3).
 *            NEXT_HOP_GATEWAY: HOST, HOST:PORT, ADDR, ADDR:PORT, [v6], [v6]:PORT; a bare IPv6 address has no
 * port. Threads    Pure function.
 */
#ifndef ROUTE_NEXT_HOP_H
#define ROUTE_NEXT_HOP_H

#include "base/error.h"
#include "base/names.h"
#include "route/route.h"

struct next_hop_target {
	bool literal;               /* addr stands; else host is to be looked up */
	struct addr addr;           /* with port */
	char host[DOMAIN_MAX + 64]; /* without port; for a literal its text, for events */
	uint16_t port;
};
bool next_hop_parse(const struct next_hop *, struct next_hop_target *, struct error *);

#endif
