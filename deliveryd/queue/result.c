#include "queue/queue_in.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* So many connections may be lost under a delivery in one round before that counts as its failure. */
#define LOST_FREE 3

/*
 * One delivery's recipients are sorted by what became of them: `open` stay in it (the untried first), `gone` are
 * delivered or given up without a report, those in `bounce` wait for their DSN.
 */
struct sorting {
	struct queue *q;
	uint32_t no;
	struct delivery *d;
	struct deliv_options options; /* its strings borrow from the snapshot in force */
	uint64_t age_us;
	struct packed_recipient *open; /* addresses borrow from the packed block */
	uint32_t n_open, n_untried, n_gone, n_failed;
	struct bounce *bounce;
	bool may_bounce;
	struct str reply; /* the last that keeps it here */
	bool by_command;  /* what stays stays as it is: */
	enum delivery_state then;
	uint64_t due_us;
	uint64_t retry_in_us; /* a response rule's word; 0 = as scheduled */
};

static void sorting_begin(struct sorting *s, struct queue *q, uint32_t no)
{
	struct delivery *d = delivery_at(q->slab, no);
	*s = (struct sorting){.q = q, .no = no, .d = d};
	s->options = *delivery_options(q, d);
	s->age_us = delivery_age_us(q, d);
	s->open = mem_array(NULL, d->n_open, sizeof(*s->open));
	s->may_bounce = bounce_wanted(q, d, &s->options);
	str_init(&s->reply);
}

static void keep(struct sorting *s, const struct packed_recipient *r)
{
	s->open[s->n_open++] = *r;
}

/* What it is that keeps the delivery here. */
static void note(struct sorting *s, const struct outcome *o)
{
	str_clear(&s->reply);
	/* ours is marked by a colon, so that it can be told apart again: "451 4.4.2: timed out" */
	if (o->ours && o->code && o->enhanced[0])
		str_printf(&s->reply, "%u %s: %s", (unsigned)o->code, o->enhanced, o->reply);
	else
		outcome_print(o, &s->reply);
	last_reply_set(s->q, s->d, s->reply.data, loop_wall_us(s->q->loop));
}

static void give_up(struct sorting *s, const struct packed_recipient *r, enum event_type type,
        const struct outcome *o, const char *enhanced, const struct session_facts *facts)
{
	if (s->may_bounce && bounces_overfull(s->q)) {
		event_recipient(s->q, s->d, EVENT_DEFERRAL, r->address, o, NULL, facts);
		keep(s, r);
		note(s, o);
		return;
	}
	event_recipient(s->q, s->d, type, r->address, o, enhanced, facts);
	s->n_failed++;
	if (!s->may_bounce)
		return;
	if (!s->bounce)
		s->bounce = bounce_new(s->q, s->no);
	bounce_add(s->bounce, r, o, enhanced, facts ? facts->mx : NULL);
}

/* Nothing was tried: no answer from DNS, no source address, no port, our disk. It must not become a permanent failure. */
static bool our_accident(const struct outcome *o)
{
	return o->ours && (o->state == STATE_RESOLVE || strncmp(o->enhanced, "4.3.", 4) == 0);
}

/*
 * Failed for now: kept, or given up when its time or its retries are over (5.4.7, the last reply as diagnostic).
 * An attempt that ends in giving up is no deferral; that it may have been delivered is said in any case.
 */
static void failed_for_now(struct sorting *s, const struct packed_recipient *r, enum event_type type,
        const struct outcome *o, const struct session_facts *facts)
{
	bool over = schedule_exhausted(&s->options, s->d->attempts + 1u, s->age_us) ||
	            (s->options.never_retry && !our_accident(o));
	if (!over || type == EVENT_UNCERTAIN)
		event_recipient(s->q, s->d, type, r->address, o, NULL, facts);
	if (over) {
		give_up(s, r, EVENT_EXPIRATION, o, "5.4.7", facts);
		return;
	}
	keep(s, r);
	note(s, o);
}

/* RFC 3461 5.2.2: the next hop will not tell the sender. */
static void tell_success(struct sorting *s, const struct packed_recipient *r, const struct outcome *o,
        const struct session_facts *facts)
{
	if ((s->d->flags & MESSAGE_NOTIFY_SUCCESS) == 0 || !s->may_bounce || !facts || facts->dsn ||
	        bounces_overfull(s->q))
		return;
	if (!s->bounce)
		s->bounce = bounce_new(s->q, s->no);
	bounce_add_delivered(s->bounce, r, o, facts);
}

