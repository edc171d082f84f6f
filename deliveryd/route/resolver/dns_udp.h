/*
 * dns_udp - queries over UDP from many ports
 *
 * Purpose    Each query gets a socket of its own, so its own random port, as long as fewer than
 * DNS_UDP_SOCKETS_MAX are open; beyond that queries share sockets picked at random. Sockets are connected:
 * the kernel drops what comes from elsewhere, and tells when nobody listens there. Ids are random and unique
 * within a socket. Follows    RFC 5452. Threads    The queue's loop only.
 */
#ifndef ROUTE_DNS_UDP_H
#define ROUTE_DNS_UDP_H

#include "base/clock.h"
#include "base/loop.h"
#include "base/metrics.h"
#include "route/resolver/dns_packet.h"

#define DNS_UDP_SOCKETS_MAX 256

struct dns_udp;
struct dns_udp *dns_udp_new(struct loop *, struct rnd *, metric *n_foreign /* packets nobody waits for */);
void dns_udp_free(struct dns_udp **); /* no exchange is open any more */
unsigned dns_udp_sockets(const struct dns_udp *);

struct dns_udp_socket;
struct dns_udp_exchange {
	/* Set by the owner. Both may stop this exchange, and no other. */
	void (*on_packet)(
	        void *ctx, const uint8_t *raw, size_t len); /* from the right address, with the right id */
	void (*on_error)(void *ctx, int error);             /* nobody listens there; stopped already */
	void *ctx;
	/* dns_udp's */
	struct dns_udp_socket *socket; /* NULL = stopped */
	struct dns_udp_exchange *prev, *next;
	uint16_t id;
};
/* False: could not be sent, err says why; the exchange is stopped. */
bool dns_udp_start(struct dns_udp *, struct dns_udp_exchange *, const struct addr *server,
        const struct dns_question *, bool edns, struct error *);
void dns_udp_stop(struct dns_udp_exchange *); /* stopped already is fine */

#endif
