/*
 * resolver - see resolver.h
 *
 * A question asked is a struct dns_query. It waits in a flight (one per name and type, however many ask) or,
 * when the answer is known, in the line of those to be told, which a timer works off. So done() never runs
 * from inside a call, and any query may be cancelled at any moment, from any callback.
 */
#include "config.h"
#include "route/resolver/resolver_in.h"

#include <assert.h>
#include <string.h>
#include "base/mem.h"

#define IN_FLIGHT_MAX 10000
#define CACHE_ENTRIES_MAX 65536
#define CACHE_BYTES_MAX (64u << 20)
#define TTL_MAX_S 86400
#define TTL_NEGATIVE_MAX_S 3600 /* RFC 2308 5 */
#define TTL_FAILED_S 1          /* RFC 9520: a failure is not asked for again at once */
#define RATE_HELP                                                                                            \
	"MX look-ups under dns_rate_limit: begun at once, put in line, taken from it, beyond its end"
#define TOLD_PER_TURN 200 /* a share of the 5 ms a turn may last */

/* --- lists --- */

static void list_add(struct query_list *list, struct dns_query *q)
{
	q->list = list;
	q->next = NULL;
	q->prev = list->last;
	*(list->last ? &list->last->next : &list->first) = q;
	list->last = q;
}

static void list_remove(struct dns_query *q)
{
	struct query_list *list = q->list;

	*(q->prev ? &q->prev->next : &list->first) = q->next;
	*(q->next ? &q->next->prev : &list->last) = q->prev;
}

static void line_add(struct line *l, struct flight *f)
{
	f->line = l;
	f->next = NULL;
	f->prev = l->last;
	*(l->last ? &l->last->next : &l->first) = f;
	l->last = f;
	metric_set(l->metric, ++l->n);
}

static void line_remove(struct flight *f)
{
	struct line *l = f->line;

	*(f->prev ? &f->prev->next : &l->first) = f->next;
	*(f->next ? &f->next->prev : &l->last) = f->prev;
	f->line = NULL;
	metric_set(l->metric, --l->n);
}

/* --- telling --- */

static void free_query(struct dns_query *q)
{
	dns_result_unref(&q->result);
	mem_free(&q);
}

static void tell_one(struct resolver *r, struct dns_query *q)
{
	struct dns_answer answer = q->result->answer;
	uint64_t now = loop_now_us(r->loop);

	list_remove(q);
	answer.ttl_s =
	        q->expires_us > now ? (uint32_t)((q->expires_us - now + SECOND_US - 1) / SECOND_US) : 0;
	q->done(q->ctx, &answer);
	free_query(q);
}

static void on_tell(void *ctx)
{
	struct resolver *r = ctx;

	for (int i = 0; i < TOLD_PER_TURN && r->told.first; i++)
		tell_one(r, r->told.first);
	if (r->told.first)
		timer_arm_in(r->loop, &r->tell, 0);
}

static void to_be_told(struct dns_query *q, struct dns_result *result, uint64_t expires_us)
{
	struct resolver *r = q->resolver;

	q->flight = NULL;
	q->result = dns_result_ref(result);
	q->expires_us = expires_us;
	list_add(&r->told, q);
	if (!timer_armed(&r->tell))
		timer_arm_in(r->loop, &r->tell, 0);
}

/* --- flights --- */

static void on_looked_up(void *ctx, struct dns_result *takes);

static void take_off(struct flight *f)
{
	struct resolver *r = f->resolver;

	r->n_in_flight++;
	metric_add(r->in_flight, 1);
	f->generation = r->generation;
	f->lookup = dns_lookup_start(&r->env, r->servers, &f->question, on_looked_up, f);
}

static void start_waiting(struct resolver *r)
{
	while (r->line.first && r->n_in_flight < IN_FLIGHT_MAX) {
		struct flight *f = r->line.first;
		line_remove(f);
		take_off(f);
	}
}

static void go(struct flight *f)
{
	struct resolver *r = f->resolver;

	if (r->n_in_flight < IN_FLIGHT_MAX)
		take_off(f);
	else
		line_add(&r->line, f);
}

/* --- pace of MX look-ups --- */

