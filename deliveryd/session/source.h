/*
 * source - connects from a binding's own address, or not at all (design section 9, 1)
 *
 * Purpose    Opens a socket, binds it to the source address and starts the connection. The address must be on this
 *            machine before bind (local_addrs), and is compared again when connected. There is no other address to
 *            fall back to.
 * Errors     What is wrong is told as an outcome with state connect, and told apart:
 *              451 4.3.5  the source: not on this machine, family missing, bind refused, another one after connect
 *              451 4.3.0  this machine: no descriptors, no memory, no free port from this source to that peer
 *              451 4.3.5  with `proxy`: the egress proxy cannot be reached
 *              451 4.4.1  the way or the peer: refused, unreachable, forbidden, timed out
 *            So 4.3.x says that the peer is not to blame.
 */
#ifndef SESSION_SOURCE_H
#define SESSION_SOURCE_H

#include "base/addr.h"
#include "conf/egress_proxy.h"
#include "session/local_addrs.h"
#include "session/outcome.h"

struct source_connect {
	const char *binding;
	struct addr source; /* AF_UNSPEC: only with any_source */
	bool any_source;    /* the kernel chooses */
	struct addr peer;   /* with port; not used with unix_path */
	const char *unix_path;
	const struct egress_proxy
	        *proxy; /* NULL = none. With one the connection goes to it, from any address of ours */
	const struct local_addrs *local;
};

/* The outcome says that our side is at fault (4.3.x), not the peer or the way there. */
bool source_fault(const struct outcome *);
/* The descriptor, connecting (non-blocking), or -1 with *why. */
int source_connect(const struct source_connect *, struct outcome *why);
/* Once the descriptor is writable: SO_ERROR, then the socket's own address, which must be the one asked for.
 * False with *why: nothing may be sent. */
bool source_connected(
        const struct source_connect *, int fd, struct addr *local, struct addr *remote, struct outcome *why);

#endif
