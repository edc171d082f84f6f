/*
 * Property: for random policies and messages, milter plus stamp plus deliveryd decide for each final recipient as one
 * evaluator would that knows all. The evaluator here is another one: it walks the rules it made up, top to bottom,
 * without parser, index, open rules or stamp.
 */
#include "t/lib/test.h"

#include "base/mem.h"
#include "policy/policy.h"
#include "policy/policy_trace.h"
#include "policy/stamp.h"
#include "t/lib/policy_text.h"

#define N_POLICIES 400
#define N_MESSAGES 12
#define RULES_MAX 12

static const char *const senders[] = {"", "s@a.example", "t@x.example", "s@y.example"};
static const char *const domains[] = {"", "a.example", "x.example", "y.example"};
static const char *const values[] = {"one", "two", "a", "group:pool", "nobody"};
static const char *const recipients[] = {"u@g.example", "v@g.example", "u@h.example"};
static const char *const recipient_domains[] = {"g.example", "g.example", "h.example"};
static const char *const targets[] = {"a", "b", "c", "default", "group:pool"};

/* What is known of one message; -1 = unknown, for headers: no instance. */
struct message {
	int sender, recipient;
	int headers[2][2]; /* two headers, two instances each */
	int helo, size;
};

enum what { SENDER, SENDER_DOMAIN, HEADER_A, HEADER_B, HELO, SIZE, RCPT, RCPT_DOMAIN, N_WHAT };
enum op { EQ, NE, IN, MATCH, NO_MATCH, LESS, GREATER, N_OPS };

struct node {
	char type; /* & | ! t */
	struct node *left, *right;
	enum what what;
	enum op op;
	int value, other; /* numbers of literals; other: second item of `in` */
};

struct rule {
	struct node *operands[3];
	size_t n;
	const char *target; /* NULL: header B names it */
	enum priority priority;
	char name[24];
};

static struct fake_rnd seed;

static int below(unsigned n)
{
	return (int)rnd_below(&seed.rnd, n);
}

static const char *literal(enum what what, int value)
{
	static const char *const sizes[] = {"10", "20", "30"};
	switch (what) {
	case SENDER:
		return senders[value % 4];
	case SENDER_DOMAIN:
		return domains[value % 4];
	case RCPT:
		return recipients[value % 3];
	case RCPT_DOMAIN:
		return recipient_domains[value % 3];
	case SIZE:
		return sizes[value % 3];
	default:
		return values[value % 5];
	}
}

static struct node *make_test(struct pool *pool, bool recipient)
{
	struct node *n = pool_alloc(pool, sizeof(*n));
	n->type = 't';
	n->what = recipient ? (below(2) ? RCPT : RCPT_DOMAIN) : (enum what)below(RCPT);
	n->op = (enum op)below(n->what == SIZE ? N_OPS : LESS);
	n->value = below(60);
	n->other = below(60);
	return n;
}

static struct node *make(struct pool *pool, bool recipient, int depth)
{
	if (depth == 0 || below(3) == 0)
		return make_test(pool, recipient);
	struct node *n = pool_alloc(pool, sizeof(*n));
	n->type = "&|!"[below(3)];
	n->left = make(pool, recipient, depth - 1);
	if (n->type != '!')
		n->right = make(pool, recipient, depth - 1);
	return n;
}

/* --- as text ------------------------------------------------------------------------------------------------------ */

static void print_literal(const struct node *n, struct str *out)
{
	const char *a = literal(n->what, n->value), *b = literal(n->what, n->other);
	bool pattern = n->op == MATCH || n->op == NO_MATCH;
	if (n->op == IN && *a != '\0' && *b != '\0')
		str_printf(out, "`%s , %s`", a, b);
	else
		str_printf(out, pattern ? "`^%s$`" : "`%s`", a);
}

