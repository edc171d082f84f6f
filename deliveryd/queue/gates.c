#include "queue/queue_in.h"

#include <assert.h>
#include <stdlib.h>

/*
 * A session at the throttles that count it: its queue's and its MX host's, of connections and of messages. Opening it
 * counts until it is ready or has failed. A message's place is reserved when the session is opened for it, so that a
 * queue whose turn has come does not lose it to those that have a session already; a session that is slow to open gives
 * it back. Each later message asks for its own. One transaction counts as one message, and what was not begun as none.
 */
enum { OF_QUEUE, OF_HOST, N_OF };
#define JOBS_MAX 4 /* more than a session has at once */

struct job_tickets {
	uint32_t no; /* the delivery; 0 = free */
	struct rate_ticket of[N_OF];
};

struct gates {
	struct throttle *host[N_THROTTLE_KINDS]; /* uses; NULL = none */
	struct rate_ticket opened[N_OF], first[N_OF];
	struct job_tickets jobs[JOBS_MAX];
};

unsigned gates_limits(
        const struct traffic *t, struct throttle *const host[N_THROTTLE_KINDS], struct limit *out[GATES_MAX])
{
	unsigned n = 0;
	for (unsigned kind = 0; kind < N_THROTTLE_KINDS; kind++) {
		if (t->throttles[kind])
			out[n++] = throttle_limit(t->throttles[kind]);
		if (host[kind])
			out[n++] = throttle_limit(host[kind]);
	}
	return n;
}

static struct throttle *throttle_for(const struct conn *c, unsigned whose, enum throttle_kind kind)
{
	return whose == OF_QUEUE ? c->hq->traffic->throttles[kind] : c->gates->host[kind];
}

/* All of them have room. */
static void reserve(struct conn *c, enum throttle_kind kind, struct rate_ticket out[N_OF])
{
	for (unsigned whose = 0; whose < N_OF; whose++) {
		struct throttle *t = throttle_for(c, whose, kind);
		if (t)
			throttle_reserve(t, &out[whose]);
	}
}

static void begin(struct conn *c, struct rate_ticket of[N_OF])
{
	for (unsigned whose = 0; whose < N_OF; whose++)
		throttle_begin(c->q->throttles, &of[whose]);
}

static void done(struct conn *c, struct rate_ticket of[N_OF])
{
	for (unsigned whose = 0; whose < N_OF; whose++)
		throttle_done(c->q->throttles, &of[whose]);
}

static void give_back(struct conn *c, struct rate_ticket of[N_OF])
{
	for (unsigned whose = 0; whose < N_OF; whose++)
		throttle_give_back(c->q->throttles, &of[whose]);
}

static bool any_throttle(const struct traffic *t, struct throttle *const host[N_THROTTLE_KINDS])
{
	bool any = false;
	for (unsigned kind = 0; kind < N_THROTTLE_KINDS; kind++)
		any |= t->throttles[kind] || host[kind];
	return any;
}

/* One that was taken for done keeps its throttle from going no longer. */
static void forget_late(struct gates *g, const struct throttle *t)
{
	struct rate_ticket *of_host[2 + JOBS_MAX] = {&g->opened[OF_HOST], &g->first[OF_HOST]};
	for (unsigned i = 0; i < JOBS_MAX; i++)
		of_host[2 + i] = &g->jobs[i].of[OF_HOST];
	for (unsigned i = 0; i < array_len(of_host); i++) {
		if (of_host[i]->state == TICKET_LATE && throttle_has(t, of_host[i]))
			rate_ticket_give_back(of_host[i]);
	}
}

static void use_host(struct gates *g, struct throttle *const host[N_THROTTLE_KINDS])
{
	for (unsigned kind = 0; kind < N_THROTTLE_KINDS; kind++) {
		struct throttle *before = g->host[kind];
		g->host[kind] = host[kind] ? throttle_use(host[kind]) : NULL;
		if (before && before != host[kind])
			forget_late(g, before);
		throttle_unuse(&before);
	}
}

void gates_open(struct conn *c, struct throttle *const host[N_THROTTLE_KINDS])
{
	if (!any_throttle(c->hq->traffic, host))
		return;
	c->gates = mem_zalloc(sizeof(*c->gates));
	use_host(c->gates, host);
	reserve(c, THROTTLE_CONNECTIONS, c->gates->opened);
	begin(c, c->gates->opened);
	reserve(c, THROTTLE_MESSAGES, c->gates->first);
}

void gates_ready(struct conn *c)
{
	if (c->gates)
		done(c, c->gates->opened);
}

void gates_no_job(struct conn *c)
{
	if (c->gates)
		give_back(c, c->gates->first);
}

static bool is_reserved(const struct gates *g)
{
	return g->first[OF_QUEUE].state == TICKET_RESERVED || g->first[OF_HOST].state == TICKET_RESERVED;
}

/* Room that others wait for is none, except for the one whose turn it is. */
struct limit *gates_blocking(struct conn *c, const struct limit *woken)
{
	struct limit *asked[N_OF];
	unsigned n = 0;
	if (!c->gates || is_reserved(c->gates))
		return NULL;
	for (unsigned whose = 0; whose < N_OF; whose++) {
		struct throttle *t = throttle_for(c, whose, THROTTLE_MESSAGES);
		if (t)
			asked[n++] = throttle_limit(t);
	}
	return limits_blocking(asked, n, woken);
}

bool gates_is_host(const struct conn *c, const struct limit *l)
{
	const struct throttle *t = c->gates ? c->gates->host[THROTTLE_MESSAGES] : NULL;
	return t && l && l->is_throttle && throttle_of_limit((struct limit *)l) == t &&
	       throttle_until_us(t) > 0;
}

static struct job_tickets *job_of(struct gates *g, uint32_t no)
{
	for (unsigned i = 0; i < JOBS_MAX; i++) {
		if (g->jobs[i].no == no)
			return &g->jobs[i];
	}
	return NULL;
}

void gates_job(struct conn *c, uint32_t no)
{
	struct gates *g = c->gates;
	if (!g)
		return;
	if (!is_reserved(g))
		reserve(c, THROTTLE_MESSAGES, g->first);
	struct job_tickets *job = job_of(g, 0);
	assert(job);
	job->no = no;
	for (unsigned whose = 0; whose < N_OF; whose++) {
		if (g->first[whose].state == TICKET_RESERVED) {
			job->of[whose] = g->first[whose]; /* in no list before it begins */
			g->first[whose] = (struct rate_ticket){0};
		}
	}
	begin(c, job->of);
}

void gates_job_done(struct conn *c, uint32_t no, bool begun)
{
	struct job_tickets *job = c->gates ? job_of(c->gates, no) : NULL;
	if (!job)
		return;
	if (begun)
		done(c, job->of);
	else
		give_back(c, job->of);
	job->no = 0;
}

/* After a reload another throttle may hold for its host. */
void gates_renew(struct conn *c)
{
	struct host_marks marks;
	host_marks(c->q, binding_at(c->q, c->hq->key.binding), c->mx, &marks);
	if (!c->gates && !any_throttle(c->hq->traffic, marks.throttles))
		return;
	if (!c->gates)
		c->gates = mem_zalloc(sizeof(*c->gates));
	use_host(c->gates, marks.throttles);
}

void gates_free(struct conn *c)
{
	static struct throttle *const none[N_THROTTLE_KINDS];
	if (!c->gates)
		return;
	done(c, c->gates->opened); /* it failed: that counts as well */
	give_back(c, c->gates->first);
	use_host(c->gates, none);
	mem_free(&c->gates);
}
