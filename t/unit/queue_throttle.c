/* Throttles: random ones against counting peers, by reference, on hosts with spill-over, over a restart and a reload. */
#include <stdlib.h>
#include "t/lib/queue_rig.h"
#include "t/lib/test.h"

/* --- what the peers count ------------------------------------------------------------------------------------------ */

struct seen {
	uint64_t us;
	bool connection;
	char binding[16], mx[32], domain[32];
};

struct log {
	struct seen *at;
	unsigned n, size;
};

static void note(void *ctx, uint64_t us, const char *binding, const char *mx, const char *recipient)
{
	struct log *log = ctx;
	if (log->n == log->size) {
		log->size = log->size ? log->size * 2 : 1024;
		log->at = mem_array(log->at, log->size, sizeof(*log->at));
	}
	struct seen *s = &log->at[log->n++];
	*s = (struct seen){.us = us, .connection = !recipient};
	snprintf(s->binding, sizeof(s->binding), "%s", binding);
	snprintf(s->mx, sizeof(s->mx), "%s", mx);
	if (recipient)
		snprintf(s->domain, sizeof(s->domain), "%s", strchr(recipient, '@') + 1);
}

static struct rig *rig_logged(const char *policy, struct log *log)
{
	struct rig *rig = rig_new(policy);
	*log = (struct log){0};
	rig->keep_log = false;
	rig->seen = note;
	rig->seen_ctx = log;
	return rig;
}

static void log_free(struct log *log)
{
	free(log->at);
	*log = (struct log){0};
}

static unsigned count(const struct log *log, bool connection, uint64_t from_us, uint64_t to_us)
{
	unsigned n = 0;
	for (unsigned i = 0; i < log->n; i++)
		n += log->at[i].connection == connection && log->at[i].us >= from_us && log->at[i].us < to_us;
	return n;
}

/* Those of them that `same` says have one throttle: never more than N in any S seconds. */
static unsigned never_more(const struct log *log, struct rate rate, bool connection,
        bool (*same)(const struct seen *, const void *), const void *what)
{
	uint64_t *times = mem_array(NULL, log->n + 1, sizeof(*times));
	unsigned n = 0;
	for (unsigned i = 0; i < log->n; i++) {
		if (log->at[i].connection != connection || !same(&log->at[i], what))
			continue;
		times[n] = log->at[i].us;
		if (n >= rate.count)
			assert_true(times[n] - times[n - rate.count] > rate.seconds * SECOND_US);
		n++;
	}
	free(times);
	return n;
}

/* --- random throttles ------------------------------------------------------------------------------------------------ */

#define BINDINGS 3
#define DOMAINS 4
/* Places, as the fallback asks them: domain in the binding, in the group, binding, group, domain, global */
enum { IN_BINDING_DOMAIN, IN_GROUP_DOMAIN, IN_BINDING, IN_GROUP, IN_DOMAIN, IN_GLOBAL, N_PLACES };

struct world {
	struct rate rate[2][N_PLACES][BINDINGS][DOMAINS]; /* count 0 = not set; [connections] */
	struct rate host[2];                              /* of the first MX host */
};

static struct rate random_rate(struct rnd *rnd)
{
	if (rnd_below(rnd, 2))
		return (struct rate){0, 0};
	return (struct rate){1 + (uint32_t)rnd_below(rnd, 30), 1 + (uint32_t)rnd_below(rnd, 20)};
}

static void put(struct str *out, const struct world *w, int place, unsigned b, unsigned d)
{
	for (int connections = 0; connections < 2; connections++) {
		struct rate r = w->rate[connections][place][b][d];
		if (r.count)
			str_printf(out, "'outbound_throttle_%s': '%u/%u', ",
			        connections ? "connections" : "messages", r.count, r.seconds);
	}
}

static void put_domains(struct str *out, const struct world *w, int place, unsigned b)
{
	str_add(out, "'domains': {");
	for (unsigned d = 0; d < DOMAINS; d++) {
		str_printf(out, "%s'd%u.example': {", d ? ", " : "", d);
		put(out, w, place, b, d);
		str_add(out, "'retry_interval': '1h'}");
	}
	str_add(out, "}");
}

