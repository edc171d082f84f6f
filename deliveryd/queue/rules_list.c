#include "queue/queue_in.h"

#include <string.h>

/* What response rules have done and is still in force: suspensions first, then reduced connections. */

struct listing {
	const struct queue *q;
	struct json_out *out;
	const char *binding, *domain; /* "" = any */
	uint32_t at, from, end;       /* rows by their place in the list */
};

static bool row(void *ctx, const char *target, const char *domain, const char *hop, const struct cause *why,
        uint64_t until_wall_us)
{
	struct listing *l = ctx;
	if ((*l->binding && strcmp(l->binding, target) != 0) ||
	        (*l->domain && strcmp(l->domain, domain) != 0) || l->at++ < l->from)
		return true;
	if (l->at > l->end)
		return false;
	const struct binding *b = binding_find(l->q, target);
	const char *group = b ? binding_group_name(b) : NULL;
	jw_object(l->out, NULL);
	jw_str(l->out, "binding", target);
	if (group)
		jw_str(l->out, "group", group);
	jw_str(l->out, "domain", domain);
	if (hop)
		jw_str(l->out, "next_hop", hop);
	jw_str(l->out, "rule", why->rule);
	jw_str(l->out, "action", why->then);
	jw_time(l->out, "until", until_wall_us);
	jw_str(l->out, "reply", why->reply);
	jw_end_object(l->out);
	return true;
}

uint32_t rules_print(const struct queue *q, struct json_out *out, const char *binding, const char *domain,
        uint32_t from, uint32_t limit)
{
	struct listing l = {
	        .q = q, .out = out, .binding = binding, .domain = domain, .from = from, .end = from + limit};
	bool all = suspensions_by_rule(q, row, &l) && reductions_each(q, row, &l);
	return all ? 0 : l.end;
}
