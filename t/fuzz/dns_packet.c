/*
 * dns_packet - fuzz target: any bytes as an answer to one of our questions
 *
 * The first byte chooses the question's type and transport, the rest is the packet. The id is taken from the packet, so that
 * most inputs get past the first check. Whatever comes out keeps the reader's promises.
 */
#include "config.h"
#include "route/resolver/dns_name.h"
#include "route/resolver/dns_packet.h"

#include <ctype.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *, size_t);

static void require(bool ok)
{
	if (!ok)
		abort();
}

static void check_host(const char *host)
{
	require(strlen(host) < DNS_NAME_TEXT_MAX);
	for (const char *p = host; *p; p++)
		require(isalnum((unsigned char)*p) || *p == '-' || *p == '_' || *p == '.');
	for (const char *p = host; *p; p++)
		require(!isupper((unsigned char)*p));
}

/* readable to the end */
static void touch(const uint8_t *data, size_t len)
{
	volatile uint8_t sum = 0;

	for (size_t i = 0; i < len; i++)
		sum = (uint8_t)(sum + data[i]);
}

static void check_result(const struct dns_answer *a, enum dns_type type)
{
	require(a->outcome != DNS_FAILED);
	require((a->outcome == DNS_ANSWER) == (a->n > 0));
	require(a->n <= DNS_ANSWER_RECORDS_MAX && a->ttl_s <= INT32_MAX);
	for (unsigned i = 0; i < a->n; i++) {
		if (type == DNS_MX)
			check_host(a->records[i].mx.host);
		else if (type == DNS_A || type == DNS_AAAA)
			require(a->records[i].addr.family == (type == DNS_A ? AF_INET : AF_INET6));
		else
			touch(a->records[i].raw.data, a->records[i].raw.len);
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static const enum dns_type types[] = {
	        DNS_MX, DNS_A, DNS_AAAA, DNS_CNAME, DNS_TLSA, DNS_NS, DNS_TXT, DNS_PTR};
	struct dns_question q;
	struct dns_chain chain;
	struct dns_read out;
	enum dns_reading reading;
	uint16_t id;

	if (size < 3)
		return 0;
	id = (uint16_t)(data[1] << 8 | data[2]);
	require(dns_question_set(&q, "d.test", types[data[0] & 7], NULL));
	dns_chain_start(&chain, &q);
	reading = dns_packet_read(data + 1, size - 1, &q, id, data[0] & 8, data[0] & 16, &chain, &out);
	require((reading == DNS_READ_RESULT) == (out.result != NULL));
	require(chain.n <= DNS_CNAME_MAX + 1);
	if (reading == DNS_READ_FAILED)
		require(out.why[0] != '\0');
	if (reading == DNS_READ_FOLLOW)
		require(out.next.name.len > 0 && out.next.type == q.type &&
		        strlen(out.next.text) < DNS_NAME_TEXT_MAX);
	if (reading == DNS_READ_RESULT)
		check_result(&out.result->answer, q.type);
	dns_result_unref(&out.result);
	return 0;
}
