/*
 * next_hop - reads the name of a next hop: a domain, an address literal, a gateway, a list of routes
 *
 * Purpose    NEXT_HOP_DOMAIN: "example.com", "[192.0.2.1]", "[IPv6:2001:db8::1]" (RFC 5321 4.1.3).
 *            NEXT_HOP_GATEWAY: HOST, HOST:PORT, ADDR, ADDR:PORT, [v6], [v6]:PORT; a bare IPv6 address has no port; /path
 *            is a Unix socket. NEXT_HOP_ROUTES: what routes_expand() prints.
 * Threads    Pure functions.
 */
#ifndef ROUTE_NEXT_HOP_H
#define ROUTE_NEXT_HOP_H

#include "base/error.h"
#include "base/names.h"
#include "conf/route_item.h"
#include "route/route.h"

struct next_hop_target {
	bool literal;               /* addr stands; else host is to be looked up */
	struct addr addr;           /* with port */
	char host[DOMAIN_MAX + 64]; /* without port; for a literal its text, for events */
	uint16_t port;
	bool of_domain;    /* a recipient's domain; else named by the operator */
	bool unix_socket;  /* host is its path */
	bool only_address; /* no MX look-up */
	enum route_method method;
	uint16_t pref;  /* among several */
	uint32_t ttl_s; /* at most; ROUTE_TTL_NONE */
};
/* How many targets it has: one, but for NEXT_HOP_ROUTES. 0 = not to be read */
unsigned next_hop_count(const struct next_hop *);
bool next_hop_parse(const struct next_hop *, unsigned i, struct next_hop_target *, struct error *);

#endif