/* Bindings 0 and 1 are in a group, the third is not. */
static void random_world(struct world *w, struct rnd *rnd, struct str *policy)
{
	memset(w, 0, sizeof(*w));
	for (int c = 0; c < 2; c++) {
		w->host[c] = random_rate(rnd);
		for (unsigned b = 0; b < BINDINGS; b++) {
			w->rate[c][IN_BINDING][b][0] = random_rate(rnd);
			for (unsigned d = 0; d < DOMAINS; d++)
				w->rate[c][IN_BINDING_DOMAIN][b][d] = random_rate(rnd);
		}
		for (unsigned d = 0; d < DOMAINS; d++) {
			w->rate[c][IN_GROUP_DOMAIN][0][d] = random_rate(rnd);
			w->rate[c][IN_DOMAIN][0][d] = random_rate(rnd);
		}
		w->rate[c][IN_GROUP][0][0] = random_rate(rnd);
		w->rate[c][IN_GLOBAL][0][0] = random_rate(rnd);
	}
	str_add(policy, "{'global': {");
	put(policy, w, IN_GLOBAL, 0, 0);
	str_add(policy, "'retry_interval': '1h'}, 'binding_groups': {'g': {");
	put(policy, w, IN_GROUP, 0, 0);
	put_domains(policy, w, IN_GROUP_DOMAIN, 0);
	str_add(policy, ", 'bindings': {");
	for (unsigned b = 0; b < BINDINGS; b++) {
		if (b == 2)
			str_add(policy, "}}}, 'bindings': {'default': {'bind_address': '192.0.2.9'}");
		str_printf(policy, "%s'b%u': {'bind_address': '192.0.2.%u', ", b ? ", " : "", b, b + 1);
		put(policy, w, IN_BINDING, b, 0);
		put_domains(policy, w, IN_BINDING_DOMAIN, b);
		str_add(policy, "}");
	}
	str_add(policy, "}, ");
	put_domains(policy, w, IN_DOMAIN, 0);
	str_add(policy, ", 'hosts': {'mx-203.0.113.1': {");
	for (int c = 0; c < 2; c++) {
		if (w->host[c].count)
			str_printf(policy, "'outbound_throttle_%s': '%u/%u', ",
			        c ? "connections" : "messages", w->host[c].count, w->host[c].seconds);
	}
	str_add(policy, "'max_outbound_connections': 50}}}");
}

/* Which place's throttle holds, as the design says it. */
struct place {
	const struct world *w;
	int what, place;
	unsigned b, d;
};

static struct place place_of(const struct world *w, int what, unsigned b, unsigned d)
{
	bool grouped = b < 2;
	const struct place order[] = {
	        {w, what, IN_BINDING_DOMAIN, b, d},
	        {w, what, grouped ? IN_GROUP_DOMAIN : -1, 0, d},
	        {w, what, IN_BINDING, b, 0},
	        {w, what, grouped ? IN_GROUP : -1, 0, 0},
	        {w, what, IN_DOMAIN, 0, d},
	        {w, what, IN_GLOBAL, 0, 0},
	};
	for (unsigned i = 0; i < array_len(order); i++) {
		const struct place *p = &order[i];
		if (p->place >= 0 && w->rate[what][p->place][p->b][p->d].count)
			return *p;
	}
	return (struct place){w, what, -1, 0, 0};
}

static bool at_place(const struct seen *s, const void *what)
{
	const struct place *p = what;
	unsigned b = (unsigned)(s->binding[1] - '0'), d = (unsigned)(s->domain[1] - '0');
	struct place of = place_of(p->w, p->what, b, d);
	return of.place == p->place && of.b == p->b && of.d == p->d;
}

static bool at_host(const struct seen *s, const void *what)
{
	return strcmp(s->mx, what) == 0;
}

