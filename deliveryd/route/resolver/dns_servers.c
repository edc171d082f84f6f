/* dns_servers - see dns_servers.h */
#include "config.h"
#include "route/resolver/dns_servers.h"

#include <string.h>
#include "base/clock.h"
#include "base/mem.h"

#define SILENT_TO_GO_LAST 3
#define GO_LAST_US (30 * SECOND_US)
#define WITHOUT_EDNS_US (600 * SECOND_US)

static struct addr with_port(const struct addr *a)
{
	struct addr out = *a;

	if (out.port == 0)
		out.port = 53;
	return out;
}

struct dns_servers *dns_servers_new(const struct resolver_server *servers, unsigned n)
{
	struct dns_servers *s = mem_zalloc(sizeof(*s));

	s->refs = 1;
	for (s->n = 0; s->n < n && s->n < DNS_SERVERS_MAX; s->n++) {
		struct dns_server *out = &s->servers[s->n];
		out->addr = with_port(&servers[s->n].addr);
		out->trust_ad = servers[s->n].trust_ad || addr_is_loopback(&out->addr);
		addr_print_port(&out->addr, out->text);
	}
	return s;
}

bool dns_servers_same(const struct dns_servers *s, const struct resolver_server *servers, unsigned n)
{
	if (s->n != (n < DNS_SERVERS_MAX ? n : DNS_SERVERS_MAX))
		return false;
	for (unsigned i = 0; i < s->n; i++) {
		struct addr a = with_port(&servers[i].addr);
		if (!addr_equal_ip(&a, &s->servers[i].addr) || a.port != s->servers[i].addr.port ||
		        (servers[i].trust_ad || addr_is_loopback(&a)) != s->servers[i].trust_ad)
			return false;
	}
	return true;
}

struct dns_servers *dns_servers_ref(struct dns_servers *s)
{
	s->refs++;
	return s;
}

void dns_servers_unref(struct dns_servers **p)
{
	if (*p && --(*p)->refs == 0)
		mem_free(p);
	*p = NULL;
}

unsigned dns_servers_order(const struct dns_servers *s, uint64_t now_us, uint8_t order[DNS_SERVERS_MAX])
{
	unsigned n = 0;

	for (unsigned sick = 0; sick < 2; sick++)
		for (unsigned i = 0; i < s->n; i++)
			if ((s->servers[i].last_until_us > now_us) == sick)
				order[n++] = (uint8_t)i;
	return n;
}

void dns_server_was_silent(struct dns_server *s, uint64_t now_us)
{
	if (++s->n_silent >= SILENT_TO_GO_LAST)
		s->last_until_us = now_us + GO_LAST_US;
}

void dns_server_answered(struct dns_server *s)
{
	s->n_silent = 0;
	s->last_until_us = 0;
}

void dns_server_knows_no_edns(struct dns_server *s, uint64_t now_us)
{
	s->plain_until_us = now_us + WITHOUT_EDNS_US;
}

bool dns_server_edns(const struct dns_server *s, uint64_t now_us)
{
	return s->plain_until_us <= now_us;
}