static void print(const struct node *n, struct str *out)
{
	static const char *const names[] = {"mailfrom", "mailfrom_domain", "header:X-A", "header:x-b", "helo",
	        "size", "rcptto", "rcptto_domain"};
	static const char *const ops[] = {"==", "!=", "in", "=~", "!~", "<", ">"};
	if (n->type == 't') {
		/* `in` has no empty items */
		bool in = n->op == IN && *literal(n->what, n->value) != '\0' &&
		          *literal(n->what, n->other) != '\0';
		str_printf(out, "%s %s ", names[n->what], n->op == IN && !in ? "==" : ops[n->op]);
		print_literal(n, out);
	} else if (n->type == '!') {
		str_add(out, "NOT (");
		print(n->left, out);
		str_add(out, ")");
	} else {
		str_add(out, "(");
		print(n->left, out);
		str_add(out, n->type == '&' ? " AND " : " OR ");
		print(n->right, out);
		str_add(out, ")");
	}
}

static void print_rule(const struct rule *r, struct str *out)
{
	str_printf(out, "{'name': '%s', 'when': '", r->name);
	for (size_t i = 0; i < r->n; i++) {
		str_add(out, i == 0 ? "" : " AND ");
		print(r->operands[i], out);
	}
	if (r->target != NULL)
		str_printf(out, "', 'bind': '%s'", r->target);
	else
		str_add(out, "', 'bind': {'header': 'X-B'}");
	if (r->priority != PRIORITY_NONE)
		str_printf(out, ", 'priority': '%s'", priority_name(r->priority));
	str_add(out, "}");
}

/* --- the other evaluator ------------------------------------------------------------------------------------------ */

static bool same(const struct node *n, const char *value)
{
	const char *a = literal(n->what, n->value), *b = literal(n->what, n->other);
	bool two = n->op == IN && *a != '\0' && *b != '\0';
	return strcmp(value, a) == 0 || (two && strcmp(value, b) == 0);
}

static bool holds_header(const struct node *n, const int instances[2])
{
	bool any = false;
	for (int i = 0; i < 2; i++)
		any |= instances[i] >= 0 && same(n, values[instances[i]]);
	return n->op == NE || n->op == NO_MATCH ? !any : any;
}

static bool holds_size(const struct node *n, int size)
{
	int literal_size = 10 * (1 + n->value % 3);
	char text[12];
	if (size < 0)
		return false;
	if (n->op == LESS || n->op == GREATER)
		return n->op == LESS ? size < literal_size : size > literal_size;
	snprintf(text, sizeof(text), "%d", size);
	return same(n, text) != (n->op == NE || n->op == NO_MATCH);
}

static bool holds_test(const struct node *n, const struct message *m)
{
	const char *value = NULL;
	switch (n->what) {
	case SENDER:
		value = senders[m->sender];
		break;
	case SENDER_DOMAIN:
		value = domains[m->sender];
		break;
	case HEADER_A:
	case HEADER_B:
		return holds_header(n, m->headers[n->what - HEADER_A]);
	case HELO:
		value = m->helo < 0 ? NULL : values[m->helo];
		break;
	case SIZE:
		return holds_size(n, m->size);
	case RCPT:
		value = recipients[m->recipient];
		break;
	default:
		value = recipient_domains[m->recipient];
	}
	return value != NULL && same(n, value) != (n->op == NE || n->op == NO_MATCH);
}

static bool holds(const struct node *n, const struct message *m)
{
	switch (n->type) {
	case 't':
		return holds_test(n, m);
	case '!':
		return !holds(n->left, m);
	case '&':
		return holds(n->left, m) && holds(n->right, m);
	default:
		return holds(n->left, m) || holds(n->right, m);
	}
}

static const char *target_of(const struct rule *r, const struct message *m)
{
	const int *b = m->headers[1];
	if (r->target != NULL)
		return r->target;
	if ((b[0] < 0) == (b[1] < 0))
		return NULL; /* none, or two */
	const char *value = values[b[0] < 0 ? b[1] : b[0]];
	return strcmp(value, "a") == 0 || strcmp(value, "group:pool") == 0 ? value : NULL;
}

