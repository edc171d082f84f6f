/*
 * local_addrs - see local_addrs.h
 *
 * Two netlink sockets. One only listens: whatever it hears (routes, addresses, links, or that something was
 * lost) means "read again". The other reads the table by a dump, IPv4 then IPv6, without blocking the loop.
 * Reading all of it after each change needs no bookkeeping of which notification belongs to which route (the
 * same address may stand on two interfaces), and so cannot drift. Changes in a burst are read at most every
 * RESYNC_GAP_US.
 */
#include "config.h"
#include "session/local_addrs.h"

#include <assert.h>
#include <errno.h>
#include <linux/netlink.h>
#include <linux/rtnetlink.h>
#include <poll.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "base/log.h"
#include "base/mem.h"

#define RESYNC_GAP_US (SECOND_US / 10)
#define RETRY_US SECOND_US
#define FIRST_READ_ROUNDS 50 /* of 100 ms: at start we wait for the kernel */
#define READ_BUFFER 65536

struct listener {
	void (*changed)(void *ctx);
	void *ctx;
};

/* What the kernel said, in order of address: comparable and searchable */
struct table {
	struct addr_net *nets; /* owns */
	size_t n, size;
	struct addr_set *set; /* owns; built when complete */
};

enum dump_state { DUMP_IDLE, DUMP_V4, DUMP_V6 };

struct local_addrs {
	struct loop *loop; /* NULL: a test's fake */
	int watch_fd, dump_fd;
	struct event *watch, *dump;
	struct timer resync;
	enum dump_state state;
	bool again;       /* something changed while reading */
	bool interrupted; /* the table changed under the dump */
	uint32_t seq;
	uint64_t read_us; /* when the last read began */
	struct table building;
	uint8_t *buffer;
	struct listener *listeners;
	size_t n_listeners;

	pthread_rwlock_t lock; /* over current */
	struct table current;
};

/* --- tables --- */

static void table_free(struct table *t)
{
	mem_free(&t->nets);
	addr_set_free(&t->set);
	*t = (struct table){0};
}

static void table_add(struct table *t, const struct addr_net *net)
{
	if (t->n == t->size) {
		t->size = t->size ? 2 * t->size : 32;
		t->nets = mem_array(t->nets, t->size, sizeof(*t->nets));
	}
	t->nets[t->n++] = *net;
}

static int compare_nets(const void *pa, const void *pb)
{
	const struct addr_net *a = pa, *b = pb;

	if (a->base.family != b->base.family)
		return (int)a->base.family - (int)b->base.family;
	int order = memcmp(a->base.ip, b->base.ip, sizeof(a->base.ip));
	return order ? order : (int)a->bits - (int)b->bits;
}

static void table_complete(struct table *t)
{
	size_t n = 0;

	if (t->n)
		qsort(t->nets, t->n, sizeof(*t->nets), compare_nets);
	t->set = addr_set_new();
	for (size_t i = 0; i < t->n; i++) {
		if (n && compare_nets(&t->nets[n - 1], &t->nets[i]) == 0)
			continue;
		t->nets[n++] = t->nets[i];
		addr_set_add(t->set, &t->nets[i], 0);
	}
	t->n = n;
}

static bool table_equal(const struct table *a, const struct table *b)
{
	if (a->n != b->n)
		return false;
	for (size_t i = 0; i < a->n; i++)
		if (compare_nets(&a->nets[i], &b->nets[i]) != 0)
			return false;
	return true;
}

static void tell(struct local_addrs *l)
{
	for (size_t i = 0; i < l->n_listeners; i++)
		l->listeners[i].changed(l->listeners[i].ctx);
}

/* Takes `next`. */
static bool swap_in(struct local_addrs *l, struct table *next)
{
	struct table old;
	bool changed;

	table_complete(next);
	changed = !table_equal(&l->current, next);
	(void)pthread_rwlock_wrlock(&l->lock);
	old = l->current;
	l->current = *next;
	(void)pthread_rwlock_unlock(&l->lock);
	*next = (struct table){0};
	table_free(&old);
	return changed;
}

