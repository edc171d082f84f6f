/*
 * host_rule - one item of prohibited_hosts or skip_hosts: which MX hosts, and what is said of them
 *
 * Purpose    Reads items, and compares host names with the patterns in them: a name, "*.DOMAIN" (any host below it), or
 *            "/regex/" (PCRE2 on bytes, caseless, unanchored, with match limits).
 * Threads    A compiled pattern is immutable.
 */
#ifndef CONF_HOST_RULE_H
#define CONF_HOST_RULE_H

#include "conf/value.h"

bool read_host_rules(struct value_reader *, const struct place *, const struct option_row *, const json_t *,
        union value *);
json_t *host_rules_json(const struct host_rule_list *);

struct host_pattern;
/* NULL: text is no pattern; err says why (may be NULL). */
struct host_pattern *host_pattern_new(const char *text, struct error *err);
void host_pattern_free(struct host_pattern **);
bool host_pattern_matches(const struct host_pattern *, const char *name /* normal form */);

#endif
