/*
 * route_dane - the TLSA records of a host (RFC 7672 2.1, 2.2)
 *
 * They are asked for only where the host's address came signed: name servers of zones that are not sometimes choke on
 * the question. A host name that is an alias has two places for them: behind the CNAMEs, if all of them came signed, and
 * its own name. Where only the alias itself is signed there is its own name only, and a question of its own has to
 * tell that it is. What cannot be told makes the host unusable: an attacker may be who prevents it.
 */
#include "config.h"
#include <string.h>

#include "base/mem.h"
#include "base/str.h"
#include "route/router_in.h"

static void ask_next(struct route_host *);

static void look_up(struct route_host *h, const char *name, enum dns_type type, dns_done *done)
{
	struct route_query *q = h->part->query;

	q->n_pending++;
	h->dane.pending = dns_lookup(q->router->dns, name, type, done, h);
}

static void fail(struct route_host *h, const char *what, const char *name, const char *why)
{
	metric_add(h->part->query->router->dane_failed, 1);
	h->dane.why = mem_printf("%s of %s: %s", what, name, why);
}

/* What a certificate may be for, besides the host: the domain, if it is signed that the host is its MX. */
static struct tlsa *make(struct route_host *h, const char *base, const struct dns_answer *a)
{
	const struct route_part *p = h->part;
	const char *names[4] = {NULL};
	struct tlsa_rdata rdata[100];
	unsigned n_names = 0, n;

	if (p->mx_secure && !p->implicit) {
		names[n_names++] = p->target.host;
		if (p->mx_canonical)
			names[n_names++] = p->mx_canonical;
	}
	for (n = 0; n < a->n && n < array_len(rdata); n++)
		rdata[n] = (struct tlsa_rdata){a->records[n].raw.data, a->records[n].raw.len};
	return tlsa_new(base, names, p->implicit || p->mx_secure, rdata, n);
}

static void found_records(struct route_host *h, const char *base, const struct dns_answer *a)
{
	struct router *r = h->part->query->router;

	h->dane.tlsa = make(h, base, a);
	metric_add(h->dane.tlsa->n_records ? r->dane_usable : r->dane_unusable, 1);
}

static void on_tlsa(void *ctx, const struct dns_answer *a)
{
	struct route_host *h = ctx;
	struct route_query *q = h->part->query;
	const char *base = h->dane.bases[h->dane.base];

	h->dane.pending = NULL;
	if (a->outcome != DNS_FAILED)
		query_use_ttl(q, a->ttl_s);
	if (a->outcome == DNS_FAILED)
		fail(h, "TLSA records", base, a->why);
	else if (a->outcome == DNS_ANSWER && a->authentic)
		found_records(h, base, a);
	else
		h->dane.base++;
	ask_next(h);
	query_answered(q);
}

/* The next place, unless there is an answer */
static void ask_next(struct route_host *h)
{
	struct tlsa_lookup *l = &h->dane;
	char name[300];

	while (!l->tlsa && !l->why && l->base < l->n_bases) {
		if (tlsa_name(l->bases[l->base], h->part->target.port, name, sizeof(name))) {
			look_up(h, name, DNS_TLSA, on_tlsa);
			return;
		}
		l->base++;
	}
}

static void on_alias(void *ctx, const struct dns_answer *a)
{
	struct route_host *h = ctx;
	struct route_query *q = h->part->query;

	h->dane.pending = NULL;
	if (a->outcome == DNS_FAILED)
		fail(h, "CNAME", h->name, a->why);
	else
		query_use_ttl(q, a->ttl_s);
	if (a->outcome == DNS_ANSWER && a->authentic)
		h->dane.bases[h->dane.n_bases++] = h->name;
	ask_next(h);
	query_answered(q);
}

/* The look-up that found addresses, if one did the signed one */
static const struct host_lookup *found(const struct route_host *h)
{
	const struct host_lookup *any = NULL;

	for (unsigned f = 0; f < N_FAMILIES; f++) {
		const struct host_lookup *l = &h->lookups[f];
		if (l->asked && l->outcome == DNS_ANSWER && (!any || l->authentic))
			any = l;
	}
	return any;
}

void host_ask_dane(struct route_host *h)
{
	const struct host_lookup *l = found(h);

	if (h->part->query->dane == DANE_NO || !l)
		return;
	if (l->authentic) {
		if (l->canonical)
			h->dane.bases[h->dane.n_bases++] = l->canonical;
		h->dane.bases[h->dane.n_bases++] = h->name;
		ask_next(h);
	} else if (l->canonical) {
		look_up(h, h->name, DNS_CNAME, on_alias);
	}
}

void host_free_dane(struct route_host *h)
{
	if (h->dane.pending)
		dns_cancel(h->part->query->router->dns, &h->dane.pending);
	tlsa_unref(&h->dane.tlsa);
	mem_free(&h->dane.why);
}
