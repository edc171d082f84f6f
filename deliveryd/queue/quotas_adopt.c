#include "queue/queue_in.h"

#include <string.h>

/*
 * Quotas belong to bindings and groups by their names. A group's maximum is the sum of its members', none if one of them
 * has none; what its members have counts in it, and what waits for one of them. A binding that is in no snapshot any more
 * has no quota, and takes no mail.
 */

enum quota_verdict queue_quota_take(void *queue, const char *target, uint64_t bytes)
{
	struct queue *q = queue;
	return quota_take(q->quotas, target, bytes, q->clock->mono_us(q->clock));
}

void queue_quota_give_back(void *queue, const char *target, uint64_t bytes)
{
	struct queue *q = queue;
	quota_give_back(q->quotas, target, bytes);
}

void binding_queued(struct binding *b, int messages, uint64_t size)
{
	int64_t bytes = messages * (int64_t)size;
	b->queued += (uint64_t)messages;
	b->queued_bytes += (uint64_t)bytes;
	if (!b->quota)
		b->quota = quota_get(b->q->quotas, binding_name(b->q, b));
	quota_queued(b->quota, messages, bytes);
	if (b->group_quota)
		quota_queued(b->group_quota, messages, bytes);
}

static bool set_inbound(struct queue *q, struct quota *quota, const struct conf_throttle *inbound)
{
	struct str place;
	str_init(&place);
	if (inbound->rate.count)
		conf_scope_path(inbound->from, &place);
	bool any = quota_set_inbound(q->quotas, quota, place.data, inbound->rate);
	str_free(&place);
	return any;
}

static void join_group(struct binding *b, struct quota *group)
{
	if (b->group_quota == group)
		return;
	if (b->group_quota)
		quota_queued(b->group_quota, -(int64_t)b->queued, -(int64_t)b->queued_bytes);
	if (group)
		quota_queued(group, (int64_t)b->queued, (int64_t)b->queued_bytes);
	b->group_quota = group;
}

static struct quota *quota_of_group(struct queue *q, const struct conf_group *group)
{
	char *name = mem_printf("group:%s", group->name);
	struct quota *quota = quota_get(q->quotas, name);
	mem_free(&name);
	return quota;
}

static bool adopt_group(struct queue *q, const struct conf *snapshot, const struct conf_group *group)
{
	struct quota *quota = quota_of_group(q, group);
	struct conf_quota of, sum = {0};
	bool messages = group->n_members > 0, bytes = messages;
	for (size_t i = 0; i < group->n_members; i++) {
		conf_resolve_quota(snapshot, conf_binding(snapshot, group->members[i]), &of);
		messages &= of.max_messages > 0;
		bytes &= of.max_bytes > 0;
		sum.max_messages += of.max_messages;
		sum.max_bytes += of.max_bytes;
	}
	conf_group_quota(snapshot, group, &of);
	bool any = quota_set(quota, messages ? sum.max_messages : 0, bytes ? sum.max_bytes : 0);
	return set_inbound(q, quota, &of.inbound) || any;
}

static bool adopt_binding(struct binding *b)
{
	struct conf_quota of = {0};
	struct queue *q = b->q;
	if (b->conf)
		conf_resolve_quota(b->snapshot, b->conf, &of);
	else if (!b->quota)
		return false;
	if (!b->quota)
		b->quota = quota_get(q->quotas, binding_name(q, b));
	join_group(b, binding_group_name(b) ? quota_of_group(q, b->conf->group) : NULL);
	bool any = quota_set(b->quota, of.max_messages, of.max_bytes);
	return set_inbound(q, b->quota, &of.inbound) || any;
}

static bool adopt_groups(struct queue *q, const struct conf *snapshot)
{
	bool any = false;
	for (size_t i = 0; i < conf_n_groups(snapshot); i++) {
		const struct conf_group *group = conf_group(snapshot, (uint32_t)i);
		if (strcmp(group->name, "default") != 0)
			any |= adopt_group(q, snapshot, group);
	}
	return any;
}

void quotas_adopt(struct queue *q)
{
	bool any = false;
	for (uint32_t i = 0; i < q->bindings.n; i++) {
		struct binding *b = binding_at(q, i);
		if (b->kind == BINDING_NAMED)
			any |= adopt_binding(b);
	}
	for (unsigned i = q->n_kept; i > 0; i--) /* the one in force comes last, and stays */
		any |= adopt_groups(q, policy_conf(q->kept[i - 1]));
	any |= adopt_groups(q, q->conf);
	quotas_in_use(q->quotas, any);
}