bool local_addrs_has(const struct local_addrs *l, const struct addr *addr)
{
	pthread_rwlock_t *lock = (pthread_rwlock_t *)(uintptr_t)&l->lock;
	struct addr a = *addr;
	bool has;

	addr_unmap(&a);
	(void)pthread_rwlock_rdlock(lock);
	has = l->current.set && addr_set_find(l->current.set, &a, NULL);
	(void)pthread_rwlock_unlock(lock);
	return has;
}

void local_addrs_on_change(struct local_addrs *l, void (*changed)(void *ctx), void *ctx)
{
	l->listeners = mem_array(l->listeners, l->n_listeners + 1, sizeof(*l->listeners));
	l->listeners[l->n_listeners++] = (struct listener){changed, ctx};
}

/* --- reading a dump --- */

static void take_route(struct table *t, const struct nlmsghdr *h)
{
	const struct rtmsg *rt = NLMSG_DATA(h);
	struct addr_net net = {.bits = rt->rtm_dst_len};
	size_t size = rt->rtm_family == AF_INET ? 4 : 16;
	uint32_t table = rt->rtm_table;
	int left = (int)RTM_PAYLOAD(h);

	if (rt->rtm_family != AF_INET && rt->rtm_family != AF_INET6)
		return;
	net.base.family = rt->rtm_family;
	for (const struct rtattr *a = RTM_RTA(rt); RTA_OK(a, left); a = RTA_NEXT(a, left)) {
		if (a->rta_type == RTA_DST && RTA_PAYLOAD(a) >= size)
			memcpy(net.base.ip, RTA_DATA(a), size);
		if (a->rta_type == RTA_TABLE && RTA_PAYLOAD(a) >= sizeof(table))
			memcpy(&table, RTA_DATA(a), sizeof(table));
	}
	if (table == RT_TABLE_LOCAL && rt->rtm_type == RTN_LOCAL && !(rt->rtm_flags & RTM_F_CLONED) &&
	        rt->rtm_dst_len <= 8 * size)
		table_add(t, &net);
}

static bool ask(struct local_addrs *l, enum dump_state state, struct error *err)
{
	struct {
		struct nlmsghdr h;
		struct rtmsg rt;
	} msg = {.h = {.nlmsg_len = sizeof(msg),
	                 .nlmsg_type = RTM_GETROUTE,
	                 .nlmsg_flags = NLM_F_REQUEST | NLM_F_DUMP,
	                 .nlmsg_seq = ++l->seq},
	        .rt = {.rtm_family = state == DUMP_V4 ? AF_INET : AF_INET6, .rtm_table = RT_TABLE_LOCAL}};

	l->state = state;
	if (send(l->dump_fd, &msg, sizeof(msg), 0) == (ssize_t)sizeof(msg))
		return true;
	l->state = DUMP_IDLE;
	return error_sys(err, "netlink: asking for the local routing table");
}

static bool start_read(struct local_addrs *l, struct error *err)
{
	table_free(&l->building);
	l->again = l->interrupted = false;
	l->read_us = loop_now_us(l->loop);
	return ask(l, DUMP_V4, err);
}

enum dump_step { STEP_MORE, STEP_DONE, STEP_FAILED };

static enum dump_step take_messages(struct local_addrs *l, size_t len)
{
	unsigned left = (unsigned)len;

	for (struct nlmsghdr *h = (struct nlmsghdr *)l->buffer; NLMSG_OK(h, left); h = NLMSG_NEXT(h, left)) {
		if (h->nlmsg_seq != l->seq)
			continue; /* of a read that was given up */
		if (h->nlmsg_flags & NLM_F_DUMP_INTR)
			l->interrupted = true;
		if (h->nlmsg_type == NLMSG_DONE)
			return STEP_DONE;
		if (h->nlmsg_type == NLMSG_ERROR)
			return STEP_FAILED;
		if (h->nlmsg_type == RTM_NEWROUTE && h->nlmsg_len >= NLMSG_LENGTH(sizeof(struct rtmsg)))
			take_route(&l->building, h);
	}
	return STEP_MORE;
}

