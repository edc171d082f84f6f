/*
 * The egress proxy between us and the peer (option egress_proxy).
 *
 * PROXY v2 (the HAProxy PROXY protocol): one header in front of everything says where the connection is to come from and go
 * to. There is no answer: a proxy that cannot reach the peer closes, so that is told of the peer. What the peer sees as
 * source nobody tells us either; events mark it as claimed.
 * SOCKS5: PROXY is its dialogue, within connect_timeout. The address it connected from must be the binding's, or nothing
 * is sent (design section 9, 1).
 */
#include "session/smtp_session.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include "queue/profile.h"

#define PROXY_V2_SIGNATURE "\r\n\r\n\0\r\nQUIT\n"
#define PROXY_V2_PROXY 0x21 /* version 2, command PROXY */

static struct socks5_target target_of(const struct session *s)
{
	const struct conn_options *o = s->o;

	return (struct socks5_target){
	        .user = o->egress_proxy_user, .pass = o->egress_proxy_pass, .peer = &s->where.peer};
}

static void add_address(struct str *out, const struct addr *a)
{
	str_add_mem(out, a->ip, a->family == AF_INET6 ? 16 : 4);
}

static void add_port(struct str *out, uint16_t port)
{
	str_add_char(out, (char)(port >> 8));
	str_add_char(out, (char)(port & 0xff));
}

/* Which port it comes from is the proxy's to choose. */
static void add_header(const struct source_connect *where, struct str *out)
{
	bool v6 = where->peer.family == AF_INET6;

	str_add_mem(out, PROXY_V2_SIGNATURE, sizeof(PROXY_V2_SIGNATURE) - 1);
	str_add_char(out, PROXY_V2_PROXY);
	str_add_char(out, v6 ? 0x21 : 0x11); /* TCP over IPv6, IPv4 */
	add_port(out, v6 ? 36 : 12);         /* the length of what follows */
	add_address(out, &where->source);
	add_address(out, &where->peer);
	add_port(out, 0);
	add_port(out, where->peer.port);
}

void smtp_egress_connected(struct session *s)
{
	struct socks5_target target = target_of(s);

	switch (s->proxy.kind) {
	case EGRESS_PROXY_V2:
		s->facts.source = s->where.source;
		s->facts.claimed = true;
		add_header(&s->where, &s->out);
		smtp_session_enter(s, SMTP_BANNER);
		break;
	case EGRESS_SOCKS5:
		socks5_start(&s->socks, &target, &s->out);
		smtp_session_enter(s, SMTP_PROXY);
		break;
	}
}

/* No use in trying another MX host through it, nor with other mail. */
static void proxy_failed(struct session *s, const char *what)
{
	char text[ADDR_TEXT_SIZE];
	struct outcome why;

	metric_add(s->net->metrics.connect_failures, 1);
	outcome_own(&why, OUTCOME_TRANSIENT, STATE_CONNECT, 451, "4.3.5", "egress proxy %s of binding %s: %s",
	        addr_print_port(&s->proxy.addr, text), s->binding, what);
	why.proxy = true;
	smtp_session_fail(s, &why, SMTP_OURS, SMTP_END_RESET);
}

/* It cannot reach this peer, or not now. */
static void peer_failed(struct session *s, bool peer, const char *what)
{
	char text[ADDR_TEXT_SIZE], to[ADDR_TEXT_SIZE];
	struct outcome why;

	metric_add(s->net->metrics.connect_failures, 1);
	outcome_own(&why, OUTCOME_TRANSIENT, STATE_CONNECT, 451, peer ? "4.4.1" : "4.3.0",
	        "egress proxy %s of binding %s cannot connect to %s: %s",
	        addr_print_port(&s->proxy.addr, text), s->binding, addr_print_port(&s->where.peer, to), what);
	smtp_session_fail(s, &why, peer ? SMTP_PEER : SMTP_OURS, SMTP_END_RESET);
}

static void bound(struct session *s)
{
	char is[ADDR_TEXT_SIZE], should[ADDR_TEXT_SIZE], what[3 * ADDR_TEXT_SIZE];

	s->facts.source = s->socks.bound;
	if (addr_equal_ip(&s->socks.bound, &s->where.source)) {
		smtp_session_enter(s, SMTP_BANNER);
		return;
	}
	snprintf(what, sizeof(what), "it connected from %s instead of %s: closed",
	        addr_print(&s->socks.bound, is), addr_print(&s->where.source, should));
	proxy_failed(s, what);
}

size_t smtp_egress_input(struct session *s, const char *raw, size_t len)
{
	struct socks5_target target = target_of(s);
	size_t used;

	switch (socks5_feed(&s->socks, &target, raw, len, &used, &s->out)) {
	case SOCKS5_MORE:
		break;
	case SOCKS5_DONE:
		bound(s);
		break;
	case SOCKS5_FAILED:
		if (s->socks.blame == SOCKS5_OF_PROXY)
			proxy_failed(s, s->socks.why);
		else
			peer_failed(s, true, s->socks.why);
		break;
	}
	return used;
}

void smtp_egress_lost(struct session *s, int error)
{
	const char *what = error == ETIMEDOUT ? "timed out"
	                   : error != 0       ? strerror(error)
	                                      : "connection closed";
	char text[160];

	/* It has taken the order: what keeps it waiting is the way to the peer. Why it went away, nobody knows. */
	if (s->state == SMTP_PROXY && s->socks.stage == SOCKS5_REPLY && s->socks.len == 0) {
		peer_failed(s, error == ETIMEDOUT, what);
		return;
	}
	snprintf(text, sizeof(text), "%s while %s", what,
	        s->state == SMTP_PROXY ? socks5_stage_words(s->socks.stage) : "connecting to it");
	proxy_failed(s, text);
}

const char *smtp_egress_via(const struct session *s)
{
	return s->where.proxy && s->state == SMTP_BANNER ? " through the egress proxy" : "";
}
