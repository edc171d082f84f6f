/* dns_server - see dns_server.h */
#include "config.h"
#include "t/lib/dns_server.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>
#include "base/mem.h"
#include "base/str.h"

struct tcp_client {
	struct tcp_client *next;
	struct dns_server_fake *server;
	struct event *event;
	int fd;
	uint8_t in[1024];
	size_t n;
};

struct dns_server_fake {
	struct loop *loop;
	struct addr addr;
	int udp, tcp;
	struct event *on_udp, *on_tcp;
	struct tcp_client *clients;
	dns_server_answer *answer;
	void *ctx;
	unsigned n_asked;
	struct dns_wire out;
};

static bool parse(const uint8_t *raw, size_t len, struct dns_request *q)
{
	size_t at = 12, n = 0;

	if (len < 17)
		return false;
	q->id = (unsigned)raw[0] << 8 | raw[1];
	q->rd = raw[2] & 1;
	q->ad = raw[3] & 0x20;
	while (at < len && raw[at]) {
		if (at + raw[at] + 1u >= len || n + raw[at] + 2u >= sizeof(q->name))
			return false;
		if (n)
			q->name[n++] = '.';
		for (unsigned i = 1; i <= raw[at]; i++)
			q->name[n++] = ascii_lower((char)raw[at + i]);
		at += raw[at] + 1u;
	}
	q->name[n] = '\0';
	if (at + 5 > len)
		return false;
	q->type = (unsigned)raw[at + 1] << 8 | raw[at + 2];
	at += 5;
	if (at + 11 <= len && raw[at] == 0 && raw[at + 1] == 0 && raw[at + 2] == 41) {
		q->edns = true;
		q->edns_size = (unsigned)raw[at + 3] << 8 | raw[at + 4];
	}
	return true;
}

static bool ask(struct dns_server_fake *s, const uint8_t *raw, size_t len, struct dns_request *q)
{
	bool ok = parse(raw, len, q);

	assert(ok); /* our own resolver sends no nonsense */
	if (!ok)
		return false;
	q->n = ++s->n_asked;
	s->out.len = 0;
	s->answer(s->ctx, q, &s->out);
	return s->out.len > 0;
}

void dns_server_fake_send(struct dns_server_fake *s, const struct addr *to, const struct dns_wire *w)
{
	struct sockaddr_storage sa;
	socklen_t len = addr_to_sockaddr(to, &sa);
	ssize_t n = sendto(s->udp, w->bytes, w->len, 0, (struct sockaddr *)&sa, len);

	assert(n == (ssize_t)w->len);
	(void)n;
}

static bool udp_read(struct dns_server_fake *s)
{
	struct sockaddr_storage from;
	socklen_t len = sizeof(from);
	uint8_t raw[1024];
	struct dns_request q = {.tcp = false};
	ssize_t n = recvfrom(s->udp, raw, sizeof(raw), 0, (struct sockaddr *)&from, &len);

	if (n < 0)
		return false;
	addr_from_sockaddr((struct sockaddr *)&from, &q.from);
	if (ask(s, raw, (size_t)n, &q))
		dns_server_fake_send(s, &q.from, &s->out);
	return true;
}

static void udp_readable(evutil_socket_t fd, short what, void *ctx)
{
	(void)fd;
	(void)what;
	while (udp_read(ctx))
		;
}

static void client_free(struct tcp_client *c)
{
	struct tcp_client **p = &c->server->clients;

	while (*p != c)
		p = &(*p)->next;
	*p = c->next;
	event_free(c->event);
	close(c->fd);
	free(c);
}

/* Whoever asked may have gone. */
static void send_message(int fd, const struct dns_wire *w)
{
	uint8_t head[2] = {(uint8_t)(w->len >> 8), (uint8_t)w->len};

	if (send(fd, head, 2, MSG_NOSIGNAL) == 2)
		(void)send(fd, w->bytes, w->len, MSG_NOSIGNAL);
}

