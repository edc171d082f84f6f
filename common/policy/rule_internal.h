/*
 * rule_internal - between rule_parse.c, rule_test.c and rule_print.c
 */
#ifndef POLICY_RULE_INTERNAL_H
#define POLICY_RULE_INTERNAL_H

#include "policy/rule.h"

const char *rule_op_name(enum rule_op);
/* Turns the literal into what the operator needs; "column N: ..." when it cannot be. */
bool rule_test_compile(struct rule_test *, const char *where, struct pool *, struct error *);
void rule_test_release(struct rule_test *);

#endif
