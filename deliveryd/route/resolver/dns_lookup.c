/* dns_lookup - see dns_lookup.h; its states: dns_lookup_state.def */
#include "config.h"
#include "route/resolver/dns_lookup.h"

#include <assert.h>
#include <stdio.h>
#include <string.h>
#include "base/mem.h"

#define TCP_LEAST_US (4 * SECOND_US)

enum dns_lookup_state {
#define STATE(name, on_timer) LOOKUP_##name,
#include "route/resolver/dns_lookup_state.def"
#undef STATE
};

struct dns_lookup {
	const struct dns_lookup_env *env;
	struct dns_servers *servers; /* shares */
	enum dns_lookup_state state;
	struct timer timer;
	uint64_t deadline_us;

	struct dns_question question; /* moves on along CNAMEs */
	struct dns_chain chain;
	uint32_t ttl_s; /* smallest along the chain */
	bool authentic; /* so far */

	uint8_t order[DNS_SERVERS_MAX];
	bool answered_badly[DNS_SERVERS_MAX];
	bool judged; /* SERVFAIL of a validator: it may be that the answer is forged, and who does not validate would believe it */
	unsigned n_order, next; /* of order */
	unsigned round;
	uint64_t round_us; /* its begin */

	unsigned current; /* server being asked */
	bool edns;
	struct dns_udp_exchange udp;
	struct dns_tcp_exchange *tcp;
	uint16_t tcp_id;

	char why[192];             /* the last failure */
	struct dns_result *result; /* owns; DONE */
	dns_lookup_done *done;
	void *ctx;
};

static void next_server(struct dns_lookup *);

static struct dns_server *server(struct dns_lookup *l)
{
	return &l->servers->servers[l->current];
}

static uint64_t now_us(const struct dns_lookup *l)
{
	return loop_now_us(l->env->loop);
}

static void enter(struct dns_lookup *l, enum dns_lookup_state state, uint64_t timer_us)
{
	if (timer_us > l->deadline_us && state != LOOKUP_DONE)
		timer_us = l->deadline_us;
	l->state = state;
	timer_arm(l->env->loop, &l->timer, timer_us);
}

static void stop_exchanges(struct dns_lookup *l)
{
	dns_udp_stop(&l->udp);
	dns_tcp_stop(&l->tcp);
}

static void free_lookup(struct dns_lookup *l)
{
	stop_exchanges(l);
	timer_cancel(l->env->loop, &l->timer);
	dns_servers_unref(&l->servers);
	dns_result_unref(&l->result);
	mem_free(&l);
}

/* --- the end --- */

static void hand_over(struct dns_lookup *l)
{
	dns_lookup_done *done = l->done;
	void *ctx = l->ctx;
	struct dns_result *result = l->result;

	l->result = NULL;
	free_lookup(l);
	done(ctx, result);
}

/* By the timer, since we may be inside start. */
static void finish(struct dns_lookup *l, struct dns_result *takes)
{
	stop_exchanges(l);
	l->result = takes;
	enter(l, LOOKUP_DONE, now_us(l));
}

static void finish_failed(struct dns_lookup *l)
{
	finish(l, dns_result_failed(l->why));
}

static void finish_late(struct dns_lookup *l)
{
	char why[256];

	snprintf(why, sizeof(why), "no answer in %d s (%s)", DNS_LOOKUP_SECONDS, l->why);
	finish(l, dns_result_failed(why));
}

static void note(struct dns_lookup *l, const char *what)
{
	snprintf(l->why, sizeof(l->why), "%.120s from %s", what, server(l)->text);
}

static void note_error(struct dns_lookup *l, const char *how, const char *what)
{
	snprintf(l->why, sizeof(l->why), "%s%s: %.100s", how, server(l)->text, what);
}

/* --- asking --- */

static uint64_t patience_us(const struct dns_lookup *l)
{
	return (l->round == 0 ? 2 : l->round == 1 ? 4 : 8) * SECOND_US;
}

