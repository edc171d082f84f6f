/*
 * What DNS says of the source addresses: receivers look at the PTR record of an address that mail comes from, and whether
 * the EHLO name leads back to it.
 */
#include "control/cli_host.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "base/mem.h"
#include "base/str.h"
#include "route/resolver/dns_name.h"
#include "route/resolver/resolver.h"

#define SERVERS_MAX 16
#define AT_ONCE 100               /* questions under way */
#define FIRST_US (10 * SECOND_US) /* nothing at all by then: nobody answers */
#define ALL_US (30 * SECOND_US)
#define TOLD_MAX 20
#define REVERSE_MAX 80

/* One source address: its PTR, and the addresses of the EHLO name. */
struct subject {
	struct names *names;
	const struct conf_binding *binding;
	struct addr addr;
	char *ehlo; /* owns; NULL = none that DNS could know */
	struct dns_query *query;
	bool forward; /* the question under way, or answered last */
};

struct names {
	struct errors *errors;
	struct loop *loop;
	struct dns *dns;
	struct subject *subjects;
	size_t n, next, under_way, done;
	unsigned answers, failures, n_told;
	char *why; /* owns: of the last failure */
	struct timer give_up;
	bool late, over;
};

/* --- what is told ------------------------------------------------------------------------------------------------- */