static void wait_for_pace(struct resolver *r)
{
	if (r->paced.first)
		timer_arm(r->loop, &r->pace_timer, dns_pace_renewal_us(&r->pace));
}

static void on_pace(void *ctx)
{
	struct resolver *r = ctx;

	for (int i = 0; r->paced.first; i++) {
		struct flight *f = r->paced.first;
		if (i == TOLD_PER_TURN) {
			timer_arm_in(r->loop, &r->pace_timer, 0);
			return;
		}
		if (!dns_pace_next(&r->pace, loop_now_us(r->loop)))
			break;
		line_remove(f);
		metric_add(r->n_drained, 1);
		go(f);
	}
	wait_for_pace(r);
}

static void go_at_pace(struct flight *f)
{
	struct resolver *r = f->resolver;

	switch (dns_pace_ask(&r->pace, r->paced.n, loop_now_us(r->loop))) {
	case DNS_PACE_GO:
		metric_add(r->n_immediate, 1);
		break;
	case DNS_PACE_OVERFLOW:
		metric_add(r->n_overflow, 1);
		break;
	case DNS_PACE_WAIT:
		metric_add(r->n_queued, 1);
		line_add(&r->paced, f);
		if (!timer_armed(&r->pace_timer))
			wait_for_pace(r);
		return;
	}
	go(f);
}

static struct flight *new_flight(struct resolver *r, const struct dns_question *q, const struct dns_key *key)
{
	struct flight *f = mem_zalloc(sizeof(*f));

	f->resolver = r;
	f->question = *q;
	f->key = *key;
	HASH_ADD_KEYPTR(hh, r->flights, f->key.bytes, f->key.len, f);
	if (r->pace.enabled && q->type == DNS_MX)
		go_at_pace(f);
	else
		go(f);
	return f;
}

static void free_flight(struct flight *f)
{
	struct resolver *r = f->resolver;

	HASH_DELETE(hh, r->flights, f);
	mem_free(&f);
}

static bool routes_are_made_of(enum dns_type type)
{
	return type == DNS_MX || type == DNS_A || type == DNS_AAAA;
}

static uint32_t clamp_ttl(const struct resolver *r, const struct dns_answer *a, enum dns_type type)
{
	uint32_t max_s = a->outcome == DNS_ANSWER ? TTL_MAX_S : TTL_NEGATIVE_MAX_S;
	uint32_t ttl_s = a->ttl_s;

	if (a->outcome == DNS_FAILED)
		return TTL_FAILED_S;
	if (routes_are_made_of(type)) {
		if (a->outcome == DNS_ANSWER || r->limits.max_ttl_s < max_s)
			max_s = r->limits.max_ttl_s;
		if (ttl_s < r->limits.min_ttl_s)
			ttl_s = r->limits.min_ttl_s;
	}
	return ttl_s < max_s ? ttl_s : max_s;
}

static void on_looked_up(void *ctx, struct dns_result *result)
{
	struct flight *f = ctx;
	struct resolver *r = f->resolver;
	uint64_t expires_us;

	r->n_in_flight--;
	metric_sub(r->in_flight, 1);
	metric_add(result->answer.outcome == DNS_FAILED ? r->n_failed : r->n_answered, 1);
	result->answer.ttl_s = clamp_ttl(r, &result->answer, f->question.type);
	expires_us = loop_now_us(r->loop) + result->answer.ttl_s * SECOND_US;
	if (result->answer.ttl_s > 0 && f->generation == r->generation)
		dns_cache_put(r->cache, &f->question, result, expires_us);
	metric_set(r->cached, dns_cache_entries(r->cache));
	while (f->waiting.first) {
		struct dns_query *q = f->waiting.first;
		list_remove(q);
		to_be_told(q, result, expires_us);
	}
	dns_result_unref(&result);
	free_flight(f);
	start_waiting(r);
}

/* Nobody waits for it any more. */
static void abandon(struct flight *f)
{
	struct resolver *r = f->resolver;

	if (f->lookup) {
		dns_lookup_cancel(&f->lookup);
		r->n_in_flight--;
		metric_sub(r->in_flight, 1);
	} else {
		line_remove(f);
	}
	free_flight(f);
	start_waiting(r);
}