/* One datagram. True with *step; false: nothing there now. */
static bool read_once(struct local_addrs *l, enum dump_step *step)
{
	struct sockaddr_nl from = {0};
	socklen_t from_len = sizeof(from);
	ssize_t n =
	        recvfrom(l->dump_fd, l->buffer, READ_BUFFER, MSG_TRUNC, (struct sockaddr *)&from, &from_len);

	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return false;
	*step = STEP_FAILED;
	if (n >= 0 && (size_t)n <= READ_BUFFER)
		*step = from.nl_pid == 0 ? take_messages(l, (size_t)n)
		                         : STEP_MORE; /* only the kernel is believed */
	return true;
}

/* Both families read: true. The table may have changed meanwhile; then it is read again. */
static bool advance(struct local_addrs *l, enum dump_step step, struct error *err)
{
	if (step == STEP_FAILED) {
		l->state = DUMP_IDLE;
		return error_set(err, "netlink: reading the local routing table failed");
	}
	if (l->state == DUMP_V4)
		return ask(l, DUMP_V6, err);
	l->state = DUMP_IDLE;
	return true;
}

static void read_later(struct local_addrs *l, uint64_t gap_us)
{
	uint64_t now = loop_now_us(l->loop), due = l->read_us + gap_us;

	timer_arm(l->loop, &l->resync, due > now ? due : now);
}

static void on_resync(void *ctx)
{
	struct local_addrs *l = ctx;
	struct error err;

	if (l->state != DUMP_IDLE || start_read(l, &err))
		return;
	log_warning("%s; trying again", err.text);
	read_later(l, RETRY_US);
}

static void complete(struct local_addrs *l)
{
	bool changed;

	if (l->interrupted) {
		read_later(l, RESYNC_GAP_US);
		return;
	}
	changed = swap_in(l, &l->building);
	if (l->again)
		read_later(l, RESYNC_GAP_US);
	if (changed)
		tell(l);
}

static void on_dump(evutil_socket_t fd, short what, void *ctx)
{
	struct local_addrs *l = ctx;
	enum dump_step step;
	struct error err;

	(void)fd;
	(void)what;
	for (int i = 0; i < 16 && read_once(l, &step); i++) {
		if (l->state == DUMP_IDLE || step == STEP_MORE)
			continue;
		if (!advance(l, step, &err)) {
			log_warning("%s; trying again", err.text);
			read_later(l, RETRY_US);
			return;
		}
		if (l->state == DUMP_IDLE) {
			complete(l);
			return;
		}
	}
}

/* ENOBUFS, too, only means that something changed. */
static void on_watch(evutil_socket_t fd, short what, void *ctx)
{
	struct local_addrs *l = ctx;
	uint8_t drop[16];
	bool heard = false;

	(void)what;
	for (int i = 0; i < 1000; i++) {
		if (recv(fd, drop, sizeof(drop), MSG_TRUNC) < 0 && errno != ENOBUFS)
			break;
		heard = true;
	}
	if (!heard)
		return;
	if (l->state != DUMP_IDLE)
		l->again = true;
	else if (!timer_armed(&l->resync))
		read_later(l, RESYNC_GAP_US);
}

/* --- life --- */

static int open_netlink(uint32_t groups, struct error *err)
{
	struct sockaddr_nl self = {.nl_family = AF_NETLINK, .nl_groups = groups};
	int fd = socket(AF_NETLINK, SOCK_RAW | SOCK_NONBLOCK | SOCK_CLOEXEC, NETLINK_ROUTE);

	if (fd >= 0 && bind(fd, (struct sockaddr *)&self, sizeof(self)) == 0)
		return fd;
	error_sys(err, "netlink socket");
	if (fd >= 0)
		close(fd);
	return -1;
}