static void check_world(const struct world *w, const struct log *log)
{
	for (int c = 0; c < 2; c++) {
		if (w->host[c].count)
			never_more(log, w->host[c], c, at_host, "mx-203.0.113.1");
	}
	for (unsigned b = 0; b < BINDINGS; b++) {
		for (unsigned d = 0; d < DOMAINS; d++) {
			struct place p = place_of(w, 0, b, d);
			if (p.place >= 0)
				never_more(log, w->rate[0][p.place][p.b][p.d], false, at_place, &p);
		}
	}
}

static void test_random(void **state)
{
	(void)state;
	for (unsigned round = 0; round < 40; round++) {
		struct fake_rnd rnd;
		struct world w;
		struct str policy;
		struct log log;
		char domain[20], binding[8];
		fake_rnd_init(&rnd, round);
		str_init(&policy);
		random_world(&w, &rnd.rnd, &policy);
		struct rig *rig = rig_logged(policy.data, &log);
		str_free(&policy);
		for (unsigned d = 0; d < DOMAINS; d++) {
			snprintf(domain, sizeof(domain), "d%u.example", d);
			rig_route(rig, domain, d % 2 ? "10 203.0.113.1, 20 203.0.113.2" : "10 203.0.113.3");
		}
		for (unsigned i = 1; i <= 3; i++) {
			char ip[20];
			snprintf(ip, sizeof(ip), "203.0.113.%u", i);
			rig_mx(rig, ip)->job_us = 1000 + rnd_below(&rnd.rnd, 40000);
			rig_mx(rig, ip)->connect_us = 500 + rnd_below(&rnd.rnd, 20000);
			rig_mx(rig, ip)->drop_after = (unsigned)rnd_below(&rnd.rnd, 4) ? 0 : 5;
		}
		rig_start(rig);
		for (unsigned i = 0; i < 500; i++) {
			snprintf(domain, sizeof(domain), "d%u.example",
			        (unsigned)rnd_below(&rnd.rnd, DOMAINS));
			snprintf(binding, sizeof(binding), "b%u", (unsigned)rnd_below(&rnd.rnd, BINDINGS));
			rig_send_many(rig, binding, domain, 1);
			if (i % 50 == 0)
				rig_run(rig, rnd_below(&rnd.rnd, 3 * SECOND_US));
		}
		assert_true(rig_run_out(rig, 100000 * SECOND_US));
		assert_in_range(count(&log, false, 0, UINT64_MAX), 500, 1000);
		check_world(&w, &log);
		rig_free(&rig);
		log_free(&log);
	}
}

/* --- each by itself ---------------------------------------------------------------------------------------------------- */

static bool all(const struct seen *s, const void *what)
{
	(void)s;
	(void)what;
	return true;
}

static void test_long_run(void **state)
{
	(void)state;
	static const char *const rates[] = {"1/1", "10/1", "60/3", "100/10", "300/60"};
	const unsigned windows = 40;
	for (unsigned i = 0; i < array_len(rates); i++) {
		struct log log;
		struct rate r;
		char *policy = mem_printf("{'global': {'outbound_throttle_messages': '%s'}}", rates[i]);
		sscanf(rates[i], "%u/%u", &r.count, &r.seconds);
		struct rig *rig = rig_logged(policy, &log);
		rig_route(rig, "example.com", "10 203.0.113.1");
		rig_mx(rig, "203.0.113.1")->job_us = 1000;
		rig_start(rig);
		rig_send_many(rig, "default", "example.com", 41 * r.count);
		rig_run(rig, windows * r.seconds * SECOND_US);
		assert_in_range(
		        count(&log, false, 0, UINT64_MAX), windows * r.count * 99 / 100, windows * r.count);
		never_more(&log, r, false, all, NULL);
		rig_free(&rig);
		log_free(&log);
		mem_free(&policy);
	}
}