static void ask_udp(struct dns_lookup *l)
{
	struct error err;

	metric_add(l->env->n_udp, 1);
	if (dns_udp_start(l->env->udp, &l->udp, &server(l)->addr, &l->question, l->edns, &err)) {
		enter(l, LOOKUP_UDP, now_us(l) + patience_us(l));
		return;
	}
	note_error(l, "", err.text);
	dns_server_was_silent(server(l), now_us(l));
	next_server(l);
}

static void on_tcp_packet(void *ctx, const uint8_t *raw, size_t len);
static void on_tcp_error(void *ctx, const char *why);

static void ask_tcp(struct dns_lookup *l)
{
	static const struct dns_tcp_owner owner = {on_tcp_packet, on_tcp_error};
	uint64_t patience = patience_us(l) > TCP_LEAST_US ? patience_us(l) : TCP_LEAST_US;

	metric_add(l->env->n_tcp, 1);
	l->tcp_id = (uint16_t)rnd_u64(l->env->rnd);
	l->tcp = dns_tcp_start(l->env->tcp, &server(l)->addr, &l->question, l->tcp_id, l->edns, &owner, l);
	enter(l, LOOKUP_TCP, now_us(l) + patience);
}

static bool may_ask(const struct dns_lookup *l, unsigned i)
{
	return !l->answered_badly[i] && (!l->judged || l->servers->servers[i].trust_ad);
}

static bool any_left(const struct dns_lookup *l)
{
	for (unsigned i = 0; i < l->n_order; i++)
		if (may_ask(l, l->order[i]))
			return true;
	return false;
}

/* Errors come at once: without a pause all rounds would be over before a server could be restarted. */
static void next_server(struct dns_lookup *l)
{
	if (now_us(l) >= l->deadline_us) {
		finish_late(l);
		return;
	}
	if (!any_left(l)) {
		finish_failed(l);
		return;
	}
	while (l->next < l->n_order) {
		l->current = l->order[l->next++];
		if (!may_ask(l, l->current))
			continue;
		l->edns = dns_server_edns(server(l), now_us(l));
		ask_udp(l);
		return;
	}
	enter(l, LOOKUP_PAUSE, l->round_us + (SECOND_US << (l->round < 3 ? l->round : 3)));
}

static void next_round(struct dns_lookup *l)
{
	l->round++;
	l->round_us = now_us(l);
	l->next = 0;
	next_server(l);
}

/* Also for the next name of a chain: a server that could not tell the first may know the second. */
static void begin(struct dns_lookup *l)
{
	memset(l->answered_badly, 0, sizeof(l->answered_badly));
	l->judged = false;
	l->n_order = dns_servers_order(l->servers, now_us(l), l->order);
	l->round = l->next = 0;
	l->round_us = now_us(l);
	next_server(l);
}

static void udp_was_silent(struct dns_lookup *l)
{
	stop_exchanges(l);
	metric_add(l->env->n_silent, 1);
	note(l, "no answer");
	dns_server_was_silent(server(l), now_us(l));
	next_server(l);
}

static void tcp_was_silent(struct dns_lookup *l)
{
	stop_exchanges(l);
	metric_add(l->env->n_silent, 1);
	note(l, "no answer over TCP");
	next_server(l);
}

/* --- what comes back --- */

static void use_result(struct dns_lookup *l, struct dns_read *read)
{
	struct dns_answer *a = &read->result->answer;

	a->authentic = l->authentic && a->authentic && server(l)->trust_ad;
	if (l->ttl_s < a->ttl_s)
		a->ttl_s = l->ttl_s;
	finish(l, read->result);
}

static void follow(struct dns_lookup *l, struct dns_read *read)
{
	l->authentic = l->authentic && read->ad && server(l)->trust_ad;
	if (read->ttl_s < l->ttl_s)
		l->ttl_s = read->ttl_s;
	l->question = read->next;
	begin(l);
}

