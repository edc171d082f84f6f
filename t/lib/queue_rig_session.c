/* MX hosts, the way to them, and sessions with them, for the queue's tests. */
#include "t/lib/queue_rig.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>
#include "route/route_build.h"

/* --- routes ------------------------------------------------------------------------------------------------------ */

struct entry {
	struct entry *next;
	char *name, *addrs;
	struct outcome why;
	unsigned asked;
};

struct router {
	struct rig *rig;
	struct entry *entries;
	struct entry *all; /* NULL = each has its own */
	struct route_query *queries;
};

struct route_query {
	struct route_query *next;
	struct router *router;
	struct entry *entry;
	struct timer timer;
	route_done *done;
	void *ctx;
};

struct router *rig_router_new(struct rig *rig)
{
	struct router *r = mem_zalloc(sizeof(*r));
	r->rig = rig;
	return r;
}

static struct entry *entry(struct router *r, const char *name)
{
	struct entry *e = r->entries;
	while (e && strcmp(e->name, name) != 0)
		e = e->next;
	if (e)
		return e;
	e = mem_zalloc(sizeof(*e));
	e->name = mem_strdup(name);
	e->next = r->entries;
	r->entries = e;
	return e;
}

void rig_route(struct rig *rig, const char *next_hop, const char *addrs)
{
	struct entry *e = entry(rig->router, next_hop);
	free(e->addrs);
	e->addrs = mem_strdup(addrs);
}

void rig_route_fails(struct rig *rig, const char *next_hop, enum outcome_class class, const char *enhanced,
        const char *text)
{
	struct entry *e = entry(rig->router, next_hop);
	mem_free(&e->addrs);
	outcome_own(
	        &e->why, class, STATE_RESOLVE, class == OUTCOME_PERMANENT ? 550 : 451, enhanced, "%s", text);
}

void rig_route_all(struct rig *rig, const char *addrs)
{
	rig_route(rig, "", addrs);
	rig->router->all = entry(rig->router, "");
}

unsigned rig_routes_asked(struct rig *rig, const char *next_hop)
{
	return entry(rig->router, next_hop)->asked;
}

static struct route *build(struct rig *rig, const char *text)
{
	struct route *r = route_new();
	bool no_ttl = strncmp(text, "ttl=0 ", 6) == 0;
	char *copy = mem_strdup(no_ttl ? text + 6 : text), *save, *word;
	for (word = strtok_r(copy, ",", &save); word; word = strtok_r(NULL, ",", &save)) {
		unsigned preference;
		char ip[64], name[80];
		struct addr addr;
		int got = sscanf(word, "%u %63s", &preference, ip);
		assert(got == 2 && addr_parse(ip, &addr, NULL));
		(void)got;
		addr.port = 25;
		snprintf(name, sizeof(name), "mx-%s", ip);
		route_add(r, &(struct route_new_addr){
		                     .addr = addr, .preference = (uint16_t)preference, .mx = name});
	}
	free(copy);
	r->expires_mono_us = loop_now_us(rig->loop) + (no_ttl ? 0 : 300 * SECOND_US);
	return r;
}

static void query_forget(struct route_query *rq)
{
	struct route_query **at = &rq->router->queries;
	while (*at != rq)
		at = &(*at)->next;
	*at = rq->next;
	free(rq);
}

static void answer(void *ctx)
{
	struct route_query *rq = ctx;
	struct entry *e = rq->entry;
	struct rig *rig = rq->router->rig;
	route_done *done = rq->done;
	void *done_ctx = rq->ctx;
	query_forget(rq);
	if (e->addrs) {
		done(done_ctx, build(rig, e->addrs), NULL);
		return;
	}
	if (e->why.class == OUTCOME_NONE)
		outcome_own(&e->why, OUTCOME_TRANSIENT, STATE_RESOLVE, 451, "4.4.3", "not in the table");
	done(done_ctx, NULL, &e->why);
}