static void test_connections(void **state)
{
	(void)state;
	struct log log;
	struct rig *rig = rig_logged("{'global': {'outbound_throttle_connections': '3/10', "
	                             "'max_deliveries_per_connection': 2}}",
	        &log);
	rig_route(rig, "example.com", "10 203.0.113.1");
	rig_route(rig, "example.net", "10 203.0.113.2");
	rig_mx(rig, "203.0.113.2")->mode = MX_REFUSE;
	rig_start(rig);
	rig_send_many(rig, "default", "example.com", 100);
	rig_send_many(rig, "default", "example.net", 3);
	rig_run(rig, 120 * SECOND_US);
	unsigned n = never_more(&log, (struct rate){3, 10}, true, all, NULL);
	assert_in_range(n, 33, 40);
	/* the failed ones count as well, and come back in their turn */
	assert_in_range(rig_mx(rig, "203.0.113.2")->connects, 1, 5);
	assert_true(count(&log, false, 0, UINT64_MAX) > 50);
	rig_free(&rig);
	log_free(&log);
}

/* One count for all that take it from one place; a place with its own counts for itself. */
static void test_by_reference(void **state)
{
	(void)state;
	struct log log;
	struct rig *rig =
	        rig_logged("{'binding_groups': {'g': {'outbound_throttle_messages': '10/60', 'bindings': {"
	                   "'a': {'bind_address': '192.0.2.1'}, 'b': {'bind_address': '192.0.2.2'},"
	                   "'c': {'bind_address': '192.0.2.3', 'outbound_throttle_messages': '7/60'}}}}, "
	                   "'bindings': {'default': {'bind_address': '192.0.2.4'}}, "
	                   "'domains': {'/^(x|y)[.]example$/': {'outbound_throttle_messages': '5/60'}}}",
	                &log);
	rig_route_all(rig, "10 203.0.113.1");
	rig_start(rig);
	rig_send_many(rig, "a", "one.example", 20);
	rig_send_many(rig, "b", "two.example", 20);
	rig_send_many(rig, "c", "two.example", 20);
	rig_run(rig, 50 * SECOND_US);
	assert_int_equal(log.n - count(&log, true, 0, UINT64_MAX), 17);
	log.n = 0;
	/* a pattern counts all it matches as one; the group's goes before the global domain's */
	rig_send_many(rig, "default", "x.example", 20);
	rig_send_many(rig, "default", "y.example", 20);
	rig_send_many(rig, "default", "z.example", 20);
	rig_run(rig, SECOND_US);
	assert_int_equal(count(&log, false, 0, UINT64_MAX), 25);
	rig_free(&rig);
	log_free(&log);
}

/* A throttled host yields to its sibling, then to the next preference; that all are out costs the mail no attempt. */
static void test_host_spill_over(void **state)
{
	(void)state;
	struct log log;
	struct rig *rig = rig_logged("{'hosts': {'mx-203.0.113.1': {'outbound_throttle_messages': '5/60'}, "
	                             "'mx-203.0.113.2': {'outbound_throttle_messages': '7/30'}, "
	                             "'mx-203.0.113.3': {'outbound_throttle_connections': '1/20'}}}",
	        &log);
	rig->keep_log = true;
	rig_route(rig, "example.com", "10 203.0.113.1, 10 203.0.113.2, 20 203.0.113.3");
	rig_mx(rig, "203.0.113.3")->drop_after = 3;
	rig_start(rig);
	rig_send_many(rig, "default", "example.com", 100);
	rig_run(rig, SECOND_US);
	assert_int_equal(rig_mx(rig, "203.0.113.1")->jobs, 5);
	assert_int_equal(rig_mx(rig, "203.0.113.2")->jobs, 7);
	assert_in_range(rig_mx(rig, "203.0.113.3")->jobs, 1, 3);
	assert_true(rig_run_out(rig, 600 * SECOND_US));
	never_more(&log, (struct rate){5, 60}, false, at_host, "mx-203.0.113.1");
	never_more(&log, (struct rate){7, 30}, false, at_host, "mx-203.0.113.2");
	never_more(&log, (struct rate){1, 20}, true, at_host, "mx-203.0.113.3");
	assert_int_equal(rig_count(rig, "deferral"), 0);
	rig_free(&rig);
	log_free(&log);
}

