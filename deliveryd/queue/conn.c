#include "queue/queue_in.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

/* While others wait for one of its leases, a session goes on for this many jobs or this long, then makes room. */
#define SHARE_JOBS 10
#define SHARE_US SECOND_US
/* How many waiting deliveries have had their attempt when a connection failed before any job, or in one. */
#define CHARGE_CONNECT 100
#define CHARGE_JOB 1
/* A session that is not ready by then is slow; longer than receivers usually delay their banner. */
#define SLOW_US (10 * SECOND_US)

const char *conn_state_name(enum conn_state state)
{
	static const char *const names[] = {"opening", "busy", "waiting", "idle", "closing"};
	return names[state];
}

struct conn *conn_of_leases(struct leases *l)
{
	return container_of(l, struct conn, leases);
}

/* A family whose packets go nowhere must not cost the mail its connect_timeout: the other one is tried as well. */
static void opens_slowly(void *ctx)
{
	struct conn *c = ctx;
	c->slow = true;
	gates_no_job(c);
	c->hq->traffic->n_slow++;
	hop_queue_work(c->hq);
}

static void set_state(struct conn *c, enum conn_state to)
{
	struct traffic *t = c->hq->traffic;
	if (c->state == CONN_OPENING) {
		t->n_opening--;
		t->n_slow -= c->slow;
		c->slow = false;
		timer_cancel(c->q->loop, &c->slow_timer);
	}
	link_remove(&c->idle);
	link_remove(&c->wanting);
	sibling_withdraw(c);
	if (c->state == CONN_IDLE)
		leases_set_idle(&c->leases, false);
	c->state = to;
	switch (to) {
	case CONN_IDLE:
		c->was_idle |= c->jobs_out == 0; /* one still out asked ahead for its successor */
		link_add_tail(&t->idle, &c->idle);
		leases_set_idle(&c->leases, true);
		sibling_offer(c);
		break;
	case CONN_WANTING:
		link_add_tail(&c->q->wanting, &c->wanting);
		break;
	case CONN_LEAVING:
		t->n_leaving++;
		gates_no_job(c);
		leases_set_leaving(&c->leases);
		break;
	case CONN_OPENING:
	case CONN_BUSY:
		break;
	}
}

void conn_quit(struct conn *c)
{
	if (c->state == CONN_LEAVING)
		return;
	set_state(c, CONN_LEAVING);
	session_quit(c->session);
}

/* --- jobs -------------------------------------------------------------------------------------------------------- */

/* How many recipients the next transaction may name. */
static uint32_t recipients_left(const struct conn *c)
{
	const struct conn_options *o = &c->hq->profile->o;
	uint32_t batch = o->max_recipients_per_batch, all = o->max_recipients_per_connection;
	if (all == 0)
		return batch;
	uint32_t left = c->recipients < all ? all - c->recipients : 0;
	return left < batch ? left : batch;
}

static struct session_job *job_new(struct conn *c, uint32_t no)
{
	struct delivery *d = delivery_at(c->q->slab, no);
	uint32_t n = d->n_untried, most = recipients_left(c);
	struct packed_walk w;
	if (n > most)
		n = most;
	c->recipients += n;
	size_t bytes = packed_size(d->packed, n);
	struct session_job *job = mem_zalloc(sizeof(*job));
	job->mem = mem_alloc(n * (sizeof(char *) + sizeof(uint32_t)) + bytes);
	job->recipients = job->mem;
	job->numbers = (uint32_t *)((char *)job->mem + n * sizeof(char *));
	char *copy = (char *)job->mem + n * (sizeof(char *) + sizeof(uint32_t));
	memcpy(copy, d->packed, bytes);
	packed_walk_init(&w, copy);
	for (uint32_t i = 0; i < n; i++) {
		struct packed_recipient r = packed_walk_next(&w);
		job->recipients[i] = r.address;
		job->numbers[i] = r.number;
	}
	job->n_recipients = n;
	job->sender = packed_sender(copy);
	job->message_id = d->id;
	job->delivery = d->index;
	job->ref = no;
	job->flags = d->flags;
	job->body_size = d->size;
	job->body = d->body ? body_ref(d->body) : NULL;
	return job;
}

