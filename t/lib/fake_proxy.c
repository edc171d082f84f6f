#include "t/lib/fake_proxy.h"

#include <errno.h>
#include <netinet/tcp.h>
#include <event2/buffer.h>
#include <event2/bufferevent.h>
#include <event2/listener.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "base/mem.h"

struct fake_proxy_conn {
	struct fake_proxy *proxy;
	struct fake_proxy_conn *next;
	struct bufferevent *client, *peer;
	enum fake_proxy_stage stage;
	bool relays, ends;
};

static void fatal(const char *what)
{
	perror(what);
	abort();
}

static void conn_free(struct fake_proxy_conn *c)
{
	struct fake_proxy_conn **at = &c->proxy->conns;

	while (*at != c)
		at = &(*at)->next;
	*at = c->next;
	if (c->client)
		bufferevent_free(c->client);
	if (c->peer)
		bufferevent_free(c->peer);
	free(c);
}

/* Else what is relayed waits for the acknowledgement of what was, in real time. */
static struct bufferevent *wrap(struct fake_proxy_conn *c, int fd)
{
	int on = 1;

	setsockopt(fd, SOL_TCP, TCP_NODELAY, &on, sizeof(on));
	return bufferevent_socket_new(loop_base(c->proxy->loop), fd, BEV_OPT_CLOSE_ON_FREE);
}

static void on_end(struct bufferevent *b, short what, void *ctx)
{
	struct fake_proxy_conn *c = ctx;

	(void)b;
	if (what & (BEV_EVENT_EOF | BEV_EVENT_ERROR))
		conn_free(c);
}

static void relay(struct bufferevent *from, void *ctx)
{
	struct fake_proxy_conn *c = ctx;

	bufferevent_write_buffer(from == c->client ? c->peer : c->client, bufferevent_get_input(from));
}

static void connect_on(struct fake_proxy_conn *c, const struct addr *to)
{
	struct sockaddr_storage ss;
	struct addr source;
	int fd = socket(to->family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);

	if (!addr_parse(c->proxy->source, &source, NULL) ||
	        bind(fd, (struct sockaddr *)&ss, addr_to_sockaddr(&source, &ss)) != 0)
		fatal(c->proxy->source);
	if (connect(fd, (struct sockaddr *)&ss, addr_to_sockaddr(to, &ss)) != 0 && errno != EINPROGRESS)
		fatal("connect");
	c->peer = wrap(c, fd);
	bufferevent_setcb(c->peer, relay, NULL, on_end, c);
	bufferevent_enable(c->peer, EV_READ | EV_WRITE);
	c->relays = true;
	relay(c->client, c);
}

static void read_address(const uint8_t *at, bool v6, struct addr *a)
{
	*a = (struct addr){.family = v6 ? AF_INET6 : AF_INET};
	memcpy(a->ip, at, v6 ? 16 : 4);
}

/* The good answer to CONNECT */
static void say_bound(struct fake_proxy_conn *c)
{
	uint8_t reply[22] = {5, 0, 0, 1};
	struct addr source;
	bool v6;

	if (!addr_parse(c->proxy->source, &source, NULL))
		fatal(c->proxy->source);
	v6 = source.family == AF_INET6;
	reply[3] = v6 ? 4 : 1;
	memcpy(reply + 4, source.ip, v6 ? 16 : 4);
	reply[v6 ? 21 : 9] = 99;
	bufferevent_write(c->client, reply, v6 ? 22 : 10);
}

/* False if this stage's answer was not the good one: then there is no next stage. */
static bool answer(struct fake_proxy_conn *c)
{
	struct fake_proxy *p = c->proxy;
	static const char plain[] = {5, 0}, password[] = {5, 2}, welcome[] = {1, 0};
	enum fake_proxy_stage stage = c->stage;

	if (p->says[stage]) {
		bufferevent_write(c->client, p->says[stage], p->says_len[stage]);
		c->ends = p->closes[stage];
		return false;
	}
	if (stage == FAKE_PROXY_METHOD)
		bufferevent_write(c->client, p->user ? password : plain, 2);
	else if (stage == FAKE_PROXY_LOGIN)
		bufferevent_write(c->client, welcome, sizeof(welcome));
	else
		say_bound(c);
	return true;
}

/* How many octets the message due has; 0 = that cannot be told yet. */
static size_t due(const struct fake_proxy_conn *c, const uint8_t *at, size_t len)
{
	if (!c->proxy->socks)
		return len < 16 ? 0 : 16 + (size_t)(at[14] << 8 | at[15]);
	switch (c->stage) {
	case FAKE_PROXY_METHOD:
		return len < 2 ? 0 : 2 + (size_t)at[1];
	case FAKE_PROXY_LOGIN:
		return len < 2 || len < 3 + (size_t)at[1] ? 0 : 3 + (size_t)at[1] + at[2 + at[1]];
	default:
		return len < 4 ? 0 : at[3] == 4 ? 22 : 10;
	}
}