/* What the first response rule says that acts on it; the outcome becomes what the rule makes of it. */
static const struct response_rule *take_rule(struct sorting *s, struct outcome *o, bool counts)
{
	if (s->options.response_rules.n == 0 ||
	        (o->class != OUTCOME_TRANSIENT && o->class != OUTCOME_PERMANENT))
		return NULL;
	const struct response_rule *rule = response_judge(s->q, s->d, o, counts);
	if (!rule)
		return NULL;
	response_act(s->q, s->d->hq, s->d, rule, o);
	o->class = rule->then == RESPONSE_FAIL ? OUTCOME_PERMANENT : OUTCOME_TRANSIENT;
	if (rule->then == RESPONSE_RETRY_IN)
		s->retry_in_us = rule->argument * SECOND_US;
	if (rule->then == RESPONSE_FAIL || rule->then == RESPONSE_RETRY_IN)
		o->lost = o->put_off = false; /* this is its result */
	return rule;
}

/* Given up by a rule, though it was a 4yz: the status says that it is for good. */
static void fail_by_rule(struct sorting *s, const struct packed_recipient *r, const struct outcome *o,
        const struct session_facts *facts)
{
	char enhanced[sizeof(o->enhanced)];
	snprintf(enhanced, sizeof(enhanced), "%s", o->enhanced[0] ? o->enhanced : "5.0.0");
	enhanced[0] = '5';
	give_up(s, r, EVENT_BOUNCE, o, enhanced, facts);
}

static void sort_one(struct sorting *s, const struct packed_recipient *r, const struct outcome *o,
        const struct response_rule *rule, const struct session_facts *facts)
{
	if (rule && rule->then == RESPONSE_FAIL) {
		fail_by_rule(s, r, o, facts);
		return;
	}
	switch (o->class) {
	case OUTCOME_OK:
		event_recipient(s->q, s->d, EVENT_DELIVERY, r->address, o, NULL, facts);
		s->n_gone++;
		tell_success(s, r, o, facts);
		return;
	case OUTCOME_PERMANENT:
		give_up(s, r, EVENT_BOUNCE, o, NULL, facts);
		return;
	case OUTCOME_TRANSIENT:
		failed_for_now(s, r, EVENT_DEFERRAL, o, facts);
		return;
	case OUTCOME_UNCERTAIN:
		if (s->options.on_uncertain == UNCERTAIN_ASSUME_DELIVERED) {
			event_recipient(s->q, s->d, EVENT_UNCERTAIN, r->address, o, NULL, facts);
			s->n_gone++;
			return;
		}
		failed_for_now(s, r, EVENT_UNCERTAIN, o, facts);
		return;
	case OUTCOME_NONE:
		break;
	}
	assert(!"an outcome without class");
}

/* What the spool is to know: the recipients still open, when they are tried again. */
void result_record(struct queue *q, struct spool_results *results, uint32_t no, uint64_t due_us, bool held,
        const char *reply)
{
	struct delivery *d = delivery_at(q->slab, no);
	if (d->n_open == 0) {
		spool_results_done(results, d->id, d->index);
		return;
	}
	uint64_t now = queue_now(q);
	uint32_t *open = NULL;
	if (d->n_open < d->n_all) {
		struct packed_walk w;
		open = mem_array(NULL, d->n_open, sizeof(*open));
		packed_walk_init(&w, d->packed);
		for (uint32_t i = 0; i < d->n_open; i++)
			open[i] = packed_walk_next(&w).number;
	}
	struct spool_state state = {
	        .attempts = d->attempts,
	        .next_attempt_wall_us = due_us > now ? loop_wall_us(q->loop) + (due_us - now) : 0,
	        .held = held,
	        .last_reply = reply ? reply : last_reply_text(q, d),
	        .last_attempt_wall_us = d->last_s * SECOND_US,
	        .open = open,
	        .n_open = open ? d->n_open : 0,
	};
	spool_results_state(results, d->id, d->index, &state);
	free(open);
}

/* Where the delivery goes from here: on with the untried, or a retry, or nowhere. */
static enum delivery_state next_state(struct sorting *s, uint64_t *due_us)
{
	struct delivery *d = s->d;
	*due_us = 0;
	if (s->n_open == 0)
		return DELIVERY_FREE;
	if (s->by_command) {
		*due_us = s->due_us;
		return s->then;
	}
	if (d->hold && s->n_untried > 0) {
		d->n_untried = d->n_open;
		return DELIVERY_HELD;
	}
	if (s->n_untried > 0)
		return DELIVERY_READY;
	d->n_untried = d->n_open;
	d->lost = 0;
	if (d->attempts < UINT16_MAX)
		d->attempts++;
	delivery_forget_body(d);
	uint64_t now = queue_now(s->q), expiry = delivery_expiry_us(s->q, d);
	if (d->hold)
		return DELIVERY_HELD;
	*due_us = now +
	          (s->retry_in_us ? s->retry_in_us : schedule_retry_us(&s->options, d->attempts, s->q->rnd));
	if (*due_us > expiry) /* one last attempt when its time is over */
		*due_us = expiry;
	place_other_member(s->q, d, s->options.retry_source);
	return DELIVERY_DEFERRED;
}

