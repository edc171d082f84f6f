#include "queue/queue_in.h"

#include <assert.h>
#include <malloc.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "conf/response_rule.h"

/* Above this, in results not yet durable, or when the oldest is older, no new job is handed out (design section 8). */
#define UNCOMMITTED_MAX 1000
#define UNCOMMITTED_AGE_US SECOND_US
/* MAIL gets 452 above this, until it is down to 15/16 of it. */
#define MEMORY_MAX ((size_t)4 << 30)
#define MEMORY_SHARE 2 /* but no more than half of the machine's */

/* --- small things --------------------------------------------------------------------------------------------- */

uint32_t numbered_add(struct numbered *t, void *object)
{
	uint32_t number;
	if (t->n_free > 0) {
		number = t->free[--t->n_free];
	} else {
		if (t->n == t->size) {
			t->size = t->size ? t->size * 2 : 16;
			t->at = mem_array(t->at, t->size, sizeof(*t->at));
		}
		number = t->n++;
	}
	t->at[number] = object;
	return number;
}

void numbered_remove(struct numbered *t, uint32_t number)
{
	t->at[number] = NULL;
	if (t->n_free == t->size_free) {
		t->size_free = t->size_free ? t->size_free * 2 : 16;
		t->free = mem_array(t->free, t->size_free, sizeof(*t->free));
	}
	t->free[t->n_free++] = number;
}

void numbered_free(struct numbered *t)
{
	free(t->at);
	free(t->free);
	*t = (struct numbered){0};
}

uint64_t queue_now(const struct queue *q)
{
	return loop_now_us(q->loop);
}

struct slice slice_begin(struct queue *q)
{
	return (struct slice){.q = q, .end_us = q->clock->mono_us(q->clock) + SLICE_US};
}

/*
 * For work that may take its time beside mail that flows: a fifth of what the loop does, in pieces that grow with the rest
 * of a turn, so that mail keeps the four others. Where nothing else is to be done the pieces are small, but follow at once.
 */
static struct slice slice_beside(struct queue *q)
{
	uint64_t others = loop_cpu_us(q->loop) - q->beside_cpu_us, us = others / 4;
	if (us > SLICE_US)
		us = SLICE_US;
	if (us < SLICE_MIN_US)
		us = SLICE_MIN_US;
	return (struct slice){.q = q, .end_us = q->clock->mono_us(q->clock) + us};
}

bool slice_over(struct slice *s)
{
	if (++s->steps >= SLICE_STEPS)
		return true;
	/* reading the clock costs about as much as a step */
	return s->steps % 16 == 0 && s->q->clock->mono_us(s->q->clock) >= s->end_us;
}

/* What is in use: free places in the slab are used again, and do not keep mail out. */
size_t queue_memory(const struct queue *q)
{
	/* its place, those in the index and the heap, what malloc adds to its packed block */
	size_t each = sizeof(struct delivery) + 2 * sizeof(uint32_t) + 16;
	return delivery_count(q->slab) * each + q->packed_bytes + intern_bytes(q->names) +
	       intern_bytes(q->replies) + q->n_hop_queues * (sizeof(struct hop_queue) + 16);
}

/* --- the turn --------------------------------------------------------------------------------------------------- */

void queue_kick(struct queue *q)
{
	if (!timer_armed(&q->kick))
		timer_arm_in(q->loop, &q->kick, 0);
}

static void kicked(void *ctx)
{
	(void)ctx; /* that there is a turn is all it is for: the work is done at its end */
}

static void due_come(void *ctx)
{
	(void)ctx;
}

void queue_schedule_due(struct queue *q)
{
	uint32_t no = due_first(q->due);
	if (!no) {
		timer_cancel(q->loop, &q->due_timer);
		return;
	}
	uint64_t due = delivery_at(q->slab, no)->due_us;
	if (!timer_armed(&q->due_timer) || q->due_timer.due_us != due)
		timer_arm(q->loop, &q->due_timer, due);
}

struct spool_results *queue_results(struct queue *q)
{
	if (!q->results)
		q->results = spool_results_new();
	return q->results;
}

