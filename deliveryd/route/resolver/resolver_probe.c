/*
 * resolver_probe - does a server that is trusted for AD validate at all?
 *
 * The root is signed: a validator's answer to ". NS" has the AD bit. One that has not is told once, and tried again; DANE
 * stays what it was, since each answer's own AD bit decides.
 */
#include "config.h"
#include <string.h>
#include "base/log.h"
#include "base/mem.h"
#include "route/resolver/resolver_in.h"

#define AGAIN_US (600 * SECOND_US)

static void tell(struct dns_server *s, bool validates, const struct dns_answer *a)
{
	if (validates && s->validates == DNS_VALIDATES_NOT)
		log_notice("DNS server %s: validates DNSSEC again", s->text);
	if (validates || s->validates == DNS_VALIDATES_NOT)
		return;
	if (a->outcome == DNS_FAILED)
		log_warning("DNS server %s: the probe for DNSSEC (. NS) failed: %s", s->text, a->why);
	else
		log_warning("DNS server %s: its answer to . NS has no AD bit: it does not validate DNSSEC, "
		            "so DANE "
		            "protects nothing that is resolved through it",
		        s->text);
}

static void count_failed(struct resolver *r)
{
	unsigned failed = 0;

	for (unsigned i = 0; i < r->servers->n; i++)
		failed += r->servers->servers[i].validates == DNS_VALIDATES_NOT;
	metric_set(r->not_validating, failed);
	if (failed && !timer_armed(&r->probe_timer))
		timer_arm_in(r->loop, &r->probe_timer, AGAIN_US);
}

static void probed(void *ctx, struct dns_result *result)
{
	struct probe *p = ctx;
	struct resolver *r = p->resolver;
	struct dns_server *s = &r->servers->servers[p->server];
	bool validates = result->answer.outcome == DNS_ANSWER && result->answer.authentic;

	p->lookup = NULL;
	tell(s, validates, &result->answer);
	s->validates = validates ? DNS_VALIDATES : DNS_VALIDATES_NOT;
	if (!validates)
		metric_add(r->n_probes_failed, 1);
	dns_result_unref(&result);
	count_failed(r);
}

static void probe_one(struct resolver *r, unsigned i)
{
	const struct dns_server *s = &r->servers->servers[i];
	struct resolver_server alone = {.addr = s->addr, .trust_ad = true};
	struct dns_servers *list = dns_servers_new(&alone, 1);
	struct dns_question root;

	if (dns_question_set(&root, ".", DNS_NS, NULL)) {
		r->probes[i] = (struct probe){.resolver = r, .server = i};
		r->probes[i].lookup = dns_lookup_start(&r->env, list, &root, probed, &r->probes[i]);
	}
	dns_servers_unref(&list);
}

static void cancel_all(struct resolver *r)
{
	for (unsigned i = 0; i < DNS_SERVERS_MAX; i++)
		dns_lookup_cancel(&r->probes[i].lookup);
}

void resolver_probe(struct resolver *r)
{
	unsigned trusted = 0;

	cancel_all(r);
	timer_cancel(r->loop, &r->probe_timer);
	for (unsigned i = 0; i < r->servers->n; i++) {
		if (!r->servers->servers[i].trust_ad)
			continue;
		trusted++;
		probe_one(r, i);
	}
	if (!trusted && (!r->probing || r->servers->n))
		log_notice("no DNS server is trusted for DNSSEC (none on loopback, none with trust_ad in "
		           "dns.servers): "
		           "DANE has nothing to go by");
	r->probing = true;
	count_failed(r);
}

static void again(void *ctx)
{
	struct resolver *r = ctx;

	for (unsigned i = 0; i < r->servers->n; i++)
		if (r->servers->servers[i].validates == DNS_VALIDATES_NOT && !r->probes[i].lookup)
			probe_one(r, i);
}

void resolver_probe_init(struct resolver *r)
{
	timer_init(&r->probe_timer, again, r);
}

void resolver_probe_stop(struct resolver *r)
{
	cancel_all(r);
	timer_cancel(r->loop, &r->probe_timer);
}
