/*
 * bench/policy - what large policies cost: load time, memory, time per message
 *
 * Shown (issue: "Speed"): policies of literals do not grow with the number of entries (10 against 100,000, ratio below
 * 1.5), and 1,000 patterns of which the last matches stay in the microseconds.
 */
#include "config.h"

#include <malloc.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "base/mem.h"
#include "base/str.h"
#include "policy/policy.h"
#include "policy/stamp.h"

#define MESSAGE_HEADERS 14
#define SAMPLES 25

struct workload {
	const char *name;
	size_t bindings, domains, literal_rules, patterns;
};

static double seconds(uint64_t us)
{
	return (double)us / 1e6;
}

static void print_bindings(const struct workload *w, struct str *s)
{
	size_t each = w->bindings ? w->domains / w->bindings : 0, left = w->domains - each * w->bindings,
	       d = 0;
	str_add(s, "{\"bindings\": {\"default\": {\"bind_address\": \"192.0.2.1\"}");
	for (size_t b = 0; b < w->bindings; b++) {
		str_printf(s, ", \"b%zu\": {\"bind_address\": \"10.%zu.%zu.%zu\", \"match_domain\": [", b,
		        b >> 16, b >> 8 & 255, b & 255);
		size_t n = each + (b < left);
		for (size_t i = 0; i < n; i++, d++)
			str_printf(s, "%s\"d%zu.customer.example\"", i ? "," : "", d);
		str_add(s, "]}");
	}
	str_add(s, "}, \"rules\": [");
}

static void print_policy(const struct workload *w, struct str *s)
{
	print_bindings(w, s);
	for (size_t i = 0; i < w->literal_rules; i++)
		str_printf(s, "%s{\"when\": \"header:X-Customer == 'c%zu'\", \"bind\": \"b%zu\"}",
		        i ? "," : "", i, i % w->bindings);
	for (size_t i = 0; i < w->patterns; i++)
		str_printf(s,
		        "%s{\"when\": \"mailfrom =~ '^[a-z]+\\\\.p%zu@.*\\\\.example$'\", \"bind\": "
		        "\"b%zu\"}",
		        i ? "," : "", i, i % w->bindings);
	str_add(s, "]}");
}

static struct policy *load(const struct workload *w, double *took, size_t *memory)
{
	struct errors errors = {.n = 0};
	struct str s;
	str_init(&s);
	print_policy(w, &s);
	size_t before = mallinfo2().uordblks + mallinfo2().hblkhd;
	uint64_t begin = clock_system.mono_us(&clock_system);
	struct conf *conf = conf_load_text("{\"hostname\": \"mta.example\"}", s.data, &errors);
	struct policy *p = conf != NULL ? policy_new(conf, &errors) : NULL;
	*took = seconds(clock_system.mono_us(&clock_system) - begin);
	if (p == NULL) {
		fprintf(stderr, "%s: %s\n", w->name, errors.items[0].text);
		exit(1);
	}
	*memory = mallinfo2().uordblks + mallinfo2().hblkhd - before;
	errors_free(&errors);
	str_free(&s);
	return p;
}

struct message {
	struct fact_header headers[MESSAGE_HEADERS];
	char from[80], customer[24];
	struct addr ip;
	struct facts facts;
};

static void fill(struct message *m, const struct workload *w, size_t i)
{
	static const char *const names[MESSAGE_HEADERS] = {"Received", "From", "To", "Subject", "Date",
	        "Message-ID", "MIME-Version", "Content-Type", "DKIM-Signature", "List-Unsubscribe",
	        "X-Mailer", "Reply-To", "Sender", "X-Customer"};
	static const char value[] =
	        " something as long as headers are, folded once\r\n\tand going on for a while";
	for (size_t h = 0; h < MESSAGE_HEADERS; h++)
		m->headers[h] = (struct fact_header){names[h], value, strlen(names[h]), sizeof(value) - 1};
	if (w->literal_rules > 0) {
		snprintf(m->customer, sizeof(m->customer), " c%zu", i % w->literal_rules);
		m->headers[MESSAGE_HEADERS - 1].value = m->customer;
		m->headers[MESSAGE_HEADERS - 1].value_len = strlen(m->customer);
	}
	if (w->patterns > 0)
		snprintf(m->from, sizeof(m->from), "<news.p%zu@some.domain.example>", w->patterns - 1);
	else
		snprintf(m->from, sizeof(m->from), "<bounce@d%zu.customer.example>",
		        w->domains ? i % w->domains : i % 10);
	m->facts = (struct facts){.mailfrom = m->from,
	        .headers = m->headers,
	        .n_headers = MESSAGE_HEADERS,
	        .recv_port = -1,
	        .size = -1};
}