static bool spool_is_behind(const struct queue *q, uint64_t most)
{
	uint64_t since = spool_uncommitted_since_us(q->spool);
	uint64_t n = spool_uncommitted(q->spool) + (q->results ? spool_results_count(q->results) : 0);
	return n > most || (since != 0 && queue_now(q) >= since + UNCOMMITTED_AGE_US);
}

bool queue_may_hand_out(const struct queue *q)
{
	return !spool_is_behind(q, UNCOMMITTED_MAX);
}

bool queue_may_record(const struct queue *q)
{
	return !spool_is_behind(q, UNCOMMITTED_MAX / 2);
}

/* Comes back when a turn's results are durable: at that turn's end those who wait for it are served. */
struct commit_note {
	struct mail mail;
	struct queue *q;
};

static void committed(struct mail *mail)
{
	struct commit_note *note = container_of(mail, struct commit_note, mail);
	struct queue *q = note->q;
	q->notes_out--;
	q->notes_back++;
	mem_free(&note);
	changes_committed(q);
	throttles_committed(q->throttles);
	if (q->stopping)
		queue_check_stopped(q);
}

static void post_results(struct queue *q)
{
	if (!q->results)
		return;
	struct commit_note *note = mem_zalloc(sizeof(*note));
	note->q = q;
	note->mail.take = committed;
	q->notes_out++;
	q->notes_posted++;
	spool_results_on_commit(q->results, q->loop, &note->mail);
	spool_results_post(q->spool, &q->results);
}

static void set_metrics(struct queue *q)
{
	size_t memory = queue_memory(q);
	metric_set(q->m.active, q->counts.active);
	metric_set(q->m.deferred, q->counts.deferred);
	metric_set(q->m.held, q->counts.held);
	metric_set(q->m.queues, q->n_hop_queues);
	metric_set(q->m.sessions, q->counts.connections);
	metric_set(q->m.sessions_max, q->server.max);
	metric_set(q->m.reserve, q->reserve.used);
	metric_set(q->m.memory, memory);
	metric_set(q->m.dead, dead_count(q));
	bool full = atomic_load_explicit(&q->handoff->queue_full, memory_order_relaxed);
	if (!full && memory > q->memory_max)
		atomic_store_explicit(&q->handoff->queue_full, true, memory_order_relaxed);
	else if (full && memory < q->memory_max - q->memory_max / 16)
		atomic_store_explicit(&q->handoff->queue_full, false, memory_order_relaxed);
}

static void work(struct queue *q, struct slice *slice)
{
	while (link_linked(&q->work)) {
		if (slice_over(slice)) {
			queue_kick(q);
			return;
		}
		struct hop_queue *hq = container_of(q->work.next, struct hop_queue, work);
		link_remove(&hq->work);
		attempt_service(hq, slice);
		hop_queue_free_if_empty(hq);
	}
}

/* Everything there is to do is done at the end of the turn that brought it, as far as a slice goes. */
static void turn_end(void *ctx)
{
	struct queue *q = ctx;
	if (!q->started)
		return;
	struct slice slice = slice_begin(q);
	deliveries_due(q, &slice);
	if (link_linked(&q->drains) && queue_may_record(q))
		drains_resume(q);
	attempt_wake(q, &slice);
	work(q, &slice);
	attempt_wake(q, &slice);
	if (q->rekeying)
		rekey_some(q, &slice);
	conns_feed_wanting(q, &slice);
	if (link_linked(&q->changes)) {
		struct slice beside = slice_beside(q);
		changes_some(q, &beside);
		q->beside_cpu_us = loop_cpu_us(q->loop);
	}
	if (link_linked(&q->freed) || link_linked(&q->work))
		queue_kick(q);
	queue_schedule_due(q);
	set_metrics(q);
	post_results(q);
}

/* --- arrival ------------------------------------------------------------------------------------------------------ */

