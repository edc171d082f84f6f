/*
 * response_rule - one item of response_rules: what a reply changes
 *
 * Purpose    What there is to know of an item (value_list.h reads and prints lists of them). Which replies one means: rule_means_code() by code or enhanced code; the text is
 *            for the caller, who keeps the compiled pattern: response_pattern() says what to compile.
 * Threads    Values.
 */
#ifndef CONF_RESPONSE_RULE_H
#define CONF_RESPONSE_RULE_H

#include "base/str.h"
#include "conf/options.h"

/* "suspend 30m", as it is written */
void response_then_print(const struct response_rule *, struct str *);
const char *response_then_word(enum response_then); /* "suspend" */
/* "421", "4xx", "5.7.1", "4.7.x"; NULL means any. `enhanced` may be "". */
bool response_code_is(const char *pattern, unsigned code, const char *enhanced);
/* PCRE2 text: caseless */
void response_pattern(const struct response_rule *, struct str *);

#endif
