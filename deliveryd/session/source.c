#include "session/source.h"

#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <string.h>
#include <sys/un.h>
#include <unistd.h>

#ifndef IPV6_FREEBIND
#define IPV6_FREEBIND 78
#endif

static const char *family_name(const struct addr *a)
{
	return a->family == AF_INET6 ? "IPv6" : "IPv4";
}

static void peer_print(const struct source_connect *c, char *buf, size_t size)
{
	char text[ADDR_TEXT_SIZE];

	if (c->proxy)
		snprintf(buf, size, "egress proxy %s", addr_print_port(&c->proxy->addr, text));
	else
		snprintf(buf, size, "%s", c->unix_path ? c->unix_path : addr_print_port(&c->peer, text));
}

static void source_print(const struct source_connect *c, char buf[ADDR_TEXT_SIZE])
{
	if (c->source.family == AF_UNSPEC || c->proxy)
		snprintf(buf, ADDR_TEXT_SIZE, "any address");
	else
		addr_print(&c->source, buf);
}

static bool of_this_machine(int error)
{
	return error == EADDRNOTAVAIL || error == EMFILE || error == ENFILE || error == ENOBUFS ||
	       error == ENOMEM;
}

/* Says what errno means for a connection from here to there. */
static void connect_errno(const struct source_connect *c, int error, struct outcome *why)
{
	char peer[160], source[ADDR_TEXT_SIZE];

	peer_print(c, peer, sizeof(peer));
	source_print(c, source);
	if (c->proxy && !of_this_machine(error)) {
		outcome_own(why, OUTCOME_TRANSIENT, STATE_CONNECT, 451, "4.3.5",
		        "%s of binding %s cannot be reached: %s", peer, c->binding, strerror(error));
		why->proxy = true;
		return;
	}
	switch (error) {
	case EADDRNOTAVAIL:
		outcome_own(why, OUTCOME_TRANSIENT, STATE_CONNECT, 451, "4.3.0",
		        "no free local port for binding %s from %s to %s", c->binding, source, peer);
		return;
	case EMFILE:
	case ENFILE:
	case ENOBUFS:
	case ENOMEM:
		outcome_own(why, OUTCOME_TRANSIENT, STATE_CONNECT, 451, "4.3.0",
		        "no socket for binding %s from %s to %s: %s", c->binding, source, peer,
		        strerror(error));
		return;
	case ENETUNREACH:
	case EHOSTUNREACH:
		outcome_own(why, OUTCOME_TRANSIENT, STATE_CONNECT, 451, "4.4.1",
		        "no route for binding %s from %s to %s: %s", c->binding, source, peer,
		        strerror(error));
		return;
	case EACCES:
	case EPERM:
		outcome_own(why, OUTCOME_TRANSIENT, STATE_CONNECT, 451, "4.4.1",
		        "connection for binding %s from %s to %s forbidden (firewall): %s", c->binding,
		        source, peer, strerror(error));
		return;
	default:
		outcome_own(why, OUTCOME_TRANSIENT, STATE_CONNECT, 451, "4.4.1", "connect to %s from %s: %s",
		        peer, source, strerror(error));
	}
}

bool source_fault(const struct outcome *why)
{
	return why->ours && strncmp(why->enhanced, "4.3.", 4) == 0;
}

static bool check_source(const struct source_connect *c, struct outcome *why)
{
	char source[ADDR_TEXT_SIZE];

	if (c->source.family != c->peer.family) {
		outcome_own(why, OUTCOME_TRANSIENT, STATE_CONNECT, 451, "4.3.5",
		        "binding %s has no %s source address", c->binding, family_name(&c->peer));
		return false;
	}
	if (c->proxy)
		return true;
	if (!c->local || !local_addrs_has(c->local, &c->source)) {
		outcome_own(why, OUTCOME_TRANSIENT, STATE_CONNECT, 451, "4.3.5",
		        "source address %s of binding %s is not on this machine",
		        addr_print(&c->source, source), c->binding);
		return false;
	}
	return true;
}

/*
 * The port is left to connect() (IP_BIND_ADDRESS_NO_PORT): otherwise one source has one range of ports for
 * all peers together. The kernel refuses an IPv6 address that is only covered by a local route (AnyIP); then,
 * and only then, IPV6_FREEBIND: local_addrs has already said that the routing table covers it.
 */
