/* dns_packet - queries and the reading of answers; see dns_packet.h */
#include "config.h"
#include "route/resolver/dns_packet.h" /* before ldns, which else makes a bool of its own */

#include <assert.h>
#include <ldns/ldns.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/str.h"
#include "route/resolver/dns_name.h"

#define HEADER_SIZE 12
#define RR_FIXED_SIZE 10    /* type, class, TTL, length of rdata */
#define ANSWER_RRS_READ 512 /* the rest is only measured: more than 100 records are not used anyway */
#define CLASS_IN 1
#define TYPE_SOA 6
#define TYPE_OPT 41
#define RCODE_NOERROR 0
#define RCODE_FORMERR 1
#define RCODE_SERVFAIL 2
#define RCODE_NXDOMAIN 3
#define RCODE_NOTIMP 4
#define RCODE_BADVERS 16

struct packet {
	const uint8_t *raw;
	size_t len, pos;
};

struct rr {
	struct dns_name owner;
	uint16_t type, class;
	uint32_t ttl_s;
	size_t rdata, rdlen;
};

/* What the walk over all sections found */
struct sections {
	struct rr *answers; /* owns */
	unsigned n_answers;
	bool has_soa, has_ns; /* authority section */
	struct dns_name soa_owner;
	uint32_t negative_ttl_s;
	unsigned n_opt;
	unsigned extended_rcode; /* upper bits, from OPT */
};

static unsigned u16_at(const uint8_t *p)
{
	return (unsigned)p[0] << 8 | p[1];
}

static uint32_t u32_at(const uint8_t *p)
{
	return (uint32_t)u16_at(p) << 16 | u16_at(p + 2);
}

/* RFC 2181 8: a TTL with the top bit set counts as 0 */
static uint32_t ttl_at(const uint8_t *p)
{
	uint32_t ttl_s = u32_at(p);

	return ttl_s > INT32_MAX ? 0 : ttl_s;
}

/* --- queries --- */

size_t dns_packet_query(const struct dns_question *q, uint16_t id, bool edns, uint8_t out[DNS_QUERY_MAX])
{
	ldns_rdf *owner = ldns_rdf_new_frm_data(LDNS_RDF_TYPE_DNAME, q->name.len, q->name.wire);
	ldns_pkt *pkt =
	        owner ? ldns_pkt_query_new(owner, (ldns_rr_type)q->type, LDNS_RR_CLASS_IN, LDNS_RD | LDNS_AD)
	              : NULL;
	uint8_t *wire = NULL;
	size_t len = 0;

	if (!pkt)
		abort(); /* no memory: as mem_alloc() */
	ldns_pkt_set_id(pkt, id);
	if (edns)
		ldns_pkt_set_edns_udp_size(pkt, DNS_EDNS_SIZE);
	if (ldns_pkt2wire(&wire, pkt, &len) != LDNS_STATUS_OK || len > DNS_QUERY_MAX)
		abort();
	memcpy(out, wire, len);
	free(wire);
	ldns_pkt_free(pkt);
	return len;
}

void dns_chain_start(struct dns_chain *c, const struct dns_question *q)
{
	c->names[0] = q->name;
	c->n = 1;
}

/* --- walking the sections --- */

/* True with the RR's fixed part read and pos behind its rdata. */
static bool next_rr(struct packet *p, struct rr *rr, bool want_owner)
{
	const uint8_t *fixed;

	if (want_owner ? !dns_name_read(p->raw, p->len, &p->pos, &rr->owner)
	               : !dns_name_skip(p->raw, p->len, &p->pos))
		return false;
	if (p->len - p->pos < RR_FIXED_SIZE)
		return false;
	fixed = p->raw + p->pos;
	rr->type = (uint16_t)u16_at(fixed);
	rr->class = (uint16_t)u16_at(fixed + 2);
	rr->ttl_s = ttl_at(fixed + 4);
	rr->rdlen = u16_at(fixed + 8);
	rr->rdata = p->pos + RR_FIXED_SIZE;
	if (rr->rdlen > p->len - rr->rdata)
		return false;
	p->pos = rr->rdata + rr->rdlen;
	return rr->type != TYPE_OPT || want_owner;
}

static bool walk_answers(struct packet *p, unsigned count, struct sections *s)
{
	struct rr dropped;

	if (count > (p->len - p->pos) / (RR_FIXED_SIZE + 1))
		return false; /* cannot be true: allocate nothing for it */
	s->answers =
	        mem_array(NULL, (count < ANSWER_RRS_READ ? count : ANSWER_RRS_READ) + 1, sizeof(*s->answers));
	for (unsigned i = 0; i < count; i++) {
		struct rr *rr = i < ANSWER_RRS_READ ? &s->answers[i] : &dropped;
		if (!next_rr(p, rr, i < ANSWER_RRS_READ) || rr->type == TYPE_OPT)
			return false;
		s->n_answers += i < ANSWER_RRS_READ;
	}
	return true;
}

