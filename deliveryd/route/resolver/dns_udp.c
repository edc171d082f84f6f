/* dns_udp - see dns_udp.h */
#include "config.h"
#include "route/resolver/dns_udp.h"

#include <assert.h>
#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "base/mem.h"

#define READS_PER_TURN 64
#define USES_MAX 100 /* then a shared socket, and with it its port, is given up */
#define PACKET_MAX 65535

struct dns_udp_socket {
	struct dns_udp *udp;
	struct dns_udp_socket *prev, *next;
	struct dns_udp_exchange *open;
	struct addr server;
	struct event *event;
	int fd;
	unsigned n_uses;
	bool reading; /* must not be freed under the reader */
};

struct dns_udp {
	struct loop *loop;
	struct rnd *rnd;
	struct dns_udp_socket *sockets;
	unsigned n_sockets;
	metric *n_foreign;
	uint8_t *buffer;
};

struct dns_udp *dns_udp_new(struct loop *loop, struct rnd *rnd, metric *n_foreign)
{
	struct dns_udp *u = mem_zalloc(sizeof(*u));

	u->loop = loop;
	u->rnd = rnd;
	u->n_foreign = n_foreign;
	u->buffer = mem_alloc(PACKET_MAX);
	return u;
}

static void socket_free(struct dns_udp_socket *s)
{
	struct dns_udp *u = s->udp;

	assert(!s->open);
	if (s->prev)
		s->prev->next = s->next;
	else
		u->sockets = s->next;
	if (s->next)
		s->next->prev = s->prev;
	u->n_sockets--;
	event_free(s->event);
	close(s->fd);
	mem_free(&s);
}

void dns_udp_free(struct dns_udp **p)
{
	if (!*p)
		return;
	while ((*p)->sockets)
		socket_free((*p)->sockets);
	mem_free(&(*p)->buffer);
	mem_free(p);
}

unsigned dns_udp_sockets(const struct dns_udp *u)
{
	return u->n_sockets;
}

void dns_udp_stop(struct dns_udp_exchange *x)
{
	struct dns_udp_socket *s = x->socket;

	if (!s)
		return;
	if (x->prev)
		x->prev->next = x->next;
	else
		s->open = x->next;
	if (x->next)
		x->next->prev = x->prev;
	x->socket = NULL;
	if (!s->open && !s->reading)
		socket_free(s);
}

static struct dns_udp_exchange *find(struct dns_udp_socket *s, uint16_t id)
{
	struct dns_udp_exchange *x;

	for (x = s->open; x; x = x->next)
		if (x->id == id)
			break;
	return x;
}

static void fail_all(struct dns_udp_socket *s, int error)
{
	while (s->open) {
		struct dns_udp_exchange *x = s->open;
		dns_udp_stop(x);
		x->on_error(x->ctx, error);
	}
}

/* The socket is connected; looking at the sender again costs nothing. */
static bool from_server(const struct dns_udp_socket *s, const struct sockaddr_storage *from)
{
	struct addr a;

	return addr_from_sockaddr((const struct sockaddr *)from, &a) && addr_equal_ip(&a, &s->server) &&
	       a.port == s->server.port;
}

static bool read_one(struct dns_udp_socket *s)
{
	struct sockaddr_storage from;
	socklen_t from_len = sizeof(from);
	uint8_t *b = s->udp->buffer;
	ssize_t n = recvfrom(s->fd, b, PACKET_MAX, 0, (struct sockaddr *)&from, &from_len);
	struct dns_udp_exchange *x;

	if (n < 0) {
		if (errno == EAGAIN || errno == EWOULDBLOCK)
			return false;
		if (errno != EINTR)
			fail_all(s, errno);
		return true;
	}
	x = n >= 12 && from_server(s, &from) ? find(s, (uint16_t)(b[0] << 8 | b[1])) : NULL;
	if (x)
		x->on_packet(x->ctx, b, (size_t)n);
	else
		metric_add(s->udp->n_foreign, 1);
	return true;
}

