/*
 * policy_internal - the compiled policy, between the files of this module
 *
 * Path of a rule   conf_rule() -> policy_rule.c (keys, names, N and R) -> rule_parse.c (condition), policy_bind.c
 *                  (targets) -> policy_index.c (which rules can match at all) -> policy_check.c (warnings).
 * Path of a message  policy_eval.c asks policy_index.c for candidates, policy_facts.c for tests, policy_bind.c for the
 *                  choice; deliveryd goes on per recipient in policy_recipient.c.
 */
#ifndef POLICY_INTERNAL_H
#define POLICY_INTERNAL_H

#include <stdatomic.h>
#include "policy/policy.h"
#include "policy/rule.h"

enum bind_type { BIND_TARGETS, BIND_HEADER };

struct bind {
	enum bind_type type;
	const char **targets; /* "acme", "group:shared" */
	double *weights;      /* > 0 */
	double total;
	size_t n;
	struct rule_field_ref header; /* BIND_HEADER: whose value names the target */
	bool has_sticky;
	struct rule_field_ref sticky;
};

struct rule {
	/* what a message that is found by its literal touches, in one cache line */
	_Alignas(MEM_CACHE_LINE) const
	        char *only_target; /* BIND_TARGETS with one target and no sticky: nothing to choose */
	const char *name;          /* as given, else the digest */
	char digest[9];
	bool named;
	bool is_its_literal; /* the condition is the one test it is filed under: finding it is enough */
	enum priority priority;
	/* operands of the top-level AND: those without recipient tests, those with nothing else */
	size_t n_n, n_r;
	struct rule_expr **n_args, **r_args;
	const char *where; /* "policy.json: rules[3]" */
	const char *when;  /* normal text */
	struct rule_expr *expr;
	struct bind bind;
	uint32_t same_digest; /* next rule with this digest, or NO_RULE */
};
#define NO_RULE UINT32_MAX

#define POSTING_LIST UINT32_C(0x80000000)

/* One field whose literals the index knows. */
struct index_space {
	enum rule_field field;
	uint32_t header_index;
	struct lit_table *table; /* owns; literal -> the rule, or POSTING_LIST + number of a posting list */
};

struct policy_index {
	struct index_space *spaces;
	size_t n_spaces;
	const struct lit_table *
	        *by_header; /* owns the array; the header's space; NULL = no rule is filed there */
	struct posting {
		uint32_t *rules; /* ascending */
		uint32_t n, size;
	} * postings;
	size_t n_postings;
	uint32_t *always; /* rules no literal stands before, ascending */
	size_t n_always;
};

/* A binding as match_domain finds it. */
struct claimant {
	struct addr_set *nets; /* owns; match_domain_from's networks, NULL = none */
	uint32_t binding;
	bool anyone; /* no match_domain_from */
	bool authenticated;
	char name[];
};
#define CLAIMANT_UNIT sizeof(void *)

struct policy {
	_Atomic uint32_t refs;
	struct conf *conf; /* shares */
	struct pool *pool;
	struct rule *rules;
	size_t n_rules;
	struct lit_table *headers; /* lower-case name -> header index */
	uint32_t n_headers;
	size_t header_name_max;
	struct lit_table *digests; /* of rules with R -> rule */
	struct policy_index index;
	struct lit_table *domains; /* match_domain -> claimant, in units of CLAIMANT_UNIT */
	unsigned char *claimants;  /* owns; one behind the other, so that few cache lines hold many */
	size_t claimants_used;
	struct lit_table *targets; /* names of targets, one copy each */
	const char **target_names;
	struct pool *names; /* theirs and nothing else, so that few cache lines hold many */
	size_t n_targets;
	struct policy_needs needs;
};

/* policy_claimant.c: match_domain */
void policy_claimants_build(struct policy *, struct errors *);
void policy_claimants_free(struct policy *);
const struct claimant *policy_claimant(const struct policy *, uint32_t at);

/* policy_rule.c: false = nothing usable; errors are in `errors`. */
bool policy_rule_compile(
        struct policy *, const json_t *, const char *where, struct rule *out, struct errors *);
void policy_note_field(struct policy *, struct rule_field_ref *); /* sets header_index; adds to the needs */

/* policy_bind.c */
bool policy_bind_compile(struct policy *, const json_t *bind, const json_t *sticky, const char *where,
        struct bind *, struct errors *);
/* Index of the target chosen by weighted rendezvous hash, for sticky lists and groups: the key decides, and few keys
 * change their target when the list grows. */
double policy_rendezvous_score(const char *name, double weight, uint64_t key);

/* policy_index.c */
void policy_index_build(struct policy *);
void policy_index_free(struct policy_index *);

/* policy_check.c: warnings about what a policy cannot mean to say */
void policy_check(const struct policy *, struct errors *);

/*
 * One evaluation: the facts, and what was derived from them so far. Everything lives in `pool`.
 */
struct header_value {
	const char *value; /* unfolded and trimmed */
	size_t len;
	uint32_t hash; /* if rules are filed under values of this header */
	struct header_value *next;
};
struct eval {
	const struct policy *policy;
	const struct facts *facts;
	struct pool *pool;
	struct pattern_scratch *scratch;
	const char *mailfrom, *mailfrom_domain; /* normal form */
	uint32_t domain_hash;                   /* of mailfrom_domain */
	const char *rcpt, *rcpt_domain;         /* NULL while no recipient is looked at */
	const char *sender_host, *helo;         /* normal form, made when first asked for */
	struct header_chain {
		struct header_value *first, *last;
		size_t n;
	} * headers;                    /* by header index */
	struct addr sender_ip, recv_ip; /* AF_UNSPEC = unknown */
	char sender_ip_text[ADDR_TEXT_SIZE], recv_ip_text[ADDR_TEXT_SIZE];
	struct rnd *choose;
	bool have_chance;
	uint64_t chance;
	struct policy_trace *trace;
	struct trace_rule *trace_rule; /* tests are recorded here */
};
void eval_init(struct eval *, const struct policy *, const struct facts *, struct pool *);
void eval_set_recipient(struct eval *, const char *rcpt);
void eval_done(struct eval *);
bool eval_expr(struct eval *, const struct rule_expr *);
bool eval_test_known(struct eval *, const struct rule_test *, bool *known); /* false if unknown */
/* match_domain: the binding, NULL = none; whether its match_domain_from can be judged */
enum claim { CLAIM_NO, CLAIM_YES, CLAIM_UNKNOWN };
const char *eval_claimant(struct eval *, enum claim *);
/* True if all of them are. */
bool eval_all(struct eval *, struct rule_expr *const *, size_t n);
/* The text of a field in the form == compares; of a header its first instance. False if unknown, or no instance. */
bool eval_field_text(struct eval *, const struct rule_field_ref *, const char **value, size_t *len);
/* The same for people who ask why: of several instances of a header the one that the test (or what it negates) holds for. */
bool eval_tested_text(struct eval *, const struct rule_test *, const char **value, size_t *len);
/* The rule's target for this message; false if its header names none. */
bool eval_bind(struct eval *, const struct rule *, struct decision_target *);

/* policy_trace.c */
struct trace_rule *trace_add_rule(struct policy_trace *, const struct rule *);
void trace_add_test(struct eval *, const struct rule_test *, bool known, bool result);

/* Of a decision in the making: the pool gets copies of what the target and the rule borrow. */
void decision_set_target(struct decision *, struct decision_target *to, const struct decision_target *from);
void decision_add_open(struct decision *, const struct rule *, const struct decision_target *);

#endif