static void one(const struct policy *p, const struct message *m, struct str *out)
{
	struct decision d;
	policy_eval(p, &m->facts, &rnd_system, &d, NULL);
	str_clear(out);
	stamp_print(&d, NULL, 0, NULL, out);
	if (!d.claimed)
		exit(2); /* every message of these workloads is claimed */
	decision_free(&d);
}

struct bench {
	const struct workload *w;
	struct policy *policy;
	struct message *messages;
	size_t n;
	double took, us; /* us: the best sample, since others use the machine too */
	size_t memory;
};

static void bench_init(struct bench *b, const struct workload *w, size_t n)
{
	*b = (struct bench){.w = w, .n = n, .us = 1e9};
	b->policy = load(w, &b->took, &b->memory);
	b->messages = mem_array(NULL, n, sizeof(*b->messages));
	for (size_t i = 0; i < n; i++)
		fill(&b->messages[i], w, i * 7919); /* scattered over the entries */
}

static void bench_done(struct bench *b)
{
	printf("%-34s load %7.3f s  memory %7.1f MB  message %8.3f us\n", b->w->name, b->took,
	        (double)b->memory / (1 << 20), b->us);
	fflush(stdout);
	mem_free(&b->messages);
	policy_unref(&b->policy);
}

static void sample(struct bench *b, struct str *out)
{
	uint64_t begin = clock_system.mono_us(&clock_system);
	for (size_t i = 0; i < b->n; i++)
		one(b->policy, &b->messages[i], out);
	double us = (double)(clock_system.mono_us(&clock_system) - begin) / (double)b->n;
	b->us = us < b->us ? us : b->us;
}

/* Samples of the two take turns, so that what else the machine does meets both. The ratio of many to few. */
static double compare(const struct workload *few, const struct workload *many, size_t n)
{
	struct bench a, b;
	struct str out;
	bench_init(&a, few, n);
	bench_init(&b, many, n);
	str_init(&out);
	for (int s = 0; s < SAMPLES; s++) {
		sample(&a, &out);
		sample(&b, &out);
	}
	str_free(&out);
	bench_done(&a);
	bench_done(&b);
	return b.us / a.us;
}

static void show(const struct workload *w, size_t n)
{
	struct bench b;
	struct str out;
	bench_init(&b, w, n);
	str_init(&out);
	for (int s = 0; s < SAMPLES; s++)
		sample(&b, &out);
	str_free(&out);
	bench_done(&b);
}

int main(void)
{
	static const struct workload few_domains = {"10 match_domain, 10 bindings", 10, 10, 0, 0},
	                             many_domains = {"100000 match_domain, 10000 bindings", 10000, 100000, 0,
	                                     0},
	                             few_rules = {"10 literal rules", 10, 0, 10, 0},
	                             many_rules = {"100000 literal rules, 10000 bindings", 10000, 0, 100000,
	                                     0},
	                             patterns = {"1000 patterns, the last matches", 10, 0, 0, 1000};
	double domains = compare(&few_domains, &many_domains, 20000);
	double rules = compare(&few_rules, &many_rules, 20000);
	show(&patterns, 200);
	printf("ratio 100000 to 10: match_domain %.2f, literal rules %.2f (to stay below 1.5)\n", domains,
	        rules);
	return domains < 1.5 && rules < 1.5 ? 0 : 1;
}
