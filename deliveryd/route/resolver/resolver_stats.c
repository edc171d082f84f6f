/* resolver_stats - what operators ask the resolver: forget a name, tell how it stands */
#include "config.h"
#include <stdio.h>
#include <string.h>
#include "base/mem.h"
#include "route/resolver/resolver_in.h"

/* --- forgetting --- */

/* A look-up under way is told to who asked, but what it brings is not kept. */
static unsigned forget(struct resolver *r, const char *name, enum dns_type type)
{
	struct dns_question q;
	struct dns_key key;
	struct flight *f;

	if (!dns_question_set(&q, name, type, NULL))
		return 0;
	dns_key_set(&key, &q);
	HASH_FIND(hh, r->flights, key.bytes, key.len, f);
	if (f)
		f->generation = r->generation - 1;
	return dns_cache_drop(r->cache, &q);
}

/* Whose TLSA records are to go: all in one pass over the cache */
struct host_names {
	struct dns_name *names; /* owns */
	unsigned n;
};

static void add_host(struct host_names *h, const char *name)
{
	struct dns_question q;

	if (!dns_question_set(&q, name, DNS_TLSA, NULL))
		return;
	h->names = mem_array(h->names, h->n + 1, sizeof(*h->names));
	h->names[h->n++] = q.name;
}

static unsigned forget_tlsa(struct resolver *r, struct host_names *h)
{
	struct flight *f, *next;

	HASH_ITER (hh, r->flights, f, next)
		if (dns_key_is_tlsa_of(f->key.bytes, f->key.len, h->names, h->n))
			f->generation = r->generation - 1;
	return dns_cache_drop_tlsa(r->cache, h->names, h->n);
}

/* TLSA records may stand behind CNAMEs as well. */
static unsigned forget_addresses(
        struct resolver *r, const char *name, enum dns_type type, struct host_names *h)
{
	struct dns_question q;
	struct dns_result *known = NULL;
	uint64_t expires_us;

	if (dns_question_set(&q, name, type, NULL))
		known = dns_cache_find(r->cache, &q, loop_now_us(r->loop), &expires_us);
	if (known && known->answer.name && strcmp(known->answer.name, q.text) != 0)
		add_host(h, known->answer.name);
	return forget(r, name, type);
}

static unsigned forget_host(struct resolver *r, const char *name, struct host_names *h)
{
	add_host(h, name);
	return forget_addresses(r, name, DNS_A, h) + forget_addresses(r, name, DNS_AAAA, h);
}

unsigned resolver_forget(struct resolver *r, const char *name)
{
	struct host_names hosts = {0};
	struct dns_question q;
	struct dns_result *mx = NULL;
	uint64_t expires_us;
	unsigned n = 0;

	if (dns_question_set(&q, name, DNS_MX, NULL))
		mx = dns_cache_find(r->cache, &q, loop_now_us(r->loop), &expires_us);
	if (mx)
		dns_result_ref(mx);
	for (unsigned i = 0; mx && i < mx->answer.n; i++)
		n += forget_host(r, mx->answer.records[i].mx.host, &hosts);
	n += forget(r, name, DNS_MX) + forget(r, name, DNS_TXT) + forget(r, name, DNS_TLSA) +
	     forget(r, name, DNS_CNAME) + forget(r, name, DNS_NS) + forget(r, name, DNS_PTR) +
	     forget_host(r, name, &hosts);
	n += forget_tlsa(r, &hosts);
	mem_free(&hosts.names);
	dns_result_unref(&mx);
	metric_set(r->cached, dns_cache_entries(r->cache));
	return n;
}

/* --- telling --- */

static void print_server(const struct resolver *r, const struct dns_server *s, struct json_out *j)
{
	uint64_t now = loop_now_us(r->loop);

	jw_object(j, NULL);
	jw_str(j, "address", s->text);
	jw_str(j, "state", s->last_until_us > now ? "silent" : s->n_silent ? "shaky" : "good");
	jw_uint(j, "unanswered", s->n_silent);
	jw_bool(j, "edns", dns_server_edns(s, now));
	jw_bool(j, "trust_ad", s->trust_ad);
	if (s->validates == DNS_VALIDATES_UNKNOWN)
		jw_str(j, "validates", NULL);
	else
		jw_bool(j, "validates", s->validates == DNS_VALIDATES);
	jw_end_object(j);
}

void resolver_print_stats(struct resolver *r, struct json_out *j)
{
	jw_array(j, "servers");
	for (unsigned i = 0; i < r->servers->n; i++)
		print_server(r, &r->servers->servers[i], j);
	jw_end_array(j);
	jw_uint(j, "cache_entries", dns_cache_entries(r->cache));
	jw_uint(j, "cache_bytes", dns_cache_bytes(r->cache));
	jw_uint(j, "cache_hits", metric_get(r->n_hits));
	jw_uint(j, "cache_misses", metric_get(r->n_misses));
	jw_uint(j, "lookups_answered", metric_get(r->n_answered));
	jw_uint(j, "lookups_failed", metric_get(r->n_failed));
	jw_uint(j, "in_flight", r->n_in_flight);
	jw_uint(j, "waiting", r->line.n);
	jw_uint(j, "queries_udp", metric_get(r->env.n_udp));
	jw_uint(j, "queries_tcp", metric_get(r->env.n_tcp));
	jw_uint(j, "timeouts", metric_get(r->env.n_silent));
	jw_uint(j, "ignored", metric_get(r->env.n_foreign));
	jw_uint(j, "bad_answers", metric_get(r->env.n_bad));
	jw_object(j, "rate_limit");
	jw_bool(j, "enabled", r->pace.enabled);
	jw_uint(j, "immediate", metric_get(r->n_immediate));
	jw_uint(j, "queued", metric_get(r->n_queued));
	jw_uint(j, "drained", metric_get(r->n_drained));
	jw_uint(j, "overflow", metric_get(r->n_overflow));
	jw_uint(j, "waiting", r->paced.n);
	jw_end_object(j);
}