static void on_readable(evutil_socket_t fd, short what, void *ctx)
{
	struct dns_udp_socket *s = ctx;

	(void)fd;
	(void)what;
	s->reading = true;
	for (int i = 0; i < READS_PER_TURN && s->open && read_one(s); i++)
		;
	s->reading = false;
	if (!s->open)
		socket_free(s);
}

static struct dns_udp_socket *open_socket(struct dns_udp *u, const struct addr *server, struct error *err)
{
	struct sockaddr_storage sa;
	socklen_t len = addr_to_sockaddr(server, &sa);
	int fd = socket(server->family, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	struct dns_udp_socket *s;

	if (fd < 0 || connect(fd, (struct sockaddr *)&sa, len) != 0) {
		error_sys(err, "UDP socket");
		if (fd >= 0)
			close(fd);
		return NULL;
	}
	s = mem_zalloc(sizeof(*s));
	*s = (struct dns_udp_socket){.udp = u, .server = *server, .fd = fd, .next = u->sockets};
	if (u->sockets)
		u->sockets->prev = s;
	u->sockets = s;
	u->n_sockets++;
	s->event = event_new(loop_base(u->loop), fd, EV_READ | EV_PERSIST, on_readable, s);
	if (!s->event || event_add(s->event, NULL) != 0)
		abort();
	return s;
}

static bool usable(const struct dns_udp_socket *s, const struct addr *server, unsigned uses_max)
{
	return s->n_uses < uses_max && s->server.port == server->port && addr_equal_ip(&s->server, server);
}

/* One of those open to this server, all equally likely; NULL: none that is not used up. */
static struct dns_udp_socket *pick(struct dns_udp *u, const struct addr *server, unsigned uses_max)
{
	struct dns_udp_socket *s;
	uint64_t n = 0;

	for (s = u->sockets; s; s = s->next)
		n += usable(s, server, uses_max);
	if (n == 0)
		return NULL;
	n = rnd_below(u->rnd, n);
	for (s = u->sockets; s; s = s->next)
		if (usable(s, server, uses_max) && n-- == 0)
			break;
	return s;
}

static struct dns_udp_socket *socket_for(struct dns_udp *u, const struct addr *server, struct error *err)
{
	struct dns_udp_socket *s = NULL;

	if (u->n_sockets >= DNS_UDP_SOCKETS_MAX)
		s = pick(u, server, USES_MAX);
	if (!s && u->n_sockets < 2 * DNS_UDP_SOCKETS_MAX)
		s = open_socket(u, server, err);
	if (!s)
		s = pick(u, server, UINT_MAX); /* out of descriptors: better a known port than no mail */
	return s;
}

static bool send_query(struct dns_udp_socket *s, const uint8_t *wire, size_t len, struct error *err)
{
	/* the first send may only fetch the error of an earlier one on a shared socket */
	for (int i = 0; i < 2; i++)
		if (send(s->fd, wire, len, 0) == (ssize_t)len)
			return true;
	return error_sys(err, "sending");
}

bool dns_udp_start(struct dns_udp *u, struct dns_udp_exchange *x, const struct addr *server,
        const struct dns_question *q, bool edns, struct error *err)
{
	struct dns_udp_socket *s = socket_for(u, server, err);
	uint8_t wire[DNS_QUERY_MAX];
	size_t len;

	x->socket = NULL;
	if (!s)
		return false;
	do
		x->id = (uint16_t)rnd_u64(u->rnd);
	while (find(s, x->id));
	s->n_uses++;
	x->socket = s;
	x->prev = NULL;
	x->next = s->open;
	if (s->open)
		s->open->prev = x;
	s->open = x;
	len = dns_packet_query(q, x->id, edns, wire);
	if (send_query(s, wire, len, err))
		return true;
	dns_udp_stop(x);
	return false;
}