static uint32_t delivery_new(
        struct queue *q, const struct message *m, const struct delivery_spec *spec, uint32_t index)
{
	uint32_t no = delivery_take(q->slab);
	struct delivery *d = delivery_at(q->slab, no);
	uint64_t now_wall = loop_wall_us(q->loop);
	uint64_t age = m->received_wall_us < now_wall ? now_wall - m->received_wall_us : 0;
	d->id = m->id;
	d->received_us = (int64_t)queue_now(q) - (int64_t)age;
	d->size = m->body_size;
	d->flags = (uint16_t)m->flags;
	d->index = index;
	d->n_all = spec->n_recipients;
	d->priority = spec->priority & 3;
	d->sticky = spec->sticky;
	d->has_sticky = spec->has_sticky;
	d->domain = intern_get(q->names, spec->domain);
	d->rule = intern_get(q->names, spec->rule);
	d->client = demand_client(q, m);
	place_target(q, d, spec->target);
	delivery_index_add(q->slab, no);
	return no;
}

static void set_recipients(struct queue *q, struct delivery *d, const struct message *m,
        const struct delivery_spec *spec, const uint32_t *open, uint32_t n_open)
{
	uint32_t n = open ? n_open : spec->n_recipients, kept = 0;
	struct packed_recipient *r = mem_array(NULL, n, sizeof(*r));
	for (uint32_t i = 0; i < n; i++) {
		uint32_t number = open ? open[i] : i;
		if (number < spec->n_recipients)
			r[kept++] = (struct packed_recipient){number, spec->recipients[number].address};
	}
	d->packed = packed_new(m->sender, r, kept);
	d->n_open = d->n_untried = kept;
	q->packed_bytes += packed_size(d->packed, kept);
	mem_free(&r);
}

static void enqueue(struct queue *q, const struct message *m)
{
	bool keep_body = m->body && spool_keep_in_memory(q->spool, m->body_size);
	for (uint32_t i = 0; i < m->n_deliveries; i++) {
		const struct delivery_spec *spec = &m->deliveries[i];
		uint32_t no = delivery_new(q, m, spec, i);
		struct delivery *d = delivery_at(q->slab, no);
		set_recipients(q, d, m, spec, NULL, 0);
		if (keep_body)
			d->body = body_ref(m->body);
		place_delivery(q, no, DELIVERY_READY, 0);
		if (spec->counted)
			quota_settle(q->quotas, spec->target, spec->counted_bytes);
		for (uint32_t r = 0; r < spec->n_recipients; r++)
			event_reception(q, d, spec->recipients[r].address);
	}
}

void queue_enqueue_mail(struct mail *mail)
{
	struct spool_add *add = container_of(mail, struct spool_add, queue_mail);
	struct queue *q = add->ctx;
	enqueue(q, add->message);
	message_unref(&add->message);
	if (!add->reply_loop || atomic_fetch_sub(&add->refs, 1) == 1)
		mem_free(&add);
}

/* --- replay --------------------------------------------------------------------------------------------------------- */

/* Wall-clock time of the last run to this boot's monotonic time; a clock set back meanwhile holds nothing. */
static uint64_t due_from_wall(struct queue *q, const struct delivery *d, uint64_t next_wall_us)
{
	uint64_t now_wall = loop_wall_us(q->loop);
	uint64_t wait = next_wall_us > now_wall ? next_wall_us - now_wall : 0;
	uint64_t most = delivery_options(q, d)->max_retry_interval_s * SECOND_US;
	return queue_now(q) + (wait < most ? wait : most);
}

static void restore_delivery(struct queue *q, const struct message *m, const struct spool_live_delivery *live)
{
	const struct delivery_spec *spec = &m->deliveries[live->index];
	uint32_t no = delivery_new(q, m, spec, live->index);
	struct delivery *d = delivery_at(q->slab, no);
	if (live->binding)
		place_target(q, d, live->binding);
	if (live->domain && strcmp(live->domain, spec->domain) != 0) {
		intern_drop(q->names, d->domain);
		d->domain = intern_get(q->names, live->domain);
	}
	set_recipients(q, d, m, spec, live->open, live->n_open);
	if (d->n_open == 0) {
		log_warning(
		        "message %016llx: the spool names no recipient of delivery %u that it has; dropped",
		        (unsigned long long)m->id, live->index);
		spool_results_done(queue_results(q), d->id, d->index);
		delivery_drop(q, no);
		return;
	}
	last_reply_set(q, d, live->last_reply, live->last_attempt_wall_us);
	d->attempts = live->attempts < UINT16_MAX ? (uint16_t)live->attempts : UINT16_MAX;
	if (live->held)
		place_delivery(q, no, DELIVERY_HELD, 0);
	else if (live->next_attempt_wall_us)
		place_delivery(q, no, DELIVERY_DEFERRED, due_from_wall(q, d, live->next_attempt_wall_us));
	else
		place_delivery(q, no, DELIVERY_READY, 0);
}

