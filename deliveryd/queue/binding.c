#include "queue/queue_in.h"

#include <stdlib.h>
#include <string.h>

#include "base/log.h"

/* A bind the kernel refused although the address is here is tried again after this time. */
#define REFUSED_RETRY_US (60 * SECOND_US)

struct binding *binding_at(const struct queue *q, uint32_t number)
{
	return q->bindings.at[number];
}

const char *binding_name(const struct queue *q, const struct binding *b)
{
	return intern_text(q->names, b->name);
}

const char *binding_group_name(const struct binding *b)
{
	if (!b->conf || strcmp(b->conf->group->name, "default") == 0)
		return NULL;
	return b->conf->group->name;
}

static void source_retry(void *ctx)
{
	struct binding *b = ctx;
	bindings_check_sources(b->q);
}

static struct binding *binding_of_id(const struct queue *q, uint32_t id)
{
	if (id >= q->n_binding_of_name || q->binding_of_name[id] == 0)
		return NULL;
	return binding_at(q, q->binding_of_name[id] - 1);
}

struct binding *binding_find(const struct queue *q, const char *name)
{
	return binding_of_id(q, intern_find(q->names, name));
}

struct binding *binding_get(struct queue *q, const char *name, enum binding_kind kind)
{
	struct binding *b = binding_find(q, name);
	if (b)
		return b;
	b = mem_zalloc(sizeof(*b));
	b->q = q;
	b->name = intern_get(q->names, name);
	b->kind = kind;
	limit_init(&b->total, LIMIT_NONE);
	link_init(&b->queues);
	timer_init(&b->retry_source, source_retry, b);
	b->number = numbered_add(&q->bindings, b);
	if (b->name >= q->n_binding_of_name) {
		uint32_t n = b->name * 2 + 64;
		q->binding_of_name = mem_array(q->binding_of_name, n, sizeof(*q->binding_of_name));
		memset(q->binding_of_name + q->n_binding_of_name, 0,
		        (n - q->n_binding_of_name) * sizeof(*q->binding_of_name));
		q->n_binding_of_name = n;
	}
	q->binding_of_name[b->name] = b->number + 1;
	return b;
}

bool binding_suspended(struct binding *b)
{
	struct sched_options sched;
	if (!b->conf)
		return false;
	if (b->conf->index == 0 && b->q->global->default_binding == DEFAULT_BINDING_SUSPENDED)
		return true;
	if (suspended_by_command(b->q, b, NULL))
		return true;
	conf_resolve(b->snapshot, b->conf, NULL, NULL, NULL, &sched);
	return sched.suspend_delivery;
}

bool binding_in_curfew(struct binding *b)
{
	struct sched_options sched;
	int64_t until_s;
	if (!b->conf)
		return false;
	conf_resolve(b->snapshot, b->conf, NULL, NULL, NULL, &sched);
	return curfew_open(b->q, &sched.curfew, &until_s);
}

struct limit *binding_total(struct binding *b)
{
	struct sched_options sched;
	if (b->total_generation == b->q->generation)
		return &b->total;
	b->total_generation = b->q->generation;
	if (b->conf) {
		conf_resolve(b->snapshot, b->conf, NULL, NULL, NULL, &sched);
		b->total.max = sched.binding_total ? sched.binding_total : LIMIT_NONE;
		limit_freed(b->q, &b->total);
	}
	return &b->total;
}

/* There may be ten thousand: only those with sessions or waiters are looked at closer. */
static void adopt_from(struct queue *q, const struct conf *snapshot)
{
	for (size_t i = 0; i < conf_n_bindings(snapshot); i++) {
		const struct conf_binding *c = conf_binding(snapshot, (uint32_t)i);
		struct binding *b = binding_get(q, c->name, BINDING_NAMED);
		if (b->conf) /* a newer snapshot's */
			continue;
		b->conf = c;
		b->snapshot = snapshot;
		if (!limit_idle(&b->total))
			binding_total(b);
	}
}

void bindings_adopt(struct queue *q)
{
	for (uint32_t i = 0; i < q->bindings.n; i++) {
		struct binding *b = binding_at(q, i);
		b->conf = NULL;
		b->snapshot = NULL;
	}
	adopt_from(q, q->conf);
	for (unsigned i = 0; i < q->n_kept; i++)
		adopt_from(q, policy_conf(q->kept[i]));
}

/* --- source addresses (design section 9, 1) ----------------------------------------------------------------- */