struct route_query *route_start(struct router *r, const struct next_hop *hop, bool use_ipv6,
        enum dane_use dane, route_done *done, void *ctx)
{
	struct route_query *rq = mem_zalloc(sizeof(*rq));
	(void)use_ipv6;
	(void)dane;
	rq->router = r;
	rq->entry = r->all ? r->all : entry(r, hop->name);
	rq->entry->asked++;
	rq->done = done;
	rq->ctx = ctx;
	rq->next = r->queries;
	r->queries = rq;
	timer_init(&rq->timer, answer, rq);
	timer_arm_in(r->rig->loop, &rq->timer, 1000);
	return rq;
}

bool router_is_current(const struct router *r, const struct route *route)
{
	(void)r;
	(void)route;
	return true;
}

void route_cancel(struct route_query **prq)
{
	if (!*prq)
		return;
	timer_cancel((*prq)->router->rig->loop, &(*prq)->timer);
	query_forget(*prq);
	*prq = NULL;
}

void rig_router_free(struct rig *rig)
{
	assert(!rig->router->queries);
	while (rig->router->entries) {
		struct entry *e = rig->router->entries;
		rig->router->entries = e->next;
		free(e->name);
		free(e->addrs);
		free(e);
	}
	mem_free(&rig->router);
}

/* --- sessions ------------------------------------------------------------------------------------------------------- */

struct session_net {
	struct rig *rig;
	bool stopping;
};

struct session {
	struct session *prev, *next;
	struct rig *rig;
	struct rig_mx *mx;
	struct profile *profile;
	char *mx_name, *binding;
	const struct session_owner *owner;
	void *ctx;
	struct timer timer;
	struct session_job *jobs[4];
	unsigned n_jobs;
	struct session_job *running;
	bool ready, quitting, closing, connected;
	uint32_t completed;
	struct outcome why;
	struct session_facts facts;
	char source_text[64];
};

struct session_net *rig_net_new(struct rig *rig)
{
	struct session_net *n = mem_zalloc(sizeof(*n));
	n->rig = rig;
	return n;
}

struct rig_mx *rig_mx(struct rig *rig, const char *ip)
{
	for (unsigned i = 0; i < rig->n_mx; i++) {
		if (strcmp(rig->mx[i]->ip, ip) == 0)
			return rig->mx[i];
	}
	assert(rig->n_mx < array_len(rig->mx));
	struct rig_mx *mx = rig->mx[rig->n_mx++] = mem_zalloc(sizeof(*mx));
	snprintf(mx->ip, sizeof(mx->ip), "%s", ip);
	mx->connect_us = 1000;
	mx->job_us = 10000;
	mx->idle_us = 5 * SECOND_US;
	return mx;
}

void rig_says_later(struct rig_mx *mx, struct session_job *job, uint32_t i, struct outcome *o)
{
	(void)job;
	(void)i;
	outcome_own(o, OUTCOME_TRANSIENT, STATE_RCPT, 451, "4.7.1", "%s", mx->text ? mx->text : "later");
	o->ours = false;
}

static struct rig_source *source_of(struct rig *rig, const char *ip)
{
	for (unsigned i = 0; i < rig->n_sources; i++) {
		if (strcmp(rig->sources[i].ip, ip) == 0)
			return &rig->sources[i];
	}
	assert(rig->n_sources < array_len(rig->sources));
	struct rig_source *s = &rig->sources[rig->n_sources++];
	snprintf(s->ip, sizeof(s->ip), "%s", ip);
	return s;
}

static void most(unsigned *now, unsigned *at_most, int change)
{
	*now += (unsigned)change;
	if (*now > *at_most)
		*at_most = *now;
}

void rig_session_count(struct rig *rig, struct session *s, int change)
{
	struct rig_source *source = source_of(rig, s->source_text);
	most(&rig->sessions, &rig->most_sessions, change);
	most(&s->mx->sessions, &s->mx->most, change);
	most(&source->sessions, &source->most, change);
	if (rig->counted)
		rig->counted(rig->seen_ctx, s->binding, s->mx_name, change);
}

static void close_later(struct session *s);

