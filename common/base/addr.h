/*
 * addr - IP addresses, ports and sets of networks
 *
 * Threads    Values; a `struct addr_set` is immutable once built and may be shared.
 */
#ifndef BASE_ADDR_H
#define BASE_ADDR_H

#include <netinet/in.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/socket.h>
#include "base/error.h"

#define ADDR_TEXT_SIZE 64 /* "[v6]:port%scope" and the NUL */

struct addr {
	uint8_t family; /* AF_UNSPEC, AF_INET or AF_INET6 (the values fit) */
	uint8_t ip[16]; /* network order; first 4 for IPv4 */
	uint16_t port;  /* host order, 0 = none */
	uint32_t scope; /* IPv6 link-local interface, else 0 */
};

/* "192.0.2.1", "2001:db8::1", "[2001:db8::1]"; also "IPv6:2001:db8::1" (RFC 5321 4.1.3). No port, no name. */
bool addr_parse(const char *, struct addr *, struct error *);
/* "ADDR", "ADDR:PORT", "[v6]", "[v6]:PORT"; a bare v6 has no port */
bool addr_parse_port(const char *, uint16_t default_port, struct addr *, struct error *);
/* Without port: "192.0.2.1" / "2001:db8::1". Returns buf. */
const char *addr_print(const struct addr *, char buf[ADDR_TEXT_SIZE]);
const char *addr_print_port(const struct addr *, char buf[ADDR_TEXT_SIZE]);
bool addr_equal_ip(const struct addr *, const struct addr *); /* port not compared */
bool addr_is_loopback(const struct addr *);
bool addr_is_any(const struct addr *);
/* IPv4-mapped IPv6 (::ffff:a.b.c.d) becomes IPv4 */
void addr_unmap(struct addr *);
socklen_t addr_to_sockaddr(const struct addr *, struct sockaddr_storage *);
bool addr_from_sockaddr(const struct sockaddr *, struct addr *);
uint64_t addr_hash(const struct addr *); /* ip and port */

struct addr_net {
	struct addr base;
	uint8_t bits;
};
/* "10.0.0.0/8", "::1", host bits must be zero ("10.0.0.1/8" is refused and says which network is meant) */
bool addr_net_parse(const char *, struct addr_net *, struct error *);
bool addr_net_contains(const struct addr_net *, const struct addr *);

/* A set of networks with a value each; longest prefix wins, of equal ones the first added. Built once, then
 * read. */
struct addr_set;
struct addr_set *addr_set_new(void);
void addr_set_add(struct addr_set *, const struct addr_net *, uint32_t value);
bool addr_set_find(const struct addr_set *, const struct addr *, uint32_t *value /* may be NULL */);
void addr_set_free(struct addr_set **);

#endif