/* mname, rname, then serial, refresh, retry, expire, minimum */
static bool read_soa(const struct packet *p, const struct rr *rr, struct sections *s)
{
	size_t pos = rr->rdata, end = rr->rdata + rr->rdlen;
	uint32_t minimum_s;

	if (!dns_name_skip(p->raw, end, &pos) || !dns_name_skip(p->raw, end, &pos) || end - pos != 20)
		return false;
	minimum_s = ttl_at(p->raw + pos + 16);
	s->has_soa = true;
	s->soa_owner = rr->owner;
	s->negative_ttl_s = minimum_s < rr->ttl_s ? minimum_s : rr->ttl_s;
	return true;
}

static bool walk_authority(struct packet *p, unsigned count, struct sections *s)
{
	struct rr rr;

	for (unsigned i = 0; i < count; i++) {
		if (!next_rr(p, &rr, true) || rr.type == TYPE_OPT)
			return false;
		if (rr.class != CLASS_IN)
			continue;
		if (rr.type == DNS_NS)
			s->has_ns = true;
		if (rr.type == TYPE_SOA && !s->has_soa && !read_soa(p, &rr, s))
			return false;
	}
	return true;
}

/* Only OPT is of interest here: addresses that come along unasked are never used. */
static bool walk_additional(struct packet *p, unsigned count, struct sections *s)
{
	struct rr rr;

	for (unsigned i = 0; i < count; i++) {
		size_t start = p->pos;
		if (!next_rr(p, &rr, true))
			return false;
		if (rr.type != TYPE_OPT)
			continue;
		if (rr.owner.len != 1 || ++s->n_opt > 1)
			return false; /* RFC 6891 6.1.1 */
		s->extended_rcode = p->raw[start + 1 + 4];
	}
	return true;
}

static bool walk(struct packet *p, struct sections *s)
{
	const uint8_t *h = p->raw;

	return walk_answers(p, u16_at(h + 6), s) && walk_authority(p, u16_at(h + 8), s) &&
	       walk_additional(p, u16_at(h + 10), s) &&
	       p->pos == p->len; /* bytes left over: the counts lie */
}

/* --- is it an answer to our question --- */

static bool is_ours(struct packet *p, const struct dns_question *q, uint16_t id)
{
	const uint8_t *h = p->raw;
	struct dns_name name;
	unsigned rcode;

	if (p->len < HEADER_SIZE || u16_at(h) != id || !(h[2] & 0x80) || (h[2] & 0x78))
		return false;
	p->pos = HEADER_SIZE;
	rcode = h[3] & 15u;
	if (u16_at(h + 4) == 0) /* servers that know no EDNS may send the bare header */
		return p->len == HEADER_SIZE && (rcode == RCODE_FORMERR || rcode == RCODE_NOTIMP);
	if (u16_at(h + 4) != 1 || !dns_name_read(p->raw, p->len, &p->pos, &name) || p->len - p->pos < 4)
		return false;
	if (!dns_name_equal(&name, &q->name) || u16_at(h + p->pos) != (unsigned)q->type ||
	        u16_at(h + p->pos + 2) != CLASS_IN)
		return false;
	p->pos += 4;
	return true;
}

/* --- the records --- */

static bool use_addr(const struct packet *p, const struct rr *rr, struct dns_record *out)
{
	size_t size = rr->type == DNS_A ? 4 : 16;

	if (rr->rdlen != size)
		return false;
	out->addr.family = rr->type == DNS_A ? AF_INET : AF_INET6;
	memcpy(out->addr.ip, p->raw + rr->rdata, size);
	return true;
}

static bool rdata_name(const struct packet *p, const struct rr *rr, size_t skip, struct dns_name *name)
{
	size_t pos = rr->rdata + skip, end = rr->rdata + rr->rdlen;

	return rr->rdlen > skip && dns_name_read(p->raw, end, &pos, name) && pos == end;
}

/* Odd names (a dot or a NUL inside a label, blanks, 8-bit) can be no host: such a record is not used. */
static bool use_mx(const struct packet *p, const struct rr *rr, struct dns_result *r)
{
	struct dns_name name;
	char text[DNS_NAME_TEXT_MAX];
	struct dns_record *out;

	if (!rdata_name(p, rr, 2, &name))
		return false;
	if (!dns_name_host(&name, text))
		return true;
	out = dns_result_add(r);
	if (out) {
		out->mx.preference = (uint16_t)u16_at(p->raw + rr->rdata);
		out->mx.host = dns_result_strdup(r, text);
	}
	return true;
}

