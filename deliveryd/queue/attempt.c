#include "queue/queue_in.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"

/* Until a first session of a queue got through, no more than this try at once: nobody knows yet whether it is alive. */
#define UNPROVEN_MAX 4
/* When all addresses have failed so many waiting deliveries have had their attempt; the others wait for the next. */
#define CHARGED_MAX 100
#define FAILURE_RETRY_MIN_US SECOND_US
/* This machine is out of ports or sockets. */
#define PAUSE_US (10 * SECOND_US)
/* No route, but sessions over the old one are alive: ask again after this. */
#define ROUTE_RETRY_US (10 * SECOND_US)
/* A route that has expired when it comes (a TTL of 0) is good for the sessions it was asked for. */
#define ROUTE_MIN_US (5 * SECOND_US)

/* --- limits ---------------------------------------------------------------------------------------------------- */

void limit_freed(void *ctx, struct limit *l)
{
	struct queue *q = ctx;
	if (l->n_waiting && limit_has_room(l) && !link_linked(&l->wake_link)) {
		link_add_tail(&q->freed, &l->wake_link);
		queue_kick(q);
	}
}

void limits_adopt(struct queue *q)
{
	uint32_t max = q->global->server_max_outbound_connections, fit = q->sessions_max,
	         reserve = q->global->server_reserve_outbound_connections;
	if (fit && (uint64_t)max + reserve > fit) {
		log_notice("server_max_outbound_connections is %u, but this process may open no more than %u sessions: "
		           "give it more descriptors (LimitNOFILE= in its unit, or ulimit -n)",
		        max, fit);
		reserve = reserve < fit / 10 ? reserve : fit / 10;
		max = max < fit - reserve ? max : fit - reserve;
	}
	q->server.max = max;
	q->reserve.max = reserve;
	limit_freed(q, &q->server);
	limit_freed(q, &q->reserve);
}

/* --- choosing an address ----------------------------------------------------------------------------------------- */

struct choice {
	const struct route_addr *addr; /* NULL = none: see the rest */
	struct addr source;
	bool any_source;
	struct host_marks marks;
	const struct limit *woken;        /* the limit whose turn it is to serve us */
	struct limit *saturated[WAITERS]; /* hosts': waits for them */
	unsigned n_saturated;
	uint64_t recover_us;   /* shortest recovery of those that failed; 0 = none failed */
	struct health_who who; /* demand_health() */
	bool may_recover;      /* one of them for another reason than that it is unfit */
	bool probing;          /* an address on probation has its one session under way */
	bool probation;        /* `addr` is on probation */
	bool source_down;
	struct proxy *proxy; /* the egress proxy is down */
	bool slow
	        [FAMILIES]; /* sessions of that family open slowly: the other is asked for, down to `worst` */
	uint16_t worst;
	bool missing[FAMILIES]; /* the binding has no source for them: left out */
};

static bool has_room(struct limit *l, struct choice *c)
{
	if (!l || (limit_has_room(l) && (l->n_waiting == 0 || l == c->woken)))
		return true;
	if (c->n_saturated < WAITERS)
		c->saturated[c->n_saturated++] = l;
	return false;
}

/* One that only waits for its record to be durable is waited for: no reason to go to another host. */
static bool throttle_room(struct throttle *t, struct choice *c)
{
	struct limit *l = throttle_limit(t);
	return (!limit_has_room(l) && throttle_until_us(t) == 0) || has_room(l, c);
}

static void host_find(struct hop_queue *hq, const struct route_addr *a, struct choice *c)
{
	host_marks(hq->q, binding_at(hq->q, hq->key.binding), a->mx, &c->marks);
}

/* A host's limits and throttles: false when one is full. */
static bool host_room(struct hop_queue *hq, const struct route_addr *a, struct choice *c)
{
	struct host_marks *m = &c->marks;
	bool room = true;
	host_find(hq, a, c);
	for (unsigned i = 0; i < 2 && room; i++)
		room = has_room(m->limits[i] ? &m->limits[i]->limit : NULL, c);
	for (unsigned i = 0; i < N_THROTTLE_KINDS && room; i++)
		room = !m->throttles[i] || throttle_room(m->throttles[i], c);
	return room;
}

