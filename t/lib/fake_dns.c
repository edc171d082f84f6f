/* fake_dns - see fake_dns.h */
#include "config.h"
#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "base/str.h"
#include "t/lib/fake_dns.h"

#define FAKE_DNS_RECORDS 128

struct fake_record {
	enum dns_type type;
	struct dns_record record; /* owns host or data */
};
struct fake_override {
	unsigned type; /* 0 = all */
	enum dns_outcome outcome;
	char *why;
};
struct fake_name {
	struct fake_name *next;
	char *name;
	struct fake_record records[FAKE_DNS_RECORDS];
	unsigned n_records;
	struct fake_override overrides[8];
	unsigned n_overrides;
	uint64_t delay_us;
	uint32_t ttl_s;
	bool authentic;
	char *alias; /* owns */
};
struct fake_asked {
	struct fake_asked *next;
	char *name;
	enum dns_type type;
	unsigned n;
};
struct dns_query {
	struct fake_dns *owner;
	struct dns_query *next;
	char *name;
	enum dns_type type;
	struct timer timer;
	dns_done *done;
	void *ctx;
};
struct fake_dns {
	struct dns dns;
	struct loop *loop;
	struct fake_name *names;
	struct fake_asked *asked;
	struct dns_query *open;
};

static struct fake_name *find(struct fake_dns *f, const char *name)
{
	for (struct fake_name *n = f->names; n; n = n->next)
		if (ascii_ieq(n->name, name))
			return n;
	return NULL;
}

static struct fake_name *find_or_add(struct fake_dns *f, const char *name)
{
	struct fake_name *n = find(f, name);

	if (n)
		return n;
	n = mem_zalloc(sizeof(*n));
	n->name = mem_strdup(name);
	n->ttl_s = 300;
	n->next = f->names;
	f->names = n;
	return n;
}

static const struct fake_override *override_of(const struct fake_name *n, enum dns_type type)
{
	for (unsigned i = n->n_overrides; i-- > 0;)
		if (n->overrides[i].type == 0 || n->overrides[i].type == (unsigned)type)
			return n->overrides[i].outcome == DNS_ANSWER ? NULL : &n->overrides[i];
	return NULL;
}

static void unlink_query(struct dns_query *q)
{
	struct dns_query **p = &q->owner->open;

	while (*p != q)
		p = &(*p)->next;
	*p = q->next;
	timer_cancel(q->owner->loop, &q->timer);
}

static void free_query(struct dns_query *q)
{
	mem_free(&q->name);
	mem_free(&q);
}

static void fill_in(
        struct dns_answer *a, const struct fake_name *n, enum dns_type type, struct dns_record *records)
{
	const struct fake_override *o = override_of(n, type);

	a->ttl_s = n->ttl_s;
	a->authentic = n->authentic;
	if (o) {
		a->outcome = o->outcome;
		a->why = o->why;
		return;
	}
	if (n->alias)
		records[a->n++] = (struct dns_record){.raw = {(const uint8_t *)n->alias, 0}};
	for (unsigned i = 0; i < n->n_records && a->n < 100; i++)
		if (n->records[i].type == type)
			records[a->n++] = n->records[i].record;
	a->records = records;
	a->outcome = a->n ? DNS_ANSWER : DNS_NODATA;
}

static void answer(void *ctx)
{
	struct dns_query *q = ctx;
	struct dns_record records[FAKE_DNS_RECORDS];
	struct fake_name *n = find(q->owner, q->name);
	struct dns_answer a = {.outcome = DNS_NXDOMAIN, .name = q->name, .ttl_s = 300};
	bool authentic = true;

	unlink_query(q);
	while (n && n->alias && q->type != DNS_CNAME && !override_of(n, q->type)) {
		authentic &= n->authentic;
		a.name = n->alias;
		n = find(q->owner, n->alias);
	}
	if (n)
		fill_in(&a, n, q->type, records);
	a.authentic &= authentic;
	if (!a.why)
		a.why = a.outcome == DNS_FAILED ? "SERVFAIL from 192.0.2.53:53" : "";
	q->done(q->ctx, &a);
	free_query(q);
}

static void count(struct fake_dns *f, const char *name, enum dns_type type)
{
	struct fake_asked *a;

	for (a = f->asked; a; a = a->next)
		if (a->type == type && ascii_ieq(a->name, name))
			break;
	if (!a) {
		a = mem_zalloc(sizeof(*a));
		a->name = mem_strdup(name);
		a->type = type;
		a->next = f->asked;
		f->asked = a;
	}
	a->n++;
}

static struct dns_query *lookup(
        struct dns *d, const char *name, enum dns_type type, dns_done *done, void *ctx)
{
	struct fake_dns *f = container_of(d, struct fake_dns, dns);
	struct dns_query *q = mem_zalloc(sizeof(*q));
	struct fake_name *n = find(f, name);

