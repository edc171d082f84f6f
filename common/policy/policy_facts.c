/*
 * policy_facts - one message's facts in the forms that tests compare, and the tests
 */
#include "policy/policy_internal.h"

#include <stdio.h>
#include <string.h>
#include "base/names.h"
#include "policy/policy_trace.h"

/* Unfolding removes the line breaks, keeps the white space and trims both ends. */
static void unfold(const char *raw, size_t len, struct pool *pool, struct header_value *out)
{
	char *text = pool_alloc(pool, len + 1);
	size_t n = 0, begin = 0;
	for (size_t i = 0; i < len; i++) {
		bool crlf = raw[i] == '\r' && i + 1 < len && raw[i + 1] == '\n';
		if (raw[i] != '\n' && !crlf)
			text[n++] = raw[i];
	}
	while (n > 0 && (text[n - 1] == ' ' || text[n - 1] == '\t' || text[n - 1] == '\r'))
		n--;
	while (begin < n && (text[begin] == ' ' || text[begin] == '\t' || text[begin] == '\r'))
		begin++;
	text[n] = '\0';
	out->value = text + begin;
	out->len = n - begin;
}

static bool find_header(const struct policy *p, const char *raw, size_t len, uint32_t *index)
{
	char name[HEADER_NAME_MAX];
	while (len > 0 && (raw[len - 1] == ' ' || raw[len - 1] == '\t'))
		len--;
	if (len > p->header_name_max) /* never more than HEADER_NAME_MAX */
		return false;
	for (size_t i = 0; i < len; i++)
		name[i] = ascii_lower(raw[i]);
	return lit_table_get(p->headers, name, len, index);
}

bool policy_looks_at_header(const struct policy *p, const char *name, size_t len)
{
	uint32_t index;
	return find_header(p, name, len, &index);
}

static void collect_header(struct eval *ev, const struct fact_header *h)
{
	uint32_t index;
	if (!find_header(ev->policy, h->name, h->name_len, &index))
		return;
	struct header_chain *chain = &ev->headers[index];
	struct header_value *v = pool_alloc(ev->pool, sizeof(*v));
	unfold(h->value, h->value_len, ev->pool, v);
	const struct lit_table *filed = ev->policy->index.by_header[index];
	if (filed != NULL) {
		v->hash = lit_table_hash(v->value, v->len);
		lit_table_expect(filed, v->hash);
	}
	if (chain->last != NULL)
		chain->last->next = v;
	else
		chain->first = v;
	chain->last = v;
	chain->n++;
}

static void collect_headers(struct eval *ev)
{
	if (ev->policy->n_headers == 0)
		return;
	ev->headers = pool_alloc(ev->pool, ev->policy->n_headers * sizeof(*ev->headers));
	for (size_t i = 0; i < ev->facts->n_headers; i++)
		collect_header(ev, &ev->facts->headers[i]);
}

static const char *normal_address(struct eval *ev, const char *raw, const char **domain)
{
	struct str s;
	struct mailaddr parts;
	str_init(&s);
	mailaddr_normalize(raw, strlen(raw), &s);
	const char *text = pool_strndup(ev->pool, s.data, s.len);
	*domain = "";
	if (mailaddr_split(text, s.len, &parts) && parts.domain_len > 0)
		*domain = pool_strndup(ev->pool, parts.domain, parts.domain_len);
	str_free(&s);
	return text;
}

/* "unknown" (Postfix) and "[192.0.2.1]" (Sendmail) say that the address has no name. */
static const char *known_host(const char *host)
{
	if (host == NULL || host[0] == '[' || host[0] == '\0' || ascii_ieq(host, "unknown"))
		return NULL;
	return host;
}

static void set_addr(const struct addr *given, struct addr *out, char text[ADDR_TEXT_SIZE])
{
	if (given == NULL || given->family == AF_UNSPEC)
		return;
	*out = *given;
	out->port = 0;
	addr_unmap(out);
	addr_print(out, text);
}

