/*
 * policy_text - policies for tests, from text in which ' stands for "
 */
#ifndef T_LIB_POLICY_TEXT_H
#define T_LIB_POLICY_TEXT_H

#include "policy/policy.h"

/* Bindings a, b, c, default with addresses; a group `pool` of p1, p2 (weight 3); `rules` is the text of the list. */
struct policy *policy_of_rules(const char *rules);
/* The same; NULL or not, what was said is in errors. */
struct policy *policy_try_rules(const char *rules, struct errors *);
/* A whole policy file; "\"" for each '; use ` for a ' inside. */
struct policy *policy_of_text(const char *policy_json, struct errors *);
/* What the messages, joined by newlines, say; to be freed. */
char *errors_text(const struct errors *);

#endif
