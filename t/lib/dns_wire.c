/* dns_wire - see dns_wire.h */
#include "config.h"
#include "t/lib/dns_wire.h"

#include <arpa/inet.h>
#include <assert.h>
#include <ctype.h>
#include <string.h>

void wire_bytes(struct dns_wire *w, const void *bytes, size_t len)
{
	assert(len <= sizeof(w->bytes) - w->len);
	memcpy(w->bytes + w->len, bytes, len);
	w->len += len;
}

void wire_u8(struct dns_wire *w, unsigned v)
{
	uint8_t b = (uint8_t)v;

	wire_bytes(w, &b, 1);
}

void wire_u16(struct dns_wire *w, unsigned v)
{
	wire_u8(w, v >> 8);
	wire_u8(w, v);
}

void wire_u32(struct dns_wire *w, uint32_t v)
{
	wire_u16(w, v >> 16);
	wire_u16(w, v & 0xffff);
}

static const char *label_byte(const char *p, uint8_t *byte)
{
	if (p[0] == '\\' && isdigit((unsigned char)p[1]) && isdigit((unsigned char)p[2]) &&
	        isdigit((unsigned char)p[3])) {
		*byte = (uint8_t)((p[1] - '0') * 100 + (p[2] - '0') * 10 + (p[3] - '0'));
		return p + 4;
	}
	*byte = (uint8_t)*p;
	return p + 1;
}

void wire_name(struct dns_wire *w, const char *name)
{
	uint8_t label[64], n = 0;

	for (const char *p = name; *p;) {
		if (*p == '.') {
			wire_u8(w, n);
			wire_bytes(w, label, n);
			n = 0;
			p++;
			continue;
		}
		assert(n < 63);
		p = label_byte(p, &label[n++]);
	}
	if (n) {
		wire_u8(w, n);
		wire_bytes(w, label, n);
	}
	wire_u8(w, 0);
}

void wire_pointer(struct dns_wire *w, unsigned to)
{
	wire_u16(w, 0xc000 | to);
}

void wire_header(struct dns_wire *w, unsigned id, unsigned flags)
{
	w->len = 0;
	wire_u16(w, id);
	wire_u16(w, flags);
	for (int i = 0; i < 4; i++)
		wire_u16(w, 0);
}

void wire_count(struct dns_wire *w, unsigned section, int by)
{
	uint8_t *p = w->bytes + 4 + 2 * section;
	int n = (p[0] << 8 | p[1]) + by;

	p[0] = (uint8_t)(n >> 8);
	p[1] = (uint8_t)n;
}

void wire_question(struct dns_wire *w, const char *name, unsigned type)
{
	wire_count(w, 0, 1);
	wire_name(w, name);
	wire_u16(w, type);
	wire_u16(w, 1);
}

static void fixed(
        struct dns_wire *w, unsigned section, const char *owner, unsigned type, uint32_t ttl, size_t len)
{
	wire_count(w, section, 1);
	wire_name(w, owner);
	wire_u16(w, type);
	wire_u16(w, 1);
	wire_u32(w, ttl);
	wire_u16(w, (unsigned)len);
}

void wire_rr(struct dns_wire *w, unsigned section, const char *owner, unsigned type, uint32_t ttl,
        const void *rdata, size_t len)
{
	fixed(w, section, owner, type, ttl, len);
	wire_bytes(w, rdata, len);
}

void wire_a(struct dns_wire *w, const char *owner, uint32_t ttl, const char *ip)
{
	uint8_t b[16];

	if (inet_pton(AF_INET, ip, b) == 1) {
		wire_rr(w, 1, owner, 1, ttl, b, 4);
	} else {
		int ok = inet_pton(AF_INET6, ip, b);
		assert(ok == 1);
		(void)ok;
		wire_rr(w, 1, owner, 28, ttl, b, 16);
	}
}

/* Length of a name on the wire */
static size_t name_len(const char *name)
{
	struct dns_wire w;

	w.len = 0;
	wire_name(&w, name);
	return w.len;
}

void wire_mx(struct dns_wire *w, const char *owner, uint32_t ttl, unsigned preference, const char *host)
{
	fixed(w, 1, owner, 15, ttl, 2 + name_len(host));
	wire_u16(w, preference);
	wire_name(w, host);
}

void wire_cname(struct dns_wire *w, const char *owner, uint32_t ttl, const char *target)
{
	fixed(w, 1, owner, 5, ttl, name_len(target));
	wire_name(w, target);
}

void wire_ns(struct dns_wire *w, const char *owner, uint32_t ttl, const char *host)
{
	fixed(w, 2, owner, 2, ttl, name_len(host));
	wire_name(w, host);
}

void wire_soa(struct dns_wire *w, const char *owner, uint32_t ttl, uint32_t minimum)
{
	fixed(w, 2, owner, 6, ttl, name_len("ns.test") + name_len("admin.test") + 20);
	wire_name(w, "ns.test");
	wire_name(w, "admin.test");
	wire_u32(w, 1);
	wire_u32(w, 3600);
	wire_u32(w, 600);
	wire_u32(w, 86400);
	wire_u32(w, minimum);
}

void wire_opt(struct dns_wire *w, unsigned size, unsigned extended_rcode)
{
	wire_count(w, 3, 1);
	wire_u8(w, 0);
	wire_u16(w, 41);
	wire_u16(w, size);
	wire_u8(w, extended_rcode);
	wire_u8(w, 0);
	wire_u16(w, 0);
	wire_u16(w, 0);
}