static void jobs_back(struct session *s)
{
	while (s->n_jobs > 0) {
		struct session_job *job = s->jobs[0];
		memmove(s->jobs, s->jobs + 1, --s->n_jobs * sizeof(s->jobs[0]));
		job->begun = false;
		s->owner->on_job_done(s->ctx, s, job, &s->facts);
	}
}

static void session_free(struct session *s)
{
	if (s->prev)
		s->prev->next = s->next;
	else
		s->rig->all_sessions = s->next;
	if (s->next)
		s->next->prev = s->prev;
	profile_unref(&s->profile);
	free(s->mx_name);
	free(s->binding);
	free(s);
}

static void closed(void *ctx)
{
	struct session *s = ctx;
	jobs_back(s);
	if (s->connected)
		rig_session_count(s->rig, s, -1);
	s->owner->on_closed(s->ctx, s, &s->why, s->completed, &s->facts);
	session_free(s);
}

static void close_later(struct session *s)
{
	s->closing = true;
	timer_init(&s->timer, closed, s);
	timer_arm_in(s->rig->loop, &s->timer, 500);
}

static void fail(struct session *s, enum outcome_state state, const char *enhanced, const char *text)
{
	outcome_own(&s->why, OUTCOME_TRANSIENT, state, 451, enhanced, "%s", text);
	close_later(s);
}

static void next_job(struct session *s);

static void lost(struct session *s)
{
	struct session_job *job = s->running;
	s->running = NULL;
	job->begun = s->completed == 0;
	job->connection_lost = job->begun;
	outcome_own(&s->why, OUTCOME_TRANSIENT, STATE_MAIL, 451, "4.4.2", "connection lost");
	s->why.lost = true;
	for (uint32_t i = 0; job->begun && i < job->n_recipients; i++)
		job->outcomes[i] = s->why;
	s->owner->on_job_done(s->ctx, s, job, &s->facts);
	jobs_back(s);
	close_later(s);
}

static void job_over(void *ctx)
{
	struct session *s = ctx;
	struct session_job *job = s->running;
	struct rig_mx *mx = s->mx;
	if (mx->mode == MX_DROP || (mx->drop_after && s->completed >= mx->drop_after)) {
		lost(s);
		return;
	}
	s->running = NULL;
	s->completed++;
	mx->jobs++;
	if (s->rig->seen)
		s->rig->seen(
		        s->rig->seen_ctx, s->rig->clock.mono, s->binding, s->mx_name, job->recipients[0]);
	for (uint32_t i = 0; i < job->n_recipients; i++) {
		mx->recipients++;
		outcome_own(&job->outcomes[i], OUTCOME_OK, STATE_DOT, 250, "2.0.0", "ok");
		job->outcomes[i].ours = false;
		if (mx->says)
			mx->says(mx, job, i, &job->outcomes[i]);
	}
	s->owner->on_job_done(s->ctx, s, job, &s->facts);
	next_job(s);
}

static void idle_over(void *ctx)
{
	struct session *s = ctx;
	close_later(s);
}

static void next_job(struct session *s)
{
	if (s->closing || s->running)
		return;
	if (s->quitting) {
		jobs_back(s);
		close_later(s);
		return;
	}
	timer_cancel(s->rig->loop, &s->timer);
	if (s->n_jobs == 0) {
		timer_init(&s->timer, idle_over, s);
		timer_arm_in(s->rig->loop, &s->timer, s->mx->idle_us);
		return;
	}
	s->running = s->jobs[0];
	memmove(s->jobs, s->jobs + 1, --s->n_jobs * sizeof(s->jobs[0]));
	s->running->begun = true;
	timer_init(&s->timer, job_over, s);
	timer_arm_in(s->rig->loop, &s->timer, s->mx->job_us);
	if (s->mx->mode != MX_DROP)
		s->owner->on_want(s->ctx, s);
}

static void begin_job(void *ctx)
{
	next_job(ctx);
}