static void repack(struct sorting *s)
{
	struct delivery *d = s->d;
	if (s->n_open == d->n_open && (s->n_untried == 0 || s->n_untried == d->n_open)) {
		d->n_untried = s->n_untried; /* their order does not matter */
		return;
	}
	char *block = packed_new(packed_sender(d->packed), s->open, s->n_open);
	s->q->packed_bytes -= packed_size(d->packed, d->n_open);
	packed_free(&d->packed);
	d->packed = block;
	d->n_open = s->n_open;
	d->n_untried = s->n_untried;
	s->q->packed_bytes += packed_size(d->packed, d->n_open);
}

static void sorting_free(struct sorting *s)
{
	free(s->open);
	str_free(&s->reply);
}

static void sorting_end(struct sorting *s)
{
	struct queue *q = s->q;
	uint64_t due_us;
	if (s->n_gone == 0 && s->n_failed == 0 && s->n_untried == s->d->n_open && !s->d->hold &&
	        !s->by_command) {
		delivery_put_back(q, s->no); /* nothing happened to it */
		sorting_free(s);
		return;
	}
	repack(s);
	enum delivery_state then = next_state(s, &due_us);
	if (s->bounce) {
		bounce_start(s->bounce, then, due_us, s->n_gone > 0);
		sorting_free(s);
		return;
	}
	result_record(q, queue_results(q), s->no, due_us, then == DELIVERY_HELD,
	        s->reply.len ? s->reply.data : NULL);
	sorting_free(s);
	if (then == DELIVERY_FREE)
		delivery_drop(q, s->no);
	else if (then == DELIVERY_READY)
		delivery_put_back(q, s->no);
	else
		delivery_enter(q, s->no, then, due_us);
}

static void put_back_or_hold(struct queue *q, uint32_t no)
{
	if (!delivery_at(q->slab, no)->hold) {
		delivery_put_back(q, no);
		return;
	}
	delivery_enter(q, no, DELIVERY_HELD, 0);
	result_record(q, queue_results(q), no, 0, true, NULL);
}

/* A rule says retry_elsewhere: by another member of the group, else to another host. */
static void go_elsewhere(struct conn *c, struct delivery *d, const struct session_job *job,
        const struct outcome *o, const struct session_facts *facts)
{
	if (!job->connection_lost)
		d->lost++;
	if (!place_other_member(c->q, d, RETRY_SOURCE_NEXT) && !job->connection_lost)
		conn_avoid_host(c, o, facts);
}

/* A recipient of a job, and what was said about it. */
struct told {
	struct packed_recipient r;
	const struct outcome *o;
	const struct response_rule *rule; /* that acts on it; NULL = none */
	bool again;                       /* at no cost: has no result yet */
};

/* Sorts out what is no result. The outcome that a rule answers with retry_elsewhere, or NULL. */
static const struct outcome *hear(
        struct sorting *s, struct session_job *job, struct packed_walk *w, bool at_no_cost, struct told *told)
{
	const struct outcome *elsewhere = NULL;
	bool counted = false;
	for (uint32_t i = 0; i < job->n_recipients; i++) {
		struct outcome *o = &job->outcomes[i];
		/* what is said to the transaction as a whole is one reply */
		const struct response_rule *rule = take_rule(s, o, o->state == STATE_RCPT || !counted);
		counted |= o->state != STATE_RCPT;
		bool other = rule && rule->then == RESPONSE_ELSEWHERE && at_no_cost;
		if (other)
			elsewhere = o;
		told[i] = (struct told){.r = packed_walk_next(w), .o = o, .rule = rule};
		/* put off: others were accepted, so there is an end to it */
		told[i].again = o->class == OUTCOME_NONE || o->put_off || other ||
		                (job->connection_lost && at_no_cost && o->lost);
	}
	return elsewhere;
}

