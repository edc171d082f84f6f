#include "t/lib/netns.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/rtnetlink.h>
#include <net/if.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

struct request {
	struct nlmsghdr head;
	struct rtmsg route;
	char attributes[128];
};

static void attribute(struct request *r, unsigned short type, const void *value, size_t len)
{
	struct rtattr *a = (struct rtattr *)((char *)r + NLMSG_ALIGN(r->head.nlmsg_len));

	a->rta_type = type;
	a->rta_len = (unsigned short)RTA_LENGTH(len);
	memcpy(RTA_DATA(a), value, len);
	r->head.nlmsg_len = (uint32_t)(NLMSG_ALIGN(r->head.nlmsg_len) + RTA_ALIGN(a->rta_len));
}

/* The kernel's answer is an error message, 0 for success. */
static bool ask_kernel(const struct request *r)
{
	struct {
		struct nlmsghdr head;
		struct nlmsgerr error;
		char rest[256];
	} answer;
	int fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_ROUTE);
	ssize_t n = -1;

	if (fd >= 0 && send(fd, r, r->head.nlmsg_len, 0) == (ssize_t)r->head.nlmsg_len)
		n = recv(fd, &answer, sizeof(answer), 0);
	if (fd >= 0)
		close(fd);
	if (n < (ssize_t)(sizeof(answer.head) + sizeof(answer.error)) ||
	        answer.head.nlmsg_type != NLMSG_ERROR)
		return false;
	errno = -answer.error.error;
	return answer.error.error == 0;
}

static bool change_route(const char *network, unsigned char table, unsigned char type, bool add)
{
	struct request r = {
	        .head = {.nlmsg_len = NLMSG_LENGTH(sizeof(r.route)),
	                .nlmsg_type = add ? RTM_NEWROUTE : RTM_DELROUTE,
	                .nlmsg_flags = NLM_F_REQUEST | NLM_F_ACK | (add ? NLM_F_CREATE | NLM_F_EXCL : 0)}};
	unsigned lo = if_nametoindex("lo");
	struct addr_net net;

	if (!addr_net_parse(network, &net, NULL))
		return false;
	r.route = (struct rtmsg){.rtm_family = net.base.family,
	        .rtm_dst_len = net.bits,
	        .rtm_table = table,
	        .rtm_protocol = RTPROT_STATIC,
	        .rtm_scope = type == RTN_LOCAL ? RT_SCOPE_HOST : RT_SCOPE_UNIVERSE,
	        .rtm_type = type};
	attribute(&r, RTA_DST, net.base.ip, net.base.family == AF_INET6 ? 16 : 4);
	if (type == RTN_LOCAL)
		attribute(&r, RTA_OIF, &lo, sizeof(lo));
	return ask_kernel(&r);
}

bool netns_local_route(const char *network, bool add)
{
	return change_route(network, RT_TABLE_LOCAL, RTN_LOCAL, add);
}

bool netns_prohibit(const char *network)
{
	return change_route(network, RT_TABLE_MAIN, RTN_PROHIBIT, true);
}

static bool write_file(const char *path, const char *text)
{
	int fd = open(path, O_WRONLY | O_CLOEXEC);
	bool ok = fd >= 0 && write(fd, text, strlen(text)) == (ssize_t)strlen(text);

	if (fd >= 0)
		close(fd);
	return ok;
}

bool netns_port_range(unsigned low, unsigned high)
{
	char text[32];

	snprintf(text, sizeof(text), "%u %u", low, high);
	return write_file("/proc/sys/net/ipv4/ip_local_port_range", text);
}

bool netns_enter(void)
{
	struct ifreq request = {.ifr_name = "lo"};
	int fd;
	bool ok;

	if (unshare(CLONE_NEWNET) != 0 && unshare(CLONE_NEWUSER | CLONE_NEWNET) != 0)
		return false;
	fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	request.ifr_flags = IFF_UP | IFF_LOOPBACK | IFF_RUNNING;
	ok = fd >= 0 && ioctl(fd, SIOCSIFFLAGS, &request) == 0;
	if (fd >= 0)
		close(fd);
	return ok;
}
