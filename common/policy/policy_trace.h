/*
 * policy_trace - why a message got its binding: what `bindpost explain` prints
 *
 * Purpose    Given to policy_eval() and policy_recipient_among(), it records the rules looked at, in order, with the
 *            result of every test. With a trace the index is not used and AND and OR do not stop early, so that every
 *            test of every rule up to the deciding one is there.
 * Ownership  policy_trace_init() and policy_trace_free(); all strings live until then.
 */
#ifndef POLICY_TRACE_H
#define POLICY_TRACE_H

#include <stdbool.h>
#include <stddef.h>
#include "base/mem.h"

struct trace_test {
	const char *text; /* "header:x-customer == 'acme'" */
	const char
	        *value; /* what the message has there, cut to 200 bytes; NULL = unknown, or no such header */
	size_t value_len;
	bool known, result;
};
struct trace_rule {
	const char *name, *where, *when; /* when: normal text */
	bool matched;       /* N is true and a target could be chosen; in a recipient's trace: R is true */
	bool open;          /* matched, and left to deliveryd to decide per recipient */
	const char *target; /* chosen, NULL = none */
	/* what it was chosen among: several targets with their weights, and how; NULL where there is but one */
	const char **choices;
	double *weights;
	size_t n_choices;
	const char
	        *chosen_by; /* "random", "sticky FIELD" (random where the fact is unknown), "header NAME" */
	struct trace_test *tests;
	size_t n_tests;
};
struct policy_trace {
	struct pool *pool;
	struct trace_rule **rules;
	size_t n_rules;
	const char *domain; /* the envelope sender's, when no rule decided: what match_domain was asked for */
	const char *match_domain; /* the binding that claims it, NULL = none */
	bool believed;            /* match_domain_from lets it */
};
void policy_trace_init(struct policy_trace *);
void policy_trace_free(struct policy_trace *);

#endif