/* A session to a host that is out does not stand in the way of its sibling. */
static void test_host_spill_over_at_once(void **state)
{
	(void)state;
	struct rig *rig = rig_new("{'global': {'max_outbound_connections': 1}, "
	                          "'hosts': {'mx-203.0.113.1': {'outbound_throttle_messages': '2/60'}}}");
	rig_route(rig, "example.com", "10 203.0.113.1, 20 203.0.113.2");
	rig_start(rig);
	rig_send_many(rig, "default", "example.com", 20);
	rig_run(rig, SECOND_US);
	assert_int_equal(rig_mx(rig, "203.0.113.1")->jobs, 2);
	assert_int_equal(rig_mx(rig, "203.0.113.2")->jobs, 18);
	assert_int_equal(rig->most_sessions, 1);
	rig_free(&rig);
}

/* But where the other address is under the same throttle nothing is won by a new session. */
static void test_host_throttle_of_all(void **state)
{
	(void)state;
	struct rig *rig = rig_new("{'global': {'max_outbound_connections': 1}, "
	                          "'hosts': {'/^mx/': {'outbound_throttle_messages': '5/10'}}}");
	rig_route(rig, "example.com", "10 203.0.113.1, 20 203.0.113.2");
	rig_start(rig);
	rig_send_many(rig, "default", "example.com", 40);
	assert_true(rig_run_out(rig, 200 * SECOND_US));
	assert_int_equal(rig_mx(rig, "203.0.113.1")->jobs + rig_mx(rig, "203.0.113.2")->jobs, 40);
	assert_in_range(rig_mx(rig, "203.0.113.1")->connects + rig_mx(rig, "203.0.113.2")->connects, 1, 8);
	rig_free(&rig);
}

/* Queues that share a throttle get it in turns, whether or not they have a session, and however slow that is to open. */
static void test_fair_turns(void **state)
{
	(void)state;
	struct log log;
	char domain[40];
	struct rig *rig = rig_logged("{'global': {'outbound_throttle_messages': '10/1'}}", &log);
	for (unsigned i = 0; i < 30; i++) {
		snprintf(domain, sizeof(domain), "d%u.example", i);
		rig_route(rig, domain, i ? "10 203.0.113.1" : "10 203.0.113.2");
	}
	rig_mx(rig, "203.0.113.1")->connect_us = 400000;
	rig_start(rig);
	rig_send_many(rig, "default", "d0.example", 10000);
	rig_run(rig, 10 * SECOND_US);
	for (unsigned i = 1; i < 30; i++) {
		snprintf(domain, sizeof(domain), "d%u.example", i);
		rig_send_many(rig, "default", domain, 2);
	}
	rig_run(rig, 15 * SECOND_US);
	assert_int_equal(rig_mx(rig, "203.0.113.1")->jobs, 58);
	rig_free(&rig);
	log_free(&log);
}

/* A destination nobody answers at, and one that never comes to an end, keep the throttle from the others for a moment. */
static void test_dead_and_slow_peers(void **state)
{
	(void)state;
	struct log log;
	struct rig *rig = rig_logged("{'global': {'outbound_throttle_messages': '20/1'}}", &log);
	rig_route(rig, "silent.example", "10 203.0.113.1");
	rig_route(rig, "slow.example", "10 203.0.113.2");
	rig_route(rig, "good.example", "10 203.0.113.3");
	rig_mx(rig, "203.0.113.1")->mode = MX_SILENT;
	rig_mx(rig, "203.0.113.2")->job_us = 3000 * SECOND_US;
	rig_start(rig);
	rig_send_many(rig, "default", "silent.example", 1000);
	rig_send_many(rig, "default", "slow.example", 1000);
	rig_run(rig, 10 * SECOND_US);
	uint64_t begin = rig->clock.mono;
	rig_send_many(rig, "default", "good.example", 3000);
	rig_run(rig, 100 * SECOND_US);
	assert_true(count(&log, false, begin, UINT64_MAX) > 1800);
	rig_free(&rig);
	log_free(&log);
}