static void bad_answer(struct dns_lookup *l, const struct dns_read *read)
{
	metric_add(l->env->n_bad, 1);
	note(l, read->why);
	l->answered_badly[l->current] = true;
	l->judged |= read->servfail && server(l)->trust_ad;
	if (read->loop)
		finish_failed(l);
	else
		next_server(l);
}

static void ask_without_edns(struct dns_lookup *l, bool over_tcp)
{
	dns_server_knows_no_edns(server(l), now_us(l));
	l->edns = false;
	if (over_tcp)
		ask_tcp(l);
	else
		ask_udp(l);
}

static void take(struct dns_lookup *l, const uint8_t *raw, size_t len, uint16_t id, bool over_tcp)
{
	struct dns_chain chain = l->chain;
	struct dns_read read;
	enum dns_reading reading =
	        dns_packet_read(raw, len, &l->question, id, l->edns, over_tcp, &chain, &read);

	if (reading == DNS_READ_FOREIGN) {
		metric_add(l->env->n_foreign, 1);
		return; /* the right answer may still come */
	}
	stop_exchanges(l);
	dns_server_answered(server(l));
	if (reading == DNS_READ_FOLLOW || reading == DNS_READ_RESULT)
		l->chain = chain;
	switch (reading) {
	case DNS_READ_TRUNCATED:
		ask_tcp(l);
		break;
	case DNS_READ_NO_EDNS:
		ask_without_edns(l, over_tcp);
		break;
	case DNS_READ_FOLLOW:
		follow(l, &read);
		break;
	case DNS_READ_RESULT:
		use_result(l, &read);
		break;
	default:
		bad_answer(l, &read);
	}
}

static void on_udp_packet(void *ctx, const uint8_t *raw, size_t len)
{
	struct dns_lookup *l = ctx;

	assert(l->state == LOOKUP_UDP);
	take(l, raw, len, l->udp.id, false);
}

static void on_udp_error(void *ctx, int error)
{
	struct dns_lookup *l = ctx;

	assert(l->state == LOOKUP_UDP);
	note_error(l, "", strerror(error));
	dns_server_was_silent(server(l), now_us(l));
	next_server(l);
}

static void on_tcp_packet(void *ctx, const uint8_t *raw, size_t len)
{
	struct dns_lookup *l = ctx;

	assert(l->state == LOOKUP_TCP);
	take(l, raw, len, l->tcp_id, true);
}

static void on_tcp_error(void *ctx, const char *why)
{
	struct dns_lookup *l = ctx;

	assert(l->state == LOOKUP_TCP);
	stop_exchanges(l);
	note_error(l, "TCP to ", why);
	next_server(l);
}

/* --- life --- */

static void on_timer(void *ctx)
{
	static void (*const due[])(struct dns_lookup *) = {
#define STATE(name, on_timer) on_timer,
#include "route/resolver/dns_lookup_state.def"
#undef STATE
	};
	struct dns_lookup *l = ctx;

	due[l->state](l);
}

struct dns_lookup *dns_lookup_start(const struct dns_lookup_env *env, struct dns_servers *servers,
        const struct dns_question *q, dns_lookup_done *done, void *ctx)
{
	struct dns_lookup *l = mem_zalloc(sizeof(*l));

	*l = (struct dns_lookup){.env = env,
	        .servers = dns_servers_ref(servers),
	        .question = *q,
	        .ttl_s = UINT32_MAX,
	        .authentic = true,
	        .done = done,
	        .ctx = ctx,
	        .why = "no DNS server is configured"};
	l->udp = (struct dns_udp_exchange){.on_packet = on_udp_packet, .on_error = on_udp_error, .ctx = l};
	l->deadline_us = now_us(l) + DNS_LOOKUP_SECONDS * SECOND_US;
	timer_init(&l->timer, on_timer, l);
	dns_chain_start(&l->chain, q);
	begin(l);
	return l;
}

void dns_lookup_cancel(struct dns_lookup **p)
{
	struct dns_lookup *l = *p;

	*p = NULL;
	if (l)
		free_lookup(l);
}