static bool use_raw(const struct packet *p, const struct rr *rr, struct dns_result *r)
{
	bool is_name = rr->type == DNS_CNAME || rr->type == DNS_NS || rr->type == DNS_PTR;
	struct dns_name name;
	struct dns_record *out;

	if (is_name && !rdata_name(p, rr, 0, &name))
		return false;
	out = dns_result_add(r);
	if (out && is_name) {
		out->raw.data = dns_result_memdup(r, name.wire, name.len);
		out->raw.len = name.len;
	} else if (out) {
		out->raw.data = dns_result_memdup(r, p->raw + rr->rdata, rr->rdlen);
		out->raw.len = (uint16_t)rr->rdlen;
	}
	return true;
}

static bool use_rr(const struct packet *p, const struct rr *rr, struct dns_result *r)
{
	struct dns_record *out;

	switch (rr->type) {
	case DNS_A:
	case DNS_AAAA:
		out = dns_result_add(r);
		return !out || use_addr(p, rr, out);
	case DNS_MX:
		return use_mx(p, rr, r);
	default:
		return use_raw(p, rr, r);
	}
}

/* --- following CNAMEs inside the packet --- */

struct reading {
	const struct packet *packet;
	const struct sections *sections;
	const struct dns_question *question;
	struct dns_chain *chain;
	struct dns_read *out;
	unsigned rcode;
	bool authoritative;
	uint32_t ttl_s; /* smallest on the way */
};

static enum dns_reading failed(struct dns_read *out, const char *why)
{
	snprintf(out->why, sizeof(out->why), "%s", why);
	return DNS_READ_FAILED;
}

static const struct dns_name *current(const struct reading *r)
{
	return &r->chain->names[r->chain->n - 1];
}

static void use_ttl(struct reading *r, uint32_t ttl_s)
{
	if (ttl_s < r->ttl_s)
		r->ttl_s = ttl_s;
}

static bool owned(const struct reading *r, const struct rr *rr, uint16_t type)
{
	return rr->class == CLASS_IN && rr->type == type && dns_name_equal(&rr->owner, current(r));
}

/* 0: no CNAME here; 1: followed; -1: out->why says */
static int follow(struct reading *r)
{
	struct dns_name target = {.len = 0}, other;

	for (unsigned i = 0; i < r->sections->n_answers; i++) {
		const struct rr *rr = &r->sections->answers[i];
		if (!owned(r, rr, DNS_CNAME))
			continue;
		if (!rdata_name(r->packet, rr, 0, &other) ||
		        (target.len && !dns_name_equal(&target, &other))) {
			failed(r->out, "malformed answer (CNAME)");
			return -1;
		}
		target = other;
		use_ttl(r, rr->ttl_s);
	}
	if (target.len == 0)
		return 0;
	r->out->loop = true;
	for (unsigned i = 0; i < r->chain->n; i++)
		if (dns_name_equal(&r->chain->names[i], &target)) {
			failed(r->out, "CNAME loop");
			return -1;
		}
	if (r->chain->n > DNS_CNAME_MAX) {
		failed(r->out, "too many CNAMEs");
		return -1;
	}
	r->out->loop = false;
	r->chain->names[r->chain->n++] = target;
	return 1;
}

static enum dns_reading take_records(struct reading *r)
{
	struct dns_result *result = dns_result_new(DNS_ANSWER);
	unsigned seen = 0;

	for (unsigned i = 0; i < r->sections->n_answers && result->answer.n < DNS_ANSWER_RECORDS_MAX; i++) {
		const struct rr *rr = &r->sections->answers[i];
		if (!owned(r, rr, (uint16_t)r->question->type))
			continue;
		seen++;
		if (!use_rr(r->packet, rr, result)) {
			dns_result_unref(&result);
			return failed(r->out, "malformed answer (rdata)");
		}
		use_ttl(r, rr->ttl_s);
	}
	if (result->answer.n == 0) {
		dns_result_unref(&result);
		/* e.g. MX records whose hosts are all odd: they stand there, so it is not "no data" */
		return seen ? failed(r->out, "no usable record in the answer") : DNS_READ_FOLLOW;
	}
	r->out->result = result;
	return DNS_READ_RESULT;
}

static bool finish_name(struct reading *r, struct dns_result *result)
{
	char text[DNS_NAME_TEXT_MAX];

	if (r->chain->n == 1) {
		dns_result_set_name(result, r->question->text);
		return true;
	}
	if (!dns_name_text(current(r), text))
		return false;
	dns_result_set_name(result, text);
	return true;
}