/* At start there is nothing else to do than to wait for the kernel, which answers at once. */
static bool first_read(struct local_addrs *l, struct error *err)
{
	enum dump_step step;

	if (!start_read(l, err))
		return false;
	for (int i = 0; i < FIRST_READ_ROUNDS;) {
		struct pollfd p = {.fd = l->dump_fd, .events = POLLIN};
		if (!read_once(l, &step)) {
			(void)poll(&p, 1, 100);
			i++;
			continue;
		}
		if (step == STEP_MORE)
			continue;
		if (!advance(l, step, err))
			return false;
		if (l->state != DUMP_IDLE)
			continue;
		if (l->interrupted) {
			if (++i == FIRST_READ_ROUNDS || !start_read(l, err))
				return false;
			continue;
		}
		(void)swap_in(l, &l->building);
		return true;
	}
	return error_set(err, "netlink: no answer");
}

static struct local_addrs *new_empty(struct loop *loop)
{
	struct local_addrs *l = mem_zalloc(sizeof(*l));

	l->loop = loop;
	l->watch_fd = l->dump_fd = -1;
	(void)pthread_rwlock_init(&l->lock, NULL);
	timer_init(&l->resync, on_resync, l);
	return l;
}

struct local_addrs *local_addrs_new(struct loop *loop, struct error *err)
{
	struct local_addrs *l = new_empty(loop);

	l->buffer = mem_alloc(READ_BUFFER);
	/* links and addresses too: the kernel drops some IPv4 routes with a device without a word about each
	 */
	l->watch_fd = open_netlink(
	        RTMGRP_IPV4_ROUTE | RTMGRP_IPV6_ROUTE | RTMGRP_IPV4_IFADDR | RTMGRP_IPV6_IFADDR | RTMGRP_LINK,
	        err);
	l->dump_fd = l->watch_fd < 0 ? -1 : open_netlink(0, err);
	if (l->dump_fd < 0 || !first_read(l, err)) {
		local_addrs_free(&l);
		return NULL;
	}
	l->watch = event_new(loop_base(loop), l->watch_fd, EV_READ | EV_PERSIST, on_watch, l);
	l->dump = event_new(loop_base(loop), l->dump_fd, EV_READ | EV_PERSIST, on_dump, l);
	if (!l->watch || !l->dump || event_add(l->watch, NULL) != 0 || event_add(l->dump, NULL) != 0)
		abort();
	return l;
}

void local_addrs_free(struct local_addrs **p)
{
	struct local_addrs *l = *p;

	if (!l)
		return;
	if (l->loop)
		timer_cancel(l->loop, &l->resync);
	if (l->watch)
		event_free(l->watch);
	if (l->dump)
		event_free(l->dump);
	if (l->watch_fd >= 0)
		close(l->watch_fd);
	if (l->dump_fd >= 0)
		close(l->dump_fd);
	table_free(&l->building);
	table_free(&l->current);
	(void)pthread_rwlock_destroy(&l->lock);
	mem_free(&l->buffer);
	mem_free(&l->listeners);
	mem_free(p);
}

/* --- a test's table --- */

struct local_addrs *local_addrs_fake(void)
{
	return new_empty(NULL);
}

void local_addrs_fake_set(struct local_addrs *l, const struct addr *addr, bool present)
{
	struct table next = {0};
	struct addr_net net = {.base = *addr, .bits = addr->family == AF_INET ? 32 : 128};

	net.base.port = 0;
	for (size_t i = 0; i < l->current.n; i++)
		if (!addr_equal_ip(&l->current.nets[i].base, addr))
			table_add(&next, &l->current.nets[i]);
	if (present)
		table_add(&next, &net);
	if (swap_in(l, &next))
		tell(l);
}
