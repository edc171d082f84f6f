/*
 * dns_answer - an answer that outlives its packet: counted, immutable, shared by cache and waiters
 *
 * Threads    The queue's loop only.
 */
#ifndef ROUTE_DNS_ANSWER_H
#define ROUTE_DNS_ANSWER_H

#include <stddef.h>
#include "base/mem.h"
#include "route/resolver/dns.h"

#define DNS_ANSWER_RECORDS_MAX 100

struct dns_result {
	unsigned refs;
	struct dns_answer answer; /* pointers into pool */
	struct pool *pool;        /* owns everything, this struct too */
	size_t bytes;             /* roughly, for the cache's bound */
};

struct dns_result *dns_result_new(enum dns_outcome);
struct dns_result *dns_result_failed(const char *why); /* copied */
void dns_result_set_name(struct dns_result *, const char *);
void dns_result_set_why(struct dns_result *, const char *);
/* The next record to fill in; NULL past the bound (the record is then not used). */
struct dns_record *dns_result_add(struct dns_result *);
char *dns_result_strdup(struct dns_result *, const char *);
uint8_t *dns_result_memdup(struct dns_result *, const void *, size_t);
struct dns_result *dns_result_ref(struct dns_result *);
void dns_result_unref(struct dns_result **);

#endif
