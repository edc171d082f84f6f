#include "queue/queue_in.h"

#include <stdlib.h>
#include <string.h>

/* Two choices of place for each key; the older generation, else the first, gives way. */
#define CACHE_SIZE 8192u

struct dest_cache {
	struct dest at[CACHE_SIZE];
};

struct dest_cache *dest_cache_new(void)
{
	return mem_zalloc(sizeof(struct dest_cache));
}

static void dest_clear(struct queue *q, struct dest *d)
{
	intern_drop(q->names, d->domain);
	intern_drop(q->names, d->key.hop);
	intern_drop(q->names, d->key.scopes);
	profile_unref(&d->profile);
	*d = (struct dest){0};
}

void dest_cache_free(struct queue *q)
{
	for (uint32_t i = 0; i < CACHE_SIZE; i++)
		dest_clear(q, &q->dests->at[i]);
	mem_free(&q->dests);
}

static bool on_this_machine(const struct sockspec *via)
{
	return !via || via->type == SOCKSPEC_UNIX || addr_is_loopback(&via->addr);
}

/* DSNs go to the MTA in front: whatever the configuration says of domains does not apply. Nor does what it demands of
 * other hosts' TLS, as long as they do not leave this machine: a Postfix on loopback need not have any. */
static void resolve_notify(struct queue *q, struct dest *d)
{
	const struct sockspec *via = conf_process(q->conf)->notify_via;
	struct conn_options o;
	conf_resolve(q->conf, conf_binding(q->conf, 0), NULL, &o, &d->deliv, NULL);
	o.delivery_method = DELIVERY_ESMTP;
	o.gateway = o.routes = NULL;
	o.eight_bit = EIGHT_BIT_SEND;
	if (on_this_machine(via))
		o.tls = TLS_NO;
	o.xclient = XCLIENT_NO;
	o.dane = DANE_NO; /* it is an address */
	o.egress_proxy = o.egress_proxy_user = o.egress_proxy_pass = NULL;
	/* a report is not lost because the MTA in front was restarted, or said something that a receiver may say */
	d->deliv.never_retry = d->deliv.never_attempt_expired_messages = false;
	d->deliv.response_rules.n = 0;
	o.outbound_smtp_auth_type = AUTH_NONE;
	o.outbound_smtp_auth_user = o.outbound_smtp_auth_pass = o.outbound_smtp_auth_pass_file = NULL;
	d->key.hop_type = NEXT_HOP_GATEWAY;
	if (via && via->type == SOCKSPEC_UNIX) {
		d->key.hop = intern_get(q->names, via->path);
	} else if (via) {
		char text[ADDR_TEXT_SIZE];
		d->key.hop = intern_get(q->names, addr_print_port(&via->addr, text));
		d->key.port = via->addr.port;
	}
	d->profile = profile_intern(q->profiles, &o);
}

/* Nothing can be sent: the binding is not in the configuration, or a group has no usable member. */
static void resolve_unusable(struct queue *q, struct dest *d)
{
	conf_resolve(
	        q->conf, conf_binding(q->conf, 0), intern_text(q->names, d->domain), NULL, &d->deliv, NULL);
	d->key.hop = d->domain;
	intern_ref(q->names, d->domain);
	d->key.hop_type = NEXT_HOP_DOMAIN;
}

static void resolve(struct queue *q, const struct binding *b, struct dest *d)
{
	struct conn_options o;
	struct sched_options sched;
	conf_resolve(b->snapshot, b->conf, intern_text(q->names, d->domain), &o, &d->deliv, &sched);
	d->profile = profile_intern(q->profiles, &o);
	d->key.port = (uint16_t)(o.delivery_method == DELIVERY_LMTP ? o.lmtp_port : o.remote_smtp_port);
	if (o.routes) {
		struct str list;
		str_init(&list);
		routes_expand(o.routes, &o, intern_text(q->names, d->domain), &list);
		d->key.hop_type = NEXT_HOP_ROUTES;
		d->key.hop = intern_get(q->names, list.data);
		str_free(&list);
	} else if (o.gateway) {
		d->key.hop_type = NEXT_HOP_GATEWAY;
		d->key.hop = intern_get(q->names, o.gateway);
	} else {
		d->key.hop_type = NEXT_HOP_DOMAIN;
		d->key.hop = d->domain;
		intern_ref(q->names, d->domain);
	}
	d->key.scopes = scopes_get(q, b, intern_text(q->names, d->domain));
	d->key.suspended = sched.suspend_delivery ||
	                   suspended_by_command(q, b, intern_text(q->names, d->domain)) ||
	                   (b->conf->index == 0 && q->global->default_binding == DEFAULT_BINDING_SUSPENDED);
	d->curfew_until_s = 0;
	if (!d->key.suspended)
		d->key.suspended = curfew_open(q, &sched.curfew, &d->curfew_until_s);
}

static bool is(const struct queue *q, const struct dest *d, uint32_t binding, uint32_t domain)
{
	return d->generation == q->generation && d->binding == binding && d->domain == domain;
}

void dest_forget(struct queue *q, const struct binding *b, const char *domain)
{
	uint32_t id = intern_find(q->names, domain);
	uint64_t mixed = (((uint64_t)b->number << 32) | id) * UINT64_C(0x9e3779b97f4a7c15);
	uint64_t places[] = {mixed >> 40, mixed >> 20};
	for (unsigned i = 0; id && i < array_len(places); i++) {
		struct dest *d = &q->dests->at[places[i] % CACHE_SIZE];
		if (is(q, d, b->number, id))
			dest_clear(q, d);
	}
}

const struct dest *dest_get(struct queue *q, struct binding *b, uint32_t domain)
{
	uint64_t mixed = (((uint64_t)b->number << 32) | domain) * UINT64_C(0x9e3779b97f4a7c15);
	struct dest *d = &q->dests->at[(mixed >> 40) % CACHE_SIZE];
	struct dest *other = &q->dests->at[(mixed >> 20) % CACHE_SIZE];
	if (is(q, d, b->number, domain))
		return d;
	if (is(q, other, b->number, domain))
		return other;
	if (other->generation != q->generation)
		d = other;
	dest_clear(q, d);
	d->binding = b->number;
	d->domain = domain;
	intern_ref(q->names, domain);
	d->generation = q->generation;
	if (b->kind == BINDING_NOTIFY)
		resolve_notify(q, d);
	else if (!b->conf)
		resolve_unusable(q, d);
	else
		resolve(q, b, d);
	d->key.binding = b->number;
	d->key.profile = d->profile;
	return d;
}
