/*
 * The session's socket and clock.
 */
#include <assert.h>
#include <errno.h>
#include <sys/socket.h>
#include "base/mem.h"
#include "queue/profile.h"
#include "session/smtp_session.h"

#define IOV_MAX_PUMP SMTP_DATA_IOV
#define WANT_AHEAD                                                                                           \
	(256 * 1024) /* of a body in few large pieces: the next job is asked for before the last so many */

static struct session *session_of(void *ctx)
{
	struct session *s = ctx;

	assert(s->magic == SESSION_MAGIC);
	return s;
}

/* --- clock ------------------------------------------------------------------------------------------- */

static uint64_t earlier(uint64_t a, uint64_t b)
{
	return a < b ? a : b;
}

/*
 * The timer runs late rather than early: moving it with every reply would cost more than finding, when it
 * fires, that the deadline has moved on.
 */
void smtp_io_arm(struct session *s)
{
	const struct session_net *net = s->net;
	uint64_t now = loop_now_us(net->loop);
	uint64_t wait = smtp_state_timeout_us(s);

	if (s->state == SMTP_PROXY) /* part of connecting, whose time goes on */
		return;

	if (s->state == SMTP_IDLE && wait == 0)
		wait = SECOND_US; /* for the owner's word only */
	if (s->quitting && s->state < SMTP_IDLE)
		wait = s->o->quit_timeout_s * SECOND_US;
	s->deadline_us = now + wait;
	if (s->state >= SMTP_ENVELOPE && s->state <= SMTP_CHUNK)
		s->deadline_us = earlier(s->deadline_us, s->t.deadline_us);
	if (net->stopping && s->state >= SMTP_ENVELOPE)
		s->deadline_us = earlier(s->deadline_us, smtp_transaction_ended(s) || s->state >= SMTP_QUIT
		                                                 ? net->stop_final_us
		                                                 : net->stop_transactions_us);
	if (!timer_armed(&s->timer) || s->timer.due_us > s->deadline_us)
		timer_arm(net->loop, &s->timer, s->deadline_us);
}

static void on_timer(void *ctx)
{
	struct session *s = session_of(ctx);

	if (loop_now_us(s->net->loop) < s->deadline_us)
		timer_arm(s->net->loop, &s->timer, s->deadline_us);
	else
		smtp_session_timed_out(s);
}

/* --- reading ----------------------------------------------------------------------------------------- */

void smtp_io_read(struct session *s)
{
	ssize_t n;

	while (s->state != SMTP_CLOSED) {
		n = stream_read(&s->stream, s->net->input, SESSION_INPUT_SIZE);
		if (n > 0) {
			smtp_session_input(s, s->net->input, (size_t)n);
			/* less than the buffer holds: there is no more (else the descriptor is still
			 * readable) */
			if (n < SESSION_INPUT_SIZE && (s->state == SMTP_CLOSED || !stream_unread(&s->stream)))
				return;
		} else if (n < 0 && errno == EAGAIN) {
			return;
		} else {
			smtp_session_eof(s, n < 0 ? errno : 0);
			return;
		}
	}
}

static void on_readable(evutil_socket_t fd, short what, void *ctx)
{
	struct session *s = session_of(ctx);

	(void)fd;
	(void)what;
	if (s->state == SMTP_HANDSHAKE)
		smtp_tls_handshake(s);
	else
		smtp_io_read(s);
	smtp_io_pump(s);
}

/* --- writing ----------------------------------------------------------------------------------------- */

/* What is to be sent next; 0 = nothing at the moment. */
static unsigned gather(struct session *s, struct iovec *iov, bool *failed)
{
	unsigned n = 0, n_body = 0;

	if (s->out_sent < s->out.len) {
		iov[0].iov_base = s->out.data + s->out_sent;
		iov[0].iov_len = s->out.len - s->out_sent;
		n = 1;
	}
	if (!smtp_transaction_sends(s))
		return n;
	s->body_waits = false;
	switch (smtp_data_fill(&s->t.data, iov + n, IOV_MAX_PUMP - n, &n_body)) {
	case BODY_READY:
		if (smtp_data_ends(&s->t.data) && s->t.data.left <= WANT_AHEAD)
			smtp_transaction_want(s);
		break;
	case BODY_WAIT:
		s->body_waits = true;
		break;
	case BODY_END:
		break;
	case BODY_FAILED:
		*failed = true;
		break;
	}
	return n + n_body;
}