	count(f, name, type);
	q->owner = f;
	q->name = mem_strdup(name);
	q->type = type;
	q->done = done;
	q->ctx = ctx;
	timer_init(&q->timer, answer, q);
	q->next = f->open;
	f->open = q;
	if (!n || n->delay_us != UINT64_MAX)
		timer_arm_in(f->loop, &q->timer, n ? n->delay_us : 0);
	return q;
}

static void cancel(struct dns *d, struct dns_query **p)
{
	struct dns_query *q = *p;

	(void)d;
	*p = NULL;
	if (!q)
		return;
	unlink_query(q);
	free_query(q);
}

struct fake_dns *fake_dns_new(struct loop *loop)
{
	struct fake_dns *f = mem_zalloc(sizeof(*f));

	f->dns = (struct dns){.lookup = lookup, .cancel = cancel};
	f->loop = loop;
	return f;
}

struct dns *fake_dns_dns(struct fake_dns *f)
{
	return &f->dns;
}

static void free_records(struct fake_name *n)
{
	for (unsigned i = 0; i < n->n_records; i++) {
		struct fake_record *r = &n->records[i];
		if (r->type == DNS_MX)
			free((char *)(uintptr_t)r->record.mx.host);
		else if (r->type != DNS_A && r->type != DNS_AAAA)
			free((void *)(uintptr_t)r->record.raw.data);
	}
	for (unsigned i = 0; i < n->n_overrides; i++)
		free(n->overrides[i].why);
	free(n->alias);
}

void fake_dns_forget(struct fake_dns *f, const char *name)
{
	for (struct fake_name **p = &f->names; *p; p = &(*p)->next) {
		struct fake_name *n = *p;
		if (!ascii_ieq(n->name, name))
			continue;
		*p = n->next;
		free_records(n);
		free(n->name);
		free(n);
		return;
	}
}

void fake_dns_free(struct fake_dns **p)
{
	struct fake_dns *f = *p;

	if (!f)
		return;
	while (f->open) {
		struct dns_query *q = f->open;
		cancel(&f->dns, &q);
	}
	while (f->names)
		fake_dns_forget(f, f->names->name);
	while (f->asked) {
		struct fake_asked *a = f->asked;
		f->asked = a->next;
		free(a->name);
		free(a);
	}
	mem_free(p);
}

static struct dns_record *add_record(struct fake_dns *f, const char *name, enum dns_type type)
{
	struct fake_name *n = find_or_add(f, name);

	assert(n->n_records < FAKE_DNS_RECORDS);
	n->records[n->n_records].type = type;
	return &n->records[n->n_records++].record;
}

void fake_dns_mx(struct fake_dns *f, const char *name, unsigned preference, const char *host)
{
	struct dns_record *r = add_record(f, name, DNS_MX);

	r->mx.preference = (uint16_t)preference;
	r->mx.host = mem_strdup(host);
}

void fake_dns_addr(struct fake_dns *f, const char *name, const char *ip)
{
	struct addr a;
	bool ok = addr_parse(ip, &a, NULL);

	assert(ok);
	(void)ok;
	add_record(f, name, a.family == AF_INET ? DNS_A : DNS_AAAA)->addr = a;
}

void fake_dns_raw(struct fake_dns *f, const char *name, enum dns_type type, const void *rdata, size_t len)
{
	struct dns_record *r = add_record(f, name, type);
	uint8_t *data = mem_alloc(len + 1);

	memcpy(data, rdata, len);
	r->raw.data = data;
	r->raw.len = (uint16_t)len;
}

void fake_dns_cname(struct fake_dns *f, const char *name, const char *target)
{
	struct fake_name *n = find_or_add(f, name);

	free(n->alias);
	n->alias = mem_strdup(target);
}

void fake_dns_outcome(
        struct fake_dns *f, const char *name, unsigned type, enum dns_outcome outcome, const char *why)
{
	struct fake_name *n = find_or_add(f, name);
	unsigned i;

	for (i = 0; i < n->n_overrides; i++)
		if (n->overrides[i].type == type)
			break;
	assert(i < array_len(n->overrides));
	free(n->overrides[i].why);
	n->overrides[i] = (struct fake_override){type, outcome, why ? mem_strdup(why) : NULL};
	if (i == n->n_overrides)
		n->n_overrides++;
}

/* Also wakes the look-ups that wait for an answer of this name. */
void fake_dns_delay(struct fake_dns *f, const char *name, uint64_t us)
{
	find_or_add(f, name)->delay_us = us;
	for (struct dns_query *q = f->open; q; q = q->next) {
		if (!ascii_ieq(q->name, name))
			continue;
		if (us == UINT64_MAX)
			timer_cancel(f->loop, &q->timer);
		else
			timer_arm_in(f->loop, &q->timer, us);
	}
}