static enum source_state source_for(struct hop_queue *hq, const struct route_addr *a, struct choice *c)
{
	if (!a->unix_path)
		return binding_source(binding_at(hq->q, hq->key.binding), a->addr.family == AF_INET6,
		        hq->profile->o.egress_proxy != NULL, &c->source, &c->any_source);
	c->any_source = true;
	c->source = (struct addr){.family = AF_UNSPEC};
	return SOURCE_OK;
}

/*
 * While a session of one family opens slowly, the other is tried; but nothing of a worse preference for that. Unless it is
 * to find out about an address that has failed before: that one has had its chance when it is slow.
 */
static void look_at_slow(struct hop_queue *hq, struct choice *c)
{
	const struct traffic *t = hq->traffic;
	c->worst = UINT16_MAX;
	for (const struct link *l = t->conns.next; t->n_slow && l != &t->conns; l = l->next) {
		const struct conn *conn = container_of(l, struct conn, of_traffic);
		if (!conn->slow || conn->probation)
			continue;
		c->slow[conn->to.addr.family == AF_INET6] = true;
		if (c->worst == UINT16_MAX || conn->to.preference > c->worst)
			c->worst = conn->to.preference;
	}
}

static bool proxy_out(struct hop_queue *hq, int family, struct choice *c)
{
	struct proxy *p = proxy_for(binding_at(hq->q, hq->key.binding), &hq->profile->o, family);
	if (!proxy_blocks(p))
		return false;
	c->proxy = p;
	return true;
}

/* The host's own, and what it did for such mail: the worse of both */
static enum health_state health_for(
        struct hop_queue *hq, const struct route_addr *a, struct choice *c, uint64_t *until)
{
	struct queue *q = hq->q;
	uint64_t demand_until = 0;
	enum health_state host, demand;
	host = health_of(q->health, (struct health_who){hq->key.binding, 0}, a, queue_now(q), until);
	demand = health_of(q->health, c->who, a, queue_now(q), &demand_until);
	if (host == HEALTH_FAILED || (demand == HEALTH_FAILED && !health_is_unfit(q->health, c->who, a)))
		c->may_recover = true;
	if (demand == HEALTH_FAILED && (host != HEALTH_FAILED || demand_until > *until))
		*until = demand_until;
	if (host == HEALTH_FAILED || demand == HEALTH_FAILED)
		return HEALTH_FAILED;
	return host == HEALTH_PROBATION ? host : demand == HEALTH_PROBATION ? demand : host;
}

/* One session at a time finds out whether what has failed is back; one that is slow at it is no reason to wait. */
static bool on_trial(struct hop_queue *hq, const struct route_addr *a, struct choice *c)
{
	const struct traffic *t = hq->traffic;
	for (const struct link *l = t->conns.next; t->n_opening && l != &t->conns; l = l->next) {
		const struct conn *conn = container_of(l, struct conn, of_traffic);
		if (conn->state != CONN_OPENING || !conn->probation)
			continue;
		if (!conn->slow)
			c->probing = true;
		if (!conn->slow ||
		        (addr_equal_ip(&conn->to.addr, &a->addr) && conn->to.addr.port == a->addr.port))
			return true;
	}
	return false;
}

/* Leaving limits aside */
static bool fit_now(struct hop_queue *hq, const struct route_addr *a, struct choice *c)
{
	uint64_t until;
	if (c->slow[a->addr.family == AF_INET6])
		return false;
	switch (source_for(hq, a, c)) {
	case SOURCE_MISSING:
		c->missing[a->addr.family == AF_INET6] = true;
		return false;
	case SOURCE_DOWN:
		c->source_down = true;
		return false;
	case SOURCE_OK:
		break;
	}
	if (!a->unix_path && proxy_out(hq, a->addr.family == AF_INET6, c))
		return false;
	switch (health_for(hq, a, c, &until)) {
	case HEALTH_FAILED:
		if (!c->recover_us || until < c->recover_us)
			c->recover_us = until;
		return false;
	case HEALTH_PROBATION:
		return !on_trial(hq, a, c);
	case HEALTH_UNKNOWN:
	case HEALTH_GOOD:
		break;
	}
	return true;
}

/* Of those that are fit one after the other: leaving out what is not must not give its share to a neighbour. */
static bool choose_among(struct hop_queue *hq, const struct route_addr **fit, unsigned n, struct choice *c)
{
	unsigned start = n ? hq->traffic->rotor % n : 0;
	uint64_t until;
	for (unsigned i = 0; i < n; i++) {
		const struct route_addr *a = fit[(start + i) % n];
		if (host_room(hq, a, c)) {
			source_for(hq, a, c);
			c->addr = a;
			c->probation = health_for(hq, a, c, &until) == HEALTH_PROBATION;
			return true;
		}
	}
	return false;
}

