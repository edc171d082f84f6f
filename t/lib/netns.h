/*
 * netns - a network of the test's own: empty but for lo, gone with the process
 *
 * As root, or where unprivileged user namespaces are allowed. In it a test may route and narrow what it likes.
 */
#ifndef T_LIB_NETNS_H
#define T_LIB_NETNS_H

#include "base/addr.h"

/* False if the machine does not allow it (then errno says why). lo is up. */
bool netns_enter(void);
/* The routing table of local addresses covers the network (AnyIP), or no longer does. */
bool netns_local_route(const char *network, bool add);
/* "ip route add prohibit NETWORK" */
bool netns_prohibit(const char *network);
bool netns_port_range(unsigned low, unsigned high);

#endif
