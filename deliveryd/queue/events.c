#include "queue/queue_in.h"

#include <string.h>

static const char *class_name(enum outcome_class class)
{
	switch (class) {
	case OUTCOME_OK:
		return "delivered";
	case OUTCOME_TRANSIENT:
		return "transient";
	case OUTCOME_PERMANENT:
		return "permanent";
	case OUTCOME_UNCERTAIN:
		return "uncertain";
	case OUTCOME_NONE:
		break;
	}
	return NULL;
}

static void fill_delivery(struct queue *q, const struct delivery *d, const char *recipient, struct event *e)
{
	const struct binding *b = binding_at(q, d->binding);
	e->id = d->id;
	e->binding = binding_name(q, b);
	e->group = binding_group_name(b);
	e->rule = d->rule ? intern_text(q->names, d->rule) : NULL;
	e->sender = packed_sender(d->packed);
	e->recipient = recipient;
	e->domain = d->domain ? intern_text(q->names, d->domain) : NULL;
	e->has_size = true;
	e->size = d->size;
}

void event_reception(struct queue *q, const struct delivery *d, const char *recipient)
{
	struct event e = {.type = EVENT_RECEPTION};
	fill_delivery(q, d, recipient, &e);
	event_post(q->events, &e);
	metric_add(q->m.received, 1);
	totals_add(q, binding_at(q, d->binding), TOTAL_RECEIVED);
	activity_note(q, d->binding, d->hq ? d->hq->key.hop : 0, TOTAL_RECEIVED, NULL);
}

static enum total total_for(enum event_type type)
{
	switch (type) {
	case EVENT_DELIVERY:
		return TOTAL_DELIVERED;
	case EVENT_DEFERRAL:
		return TOTAL_DEFERRALS;
	case EVENT_BOUNCE:
		return TOTAL_BOUNCED;
	case EVENT_EXPIRATION:
		return TOTAL_EXPIRED;
	default:
		return TOTAL_UNCERTAIN;
	}
}

static metric *metric_for(struct queue *q, enum event_type type)
{
	switch (type) {
	case EVENT_DELIVERY:
		return q->m.delivered;
	case EVENT_DEFERRAL:
		return q->m.deferrals;
	case EVENT_BOUNCE:
		return q->m.bounced;
	case EVENT_EXPIRATION:
		return q->m.expired;
	default:
		return q->m.uncertain;
	}
}

void event_recipient(struct queue *q, const struct delivery *d, enum event_type type, const char *recipient,
        const struct outcome *o, const char *enhanced, const struct session_facts *f)
{
	struct event e = {.type = type};
	fill_delivery(q, d, recipient, &e);
	if (d->hq)
		e.next_hop = intern_text(q->names, d->hq->key.hop);
	e.has_attempt = true;
	e.attempt = d->attempts + 1u;
	e.state = outcome_state_name(o->state);
	e.code = o->code;
	e.enhanced = enhanced ? enhanced : o->enhanced[0] ? o->enhanced : NULL;
	e.reply = o->reply[0] ? o->reply : NULL;
	e.class_ = class_name(o->class);
	e.has_delay = true;
	e.delay_us = delivery_age_us(q, d);
	if (f) {
		e.mx = f->mx;
		e.peer = f->peer;
		e.source = f->source;
		e.ehlo = f->ehlo;
		e.proxy = f->proxy;
		e.claimed = f->claimed;
		e.tls_version = f->tls_version;
		e.tls_cipher = f->tls_cipher;
		e.tls_verified = f->tls_verified;
		e.tls_sni = f->tls_sni;
		e.tls_resumed = f->tls_resumed;
		e.tls_insecure_mx = f->tls_insecure_mx;
	}
	event_post(q->events, &e);
	metric_add(metric_for(q, type), 1);
	totals_add(q, binding_at(q, d->binding), total_for(type));
	activity_note(q, d->binding, d->hq ? d->hq->key.hop : 0, total_for(type), o);
}

void event_moved(struct queue *q, const struct delivery *d, const struct binding *from,
        const struct binding *to, const char *reason)
{
	struct event e = {.type = EVENT_REBIND};
	fill_delivery(q, d, NULL, &e);
	e.binding = binding_name(q, to);
	e.group = binding_group_name(to);
	e.reason = reason;
	e.detail = binding_name(q, from);
	event_post(q->events, &e);
}

void event_binding(struct queue *q, const struct binding *b, enum event_type type, const struct addr *source,
        const char *reason)
{
	struct event e = {.type = type,
	        .binding = binding_name(q, b),
	        .group = binding_group_name(b),
	        .source = *source,
	        .reason = reason};
	event_post(q->events, &e);
}