/* One level of preference; false if nothing of it can be had now. */
static bool choose_in(struct hop_queue *hq, const struct route_addr *level, unsigned n, struct choice *c)
{
	const struct route_addr *fit[2][ROUTE_ADDRS_MAX];
	unsigned n_fit[2] = {0, 0};
	bool prefer_v6 = hq->q->global->prefer_ipv6_mxs;
	for (unsigned i = 0; i < n; i++) {
		const struct route_addr *a = &level[i];
		unsigned set = prefer_v6 && a->addr.family != AF_INET6;
		if (n_fit[set] < ROUTE_ADDRS_MAX && fit_now(hq, a, c))
			fit[set][n_fit[set]++] = a;
	}
	return choose_among(hq, fit[0], n_fit[0], c) || choose_among(hq, fit[1], n_fit[1], c);
}

/* Level by level; equals take turns. */
static void choose(struct hop_queue *hq, const struct limit *woken, struct choice *c)
{
	struct traffic *t = hq->traffic;
	const struct route *r = t->route;
	*c = (struct choice){.woken = woken, .who = demand_health(hq)};
	look_at_slow(hq, c);
	for (unsigned from = 0, to; from < r->n && r->addrs[from].preference <= c->worst; from = to) {
		for (to = from; to < r->n && r->addrs[to].preference == r->addrs[from].preference; to++)
			;
		if (choose_in(hq, &r->addrs[from], to - from, c))
			break;
		if (c->probing) /* it may be back at any moment: nothing of a worse preference before that is known */
			break;
	}
	t->rotor++;
}

/* --- when there is none --------------------------------------------------------------------------------------------- */

static void back_off(struct hop_queue *hq, uint64_t until_us)
{
	struct traffic *t = hq->traffic;
	t->backoff_until_us = until_us;
	t->proven = false;
	timer_arm(hq->q->loop, &t->backoff, until_us);
}

static void drain_begin(struct hop_queue *hq, struct failure *takes, uint32_t n)
{
	struct traffic *t = hq->traffic;
	failure_free(&t->drain);
	t->drain = takes;
	t->n_drain = n < hq->n[DELIVERY_READY] ? n : hq->n[DELIVERY_READY];
	hop_queue_work(hq);
}

static void drain_own(struct hop_queue *hq, uint32_t n, const char *enhanced, const char *text)
{
	struct outcome o;
	outcome_own(&o, OUTCOME_TRANSIENT, STATE_CONNECT, 451, enhanced, "%s", text);
	drain_begin(hq, failure_new(&o, NULL), n);
}

/* What could have been tried, if the binding had an address of that family */
static void say_left_out(const struct hop_queue *hq, const struct choice *c, struct outcome *o)
{
	size_t len = strlen(o->reply);
	if (c->missing[0] || c->missing[1])
		snprintf(o->reply + len, sizeof(o->reply) - len,
		        " (%s addresses of the next hop left out: binding %s has none)",
		        c->missing[0] ? "IPv4" : "IPv6",
		        binding_name(hq->q, binding_at(hq->q, hq->key.binding)));
}

static void no_family(struct hop_queue *hq, const struct choice *c)
{
	char text[200];
	snprintf(text, sizeof(text), "the next hop has %s addresses only, and binding %s sends from %s only",
	        c->missing[0] ? "IPv4" : "IPv6", binding_name(hq->q, binding_at(hq->q, hq->key.binding)),
	        c->missing[0] ? "IPv6" : "IPv4");
	drain_own(hq, UINT32_MAX, "4.4.1", text);
}

/* What is dead is looked at as often as a first retry would. */
static uint64_t most_back_off(struct hop_queue *hq)
{
	uint32_t no = place_first(hq);
	return no ? delivery_options(hq->q, delivery_at(hq->q->slab, no))->retry_interval_s * SECOND_US : 0;
}

/* Then all its mail waits for its own next attempt, as if each had been tried. */
static bool is_dead(struct hop_queue *hq, uint64_t recover_us)
{
	struct traffic *t = hq->traffic;
	uint64_t until = dead_round(hq, recover_us, most_back_off(hq));
	if (!until)
		return false;
	back_off(hq, until);
	t->n_charge = 0;
	if (!t->failure)
		return true;
	struct failure *f = failure_new(&t->failure->outcome, &t->failure->facts);
	f->outcome.class = OUTCOME_TRANSIENT;
	drain_begin(hq, f, UINT32_MAX);
	return true;
}

