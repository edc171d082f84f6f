/*
 * dns_servers - the configured servers and what we know of their health
 *
 * Purpose    A lookup asks them in the order configured; one that was silent three times in a row goes last
 * for 30 s. One that does not know EDNS is asked without for a while. Ownership  Counted: a lookup finishes
 * with the list it began with when a reload brings another. Threads    The queue's loop only.
 */
#ifndef ROUTE_DNS_SERVERS_H
#define ROUTE_DNS_SERVERS_H

#include "route/resolver/resolver.h"

#define DNS_SERVERS_MAX 16

enum dns_validates { DNS_VALIDATES_UNKNOWN, DNS_VALIDATES, DNS_VALIDATES_NOT }; /* the last probe */

struct dns_server {
	struct addr addr;
	bool trust_ad;
	char text[ADDR_TEXT_SIZE]; /* for reasons: "127.0.0.1:53" */
	unsigned n_silent;         /* in a row */
	uint64_t last_until_us;    /* goes last until then */
	uint64_t plain_until_us;   /* asked without EDNS until then */
	enum dns_validates validates;
};

struct dns_servers {
	unsigned refs, n;
	struct dns_server servers[DNS_SERVERS_MAX];
};

/* At most DNS_SERVERS_MAX are used; port 0 = 53. n may be 0: every lookup fails. */
struct dns_servers *dns_servers_new(const struct resolver_server *, unsigned n);
bool dns_servers_same(const struct dns_servers *, const struct resolver_server *, unsigned n);
struct dns_servers *dns_servers_ref(struct dns_servers *);
void dns_servers_unref(struct dns_servers **);
/* Fills in indexes, the healthy ones first; returns their number. */
unsigned dns_servers_order(const struct dns_servers *, uint64_t now_us, uint8_t order[DNS_SERVERS_MAX]);
void dns_server_was_silent(struct dns_server *, uint64_t now_us);
void dns_server_answered(struct dns_server *);
void dns_server_knows_no_edns(struct dns_server *, uint64_t now_us);
bool dns_server_edns(const struct dns_server *, uint64_t now_us);

#endif
