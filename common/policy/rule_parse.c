/*
 * rule_parse - recursive descent over the grammar in rule.h; what the tests compile to is rule_test.c's
 */
#include "policy/rule_internal.h"

#include <stdio.h>
#include <string.h>
#include "base/log.h"

#define DEPTH_MAX 64 /* parentheses in parentheses; the parser and the evaluator recurse */

struct parser {
	const char *text, *p;
	const char *where;
	struct pool *pool;
	struct error *err;
	unsigned depth;
};

static const struct {
	const char *name;
	enum rule_kind kind;
} fields[] = {
#define FIELD(id, name, kind, need) {name, KIND_##kind},
#include "policy/rule_field.def"
};

static const char *const op_names[] = {"=~", "!~", "==", "!=", "<", ">", "in"};

enum rule_kind rule_field_kind(enum rule_field f)
{
	return fields[f].kind;
}

bool rule_field_is_recipient(enum rule_field f)
{
	return f == FIELD_RCPTTO || f == FIELD_RCPTTO_DOMAIN;
}

const char *rule_field_name(enum rule_field f)
{
	return fields[f].name;
}

const char *rule_op_name(enum rule_op op)
{
	return op_names[op];
}

/* Columns count characters, as an editor does, not bytes. */
static unsigned column_of(const struct parser *ps, const char *at)
{
	unsigned column = 1;
	for (const char *p = ps->text; p < at; p++)
		column += ((unsigned char)*p & 0xc0) != 0x80;
	return column;
}

static void skip_blanks(struct parser *ps)
{
	while (*ps->p == ' ' || *ps->p == '\t' || *ps->p == '\r' || *ps->p == '\n')
		ps->p++;
}

static bool is_word(char c)
{
	return c == '_' || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9');
}

static size_t word_len(const char *p)
{
	size_t n = 0;
	while (is_word(p[n]))
		n++;
	return n;
}

static bool word_is(const char *p, const char *word)
{
	return word_len(p) == strlen(word) && strncmp(p, word, strlen(word)) == 0;
}

/* What stands at p, for "found ..." */
static const char *found(const char *p, char *buf, size_t size)
{
	if (*p == '\0')
		return "the end";
	size_t n = word_len(p);
	if (n == 0)
		for (n = 1; ((unsigned char)p[n] & 0xc0) == 0x80;)
			n++;
	return log_quote(p, n < 40 ? n : 40, buf, size);
}

static bool expected(struct parser *ps, const char *what)
{
	char buf[200];
	return error_set(ps->err, "column %u: expected %s, found %s", column_of(ps, ps->p), what,
	        found(ps->p, buf, sizeof(buf)));
}

static bool is_keyword_in_wrong_case(const char *p)
{
	static const char *const words[] = {"AND", "OR", "NOT"};
	for (size_t i = 0; i < array_len(words); i++)
		if (ascii_ieq_mem(p, word_len(p), words[i], strlen(words[i])))
			return strncmp(p, words[i], strlen(words[i])) != 0;
	return false;
}

static bool wrong_case(struct parser *ps)
{
	return error_set(ps->err, "column %u: \"%.*s\": AND, OR and NOT are written in upper case",
	        column_of(ps, ps->p), (int)word_len(ps->p), ps->p);
}

static bool parse_header_name(struct parser *ps, struct rule_field_ref *ref)
{
	/* RFC 5322 field names less what would swallow an operator, a quote or a parenthesis of the rule */
	size_t n = 0;
	while (ps->p[n] > ' ' && ps->p[n] < 0x7f && strchr(":=!<>'()", ps->p[n]) == NULL)
		n++;
	if (n == 0)
		return expected(ps, "the name of a header");
	if (n > HEADER_NAME_MAX)
		return error_set(ps->err, "column %u: the name of a header has at most %d bytes",
		        column_of(ps, ps->p), HEADER_NAME_MAX);
	char *name = pool_strndup(ps->pool, ps->p, n);
	for (size_t i = 0; i < n; i++)
		name[i] = ascii_lower(name[i]);
	ref->header = name;
	ps->p += n;
	return true;
}

