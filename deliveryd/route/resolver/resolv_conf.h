/*
 * resolv_conf - the name servers of a resolv.conf
 *
 * Follows    resolv.conf(5). Only `nameserver` counts: our names are whole, so there is nothing to search.
 */
#ifndef ROUTE_RESOLV_CONF_H
#define ROUTE_RESOLV_CONF_H

#include "route/resolver/resolver.h"

/* Returns the number; 127.0.0.1 if the file names none or cannot be read. */
unsigned resolv_conf_read(const char *path, struct resolver_server *out, unsigned max);

#endif
