/*
 * fake_proxy - an egress proxy on loopback: SOCKS5 or the PROXY protocol, well-behaved or as a test wants it
 *
 * Purpose    Takes connections on the loop, answers as told, connects on from the address it is told and relays. It keeps
 *            what it was sent, octet by octet.
 * Threads    One.
 */
#ifndef T_LIB_FAKE_PROXY_H
#define T_LIB_FAKE_PROXY_H

#include "base/addr.h"
#include "base/loop.h"
#include "base/str.h"

enum fake_proxy_stage { FAKE_PROXY_METHOD, FAKE_PROXY_LOGIN, FAKE_PROXY_CONNECT, FAKE_PROXY_STAGES };

struct fake_proxy {
	/* as it is to behave */
	bool socks;         /* else PROXY v2 */
	const char *source; /* connects on from this address */
	const char *user, *pass;
	const char *says[FAKE_PROXY_STAGES]; /* in place of the good answer; "" = nothing at all */
	size_t says_len[FAKE_PROXY_STAGES];
	bool closes[FAKE_PROXY_STAGES]; /* after that */
	/* what it saw */
	struct addr addr; /* with port */
	unsigned connections;
	struct str got; /* before it relayed: of the newest connection */
	/* inside */
	struct loop *loop;
	struct evconnlistener *listener;
	struct fake_proxy_conn *conns;
};

struct fake_proxy *fake_proxy_new(struct loop *, bool socks);
void fake_proxy_says(struct fake_proxy *, enum fake_proxy_stage, const char *octets, size_t len, bool closes);
void fake_proxy_down(struct fake_proxy *); /* refuses connections from now on */
void fake_proxy_free(struct fake_proxy **);

#endif
