/* dns_answer - see dns_answer.h */
#include "config.h"
#include <string.h>

#include "route/resolver/dns_answer.h"

struct dns_result *dns_result_new(enum dns_outcome outcome)
{
	struct pool *pool = pool_new(512);
	struct dns_result *r = pool_alloc(pool, sizeof(*r));

	r->refs = 1;
	r->pool = pool;
	r->bytes = 512;
	r->answer.outcome = outcome;
	r->answer.name = r->answer.why = "";
	return r;
}

struct dns_result *dns_result_failed(const char *why)
{
	struct dns_result *r = dns_result_new(DNS_FAILED);

	dns_result_set_why(r, why);
	return r;
}

char *dns_result_strdup(struct dns_result *r, const char *text)
{
	r->bytes += strlen(text) + 1;
	return pool_strdup(r->pool, text);
}

uint8_t *dns_result_memdup(struct dns_result *r, const void *data, size_t len)
{
	uint8_t *copy = pool_alloc(r->pool, len ? len : 1);

	r->bytes += len;
	memcpy(copy, data, len);
	return copy;
}

void dns_result_set_name(struct dns_result *r, const char *name)
{
	r->answer.name = dns_result_strdup(r, name);
}

void dns_result_set_why(struct dns_result *r, const char *why)
{
	r->answer.why = dns_result_strdup(r, why);
}

/* Growing leaves the old array in the pool; with at most 100 records that is little. */
struct dns_record *dns_result_add(struct dns_result *r)
{
	struct dns_record *records =
	        (struct dns_record *)(uintptr_t)r->answer.records; /* ours until shared */
	unsigned n = r->answer.n;

	if (n == DNS_ANSWER_RECORDS_MAX)
		return NULL;
	if (n == 0 || (n >= 4 && (n & (n - 1)) == 0)) {
		struct dns_record *more = pool_alloc(r->pool, (n ? 2 * n : 4) * sizeof(*more));
		if (n)
			memcpy(more, records, n * sizeof(*more));
		r->bytes += (n ? 2 * n : 4) * sizeof(*more);
		r->answer.records = records = more;
	}
	r->answer.n++;
	return &records[n];
}

struct dns_result *dns_result_ref(struct dns_result *r)
{
	r->refs++;
	return r;
}

void dns_result_unref(struct dns_result **p)
{
	struct dns_result *r = *p;

	*p = NULL;
	if (!r || --r->refs > 0)
		return;
	struct pool *pool = r->pool;
	pool_free(&pool);
}