void queue_restore(void *queue, const struct spool_live *live)
{
	for (uint32_t i = 0; i < live->n_deliveries; i++) {
		if (live->deliveries[i].index < live->message->n_deliveries)
			restore_delivery(queue, live->message, &live->deliveries[i]);
	}
}

void queue_restore_setting(void *queue, const char *key, const char *value)
{
	struct queue *q = queue;
	if (suspension_restore(q, key, value) || throttle_restore(q->throttles, key, value) ||
	        alias_restore(q, key, value) || reduction_restore(q, key, value))
		return;
	log_warning("the spool has a setting that this version does not know: %s=%s", key, value);
}

/* --- life -------------------------------------------------------------------------------------------------------------- */

static void adopt(struct queue *q, struct policy *policy)
{
	q->policy = policy;
	q->conf = policy_conf(q->policy);
	q->xclient_used = conf_uses_xclient(q->conf);
	q->global = conf_global(q->conf);
	responses_forget_patterns(q);
	q->generation++;
	bindings_adopt(q);
	quotas_adopt(q);
	limits_adopt(q);
}

static void sources_changed(void *ctx)
{
	bindings_check_sources(ctx);
}

static void add_metrics(struct queue *q, struct metrics *m)
{
	q->m.active =
	        metrics_gauge(m, "bindpost_queue_deliveries", "state=\"active\"", "Deliveries in the queue.");
	q->m.deferred = metrics_gauge(
	        m, "bindpost_queue_deliveries", "state=\"deferred\"", "Deliveries in the queue.");
	q->m.held =
	        metrics_gauge(m, "bindpost_queue_deliveries", "state=\"held\"", "Deliveries in the queue.");
	q->m.queues = metrics_gauge(m, "bindpost_queues", NULL, "Queues: binding, next hop and profile.");
	q->m.sessions =
	        metrics_gauge(m, "bindpost_connections", NULL, "Connections that count against limits.");
	q->m.sessions_max = metrics_gauge(m, "bindpost_connections_max", NULL,
	        "server_max_outbound_connections; the reserve is above it.");
	q->m.reserve =
	        metrics_gauge(m, "bindpost_connections_reserve", NULL, "Connections out of the reserve.");
	q->m.memory = metrics_gauge(m, "bindpost_queue_memory_bytes", NULL, "Memory of queued deliveries.");
	q->m.received =
	        metrics_counter(m, "bindpost_recipients_received_total", NULL, "Recipients taken over.");
	q->m.delivered =
	        metrics_counter(m, "bindpost_recipients_delivered_total", NULL, "Recipients delivered.");
	q->m.deferrals =
	        metrics_counter(m, "bindpost_deferrals_total", NULL, "Attempts that ended in a deferral.");
	q->m.bounced =
	        metrics_counter(m, "bindpost_recipients_bounced_total", NULL, "Recipients refused for good.");
	q->m.expired =
	        metrics_counter(m, "bindpost_recipients_expired_total", NULL, "Recipients given up on.");
	q->m.uncertain =
	        metrics_counter(m, "bindpost_uncertain_total", NULL, "Transactions without a last reply.");
	q->m.spool_live =
	        metrics_gauge(m, "bindpost_spool_live_bytes", NULL, "Bytes of records that still matter.");
	q->m.spool_free =
	        metrics_gauge(m, "bindpost_spool_free_bytes", NULL, "Free space on the file system.");
	q->m.spool_messages = metrics_gauge(m, "bindpost_spool_messages", NULL, "Messages in the spool.");
	q->m.dead = metrics_gauge(
	        m, "bindpost_dead_destinations", NULL, "Next hops at which nothing works for a binding.");
	for (int i = 0; i < RESPONSE_N_THENS; i++) {
		char label[40];
		snprintf(label, sizeof(label), "then=\"%s\"", response_then_word((enum response_then)i));
		q->m.by_rule[i] = metrics_counter(
		        m, "bindpost_response_rules_total", label, "Replies that a response rule acted on.");
	}
	q->m.dsns = metrics_counter(m, "bindpost_dsns_total", NULL, "Reports of failure made.");
}