/* After a reload: the session goes on only if a new one would look the same. */
static bool outdated(struct conn *c)
{
	const struct binding *b = binding_at(c->q, c->hq->key.binding);
	if (c->generation == c->q->generation)
		return false;
	if (b->kind == BINDING_NAMED) {
		if (!b->conf)
			return true;
		bool any = c->source.family == AF_UNSPEC;
		if (any != b->conf->any_source)
			return true;
		if (!any && !addr_equal_ip(&c->source, &b->conf->source[c->source.family == AF_INET6]))
			return true;
	}
	if (!host_limits_renew(c))
		return true;
	c->generation = c->q->generation;
	gates_renew(c);
	return false;
}

static bool demand_changed(const struct conn *c, const struct route *r)
{
	for (unsigned i = 0; i < r->n; i++)
		if (!r->addrs[i].unix_path && r->addrs[i].addr.port == c->to.addr.port &&
		        addr_equal_ip(&r->addrs[i].addr, &c->to.addr))
			return !tlsa_equal(r->addrs[i].tlsa, c->to.tlsa);
	return false;
}

void conns_adopt_route(struct hop_queue *hq, const struct route *r)
{
	struct link *next;

	for (struct link *l = hq->traffic->conns.next; l != &hq->traffic->conns; l = next) {
		struct conn *c = container_of(l, struct conn, of_traffic);
		next = l->next;
		if (c->unix_path || !demand_changed(c, r))
			continue;
		c->undane = true;
		if (c->state == CONN_IDLE)
			conn_quit(c);
	}
}

static bool wanted_by_others(const struct conn *c)
{
	return leases_wanted_by_others(&c->leases, c->hq->traffic->waiters, WAITERS);
}

static bool share_used(const struct conn *c)
{
	return (c->jobs_done + c->jobs_out - c->turn_jobs >= SHARE_JOBS ||
	               queue_now(c->q) - c->turn_us >= SHARE_US) &&
	       wanted_by_others(c);
}

bool conn_used_up(struct conn *c)
{
	const struct conn_options *o = &c->hq->profile->o;
	if (c->q->stopping || c->hq->hold != HOLD_NONE || c->undane || outdated(c))
		return true;
	if (o->max_deliveries_per_connection &&
	        c->delivered + c->jobs_out >= o->max_deliveries_per_connection)
		return true;
	if (recipients_left(c) == 0)
		return true;
	if (o->connection_reuse_time_limit_s && c->jobs_done + c->jobs_out > 0 &&
	        queue_now(c->q) - c->opened_us >= o->connection_reuse_time_limit_s * SECOND_US)
		return true;
	return false;
}

/* So that one look will do; conn_key_of() decides. */
static bool may_be_sibling(const struct hop_queue *a, const struct hop_queue *b)
{
	return a != b && a->key.binding == b->key.binding && a->profile == b->profile &&
	       a->key.demand == b->key.demand;
}

void conn_make_room(struct conn *c)
{
	bool may = c->q->global->migrate_connections_between_sibling_domains;
	for (unsigned i = 0; may && i < c->leases.n; i++) {
		struct limit *l = c->leases.held[i].limit;
		struct waiter *w = limit_first_waiter(l);
		struct traffic *t = w ? w->who : NULL;
		if (!t || !may_be_sibling(t->hq, c->hq))
			continue;
		if (c->jobs_out > 0)
			return; /* when its last job is back */
		if (attempt_take_over(t->hq, c, l))
			return;
	}
	conn_quit(c);
}

bool conn_feed(struct conn *c)
{
	return conn_feed_woken(c, NULL);
}

/* Whether that host's throttle is another one with room, or none: of a pattern all hosts may have one in common. */
static bool may_take_it(const struct conn *c, const char *mx, const struct limit *full)
{
	struct queue *q = c->q;
	struct host_marks marks;
	host_marks(q, binding_at(q, c->hq->key.binding), mx, &marks);
	for (unsigned i = 0; i < array_len(marks.limits); i++) {
		if (marks.limits[i])
			host_limit_put(q, marks.limits[i]); /* it may have been made for the question */
	}
	struct throttle *t = marks.throttles[THROTTLE_MESSAGES];
	return !t || (throttle_limit(t) != full && limit_has_room(throttle_limit(t)));
}