void eval_init(struct eval *ev, const struct policy *policy, const struct facts *facts, struct pool *pool)
{
	*ev = (struct eval){.policy = policy, .facts = facts, .pool = pool};
	ev->mailfrom = normal_address(ev, facts->mailfrom, &ev->mailfrom_domain);
	ev->domain_hash = lit_table_hash(ev->mailfrom_domain, strlen(ev->mailfrom_domain));
	lit_table_expect(policy->domains, ev->domain_hash);
	struct addr recv;
	if (facts->recv_ip != NULL && addr_parse(facts->recv_ip, &recv, NULL))
		set_addr(&recv, &ev->recv_ip, ev->recv_ip_text);
	set_addr(facts->sender_ip, &ev->sender_ip, ev->sender_ip_text);
	collect_headers(ev);
}

void eval_set_recipient(struct eval *ev, const char *rcpt)
{
	ev->rcpt = normal_address(ev, rcpt, &ev->rcpt_domain);
}

void eval_done(struct eval *ev)
{
	pattern_scratch_free(&ev->scratch);
}

static const char *normal_host(struct eval *ev, const char *host, const char **cache)
{
	char out[DOMAIN_MAX + 64];
	if (host == NULL || *cache != NULL)
		return *cache;
	if (domain_normalize(host, strlen(host), out, NULL))
		return *cache = pool_strdup(ev->pool, out);
	char *low = pool_strdup(ev->pool, host);
	for (char *p = low; *p != '\0'; p++)
		*p = ascii_lower(*p);
	return *cache = low;
}

static bool fact_number(const struct eval *ev, enum rule_field field, uint64_t *out)
{
	int64_t n = field == FIELD_SIZE ? ev->facts->size : ev->facts->recv_port;
	*out = (uint64_t)n;
	return n >= 0;
}

/* The text of a field that is not a header; `raw`: as patterns see it. False = unknown. */
static bool fact_text(struct eval *ev, enum rule_field field, bool raw, const char **value, size_t *len)
{
	const struct facts *f = ev->facts;
	const char *text = NULL;
	switch (field) {
	case FIELD_MAILFROM:
		text = ev->mailfrom;
		break;
	case FIELD_MAILFROM_DOMAIN:
		text = ev->mailfrom_domain;
		break;
	case FIELD_RCPTTO:
		text = ev->rcpt;
		break;
	case FIELD_RCPTTO_DOMAIN:
		text = ev->rcpt_domain;
		break;
	case FIELD_SENDER_IP:
		text = ev->sender_ip.family != AF_UNSPEC ? ev->sender_ip_text : NULL;
		break;
	case FIELD_RECV_IP:
		text = ev->recv_ip.family != AF_UNSPEC ? ev->recv_ip_text : NULL;
		break;
	case FIELD_SENDER_HOST:
		text = raw ? known_host(f->sender_host)
		           : normal_host(ev, known_host(f->sender_host), &ev->sender_host);
		break;
	case FIELD_HELO:
		text = raw ? f->helo : normal_host(ev, f->helo, &ev->helo);
		break;
	case FIELD_AUTH_USER:
		text = f->auth_user;
		break;
	case FIELD_DAEMON_NAME:
		text = f->daemon_name;
		break;
	case FIELD_BODY:
		*value = f->body;
		*len = f->body_len;
		return f->body != NULL;
	default:
		return false;
	}
	*value = text;
	*len = text != NULL ? strlen(text) : 0;
	return text != NULL;
}

static const char *number_text(struct eval *ev, uint64_t n)
{
	char buf[24];
	snprintf(buf, sizeof(buf), "%llu", (unsigned long long)n);
	return pool_strdup(ev->pool, buf);
}

static bool is_number(enum rule_field field)
{
	return rule_field_kind(field) == KIND_NUMBER;
}

bool eval_field_text(struct eval *ev, const struct rule_field_ref *ref, const char **value, size_t *len)
{
	uint64_t number;
	if (ref->field == FIELD_HEADER) {
		const struct header_value *v = ev->headers[ref->header_index].first;
		if (v == NULL)
			return false;
		*value = v->value;
		*len = v->len;
		return true;
	}
	if (!is_number(ref->field))
		return fact_text(ev, ref->field, false, value, len);
	if (!fact_number(ev, ref->field, &number))
		return false;
	*value = number_text(ev, number);
	*len = strlen(*value);
	return true;
}

/* --- tests: each compares without regard to negation; `known` is left true ------------------------------------- */

static bool same(const char *literal, const char *value, size_t len)
{
	return strlen(literal) == len && memcmp(literal, value, len) == 0;
}

