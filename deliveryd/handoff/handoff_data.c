#include "config.h"
#include "handoff/handoff_session.h"

#include <string.h>
#include "base/names.h"

static struct body_writer *writer_of(struct handoff_session *s)
{
	return s->t.writer;
}

/* --- receiving ---------------------------------------------------------------------------------------------- */

static const char *protocol_name(enum handoff_protocol protocol)
{
	switch (protocol) {
	case PROTOCOL_LMTP:
		return "LMTP";
	case PROTOCOL_ESMTP:
		return "ESMTP";
	default:
		return "SMTP";
	}
}

void handoff_data_start(struct handoff_session *s)
{
	const struct transaction_client client = {
	        .addr = &s->peer,
	        .helo = s->helo,
	        .protocol = protocol_name(s->protocol),
	};
	enum reply reply = transaction_start_data(&s->t, s->handoff->loop, &client);

	if (reply != REPLY_NONE) {
		reply_add(&s->out, reply);
		return;
	}
	handoff_session_enter(s, HANDOFF_DATA);
	reply_add(&s->out, REPLY_DATA_GO);
}

static bool must_pause(struct handoff_session *s)
{
	if (!writer_of(s)) /* already refused: its bytes go nowhere */
		return false;
	return handoff_under_pressure(s->handoff) || body_writer_backlog(writer_of(s)) > BACKLOG_MAX;
}

void handoff_data_check_paused(struct handoff_session *s)
{
	if (must_pause(s))
		return;
	handoff_session_enter(s, HANDOFF_DATA);
	handoff_io_resume(s);
}

static void on_room(void *ctx)
{
	struct handoff_session *s = ctx;

	if (s->state == HANDOFF_PAUSED)
		handoff_data_check_paused(s);
}

/* Reading stops, and TCP holds the client back. Not for long: an MTA gives a silent next hop up. */
static void pause_reading(struct handoff_session *s)
{
	metric_add(s->handoff->metrics.pauses, 1);
	body_writer_on_room(writer_of(s), on_room, s);
	handoff_session_enter(s, HANDOFF_PAUSED);
}

void handoff_data_give_up(struct handoff_session *s)
{
	metric_add(s->handoff->metrics.discarded, 1);
	transaction_refuse(&s->t, REPLY_NO_MEMORY);
	handoff_session_enter(s, HANDOFF_DATA);
}

static void end_of_data(struct handoff_session *s);

size_t handoff_data_feed(struct handoff_session *s, const char *p, size_t len)
{
	bool end;
	size_t used = transaction_feed(&s->t, p, len, &end);

	metric_add(s->handoff->metrics.bytes, used);
	if (end) {
		end_of_data(s);
		return used;
	}
	s->progress += (uint32_t)used;
	if (s->progress >= PROGRESS_MIN)
		handoff_session_restart_clock(s);
	if (must_pause(s))
		pause_reading(s);
	return used;
}

/* --- replies ------------------------------------------------------------------------------------------------ */

static void count_reply(struct handoff_session *s, int code)
{
	metric_add(s->handoff->metrics.replies[code / 100 % 6], 1);
}

static void say_verdict(struct handoff_session *s, enum reply verdict, uint64_t id)
{
	char text[ID_TEXT_SIZE];

	count_reply(s, verdict == REPLY_NONE ? 250 : reply_code(verdict));
	if (verdict == REPLY_NONE) {
		str_add(&s->out, "250 2.0.0 Ok: queued as ");
		str_add(&s->out, id_print(id, text));
		str_add(&s->out, "\r\n");
	} else {
		reply_add(&s->out, verdict);
	}
}

/* SMTP has one reply for all: the first 4yz, so that no recipient is lost for good; else the first 5yz. */
static enum reply one_verdict(const struct transaction *t)
{
	enum reply verdict = REPLY_NONE;

	for (uint32_t i = 0; i < t->n_rcpts; i++) {
		enum reply v = t->rcpts[i].verdict;

		if (v != REPLY_NONE && reply_is_transient(v))
			return v;
		if (verdict == REPLY_NONE)
			verdict = v;
	}
	return verdict;
}

/* stored: what the spool made of those that were taken */
static void say_all(struct handoff_session *s, enum reply stored, uint64_t id)
{
	const struct transaction *t = &s->t;
	enum reply verdict = one_verdict(t);

	if (s->protocol != PROTOCOL_LMTP) {
		say_verdict(s, verdict == REPLY_NONE ? stored : verdict, id);
		return;
	}
	for (uint32_t i = 0; i < t->n_rcpts; i++) {
		verdict = t->rcpts[i].verdict;
		say_verdict(s, verdict == REPLY_NONE ? stored : verdict, id);
	}
}

static void finish(struct handoff_session *s, enum reply stored, uint64_t id)
{
	say_all(s, stored, id);
	handoff_session_enter(s, HANDOFF_READY);
}

/* --- storing ------------------------------------------------------------------------------------------------ */

static struct store *store_new(struct handoff_session *s)
{
	struct store *store = mem_zalloc(sizeof(*store));