/* RFC 8689 4.2.1: no host can do what the message demands, and no other time will be better. */
static bool none_fit(struct hop_queue *hq, const struct choice *c)
{
	struct traffic *t = hq->traffic;
	if (!t->failure || !t->failure->outcome.unfit || c->may_recover || c->source_down ||
	        t->route->partial)
		return false;
	struct failure *f = failure_new(&t->failure->outcome, &t->failure->facts);
	f->outcome.class = OUTCOME_PERMANENT;
	f->outcome.code = 550;
	snprintf(f->outcome.enhanced, sizeof(f->outcome.enhanced), "5.7.30");
	back_off(hq, c->recover_us);
	t->n_charge = 0;
	drain_begin(hq, f, UINT32_MAX);
	return true;
}

/* All addresses have failed: those whose turn it was have had their attempt, the queue waits for the first to recover. */
static void all_failed(struct hop_queue *hq, const struct choice *c)
{
	struct traffic *t = hq->traffic;
	if (none_fit(hq, c) || is_dead(hq, c->recover_us))
		return;
	back_off(hq, c->recover_us);
	if (!t->n_charge || !t->failure)
		return;
	struct failure *f = failure_new(&t->failure->outcome, &t->failure->facts);
	f->outcome.class = OUTCOME_TRANSIENT; /* a host's 5yz to the connection says nothing of the mail */
	say_left_out(hq, c, &f->outcome);
	drain_begin(hq, f, t->n_charge);
	t->n_charge = 0;
}

static void no_source(struct hop_queue *hq)
{
	struct queue *q = hq->q;
	uint32_t no = place_first(hq);
	struct outcome o;
	outcome_own(&o, OUTCOME_TRANSIENT, STATE_CONNECT, 451, "4.3.5",
	        "source address of binding %s is not on this machine",
	        binding_name(q, binding_at(q, hq->key.binding)));
	hop_queue_hold(hq, HOLD_SOURCE);
	if (!no)
		return;
	hq->source_charged = no;
	hq->source_charged_id = delivery_at(q->slab, no)->id;
	result_waiting(q, no, &o, NULL);
}

/* In line; a session that holds a lease and has nothing to do makes room. */
void attempt_wait(struct traffic *t, struct limit *l)
{
	struct leases *idle = limit_longest_idle(l);
	traffic_wait(t, l);
	if (l->is_throttle)
		throttle_held_back(throttle_of_limit(l));
	if (idle && l->leaving < l->n_waiting)
		conn_make_room(conn_of_leases(idle));
}

/* What becomes of a queue that found no address. */
static void none_usable(struct hop_queue *hq, const struct choice *c)
{
	struct traffic *t = hq->traffic;
	if (c->probing)
		return; /* its end brings us back */
	if (c->n_saturated) {
		for (unsigned i = 0; i < c->n_saturated; i++)
			attempt_wait(t, c->saturated[i]);
		if (c->recover_us)
			timer_arm(hq->q->loop, &t->backoff, c->recover_us);
		return;
	}
	if (t->n_conns > t->n_leaving)
		return; /* there are sessions at work; when the last one goes we are asked again */
	if (c->recover_us)
		all_failed(hq, c);
	else if (c->proxy)
		proxy_wait(c->proxy, t);
	else if (c->source_down)
		no_source(hq);
	else if (c->missing[0] || c->missing[1])
		no_family(hq, c);
	else
		drain_own(hq, UINT32_MAX, "4.4.1", "the next hop has no address");
}

void attempt_failed(struct hop_queue *hq, const struct outcome *why, const struct session_facts *facts,
        uint32_t charge, uint64_t recover_us)
{
	struct traffic *t = traffic_get(hq);
	failure_free(&t->failure);
	t->failure = failure_new(why, facts);
	if (charge > t->n_charge)
		t->n_charge = charge;
	if (recover_us)
		(void)is_dead(hq, recover_us);
	hop_queue_work(hq);
}

void attempt_proxy_failed(
        struct hop_queue *hq, const struct outcome *why, const struct session_facts *facts, bool told)
{
	if (told)
		drain_begin(hq, failure_new(why, facts), 1);
}

