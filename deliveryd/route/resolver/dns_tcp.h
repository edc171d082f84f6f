/*
 * dns_tcp - queries over TCP, for answers that UDP cut short
 *
 * Purpose    One connection per query, at most DNS_TCP_CONNECTIONS_MAX at once; further ones wait in line.
 *            The owner's timer bounds the whole exchange.
 * Follows    RFC 1035 4.2.2, 7766.
 * Threads    The queue's loop only.
 */
#ifndef ROUTE_DNS_TCP_H
#define ROUTE_DNS_TCP_H

#include "base/loop.h"
#include "route/resolver/dns_packet.h"

#define DNS_TCP_CONNECTIONS_MAX 128

struct dns_tcp;
struct dns_tcp *dns_tcp_new(struct loop *);
void dns_tcp_free(struct dns_tcp **); /* no exchange is open any more */

struct dns_tcp_exchange;
struct dns_tcp_owner {
	void (*on_packet)(void *ctx, const uint8_t *raw, size_t len); /* may be several, until stopped */
	void (*on_error)(void *ctx, const char *why); /* e.g. "Connection refused"; still to be stopped */
};
/* Callbacks never from inside. */
struct dns_tcp_exchange *dns_tcp_start(struct dns_tcp *, const struct addr *server,
        const struct dns_question *, uint16_t id, bool edns, const struct dns_tcp_owner *, void *ctx);
void dns_tcp_stop(struct dns_tcp_exchange **); /* also from inside a callback */

#endif