/* What is put back because a session came to nothing does not count; a batch of recipients is one message. */
static void test_what_counts(void **state)
{
	(void)state;
	struct log log;
	struct rig *rig = rig_logged("{'global': {'outbound_throttle_messages': '5/100'}}", &log);
	rig_route(rig, "example.com", "10 203.0.113.1, 20 203.0.113.2");
	rig_mx(rig, "203.0.113.1")->mode = MX_REFUSE;
	rig_start(rig);
	for (unsigned i = 0; i < 7; i++)
		rig_send(rig, "default", "a@acme.example", "u@example.com v@example.com w@example.com");
	rig_run(rig, 50 * SECOND_US);
	assert_int_equal(rig_mx(rig, "203.0.113.2")->jobs, 5);
	assert_int_equal(rig_mx(rig, "203.0.113.2")->recipients, 15);
	rig_free(&rig);
	log_free(&log);
}

/* What was sent before a restart still counts after it. */
static void test_restart(void **state)
{
	(void)state;
	static const char *const rates[] = {"2/1", "30/5", "50/60", "7/60", "1/30", "500/600"};
	for (unsigned i = 0; i < array_len(rates); i++) {
		struct log log;
		struct rate r;
		char *policy = mem_printf("{'global': {'outbound_throttle_messages': '%s'}}", rates[i]);
		sscanf(rates[i], "%u/%u", &r.count, &r.seconds);
		struct rig *rig = rig_logged(policy, &log);
		struct fake_rnd rnd;
		fake_rnd_init(&rnd, i);
		rig_route(rig, "example.com", "10 203.0.113.1");
		rig_start(rig);
		rig_send_many(rig, "default", "example.com", 5000);
		for (unsigned n = 0; n < 8; n++) {
			rig_run(rig, rnd_below(&rnd.rnd, 2 * r.seconds * SECOND_US));
			rig_restart(rig);
		}
		uint64_t begin = rig->clock.mono;
		rig_run(rig, 5 * r.seconds * SECOND_US);
		never_more(&log, r, false, all, NULL);
		assert_true(count(&log, false, begin, UINT64_MAX) >= r.count * 3);
		rig_free(&rig);
		log_free(&log);
		mem_free(&policy);
	}
}

/* Not before it is written down that it may have been sent. */
static void test_written_ahead(void **state)
{
	(void)state;
	struct log log;
	struct rig *rig = rig_logged("{'global': {'outbound_throttle_messages': '32/60'}}", &log);
	rig_route(rig, "example.com", "10 203.0.113.1");
	rig_start(rig);
	rig_hold_commits(rig, true);
	rig_send_many(rig, "default", "example.com", 10);
	rig_run(rig, SECOND_US / 2);
	assert_int_equal(log.n, 0);
	rig_hold_commits(rig, false);
	rig_run(rig, 3 * SECOND_US);
	assert_int_equal(count(&log, false, 0, UINT64_MAX), 10);
	rig_free(&rig);
	log_free(&log);
}

/* After a long rest each has to be written down anew; while one is, another's record does not go again. */
static void test_several_after_a_rest(void **state)
{
	(void)state;
	struct rig *rig = rig_new(
	        "{'global': {'outbound_throttle_messages': '5/1', 'outbound_throttle_connections': '6/1'}, "
	        "'hosts': {'/^mx/': {'outbound_throttle_messages': '7/1', "
	        "'outbound_throttle_connections': '8/1'}}}");
	rig_route(rig, "example.com", "10 203.0.113.1");
	rig_start(rig);
	for (unsigned i = 1; i < 6; i++) {
		rig_send_many(rig, "default", "example.com", 1);
		rig_run(rig, 5 * SECOND_US);
		assert_int_equal(rig_mx(rig, "203.0.113.1")->jobs, i);
		rig_run(rig, i * 60 * SECOND_US);
	}
	rig_free(&rig);
}

