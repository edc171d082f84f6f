#include "config.h"
#include "handoff/handoff_session.h"

#include <assert.h>
#include <string.h>
#include <unistd.h>

#define SESSIONS_MARK 1000
#define PENDING_MAX (256ULL * 1024 * 1024)
#define PAUSED_LOOK_US (SECOND_US / 20)
#define STOP_TRANSACTIONS_US (30 * SECOND_US)
/* A session that has not said LHLO may be about to: 421 must not answer that. After this long it is not. */
#define HELLO_EXPECTED_US (5 * SECOND_US)

/* --- bounds ------------------------------------------------------------------------------------------------- */

uint64_t handoff_session_mark(const struct handoff *h)
{
	return h->shared->max_sessions ? h->shared->max_sessions : SESSIONS_MARK;
}

static uint64_t pending_mark(const struct handoff *h)
{
	return h->shared->max_pending ? h->shared->max_pending : PENDING_MAX;
}

bool handoff_under_pressure(const struct handoff *h)
{
	return spool_pending_bytes(h->shared->spool) +
	               atomic_load_explicit(&h->shared->captured, memory_order_relaxed) >
	       pending_mark(h);
}

void handoff_count(struct handoff_session *s, bool is)
{
	struct handoff_shared *shared = s->handoff->shared;

	if (s->counted == is)
		return;
	s->counted = is;
	if (is)
		atomic_fetch_add(&shared->sessions, 1);
	else
		atomic_fetch_sub(&shared->sessions, 1);
	metric_set(s->handoff->metrics.sessions, atomic_load(&shared->sessions));
}

void handoff_count_closing(struct handoff_session *s, bool is)
{
	if (s->is_closing == is)
		return;
	s->is_closing = is;
	if (is)
		atomic_fetch_add(&s->handoff->shared->closing, 1);
	else
		atomic_fetch_sub(&s->handoff->shared->closing, 1);
}

void handoff_idle(struct handoff_session *s, bool is)
{
	struct handoff *h = s->handoff;

	if (s->is_idle)
		TAILQ_REMOVE(&h->idle, s, idle_link);
	s->is_idle = is;
	if (is) {
		s->since_us = loop_now_us(h->loop);
		TAILQ_INSERT_TAIL(&h->idle, s, idle_link);
	}
	s = TAILQ_FIRST(&h->idle);
	atomic_store_explicit(&h->longest_idle_since_us, s ? s->since_us : UINT64_MAX, memory_order_relaxed);
}

static void evict_here(struct handoff *h)
{
	uint64_t now = loop_now_us(h->loop);
	struct handoff_session *s;

	TAILQ_FOREACH(s, &h->idle, idle_link)
	{
		if (s->consuming) /* it is speaking to us right now */
			continue;
		if (s->state == HANDOFF_READY || now - s->since_us >= HELLO_EXPECTED_US)
			break;
	}
	if (!s)
		return;
	metric_add(h->metrics.evicted, 1);
	handoff_session_end(s, REPLY_TOO_MANY_SESSIONS);
	handoff_session_settle(s);
}

static void on_evict(struct mail *mail)
{
	struct handoff *h = container_of(mail, struct handoff, evict_mail);

	atomic_store(&h->evict_asked, false);
	evict_here(h);
}

/* The session that has been idle longest of all loops; on another loop it hears of it a little later. */
static void evict_one(struct handoff *h)
{
	struct handoff *best = h;
	uint64_t since = atomic_load_explicit(&h->longest_idle_since_us, memory_order_relaxed);

	for (struct handoff *other = h->shared->handoffs; other; other = other->next) {
		uint64_t its = atomic_load_explicit(&other->longest_idle_since_us, memory_order_relaxed);

		if (its < since) {
			since = its;
			best = other;
		}
	}
	if (best == h)
		evict_here(h);
	else if (!atomic_exchange(&best->evict_asked, true))
		loop_post(best->loop, &best->evict_mail);
}

void handoff_make_room(struct handoff *h)
{
	uint64_t closing = atomic_load(&h->shared->closing);

	if (atomic_load(&h->shared->sessions) > handoff_session_mark(h) + closing)
		evict_one(h);
}

/* --- paused sessions ---------------------------------------------------------------------------------------- */

void handoff_paused(struct handoff_session *s, bool is)
{
	struct handoff *h = s->handoff;

	if (s->is_paused == is)
		return;
	s->is_paused = is;
	if (is)
		TAILQ_INSERT_TAIL(&h->paused, s, paused_link);
	else
		TAILQ_REMOVE(&h->paused, s, paused_link);
	if (is && !timer_armed(&h->paused_timer))
		timer_arm_in(h->loop, &h->paused_timer, PAUSED_LOOK_US);
}

/* The spool says how much is pending, not when it became less: one look for all while there are any. */
static void on_paused_timer(void *ctx)
{
	struct handoff *h = ctx;
	struct handoff_session *s, *next;

	for (s = TAILQ_FIRST(&h->paused); s; s = next) {
		next = TAILQ_NEXT(s, paused_link);
		handoff_data_check_paused(s);
	}
	if (!TAILQ_EMPTY(&h->paused))
		timer_arm_in(h->loop, &h->paused_timer, PAUSED_LOOK_US);
}

/* --- life --------------------------------------------------------------------------------------------------- */

