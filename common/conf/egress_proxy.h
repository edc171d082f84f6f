/*
 * egress_proxy - the value of the option egress_proxy: which proxy connections go through, and how it is spoken to
 *
 * Purpose    Reads and prints it. Grammar:
 *
 *                proxy   = scheme "://" ADDRESS ":" port
 *                scheme  = "proxy"       ; the PROXY protocol, version 2: we say which source address is meant
 *                        / "socks5"      ; RFC 1928: the proxy says which source address it took
 *
 *            An address and no name: nothing on the way out waits for a name but the next hop's. An IPv6 address stands
 *            in brackets. Credentials have options of their own, so that they are never shown.
 * Threads    Pure functions.
 */
#ifndef CONF_EGRESS_PROXY_H
#define CONF_EGRESS_PROXY_H

#include "base/addr.h"
#include "base/str.h"

enum egress_proxy_kind { EGRESS_PROXY_V2, EGRESS_SOCKS5 };

struct egress_proxy {
	enum egress_proxy_kind kind;
	struct addr addr; /* with port */
};

bool egress_proxy_parse(const char *, struct egress_proxy *, struct error *);
void egress_proxy_print(const struct egress_proxy *, struct str *);

#endif