/* A reload keeps what was counted; a change takes effect at once. */
static void test_reload(void **state)
{
	(void)state;
	struct log log;
	struct rig *rig = rig_logged("{'global': {'outbound_throttle_messages': '20/100'}}", &log);
	rig_route(rig, "example.com", "10 203.0.113.1");
	rig_start(rig);
	rig_send_many(rig, "default", "example.com", 200);
	rig_run(rig, 5 * SECOND_US);
	assert_int_equal(count(&log, false, 0, UINT64_MAX), 20);
	rig_reload(rig, "{'global': {'outbound_throttle_messages': '20/100', 'max_retries': 7}}");
	rig_run(rig, 5 * SECOND_US);
	assert_int_equal(count(&log, false, 0, UINT64_MAX), 20);
	rig_reload(rig, "{'global': {'outbound_throttle_messages': '50/100'}}");
	rig_run(rig, 80 * SECOND_US);
	assert_int_equal(count(&log, false, 0, UINT64_MAX), 50);
	rig_reload(rig, "{'global': {'outbound_throttle_messages': '10/100'}}");
	rig_run(rig, 15 * SECOND_US);
	assert_int_equal(count(&log, false, 0, UINT64_MAX), 50);
	rig_reload(rig, "{}");
	rig_run(rig, 5 * SECOND_US);
	assert_int_equal(count(&log, false, 0, UINT64_MAX), 200);
	rig_free(&rig);
	log_free(&log);
}

/* A host's throttle goes with a reload while a message that it counted is still under way, for long. */
static void test_host_throttle_goes(void **state)
{
	(void)state;
	struct log log;
	struct rig *rig = rig_logged("{'hosts': {'mx-203.0.113.1': {'outbound_throttle_messages': '5/20', "
	                             "'outbound_throttle_connections': '5/20'}}}",
	        &log);
	rig_route(rig, "example.com", "10 203.0.113.1");
	rig_mx(rig, "203.0.113.1")->job_us = 1000 * SECOND_US;
	rig_start(rig);
	rig_send_many(rig, "default", "example.com", 3);
	rig_run(rig, 100 * SECOND_US);
	rig_reload(rig, "{}");
	rig_run(rig, 300 * SECOND_US);
	rig_send_many(rig, "default", "example.com", 3);
	assert_true(rig_run_out(rig, 5000 * SECOND_US));
	rig_free(&rig);
	log_free(&log);
}

/* What holds a queue back is told: in `queues`, with the time, once as an event, and counted. */
static void test_told(void **state)
{
	(void)state;
	struct log log;
	struct rig *rig =
	        rig_logged("{'bindings': {'default': {'outbound_throttle_messages': '3/100'}}}", &log);
	rig->keep_log = true;
	rig_route(rig, "example.com", "10 203.0.113.1");
	rig_start(rig);
	rig_send_many(rig, "default", "example.com", 20);
	rig_run(rig, 5 * SECOND_US);
	assert_int_equal(rig_count(rig, "throttle"), 1);
	assert_string_equal(rig_event(rig, "throttle", 0)->reason, "outbound_throttle_messages");
	char *json = rig_ask(rig, QUEUE_QUEUES, "", 0, 0, 0);
	assert_non_null(strstr(
	        json, "\"reason\":\"waiting for outbound_throttle_messages 3/100 of bindings.default\""));
	assert_non_null(strstr(json, "\"next_attempt\":"));
	mem_free(&json);
	assert_int_equal(rig_count(rig, "deferral"), 0);
	rig_free(&rig);
	log_free(&log);
}

static const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_random),
        cmocka_unit_test(test_long_run),
        cmocka_unit_test(test_connections),
        cmocka_unit_test(test_by_reference),
        cmocka_unit_test(test_host_spill_over),
        cmocka_unit_test(test_host_spill_over_at_once),
        cmocka_unit_test(test_host_throttle_of_all),
        cmocka_unit_test(test_fair_turns),
        cmocka_unit_test(test_dead_and_slow_peers),
        cmocka_unit_test(test_what_counts),
        cmocka_unit_test(test_restart),
        cmocka_unit_test(test_written_ahead),
        cmocka_unit_test(test_several_after_a_rest),
        cmocka_unit_test(test_reload),
        cmocka_unit_test(test_host_throttle_goes),
        cmocka_unit_test(test_told),
};

TEST_MAIN("queue_throttle", tests)
