/*
 * conf - the configuration: bindpost.json and the policy files, loaded, checked, immutable
 *
 * Purpose    Both files of design section 5 from one options.def; scopes and fallback; every error of all
 * files at once, each naming file, path and remedy. Values are resolved for (binding, recipient domain).
 * Ownership  A `struct conf` is an immutable counted snapshot. Pointers into it live as long as a reference
 * is held. Threads    Any, once loaded (counts are atomic). Errors     conf_load() returns NULL when
 * errors->n_errors > 0; warnings alone do not fail it.
 */
#ifndef CONF_CONF_H
#define CONF_CONF_H

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include "base/addr.h"
#include "base/error.h"
#include "base/sockspec.h"
#include "conf/options.h" /* structs and enums, made from options.def */

struct conf;

struct conf *conf_load(const char *bindpost_json_path, struct errors *);
/* The same, never NULL: what could be read is there also when there are errors, so that the rules' can be told too. */
struct conf *conf_load_anyway(const char *bindpost_json_path, struct errors *);
/* Of one that was loaded anyway: a file could not be read, so that what is unknown may stand there. */
bool conf_incomplete(const struct conf *);
/* From text (tests, fuzzing): file names are what errors say; policy may be NULL. */
struct conf *conf_load_text(const char *bindpost_json, const char *policy_json, struct errors *);
struct conf *conf_ref(struct conf *);
void conf_unref(struct conf **);

/* Each file and policy folder that the user in force now may not read, with errno: root reads them at the start, the
 * user we become at a reload. */
typedef void conf_unreadable_fn(void *ctx, const char *path, int error);
void conf_each_unreadable(const struct conf *, conf_unreadable_fn *, void *ctx);

/* Prints each error and warning on a line of its own: the errors as they are, warnings with "warning: " in
 * front. */
void conf_print_errors(const struct errors *, FILE *);

const struct process_options *conf_process(const struct conf *);
const struct global_options *conf_global(const struct conf *); /* what stands in "global" only */
/* hostname and every ehlo_hostname, whatever it is set for (some may stand twice): an MX host of such a name is we. */
size_t conf_own_names(const struct conf *, const char *const **names);
/* Each domain (no patterns) that gateway or routes are set for somewhere; some may come twice. */
void conf_each_routed_domain(const struct conf *, void (*fn)(void *ctx, const char *domain), void *ctx);
/* Whether `xclient` is anything but no anywhere. */
bool conf_uses_xclient(const struct conf *);
/* The policy files' "rules", in order, each with where it stands ("policy.json: rules[3]"). */
size_t conf_n_rules(const struct conf *);
const json_t *conf_rule(const struct conf *, size_t i, const char **where);

/* Bindings. Index 0 is `default`. The index is valid within this snapshot only; names live on. */
struct conf_group {
	const char *name;        /* "default" = the ungrouped bindings */
	const uint32_t *members; /* binding indexes, in file order */
	const double *weights;   /* same order; > 0 */
	size_t n_members;
	uint32_t index;
};
struct conf_binding {
	const char *name;
	uint32_t index;
	const struct conf_group *group;
	struct addr source[2]; /* [0] IPv4, [1] IPv6; family AF_UNSPEC = none. After fallback BG, G. */
	bool any_source;       /* "*": the kernel chooses; only `default` when alone */
	const char *const *match_domain; /* normal form (names.h), incl. match_domain_file */
	size_t n_match_domain;
	const struct addr_net *match_from; /* match_domain_from */
	size_t n_match_from;
	bool match_from_set, match_from_authenticated;
	const char *where; /* "policy.json: bindings.acme" */
};
size_t conf_n_bindings(const struct conf *);
const struct conf_binding *conf_binding(const struct conf *, uint32_t index);
const struct conf_binding *conf_binding_named(const struct conf *, const char *name); /* NULL if unknown */
size_t conf_n_groups(const struct conf *);
const struct conf_group *conf_group(const struct conf *, uint32_t index);
const struct conf_group *conf_group_named(const struct conf *, const char *name);

