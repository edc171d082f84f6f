#include "config.h"
#include "t/lib/resolver_world.h"

#include <sched.h>

static void show(void *ctx, const struct dns_request *q, struct dns_wire *out)
{
	struct world_server *s = ctx;
	struct world *w = s->w;

	w->last[s->index] = *q;
	if (!q->tcp && w->n_asked < array_len(w->ports)) {
		w->ports[w->n_asked] = q->from.port;
		w->ids[w->n_asked++] = (uint16_t)q->id;
	}
	w->scripts[s->index](w, q, out);
}

void world_setup(struct world *w, unsigned n, dns_server_answer *const *scripts)
{
	struct resolver_server servers[3];

	memset(w, 0, sizeof(*w));
	fake_clock_init(&w->clock, 1700000000 * SECOND_US);
	w->clock.mono = 1000 * SECOND_US;
	w->loop = loop_new("queue", &w->clock.clock);
	w->metrics = metrics_new();
	for (unsigned i = 0; i < n; i++) {
		w->contexts[i] = (struct world_server){w, i};
		w->scripts[i] = scripts[i];
		w->servers[i] = dns_server_fake_new(
		        w->loop, i == 1 ? "127.0.0.2" : "127.0.0.1", show, &w->contexts[i]);
		servers[i] = (struct resolver_server){.addr = dns_server_fake_addr(w->servers[i])};
	}
	w->resolver = resolver_new(w->loop, &rnd_system, w->metrics, servers, n);
}

void world_teardown(struct world *w)
{
	resolver_free(&w->resolver);
	for (unsigned i = 0; i < array_len(w->servers); i++)
		dns_server_fake_free(&w->servers[i]);
	metrics_free(&w->metrics);
	loop_free(&w->loop);
}

void answer_keep(void *ctx, const struct dns_answer *a)
{
	struct answer *out = ctx;

	assert_false(out->done); /* once */
	out->done = true;
	out->outcome = a->outcome;
	out->n = a->n;
	out->ttl_s = a->ttl_s;
	out->authentic = a->authentic;
	assert_non_null(a->name);
	assert_non_null(a->why);
	snprintf(out->name, sizeof(out->name), "%s", a->name);
	snprintf(out->why, sizeof(out->why), "%s", a->why);
	if (a->n && (a->records[0].addr.family == AF_INET || a->records[0].addr.family == AF_INET6))
		out->addr = a->records[0].addr;
}

struct dns *world_dns(struct world *w)
{
	return resolver_dns(w->resolver);
}

void world_settle(struct world *w)
{
	for (int idle = 0; idle < 20; idle += sched_yield() == 0)
		if (loop_step(w->loop))
			idle = -1;
}

void world_advance(struct world *w, uint64_t ms)
{
	fake_clock_advance(&w->clock, ms * 1000);
	world_settle(w);
}

void world_ask(struct world *w, const char *name, enum dns_type type, struct answer *a)
{
	memset(a, 0, sizeof(*a));
	assert_non_null(dns_lookup(world_dns(w), name, type, answer_keep, a));
	assert_false(a->done);
	world_settle(w);
}

uint64_t world_counter(struct world *w, const char *name, const char *labels)
{
	return metric_get(metrics_counter(w->metrics, name, labels, ""));
}

void answer_begin(const struct dns_request *q, struct dns_wire *out, unsigned flags)
{
	wire_header(out, q->id, ANSWER_FLAGS | flags);
	wire_question(out, q->name, q->type);
}

void answer_good(void *ctx, const struct dns_request *q, struct dns_wire *out)
{
	(void)ctx;
	answer_begin(q, out, DNS_WIRE_AD);
	wire_a(out, q->name, 300, "192.0.2.1");
	if (q->edns)
		wire_opt(out, 1232, 0);
}

void answer_silent(void *ctx, const struct dns_request *q, struct dns_wire *out)
{
	(void)ctx;
	(void)q;
	(void)out;
}

void answer_servfail(void *ctx, const struct dns_request *q, struct dns_wire *out)
{
	(void)ctx;
	answer_begin(q, out, 2);
}

void answer_nxdomain(void *ctx, const struct dns_request *q, struct dns_wire *out)
{
	(void)ctx;
	answer_begin(q, out, 3);
	wire_soa(out, "test", 600, 120);
}

void answer_garbage(void *ctx, const struct dns_request *q, struct dns_wire *out)
{
	(void)ctx;
	answer_begin(q, out, 0);
	wire_bytes(out, "\xc0\xff", 2);
	wire_count(out, 1, 1);
}

void answer_formerr(void *ctx, const struct dns_request *q, struct dns_wire *out)
{
	(void)ctx;
	answer_begin(q, out, 1);
}

void answer_cut_on_udp(void *ctx, const struct dns_request *q, struct dns_wire *out)
{
	(void)ctx;
	answer_begin(q, out, q->tcp ? 0 : DNS_WIRE_TC);
	for (int i = 0; q->tcp && i < 90; i++)
		wire_a(out, q->name, 300, "192.0.2.1");
}

void answer_loop_link(void *ctx, const struct dns_request *q, struct dns_wire *out)
{
	(void)ctx;
	answer_begin(q, out, 0);
	wire_cname(out, q->name, 60, strcmp(q->name, "a.test") == 0 ? "b.test" : "a.test");
}