	store->session = s;
	store->handoff = s->handoff;
	store->shared = s->handoff->shared;
	TAILQ_INSERT_TAIL(&s->handoff->stores, store, link);
	s->store = store;
	return store;
}

/* The spool is done with it, as far as this loop is concerned. Returns the session if it is still there. */
static struct handoff_session *store_unlink(struct store *store)
{
	struct handoff_session *s = store->session;

	if (store->handoff)
		TAILQ_REMOVE(&store->handoff->stores, store, link);
	if (s)
		s->store = NULL;
	store->session = NULL;
	return s;
}

void handoff_data_forget(struct handoff_session *s)
{
	if (s->store)
		s->store->session = NULL;
	s->store = NULL;
}

/* What its deliveries count: the queue has taken it over, or it is nobody's. */
static void settle_quotas(struct store *store, bool stored)
{
	struct message *m = store->message;

	if (!m)
		return;
	for (uint32_t i = 0; !stored && i < m->n_deliveries; i++) {
		const struct delivery_spec *d = &m->deliveries[i];

		if (d->counted)
			store->shared->quota_give_back(store->shared->queue, d->target, d->counted_bytes);
	}
	message_unref(&store->message);
}

/* The spool's answer, on our loop. */
static void on_stored(struct mail *mail)
{
	struct store *store = container_of(mail, struct store, add.reply);
	struct handoff *h = store->handoff;
	struct handoff_session *s = store_unlink(store);
	enum spool_result result = store->add.result;
	uint64_t id = store->id;

	settle_quotas(store, result == SPOOL_STORED);
	if (atomic_fetch_sub(&store->add.refs, 1) == 1)
		mem_free(&store);
	if (s) {
		finish(s,
		        result == SPOOL_STORED     ? REPLY_NONE
		        : result == SPOOL_NO_SPACE ? REPLY_NO_SPACE
		                                   : REPLY_DISK_ERROR,
		        id);
		handoff_io_resume(s);
	}
	if (h)
		handoff_gone(h);
}

static void store_message(struct store *store, struct message *m)
{
	struct handoff_shared *shared = store->handoff->shared;
	struct spool_add *add = &store->add;

	store->id = m->id;
	for (uint32_t i = 0; i < m->n_deliveries && !store->message; i++)
		if (m->deliveries[i].counted)
			store->message = message_ref(m);
	add->message = m;
	add->queue_loop = shared->queue_loop;
	add->queue_mail.take = shared->enqueue;
	add->reply_loop = store->handoff->loop;
	add->reply.take = on_stored;
	add->ctx = shared->queue;
	atomic_init(&add->refs, 2);
	spool_add(shared->spool, add);
}

/* The body is where it belongs, or it is not. Without a session nobody waits for it, and nobody was told 250. */
static void on_body(void *ctx, struct body *takes, enum body_error error)
{
	struct store *store = ctx;
	struct handoff *h = store->handoff;
	struct handoff_session *s = store->session;

	if (s && error == BODY_OK) {
		metric_add(h->metrics.messages, 1);
		store_message(store, transaction_take_message(&s->t, takes));
		return;
	}
	if (takes)
		body_unref(&takes);
	store_unlink(store);
	mem_free(&store);
	if (s) {
		finish(s, error == BODY_NO_SPACE ? REPLY_NO_SPACE : REPLY_DISK_ERROR, 0);
		handoff_io_resume(s);
	}
	if (h)
		handoff_gone(h);
}

/* Counted and, where it is not taken as it is, told. */
static void note_stamp(struct handoff_session *s)
{
	struct handoff *h = s->handoff;
	enum reply verdict = s->t.n_rcpts > 0 ? s->t.rcpts[0].verdict : REPLY_NONE;
	bool refused = verdict == REPLY_UNSTAMPED_LATER || verdict == REPLY_UNSTAMPED_REJECT;

	if (s->t.unstamped)
		metric_add(h->metrics.unstamped, 1);
	if (s->t.stamp_reason != STAMP_OK)
		metric_add(h->metrics.bad_stamp[s->t.stamp_reason], 1);
	if (refused || s->t.stamp_reason != STAMP_OK)
		stamp_alarm(&h->stamp_alarm, s->t.stamp_reason, s->t.message->id, loop_now_us(h->loop));
}

static void end_of_data(struct handoff_session *s)
{
	struct body_writer *writer;
	bool stored = transaction_decide(&s->t, s->protocol != PROTOCOL_LMTP);

	note_stamp(s);
	for (int i = QUOTA_MESSAGES; i < N_QUOTA_VERDICTS; i++)
		metric_add(s->handoff->metrics.quota[i], s->t.refused_by_quota[i]);
	if (!stored) {
		finish(s, REPLY_NONE, 0);
		return;
	}
	handoff_session_enter(s, HANDOFF_STORING);
	writer = s->t.writer;
	s->t.writer = NULL;
	body_writer_on_room(writer, NULL, NULL);
	body_writer_finish(writer, on_body, store_new(s));
}
