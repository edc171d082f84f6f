#include "config.h"
#include "handoff/handoff_session.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <string.h>
#include <unistd.h>

#define SESSION_MAGIC 0x68616e64
/* While stopping: how long a client that was just answered may take to send what it meant to send */
#define STOP_GRACE_US (2 * SECOND_US)
#define STOP_HELLO_US (5 * SECOND_US)

static void timeout_idle(struct handoff_session *);
static void timeout_paused(struct handoff_session *);
static void timeout_none(struct handoff_session *);
static void timeout_closing(struct handoff_session *);

static const struct {
	enum handoff_input input;
	uint64_t timeout_us;
	void (*on_timeout)(struct handoff_session *);
	const char *words;
} states[HANDOFF_N_STATES] = {
#define STATE(name, input, seconds, on_timeout, words)                                                       \
	[HANDOFF_##name] = {INPUT_##input, (seconds)*SECOND_US, on_timeout, words},
#include "handoff/handoff_state.def"
#undef STATE
};

const char *handoff_state_words(enum handoff_state state)
{
	return states[state].words;
}

enum handoff_input handoff_session_input(const struct handoff_session *s)
{
	return states[s->state].input;
}

bool handoff_session_in_transaction(const struct handoff_session *s)
{
	return s->state == HANDOFF_ENVELOPE || s->state == HANDOFF_DATA || s->state == HANDOFF_PAUSED ||
	       s->state == HANDOFF_STORING;
}

/* --- time --------------------------------------------------------------------------------------------------- */

static uint64_t earlier(uint64_t a, uint64_t b)
{
	return a < b ? a : b;
}

/* When stopping, a state may last less long than usual. */
static uint64_t stop_deadline(const struct handoff_session *s, uint64_t now)
{
	switch (s->state) {
	case HANDOFF_CONNECTED: /* LHLO is always answered 250 */
		return now + STOP_HELLO_US;
	case HANDOFF_READY:
		return now + STOP_GRACE_US;
	default:
		return handoff_session_in_transaction(s) ? s->handoff->stop_deadline_us : UINT64_MAX;
	}
}

void handoff_session_restart_clock(struct handoff_session *s)
{
	struct loop *loop = s->handoff->loop;
	uint64_t now = loop_now_us(loop), timeout_us = states[s->state].timeout_us;

	s->progress = 0;
	s->deadline_us = timeout_us ? now + timeout_us : UINT64_MAX;
	if (s->state != HANDOFF_STORING) {
		if (handoff_session_in_transaction(s))
			s->deadline_us = earlier(s->deadline_us, s->transaction_deadline_us);
		if (s->handoff->stopping)
			s->deadline_us = earlier(s->deadline_us, stop_deadline(s, now));
	}
	/* An armed timer that is too early only looks at the deadline again: cheaper than moving it per command. */
	if (s->deadline_us != UINT64_MAX && (!timer_armed(&s->timer) || s->timer.due_us > s->deadline_us))
		timer_arm(loop, &s->timer, s->deadline_us);
}

static void on_timer(void *ctx)
{
	struct handoff_session *s = ctx;

	assert(s->magic == SESSION_MAGIC);
	if (s->deadline_us == UINT64_MAX)
		return;
	if (loop_now_us(s->handoff->loop) < s->deadline_us) {
		timer_arm(s->handoff->loop, &s->timer, s->deadline_us);
		return;
	}
	states[s->state].on_timeout(s);
	handoff_session_settle(s);
}

static void timeout_idle(struct handoff_session *s)
{
	if (s->handoff->stopping)
		handoff_session_end(s, REPLY_SHUTTING_DOWN);
	else if (handoff_session_in_transaction(s) &&
	         loop_now_us(s->handoff->loop) >= s->transaction_deadline_us)
		handoff_session_end(s, REPLY_TOO_SLOW);
	else
		handoff_session_end(s, REPLY_IDLE_TOO_LONG);
}

static void timeout_paused(struct handoff_session *s)
{
	if (s->handoff->stopping && loop_now_us(s->handoff->loop) >= s->handoff->stop_deadline_us)
		handoff_session_end(s, REPLY_SHUTTING_DOWN);
	else
		handoff_data_give_up(s);
}

static void timeout_none(struct handoff_session *s)
{
	(void)s; /* the spool answers every request */
}

static void timeout_closing(struct handoff_session *s)
{
	s->broken = true;
}

/* --- states ------------------------------------------------------------------------------------------------- */

void handoff_session_enter(struct handoff_session *s, enum handoff_state state)
{
	bool was_open = handoff_session_in_transaction(s);

	assert(s->state != HANDOFF_CLOSING);
	assert(!(s->state == HANDOFF_STORING && state == HANDOFF_CLOSING));
	s->state = state;
	if (was_open && !handoff_session_in_transaction(s))
		transaction_clear(&s->t);
	handoff_idle(s, state == HANDOFF_READY || state == HANDOFF_CONNECTED);
	handoff_paused(s, state == HANDOFF_PAUSED);
	handoff_count_closing(s, state == HANDOFF_CLOSING);
	handoff_session_restart_clock(s);
}

void handoff_session_end(struct handoff_session *s, enum reply reply)
{
	reply_add(&s->out, reply);
	handoff_session_enter(s, HANDOFF_CLOSING);
}

void handoff_session_stop(struct handoff_session *s)
{
	if (s->state == HANDOFF_READY && s->left_len == 0)
		handoff_session_end(s, REPLY_SHUTTING_DOWN);
	else
		handoff_session_restart_clock(s);
	handoff_session_settle(s);
}

/* --- life --------------------------------------------------------------------------------------------------- */

static void find_addresses(struct handoff_session *s, const struct sockaddr *peer)
{
	struct sockaddr_storage self;
	socklen_t len = sizeof(self);
	int on = 1;

	if (!peer || !addr_from_sockaddr(peer, &s->peer)) {
		s->peer = (struct addr){0};
		return;
	}
	addr_unmap(&s->peer);
	if (getsockname(s->fd, (struct sockaddr *)&self, &len) == 0 &&
	        addr_from_sockaddr((struct sockaddr *)&self, &s->self))
		addr_unmap(&s->self);
	setsockopt(s->fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
}

/* Always: Postfix takes anything but 220 for a next hop that is down. */
static void greet(struct handoff_session *s)
{
	const struct policy_view *view = policy_cell_view(s->handoff->shared->policy);

	str_printf(
	        &s->out, "220 %s ESMTP LMTP bindpost\r\n", conf_process(policy_conf(view->policy))->hostname);
	policy_view_unref(&view);
}

void handoff_session_new(struct handoff *h, int fd, const struct sockaddr *peer)
{
	struct handoff_session *s = mem_zalloc(sizeof(*s));

	s->magic = SESSION_MAGIC;
	s->handoff = h;
	s->fd = fd;
	str_init(&s->out);
	timer_init(&s->timer, on_timer, s);
	transaction_init(&s->t, h->shared);
	find_addresses(s, peer);
	TAILQ_INSERT_TAIL(&h->all, s, all_link);
	handoff_count(s, true);
	s->over_mark = atomic_load(&h->shared->sessions) > handoff_session_mark(h);
	handoff_io_open(s);
	handoff_session_enter(s, HANDOFF_CONNECTED);
	greet(s);
	handoff_session_settle(s);
}

void handoff_session_free(struct handoff_session *s)
{
	struct handoff *h = s->handoff;

	assert(s->magic == SESSION_MAGIC);
	handoff_data_forget(s);
	transaction_clear(&s->t);
	timer_cancel(h->loop, &s->timer);
	handoff_io_close(s);
	handoff_idle(s, false);
	handoff_paused(s, false);
	handoff_count_closing(s, false);
	handoff_count(s, false);
	TAILQ_REMOVE(&h->all, s, all_link);
	str_free(&s->out);
	mem_free(&s->left);
	s->magic = 0;
	mem_free(&s);
	handoff_gone(h);
}

/*
 * Closing over bytes not yet read resets the connection, and the reset may overtake our last reply: so the writing end
 * is closed first, and what the client still sends is read until it closes too. Behind QUIT nothing comes.
 */
static void close_gently(struct handoff_session *s)
{
	if (s->quit) {
		s->broken = true;
	} else if (!s->half_closed) {
		s->half_closed = true;
		shutdown(s->fd, SHUT_WR);
	}
}

void handoff_session_settle(struct handoff_session *s)
{
	if (s->consuming)
		return;
	if (!s->broken)
		handoff_io_send(s);
	if (!s->broken && s->state == HANDOFF_CLOSING && handoff_io_sent(s))
		close_gently(s);
	if (s->broken)
		handoff_session_free(s);
	else
		handoff_io_want(s);
}