static bool test_text(struct eval *ev, const struct rule_test *t, const char *value, size_t len)
{
	uint32_t ignored;
	if (t->pattern != NULL)
		return pattern_match(t->pattern, &ev->scratch, value, len);
	if (t->set != NULL)
		return lit_table_get(t->set, value, len, &ignored);
	for (size_t i = 0; i < t->n_literals; i++)
		if (same(t->literals[i], value, len))
			return true;
	return false;
}

static const struct header_value *matching_header(struct eval *ev, const struct rule_test *t)
{
	const struct header_value *v = ev->headers[t->ref.header_index].first;
	while (v != NULL && !test_text(ev, t, v->value, v->len))
		v = v->next;
	return v;
}

bool eval_tested_text(struct eval *ev, const struct rule_test *t, const char **value, size_t *len)
{
	const struct header_value *v = t->ref.field == FIELD_HEADER ? matching_header(ev, t) : NULL;
	if (v == NULL)
		return eval_field_text(ev, &t->ref, value, len);
	*value = v->value;
	*len = v->len;
	return true;
}

static bool test_number(struct eval *ev, const struct rule_test *t, uint64_t number)
{
	if (t->pattern != NULL) {
		const char *text = number_text(ev, number);
		return pattern_match(t->pattern, &ev->scratch, text, strlen(text));
	}
	if (t->op == OP_LT)
		return number < t->numbers[0];
	if (t->op == OP_GT)
		return number > t->numbers[0];
	for (size_t i = 0; i < t->n_numbers; i++)
		if (t->numbers[i] == number)
			return true;
	return false;
}

static bool test_ip(struct eval *ev, const struct rule_test *t, bool *known)
{
	bool sender = t->ref.field == FIELD_SENDER_IP;
	const struct addr *a = sender ? &ev->sender_ip : &ev->recv_ip;
	const char *text = sender ? ev->sender_ip_text : ev->recv_ip_text;
	*known = a->family != AF_UNSPEC;
	if (!*known)
		return false;
	if (t->pattern != NULL)
		return pattern_match(t->pattern, &ev->scratch, text, strlen(text));
	return t->nets != NULL ? addr_set_find(t->nets, a, NULL) : addr_equal_ip(a, &t->addr);
}

static bool test_positive(struct eval *ev, const struct rule_test *t, bool *known)
{
	const char *value;
	size_t len;
	uint64_t number;
	*known = true;
	switch (rule_field_kind(t->ref.field)) {
	case KIND_HEADER:
		return matching_header(ev, t) != NULL;
	case KIND_NUMBER:
		*known = fact_number(ev, t->ref.field, &number);
		return *known && test_number(ev, t, number);
	case KIND_IP:
		return test_ip(ev, t, known);
	default:
		*known = fact_text(ev, t->ref.field, t->pattern != NULL, &value, &len);
		return *known && test_text(ev, t, value, len);
	}
}

bool eval_test_known(struct eval *ev, const struct rule_test *t, bool *known)
{
	bool result = test_positive(ev, t, known);
	if (t->op == OP_NE || t->op == OP_NO_MATCH)
		result = *known && !result;
	return result;
}

static bool eval_test(struct eval *ev, const struct rule_test *t)
{
	bool known;
	bool result = eval_test_known(ev, t, &known);
	if (ev->trace_rule != NULL)
		trace_add_test(ev, t, known, result);
	return result;
}

bool eval_expr(struct eval *ev, const struct rule_expr *e)
{
	bool all = ev->trace_rule != NULL; /* explain shows every test */
	bool result = e->type == EXPR_AND;
	switch (e->type) {
	case EXPR_TEST:
		return eval_test(ev, e->test);
	case EXPR_NOT:
		return !eval_expr(ev, e->args[0]);
	case EXPR_AND:
		for (size_t i = 0; i < e->n && (result || all); i++)
			result &= eval_expr(ev, e->args[i]);
		return result;
	case EXPR_OR:
		for (size_t i = 0; i < e->n && (!result || all); i++)
			result |= eval_expr(ev, e->args[i]);
		return result;
	}
	return false;
}

bool eval_all(struct eval *ev, struct rule_expr *const *args, size_t n)
{
	bool result = true;
	for (size_t i = 0; i < n && (result || ev->trace_rule != NULL); i++)
		result &= eval_expr(ev, args[i]);
	return result;
}