void attempt_pause(struct hop_queue *hq, const struct outcome *why, const struct session_facts *facts)
{
	back_off(hq, queue_now(hq->q) + PAUSE_US);
	drain_begin(hq, failure_new(why, facts), 1);
}

/* --- route ------------------------------------------------------------------------------------------------------------ */

static void take_route(void *ctx, struct route *route, const struct outcome *why)
{
	struct hop_queue *hq = ctx;
	struct traffic *t = hq->traffic;
	t->query = NULL;
	hop_queue_work(hq);
	if (route) {
		uint64_t least = queue_now(hq->q) + ROUTE_MIN_US;
		if (!t->route || t->route->dane != route->dane)
			conns_adopt_route(hq, route);
		route_unref(&t->route);
		t->route = route;
		t->route_until_us = route->expires_mono_us > least ? route->expires_mono_us : least;
		return;
	}
	/* of an operator's word the router says nothing permanent; this is the last one to guard it */
	bool permanent = why->class == OUTCOME_PERMANENT && hq->key.hop_type != NEXT_HOP_GATEWAY;
	if (!permanent && t->n_conns > t->n_leaving) {
		back_off(hq, queue_now(hq->q) + ROUTE_RETRY_US);
		t->proven = true;
		return;
	}
	route_unref(&t->route);
	struct failure *f = failure_new(why, NULL);
	f->outcome.class = permanent ? OUTCOME_PERMANENT : OUTCOME_TRANSIENT;
	drain_begin(hq, f, UINT32_MAX);
}

/* tls no is the operator's word: it is not the built-in. */
static enum dane_use dane_of(const struct hop_queue *hq)
{
	const struct conn_options *o = &hq->profile->o;
	if (demand_tls(hq->q, hq->key.demand) == SESSION_TLS_OPTIONAL)
		return DANE_NO;
	return o->tls == TLS_NO ? DANE_NO : o->dane;
}

static bool have_route(struct hop_queue *hq)
{
	struct queue *q = hq->q;
	struct traffic *t = hq->traffic;
	struct next_hop hop;
	if (t->route && t->route_until_us > queue_now(q) && router_is_current(q->router, t->route))
		return true;
	if (t->query)
		return false;
	next_hop_of(hq, &hop);
	t->query = route_start(q->router, &hop, q->global->use_ipv6, dane_of(hq), take_route, hq);
	return false;
}

/*
 * Whether an open session may be used as far as the route goes: records that have run out may have come back with TLSA
 * records, for which the session does not do. When DNS fails the sessions there are go on.
 */
bool attempt_route_settled(struct hop_queue *hq)
{
	if (dane_of(hq) == DANE_NO || hq->traffic->backoff_until_us > queue_now(hq->q))
		return true;
	return have_route(hq);
}

/* --- sessions ---------------------------------------------------------------------------------------------------------- */

enum opened { OPENED, ENOUGH };

static uint32_t goal(const struct hop_queue *hq)
{
	const struct conn_options *o = &hq->profile->o;
	uint32_t moving = hq->n[DELIVERY_READY] + hq->n[DELIVERY_OUT];
	return schedule_goal(moving, o->max_outbound_connections, o->connection_allocation_aggressiveness);
}

/* The host's and the scopes' limits, and those of all that share its MX hosts. */
static unsigned named_limits(
        struct hop_queue *hq, const struct choice *c, struct host_limit *named[NAMED_LIMITS_MAX])
{
	unsigned n = 0;
	for (int i = 0; i < 2; i++) {
		if (c->marks.limits[i])
			named[n++] = c->marks.limits[i];
	}
	n += scopes_limits(hq->q, hq->key.scopes, named + n);
	return n + rollup_limits(hq, named + n);
}

static bool free_for(const struct limit *l, const struct limit *woken)
{
	return limit_has_room(l) && (l->n_waiting == 0 || l == woken);
}

/* When the machine's total is used up, a queue without a session may have its first one out of the reserve. */
static struct limit *machine_limit(struct hop_queue *hq, const struct limit *woken)
{
	struct queue *q = hq->q;
	if (free_for(&q->server, woken) || hq->traffic->n_conns > 0 || q->reserve.max == 0)
		return &q->server;
	return &q->reserve;
}

/* The one that a session counts in already */
static struct limit *machine_limit_of(const struct conn *c)
{
	for (unsigned i = 0; i < c->leases.n; i++) {
		if (c->leases.held[i].limit == &c->q->reserve)
			return &c->q->reserve;
	}
	return &c->q->server;
}