static void warn(const struct subject *s, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
static void warn(const struct subject *s, const char *fmt, ...)
{
	struct names *n = s->names;
	char text[700];
	va_list args;

	if (++n->n_told > TOLD_MAX)
		return;
	va_start(args, fmt);
	vsnprintf(text, sizeof(text), fmt, args);
	va_end(args);
	errors_add(n->errors, ERROR_WARNING, "%s: %s", s->binding->where, text);
}

static bool name_of(const struct dns_record *r, char text[DNS_NAME_TEXT_MAX])
{
	struct dns_name name = {.len = (uint8_t)r->raw.len};

	memcpy(name.wire, r->raw.data, name.len);
	return dns_name_text(&name, text);
}

static void judge_ptr(const struct subject *s, const struct dns_answer *a)
{
	char text[DNS_NAME_TEXT_MAX], first[DNS_NAME_TEXT_MAX] = "", ip[ADDR_TEXT_SIZE];
	unsigned i;

	addr_print(&s->addr, ip);
	if (a->outcome != DNS_ANSWER) {
		warn(s, "%s has no PTR record: many receivers refuse mail from it", ip);
		return;
	}
	for (i = 0; i < a->n; i++) {
		if (!name_of(&a->records[i], text))
			continue;
		if (s->ehlo && strcasecmp(text, s->ehlo) == 0)
			return;
		if (!*first)
			strcpy(first, text);
	}
	if (s->ehlo)
		warn(s, "the PTR record of %s says %s%s, but ehlo_hostname is %s", ip,
		        *first ? first : "no proper name", a->n > 1 ? " (and more)" : "", s->ehlo);
}

static void judge_forward(const struct subject *s, const struct dns_answer *a)
{
	char ip[ADDR_TEXT_SIZE], other[ADDR_TEXT_SIZE];
	unsigned i;

	addr_print(&s->addr, ip);
	for (i = 0; a->outcome == DNS_ANSWER && i < a->n; i++)
		if (addr_equal_ip(&a->records[i].addr, &s->addr))
			return;
	if (a->outcome == DNS_ANSWER)
		warn(s, "ehlo_hostname %s leads to %s%s, not to %s", s->ehlo,
		        addr_print(&a->records[0].addr, other), a->n > 1 ? " (and more)" : "", ip);
	else
		warn(s, "ehlo_hostname %s has no %s record: receivers cannot tell that it belongs to %s",
		        s->ehlo, s->addr.family == AF_INET6 ? "AAAA" : "A", ip);
}

/* --- the questions ------------------------------------------------------------------------------------------------- */

static void reverse_name(const struct addr *a, char out[REVERSE_MAX])
{
	char *at = out;

	if (a->family == AF_INET) {
		snprintf(
		        out, REVERSE_MAX, "%u.%u.%u.%u.in-addr.arpa", a->ip[3], a->ip[2], a->ip[1], a->ip[0]);
		return;
	}
	for (int i = 15; i >= 0; i--, at += 4)
		snprintf(at, 5, "%x.%x.", a->ip[i] & 15, a->ip[i] >> 4);
	strcpy(at, "ip6.arpa");
}

static void ask_more(struct names *);
static void on_answer(void *ctx, const struct dns_answer *a);

static void ask(struct subject *s, bool forward)
{
	char name[REVERSE_MAX];

	s->forward = forward;
	if (!forward) {
		reverse_name(&s->addr, name);
		s->query = dns_lookup(s->names->dns, name, DNS_PTR, on_answer, s);
	} else {
		s->query = dns_lookup(
		        s->names->dns, s->ehlo, s->addr.family == AF_INET6 ? DNS_AAAA : DNS_A, on_answer, s);
	}
}

static void end(struct names *n)
{
	n->over = true;
	timer_cancel(n->loop, &n->give_up);
	loop_stop(n->loop);
}

static void on_answer(void *ctx, const struct dns_answer *a)
{
	struct subject *s = ctx;
	struct names *n = s->names;

	s->query = NULL;
	if (a->outcome == DNS_FAILED) {
		n->failures++;
		free(n->why);
		n->why = mem_strdup(a->why);
	} else {
		n->answers++;
		if (s->forward)
			judge_forward(s, a);
		else
			judge_ptr(s, a);
	}
	if (!s->forward && s->ehlo) {
		ask(s, true);
		return;
	}
	n->under_way--;
	n->done++;
	ask_more(n);
}

static void ask_more(struct names *n)
{
	for (; n->next < n->n && n->under_way < AT_ONCE; n->next++) {
		n->under_way++;
		ask(&n->subjects[n->next], false);
	}
	if (n->done == n->n)
		end(n);
}

static void on_time(void *ctx)
{
	struct names *n = ctx;

	if (n->answers > 0 && !n->late) {
		n->late = true;
		timer_arm_in(n->loop, &n->give_up, ALL_US - FIRST_US);
		return;
	}
	end(n);
}

/* --- whom they are asked about -------------------------------------------------------------------------------------- */

/* What we say in EHLO, if it is a name and always the same. */
static const char *ehlo_name(const struct conf *conf, const struct conf_binding *b)
{
	struct conn_options o;

	conf_resolve(conf, b, NULL, &o, NULL, NULL);
	if (!o.ehlo_hostname || strcmp(o.ehlo_hostname, "__hostname__") == 0)
		return conf_process(conf)->hostname;
	return *o.ehlo_hostname == '[' || strncmp(o.ehlo_hostname, "__", 2) == 0 ? NULL : o.ehlo_hostname;
}

static void collect(struct names *n, const struct conf *conf)
{
	n->subjects = mem_array(NULL, conf_n_bindings(conf) * 2 + 1, sizeof(*n->subjects));
	for (size_t i = 0; i < conf_n_bindings(conf); i++) {
		const struct conf_binding *b = conf_binding(conf, (uint32_t)i);
		const char *ehlo = ehlo_name(conf, b);

		for (int f = 0; f < 2; f++)
			if (b->source[f].family != AF_UNSPEC)
				n->subjects[n->n++] = (struct subject){.names = n,
				        .binding = b,
				        .addr = b->source[f],
				        .ehlo = ehlo ? mem_strdup(ehlo) : NULL};
	}
}

static void cancel_all(struct names *n)
{
	for (size_t i = 0; i < n->n; i++) {
		if (n->subjects[i].query)
			dns_cancel(n->dns, &n->subjects[i].query);
		free(n->subjects[i].ehlo);
	}
	mem_free(&n->subjects);
}

static void sum_up(const struct names *n)
{
	if (n->n_told > TOLD_MAX)
		errors_add(n->errors, ERROR_WARNING, "and %u more of what DNS says", n->n_told - TOLD_MAX);
	if (n->answers == 0)
		errors_add(n->errors, ERROR_WARNING,
		        "PTR records and EHLO names are not checked: no name server answers%s%s%s",
		        n->why ? " (" : "", n->why ? n->why : "", n->why ? ")" : "");
	else if (n->done < n->n)
		errors_add(n->errors, ERROR_WARNING,
		        "PTR records and EHLO names of %zu addresses are not checked: the name servers are "
		        "slow",
		        n->n - n->done);
	else if (n->failures)
		errors_add(n->errors, ERROR_WARNING,
		        "%u questions about PTR records and EHLO names were not answered (%s)", n->failures,
		        n->why);
}

static struct resolver *make_resolver(const struct conf *conf, struct loop *loop, struct metrics *metrics)
{
	const struct dns_server_list *list = &conf_process(conf)->dns_servers;
	struct resolver_server servers[SERVERS_MAX];
	unsigned n = 0;

	for (; n < list->n && n < SERVERS_MAX; n++)
		servers[n] = (struct resolver_server){list->items[n].addr, false};
	if (n == 0)
		n = resolver_system_servers(servers, SERVERS_MAX);
	return resolver_new(loop, &rnd_system, metrics, servers, n);
}

void host_check_names(const struct conf *conf, struct errors *errors)
{
	struct loop *loop = loop_new("names", &clock_system);
	struct metrics *metrics = metrics_new();
	struct resolver *resolver = make_resolver(conf, loop, metrics);
	struct names n = {.errors = errors, .loop = loop, .dns = resolver_dns(resolver)};

	collect(&n, conf);
	timer_init(&n.give_up, on_time, &n);
	timer_arm_in(loop, &n.give_up, FIRST_US);
	ask_more(&n);
	if (!n.over)
		loop_run(loop);
	cancel_all(&n);
	if (n.n)
		sum_up(&n);
	timer_cancel(loop, &n.give_up);
	free(n.why);
	resolver_free(&resolver);
	metrics_free(&metrics);
	loop_free(&loop);
}
