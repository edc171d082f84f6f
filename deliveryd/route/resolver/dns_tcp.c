/* dns_tcp - see dns_tcp.h */
#include "config.h"
#include "route/resolver/dns_tcp.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "base/mem.h"

#define FOREIGN_MAX 8 /* messages on one connection before it is given up */

enum tcp_state { TCP_WAITING, TCP_CONNECTING, TCP_WRITING, TCP_READING };

struct dns_tcp_exchange {
	struct dns_tcp *tcp;
	struct dns_tcp_exchange *prev, *next; /* of those waiting */
	enum tcp_state state;
	struct addr server;
	int fd;
	struct event *event;
	struct timer failed; /* what failed inside start is told later */
	int error;
	uint8_t out[2 + DNS_QUERY_MAX], head[2];
	size_t out_len, n_out, n_in;
	uint8_t *in; /* owns; once the length is known */
	size_t in_len;
	unsigned n_messages;
	const struct dns_tcp_owner *owner;
	void *ctx;
};

struct dns_tcp {
	struct loop *loop;
	unsigned n_open;
	struct dns_tcp_exchange *first, *last; /* waiting */
};

struct dns_tcp *dns_tcp_new(struct loop *loop)
{
	struct dns_tcp *t = mem_zalloc(sizeof(*t));

	t->loop = loop;
	return t;
}

void dns_tcp_free(struct dns_tcp **p)
{
	mem_free(p);
}

static void fail(struct dns_tcp_exchange *x, const char *why)
{
	(void)event_del(x->event);
	x->owner->on_error(x->ctx, why);
}

static void on_failed(void *ctx)
{
	struct dns_tcp_exchange *x = ctx;

	x->owner->on_error(x->ctx, strerror(x->error));
}

static void want(struct dns_tcp_exchange *x, short what, event_callback_fn fn)
{
	(void)event_del(x->event);
	if (event_assign(x->event, loop_base(x->tcp->loop), x->fd, (short)(what | EV_PERSIST), fn, x) != 0 ||
	        event_add(x->event, NULL) != 0)
		abort();
}

/* Length first, then the message; returns false when there is no more for now or the owner has stopped us. */
static bool read_some(struct dns_tcp_exchange *x)
{
	uint8_t *to = x->in ? x->in + x->n_in : x->head + x->n_in;
	size_t left = (x->in ? x->in_len : sizeof(x->head)) - x->n_in;
	ssize_t n = read(x->fd, to, left);

	if (n < 0 && (errno == EAGAIN || errno == EWOULDBLOCK))
		return false;
	if (n < 0 && errno == EINTR)
		return true;
	if (n <= 0) {
		fail(x, n == 0 ? "connection closed" : strerror(errno));
		return false;
	}
	x->n_in += (size_t)n;
	if (x->n_in < (x->in ? x->in_len : sizeof(x->head)))
		return true;
	x->n_in = 0;
	if (!x->in) {
		x->in_len = (size_t)x->head[0] << 8 | x->head[1];
		if (x->in_len < 12) {
			fail(x, "malformed message");
			return false;
		}
		x->in = mem_alloc(x->in_len);
		return true;
	}
	uint8_t *message = x->in;
	x->in = NULL;
	if (++x->n_messages > FOREIGN_MAX)
		fail(x, "no answer among many messages");
	else
		x->owner->on_packet(x->ctx, message, x->in_len);
	free(message);
	return false; /* x may be gone; if not, what has been read already is signalled again */
}

static void on_readable(evutil_socket_t fd, short what, void *ctx)
{
	struct dns_tcp_exchange *x = ctx;

	(void)fd;
	(void)what;
	for (int i = 0; i < 16 && read_some(x); i++)
		;
}

static void on_writable(evutil_socket_t fd, short what, void *ctx)
{
	struct dns_tcp_exchange *x = ctx;
	int error = 0;
	socklen_t len = sizeof(error);
	ssize_t n;

	(void)what;
	if (x->state == TCP_CONNECTING) {
		if (getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &len) != 0 || error) {
			fail(x, strerror(error ? error : errno));
			return;
		}
		x->state = TCP_WRITING;
	}
	n = send(fd, x->out + x->n_out, x->out_len - x->n_out, MSG_NOSIGNAL);
	if (n < 0) {
		if (errno != EAGAIN && errno != EINTR)
			fail(x, strerror(errno));
		return;
	}
	x->n_out += (size_t)n;
	if (x->n_out < x->out_len)
		return;
	x->state = TCP_READING;
	want(x, EV_READ, on_readable);
}

static bool open_connection(struct dns_tcp_exchange *x)
{
	struct sockaddr_storage sa;
	socklen_t len = addr_to_sockaddr(&x->server, &sa);

	x->fd = socket(x->server.family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	if (x->fd < 0)
		return false;
	if (connect(x->fd, (struct sockaddr *)&sa, len) != 0 && errno != EINPROGRESS)
		return false;
	x->event = event_new(loop_base(x->tcp->loop), x->fd, EV_WRITE | EV_PERSIST, on_writable, x);
	if (!x->event || event_add(x->event, NULL) != 0)
		abort();
	return true;
}

static void begin(struct dns_tcp_exchange *x)
{
	x->state = TCP_CONNECTING;
	x->tcp->n_open++;
	if (open_connection(x))
		return;
	x->error = errno;
	timer_arm_in(x->tcp->loop, &x->failed, 0);
}

static void leave_line(struct dns_tcp_exchange *x)
{
	struct dns_tcp *t = x->tcp;

	if (x->prev)
		x->prev->next = x->next;
	else
		t->first = x->next;
	if (x->next)
		x->next->prev = x->prev;
	else
		t->last = x->prev;
}

static void wait_in_line(struct dns_tcp_exchange *x)
{
	struct dns_tcp *t = x->tcp;

	x->state = TCP_WAITING;
	x->prev = t->last;
	if (t->last)
		t->last->next = x;
	else
		t->first = x;
	t->last = x;
}

struct dns_tcp_exchange *dns_tcp_start(struct dns_tcp *t, const struct addr *server,
        const struct dns_question *q, uint16_t id, bool edns, const struct dns_tcp_owner *owner, void *ctx)
{
	struct dns_tcp_exchange *x = mem_zalloc(sizeof(*x));
	size_t len;

	*x = (struct dns_tcp_exchange){.tcp = t, .server = *server, .fd = -1, .owner = owner, .ctx = ctx};
	timer_init(&x->failed, on_failed, x);
	len = dns_packet_query(q, id, edns, x->out + 2);
	x->out[0] = (uint8_t)(len >> 8);
	x->out[1] = (uint8_t)len;
	x->out_len = len + 2;
	if (t->n_open < DNS_TCP_CONNECTIONS_MAX)
		begin(x);
	else
		wait_in_line(x);
	return x;
}

void dns_tcp_stop(struct dns_tcp_exchange **p)
{
	struct dns_tcp_exchange *x = *p, *next;
	struct dns_tcp *t;

	*p = NULL;
	if (!x)
		return;
	t = x->tcp;
	timer_cancel(t->loop, &x->failed);
	if (x->event)
		event_free(x->event);
	if (x->fd >= 0)
		close(x->fd);
	if (x->state == TCP_WAITING) {
		leave_line(x);
	} else {
		t->n_open--;
		next = t->first;
		if (next) {
			leave_line(next);
			begin(next);
		}
	}
	mem_free(&x->in);
	mem_free(&x);
}