static bool another_may_do(const struct conn *c, const struct limit *full)
{
	const struct route *r = c->hq->traffic->route;
	const char *last = c->mx;
	if (!r || !gates_is_host(c, full))
		return false;
	for (unsigned i = 0; i < r->n; i++) {
		const char *mx = r->addrs[i].mx ? r->addrs[i].mx : "";
		if (strcmp(mx, last) == 0 || strcmp(mx, c->mx) == 0)
			continue;
		if (may_take_it(c, mx, full))
			return true;
		last = mx;
	}
	return false;
}

/* The next message that may go now, 0 = none. `elsewhere`: not to this host now, but maybe to another. */
static uint32_t next_job(struct conn *c, const struct limit *woken, bool *elsewhere)
{
	struct hop_queue *hq = c->hq;
	uint32_t no = hq->traffic->n_drain ? 0 : place_first(hq);
	if (no && delivery_not_to_be_attempted(c->q, delivery_at(c->q->slab, no))) {
		queue_kick(c->q); /* which sees to it */
		return 0;
	}
	struct limit *full = no ? gates_blocking(c, woken) : NULL;
	if (!full)
		return no;
	attempt_wait(hq->traffic, full);
	*elsewhere = another_may_do(c, full);
	return 0;
}

bool conn_feed_woken(struct conn *c, const struct limit *woken)
{
	struct hop_queue *hq = c->hq;
	if (conn_used_up(c) || share_used(c)) {
		conn_quit(c);
		hop_queue_work(hq);
		return false;
	}
	if (!queue_may_hand_out(c->q)) {
		if (c->state != CONN_WANTING)
			set_state(c, CONN_WANTING);
		return false;
	}
	bool elsewhere = false;
	uint32_t no = next_job(c, woken, &elsewhere);
	if (elsewhere) {
		conn_quit(c);
		hop_queue_work(hq);
		return false;
	}
	if (!no) {
		gates_no_job(c);
		if (c->state == CONN_IDLE)
			return false;
		set_state(c, CONN_IDLE);
		/* nothing to do, and its mail goes another way now, or somebody waits for the lease */
		if (hq->generation != c->q->generation && !c->q->rekeying)
			conn_quit(c);
		else if (wanted_by_others(c))
			conn_make_room(c);
		else
			session_no_job(c->session);
		return false;
	}
	attempt_route_settled(hq); /* this one goes on; should it not do any more it will be told */
	struct session_job *job = job_new(c, no);
	set_state(c, CONN_BUSY);
	gates_job(c, no);
	c->jobs_out++;
	hq->turns++;
	delivery_enter(c->q, no, DELIVERY_OUT, 0);
	session_job(c->session, job);
	return true;
}

/* Idle sessions of queues that get no more mail: they may count against what is in force now. */
void conns_leave_outdated(struct queue *q)
{
	for (uint32_t i = 0; i < q->conns.n; i++) {
		struct conn *c = q->conns.at[i];
		if (c && c->state == CONN_IDLE && c->hq->generation != q->generation)
			conn_quit(c);
	}
}

void conns_feed_wanting(struct queue *q, struct slice *slice)
{
	while (link_linked(&q->wanting) && queue_may_hand_out(q)) {
		if (slice_over(slice)) {
			queue_kick(q);
			return;
		}
		struct conn *c = container_of(q->wanting.next, struct conn, wanting);
		conn_feed(c);
	}
}

static int family_of(const struct conn *c)
{
	return c->source.family == AF_INET6;
}

/* The egress proxy it goes through, if that one ever failed */
static struct proxy *proxy_of(const struct conn *c)
{
	const struct hop_queue *hq = c->hq;
	if (c->to.unix_path)
		return NULL;
	return proxy_for(binding_at(c->q, hq->key.binding), &hq->profile->o, family_of(c));
}

/* --- what sessions tell -------------------------------------------------------------------------------------------- */

