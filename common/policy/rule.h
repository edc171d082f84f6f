/*
 * rule - the rule language: text to tree, tree to normal text
 *
 * Follows    Design section 6:
 *              expr = or ;  or = and *("OR" and) ;  and = not *("AND" not) ;  not = ["NOT"] ( "(" or ")" / test )
 *              test = field ( "=~" / "!~" / "==" / "!=" / "<" / ">" / "in" ) "'" text "'"
 * Ownership  Trees live in the pool they were parsed into; patterns and address sets they hold are freed by
 *            rule_expr_release().
 * Threads    A parsed tree is immutable.
 */
#ifndef POLICY_RULE_H
#define POLICY_RULE_H

#include "base/addr.h"
#include "base/error.h"
#include "base/mem.h"
#include "base/str.h"
#include "policy/lit_table.h"
#include "policy/pattern.h"

enum rule_field {
#define FIELD(id, name, kind, need) FIELD_##id,
#include "policy/rule_field.def"
	FIELD_N
};
#define HEADER_NAME_MAX 200
enum rule_kind { KIND_ADDRESS, KIND_DOMAIN, KIND_HOST, KIND_HEADER, KIND_TEXT, KIND_NUMBER, KIND_IP };
enum rule_op { OP_MATCH, OP_NO_MATCH, OP_EQ, OP_NE, OP_LT, OP_GT, OP_IN };

struct rule_field_ref {
	enum rule_field field;
	const char *header;    /* lower case; FIELD_HEADER only */
	uint32_t header_index; /* set by the policy: its number among the headers the policy looks at */
};

struct rule_test {
	struct rule_field_ref ref;
	enum rule_op op;
	const char *text; /* the literal, escapes taken out */
	unsigned column;  /* of the field, from 1, in characters */
	unsigned text_column;
	/* compiled, by kind and op */
	struct pattern *pattern; /* owns */
	const char **literals;   /* normal forms: one for == and !=, the items of `in` */
	size_t n_literals;
	struct lit_table *set; /* owns; literals of a long `in` */
	struct addr_set *nets; /* owns; `in` on an IP field */
	struct addr addr;      /* == and != on an IP field */
	uint64_t *numbers;     /* NUMBER fields: one, or the items of `in` */
	size_t n_numbers;
};

enum rule_expr_type { EXPR_OR, EXPR_AND, EXPR_NOT, EXPR_TEST };

struct rule_expr {
	enum rule_expr_type type;
	bool has_recipient, has_other; /* tests on rcptto*, tests on anything else, somewhere below */
	unsigned column;
	size_t n;
	struct rule_expr **args; /* OR, AND: two or more, none of them of the same type; NOT: one */
	struct rule_test *test;
};

/* Parses and compiles. NULL with "column N: ..." in err. `where` names the rule in log lines about its patterns. */
struct rule_expr *rule_expr_parse(const char *text, const char *where, struct pool *, struct error *);
void rule_expr_release(struct rule_expr *);
/* "mailfrom", "header:X-Customer": for `sticky` */
bool rule_field_parse(const char *text, struct pool *, struct rule_field_ref *, struct error *);
enum rule_kind rule_field_kind(enum rule_field);
bool rule_field_is_recipient(enum rule_field);
const char *rule_field_name(enum rule_field); /* "header:" for headers */

/*
 * The normal text: tokens with one blank between them, no blank inside parentheses, only the parentheses that
 * precedence needs, header names in lower case, literals as '...' with ' and \ escaped. Two rules that differ only in
 * white space, needless parentheses or the spelling of a header name have the same normal text.
 */
void rule_expr_print(const struct rule_expr *, struct str *);
void rule_test_print(const struct rule_test *, struct str *);
/* A rule that mixes recipient tests with others: the rules it would have to be split into, for the error message.
 * False if there would be too many to be of help. */
bool rule_expr_print_split(const struct rule_expr *, struct str *);

/* Calls fn for each test, in the order written. */
void rule_expr_each_test(struct rule_expr *, void (*fn)(void *ctx, struct rule_test *), void *ctx);

#endif