/* --- struct dns --- */

static void join(struct dns_query *q, const struct dns_question *question)
{
	struct resolver *r = q->resolver;
	struct dns_key key;

	dns_key_set(&key, question);
	HASH_FIND(hh, r->flights, key.bytes, key.len, q->flight);
	if (!q->flight)
		q->flight = new_flight(r, question, &key);
	list_add(&q->flight->waiting, q);
}

static void refuse(struct dns_query *q, const char *why)
{
	struct dns_result *result = dns_result_failed(why);

	to_be_told(q, result, 0);
	dns_result_unref(&result);
}

static struct dns_query *resolver_lookup(
        struct dns *d, const char *name, enum dns_type type, dns_done *done, void *ctx)
{
	struct resolver *r = container_of(d, struct resolver, dns);
	struct dns_query *q = mem_zalloc(sizeof(*q));
	struct dns_question question;
	struct dns_result *known;
	uint64_t expires_us;
	struct error err;

	*q = (struct dns_query){.resolver = r, .done = done, .ctx = ctx};
	if (!dns_question_set(&question, name, type, &err)) {
		refuse(q, err.text);
		return q;
	}
	known = dns_cache_find(r->cache, &question, loop_now_us(r->loop), &expires_us);
	metric_add(known ? r->n_hits : r->n_misses, 1);
	if (known)
		to_be_told(q, known, expires_us);
	else
		join(q, &question);
	return q;
}

static void resolver_cancel(struct dns *d, struct dns_query **p)
{
	struct dns_query *q = *p;
	struct flight *f;

	(void)d;
	*p = NULL;
	if (!q)
		return;
	f = q->flight;
	list_remove(q);
	free_query(q);
	if (f && !f->waiting.first)
		abandon(f);
}

/* --- life --- */

static void register_metrics(struct resolver *r, struct metrics *m)
{
	static const struct {
		size_t offset;
		const char *name, *labels, *help;
		bool gauge;
	} rows[] = {
#define ROW(field, name, labels, help, gauge) {offsetof(struct resolver, field), name, labels, help, gauge}
	        ROW(n_hits, "bindpost_dns_cache_total", "result=\"hit\"",
	                "Look-ups answered from the cache or not", false),
	        ROW(n_misses, "bindpost_dns_cache_total", "result=\"miss\"",
	                "Look-ups answered from the cache or not", false),
	        ROW(n_answered, "bindpost_dns_lookups_total", "result=\"answered\"",
	                "Look-ups done by asking servers", false),
	        ROW(n_failed, "bindpost_dns_lookups_total", "result=\"failed\"",
	                "Look-ups done by asking servers", false),
	        ROW(in_flight, "bindpost_dns_in_flight", NULL, "Look-ups being asked for", true),
	        ROW(line.metric, "bindpost_dns_waiting", NULL, "Look-ups waiting for a place in flight",
	                true),
	        ROW(paced.metric, "bindpost_dns_rate_limit_waiting", NULL,
	                "MX look-ups waiting for the next period of dns_rate_limit", true),
	        ROW(n_immediate, "bindpost_dns_rate_limit_total", "result=\"immediate\"", RATE_HELP, false),
	        ROW(n_queued, "bindpost_dns_rate_limit_total", "result=\"queued\"", RATE_HELP, false),
	        ROW(n_drained, "bindpost_dns_rate_limit_total", "result=\"drained\"", RATE_HELP, false),
	        ROW(n_overflow, "bindpost_dns_rate_limit_total", "result=\"overflow\"", RATE_HELP, false),
	        ROW(not_validating, "bindpost_dns_not_validating", NULL,
	                "Servers trusted for DNSSEC whose answer to the probe (. NS) had no AD bit", true),
	        ROW(n_probes_failed, "bindpost_dns_probes_failed_total", NULL,
	                "Probes for DNSSEC (. NS) that brought no AD bit", false),
	        ROW(cached, "bindpost_dns_cache_entries", NULL, "Answers in the cache", true),
	        ROW(env.n_udp, "bindpost_dns_queries_total", "transport=\"udp\"", "Queries sent", false),
	        ROW(env.n_tcp, "bindpost_dns_queries_total", "transport=\"tcp\"", "Queries sent", false),
	        ROW(env.n_silent, "bindpost_dns_timeouts_total", NULL, "Queries that got no answer in time",
	                false),
	        ROW(env.n_foreign, "bindpost_dns_ignored_total", NULL,
	                "Packets that answered no question of ours (id, question, QR, opcode)", false),
	        ROW(env.n_bad, "bindpost_dns_bad_answers_total", NULL,
	                "Answers that were errors or malformed", false),
#undef ROW
	};

	for (size_t i = 0; i < array_len(rows); i++) {
		metric **field = (metric **)((char *)r + rows[i].offset);
		if (!m)
			*field = &r->none;
		else if (rows[i].gauge)
			*field = metrics_gauge(m, rows[i].name, rows[i].labels, rows[i].help);
		else
			*field = metrics_counter(m, rows[i].name, rows[i].labels, rows[i].help);
	}
}

