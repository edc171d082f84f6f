/* prohibited - see prohibited.h */
#include "config.h"
#include <string.h>

#include "base/mem.h"
#include "route/prohibited.h"
#include "session/local_addrs.h"

struct prohibited_set {
	struct addr_set *nets;
	struct addr *listeners;
	unsigned n_listeners;
	bool own_addresses;
	const struct local_addrs *local; /* borrows; may be NULL */
};

struct prohibited_set *prohibited_set_new(const struct prohibited *p)
{
	struct prohibited_set *s = mem_zalloc(sizeof(*s));

	s->nets = addr_set_new();
	for (unsigned i = 0; i < p->n_nets; i++)
		addr_set_add(s->nets, &p->nets[i], 0);
	s->listeners = mem_array(NULL, p->n_own_listeners + 1, sizeof(*s->listeners));
	for (unsigned i = 0; i < p->n_own_listeners; i++) {
		s->listeners[i] = p->own_listeners[i];
		addr_unmap(&s->listeners[i]);
	}
	s->n_listeners = p->n_own_listeners;
	s->own_addresses = p->own_addresses;
	s->local = p->local;
	return s;
}

void prohibited_set_free(struct prohibited_set **p)
{
	if (!*p)
		return;
	addr_set_free(&(*p)->nets);
	mem_free(&(*p)->listeners);
	mem_free(p);
}

static bool on_this_machine(const struct prohibited_set *s, const struct addr *a)
{
	if (addr_is_loopback(a) || addr_is_any(a))
		return true;
	return s->local && local_addrs_has(s->local, a);
}

/* Connecting to the unspecified address reaches loopback. A listener on [::] takes IPv4 as well. */
static bool reaches(const struct prohibited_set *s, const struct addr *listener, const struct addr *a)
{
	if (listener->port != a->port)
		return false;
	if (addr_is_any(listener))
		return (listener->family == a->family || listener->family == AF_INET6) &&
		       on_this_machine(s, a);
	if (addr_is_any(a))
		return listener->family == a->family && addr_is_loopback(listener);
	return addr_equal_ip(listener, a);
}

enum prohibited_why prohibited_judge(
        const struct prohibited_set *s, const struct addr *addr, enum next_hop_type type)
{
	struct addr a = *addr;

	addr_unmap(&a);
	for (unsigned i = 0; i < s->n_listeners; i++)
		if (reaches(s, &s->listeners[i], &a))
			return PROHIBITED_OWN_LISTENER;
	if (type != NEXT_HOP_DOMAIN)
		return PROHIBITED_NOT;
	if (addr_set_find(s->nets, &a, NULL))
		return PROHIBITED_ADDRESS;
	if (s->own_addresses && s->local && local_addrs_has(s->local, &a))
		return PROHIBITED_ADDRESS;
	return PROHIBITED_NOT;
}