static unsigned wanted_limits(struct hop_queue *hq, struct host_limit *const *named, unsigned n_named,
        const struct limit *woken, struct limit *wanted[LEASES_MAX])
{
	unsigned n = 0;
	wanted[n++] = &hq->traffic->own;
	wanted[n++] = traffic_pair_limit(hq->traffic);
	for (unsigned i = 0; i < n_named; i++)
		wanted[n++] = &named[i]->limit;
	wanted[n++] = binding_total(binding_at(hq->q, hq->key.binding));
	wanted[n++] = machine_limit(hq, woken);
	return n;
}

/* As far as throttles go; a session that is there needs no connection. */
static bool message_may_go(const struct traffic *t, const struct choice *c)
{
	struct throttle *const of[] = {t->throttles[THROTTLE_MESSAGES], c->marks.throttles[THROTTLE_MESSAGES]};
	struct limit *asked[2];
	unsigned n = 0;
	for (unsigned i = 0; i < 2; i++) {
		if (of[i])
			asked[n++] = throttle_limit(of[i]);
	}
	return !limits_blocking(asked, n, c->woken);
}

/* An idle session of a sibling's to that address; `only`: this one, if it is */
static bool take_over_at(
        struct hop_queue *hq, const struct route_addr *a, struct conn *only, const struct limit *woken)
{
	struct limit *wanted[LEASES_MAX];
	struct host_limit *named[NAMED_LIMITS_MAX];
	struct choice c = {.woken = woken, .who = demand_health(hq)};
	struct conn_key key;
	if (!fit_now(hq, a, &c))
		return false;
	conn_key_of(hq, a, &c.source, c.any_source, &key);
	struct conn *conn = sibling_find(hq->q, &key);
	if (!conn || conn->hq == hq || (only && conn != only) || conn_used_up(conn))
		return false;
	host_find(hq, a, &c);
	unsigned n_named = named_limits(hq, &c, named);
	unsigned n = wanted_limits(hq, named, n_named, woken, wanted);
	wanted[n - 1] = machine_limit_of(conn);
	if (!leases_could_change(&conn->leases, wanted, n, woken) || !message_may_go(hq->traffic, &c))
		return false;
	traffic_stop_waiting(hq->traffic);
	proxy_stop_waiting(hq->traffic);
	conn_take_over(conn, hq, wanted, n, named, n_named, woken);
	return true;
}

/* Of all addresses that may be used: up to the preference at which a new session would be opened. */
static bool take_over(
        struct hop_queue *hq, const struct choice *c, struct conn *only, const struct limit *woken)
{
	const struct route *r = hq->traffic->route;
	unsigned worst = c && c->addr ? c->addr->preference : UINT16_MAX;
	for (unsigned i = 0; i < r->n && r->addrs[i].preference <= worst && hq->q->n_idle_conns > 0; i++) {
		if (take_over_at(hq, &r->addrs[i], only, woken))
			return true;
	}
	return false;
}

static bool goal_reached(const struct hop_queue *hq)
{
	const struct traffic *t = hq->traffic;
	return hq->n[DELIVERY_READY] == 0 || t->n_conns - t->n_leaving - t->n_slow >= goal(hq);
}

static enum opened open_one(struct hop_queue *hq, const struct limit *woken)
{
	struct traffic *t = hq->traffic;
	struct limit *wanted[LEASES_MAX + GATES_MAX], *full;
	struct host_limit *named[NAMED_LIMITS_MAX];
	struct choice c;
	uint32_t opening = t->n_opening - t->n_slow;
	if (goal_reached(hq) || opening >= hq->n[DELIVERY_READY] ||
	        (!t->proven && opening >= (dead_is(hq) ? 1 : UNPROVEN_MAX)))
		return ENOUGH;
	choose(hq, woken, &c);
	if (take_over(hq, &c, NULL, woken))
		return OPENED;
	if (!c.addr) {
		none_usable(hq, &c);
		return ENOUGH;
	}
	unsigned n_named = named_limits(hq, &c, named);
	unsigned n = wanted_limits(hq, named, n_named, woken, wanted);
	unsigned n_gates = gates_limits(t, c.marks.throttles, wanted + n);
	full = limits_blocking(wanted, n + n_gates, woken);
	if (full) {
		/* those made for the question; what idle sessions that make room hold may go while waiting begins */
		for (unsigned i = 0; i < n_named; i++)
			host_limit_put(hq->q, named[i]);
		attempt_wait(t, full);
		if (full == &hq->q->reserve) /* a place in the total will do as well */
			attempt_wait(t, &hq->q->server);
		return ENOUGH;
	}
	traffic_stop_waiting(t);
	proxy_stop_waiting(t);
	conn_open(hq, c.addr, &c.source, c.any_source, wanted, n, named, n_named, c.marks.throttles)
	        ->probation = c.probation;
	return OPENED;
}

