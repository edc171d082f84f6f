#include "config.h"
#include "base/addr.h"

#include <arpa/inet.h>
#include <net/if.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include "base/clock.h"
#include "base/log.h"
#include "base/mem.h"

static bool not_an_address(const char *text, const char *wanted, struct error *err)
{
	char quoted[160];

	return error_set(err, "%s is not %s", log_quote(text, strlen(text), quoted, sizeof(quoted)), wanted);
}

/* "%eth0" or "%2"; 0 if there is no such interface */
static uint32_t parse_scope(const char *scope)
{
	char *end;
	unsigned long number;

	if (scope[0] >= '0' && scope[0] <= '9') {
		number = strtoul(scope, &end, 10);
		return *end == '\0' && number <= UINT32_MAX ? (uint32_t)number : 0;
	}
	return if_nametoindex(scope);
}

static bool parse_ip(const char *text, size_t len, struct addr *addr)
{
	char copy[INET6_ADDRSTRLEN + IF_NAMESIZE + 1], *percent;

	*addr = (struct addr){0};
	if (len >= sizeof(copy) || memchr(text, '\0', len) != NULL)
		return false;
	memcpy(copy, text, len);
	copy[len] = '\0';
	if (inet_pton(AF_INET, copy, addr->ip) == 1) {
		addr->family = AF_INET;
		return true;
	}
	percent = strchr(copy, '%');
	if (percent != NULL) {
		*percent = '\0';
		addr->scope = parse_scope(percent + 1);
		if (addr->scope == 0)
			return false;
	}
	if (inet_pton(AF_INET6, copy, addr->ip) != 1)
		return false;
	addr->family = AF_INET6;
	return true;
}

/* With or without brackets and the tag of an address literal, which only IPv6 has. */
static bool parse_ip_dressed(const char *text, size_t len, struct addr *addr)
{
	bool tagged, brackets = len >= 2 && text[0] == '[' && text[len - 1] == ']';

	if (brackets) {
		text++;
		len -= 2;
	}
	tagged = len > 5 && strncasecmp(text, "IPv6:", 5) == 0;
	if (tagged) {
		text += 5;
		len -= 5;
	}
	return parse_ip(text, len, addr) && (addr->family == AF_INET6 || !tagged);
}

bool addr_parse(const char *text, struct addr *addr, struct error *err)
{
	if (parse_ip_dressed(text, strlen(text), addr))
		return true;
	*addr = (struct addr){0};
	return not_an_address(text, "an IP address", err);
}

/* 1 to 65535 in digits, nothing else */
static bool parse_port(const char *text, uint16_t *port)
{
	unsigned value = 0;
	const char *p = text;

	for (; *p >= '0' && *p <= '9' && p - text < 5; p++)
		value = value * 10 + (unsigned)(*p - '0');
	if (p == text || *p != '\0' || value == 0 || value > 65535)
		return false;
	*port = (uint16_t)value;
	return true;
}

bool addr_parse_port(const char *text, uint16_t default_port, struct addr *addr, struct error *err)
{
	const char *colon = strrchr(text, ':'), *bracket = strrchr(text, ']');
	size_t len = strlen(text);
	uint16_t port = default_port;

	/* a colon after the bracket, or the only one */
	if (colon != NULL && (bracket != NULL ? bracket < colon : strchr(text, ':') == colon)) {
		len = (size_t)(colon - text);
		if (!parse_port(colon + 1, &port)) {
			*addr = (struct addr){0};
			return not_an_address(text, "an address with a port from 1 to 65535", err);
		}
	}
	if (!parse_ip_dressed(text, len, addr) || (bracket != NULL && addr->family != AF_INET6)) {
		*addr = (struct addr){0};
		return not_an_address(text, "an IP address (ADDR, ADDR:PORT or [IPv6]:PORT)", err);
	}
	addr->port = port;
	return true;
}

static bool is_link_local(const struct addr *addr)
{
	return addr->family == AF_INET6 && addr->ip[0] == 0xFE && (addr->ip[1] & 0xC0) == 0x80;
}

