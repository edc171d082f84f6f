/*
 * dns_ask - asks real servers with our resolver, for scripts
 *
 *	dns_ask SERVER[,SERVER...] NAME TYPE...		SERVER is ADDR or ADDR:PORT
 *
 * Prints one line per type: TYPE OUTCOME ad=0|1 ttl=N name=CANONICAL n=N RECORDS | why=TEXT
 */
#include "config.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "base/mem.h"
#include "route/resolver/resolver.h"

struct asking {
	struct loop *loop;
	const char *type_name;
	enum dns_type type;
	unsigned *n_open;
};

static const struct {
	const char *name;
	enum dns_type type;
} types[] = {{"A", DNS_A}, {"AAAA", DNS_AAAA}, {"MX", DNS_MX}, {"TLSA", DNS_TLSA}, {"TXT", DNS_TXT},
        {"NS", DNS_NS}};

static void print_record(const struct dns_record *r, enum dns_type type)
{
	char ip[ADDR_TEXT_SIZE];

	if (type == DNS_A || type == DNS_AAAA)
		printf(" %s", addr_print(&r->addr, ip));
	else if (type == DNS_MX)
		printf(" %u:%s", r->mx.preference, r->mx.host[0] ? r->mx.host : ".");
	else
		printf(" %u bytes", r->raw.len);
}

static void print_answer(void *ctx, const struct dns_answer *a)
{
	static const char *const outcomes[] = {"ANSWER", "NODATA", "NXDOMAIN", "FAILED"};
	struct asking *asking = ctx;

	printf("%s %s ad=%d ttl=%u name=%s n=%u", asking->type_name, outcomes[a->outcome], a->authentic,
	        a->ttl_s, a->name, a->n);
	for (unsigned i = 0; i < a->n; i++)
		print_record(&a->records[i], asking->type);
	if (a->outcome == DNS_FAILED)
		printf(" why=%s", a->why);
	printf("\n");
	if (--*asking->n_open == 0)
		loop_stop(asking->loop);
}

static unsigned read_servers(char *list, struct resolver_server *out, unsigned max)
{
	char *save = NULL;
	unsigned n = 0;

	for (char *one = strtok_r(list, ",", &save); one && n < max; one = strtok_r(NULL, ",", &save), n++) {
		out[n] = (struct resolver_server){.trust_ad = false};
		if (!addr_parse_port(one, 53, &out[n].addr, NULL)) {
			fprintf(stderr, "dns_ask: %s is no address\n", one);
			exit(2);
		}
	}
	return n;
}

static bool set_type(struct asking *a, const char *name)
{
	for (size_t i = 0; i < array_len(types); i++)
		if (strcmp(types[i].name, name) == 0) {
			a->type = types[i].type;
			a->type_name = types[i].name;
			return true;
		}
	return false;
}

int main(int argc, char **argv)
{
	struct resolver_server servers[8];
	struct loop *loop = loop_new("ask", &clock_system);
	struct asking asking[16];
	unsigned n_open = 0;

	if (argc < 4 || argc > 3 + (int)array_len(asking)) {
		fprintf(stderr, "usage: dns_ask SERVER[,SERVER...] NAME TYPE...\n");
		return 2;
	}
	struct resolver *r = resolver_new(
	        loop, &rnd_system, NULL, servers, read_servers(argv[1], servers, array_len(servers)));
	for (int i = 3; i < argc; i++) {
		struct asking *a = &asking[i - 3];
		*a = (struct asking){.loop = loop, .n_open = &n_open};
		if (!set_type(a, argv[i])) {
			fprintf(stderr, "dns_ask: unknown type %s\n", argv[i]);
			return 2;
		}
		n_open++;
		dns_lookup(resolver_dns(r), argv[2], a->type, print_answer, a);
	}
	loop_run(loop);
	resolver_free(&r);
	loop_free(&loop);
	return 0;
}