static void expect_choice(
        const struct rule *rules, size_t n, const struct message *m, struct recipient_choice *out)
{
	bool a = m->sender == 1;
	*out = (struct recipient_choice){
	        .target = a ? "a" : "default", .rule = a ? "match_domain" : "default", .claimed = a};
	for (size_t i = 0; i < n; i++) {
		bool all = true;
		for (size_t k = 0; k < rules[i].n; k++)
			all = all && holds(rules[i].operands[k], m);
		const char *target = all ? target_of(&rules[i], m) : NULL;
		if (target == NULL)
			continue;
		*out = (struct recipient_choice){.target = target,
		        .rule = rules[i].name,
		        .priority = rules[i].priority,
		        .claimed = true};
		return;
	}
}

/* --- the ways of a message ---------------------------------------------------------------------------------------- */

static void make_message(struct message *m)
{
	m->sender = below(4);
	for (int h = 0; h < 2; h++)
		for (int i = 0; i < 2; i++)
			m->headers[h][i] = below(6) - 1;
	m->helo = below(6) - 1;
	m->size = below(5) * 10 - 10;
	if (m->size == 0)
		m->size = -1;
}

static size_t fill_headers(const struct message *m, struct fact_header headers[4])
{
	size_t n = 0;
	for (int h = 0; h < 2; h++)
		for (int i = 0; i < 2; i++)
			if (m->headers[h][i] >= 0) {
				const char *value = values[m->headers[h][i]];
				headers[n++] =
				        (struct fact_header){h ? "X-B" : "x-a", value, 3, strlen(value)};
			}
	return n;
}

static void assert_choice(
        const struct recipient_choice *got, const struct recipient_choice *want, const char *policy)
{
	if (strcmp(got->target, want->target) != 0 || strcmp(got->rule, want->rule) != 0 ||
	        got->priority != want->priority || got->claimed != want->claimed || got->stale_rules != 0)
		fail_msg("%s by %s, not %s by %s: %s", got->target, got->rule, want->target, want->rule,
		        policy);
}

static void check_message(
        const struct policy *p, const struct rule *rules, size_t n, struct message *m, const char *text)
{
	struct fact_header headers[4];
	struct facts f = {.mailfrom = senders[m->sender],
	        .helo = m->helo < 0 ? NULL : values[m->helo],
	        .recv_port = -1,
	        .size = m->size,
	        .headers = headers,
	        .n_headers = fill_headers(m, headers)};
	struct decision d, traced, read;
	struct policy_trace trace;
	struct str stamp;
	policy_eval(p, &f, &seed.rnd, &d, NULL);
	policy_trace_init(&trace);
	policy_eval(p, &f, &seed.rnd, &traced, &trace);
	str_init(&stamp);
	stamp_print(&d, NULL, 0, NULL, &stamp);
	if (stamp_read(stamp.data, stamp.len, p, NULL, 1, 0, NULL, &read) != STAMP_OK)
		fail_msg("the stamp is not read: %s", stamp.data);
	for (m->recipient = 0; m->recipient < 3; m->recipient++) {
		const struct decision *const ways[] = {&d, &traced, &read};
		struct recipient_choice want, got;
		expect_choice(rules, n, m, &want);
		for (size_t w = 0; w < array_len(ways); w++) {
			policy_recipient(p, ways[w], recipients[m->recipient], &got);
			assert_choice(&got, &want, text);
		}
	}
	policy_trace_free(&trace);
	decision_free(&d);
	decision_free(&traced);
	decision_free(&read);
	str_free(&stamp);
}

static size_t make_rules(struct rule *rules, struct pool *pool)
{
	size_t n = 1 + (size_t)below(RULES_MAX);
	for (size_t i = 0; i < n; i++) {
		struct rule *r = &rules[i];
		*r = (struct rule){.n = 1 + (size_t)below(3), .priority = (enum priority)below(4)};
		for (size_t k = 0; k < r->n; k++)
			r->operands[k] = make(pool, below(3) == 0, below(3));
		r->target = below(6) == 0 ? NULL : targets[below(5)];
		snprintf(r->name, sizeof(r->name), "r%zu", i);
	}
	return n;
}