static void on_ready(void *ctx, struct session *s, const struct session_facts *facts)
{
	struct conn *c = ctx;
	struct traffic *t = c->hq->traffic;
	(void)s;
	(void)facts;
	c->ready_us = c->turn_us = queue_now(c->q);
	gates_ready(c);
	proxy_worked(proxy_of(c));
	c->probe = false;
	health_succeed(c->q->health, (struct health_who){c->hq->key.binding, 0}, &c->to, c->ready_us);
	health_succeed(c->q->health, demand_health(c->hq), &c->to, c->ready_us);
	dead_answered(c->hq);
	t->proven = true;
	t->n_charge = 0;
	failure_free(&t->failure);
	if (c->state == CONN_OPENING)
		set_state(c, CONN_BUSY);
	if (c->state != CONN_LEAVING)
		conn_feed(c);
	hop_queue_work(c->hq);
}

static void on_want(void *ctx, struct session *s)
{
	struct conn *c = ctx;
	(void)s;
	if (c->state != CONN_LEAVING)
		conn_feed(c);
}

static void on_job_done(
        void *ctx, struct session *s, struct session_job *job, const struct session_facts *facts)
{
	struct conn *c = ctx;
	(void)s;
	assert(c->jobs_out > 0);
	c->jobs_out--;
	gates_job_done(c, (uint32_t)job->ref, job->begun);
	if (job->begun && !job->connection_lost) {
		c->jobs_done++;
		dead_works(c->hq);
	} else {
		c->lost_job = true;
	}
	for (uint32_t i = 0; i < job->n_recipients; i++) {
		if (job->outcomes[i].class == OUTCOME_OK) {
			c->delivered++;
			break;
		}
	}
	bool over = job->connection_lost || !job->begun;
	result_take(c, job, facts);
	session_job_free(&job);
	/* one that did not get to its end of data never asked for the next */
	if (c->state == CONN_BUSY && c->jobs_out == 0 && !over)
		conn_feed(c);
	else if (c->state == CONN_IDLE && c->jobs_out == 0 && !over && wanted_by_others(c))
		conn_make_room(c);
}

/* Our disk, our source address, no port free, stopping. */
static bool our_fault(const struct outcome *why)
{
	return why->class != OUTCOME_OK && why->ours && strncmp(why->enhanced, "4.3.", 4) == 0;
}

/* Is it the host's fault? An idle session closed by the peer is not, nor is one in which mail was delivered. */
static bool host_failed(const struct conn *c, const struct outcome *why, uint32_t completed)
{
	if (why->class == OUTCOME_OK || completed > 0 || our_fault(why))
		return false;
	if (!c->ready_us)
		return true;
	return c->lost_job && !c->was_idle;
}

void conn_avoid_host(struct conn *c, const struct outcome *o, const struct session_facts *facts)
{
	struct queue *q = c->q;
	uint64_t now = queue_now(q), wait_us = c->hq->profile->o.host_failure_retry_s * SECOND_US;
	health_fail(q->health, (struct health_who){c->hq->key.binding, 0}, &c->to, now,
	        now + (wait_us ? wait_us : SECOND_US));
	attempt_failed(c->hq, o, facts, 0, 0);
	conn_quit(c);
}

/* What was said to the session, not to a message: it counts once, for the mail whose turn it is. */
static void say_to_rules(struct hop_queue *hq, const struct outcome *why)
{
	uint32_t no = place_first(hq);
	if (!no)
		return;
	const struct delivery *d = delivery_at(hq->q->slab, no);
	const struct response_rule *rule = response_judge(hq->q, d, why, true);
	if (rule)
		response_act(hq->q, hq, d, rule, why);
}

/* The host is there and talks, but not as this mail wants it: TLS, credentials, XCLIENT. */
static bool demand_failed(const struct outcome *why)
{
	bool theirs = why->state == STATE_STARTTLS || why->state == STATE_AUTH || why->state == STATE_XCLIENT;
	bool broken = why->code == 421 || strncmp(why->enhanced, "4.4.", 4) == 0 ||
	              strncmp(why->enhanced, "4.5.", 4) == 0;
	return why->unfit || (theirs && !broken);
}