static bool parse_field(struct parser *ps, struct rule_field_ref *ref)
{
	size_t n = word_len(ps->p);
	for (size_t i = 0; n > 0 && i < FIELD_N; i++) {
		size_t len = strlen(fields[i].name);
		bool header = i == FIELD_HEADER;
		if (n != len - header || strncmp(ps->p, fields[i].name, n) != 0)
			continue;
		ref->field = (enum rule_field)i;
		if (!header) {
			ps->p += n;
			return true;
		}
		ps->p += n;
		if (*ps->p != ':')
			return expected(ps, "\":\" and the name of a header (header:X-Customer)");
		ps->p++;
		return parse_header_name(ps, ref);
	}
	return expected(ps, "a field (mailfrom, mailfrom_domain, rcptto, rcptto_domain, header:NAME, body, "
	                    "size, sender_ip, "
	                    "sender_host, helo, auth_user, recv_ip, recv_port, daemon_name)");
}

static bool parse_op(struct parser *ps, enum rule_op *op)
{
	for (size_t i = 0; i < array_len(op_names); i++) {
		size_t n = strlen(op_names[i]);
		if (strncmp(ps->p, op_names[i], n) != 0 || (i == OP_IN && is_word(ps->p[n])))
			continue;
		*op = (enum rule_op)i;
		ps->p += n;
		return true;
	}
	return expected(ps, "an operator (=~ !~ == != < > in)");
}

static bool parse_literal(struct parser *ps, struct rule_test *t)
{
	if (*ps->p != '\'')
		return expected(ps, "text in single quotes");
	t->text_column = column_of(ps, ps->p);
	const char *p = ps->p + 1;
	char *out = pool_alloc(ps->pool, strlen(p) + 1);
	t->text = out;
	for (; *p != '\''; p++) {
		if (*p == '\0')
			return error_set(ps->err,
			        "column %u: the text that begins here is not closed: expected '",
			        t->text_column);
		if (*p == '\\' && (p[1] == '\'' || p[1] == '\\'))
			p++;
		*out++ = *p;
	}
	ps->p = p + 1;
	return true;
}

static struct rule_expr *node(struct parser *ps, enum rule_expr_type type, unsigned column)
{
	struct rule_expr *e = pool_alloc(ps->pool, sizeof(*e));
	e->type = type;
	e->column = column;
	return e;
}

static void add_arg(struct parser *ps, struct rule_expr *e, struct rule_expr *arg)
{
	/* doubling: the pool keeps the old arrays, together no larger than the last */
	if ((e->n & (e->n - 1)) == 0) {
		struct rule_expr **args =
		        pool_alloc(ps->pool, (e->n ? e->n * 2 : 1) * sizeof(struct rule_expr *));
		if (e->n > 0)
			memcpy(args, e->args, e->n * sizeof(struct rule_expr *));
		e->args = args;
	}
	e->args[e->n++] = arg;
	e->has_recipient |= arg->has_recipient;
	e->has_other |= arg->has_other;
}

/* A part in parentheses of the same type is the same as its operands written out. */
static void add_flat(struct parser *ps, struct rule_expr *e, struct rule_expr *arg)
{
	if (arg->type != e->type) {
		add_arg(ps, e, arg);
		return;
	}
	for (size_t i = 0; i < arg->n; i++)
		add_arg(ps, e, arg->args[i]);
}

static struct rule_expr *parse_test(struct parser *ps)
{
	struct rule_expr *e = node(ps, EXPR_TEST, column_of(ps, ps->p));
	struct rule_test *t = pool_alloc(ps->pool, sizeof(*t));
	e->test = t;
	t->column = e->column;
	if (!parse_field(ps, &t->ref))
		return NULL;
	skip_blanks(ps);
	if (!parse_op(ps, &t->op))
		return NULL;
	skip_blanks(ps);
	if (!parse_literal(ps, t) || !rule_test_compile(t, ps->where, ps->pool, ps->err)) {
		rule_test_release(t);
		return NULL;
	}
	e->has_recipient = rule_field_is_recipient(t->ref.field);
	e->has_other = !e->has_recipient;
	return e;
}

static struct rule_expr *parse_or(struct parser *ps);

