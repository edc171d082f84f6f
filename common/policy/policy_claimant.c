/*
 * policy_claimant - match_domain: which binding an envelope sender's domain belongs to, and whom it believes
 */
#include "policy/policy_internal.h"

#include <string.h>

static size_t bytes_of(const char *name)
{
	size_t bytes = sizeof(struct claimant) + strlen(name) + 1;
	return (bytes + CLAIMANT_UNIT - 1) / CLAIMANT_UNIT * CLAIMANT_UNIT;
}

const struct claimant *policy_claimant(const struct policy *p, uint32_t at)
{
	return (const struct claimant *)(p->claimants + (size_t)at * CLAIMANT_UNIT);
}

static struct claimant *add_claimant(struct policy *p, const struct conf_binding *b)
{
	struct claimant *c = (struct claimant *)(p->claimants + p->claimants_used);
	p->claimants_used += bytes_of(b->name);
	strcpy(c->name, b->name);
	c->binding = b->index;
	c->anyone = !b->match_from_set;
	c->authenticated = b->match_from_set && b->match_from_authenticated;
	p->needs.sender_ip |= b->match_from_set && b->n_match_from > 0;
	p->needs.auth_user |= c->authenticated;
	if (c->anyone || b->n_match_from == 0)
		return c;
	c->nets = addr_set_new();
	for (size_t i = 0; i < b->n_match_from; i++)
		addr_set_add(c->nets, &b->match_from[i], 0);
	return c;
}

static void file_domains(struct policy *p, const struct conf_binding *b, struct errors *errors)
{
	uint32_t at = (uint32_t)(p->claimants_used / CLAIMANT_UNIT);
	add_claimant(p, b);
	for (size_t i = 0; i < b->n_match_domain; i++) {
		bool added;
		const char *domain = b->match_domain[i];
		uint32_t owner = *lit_table_put(p->domains, domain, strlen(domain), at, &added);
		if (added)
			continue;
		const struct conf_binding *other = conf_binding(p->conf, policy_claimant(p, owner)->binding);
		errors_add(errors, ERROR_ERROR, "%s.match_domain: \"%s\" is already claimed by %s", b->where,
		        domain, other == b ? "the same binding" : other->where);
	}
}

void policy_claimants_build(struct policy *p, struct errors *errors)
{
	size_t bytes = 0, n = conf_n_bindings(p->conf);
	for (size_t i = 0; i < n; i++)
		bytes += bytes_of(conf_binding(p->conf, (uint32_t)i)->name);
	p->claimants = mem_table(bytes);
	memset(p->claimants, 0, bytes);
	for (size_t i = 0; i < n; i++)
		file_domains(p, conf_binding(p->conf, (uint32_t)i), errors);
}

void policy_claimants_free(struct policy *p)
{
	for (size_t at = 0; at < p->claimants_used;) {
		struct claimant *c = (struct claimant *)(p->claimants + at);
		at += bytes_of(c->name);
		addr_set_free(&c->nets);
	}
	mem_free(&p->claimants);
}