static bool source_usable(const struct binding *b, int family)
{
	return local_addrs_has(b->q->local, &b->conf->source[family]) &&
	       b->down_until_us[family] <= queue_now(b->q);
}

static void source_went_down(struct binding *b, int family, const char *reason)
{
	if (b->down[family] && addr_equal_ip(&b->told[family], &b->conf->source[family]))
		return;
	b->down[family] = true;
	b->told[family] = b->conf->source[family];
	if (binding_group_name(b)) /* its mail goes to another member */
		rekey_begin(b->q);
	event_binding(b->q, b, EVENT_SOURCE_DOWN, &b->conf->source[family], reason);
	char text[ADDR_TEXT_SIZE];
	log_warning("binding %s: bind_address %s: %s; its mail waits%s", binding_name(b->q, b),
	        addr_print(&b->conf->source[family], text), reason,
	        binding_group_name(b) ? ", or goes to another member of its group" : "");
}

static void source_came_up(struct binding *b, int family)
{
	char text[ADDR_TEXT_SIZE];

	event_binding(b->q, b, EVENT_SOURCE_UP, &b->conf->source[family], NULL);
	log_notice("binding %s: bind_address %s can be used again", binding_name(b->q, b),
	        addr_print(&b->conf->source[family], text));
}

enum source_state binding_source(
        struct binding *b, int family, bool elsewhere, struct addr *source, bool *any)
{
	*source = (struct addr){.family = AF_UNSPEC};
	*any = false;
	if (b->kind == BINDING_NOTIFY || (b->conf && b->conf->any_source)) {
		*any = true;
		return SOURCE_OK;
	}
	if (!b->conf || b->conf->source[family].family == AF_UNSPEC)
		return SOURCE_MISSING;
	if (!elsewhere && !source_usable(b, family)) {
		source_went_down(b, family, "address is not on this machine");
		return SOURCE_DOWN;
	}
	*source = b->conf->source[family];
	return SOURCE_OK;
}

void binding_source_refused(struct binding *b, int family)
{
	if (!b->conf || b->conf->source[family].family == AF_UNSPEC)
		return;
	if (!local_addrs_has(b->q->local, &b->conf->source[family])) {
		source_went_down(b, family, "address is not on this machine");
		return;
	}
	source_went_down(b, family, "the system refused to bind to the address");
	b->down_until_us[family] = queue_now(b->q) + REFUSED_RETRY_US;
	timer_arm(b->q->loop, &b->retry_source, b->down_until_us[family]);
}

/*
 * The one whose deferral told of it need not wait for its retry when the address is back. After the system
 * refused to bind to it that is only a guess, and the wait is what keeps the attempts apart.
 */
static void release_charged(struct hop_queue *hq)
{
	struct queue *q = hq->q;
	uint32_t no = hq->source_charged;
	const struct delivery *d = no ? delivery_at(q->slab, no) : NULL;
	hq->source_charged = 0;
	if (d && d->id == hq->source_charged_id && d->hq == hq && d->state == DELIVERY_DEFERRED)
		delivery_enter(q, no, DELIVERY_READY, 0);
}

void binding_release_source(struct binding *b, bool is_back)
{
	for (struct link *l = b->queues.next; l != &b->queues; l = l->next) {
		struct hop_queue *hq = container_of(l, struct hop_queue, of_binding);
		if (hq->hold != HOLD_SOURCE)
			continue;
		hop_queue_hold(hq, HOLD_NONE);
		if (is_back)
			release_charged(hq);
	}
}

void bindings_check_sources(struct queue *q)
{
	bool members_back = false;
	for (uint32_t i = 0; i < q->bindings.n; i++) {
		struct binding *b = binding_at(q, i);
		for (int family = 0; family < FAMILIES; family++) {
			if (!b->down[family])
				continue;
			bool refused = b->down_until_us[family] != 0,
			     gone = !b->conf || b->conf->source[family].family == AF_UNSPEC;
			/* refused because it was going: then its coming back is no guess */
			if (!gone && !local_addrs_has(q->local, &b->conf->source[family]))
				b->down_until_us[family] = 0;
			if (!gone && !source_usable(b, family)) {
				/* after a reload it may be another address that is not here */
				source_went_down(b, family, "address is not on this machine");
				continue;
			}
			b->down[family] = false;
			b->down_until_us[family] = 0;
			if (!gone)
				source_came_up(b, family);
			binding_release_source(b, !refused);
			members_back = true;
		}
		members_back |= b->kind == BINDING_GROUP && b->counts.held > 0;
	}
	if (members_back)
		rekey_begin(q);
}