void result_take(struct conn *c, struct session_job *job, const struct session_facts *facts)
{
	struct queue *q = c->q;
	uint32_t no = (uint32_t)job->ref;
	struct delivery *d = delivery_at(q->slab, no);
	struct packed_walk w;
	struct sorting s;
	assert(d->state == DELIVERY_OUT && d->id == job->message_id && job->n_recipients <= d->n_untried);
	if (!job->begun) {
		put_back_or_hold(q, no);
		return;
	}
	/* a 421 or a lost connection before end of data: the next MX host, or the next session, at no cost */
	bool at_no_cost = d->lost < LOST_FREE;
	if (job->connection_lost && d->lost < 15)
		d->lost++;
	sorting_begin(&s, q, no);
	packed_walk_init(&w, d->packed);
	struct told *told = mem_array(NULL, job->n_recipients, sizeof(*told));
	const struct outcome *elsewhere = hear(&s, job, &w, at_no_cost, told);
	for (uint32_t i = 0; i < job->n_recipients; i++) {
		if (told[i].again)
			keep(&s, &told[i].r);
	}
	for (uint32_t i = job->n_recipients; i < d->n_untried; i++) {
		struct packed_recipient r = packed_walk_next(&w);
		keep(&s, &r);
	}
	s.n_untried = s.n_open;
	for (uint32_t i = 0; i < job->n_recipients; i++) {
		if (!told[i].again)
			sort_one(&s, &told[i].r, told[i].o, told[i].rule, facts);
	}
	for (uint32_t i = d->n_untried; i < d->n_open; i++) {
		struct packed_recipient r = packed_walk_next(&w);
		keep(&s, &r);
	}
	if (elsewhere)
		go_elsewhere(c, d, job, elsewhere, facts);
	free(told);
	sorting_end(&s);
}

static void sort_all(
        struct queue *q, uint32_t no, const struct outcome *o, const struct session_facts *facts, bool expire)
{
	struct delivery *d = delivery_at(q->slab, no);
	struct packed_walk w;
	struct sorting s;
	const struct response_rule *rule = NULL;
	struct outcome mine;
	uint32_t n_elsewhere = 0;
	sorting_begin(&s, q, no);
	if (!expire && s.options.response_rules.n > 0) {
		mine = *o;
		rule = take_rule(&s, &mine, false); /* it was counted when it was said */
		o = &mine;
	}
	if (rule && rule->then == RESPONSE_ELSEWHERE && d->lost < LOST_FREE &&
	        place_other_member(q, d, RETRY_SOURCE_NEXT)) {
		d->lost++;
		n_elsewhere = d->n_untried;
	}
	packed_walk_init(&w, d->packed);
	for (uint32_t i = 0; i < d->n_open; i++) {
		struct packed_recipient r = packed_walk_next(&w);
		if (i < n_elsewhere)
			keep(&s, &r);
		else if (expire)
			give_up(&s, &r, EVENT_EXPIRATION, o, "5.4.7", facts);
		else if (i < d->n_untried)
			sort_one(&s, &r, o, rule, facts);
		else
			keep(&s, &r); /* has had its attempt in this round */
	}
	s.n_untried = n_elsewhere;
	sorting_end(&s);
}

void result_waiting(struct queue *q, uint32_t no, const struct outcome *o, const struct session_facts *facts)
{
	sort_all(q, no, o, facts, false);
}

void result_expire_waiting(
        struct queue *q, uint32_t no, const struct outcome *o, const struct session_facts *facts)
{
	sort_all(q, no, o, facts, true);
}

/* --- by command ------------------------------------------------------------------------------------------------- */

/* The selected recipients of a waiting delivery are given up, the others stay as they are. o NULL: without a word. */
static void take_out(
        struct queue *q, uint32_t no, const struct outcome *o, const struct selection *select, bool dsn)
{
	struct delivery *d = delivery_at(q->slab, no);
	struct packed_walk w;
	struct sorting s;
	uint32_t n_untried = 0;
	sorting_begin(&s, q, no);
	s.by_command = true;
	s.then = d->state;
	d->hold = d->state == DELIVERY_HELD; /* should it have to wait for a DSN */
	s.due_us = d->state == DELIVERY_DEFERRED ? d->due_us : 0;
	s.may_bounce = s.may_bounce && dsn;
	packed_walk_init(&w, d->packed);
	for (uint32_t i = 0; i < d->n_open; i++) {
		struct packed_recipient r = packed_walk_next(&w);
		if (!select_recipient(select, r.address)) {
			keep(&s, &r);
			n_untried += i < d->n_untried;
		} else if (o) {
			give_up(&s, &r, EVENT_BOUNCE, o, NULL, NULL);
		} else {
			s.n_gone++;
		}
	}
	s.n_untried = n_untried;
	sorting_end(&s);
}

void result_fail(
        struct queue *q, uint32_t no, const struct outcome *o, const struct selection *select, bool dsn)
{
	take_out(q, no, o, select, dsn);
}

void result_delete(struct queue *q, uint32_t no, const struct selection *select)
{
	take_out(q, no, NULL, select, false);
}