static bool may_open(struct hop_queue *hq)
{
	const struct traffic *t = hq->traffic;
	return !hq->q->stopping && hq->hold == HOLD_NONE && hq->n[DELIVERY_READY] > 0 && t->n_drain == 0 &&
	       t->backoff_until_us <= queue_now(hq->q) && have_route(hq);
}

bool attempt_take_over(struct hop_queue *hq, struct conn *c, const struct limit *woken)
{
	return place_first(hq) && may_open(hq) && !goal_reached(hq) && take_over(hq, NULL, c, woken);
}

/* A message may go: on a session that is there, if there is one. */
static bool feed_woken(struct traffic *t, const struct limit *l)
{
	return l->is_throttle && link_linked(&t->idle) &&
	       conn_feed_woken(container_of(t->idle.prev, struct conn, idle), l);
}

/* Those who wait for a limit, in their order, one session each. */
void attempt_wake(struct queue *q, struct slice *slice)
{
	while (link_linked(&q->freed)) {
		struct limit *l = container_of(q->freed.next, struct limit, wake_link);
		struct waiter *w = limit_first_waiter(l);
		if (!w || !limit_has_room(l)) {
			link_remove(&l->wake_link);
			continue;
		}
		if (slice_over(slice))
			return;
		struct traffic *t = w->who;
		traffic_stop_waiting(t);
		if (place_first(t->hq) && !feed_woken(t, l) && may_open(t->hq))
			open_one(t->hq, l);
		hop_queue_work(t->hq); /* what more it wants it asks for behind the others */
	}
}

/* --- a queue's turn ------------------------------------------------------------------------------------------------------ */

/* A million deferrals are written down no faster than the spool commits. */
static void drains_wait(struct hop_queue *hq)
{
	link_remove(&hq->work);
	link_add_tail(&hq->q->drains, &hq->work);
}

void drains_resume(struct queue *q)
{
	while (link_linked(&q->drains)) {
		struct hop_queue *hq = container_of(q->drains.next, struct hop_queue, work);
		link_remove(&hq->work);
		hop_queue_work(hq);
	}
}

static void drain_some(struct hop_queue *hq, struct slice *slice)
{
	struct queue *q = hq->q;
	struct traffic *t = hq->traffic;
	while (t->n_drain > 0) {
		uint32_t no = place_first(hq);
		if (!no) {
			t->n_drain = 0;
			break;
		}
		if (bounces_full(q)) {
			bounces_wait(hq);
			return;
		}
		if (!queue_may_record(q)) {
			drains_wait(hq);
			return;
		}
		if (slice_over(slice)) {
			hop_queue_work(hq);
			return;
		}
		t->n_drain--;
		hq->turns++;
		result_waiting(q, no, &t->drain->outcome, &t->drain->facts);
	}
	failure_free(&t->drain);
}

static void feed_idle(struct hop_queue *hq)
{
	struct traffic *t = hq->traffic;
	while (link_linked(&t->idle) && hq->n[DELIVERY_READY]) {
		struct conn *c = container_of(t->idle.prev, struct conn, idle);
		if (!conn_feed(c) && c->state == CONN_IDLE)
			return;
	}
}

void attempt_service(struct hop_queue *hq, struct slice *slice)
{
	if (hq->hold != HOLD_NONE || hq->q->stopping || !place_first(hq))
		return;
	struct traffic *t = traffic_get(hq);
	if (t->n_drain) {
		drain_some(hq, slice);
		if (t->n_drain || !hq->n[DELIVERY_READY])
			return;
	}
	if (t->n_conns && attempt_route_settled(hq))
		feed_idle(hq);
	while (may_open(hq)) {
		if (slice_over(slice)) {
			hop_queue_work(hq);
			return;
		}
		if (open_one(hq, NULL) != OPENED)
			return;
	}
}