/*
 * Values in force for (binding, recipient domain), most specific first: domain in the binding, domain in its
 * group, binding, group, global domain, global, built-in (design 5; exact before /regex/, decided per
 * option). `domain` in normal form; NULL = none (values for the binding as such). Strings borrow from the
 * conf.
 */
void conf_resolve(const struct conf *, const struct conf_binding *, const char *domain, struct conn_options *,
        struct deliv_options *, struct sched_options *); /* any of the three may be NULL */
/*
 * Where one option's value comes from: "policy.json: bindings.acme.domains.gmail.com", "built-in". Options of
 * bindpost.json are named with their section ("handoff.max_recipients"); binding and domain are not looked at
 * then. binding NULL = `default`.
 */
struct conf_origin {
	char where[512];
	char value[8192]; /* as it would be written in the file: JSON */
	bool differs;    /* from the built-in value */
};
bool conf_eval(const struct conf *, const char *option, const struct conf_binding *, const char *domain,
        struct conf_origin *, struct error *);
/*
 * A throttle and the place it comes from: all that take it from there share one count. rate.count 0 = none; then `from`
 * is NULL.
 */
struct scope;
struct str;
struct conf_throttle {
	struct rate rate;
	const struct scope *from; /* conf_scope_path() */
};
struct conf_throttles {
	struct conf_throttle messages, connections;
};
void conf_resolve_throttles(
        const struct conf *, const struct conf_binding *, const char *domain, struct conf_throttles *);
/* What may be queued and taken over; 0 = no limit. With a group in place of a binding: its own throttle, no maxima. */
struct conf_quota {
	uint64_t max_messages, max_bytes;
	struct conf_throttle inbound;
};
void conf_resolve_quota(const struct conf *, const struct conf_binding *, struct conf_quota *);
void conf_group_quota(const struct conf *, const struct conf_group *, struct conf_quota *);
/* "domains./^(wanadoo|orange)\\.fr$/"; appends */
void conf_scope_path(const struct scope *, struct str *);

/* Limits of an MX host by its name: BG::B::H > BG::H > B::H > H; 0 = no limit. */
struct host_limits {
	uint32_t max_outbound_connections; /* per binding and host */
	uint32_t scope_max_outbound_connections; /* of all that the place covers: */
	const struct scope *scope_from;
	struct conf_throttles throttles;
};
void conf_resolve_host(
        const struct conf *, const struct conf_binding *, const char *mx_name, struct host_limits *);

/*
 * The combined limits (scope_max_outbound_connections) that sessions of a binding to a domain count in: each place that
 * sets it and covers them. The place's path names the counter.
 */
#define SCOPE_LIMITS_MAX 6
struct scope_limit {
	char where[400]; /* "domains./^(wanadoo|orange)\\.fr$/" */
	uint32_t max;
};
unsigned conf_scope_limits(const struct conf *, const struct conf_binding *, const char *domain,
        struct scope_limit out[SCOPE_LIMITS_MAX]);

/*
 * What a reload changed, for its answer. Adds to the object `into`: "added", "removed", "changed" (names of
 * bindings), "options" (what else changed, as "global.retry_interval" or "log.level"), "restart" (options
 * that keep their old value until a restart), "rules" (true if they changed) and "rules_added", "rules_removed",
 * "rules_changed" (by name, else by condition; rules of the same condition are told apart by what they bind to).
 * Rules that only stand in another order are in none of the three.
 */
void conf_diff_json(const struct conf *old, const struct conf *new, json_t *into);
/* Before `fresh` is shared: options that need a restart get the values they have in `running`, a snapshot that this
 * process runs by, so that everybody who asks for one sees what is really in effect. */
void conf_keep_running(struct conf *fresh, struct conf *running);

/* The JSON Schema of either file, from options.def. Caller frees with json_decref(). */
json_t *conf_schema(bool policy_file);

#endif