static void init_lists(struct queue *q)
{
	link_init(&q->work);
	link_init(&q->freed);
	link_init(&q->wanting);
	link_init(&q->drains);
	link_init(&q->bounces);
	link_init(&q->bounce_blocked);
	link_init(&q->changes);
	link_init(&q->changes_done);
	timer_init(&q->suspension_timer, suspensions_expire, q);
	timer_init(&q->reduction_timer, reductions_expire, q);
	timer_init(&q->curfew_timer, curfews_look, q);
	timer_init(&q->alias_timer, aliases_expire, q);
	pthread_mutex_init(&q->alias_lock, NULL);
	timer_init(&q->kick, kicked, q);
	timer_init(&q->due_timer, due_come, q);
	limit_init(&q->server, LIMIT_NONE);
	limit_init(&q->reserve, 0);
}

static size_t memory_max(void)
{
	long pages = sysconf(_SC_PHYS_PAGES), bytes = sysconf(_SC_PAGESIZE);
	size_t share = pages > 0 && bytes > 0 ? (size_t)pages * (size_t)bytes / MEMORY_SHARE : MEMORY_MAX;
	return share < MEMORY_MAX ? share : MEMORY_MAX;
}

struct queue *queue_new(const struct queue_config *c)
{
	struct queue *q = mem_zalloc(sizeof(*q));
	q->loop = c->loop;
	q->clock = loop_clock(c->loop);
	q->rnd = c->rnd;
	q->spool = c->spool;
	q->router = c->router;
	q->local = c->local;
	q->events = c->events;
	q->nets = c->nets;
	q->n_nets = c->n_nets;
	q->sessions_max = c->sessions_max;
	q->handoff = c->handoff;
	q->memory_max = memory_max();
	init_lists(q);
	q->names = intern_new();
	q->replies = intern_new();
	q->metrics = c->metrics;
	q->started_us = queue_now(q);
	q->profiles = profile_table_new();
	q->health = health_new();
	q->dead = dead_new();
	q->throttles = throttles_new(q);
	q->responses = responses_new();
	q->quotas = quotas_new();
	q->slab = delivery_slab_new();
	q->due = due_new(q->slab);
	q->dests = dest_cache_new();
	q->activity = activity_new();
	q->host_buckets = mem_zalloc(HOST_BUCKETS * sizeof(struct host_limit *));
	q->idle_conns = mem_array(NULL, IDLE_BUCKETS, sizeof(struct link));
	for (unsigned i = 0; i < IDLE_BUCKETS; i++)
		link_init(&q->idle_conns[i]);
	add_metrics(q, c->metrics);
	adopt(q, policy_ref(c->policy));
	metric_set(metrics_gauge(c->metrics, "bindpost_queue_memory_max_bytes", NULL,
	                   "Memory of queued deliveries above which MAIL is answered 452."),
	        q->memory_max);
	binding_metrics_some(q, NULL);
	local_addrs_on_change(q->local, sources_changed, q);
	loop_on_turn_end(q->loop, turn_end, q);
	return q;
}

void queue_start(struct queue *q)
{
	q->started = true;
	suspensions_start(q);
	reductions_start(q);
	aliases_start(q);
	throttles_start(q->throttles);
	malloc_trim(0); /* what replay needed for a while */
	queue_kick(q);
}

/* With too many the oldest stays: see policy_cell.c, which keeps the same ones. */
static void keep(struct queue *q, struct policy *takes_ref)
{
	unsigned moved = q->n_kept;
	if (q->n_kept == POLICY_KEPT_MAX) {
		moved = POLICY_KEPT_MAX - 2;
		policy_unref(&q->kept[moved]);
	} else {
		q->n_kept++;
	}
	memmove(q->kept + 1, q->kept, moved * sizeof(*q->kept));
	q->kept[0] = takes_ref;
}

static void put_in_force(struct queue *q, struct policy *policy)
{
	adopt(q, policy);
	bindings_check_sources(q);
	proxies_reloaded(q);
	rekey_begin(q);
}

