/*
 * What a connection is: whatever must be the same for a message to go over it.
 *
 * conn_key_of() is the one place that says so. Within a queue all of it is the same by the queue's own key, so a queue's
 * connections serve the queue. An idle one may be taken over by a sibling: another queue whose key of a connection to
 * that host comes out the same (other recipient domain, same binding, profile and demands).
 */
#include "queue/queue_in.h"

#include <string.h>

void conn_key_of(const struct hop_queue *hq, const struct route_addr *to, const struct addr *source,
        bool any_source, struct conn_key *key)
{
	const struct conn_options *o = &hq->profile->o;
	struct next_hop hop;
	next_hop_of(hq, &hop);
	memset(key, 0, sizeof(*key));
	key->binding = hq->key.binding;
	key->demand = hq->key.demand; /* EHLO name, XCLIENT data */
	key->profile = hq->profile;   /* method, TLS, credentials, timers */
	key->method = to->method;     /* a route may have its own */
	key->source = any_source ? (struct addr){.family = AF_UNSPEC} : *source;
	key->peer = to->addr;
	key->secure = to->secure; /* what TLS has to prove hangs on where the address came from, */
	key->mx_secure = to->mx_secure;
	key->mx = to->mx ? to->mx : "";
	key->unix_path = to->unix_path ? to->unix_path : "";
	/* and a certificate may be for the next hop; TLSA records say so themselves */
	bool verified = o->tls != TLS_NO && o->tls_verify != TLS_VERIFY_NO &&
	                o->tls_verify != TLS_VERIFY_CA && (!to->tlsa || to->tlsa->n_records == 0);
	if (verified || demand_tls(hq->q, hq->key.demand) == SESSION_TLS_REQUIRED)
		key->next_hop = hop.name;
	else
		key->next_hop = "";
	key->tlsa = to->tlsa;
}

static bool same_addr(const struct addr *a, const struct addr *b)
{
	return a->family == b->family &&
	       (a->family == AF_UNSPEC || (addr_equal_ip(a, b) && a->port == b->port));
}

bool conn_key_equal(const struct conn_key *a, const struct conn_key *b)
{
	return a->binding == b->binding && a->demand == b->demand && a->profile == b->profile &&
	       a->method == b->method && a->secure == b->secure && a->mx_secure == b->mx_secure &&
	       same_addr(&a->source, &b->source) && same_addr(&a->peer, &b->peer) &&
	       strcmp(a->mx, b->mx) == 0 && strcmp(a->unix_path, b->unix_path) == 0 &&
	       strcmp(a->next_hop, b->next_hop) == 0 && tlsa_equal(a->tlsa, b->tlsa);
}

static struct link *bucket_of(struct queue *q, const struct conn_key *key)
{
	uint64_t h = hash_bytes(key->peer.ip, sizeof(key->peer.ip)) ^
	             (key->binding * UINT64_C(0x9e3779b97f4a7c15)) ^ key->peer.port ^
	             (uintptr_t)key->profile >> 4;
	return &q->idle_conns[h % IDLE_BUCKETS];
}

static void key_of_conn(const struct conn *c, struct conn_key *key)
{
	conn_key_of(c->hq, &c->to, &c->source, c->source.family == AF_UNSPEC, key);
}

void sibling_offer(struct conn *c)
{
	struct conn_key key;
	if (!c->q->global->migrate_connections_between_sibling_domains)
		return;
	key_of_conn(c, &key);
	link_add_tail(bucket_of(c->q, &key), &c->offered);
	c->q->n_idle_conns++;
}

void sibling_withdraw(struct conn *c)
{
	if (!link_linked(&c->offered))
		return;
	link_remove(&c->offered);
	c->q->n_idle_conns--;
}

struct conn *sibling_find(struct queue *q, const struct conn_key *wanted)
{
	struct link *bucket = bucket_of(q, wanted);
	for (struct link *l = bucket->next; l != bucket; l = l->next) {
		struct conn *c = container_of(l, struct conn, offered);
		struct conn_key key;
		key_of_conn(c, &key);
		if (c->jobs_out == 0 && !c->lost_job && conn_key_equal(&key, wanted))
			return c;
	}
	return NULL;
}