void fake_dns_ttl(struct fake_dns *f, const char *name, uint32_t ttl_s)
{
	find_or_add(f, name)->ttl_s = ttl_s;
}

void fake_dns_authentic(struct fake_dns *f, const char *name, bool authentic)
{
	find_or_add(f, name)->authentic = authentic;
}

unsigned fake_dns_asked(const struct fake_dns *f, const char *name, unsigned type)
{
	unsigned n = 0;

	for (const struct fake_asked *a = f->asked; a; a = a->next)
		if ((type == 0 || (unsigned)a->type == type) && ascii_ieq(a->name, name))
			n += a->n;
	return n;
}

unsigned fake_dns_open(const struct fake_dns *f)
{
	unsigned n = 0;

	for (const struct dns_query *q = f->open; q; q = q->next)
		n++;
	return n;
}

static bool script_type(const char *text, unsigned *type)
{
	static const struct {
		const char *name;
		unsigned type;
	} types[] = {{"", 0}, {"mx", DNS_MX}, {"a", DNS_A}, {"aaaa", DNS_AAAA}, {"tlsa", DNS_TLSA},
	        {"cname", DNS_CNAME}};

	for (size_t i = 0; i < array_len(types); i++)
		if (ascii_ieq(text, types[i].name)) {
			*type = types[i].type;
			return true;
		}
	return false;
}

static bool script_tlsa(struct fake_dns *f, const char *line)
{
	char name[256], hex[8192] = "";
	unsigned head[3];
	uint8_t rdata[4096];
	size_t n;

	if (sscanf(line, "%*s %255s %u %u %u %8191s", name, &head[0], &head[1], &head[2], hex) < 4)
		return false;
	for (n = 0; n < 3; n++)
		rdata[n] = (uint8_t)head[n];
	for (const char *p = hex; p[0] && p[1] && n < sizeof(rdata); p += 2, n++) {
		char digits[3] = {p[0], p[1], '\0'};
		rdata[n] = (uint8_t)strtoul(digits, NULL, 16);
	}
	fake_dns_raw(f, name, DNS_TLSA, rdata, n);
	return true;
}

static bool script_outcome(struct fake_dns *f, const char *verb, const char *name, const char *arg)
{
	static const struct {
		const char *verb;
		enum dns_outcome outcome;
	} verbs[] = {{"nodata", DNS_NODATA}, {"nxdomain", DNS_NXDOMAIN}, {"servfail", DNS_FAILED},
	        {"answer", DNS_ANSWER}};
	unsigned type;

	for (size_t i = 0; i < array_len(verbs); i++)
		if (strcmp(verb, verbs[i].verb) == 0 && script_type(arg, &type)) {
			fake_dns_outcome(f, name, type, verbs[i].outcome, NULL);
			if (verbs[i].outcome == DNS_ANSWER)
				fake_dns_delay(f, name, 0);
			return true;
		}
	return false;
}

bool fake_dns_script(struct fake_dns *f, const char *line, struct error *err)
{
	char verb[16] = "", name[256] = "", a[256] = "", b[256] = "";
	int n = sscanf(line, "%15s %255s %255s %255s", verb, name, a, b);
	struct addr addr;

	if (n < 2)
		return error_set(err, "not a line for the resolver: %s", line);
	if (strcmp(verb, "mx") == 0 && n == 3 && strcmp(a, "null") == 0)
		fake_dns_mx(f, name, 0, "");
	else if (strcmp(verb, "mx") == 0 && n == 4)
		fake_dns_mx(f, name, (unsigned)strtoul(a, NULL, 10), b);
	else if (strcmp(verb, "addr") == 0 && n == 3 && addr_parse(a, &addr, NULL))
		fake_dns_addr(f, name, a);
	else if (strcmp(verb, "silent") == 0 && n == 2)
		fake_dns_delay(f, name, UINT64_MAX);
	else if (strcmp(verb, "delay") == 0 && n == 3)
		fake_dns_delay(f, name, strtoull(a, NULL, 10) * 1000);
	else if (strcmp(verb, "ttl") == 0 && n == 3)
		fake_dns_ttl(f, name, (uint32_t)strtoul(a, NULL, 10));
	else if (strcmp(verb, "cname") == 0 && n == 3)
		fake_dns_cname(f, name, a);
	else if (strcmp(verb, "secure") == 0 && n == 2)
		fake_dns_authentic(f, name, true);
	else if (strcmp(verb, "tlsa") == 0)
		return script_tlsa(f, line) || error_set(err, "not a TLSA record: %s", line);
	else if (strcmp(verb, "forget") == 0 && n == 2)
		fake_dns_forget(f, name);
	else if (!script_outcome(f, verb, name, a))
		return error_set(err, "not a line for the resolver: %s", line);
	return true;
}
