/*
 * resolver_world - a resolver against scripted servers on loopback, under a fake clock
 *
 * Purpose    What the resolver's tests start from: up to three servers with a script each, what they were
 *            asked, and scripts that many tests need (answer_x).
 * Ownership  The world is the caller's; it must not be moved.
 */
#ifndef T_RESOLVER_WORLD_H
#define T_RESOLVER_WORLD_H

#include "base/metrics.h"
#include "route/resolver/resolver_in.h"
#include "t/lib/dns_server.h"
#include "t/lib/test.h"

#define ANSWER_FLAGS (DNS_WIRE_QR | DNS_WIRE_RD | DNS_WIRE_RA)

struct answer { /* a copy */
	bool done;
	enum dns_outcome outcome;
	unsigned n;
	uint32_t ttl_s;
	bool authentic;
	char name[256], why[256], first[256];
	struct addr addr;
};

struct world {
	struct fake_clock clock;
	struct loop *loop;
	struct metrics *metrics;
	struct resolver *resolver;
	struct dns_server_fake *servers[3];
	struct world_server { /* what a script is told with */
		struct world *w;
		unsigned index;
	} contexts[3];
	dns_server_answer *scripts[3];
	struct dns_request last[3]; /* what each was asked last */
	uint16_t ports[4096];       /* of all queries, in order */
	uint16_t ids[4096];
	unsigned n_asked;
	void *extra;
};

void world_setup(struct world *, unsigned n, dns_server_answer *const *scripts);
void world_teardown(struct world *);
struct dns *world_dns(struct world *);
/* Until nothing has happened for a while: what is on its way over loopback has then arrived. */
void world_settle(struct world *);
void world_advance(struct world *, uint64_t ms);
/* Asks and settles; `a` is filled when the answer comes, which must not be from inside. */
void world_ask(struct world *, const char *name, enum dns_type, struct answer *a);
uint64_t world_counter(struct world *, const char *name, const char *labels);

void answer_keep(void *ctx /* struct answer */, const struct dns_answer *); /* asserts that it comes once */

/* Scripts; answer_begin() writes header and question, the rest is the script's. */
void answer_begin(const struct dns_request *, struct dns_wire *out, unsigned flags);
dns_server_answer answer_good, answer_silent, answer_servfail, answer_nxdomain, answer_garbage,
        answer_formerr;
dns_server_answer answer_cut_on_udp, answer_loop_link;

#endif
