/*
 * Egress proxies that do not work, as one binding's connections of one family meet them: a proxy may know one customer's
 * credentials and not another's, and have addresses of one family only.
 *
 * One that failed is left alone for RETRY_US; the queues that need it wait in its line, at no cost to their mail. Then
 * one session tries again (the probe). What it finds is true for all: they go on, or wait again. The operator is told
 * when it begins and when it is over, as of a source address that is gone. It is over, too, when a reload has given the
 * binding another one, or none.
 *
 * Mail of a group has left the line if no other member was of use either: it waits at the group's own place, and is
 * brought back when the proxy is to be tried again.
 */
#include "queue/queue_in.h"

#include <stdlib.h>
#include <string.h>

#include "base/log.h"

#define RETRY_US (30 * SECOND_US)
#define NEXT_IN_LINE_US SECOND_US /* the one that was woken had no use for it after all */

struct proxy {
	struct proxy *next; /* of the binding */
	struct binding *b;
	char *name; /* as in egress_proxy */
	int family; /* of the source */
	bool down, probing;
	bool reloaded; /* since it went down */
	uint64_t until_us;
	char *why;
	struct timer retry;
	struct link waiting; /* of struct traffic */
};

static bool group_waits(const struct binding *b)
{
	const char *group = binding_group_name(b);
	if (!group)
		return false;
	char *name = mem_printf("group:%s", group);
	const struct binding *place = binding_find(b->q, name);
	mem_free(&name);
	return place && place->kind == BINDING_GROUP && place->counts.held + place->counts.deferred > 0;
}

static bool still_used(const struct proxy *p)
{
	struct conn_options o;
	if (!p->b->conf)
		return false;
	conf_resolve(p->b->snapshot, p->b->conf, NULL, &o, NULL, NULL);
	return o.egress_proxy && strcmp(o.egress_proxy, p->name) == 0;
}

static void over(struct proxy *);

static void nobody_waits(struct proxy *p)
{
	if (p->reloaded && !still_used(p))
		over(p);
	else if (group_waits(p->b))
		rekey_begin(p->b->q);
}

static void wake_one(void *ctx)
{
	struct proxy *p = ctx;
	if (!p->down || p->probing)
		return;
	if (!link_linked(&p->waiting)) {
		nobody_waits(p);
		return;
	}
	struct traffic *t = container_of(p->waiting.next, struct traffic, of_proxy);
	link_remove(&t->of_proxy);
	link_add_tail(&p->waiting, &t->of_proxy); /* until it has found out */
	hop_queue_work(t->hq);
	timer_arm_in(p->b->q->loop, &p->retry, NEXT_IN_LINE_US);
}

static void release_all(struct proxy *p)
{
	while (link_linked(&p->waiting)) {
		struct traffic *t = container_of(p->waiting.next, struct traffic, of_proxy);
		proxy_stop_waiting(t);
		hop_queue_work(t->hq);
	}
}

static struct proxy *find(const struct binding *b, const char *name, int family)
{
	struct proxy *p = b->proxies;
	while (p && (p->family != family || strcmp(p->name, name) != 0))
		p = p->next;
	return p;
}

static struct proxy *get(struct binding *b, const char *name, int family)
{
	struct proxy *p = find(b, name, family);
	if (p)
		return p;
	p = mem_zalloc(sizeof(*p));
	p->b = b;
	p->name = mem_strdup(name);
	p->family = family;
	timer_init(&p->retry, wake_one, p);
	link_init(&p->waiting);
	p->next = b->proxies;
	b->proxies = p;
	return p;
}

/* Mail of a group goes to another member as long as its own has no way out. */
static void tell(const struct proxy *p, enum event_type type)
{
	struct binding *b = p->b;
	if (b->conf)
		event_binding(b->q, b, type, &b->conf->source[p->family], p->why);
	if (type == EVENT_SOURCE_DOWN)
		log_warning("binding %s: %s; its mail waits", binding_name(b->q, b), p->why);
	else
		log_notice("binding %s: its egress proxy %s", binding_name(b->q, b),
		        p->reloaded && !still_used(p) ? "is another now" : "answers again");
	if (binding_group_name(b))
		rekey_begin(b->q);
}

struct proxy *proxy_for(const struct binding *b, const struct conn_options *o, int family)
{
	return o->egress_proxy && b->proxies ? find(b, o->egress_proxy, family) : NULL;
}

bool proxy_blocks(const struct proxy *p)
{
	return p && p->down && (p->probing || p->until_us > queue_now(p->b->q));
}

const char *proxy_why(const struct proxy *p)
{
	return p->why;
}

void proxy_wait(struct proxy *p, struct traffic *t)
{
	if (t->proxy == p)
		return;
	proxy_stop_waiting(t);
	t->proxy = p;
	link_add_tail(&p->waiting, &t->of_proxy);
}

void proxy_stop_waiting(struct traffic *t)
{
	link_remove(&t->of_proxy);
	t->proxy = NULL;
}

bool proxy_probe_begin(struct proxy *p)
{
	if (!p || !p->down || p->probing)
		return false;
	p->probing = true;
	return true;
}

void proxy_probe_end(struct binding *b, const struct conn_options *o, int family)
{
	struct proxy *p = proxy_for(b, o, family);
	if (!p)
		return;
	p->probing = false;
	if (p->down && !timer_armed(&p->retry))
		timer_arm_in(b->q->loop, &p->retry, NEXT_IN_LINE_US);
}

static void over(struct proxy *p)
{
	p->down = p->probing = false;
	timer_cancel(p->b->q->loop, &p->retry);
	mem_free(&p->why);
	tell(p, EVENT_SOURCE_UP);
	release_all(p);
}

void proxy_worked(struct proxy *p)
{
	if (p && p->down)
		over(p);
}

bool proxy_failed(
        struct binding *b, const struct conn_options *o, int family, bool probe, const struct outcome *why)
{
	if (!o->egress_proxy)
		return true;
	struct proxy *p = get(b, o->egress_proxy, family);
	bool news = !p->down;
	if (!news && !probe)
		return false;
	mem_free(&p->why);
	p->why = mem_strdup(why->reply);
	p->down = true;
	p->probing = p->reloaded = false;
	p->until_us = queue_now(b->q) + RETRY_US;
	timer_arm(b->q->loop, &p->retry, p->until_us);
	if (news)
		tell(p, EVENT_SOURCE_DOWN);
	else if (binding_group_name(b)) /* what came while nobody knew whether it is back */
		rekey_begin(b->q);
	return true;
}

bool proxies_down(const struct binding *b)
{
	for (const struct proxy *p = b->proxies; p; p = p->next) {
		if (p->down)
			return true;
	}
	return false;
}

void proxies_reloaded(struct queue *q)
{
	for (uint32_t i = 0; i < q->bindings.n; i++) {
		for (struct proxy *p = binding_at(q, i)->proxies; p; p = p->next) {
			p->reloaded = true;
			if (p->down && !timer_armed(&p->retry))
				timer_arm_in(q->loop, &p->retry, NEXT_IN_LINE_US);
		}
	}
}

void proxies_recall(struct binding *b)
{
	uint64_t now = queue_now(b->q);
	for (struct proxy *p = b->proxies; p; p = p->next) {
		if (p->down && p->until_us > now) {
			p->until_us = now;
			timer_arm(b->q->loop, &p->retry, now);
		}
	}
}

void proxies_free(struct binding *b)
{
	while (b->proxies) {
		struct proxy *p = b->proxies;
		b->proxies = p->next;
		timer_cancel(b->q->loop, &p->retry);
		free(p->name);
		free(p->why);
		free(p);
	}
}