static void connected(void *ctx)
{
	struct session *s = ctx;
	switch (s->mx->mode) {
	case MX_REFUSE:
		fail(s, STATE_CONNECT, "4.4.1", "connection refused");
		return;
	case MX_NO_BIND:
		fail(s, STATE_CONNECT, "4.3.5", "cannot bind");
		return;
	case MX_NO_PORT:
		fail(s, STATE_CONNECT, "4.3.0", "no free port");
		return;
	case MX_NO_PROXY:
		if (!s->profile->o.egress_proxy) /* the host itself is well */
			break;
		fail(s, STATE_CONNECT, "4.3.5", "egress proxy is down");
		s->why.proxy = true;
		return;
	case MX_BANNER:
		rig_session_count(s->rig, s, +1);
		s->connected = true;
		outcome_own(&s->why, OUTCOME_TRANSIENT, STATE_BANNER, 554, "5.3.2", "no service");
		s->why.ours = false;
		close_later(s);
		return;
	case MX_SILENT:
		fail(s, STATE_CONNECT, "4.4.1", "connection timed out");
		timer_arm_in(s->rig->loop, &s->timer, s->profile->o.connect_timeout_s * SECOND_US);
		return;
	case MX_OK:
	case MX_DROP:
		break;
	}
	rig_session_count(s->rig, s, +1);
	s->connected = true;
	s->ready = true;
	s->owner->on_ready(s->ctx, s, &s->facts);
	next_job(s);
}

struct session *session_open(struct session_net *net, const struct session_open *open)
{
	struct session *s = mem_zalloc(sizeof(*s));
	char ip[ADDR_TEXT_SIZE];
	s->rig = net->rig;
	s->mx = rig_mx(s->rig, open->unix_path ? open->unix_path : addr_print(&open->peer, ip));
	s->mx->connects++;
	s->mx->tls = open->profile->o.tls;
	s->profile = profile_ref(open->profile);
	s->mx_name = mem_strdup(open->mx);
	s->binding = mem_strdup(open->binding);
	if (s->rig->seen)
		s->rig->seen(s->rig->seen_ctx, s->rig->clock.mono, s->binding, s->mx_name, NULL);
	s->owner = open->owner;
	s->ctx = open->ctx;
	s->why.class = OUTCOME_OK;
	s->facts.mx = s->mx_name;
	s->facts.ehlo = s->profile->o.ehlo_hostname;
	s->facts.peer = open->peer;
	s->facts.source = open->source;
	assert(open->any_source == (open->source.family == AF_UNSPEC));
	snprintf(s->source_text, sizeof(s->source_text), "%s",
	        open->any_source ? "any" : addr_print(&open->source, ip));
	s->next = s->rig->all_sessions;
	if (s->next)
		s->next->prev = s;
	s->rig->all_sessions = s;
	timer_init(&s->timer, connected, s);
	timer_arm_in(s->rig->loop, &s->timer, s->mx->connect_us);
	return s;
}

void session_job(struct session *s, struct session_job *job)
{
	assert(job->n_recipients > 0 && s->n_jobs < array_len(s->jobs));
	job->session = s;
	job->outcomes = mem_zalloc(job->n_recipients * sizeof(struct outcome));
	s->jobs[s->n_jobs++] = job;
	if (s->ready && !s->running && !s->closing) {
		timer_cancel(s->rig->loop, &s->timer);
		timer_init(&s->timer, begin_job, s);
		timer_arm_in(s->rig->loop, &s->timer, 0);
	}
}

void session_no_job(struct session *s)
{
	(void)s;
}

void session_quit(struct session *s)
{
	if (s->quitting || s->closing)
		return;
	s->quitting = true;
	if (s->running)
		return;
	timer_cancel(s->rig->loop, &s->timer);
	close_later(s);
}

void session_net_stop(struct session_net *net, uint64_t transactions_us, uint64_t final_us)
{
	(void)transactions_us;
	(void)final_us;
	net->stopping = true;
	for (struct session *s = net->rig->all_sessions; s; s = s->next)
		session_quit(s);
}

void session_job_free(struct session_job **pjob)
{
	struct session_job *job = *pjob;
	body_unref(&job->body);
	free(job->outcomes);
	free(job->mem);
	mem_free(pjob);
}