static void take_header(struct fake_proxy_conn *c, const uint8_t *at)
{
	bool v6 = at[13] == 0x21;
	const uint8_t *port = at + 16 + (v6 ? 34 : 10);
	struct addr to;

	read_address(at + 16 + (v6 ? 16 : 4), v6, &to);
	to.port = (uint16_t)(port[0] << 8 | port[1]);
	connect_on(c, &to);
}

static void take_connect(struct fake_proxy_conn *c, const uint8_t *at)
{
	bool v6 = at[3] == 4;
	const uint8_t *port = at + (v6 ? 20 : 8);
	struct addr to;

	read_address(at + 4, v6, &to);
	to.port = (uint16_t)(port[0] << 8 | port[1]);
	connect_on(c, &to);
}

static void take(struct fake_proxy_conn *c, const uint8_t *at)
{
	bool good;

	if (!c->proxy->socks) {
		take_header(c, at);
		return;
	}
	good = answer(c);
	if (good && c->stage == FAKE_PROXY_CONNECT)
		take_connect(c, at);
	c->stage = c->stage == FAKE_PROXY_METHOD && c->proxy->user ? FAKE_PROXY_LOGIN : FAKE_PROXY_CONNECT;
}

static void on_read(struct bufferevent *b, void *ctx)
{
	struct fake_proxy_conn *c = ctx;
	struct evbuffer *in = bufferevent_get_input(b);
	uint8_t copy[600];
	size_t len, n;

	while (!c->relays && (len = evbuffer_get_length(in)) > 0) {
		len = (size_t)evbuffer_copyout(in, copy, sizeof(copy));
		n = due(c, copy, len);
		if (n == 0 || n > len)
			return;
		str_add_mem(&c->proxy->got, copy, n);
		evbuffer_drain(in, n);
		take(c, copy);
		if (c->ends) {
			if (evbuffer_get_length(bufferevent_get_output(b)) == 0)
				conn_free(c);
			return;
		}
	}
	if (c->relays)
		relay(b, c);
}

static void on_sent(struct bufferevent *b, void *ctx)
{
	struct fake_proxy_conn *c = ctx;

	(void)b;
	if (c->ends)
		conn_free(c);
}

static void on_accept(struct evconnlistener *l, evutil_socket_t fd, struct sockaddr *sa, int len, void *ctx)
{
	struct fake_proxy *p = ctx;
	struct fake_proxy_conn *c = mem_zalloc(sizeof(*c));

	(void)l;
	(void)sa;
	(void)len;
	c->proxy = p;
	c->next = p->conns;
	p->conns = c;
	p->connections++;
	str_clear(&p->got);
	c->client = wrap(c, fd);
	bufferevent_setcb(c->client, on_read, on_sent, on_end, c);
	bufferevent_enable(c->client, EV_READ | EV_WRITE);
}

struct fake_proxy *fake_proxy_new(struct loop *loop, bool socks)
{
	struct fake_proxy *p = mem_zalloc(sizeof(*p));
	struct sockaddr_storage ss;
	socklen_t len = sizeof(ss);
	struct addr any;

	p->loop = loop;
	p->socks = socks;
	str_init(&p->got);
	if (!addr_parse("127.0.0.3", &any, NULL))
		fatal("address");
	p->listener = evconnlistener_new_bind(loop_base(loop), on_accept, p, LEV_OPT_CLOSE_ON_FREE, 16,
	        (struct sockaddr *)&ss, (int)addr_to_sockaddr(&any, &ss));
	if (!p->listener ||
	        getsockname(evconnlistener_get_fd(p->listener), (struct sockaddr *)&ss, &len) != 0)
		fatal("listen");
	addr_from_sockaddr((struct sockaddr *)&ss, &p->addr);
	return p;
}

void fake_proxy_says(
        struct fake_proxy *p, enum fake_proxy_stage stage, const char *octets, size_t len, bool closes)
{
	p->says[stage] = octets;
	p->says_len[stage] = len;
	p->closes[stage] = closes;
}

void fake_proxy_down(struct fake_proxy *p)
{
	if (p->listener)
		evconnlistener_free(p->listener);
	p->listener = NULL;
}

void fake_proxy_free(struct fake_proxy **pp)
{
	struct fake_proxy *p = *pp;

	while (p->conns)
		conn_free(p->conns);
	fake_proxy_down(p);
	str_free(&p->got);
	mem_free(pp);
}