struct resolver *resolver_new(struct loop *loop, struct rnd *rnd, struct metrics *metrics,
        const struct resolver_server *servers, unsigned n)
{
	struct resolver *r = mem_zalloc(sizeof(*r));

	r->dns = (struct dns){.lookup = resolver_lookup, .cancel = resolver_cancel};
	r->loop = loop;
	r->servers = dns_servers_new(servers, n);
	r->cache = dns_cache_new(CACHE_ENTRIES_MAX, CACHE_BYTES_MAX);
	r->env.loop = loop;
	r->env.rnd = rnd;
	r->limits = (struct resolver_limits){.max_ttl_s = TTL_MAX_S};
	timer_init(&r->tell, on_tell, r);
	timer_init(&r->pace_timer, on_pace, r);
	resolver_probe_init(r);
	register_metrics(r, metrics);
	r->env.udp = dns_udp_new(loop, rnd, r->env.n_foreign);
	r->env.tcp = dns_tcp_new(loop);
	return r;
}

/* Other servers may see other zones: what the old ones said is forgotten. Look-ups under way finish with the
 * old. */
void resolver_set_servers(struct resolver *r, const struct resolver_server *servers, unsigned n)
{
	if (dns_servers_same(r->servers, servers, n))
		return;
	dns_servers_unref(&r->servers);
	r->servers = dns_servers_new(servers, n);
	resolver_flush(r);
	if (r->probing)
		resolver_probe(r);
}

/* What waits for its turn goes by the new pace. */
void resolver_set_limits(struct resolver *r, const struct resolver_limits *l)
{
	struct dns_pace pace = r->pace;

	if (l->min_ttl_s > r->limits.min_ttl_s || l->max_ttl_s < r->limits.max_ttl_s)
		resolver_flush(r); /* what is there was kept by the old ones */
	r->limits = *l;
	pace.enabled = l->mx_limited;
	pace.most = l->mx_queries;
	pace.period_us = l->mx_period_us;
	pace.max_waiting = l->mx_max_queue;
	r->pace = pace;
	timer_arm_in(r->loop, &r->pace_timer, 0);
}

void resolver_flush(struct resolver *r)
{
	r->generation++;
	dns_cache_clear(r->cache);
	metric_set(r->cached, 0);
}

struct dns *resolver_dns(struct resolver *r)
{
	return &r->dns;
}

/* Queries still out are dropped without being told. */
void resolver_free(struct resolver **p)
{
	struct resolver *r = *p;
	struct flight *f, *next;

	if (!r)
		return;
	timer_cancel(r->loop, &r->tell);
	timer_cancel(r->loop, &r->pace_timer);
	resolver_probe_stop(r);
	while (r->told.first) {
		struct dns_query *q = r->told.first;
		list_remove(q);
		free_query(q);
	}
	HASH_ITER (hh, r->flights, f, next) {
		while (f->waiting.first) {
			struct dns_query *q = f->waiting.first;
			list_remove(q);
			free_query(q);
		}
		dns_lookup_cancel(&f->lookup);
		free_flight(f);
	}
	dns_udp_free(&r->env.udp);
	dns_tcp_free(&r->env.tcp);
	dns_cache_free(&r->cache);
	dns_servers_unref(&r->servers);
	mem_free(p);
}