static void session_failed(
        struct conn *c, const struct outcome *why, uint32_t completed, const struct session_facts *facts)
{
	struct queue *q = c->q;
	struct hop_queue *hq = c->hq;
	if (q->stopping)
		return;
	if (why->proxy) {
		attempt_proxy_failed(hq, why, facts,
		        proxy_failed(binding_at(q, hq->key.binding), &hq->profile->o, family_of(c), c->probe,
		                why));
		return;
	}
	if (our_fault(why) && !c->ready_us) {
		if (strcmp(why->enhanced, "4.3.5") == 0 && c->source.family != AF_UNSPEC)
			binding_source_refused(binding_at(q, hq->key.binding), c->source.family == AF_INET6);
		else
			attempt_pause(hq, why, facts);
		return;
	}
	if (!host_failed(c, why, completed))
		return;
	proxy_worked(proxy_of(c)); /* it was the host */
	uint64_t wait_us = hq->profile->o.host_failure_retry_s * SECOND_US;
	if (wait_us < SECOND_US)
		wait_us = SECOND_US;
	uint64_t recover_us = queue_now(q) + wait_us;
	struct health_who who =
	        demand_failed(why) ? demand_health(hq) : (struct health_who){hq->key.binding, 0};
	health_fail(q->health, who, &c->to, queue_now(q), recover_us);
	if (why->unfit) { /* a host that works, but never for such mail */
		health_set_unfit(q->health, who, &c->to);
		attempt_failed(hq, why, facts, CHARGE_CONNECT, 0);
		return;
	}
	/* one that does no TLS, or not as demanded, is not silent */
	bool answered = c->ready_us > 0 || (!why->ours && why->code) || why->state > STATE_BANNER;
	bool dead = dead_failed(hq, c->opened_us, answered);
	attempt_failed(hq, why, facts, c->ready_us ? CHARGE_JOB : CHARGE_CONNECT, dead ? recover_us : 0);
	if (!c->lost_job)
		say_to_rules(hq, why);
}

void conn_take_over(struct conn *c, struct hop_queue *to, struct limit *const *wanted, unsigned n,
        struct host_limit *const *named, unsigned n_named, const struct limit *woken)
{
	struct queue *q = c->q;
	struct hop_queue *from = c->hq;
	struct host_limit *old[NAMED_LIMITS_MAX];
	unsigned n_old = c->n_named_limits;
	assert(c->state == CONN_IDLE && c->jobs_out == 0);
	gates_no_job(c);
	memcpy(old, c->named_limits, sizeof(old));
	leases_change(&c->leases, wanted, n, limit_freed, q);
	leases_set_idle(&c->leases, true);
	for (unsigned i = 0; i < n_named; i++)
		c->named_limits[i] = named[i];
	c->n_named_limits = n_named;
	for (unsigned i = 0; i < n_old; i++)
		host_limit_put(q, old[i]);
	link_remove(&c->of_traffic);
	link_remove(&c->idle);
	from->traffic->n_conns--;
	c->hq = to;
	gates_renew(c);
	c->turn_us = queue_now(q);
	c->turn_jobs = c->jobs_done;
	link_add_tail(&to->traffic->conns, &c->of_traffic);
	link_add_tail(&to->traffic->idle, &c->idle);
	to->traffic->n_conns++;
	to->traffic->proven = true;
	to->traffic->n_charge = 0;
	failure_free(&to->traffic->failure);
	hop_queue_work(from);
	hop_queue_work(to);
	conn_feed_woken(c, woken);
}

static void conn_free(struct conn *c)
{
	struct queue *q = c->q;
	leases_give(&c->leases, limit_freed, q);
	gates_free(c);
	for (unsigned i = 0; i < c->n_named_limits; i++)
		host_limit_put(q, c->named_limits[i]);
	numbered_remove(&q->conns, c->number);
	q->counts.connections--;
	binding_at(q, c->hq->key.binding)->counts.connections--;
	binding_metrics_set(binding_at(q, c->hq->key.binding));
	free(c->mx);
	free(c->unix_path);
	tlsa_unref(&c->to.tlsa);
	free(c);
}