static void make_metrics(struct handoff *h)
{
	struct metrics *m = h->shared->metrics;
	char labels[64];

	h->metrics.sessions =
	        metrics_gauge(m, "bindpost_handoff_sessions", NULL, "Sessions of MTAs handing over");
	metric_set(metrics_gauge(m, "bindpost_handoff_sessions_max", NULL, "Above it MAIL is answered 451"),
	        handoff_session_mark(h));
	metric_set(metrics_gauge(m, "bindpost_handoff_pending_max_bytes", NULL,
	                   "Received and not yet durable; above it reading stops"),
	        pending_mark(h));
	h->metrics.connections =
	        metrics_counter(m, "bindpost_handoff_connections_total", NULL, "Connections accepted");
	h->metrics.messages =
	        metrics_counter(m, "bindpost_handoff_messages_total", NULL, "Messages given to the spool");
	h->metrics.bytes = metrics_counter(m, "bindpost_handoff_bytes_total", NULL, "Bytes of messages read");
	h->metrics.overload = metrics_counter(
	        m, "bindpost_handoff_overload_total", NULL, "MAIL answered 451 because of too many sessions");
	h->metrics.evicted = metrics_counter(m, "bindpost_handoff_evicted_total", NULL,
	        "Idle sessions closed because of too many sessions");
	h->metrics.pauses = metrics_counter(m, "bindpost_handoff_pauses_total", NULL,
	        "Times reading stopped because of what is not yet durable");
	h->metrics.discarded = metrics_counter(m, "bindpost_handoff_discarded_total", NULL,
	        "Messages discarded (452) after reading stopped for too long");
	h->metrics.unstamped =
	        metrics_counter(m, "bindpost_handoff_unstamped_total", NULL, "Messages without a stamp");
	for (int i = STAMP_OK + 1; i < STAMP_N_REASONS; i++) {
		snprintf(labels, sizeof(labels), "reason=\"%s\"", stamp_reason_name((enum stamp_reason)i));
		h->metrics.bad_stamp[i] = metrics_counter(m, "bindpost_handoff_bad_stamp_total", labels,
		        "Messages with a stamp that is not valid");
	}
	for (int i = QUOTA_MESSAGES; i < N_QUOTA_VERDICTS; i++) {
		snprintf(labels, sizeof(labels), "option=\"%s\"", quota_option((enum quota_verdict)i));
		h->metrics.quota[i] = metrics_counter(m, "bindpost_handoff_quota_refused_total", labels,
		        "Deliveries (a message to one recipient domain) refused because their binding has too many");
	}
	for (int i = 0; i < 6; i++) {
		snprintf(labels, sizeof(labels), "class=\"%dyz\"", i);
		if (i == 2 || i == 4 || i == 5)
			h->metrics.replies[i] = metrics_counter(
			        m, "bindpost_handoff_replies_total", labels, "Replies after data, by class");
	}
}

static void on_stopped_timer(void *ctx)
{
	struct handoff *h = ctx;
	void (*done)(void *) = h->stopped;

	h->stopped = NULL;
	if (done)
		done(h->stopped_ctx);
}

struct handoff *handoff_new(struct handoff_shared *shared, struct loop *loop)
{
	struct handoff *h = mem_zalloc(sizeof(*h));

	h->shared = shared;
	h->loop = loop;
	TAILQ_INIT(&h->all);
	TAILQ_INIT(&h->idle);
	TAILQ_INIT(&h->paused);
	TAILQ_INIT(&h->stores);
	timer_init(&h->paused_timer, on_paused_timer, h);
	timer_init(&h->stopped_timer, on_stopped_timer, h);
	h->buffer = mem_alloc(LEFT_MAX);
	h->evict_mail.take = on_evict;
	atomic_init(&h->longest_idle_since_us, UINT64_MAX);
	h->next = shared->handoffs;
	shared->handoffs = h;
	make_metrics(h);
	return h;
}

void handoff_accept(struct handoff *h, int fd, const struct sockaddr *peer)
{
	metric_add(h->metrics.connections, 1);
	handoff_session_new(h, fd, peer);
	handoff_make_room(h);
}

void handoff_gone(struct handoff *h)
{
	if (h->stopping && h->stopped && TAILQ_EMPTY(&h->all) && TAILQ_EMPTY(&h->stores))
		timer_arm_in(h->loop, &h->stopped_timer, 0);
}

void handoff_stop(struct handoff *h, void (*done)(void *ctx), void *ctx)
{
	struct handoff_session *s, *next;

	assert(!h->stopping);
	h->stopping = true;
	h->stop_deadline_us = loop_now_us(h->loop) + STOP_TRANSACTIONS_US;
	h->stopped = done;
	h->stopped_ctx = ctx;
	for (s = TAILQ_FIRST(&h->all); s; s = next) {
		next = TAILQ_NEXT(s, all_link);
		handoff_session_stop(s);
	}
	handoff_gone(h);
}

void handoff_free(struct handoff **p)
{
	struct handoff *h = *p, **link;
	struct store *store;

	if (!h)
		return;
	for (link = &h->shared->handoffs; *link != h;)
		link = &(*link)->next;
	*link = h->next;
	h->stopped = NULL;
	while (!TAILQ_EMPTY(&h->all))
		handoff_session_free(TAILQ_FIRST(&h->all));
	TAILQ_FOREACH(store, &h->stores, link)
	store->handoff = NULL;
	timer_cancel(h->loop, &h->paused_timer);
	timer_cancel(h->loop, &h->stopped_timer);
	mem_free(&h->buffer);
	mem_free(p);
}
