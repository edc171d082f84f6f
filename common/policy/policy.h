/*
 * policy - rules compiled: which binding a message belongs to
 *
 * Purpose    Design section 6. The milter asks policy_eval(); deliveryd asks policy_recipient() per final recipient
 *            with what the stamp says, or policy_eval() itself for mail without a stamp.
 * Ownership  A `struct policy` is an immutable counted snapshot that shares its conf.
 * Threads    Any. PCRE2 match data is per call or per thread.
 */
#ifndef POLICY_POLICY_H
#define POLICY_POLICY_H

#include "base/clock.h"
#include "conf/conf.h"

struct policy;

/* Loads conf and compiles the rules; NULL when there are errors. Warnings (unreachable rule, ...) are added too. */
struct policy *policy_load(const char *bindpost_json_path, struct errors *);
/*
 * The same for a process that runs by another snapshot: options that need a restart keep the values they have there,
 * and what changed is added to the object `changes` (conf_diff_json(); may be NULL).
 */
struct policy *policy_reload(
        const char *bindpost_json_path, const struct policy *running, json_t *changes, struct errors *);
struct policy *policy_new(struct conf *takes_ref, struct errors *);
struct policy *policy_ref(struct policy *);
void policy_unref(struct policy **);
struct conf *policy_conf(const struct policy *);                   /* borrowed */
bool policy_target_known(const struct conf *, const char *target); /* a binding or "group:NAME" */

/* What is known about a message. NULL / false = unknown, which makes a test false. "" is known and empty. */
struct facts {
	const char *mailfrom;         /* as given, with or without <>; never NULL */
	const struct addr *sender_ip; /* NULL = unknown */
	const char *sender_host, *helo, *auth_user, *recv_ip, *daemon_name;
	int recv_port; /* -1 = unknown */
	/* header instances in order; value raw as received (folded); names any case. X-Binding not among them. */
	const struct fact_header {
		const char *name, *value;
		size_t name_len, value_len;
	} * headers;
	size_t n_headers;
	const char *body; /* NULL = unknown; first body_len bytes as sent, up to milter.body_limit */
	size_t body_len;
	int64_t size; /* header, empty line, body with CRLF, without X-Binding; -1 = unknown */
};

/* What the milter has to ask for, given the rules (negotiation). */
struct policy_needs {
	bool headers, body, size, sender_ip, sender_host, helo, auth_user, recv_ip, recv_port, daemon_name;
};
void policy_needs(const struct policy *, struct policy_needs *);
/* Whether any rule looks at this header (any case): others need not be collected. */
bool policy_looks_at_header(const struct policy *, const char *name, size_t len);
/* How often patterns of this snapshot gave up at a limit (taken as no match). */
uint64_t policy_pattern_limit_hits(const struct policy *);

/* A choice of target as it is stamped. Strings are owned by the decision's pool. */
struct decision_target {
	const char *name; /* "acme" or "group:shared" */
	bool has_sticky;
	uint32_t sticky; /* stamp `s`: for the group's member choice */
};
enum priority { PRIORITY_NONE, PRIORITY_HIGH, PRIORITY_NORMAL, PRIORITY_LOW };
enum priority priority_parse(const char *); /* PRIORITY_NONE if it is none of the three words */
const char *priority_name(enum priority);   /* "high"; NULL for PRIORITY_NONE */
struct open_rule {
	const char *name; /* or its digest when unnamed */
	char digest[9];
	struct decision_target target;
};
struct decision {
	struct decision_target target; /* what holds when no open rule matches the recipient */
	const char *rule;              /* rule name or digest, "match_domain", "default" */
	enum priority priority;
	struct open_rule *open; /* in rule order */
	size_t n_open;
	bool claimed;      /* false: nothing claimed it, target is `default` by default */
	struct pool *pool; /* owns all strings */
};
/*
 * Evaluates all rules that need no recipient, records the open ones. `choose` gives chance for lists and weights
 * (milter: the random source; deliveryd: fake of the queue id). `trace` may be NULL (explain).
 */
struct policy_trace; /* policy_trace.h */
void policy_eval(const struct policy *, const struct facts *, struct rnd *choose, struct decision *,
        struct policy_trace *);
void decision_free(struct decision *);
/*
 * For a message that has a target already (`present`), with what is still known of it: false when a rule on the way would
 * have to know more, so that nobody can say what the policy means for it. Rules are asked one by one: not for each new
 * message.
 */
bool policy_eval_again(const struct policy *, const struct facts *, const char *present, struct rnd *choose,
        struct decision *);

/* The final choice for one recipient. */
struct recipient_choice {
	const char *target; /* borrows from decision or policy */
	bool has_sticky;
	uint32_t sticky;
	const char *rule;
	enum priority priority;
	bool claimed;
	unsigned stale_rules; /* open rules skipped because their digest is unknown here */
};
/* rcpt: the final recipient as given at the handoff */
void policy_recipient(
        const struct policy *, const struct decision *, const char *rcpt, struct recipient_choice *);
/*
 * The same among n > 0 snapshots: an open rule is looked up in the first that knows its digest (during a reload the
 * one in force, then those it replaced). `trace` may be NULL; it records the open rules asked and their tests (explain).
 */
void policy_recipient_among(const struct policy *const *policies, size_t n, const struct decision *,
        const char *rcpt, struct recipient_choice *, struct policy_trace *);
/* True when no rule of this policy can still claim a message whose decision is unclaimed (default_binding none: 451 in the milter). */
bool decision_is_final_unclaimed(const struct decision *);

/* A group's member by weighted rendezvous hash over `key`; usable() says which members count. -1 if none. */
int policy_group_member(const struct conf *, const struct conf_group *, uint64_t key,
        bool (*usable)(void *ctx, const struct conf_binding *), void *ctx);

#endif