void queue_take(struct queue *q, struct policy *takes_ref)
{
	keep(q, q->policy);
	put_in_force(q, takes_ref);
}

void queue_drop(struct queue *q)
{
	unsigned n = q->n_kept;
	if (n == 0)
		return;
	q->n_kept = 0;
	put_in_force(q, q->policy);
	for (unsigned i = 0; i < n; i++)
		policy_unref(&q->kept[i]);
}

void queue_reconfigure(struct queue *q, struct policy *takes_ref)
{
	queue_take(q, takes_ref);
	queue_drop(q);
}

static void stop_done(struct queue *q)
{
	void (*stopped)(void *ctx) = q->stopped;
	q->stopped = NULL;
	if (stopped)
		stopped(q->stopped_ctx);
}

/* All sessions have closed, their results are with the spool and durable, no DSN is half stored. */
void queue_check_stopped(struct queue *q)
{
	if (q->counts.connections == 0 && !q->results && q->notes_out == 0)
		stop_done(q);
}

static void look_stopped(void *ctx)
{
	struct queue *q = ctx;
	if (q->stopped)
		queue_check_stopped(q);
}

void queue_stop(struct queue *q, uint64_t transaction_deadline_mono_us, uint64_t final_deadline_mono_us,
        void (*done)(void *ctx), void *ctx)
{
	q->stopping = true;
	q->stopped = done;
	q->stopped_ctx = ctx;
	for (unsigned i = 0; i < q->n_nets; i++)
		session_net_stop(q->nets[i], transaction_deadline_mono_us, final_deadline_mono_us);
	/* with nothing open nobody else comes by to look */
	timer_init(&q->stop_timer, look_stopped, q);
	timer_arm_in(q->loop, &q->stop_timer, 0);
}

static void deliveries_free(struct queue *q)
{
	for (uint32_t no = 1; no < delivery_top(q->slab); no++) {
		if (delivery_at(q->slab, no)->state != DELIVERY_FREE)
			delivery_drop(q, no);
	}
}

static void host_limits_free(struct queue *q)
{
	for (unsigned i = 0; i < HOST_BUCKETS; i++) {
		while (q->host_buckets[i]) {
			struct host_limit *h = q->host_buckets[i];
			q->host_buckets[i] = h->hash_next;
			free(h);
		}
	}
	activity_free(q);
	mem_free(&q->host_buckets);
	mem_free(&q->idle_conns);
}

static void bindings_free(struct queue *q)
{
	for (uint32_t i = 0; i < q->bindings.n; i++) {
		struct binding *b = binding_at(q, i);
		timer_cancel(q->loop, &b->retry_source);
		proxies_free(b);
		free(b->metrics);
		free(b);
	}
	numbered_free(&q->bindings);
	mem_free(&q->binding_of_name);
}

void queue_free(struct queue **pq)
{
	struct queue *q = *pq;
	if (!q)
		return;
	assert(q->counts.connections == 0);
	bounces_free(q);
	changes_free(q);
	moves_free(q);
	suspensions_free(q);
	reductions_free(q);
	curfews_free(q);
	aliases_free(q);
	timer_cancel(q->loop, &q->suspension_timer);
	deliveries_free(q);
	hop_queues_free(q);
	host_limits_free(q);
	bindings_free(q);
	numbered_free(&q->hop_queues);
	numbered_free(&q->conns);
	mem_free(&q->pair_buckets);
	mem_free(&q->hop_buckets);
	dest_cache_free(q);
	due_free(&q->due);
	delivery_slab_free(&q->slab);
	health_free(&q->health);
	dead_free(q);
	throttles_free(&q->throttles);
	responses_free(q);
	quotas_free(&q->quotas);
	profile_table_free(&q->profiles);
	intern_free(&q->names);
	intern_free(&q->replies);
	for (unsigned i = 0; i < q->n_kept; i++)
		policy_unref(&q->kept[i]);
	policy_unref(&q->policy);
	timer_cancel(q->loop, &q->kick);
	timer_cancel(q->loop, &q->due_timer);
	timer_cancel(q->loop, &q->stop_timer);
	mem_free(pq);
}
