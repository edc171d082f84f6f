/*
 * dns_server - a scripted name server on loopback, on the test's own loop
 *
 * Purpose    UDP and TCP on one port of one loopback address. Each query is shown to the test, which builds
 * the answer with dns_wire, or leaves it empty: silence.
 */
#ifndef T_DNS_SERVER_H
#define T_DNS_SERVER_H

#include <stdbool.h>
#include "base/addr.h"
#include "base/loop.h"
#include "t/lib/dns_wire.h"

struct dns_request {
	unsigned id, type;
	char name[256]; /* lower case, no final dot */
	bool tcp, edns, ad, rd;
	unsigned edns_size;
	struct addr from;
	unsigned n; /* the how manieth, from 1 */
};
struct dns_server_fake;
typedef void dns_server_answer(
        void *ctx, const struct dns_request *, struct dns_wire *out /* empty = silent */);
struct dns_server_fake *dns_server_fake_new(struct loop *, const char *ip, dns_server_answer *, void *ctx);
struct addr dns_server_fake_addr(const struct dns_server_fake *);
unsigned dns_server_fake_asked(const struct dns_server_fake *);
/* From the server's own socket, unasked */
void dns_server_fake_send(struct dns_server_fake *, const struct addr *to, const struct dns_wire *);
void dns_server_fake_send_tcp(struct dns_server_fake *, const struct dns_wire *); /* to who connected last */
/* From now on nobody listens there */
void dns_server_fake_close(struct dns_server_fake *);
void dns_server_fake_close_tcp(struct dns_server_fake *); /* UDP goes on */
void dns_server_fake_free(struct dns_server_fake **);

#endif