void dns_server_fake_send_tcp(struct dns_server_fake *s, const struct dns_wire *w)
{
	assert(s->clients);
	send_message(s->clients->fd, w);
}

static void client_readable(evutil_socket_t fd, short what, void *ctx)
{
	struct tcp_client *c = ctx;
	struct dns_request q = {.tcp = true};
	ssize_t n = read(fd, c->in + c->n, sizeof(c->in) - c->n);
	size_t want;

	(void)what;
	if (n <= 0) {
		client_free(c);
		return;
	}
	c->n += (size_t)n;
	want = c->n < 2 ? 2 : 2 + ((size_t)c->in[0] << 8 | c->in[1]);
	if (c->n < want)
		return;
	c->n = 0;
	if (ask(c->server, c->in + 2, want - 2, &q))
		send_message(fd, &c->server->out);
}

static void tcp_acceptable(evutil_socket_t fd, short what, void *ctx)
{
	struct dns_server_fake *s = ctx;
	struct tcp_client *c = mem_zalloc(sizeof(*c));

	(void)what;
	c->server = s;
	c->fd = accept4(fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
	assert(c->fd >= 0);
	c->next = s->clients;
	s->clients = c;
	c->event = event_new(loop_base(s->loop), c->fd, EV_READ | EV_PERSIST, client_readable, c);
	event_add(c->event, NULL);
}

/* A port that is free for both; false: TCP was taken */
static bool open_both(struct dns_server_fake *s, const char *ip)
{
	struct sockaddr_storage sa;
	socklen_t len;
	bool ok = addr_parse(ip, &s->addr, NULL);

	assert(ok);
	(void)ok;
	len = addr_to_sockaddr(&s->addr, &sa);
	s->udp = socket(s->addr.family, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	s->tcp = socket(s->addr.family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	assert(s->udp >= 0 && s->tcp >= 0);
	if (bind(s->udp, (struct sockaddr *)&sa, len) != 0)
		abort();
	(void)getsockname(s->udp, (struct sockaddr *)&sa, &len);
	addr_from_sockaddr((struct sockaddr *)&sa, &s->addr);
	if (bind(s->tcp, (struct sockaddr *)&sa, len) == 0 && listen(s->tcp, 512) == 0)
		return true;
	close(s->udp);
	close(s->tcp);
	return false;
}

struct dns_server_fake *dns_server_fake_new(
        struct loop *loop, const char *ip, dns_server_answer *answer, void *ctx)
{
	struct dns_server_fake *s = mem_zalloc(sizeof(*s));

	s->loop = loop;
	s->answer = answer;
	s->ctx = ctx;
	while (!open_both(s, ip))
		;
	s->on_udp = event_new(loop_base(loop), s->udp, EV_READ | EV_PERSIST, udp_readable, s);
	s->on_tcp = event_new(loop_base(loop), s->tcp, EV_READ | EV_PERSIST, tcp_acceptable, s);
	event_add(s->on_udp, NULL);
	event_add(s->on_tcp, NULL);
	return s;
}

struct addr dns_server_fake_addr(const struct dns_server_fake *s)
{
	return s->addr;
}

unsigned dns_server_fake_asked(const struct dns_server_fake *s)
{
	return s->n_asked;
}

void dns_server_fake_close_tcp(struct dns_server_fake *s)
{
	if (s->tcp < 0)
		return;
	event_free(s->on_tcp);
	close(s->tcp);
	s->tcp = -1;
	while (s->clients)
		client_free(s->clients);
}

void dns_server_fake_close(struct dns_server_fake *s)
{
	dns_server_fake_close_tcp(s);
	if (s->udp < 0)
		return;
	event_free(s->on_udp);
	close(s->udp);
	s->udp = -1;
}

void dns_server_fake_free(struct dns_server_fake **p)
{
	if (!*p)
		return;
	dns_server_fake_close(*p);
	mem_free(p);
}
