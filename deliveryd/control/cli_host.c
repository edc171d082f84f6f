/*
 * What the kernel says: addresses, routes, descriptors.
 */
#include "control/cli_host.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/mem.h"
#include "conf/egress_proxy.h"
#include "conf/route_item.h"
#include "session/local_addrs.h"

#ifndef IPV6_FREEBIND
#define IPV6_FREEBIND 78
#endif

#define HANDOFF_SESSIONS 2000 /* at most: past that accept pauses */
#define OTHER_DESCRIPTORS 500 /* segments, large bodies, control, DNS */
#define TOLD_MAX 20           /* of each kind: ten thousand bindings may share a mistake */
#define DOMAINS_MAX 1000
#define SEEN_MAX 64

/* What stands for all MX hosts: nothing is sent to them. */
static const char *const anywhere[] = {"198.41.0.4", "2001:503:ba3e::2:30"}; /* a.root-servers.net */

struct host {
	const struct conf *conf;
	struct errors *errors;
	const struct local_addrs *local;
	unsigned n_missing, n_unreachable;
	const char **domains; /* with a way of their own */
	size_t n_domains;
	/* of the binding at hand: what was looked at already */
	struct addr seen[SEEN_MAX];
	unsigned n_seen;
	bool seen_mx;
};

static void warn(struct host *h, unsigned *n, const struct conf_binding *b, const char *text)
{
	if (++*n <= TOLD_MAX)
		errors_add(h->errors, ERROR_WARNING, "%s: %s", b->where, text);
}

static void warn_more(struct host *h, unsigned n, const char *what)
{
	if (n > TOLD_MAX)
		errors_add(h->errors, ERROR_WARNING, "and %u more %s", n - TOLD_MAX, what);
}

/* --- addresses and the ways from them ----------------------------------------------------------------------------- */

/* A UDP socket connects without a packet: the kernel only looks for a way, by its rules for the source. 0 = there is one. */
static int no_way(const struct addr *source, const struct addr *to)
{
	struct sockaddr_storage ss;
	struct addr from = *source, there = *to;
	int fd = socket(to->family, SOCK_DGRAM | SOCK_CLOEXEC, 0), on = 1, error = 0;

	if (fd < 0)
		return errno;
	if (to->family == AF_INET6)
		setsockopt(fd, SOL_IPV6, IPV6_FREEBIND, &on, sizeof(on));
	from.port = 0;
	if (!there.port)
		there.port = 25;
	if ((from.family != AF_UNSPEC &&
	            bind(fd, (struct sockaddr *)&ss, addr_to_sockaddr(&from, &ss)) != 0) ||
	        connect(fd, (struct sockaddr *)&ss, addr_to_sockaddr(&there, &ss)) != 0)
		error = errno;
	close(fd);
	return error;
}

static void check_way(struct host *h, const struct conf_binding *b, const struct addr *source,
        const struct addr *to, const char *what)
{
	char from[ADDR_TEXT_SIZE], text[3 * ADDR_TEXT_SIZE + 100];
	int error = no_way(source, to);

	if (error == 0)
		return;
	snprintf(text, sizeof(text), "no route from %s to %s: %s",
	        source->family == AF_UNSPEC ? "here" : addr_print(source, from), what, strerror(error));
	warn(h, &h->n_unreachable, b, text);
}

/* The source that a destination is reached from; NULL if its family is missing or not here. */
static const struct addr *source_for(const struct host *h, const struct conf_binding *b, int family)
{
	const struct addr *source = &b->source[family == AF_INET6];

	return source->family != AF_UNSPEC && local_addrs_has(h->local, source) ? source : NULL;
}

static void check_literal(struct host *h, const struct conf_binding *b, const struct addr *to)
{
	const struct addr *source = source_for(h, b, to->family);
	char text[ADDR_TEXT_SIZE];

	for (unsigned i = 0; i < h->n_seen; i++)
		if (addr_equal_ip(&h->seen[i], to))
			return;
	if (h->n_seen < SEEN_MAX)
		h->seen[h->n_seen++] = *to;
	if (source)
		check_way(h, b, source, to, addr_print(to, text));
}

static void check_mx(struct host *h, const struct conf_binding *b)
{
	for (int i = 0; i < 2 && !h->seen_mx; i++) {
		int family = i ? AF_INET6 : AF_INET;
		const struct addr *source = source_for(h, b, family);
		struct addr to;

		if (source && (family == AF_INET || conf_global(h->conf)->use_ipv6) &&
		        addr_parse(anywhere[i], &to, NULL))
			check_way(h, b, source, &to,
			        family == AF_INET ? "the Internet (IPv4)" : "the Internet (IPv6)");
	}
	h->seen_mx = true;
}

/* Where mail goes, as far as it stands in the files. */
static void check_ways(struct host *h, const struct conf_binding *b, const char *domain)
{
	const char *at, *item;
	struct conn_options o;
	struct route_item route;
	struct addr to;
	size_t len;

	conf_resolve(h->conf, b, domain, &o, NULL, NULL);
	if (o.egress_proxy)
		return;
	if (!o.routes && !o.gateway)
		check_mx(h, b);
	else if (!o.routes && addr_parse_port(o.gateway, 0, &to, NULL))
		check_literal(h, b, &to);
	for (at = o.routes; at && (item = routes_next(&at, &len));) {
		if (!route_item_parse(item, len, &route, NULL))
			continue;
		if (route.literal)
			check_literal(h, b, &route.addr);
		else if (route.kind == ROUTE_ITEM_MX)
			check_mx(h, b);
	}
}

