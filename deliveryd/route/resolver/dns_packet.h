/*
 * dns_packet - makes queries, reads what comes back from anybody
 *
 * Purpose    Names and queries in wire form are ldns's work; every length, count and pointer of a packet is
 * checked here before ldns sees it. What is no answer to our question is told apart from a bad answer: the
 * first is waited past (RFC 5452), the second is a failure of the server. Follows    RFC 1035 4, 2181, 2308
 * (negative answers), 5452, 6840 5.7 (AD in queries), 6891 (EDNS0). Threads    Pure functions.
 */
#ifndef ROUTE_DNS_PACKET_H
#define ROUTE_DNS_PACKET_H

#include <stddef.h>
#include "base/error.h"
#include "route/resolver/dns.h"
#include "route/resolver/dns_answer.h"

#define DNS_NAME_MAX 255      /* wire form */
#define DNS_NAME_TEXT_MAX 256 /* text without final dot, and the NUL */
#define DNS_CNAME_MAX 8
#define DNS_QUERY_MAX 512
#define DNS_EDNS_SIZE 1232 /* fits one IPv6 packet anywhere */

struct dns_name {
	uint8_t wire[DNS_NAME_MAX]; /* lower case, not compressed, with the root's 0 */
	uint8_t len;
};

struct dns_question {
	struct dns_name name;
	char text[DNS_NAME_TEXT_MAX]; /* lower case, no final dot; "" = root */
	enum dns_type type;
};
/* "example.com", "Example.COM.", "." False: not a name that DNS can hold (or one with a backslash). */
bool dns_question_set(struct dns_question *, const char *name, enum dns_type, struct error *);

/* Returns the length. RD and AD set; with edns an OPT record of DNS_EDNS_SIZE. */
size_t dns_packet_query(const struct dns_question *, uint16_t id, bool edns, uint8_t out[DNS_QUERY_MAX]);

/* The names a lookup has come through, the asked one first */
struct dns_chain {
	struct dns_name names[DNS_CNAME_MAX + 1];
	unsigned n;
};
void dns_chain_start(struct dns_chain *, const struct dns_question *);

enum dns_reading {
	DNS_READ_FOREIGN,   /* not an answer to this question: wait on */
	DNS_READ_TRUNCATED, /* ask again over TCP */
	DNS_READ_NO_EDNS,   /* FORMERR, NOTIMP or BADVERS: ask again without EDNS */
	DNS_READ_FAILED,    /* rcode or malformed; why says */
	DNS_READ_FOLLOW,    /* the answer ends in a CNAME whose target it does not tell: ask for `next` */
	DNS_READ_RESULT,    /* answer, no data, no such name */
};
struct dns_read {
	struct dns_result *result; /* DNS_READ_RESULT: caller's; TTL not clamped, AD as sent */
	struct dns_question next;  /* DNS_READ_FOLLOW */
	uint32_t ttl_s;            /* DNS_READ_FOLLOW: of the CNAMEs so far */
	bool ad;
	bool servfail; /* DNS_READ_FAILED: of a validator perhaps its judgement */
	bool loop; /* DNS_READ_FAILED for good: a CNAME loop or too long a chain; other servers say the same
	            */
	char why[128];
};
/* `chain` grows by the CNAMEs followed. */
enum dns_reading dns_packet_read(const uint8_t *raw, size_t len, const struct dns_question *, uint16_t id,
        bool edns_sent, bool over_tcp, struct dns_chain *chain, struct dns_read *out);

#endif