static struct rule_expr *parse_primary(struct parser *ps)
{
	if (*ps->p != '(')
		return is_keyword_in_wrong_case(ps->p) ? (wrong_case(ps), NULL) : parse_test(ps);
	unsigned column = column_of(ps, ps->p);
	if (++ps->depth > DEPTH_MAX) {
		error_set(
		        ps->err, "column %u: more than %d parentheses inside each other", column, DEPTH_MAX);
		return NULL;
	}
	ps->p++;
	struct rule_expr *e = parse_or(ps);
	if (e == NULL)
		return NULL;
	skip_blanks(ps);
	if (*ps->p != ')') {
		char what[80];
		snprintf(what, sizeof(what), "AND, OR or the ) that closes column %u", column);
		if (is_keyword_in_wrong_case(ps->p))
			wrong_case(ps);
		else
			expected(ps, what);
		rule_expr_release(e);
		return NULL;
	}
	ps->p++;
	ps->depth--;
	return e;
}

static struct rule_expr *parse_not(struct parser *ps)
{
	skip_blanks(ps);
	if (!word_is(ps->p, "NOT"))
		return parse_primary(ps);
	struct rule_expr *e = node(ps, EXPR_NOT, column_of(ps, ps->p));
	ps->p += 3;
	skip_blanks(ps);
	if (word_is(ps->p, "NOT")) {
		expected(ps, "a test or ( after NOT");
		return NULL;
	}
	struct rule_expr *arg = parse_primary(ps);
	if (arg == NULL)
		return NULL;
	add_arg(ps, e, arg);
	return e;
}

/* One level of the grammar: operands joined by `word`; a single operand is returned as it is. */
static struct rule_expr *parse_joined(struct parser *ps, enum rule_expr_type type, const char *word,
        struct rule_expr *(*operand)(struct parser *))
{
	skip_blanks(ps);
	unsigned column = column_of(ps, ps->p);
	struct rule_expr *first = operand(ps), *all = NULL;
	if (first == NULL)
		return NULL;
	for (;;) {
		skip_blanks(ps);
		if (!word_is(ps->p, word))
			return all ? all : first;
		ps->p += strlen(word);
		if (all == NULL) {
			all = node(ps, type, column);
			add_flat(ps, all, first);
		}
		struct rule_expr *next = operand(ps);
		if (next == NULL) {
			rule_expr_release(all);
			return NULL;
		}
		add_flat(ps, all, next);
	}
}

static struct rule_expr *parse_and(struct parser *ps)
{
	return parse_joined(ps, EXPR_AND, "AND", parse_not);
}

static struct rule_expr *parse_or(struct parser *ps)
{
	return parse_joined(ps, EXPR_OR, "OR", parse_and);
}

struct rule_expr *rule_expr_parse(const char *text, const char *where, struct pool *pool, struct error *err)
{
	struct parser ps = {.text = text, .p = text, .where = where, .pool = pool, .err = err};
	struct rule_expr *e = parse_or(&ps);
	if (e == NULL)
		return NULL;
	skip_blanks(&ps);
	if (*ps.p == '\0')
		return e;
	if (is_keyword_in_wrong_case(ps.p))
		wrong_case(&ps);
	else
		expected(&ps, "AND, OR or the end of the rule");
	rule_expr_release(e);
	return NULL;
}

bool rule_field_parse(const char *text, struct pool *pool, struct rule_field_ref *ref, struct error *err)
{
	struct parser ps = {.text = text, .p = text, .pool = pool, .err = err};
	*ref = (struct rule_field_ref){.field = FIELD_N};
	if (!parse_field(&ps, ref))
		return false;
	return *ps.p == '\0' || expected(&ps, "the end after the field");
}

void rule_expr_release(struct rule_expr *e)
{
	if (e->test != NULL)
		rule_test_release(e->test);
	for (size_t i = 0; i < e->n; i++)
		rule_expr_release(e->args[i]);
}

void rule_expr_each_test(struct rule_expr *e, void (*fn)(void *ctx, struct rule_test *), void *ctx)
{
	if (e->test != NULL)
		fn(ctx, e->test);
	for (size_t i = 0; i < e->n; i++)
		rule_expr_each_test(e->args[i], fn, ctx);
}
