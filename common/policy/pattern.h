/*
 * pattern - one regular expression of a rule, safe on hostile text
 *
 * Purpose    PCRE2 on bytes with JIT. A match that reaches a limit (backtracking, depth, JIT stack, time on a long
 *            subject) is "no match"; it is counted, and logged the first time for each pattern.
 * Threads    A pattern is immutable but for its atomic count; a scratch belongs to one thread at a time.
 */
#ifndef POLICY_PATTERN_H
#define POLICY_PATTERN_H

#include <stdint.h>
#include "base/error.h"

struct pattern;
/* `where` is what a log line calls it: "policy.json: rules[3]" */
struct pattern *pattern_new(const char *text, const char *where, struct error *);
void pattern_free(struct pattern **);
uint64_t pattern_limit_hits(const struct pattern *);

struct pattern_scratch; /* match data, shared by all patterns of one evaluation */
void pattern_scratch_free(struct pattern_scratch **);
/* *scratch is made when first needed */
bool pattern_match(struct pattern *, struct pattern_scratch **, const char *subject, size_t len);

#endif