static void on_closed(void *ctx, struct session *s, const struct outcome *why, uint32_t completed,
        const struct session_facts *facts)
{
	struct conn *c = ctx;
	struct queue *q = c->q;
	struct hop_queue *hq = c->hq;
	struct traffic *t = hq->traffic;
	(void)s;
	assert(c->jobs_out == 0);
	if (c->state == CONN_LEAVING)
		t->n_leaving--;
	else
		set_state(c, CONN_BUSY); /* out of the lists it may be in */
	t->n_conns--;
	link_remove(&c->of_traffic);
	session_failed(c, why, completed, facts);
	if (c->probe)
		proxy_probe_end(binding_at(q, hq->key.binding), &hq->profile->o, family_of(c));
	conn_free(c);
	hop_queue_work(hq);
	if (q->stopping)
		queue_check_stopped(q);
}

/* A route may say which protocol it wants; HELO or EHLO it leaves to delivery_method. */
static enum delivery_method method_for(const struct hop_queue *hq, const struct route_addr *to)
{
	enum delivery_method option = hq->profile->o.delivery_method;
	if (to->method == ROUTE_METHOD_LMTP)
		return DELIVERY_LMTP;
	return to->method == ROUTE_METHOD_SMTP && option == DELIVERY_LMTP ? DELIVERY_ESMTP : option;
}

struct conn *conn_open(struct hop_queue *hq, const struct route_addr *to, const struct addr *source,
        bool any_source, struct limit *const *wanted, unsigned n, struct host_limit *const *named,
        unsigned n_named, struct throttle *const host[N_THROTTLE_KINDS])
{
	static const struct session_owner owner = {on_ready, on_want, on_job_done, on_closed};
	struct queue *q = hq->q;
	struct binding *b = binding_at(q, hq->key.binding);
	struct conn *c = mem_zalloc(sizeof(*c));
	c->q = q;
	c->hq = hq;
	c->state = CONN_OPENING;
	c->generation = q->generation;
	c->opened_us = queue_now(q);
	c->source = *source;
	c->n_named_limits = n_named;
	for (unsigned i = 0; i < n_named; i++)
		c->named_limits[i] = named[i];
	c->to = *to;
	c->mx = mem_strdup(to->mx ? to->mx : "");
	c->unix_path = to->unix_path ? mem_strdup(to->unix_path) : NULL;
	c->to.mx = c->mx;
	c->to.unix_path = c->unix_path;
	tlsa_ref(c->to.tlsa);
	link_init(&c->idle);
	link_init(&c->offered);
	link_init(&c->wanting);
	link_init(&c->of_traffic);
	link_add_tail(&hq->traffic->conns, &c->of_traffic);
	hq->traffic->n_conns++;
	hq->traffic->n_opening++;
	timer_init(&c->slow_timer, opens_slowly, c);
	timer_arm_in(q->loop, &c->slow_timer, SLOW_US);
	q->counts.connections++;
	b->counts.connections++;
	binding_metrics_set(b);
	c->number = numbered_add(&q->conns, c);
	leases_take(&c->leases, wanted, n);
	gates_open(c, host);
	enum delivery_method method = method_for(hq, to);
	struct next_hop hop;
	next_hop_of(hq, &hop);
	struct demand demand;
	demand_parse(q, hq->key.demand, &demand);
	struct session_open open = {
	        .peer = to->addr,
	        .mx = c->mx,
	        .next_hop = hop.name,
	        .tlsa = c->to.tlsa,
	        .tls_demand = demand_tls(q, hq->key.demand),
	        .unix_path = c->unix_path,
	        .source = *source,
	        .any_source = any_source,
	        .binding = binding_name(q, b),
	        .profile = hq->profile,
	        .method = &method,
	        .ehlo = demand.ehlo,
	        .xclient = demand.xclient,
	        .owner_loop = q->loop,
	        .owner = &owner,
	        .ctx = c,
	};
	c->probe = proxy_probe_begin(proxy_of(c));
	c->session = session_open(q->nets[q->next_net++ % q->n_nets], &open);
	demand_free(&demand);
	return c;
}