static void check_proxy(struct host *h, const struct conf_binding *b, const char *name)
{
	static const struct addr any = {.family = AF_UNSPEC};
	struct egress_proxy proxy;

	if (egress_proxy_parse(name, &proxy, NULL))
		check_way(h, b, &any, &proxy.addr, name);
}

static void check_binding(struct host *h, const struct conf_binding *b)
{
	struct conn_options o;
	char text[ADDR_TEXT_SIZE + 100], address[ADDR_TEXT_SIZE];

	h->n_seen = 0;
	h->seen_mx = false;
	conf_resolve(h->conf, b, NULL, &o, NULL, NULL);
	if (o.egress_proxy)
		check_proxy(h, b, o.egress_proxy);
	for (int i = 0; i < 2 && !o.egress_proxy; i++) {
		if (b->source[i].family == AF_UNSPEC || local_addrs_has(h->local, &b->source[i]))
			continue;
		snprintf(text, sizeof(text), "bind_address %s is not on this machine: its mail would wait",
		        addr_print(&b->source[i], address));
		warn(h, &h->n_missing, b, text);
	}
	check_ways(h, b, NULL);
	for (size_t i = 0; i < h->n_domains; i++)
		check_ways(h, b, h->domains[i]);
}

static void note_domain(void *ctx, const char *domain)
{
	struct host *h = ctx;

	if (h->n_domains < DOMAINS_MAX)
		h->domains[h->n_domains++] = domain;
}

static void check_bindings(struct host *h)
{
	struct loop *loop = loop_new("check", &clock_system);
	struct error err;
	struct local_addrs *local = local_addrs_new(loop, &err);

	if (local) {
		h->local = local;
		for (size_t i = 0; i < conf_n_bindings(h->conf); i++)
			check_binding(h, conf_binding(h->conf, (uint32_t)i));
	} else {
		errors_add(h->errors, ERROR_WARNING, "addresses are not checked: %s", err.text);
	}
	warn_more(h, h->n_missing, "bindings' addresses that are not on this machine");
	warn_more(h, h->n_unreachable, "destinations without a route");
	local_addrs_free(&local);
	loop_free(&loop);
}

/* --- descriptors ---------------------------------------------------------------------------------------------------- */

/* The pid of the daemon that listens at control.listen, 0 = none, or it cannot be told. */
static pid_t daemon_pid(const struct sockspec *where)
{
	struct sockaddr_un un = {.sun_family = AF_UNIX};
	struct ucred who;
	socklen_t len = sizeof(who);
	pid_t pid = 0;
	int fd;

	if (!where || where->type != SOCKSPEC_UNIX || strlen(where->path) >= sizeof(un.sun_path))
		return 0;
	strcpy(un.sun_path, where->path);
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return 0;
	if (connect(fd, (struct sockaddr *)&un, sizeof(un)) == 0 &&
	        getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &who, &len) == 0)
		pid = who.pid;
	close(fd);
	return pid;
}

/* "Max open files            1024                 1048576              files": deliveryd raises the first to the second */
static bool daemon_limit(const struct sockspec *where, unsigned long long *limit)
{
	char path[64], line[256];
	pid_t pid = daemon_pid(where);
	bool found = false;
	FILE *f;

	if (!pid)
		return false;
	snprintf(path, sizeof(path), "/proc/%ld/limits", (long)pid);
	f = fopen(path, "re");
	while (f && !found && fgets(line, sizeof(line), f))
		found = sscanf(line, "Max open files %*s %llu", limit) == 1;
	if (f)
		fclose(f);
	return found;
}

static void check_descriptors(struct host *h)
{
	const struct global_options *o = conf_global(h->conf);
	unsigned long long most = o->server_max_outbound_connections, reserve = o->server_reserve_outbound_connections,
	                   needed = most + reserve + HANDOFF_SESSIONS + OTHER_DESCRIPTORS, limit;
	bool running = daemon_limit(conf_process(h->conf)->control_listen, &limit);
	struct rlimit own;

	if (!running) {
		if (getrlimit(RLIMIT_NOFILE, &own) != 0 || own.rlim_max == RLIM_INFINITY)
			return;
		limit = own.rlim_max;
	}
	if (limit < needed)
		errors_add(h->errors, ERROR_WARNING,
		        "global: server_max_outbound_connections (%llu), server_reserve_outbound_connections (%llu) and %d "
		        "connections of the MTA need about %llu file descriptors, but the limit of %s is %llu: raise "
		        "LimitNOFILE of its unit (ulimit -n), or lower the options",
		        most, reserve, HANDOFF_SESSIONS, needed,
		        running ? "the deliveryd that runs" : "this shell (no deliveryd runs, which may have its own)",
		        limit);
}

void host_check(const struct conf *conf, struct errors *errors)
{
	struct host h = {.conf = conf, .errors = errors};

	h.domains = mem_array(NULL, DOMAINS_MAX, sizeof(*h.domains));
	conf_each_routed_domain(conf, note_domain, &h);
	check_bindings(&h);
	check_descriptors(&h);
	mem_free(&h.domains);
}