static enum dns_reading finish(struct reading *r, struct dns_result *result)
{
	r->out->result = NULL;
	if (!finish_name(r, result)) {
		dns_result_unref(&result);
		return failed(r->out, "malformed answer (name behind CNAME)");
	}
	result->answer.ttl_s = r->ttl_s;
	result->answer.authentic = r->out->ad;
	r->out->result = result;
	return DNS_READ_RESULT;
}

/* The chain ends at a name without the asked records. */
static enum dns_reading nothing_there(struct reading *r, bool followed)
{
	const struct sections *s = r->sections;
	bool soa = s->has_soa && dns_name_under(current(r), &s->soa_owner);

	if (r->rcode == RCODE_NOERROR && followed && !soa) {
		/* the server knows the alias, not its target (authoritative ones, local data) */
		if (!dns_name_text(current(r), r->out->next.text))
			return failed(r->out, "malformed answer (name behind CNAME)");
		r->out->next.name = *current(r);
		r->out->next.type = r->question->type;
		r->out->ttl_s = r->ttl_s;
		return DNS_READ_FOLLOW;
	}
	if (r->rcode == RCODE_NOERROR && !soa && s->has_ns && !r->authoritative)
		return failed(r->out, "referral instead of an answer (server does not recurse)");
	use_ttl(r, soa ? s->negative_ttl_s : 0);
	return finish(r, dns_result_new(r->rcode == RCODE_NXDOMAIN ? DNS_NXDOMAIN : DNS_NODATA));
}

static enum dns_reading read_answer(struct reading *r)
{
	bool followed = false;

	for (;;) {
		enum dns_reading records = take_records(r);
		if (records == DNS_READ_FAILED)
			return records;
		if (records == DNS_READ_RESULT) {
			if (r->rcode == RCODE_NOERROR)
				return finish(r, r->out->result);
			dns_result_unref(&r->out->result);
			return failed(r->out, "malformed answer (NXDOMAIN with records)");
		}
		int step = r->question->type == DNS_CNAME ? 0 : follow(r);
		if (step < 0)
			return DNS_READ_FAILED;
		if (step == 0)
			return nothing_there(r, followed);
		followed = true;
	}
}

/* --- the whole packet --- */

static enum dns_reading failed_rcode(struct dns_read *out, unsigned rcode, bool edns_sent)
{
	static const char *const names[] = {"NOERROR", "FORMERR", "SERVFAIL", "NXDOMAIN", "NOTIMP", "REFUSED",
	        "YXDOMAIN", "YXRRSET", "NXRRSET", "NOTAUTH", "NOTZONE"};

	if (edns_sent && (rcode == RCODE_FORMERR || rcode == RCODE_NOTIMP || rcode == RCODE_BADVERS))
		return DNS_READ_NO_EDNS;
	out->servfail = rcode == RCODE_SERVFAIL;
	if (rcode < array_len(names))
		return failed(out, names[rcode]);
	snprintf(out->why, sizeof(out->why), rcode == RCODE_BADVERS ? "BADVERS" : "rcode %u", rcode);
	return DNS_READ_FAILED;
}

static enum dns_reading read_sections(struct packet *p, const struct dns_question *q, bool edns_sent,
        struct dns_chain *chain, struct dns_read *out)
{
	struct sections s = {0};
	unsigned rcode = p->raw[3] & 15u;
	bool whole = walk(p, &s);
	struct reading r = {.packet = p,
	        .sections = &s,
	        .question = q,
	        .chain = chain,
	        .out = out,
	        .authoritative = p->raw[2] & 0x04,
	        .ttl_s = INT32_MAX};
	enum dns_reading result;

	rcode |= s.extended_rcode << 4;
	r.rcode = rcode;
	if (rcode != RCODE_NOERROR && rcode != RCODE_NXDOMAIN)
		result = failed_rcode(out, rcode, edns_sent);
	else if (!whole)
		result = failed(out, "malformed answer");
	else
		result = read_answer(&r);
	mem_free(&s.answers);
	return result;
}

enum dns_reading dns_packet_read(const uint8_t *raw, size_t len, const struct dns_question *q, uint16_t id,
        bool edns_sent, bool over_tcp, struct dns_chain *chain, struct dns_read *out)
{
	struct packet p = {raw, len, 0};

	memset(out, 0, sizeof(*out));
	if (!is_ours(&p, q, id))
		return DNS_READ_FOREIGN;
	if (raw[2] & 0x02)
		return over_tcp ? failed(out, "truncated answer over TCP") : DNS_READ_TRUNCATED;
	out->ad = raw[3] & 0x20;
	return read_sections(&p, q, edns_sent, chain, out);
}