static void one_policy(void)
{
	struct pool *pool = pool_new(4096);
	struct rule rules[RULES_MAX];
	struct str text;
	struct message m;
	size_t n = make_rules(rules, pool);
	str_init(&text);
	str_add(&text, "[");
	for (size_t i = 0; i < n; i++) {
		str_add(&text, i > 0 ? ", " : "");
		print_rule(&rules[i], &text);
	}
	str_add(&text, "]");
	struct policy *p = policy_of_rules(text.data);
	for (int i = 0; i < N_MESSAGES; i++) {
		make_message(&m);
		check_message(p, rules, n, &m, text.data);
	}
	policy_unref(&p);
	str_free(&text);
	pool_free(&pool);
}

static void both_ways_agree(void **state)
{
	(void)state;
	fake_rnd_init(&seed, 20261120);
	for (int i = 0; i < N_POLICIES; i++)
		one_policy();
}

/* --- during a reload ---------------------------------------------------------------------------------------------- */

static struct policy *random_policy(struct pool *pool)
{
	struct rule rules[RULES_MAX];
	struct str text;
	size_t n = make_rules(rules, pool);
	str_init(&text);
	str_add(&text, "[");
	for (size_t i = 0; i < n; i++) {
		str_add(&text, i > 0 ? ", " : "");
		print_rule(&rules[i], &text);
	}
	str_add(&text, "]");
	struct policy *p = policy_of_rules(text.data);
	str_free(&text);
	return p;
}

/* deliveryd has taken `next`, the milter still stamps by `before`: what it means by its stamp holds. */
static void check_between(const struct policy *before, const struct policy *next)
{
	const struct policy *const both[] = {next, before};
	struct fact_header headers[4];
	struct message m;
	struct decision d, read;
	struct str stamp;
	make_message(&m);
	struct facts f = {.mailfrom = senders[m.sender],
	        .helo = m.helo < 0 ? NULL : values[m.helo],
	        .recv_port = -1,
	        .size = m.size,
	        .headers = headers,
	        .n_headers = fill_headers(&m, headers)};
	policy_eval(before, &f, &seed.rnd, &d, NULL);
	str_init(&stamp);
	stamp_print(&d, NULL, 0, NULL, &stamp);
	assert_int_equal(stamp_read(stamp.data, stamp.len, next, NULL, 1, 0, NULL, &read), STAMP_OK);
	for (size_t i = 0; i < array_len(recipients); i++) {
		struct recipient_choice want, got;
		policy_recipient(before, &d, recipients[i], &want);
		policy_recipient_among(both, 2, &read, recipients[i], &got, NULL);
		if (strcmp(got.target, want.target) != 0 || strcmp(got.rule, want.rule) != 0 ||
		        got.stale_rules != 0)
			fail_msg("%s by %s, not %s by %s: %s", got.target, got.rule, want.target, want.rule,
			        stamp.data);
	}
	decision_free(&d);
	decision_free(&read);
	str_free(&stamp);
}

static void the_previous_holds_until_dropped(void **state)
{
	(void)state;
	fake_rnd_init(&seed, 1120);
	for (int i = 0; i < N_POLICIES; i++) {
		struct pool *pool = pool_new(4096);
		struct policy *before = random_policy(pool), *next = random_policy(pool);
		for (int k = 0; k < N_MESSAGES; k++)
			check_between(before, next);
		policy_unref(&before);
		policy_unref(&next);
		pool_free(&pool);
	}
}

static const struct CMUnitTest tests[] = {
        cmocka_unit_test(both_ways_agree),
        cmocka_unit_test(the_previous_holds_until_dropped),
};
TEST_MAIN("policy_property", tests)