const char *addr_print(const struct addr *addr, char buf[ADDR_TEXT_SIZE])
{
	size_t len;

	if (addr->family == AF_UNSPEC || inet_ntop(addr->family, addr->ip, buf, ADDR_TEXT_SIZE) == NULL) {
		(void)snprintf(buf, ADDR_TEXT_SIZE, "-");
		return buf;
	}
	len = strlen(buf);
	if (addr->scope != 0 && is_link_local(addr))
		(void)snprintf(buf + len, ADDR_TEXT_SIZE - len, "%%%u", (unsigned)addr->scope);
	return buf;
}

const char *addr_print_port(const struct addr *addr, char buf[ADDR_TEXT_SIZE])
{
	char ip[ADDR_TEXT_SIZE];

	(void)addr_print(addr, ip);
	/* at most 39 + "%4294967295" (only link-local) or 45, and "[]:65535": it fits */
	(void)snprintf(
	        buf, ADDR_TEXT_SIZE, addr->family == AF_INET6 ? "[%.52s]:%u" : "%.52s:%u", ip, addr->port);
	return buf;
}

static size_t ip_len(const struct addr *addr)
{
	return addr->family == AF_INET6 ? 16 : addr->family == AF_INET ? 4 : 0;
}

bool addr_equal_ip(const struct addr *a, const struct addr *b)
{
	return a->family == b->family && a->scope == b->scope && memcmp(a->ip, b->ip, ip_len(a)) == 0;
}

static const uint8_t mapped_prefix[12] = {[10] = 0xFF, [11] = 0xFF};

void addr_unmap(struct addr *addr)
{
	if (addr->family != AF_INET6 || memcmp(addr->ip, mapped_prefix, sizeof(mapped_prefix)) != 0)
		return;
	memmove(addr->ip, addr->ip + 12, 4);
	memset(addr->ip + 4, 0, 12);
	addr->family = AF_INET;
	addr->scope = 0;
}

bool addr_is_loopback(const struct addr *addr)
{
	static const uint8_t one[16] = {[15] = 1};
	struct addr a = *addr;

	addr_unmap(&a);
	if (a.family == AF_INET)
		return a.ip[0] == 127;
	return a.family == AF_INET6 && memcmp(a.ip, one, sizeof(one)) == 0;
}

bool addr_is_any(const struct addr *addr)
{
	static const uint8_t zero[16];
	struct addr a = *addr;

	addr_unmap(&a);
	return a.family != AF_UNSPEC && memcmp(a.ip, zero, ip_len(&a)) == 0;
}

socklen_t addr_to_sockaddr(const struct addr *addr, struct sockaddr_storage *out)
{
	memset(out, 0, sizeof(*out));
	if (addr->family == AF_INET) {
		struct sockaddr_in *in = (struct sockaddr_in *)out;

		in->sin_family = AF_INET;
		in->sin_port = htons(addr->port);
		memcpy(&in->sin_addr, addr->ip, 4);
		return sizeof(*in);
	}
	if (addr->family == AF_INET6) {
		struct sockaddr_in6 *in6 = (struct sockaddr_in6 *)out;

		in6->sin6_family = AF_INET6;
		in6->sin6_port = htons(addr->port);
		in6->sin6_scope_id = addr->scope;
		memcpy(&in6->sin6_addr, addr->ip, 16);
		return sizeof(*in6);
	}
	return 0;
}

bool addr_from_sockaddr(const struct sockaddr *sa, struct addr *addr)
{
	*addr = (struct addr){0};
	if (sa->sa_family == AF_INET) {
		struct sockaddr_in in;

		memcpy(&in, sa, sizeof(in));
		addr->family = AF_INET;
		addr->port = ntohs(in.sin_port);
		memcpy(addr->ip, &in.sin_addr, 4);
		return true;
	}
	if (sa->sa_family == AF_INET6) {
		struct sockaddr_in6 in6;

		memcpy(&in6, sa, sizeof(in6));
		addr->family = AF_INET6;
		addr->port = ntohs(in6.sin6_port);
		memcpy(addr->ip, &in6.sin6_addr, 16);
		if (is_link_local(addr))
			addr->scope = in6.sin6_scope_id;
		return true;
	}
	return false;
}

uint64_t addr_hash(const struct addr *addr)
{
	uint8_t packed[1 + 16 + 2 + 4] = {addr->family};

	memcpy(packed + 1, addr->ip, ip_len(addr));
	memcpy(packed + 17, &addr->port, 2);
	memcpy(packed + 19, &addr->scope, 4);
	return hash_bytes(packed, sizeof(packed));
}