static bool bind_source(const struct source_connect *c, int fd, struct outcome *why)
{
	struct sockaddr_storage ss;
	struct addr source = c->source;
	char text[ADDR_TEXT_SIZE];
	socklen_t len;
	int on = 1;

	source.port = 0;
	len = addr_to_sockaddr(&source, &ss);
	setsockopt(fd, SOL_IP, IP_BIND_ADDRESS_NO_PORT, &on, sizeof(on));
	if (bind(fd, (struct sockaddr *)&ss, len) == 0)
		return true;
	if (errno == EADDRNOTAVAIL && source.family == AF_INET6 &&
	        setsockopt(fd, SOL_IPV6, IPV6_FREEBIND, &on, sizeof(on)) == 0 &&
	        bind(fd, (struct sockaddr *)&ss, len) == 0)
		return true;
	outcome_own(why, OUTCOME_TRANSIENT, STATE_CONNECT, 451, "4.3.5",
	        "bind to source address %s of binding %s: %s", addr_print(&source, text), c->binding,
	        strerror(errno));
	return false;
}

static int connect_unix(const struct source_connect *c, struct outcome *why)
{
	struct sockaddr_un un = {.sun_family = AF_UNIX};
	int fd;

	if (strlen(c->unix_path) >= sizeof(un.sun_path)) {
		connect_errno(c, ENAMETOOLONG, why);
		return -1;
	}
	memcpy(un.sun_path, c->unix_path, strlen(c->unix_path) + 1);
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	if (fd < 0) {
		connect_errno(c, errno, why);
		return -1;
	}
	/* EAGAIN: the listener's backlog is full; it does not become writable later */
	if (connect(fd, (struct sockaddr *)&un, sizeof(un)) != 0) {
		connect_errno(c, errno, why);
		close(fd);
		return -1;
	}
	return fd;
}

int source_connect(const struct source_connect *c, struct outcome *why)
{
	const struct addr *to = c->proxy ? &c->proxy->addr : &c->peer;
	struct sockaddr_storage ss;
	socklen_t len;
	int on = 1;
	int fd;

	if (c->unix_path)
		return connect_unix(c, why);
	if ((!c->any_source || c->proxy) && !check_source(c, why))
		return -1;
	fd = socket(to->family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	if (fd < 0) {
		connect_errno(c, errno, why);
		return -1;
	}
	if (!c->any_source && !c->proxy && !bind_source(c, fd, why)) {
		close(fd);
		return -1;
	}
	setsockopt(fd, SOL_TCP, TCP_NODELAY, &on, sizeof(on)); /* we gather what belongs together ourselves */
	len = addr_to_sockaddr(to, &ss);
	if (connect(fd, (struct sockaddr *)&ss, len) != 0 && errno != EINPROGRESS) {
		connect_errno(c, errno, why);
		close(fd);
		return -1;
	}
	return fd;
}

bool source_connected(
        const struct source_connect *c, int fd, struct addr *local, struct addr *remote, struct outcome *why)
{
	struct sockaddr_storage ss = {0};
	socklen_t len = sizeof(int);
	char is[ADDR_TEXT_SIZE], should[ADDR_TEXT_SIZE];
	int error = 0;

	if (getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &len) != 0)
		error = errno;
	if (error != 0) {
		connect_errno(c, error, why);
		return false;
	}
	*local = (struct addr){.family = AF_UNSPEC};
	*remote = (struct addr){.family = AF_UNSPEC};
	if (c->unix_path)
		return true;
	if (c->proxy) { /* what is behind it, the proxy alone knows */
		*remote = c->peer;
		return true;
	}
	len = sizeof(ss);
	if (getpeername(fd, (struct sockaddr *)&ss, &len) != 0) {
		connect_errno(c, errno, why);
		return false;
	}
	addr_from_sockaddr((struct sockaddr *)&ss, remote);
	len = sizeof(ss);
	if (getsockname(fd, (struct sockaddr *)&ss, &len) != 0 ||
	        !addr_from_sockaddr((struct sockaddr *)&ss, local)) {
		connect_errno(c, errno, why);
		return false;
	}
	if (!c->any_source && !addr_equal_ip(local, &c->source)) {
		outcome_own(why, OUTCOME_TRANSIENT, STATE_CONNECT, 451, "4.3.5",
		        "the connection of binding %s has source address %s instead of %s: closed",
		        c->binding, addr_print(local, is), addr_print(&c->source, should));
		return false;
	}
	return true;
}
