#include "config.h"
#include "base/addr.h"

#include <stdio.h>
#include <string.h>
#include "base/log.h"
#include "base/mem.h"

static unsigned family_bits(unsigned family)
{
	return family == AF_INET6 ? 128 : 32;
}

static void mask_ip(uint8_t ip[16], unsigned bits)
{
	for (unsigned i = 0; i < 16; i++) {
		unsigned keep = bits > 8 * i ? bits - 8 * i : 0;

		if (keep < 8)
			ip[i] &= (uint8_t)(0xFF00u >> keep);
	}
}

/* At most 3 digits; -1 if it is not that. */
static int parse_bits(const char *text)
{
	int value = 0;
	const char *p = text;

	for (; *p >= '0' && *p <= '9' && p - text < 3; p++)
		value = value * 10 + (*p - '0');
	return p == text || *p != '\0' ? -1 : value;
}

static bool net_refuse(const char *text, const char *why, struct error *err)
{
	char quoted[160];

	return error_set(err, "%s %s", log_quote(text, strlen(text), quoted, sizeof(quoted)), why);
}

/* A network of IPv4-mapped addresses is an IPv4 network: peers are compared as what they really are. */
static void net_unmap(struct addr_net *net)
{
	if (net->bits < 96)
		return;
	addr_unmap(&net->base);
	if (net->base.family == AF_INET)
		net->bits = (uint8_t)(net->bits - 96);
}

bool addr_net_parse(const char *text, struct addr_net *net, struct error *err)
{
	static const char not_a_network[] = "is not a network (ADDR or ADDR/BITS)";
	const char *slash = strchr(text, '/');
	size_t len = slash != NULL ? (size_t)(slash - text) : strlen(text);
	char ip[ADDR_TEXT_SIZE], printed[ADDR_TEXT_SIZE], why[ADDR_TEXT_SIZE + 64];
	struct addr masked;
	int bits;

	if (len >= sizeof(ip))
		return net_refuse(text, not_a_network, err);
	memcpy(ip, text, len);
	ip[len] = '\0';
	if (!addr_parse(ip, &net->base, NULL) || net->base.scope != 0)
		return net_refuse(text, not_a_network, err);
	bits = slash != NULL ? parse_bits(slash + 1) : (int)family_bits(net->base.family);
	if (bits < 0 || bits > (int)family_bits(net->base.family))
		return net_refuse(text, not_a_network, err);
	net->bits = (uint8_t)bits;
	masked = net->base;
	mask_ip(masked.ip, net->bits);
	if (!addr_equal_ip(&masked, &net->base)) {
		(void)snprintf(why, sizeof(why), "has bits behind its prefix; the network is %s/%d",
		        addr_print(&masked, printed), bits);
		return net_refuse(text, why, err);
	}
	net_unmap(net);
	return true;
}

bool addr_net_contains(const struct addr_net *net, const struct addr *addr)
{
	struct addr a = *addr;

	addr_unmap(&a);
	if (a.family != net->base.family)
		return false;
	mask_ip(a.ip, net->bits);
	return memcmp(a.ip, net->base.ip, 16) == 0;
}

struct set_entry {
	uint8_t family, bits, ip[16];
	uint32_t value;
};

/* Sorted by family, then the longest prefix first, then address. */
struct addr_set {
	struct set_entry *entries; /* owns */
	size_t n;
};

static int entry_compare(const struct set_entry *a, const struct set_entry *b)
{
	if (a->family != b->family)
		return a->family < b->family ? -1 : 1;
	if (a->bits != b->bits)
		return a->bits > b->bits ? -1 : 1;
	return memcmp(a->ip, b->ip, sizeof(a->ip));
}

/* The first entry that is not before `key`. */
static size_t set_place(const struct addr_set *set, const struct set_entry *key)
{
	size_t low = 0, high = set->n;

	while (low < high) {
		size_t middle = low + (high - low) / 2;

		if (entry_compare(&set->entries[middle], key) < 0)
			low = middle + 1;
		else
			high = middle;
	}
	return low;
}

struct addr_set *addr_set_new(void)
{
	return mem_zalloc(sizeof(struct addr_set));
}

void addr_set_free(struct addr_set **set)
{
	if (*set == NULL)
		return;
	mem_free(&(*set)->entries);
	mem_free(set);
}

void addr_set_add(struct addr_set *set, const struct addr_net *net, uint32_t value)
{
	struct set_entry entry = {.family = net->base.family, .bits = net->bits, .value = value};
	size_t at;

	memcpy(entry.ip, net->base.ip, sizeof(entry.ip));
	mask_ip(entry.ip, entry.bits);
	at = set_place(set, &entry);
	if (at < set->n && entry_compare(&set->entries[at], &entry) == 0)
		return; /* the first one stays */
	set->entries = mem_array(set->entries, set->n + 1, sizeof(*set->entries));
	memmove(&set->entries[at + 1], &set->entries[at], (set->n - at) * sizeof(*set->entries));
	set->entries[at] = entry;
	set->n++;
}

/* One binary search for each prefix length that occurs: the place where a search ends tells the next length.
 */
bool addr_set_find(const struct addr_set *set, const struct addr *addr, uint32_t *value)
{
	struct addr a = *addr;
	struct set_entry key = {0};
	size_t at;

	addr_unmap(&a);
	if (a.family == AF_UNSPEC)
		return false;
	key.family = a.family;
	key.bits = (uint8_t)family_bits(a.family);
	memcpy(key.ip, a.ip, sizeof(key.ip));
	for (;;) {
		at = set_place(set, &key);
		if (at == set->n || set->entries[at].family != a.family)
			return false;
		if (entry_compare(&set->entries[at], &key) == 0)
			break;
		if (set->entries[at].bits == key.bits) { /* others of this length follow: pass them */
			if (key.bits == 0)
				return false;
			key.bits--;
		} else {
			key.bits = set->entries[at].bits;
		}
		memcpy(key.ip, a.ip, sizeof(key.ip));
		mask_ip(key.ip, key.bits);
	}
	if (value != NULL)
		*value = set->entries[at].value;
	return true;
}
