/*
 * rule_test - what a test compiles to: a pattern, literals in normal form, numbers, an address or networks
 */
#include "policy/rule_internal.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include "base/names.h"

#define SET_FROM 8 /* fewer literals are compared one by one */

static bool at_literal(const struct rule_test *t, struct error *err)
{
	return error_at(err, "column %u", t->text_column);
}

static bool parse_number(const char *text, size_t len, bool units, uint64_t *out, struct error *err)
{
	char buf[32], *end;
	if (len == 0 || len >= sizeof(buf) || text[0] < '0' || text[0] > '9')
		return error_set(err, "\"%.*s\" is not a number", (int)(len < 60 ? len : 60), text);
	memcpy(buf, text, len);
	buf[len] = '\0';
	errno = 0;
	*out = strtoull(buf, &end, 10);
	unsigned shift = 0;
	if (units && *end != '\0')
		shift = ascii_ieq(end, "KB") ? 10 : ascii_ieq(end, "MB") ? 20 : ascii_ieq(end, "GB") ? 30 : 0;
	if (errno != 0 || (*end != '\0' && shift == 0) || *out > (UINT64_MAX >> 1 >> shift))
		return error_set(err,
		        units ? "\"%s\" is not a size (bytes, or a number with KB, MB or GB)"
		              : "\"%s\" is not a number",
		        buf);
	*out <<= shift;
	return true;
}

static bool compile_number(
        struct rule_test *t, const char *item, size_t len, struct pool *pool, struct error *err)
{
	(void)pool;
	return parse_number(item, len, t->ref.field == FIELD_SIZE, &t->numbers[t->n_numbers++], err);
}

static bool compile_net(
        struct rule_test *t, const char *item, size_t len, struct pool *pool, struct error *err)
{
	struct addr_net net;
	if (!addr_net_parse(pool_strndup(pool, item, len), &net, err))
		return false;
	addr_set_add(t->nets, &net, 0);
	return true;
}

/* Domains and host names: what cannot be one is kept in lower case where a host may call itself anything. */
static const char *normal_domain(
        const char *text, size_t len, bool strict, struct pool *pool, struct error *err)
{
	char out[DOMAIN_MAX + 64];
	if (len == 0)
		return "";
	if (domain_normalize(text, len, out, err))
		return pool_strdup(pool, out);
	if (strict)
		return NULL;
	char *low = pool_strndup(pool, text, len);
	for (size_t i = 0; i < len; i++)
		low[i] = ascii_lower(low[i]);
	return low;
}

static const char *normal_address(const char *text, size_t len, struct pool *pool)
{
	struct str s;
	str_init(&s);
	mailaddr_normalize(text, len, &s);
	const char *out = pool_strndup(pool, s.data, s.len);
	str_free(&s);
	return out;
}

static bool compile_literal(
        struct rule_test *t, const char *item, size_t len, struct pool *pool, struct error *err)
{
	const char *normal = NULL;
	switch (rule_field_kind(t->ref.field)) {
	case KIND_ADDRESS:
		normal = normal_address(item, len, pool);
		break;
	case KIND_DOMAIN:
		normal = normal_domain(item, len, true, pool, err);
		break;
	case KIND_HOST:
		normal = normal_domain(item, len, false, pool, err);
		break;
	default:
		normal = pool_strndup(pool, item, len);
	}
	if (normal == NULL)
		return false;
	t->literals[t->n_literals++] = normal;
	return true;
}

typedef bool compile_item(struct rule_test *, const char *, size_t, struct pool *, struct error *);

/* Items are separated by commas, with blanks around them ignored. */
static bool each_item(struct rule_test *t, compile_item *fn, struct pool *pool, struct error *err)
{
	for (const char *p = t->text;; p++) {
		size_t len = strcspn(p, ","), n = len;
		const char *item = p;
		while (n > 0 && (*item == ' ' || *item == '\t'))
			item++, n--;
		while (n > 0 && (item[n - 1] == ' ' || item[n - 1] == '\t'))
			n--;
		if (n == 0)
			return error_set(err, "an item of the list is empty");
		if (!fn(t, item, n, pool, err))
			return false;
		p += len;
		if (*p == '\0')
			return true;
	}
}

static size_t count_items(const char *text)
{
	size_t n = 1;
	for (; *text != '\0'; text++)
		n += *text == ',';
	return n;
}

static void make_set(struct rule_test *t)
{
	if (t->n_literals < SET_FROM)
		return;
	t->set = lit_table_new();
	for (size_t i = 0; i < t->n_literals; i++) {
		bool added;
		lit_table_put(t->set, t->literals[i], strlen(t->literals[i]), 0, &added);
	}
}

static bool compile_values(struct rule_test *t, struct pool *pool, struct error *err)
{
	bool list = t->op == OP_IN;
	size_t max = list ? count_items(t->text) : 1;
	compile_item *fn = compile_literal;
	switch (rule_field_kind(t->ref.field)) {
	case KIND_NUMBER:
		t->numbers = pool_alloc(pool, max * sizeof(*t->numbers));
		fn = compile_number;
		break;
	case KIND_IP:
		if (!list) {
			bool ok = addr_parse(t->text, &t->addr, err);
			addr_unmap(&t->addr);
			return ok;
		}
		t->nets = addr_set_new();
		fn = compile_net;
		break;
	default:
		t->literals = pool_alloc(pool, max * sizeof(*t->literals));
	}
	if (!list)
		return fn(t, t->text, strlen(t->text), pool, err);
	if (!each_item(t, fn, pool, err))
		return false;
	make_set(t);
	return true;
}

bool rule_test_compile(struct rule_test *t, const char *where, struct pool *pool, struct error *err)
{
	switch (t->op) {
	case OP_MATCH:
	case OP_NO_MATCH:
		t->pattern = pattern_new(t->text, where, err);
		return t->pattern != NULL || at_literal(t, err);
	case OP_LT:
	case OP_GT:
		if (rule_field_kind(t->ref.field) != KIND_NUMBER)
			return error_set(err,
			        "column %u: %s compares numbers: only size and recv_port have it", t->column,
			        rule_op_name(t->op));
		break;
	default:
		break;
	}
	return compile_values(t, pool, err) || at_literal(t, err);
}

void rule_test_release(struct rule_test *t)
{
	pattern_free(&t->pattern);
	lit_table_free(&t->set);
	addr_set_free(&t->nets);
}