static void sent(struct session *s, const struct iovec *iov, size_t bytes)
{
	size_t commands = s->out.len - s->out_sent;

	metric_add(s->net->metrics.bytes, bytes);
	if (commands > bytes)
		commands = bytes;
	s->out_sent += commands;
	if (s->out_sent == s->out.len && s->out.len > 0) {
		smtp_trace_commands(s);
		str_clear(&s->out);
		s->out_sent = 0;
	}
	if (smtp_transaction_sends(s)) {
		smtp_data_sent(&s->t.data, iov + (commands > 0 ? 1 : 0), bytes - commands);
		if (s->state == SMTP_BODY || s->state == SMTP_CHUNK)
			smtp_io_arm(s); /* progress */
	}
}

/* The peer no longer takes bytes. What it said before that may still be there, and is worth more than the
 * error. */
static void write_failed(struct session *s, int error)
{
	smtp_io_read(s);
	if (s->state != SMTP_CLOSED)
		smtp_session_eof(s, error);
}

void smtp_io_pump(struct session *s)
{
	struct iovec iov[IOV_MAX_PUMP];
	bool failed = false;
	unsigned n;
	ssize_t w;

	while (s->state != SMTP_CLOSED && s->state != SMTP_CONNECT && s->state != SMTP_HANDSHAKE &&
	        s->state != SMTP_FALLBACK) {
		n = gather(s, iov, &failed);
		if (failed) {
			smtp_session_body_failed(s);
			return;
		}
		if (n == 0 && !stream_unsent(&s->stream)) {
			if (smtp_transaction_sends(s) && !s->body_waits)
				smtp_session_body_sent(s);
			return;
		}
		w = stream_writev(&s->stream, iov, (int)n);
		if (w >= 0) {
			sent(s, iov, (size_t)w);
		} else if (errno == EAGAIN) {
			event_add(&s->writable, NULL);
			return;
		} else {
			write_failed(s, errno);
			return;
		}
	}
}

/* --- the descriptor ---------------------------------------------------------------------------------- */

static void connect_failed(struct session *s, const struct outcome *why)
{
	metric_add(s->net->metrics.connect_failures, 1);
	smtp_session_fail(s, why, source_fault(why) ? SMTP_OURS : SMTP_PEER, SMTP_END_RESET);
}

static void on_writable(evutil_socket_t fd, short what, void *ctx)
{
	struct session *s = session_of(ctx);
	struct outcome why;

	(void)what;
	if (s->state != SMTP_CONNECT) {
		if (s->state == SMTP_HANDSHAKE)
			smtp_tls_handshake(s);
		smtp_io_pump(s);
		return;
	}
	if (!source_connected(&s->where, fd, &s->facts.source, &s->facts.peer, &why)) {
		connect_failed(s, &why);
		return;
	}
	event_add(&s->readable, NULL);
	smtp_session_connected(s);
	smtp_io_pump(s);
}

void smtp_io_init(struct session *s)
{
	timer_init(&s->timer, on_timer, s);
}

void smtp_io_connect(struct session *s)
{
	struct event_base *base = loop_base(s->net->loop);
	struct outcome why;
	int fd;

	fd = source_connect(&s->where, &why);
	if (fd < 0) {
		connect_failed(s, &why);
		return;
	}
	stream_plain(&s->stream, fd);
	event_assign(&s->readable, base, fd, EV_READ | EV_PERSIST, on_readable, s);
	event_assign(&s->writable, base, fd, EV_WRITE, on_writable, s);
	s->events_made = true;
	event_add(&s->writable, NULL);
}

static void descriptor_close(struct session *s, bool reset)
{
	if (s->events_made) {
		event_del(&s->readable);
		event_del(&s->writable);
		s->events_made = false;
	}
	stream_close(&s->stream, reset);
	str_free(&s->out);
	s->out_sent = 0;
}

void smtp_io_close(struct session *s, bool reset)
{
	timer_cancel(s->net->loop, &s->timer);
	descriptor_close(s, reset);
}

void smtp_io_reconnect(struct session *s)
{
	smtp_tls_end(s);
	descriptor_close(s, !s->peer_closed);
	s->peer_closed = false;
	s->offer = (struct smtp_offer){0};
	s->authenticated = false;
	smtp_reply_init(&s->reply, NULL, NULL);
	smtp_session_enter(s, SMTP_CONNECT);
	smtp_io_connect(s);
}

void smtp_io_want_write(struct session *s)
{
	event_add(&s->writable, NULL);
}

void smtp_io_listen(struct session *s, bool on)
{
	if (on)
		event_add(&s->readable, NULL);
	else
		event_del(&s->readable);
}

void smtp_io_shutdown(struct session *s)
{
	event_del(&s->writable);
	stream_drop_layer(&s->stream);
	shutdown(s->stream.fd, SHUT_WR);
}
