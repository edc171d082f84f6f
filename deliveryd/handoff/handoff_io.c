#include "config.h"
#include "handoff/handoff_session.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

/*
 * One read a turn, so that no session starves the others, into a buffer that all sessions of the loop share: what a
 * session keeps between turns is at most part of a command line, or what was pipelined behind a message that is not
 * durable yet.
 */

static void keep_left(struct handoff_session *s, const char *p, size_t len)
{
	mem_free(&s->left);
	s->left_len = len;
	if (len) {
		s->left = mem_alloc(len);
		memcpy(s->left, p, len);
	}
}

/* A whole command line at p: its length with CRLF, 0 when its end has not come. Only CRLF ends it. */
static size_t line_len(const char *p, size_t len)
{
	const char *crlf = memmem(p, len, "\r\n", 2);

	return crlf ? (size_t)(crlf - p) + 2 : 0;
}

/* Takes one line, or forgets what there is of one that is too long. Returns bytes used, 0 = wait for more. */
static size_t consume_line(struct handoff_session *s, const char *p, size_t len)
{
	size_t n = line_len(p, len);

	if (n == 0) {
		if (len < LMTP_LINE_MAX)
			return 0;
		s->overlong = true;
		return len - (p[len - 1] == '\r'); /* the LF that ends it may be next */
	}
	if (s->overlong || n > LMTP_LINE_MAX) {
		s->overlong = false;
		handoff_session_restart_clock(s);
		reply_add(&s->out, REPLY_LINE_TOO_LONG);
	} else {
		handoff_command(s, p, n - 2);
	}
	return n;
}

/* A client that sends commands but takes no replies waits. Then out is not empty, and on_writable() goes on. */
static bool may_reply(struct handoff_session *s)
{
	if (s->out.len - s->out_sent >= OUT_MAX)
		handoff_io_send(s);
	return s->out.len - s->out_sent < OUT_MAX;
}

static size_t consume(struct handoff_session *s, const char *p, size_t len)
{
	size_t used = 0, n;

	while (used < len) {
		switch (handoff_session_input(s)) {
		case INPUT_COMMANDS:
			n = may_reply(s) ? consume_line(s, p + used, len - used) : 0;
			break;
		case INPUT_DATA:
			n = handoff_data_feed(s, p + used, len - used);
			break;
		case INPUT_SINK:
			return len;
		default:
			n = 0;
		}
		if (n == 0)
			break;
		used += n;
	}
	return used;
}

static void consume_buffer(struct handoff_session *s, size_t len)
{
	const char *buffer = s->handoff->buffer;
	size_t used;

	s->consuming = true;
	used = consume(s, buffer, len);
	s->consuming = false;
	keep_left(s, buffer + used, len - used);
}

void handoff_io_resume(struct handoff_session *s)
{
	size_t len = s->left_len;

	if (!s->consuming && len && handoff_session_input(s) != INPUT_HOLD) {
		memcpy(s->handoff->buffer, s->left, len);
		consume_buffer(s, len);
	}
	handoff_session_settle(s);
}

static void on_readable(evutil_socket_t fd, short what, void *ctx)
{
	struct handoff_session *s = ctx;
	size_t left = s->left_len;
	ssize_t n;

	(void)what;
	if (handoff_session_input(s) == INPUT_HOLD || left >= LMTP_LINE_MAX) {
		/* Asked for lazily: a client that waits for its reply never gets here. */
		event_del(s->read_event);
		return;
	}
	n = read(fd, s->handoff->buffer + left, READ_MAX);
	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return;
	if (n <= 0) {
		s->broken = true;
	} else {
		if (left)
			memcpy(s->handoff->buffer, s->left, left);
		consume_buffer(s, left + (size_t)n);
	}
	handoff_session_settle(s);
}

static void on_writable(evutil_socket_t fd, short what, void *ctx)
{
	struct handoff_session *s = ctx;

	(void)fd;
	(void)what;
	handoff_io_send(s);
	if (handoff_io_sent(s))
		handoff_io_resume(s);
	else
		handoff_session_settle(s);
}

void handoff_io_open(struct handoff_session *s)
{
	struct event_base *base = loop_base(s->handoff->loop);

	s->read_event = event_new(base, s->fd, EV_READ | EV_PERSIST, on_readable, s);
	s->write_event = event_new(base, s->fd, EV_WRITE, on_writable, s);
}

void handoff_io_close(struct handoff_session *s)
{
	event_free(s->read_event);
	event_free(s->write_event);
	close(s->fd);
	s->fd = -1;
}

bool handoff_io_sent(const struct handoff_session *s)
{
	return s->out_sent == s->out.len;
}

void handoff_io_send(struct handoff_session *s)
{
	while (!handoff_io_sent(s)) {
		ssize_t n = send(s->fd, s->out.data + s->out_sent, s->out.len - s->out_sent, MSG_NOSIGNAL);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0 && errno == EAGAIN)
			return;
		if (n < 0) {
			s->broken = true;
			return;
		}
		s->out_sent += (size_t)n;
	}
	s->out_sent = 0;
	/* ten thousand replies once should not stay for the life of the session */
	if (s->out.size > OUT_MAX)
		str_free(&s->out);
	else
		str_clear(&s->out);
}

void handoff_io_want(struct handoff_session *s)
{
	bool read = handoff_session_input(s) != INPUT_HOLD && s->left_len < LMTP_LINE_MAX;

	if (read && !event_pending(s->read_event, EV_READ, NULL))
		event_add(s->read_event, NULL);
	if (!handoff_io_sent(s) && !event_pending(s->write_event, EV_WRITE, NULL))
		event_add(s->write_event, NULL);
}
