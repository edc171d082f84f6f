/*
 * options - the structs that configuration values are handed out in, made from options.def
 *
 * Purpose    One field per row, named as the option; durations in seconds carry the suffix _s. A new option
 * is one more row: fields, equality, hash and copy follow. Ownership  Strings and lists borrow from the conf,
 * except in what conn_options_copy() made. Threads    Values.
 */
#ifndef CONF_OPTIONS_H
#define CONF_OPTIONS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "base/addr.h"
#include "base/cron.h"
#include "base/log.h"
#include "base/sockspec.h"

#define ENUM_BEGIN(tag) enum tag {
#define ENUM_VALUE(tag, constant, word) constant,
#define ENUM_END(tag)                                                                                        \
	}                                                                                                    \
	;
#include "conf/options.def"

#define RETRIES_NONE UINT32_MAX /* max_retries "none" */

struct net_list {
	const struct addr_net *nets;
	size_t n;
};
/* An item of prohibited_hosts or skip_hosts: which MX hosts, and what mail that has no other is told. */
enum host_rule_kind {
	HOST_RULE_NET,
	HOST_RULE_OWN,  /* this machine's addresses, whatever they are at the moment */
	HOST_RULE_NAME, /* by name: host_pattern_new() */
};
struct host_rule {
	enum host_rule_kind kind;
	struct addr_net net;
	const char *host;
	uint16_t code;               /* 0 = built-in */
	const char *enhanced, *text; /* NULL = built-in */
};
struct host_rule_list {
	const struct host_rule *items;
	size_t n;
};
/* An item of response_rules: what a reply changes (response_rule.h). */
enum response_then {
	RESPONSE_SUSPEND,   /* the binding for the domain, for `argument` seconds */
	RESPONSE_REDUCE,    /* to `argument` connections to the next hop, for `lasts_s` */
	RESPONSE_ELSEWHERE, /* at once from another member of the group, or to another MX host */
	RESPONSE_FAIL,      /* give up */
	RESPONSE_RETRY_IN,  /* the next attempt after `argument` seconds */
	RESPONSE_N_THENS
};
struct response_rule {
	const char *name;        /* NULL = none */
	const char *match;       /* a pattern; NULL = any text */
	const char *code;        /* NULL = any */
	uint32_t count, seconds; /* threshold */
	enum response_then then;
	uint64_t argument, lasts_s;
};
/* curfew: from one moment to another nothing is attempted. */
struct curfew_window {
	const char *from_text, *to_text, *timezone; /* as written; "local" */
	struct cron from, to;
};
struct curfew_list {
	const struct curfew_window *windows;
	size_t n;
	const char *where; /* "policy.json: bindings.acme.curfew" */
};
struct response_rule_list {
	const struct response_rule *items;
	size_t n;
};
struct sockspec_list {
	const struct sockspec *items;
	size_t n;
};
struct dns_server_spec {
	struct addr addr; /* with port */
	bool trust_ad;    /* declared, or on loopback */
};
#define CONF_DNS_SERVERS_MAX 16 /* more are refused */
struct dns_server_list {
	const struct dns_server_spec *items;
	size_t n; /* 0 = those of resolv.conf */
};
/* At most `count` in any `seconds` seconds; count 0 = no limit. */
struct rate {
	uint32_t count, seconds;
};
#define RATE_COUNT_MAX 1000000
#define RATE_SECONDS_MAX 86400
struct path_list {
	const char *const *items;
	size_t n;
};

/* type -> C type and field name; ENUM(tag) takes the argument of the type first, then that of the name */
#define OPT_C_UINT uint32_t
#define OPT_C_UINT_NONE uint32_t
#define OPT_C_DURATION uint64_t
#define OPT_C_SIZE uint64_t
#define OPT_C_BOOL bool
#define OPT_C_ENUM(tag) enum tag
#define OPT_C_EHLO const char *
#define OPT_C_GATEWAY const char *
#define OPT_C_HOSTNAME const char *
#define OPT_C_FIELDNAME const char *
#define OPT_C_USERNAME const char *
#define OPT_C_PRIORITY const char *
#define OPT_C_WORD const char *
#define OPT_C_SECRET const char *
#define OPT_C_PATH const char *
#define OPT_C_NETLIST struct net_list
#define OPT_C_HOSTRULES struct host_rule_list
#define OPT_C_ROUTES const char *
#define OPT_C_PROXY const char *
#define OPT_C_RESPONSES struct response_rule_list
#define OPT_C_CURFEW struct curfew_list
#define OPT_C_SOCKET const struct sockspec *
#define OPT_C_SOCKETS struct sockspec_list
#define OPT_C_SERVERS struct dns_server_list
#define OPT_C_PATHS struct path_list

#define OPT_PLAIN_NAME(name) name
#define OPT_SECONDS_NAME(name) name##_s
#define OPT_N_UINT OPT_PLAIN_NAME
#define OPT_N_UINT_NONE OPT_PLAIN_NAME
#define OPT_N_DURATION OPT_SECONDS_NAME
#define OPT_N_SIZE OPT_PLAIN_NAME
#define OPT_N_BOOL OPT_PLAIN_NAME
#define OPT_N_ENUM(tag) OPT_PLAIN_NAME
#define OPT_N_EHLO OPT_PLAIN_NAME
#define OPT_N_GATEWAY OPT_PLAIN_NAME
#define OPT_N_HOSTNAME OPT_PLAIN_NAME
#define OPT_N_FIELDNAME OPT_PLAIN_NAME
#define OPT_N_USERNAME OPT_PLAIN_NAME
#define OPT_N_PRIORITY OPT_PLAIN_NAME
#define OPT_N_WORD OPT_PLAIN_NAME
#define OPT_N_SECRET OPT_PLAIN_NAME
#define OPT_N_PATH OPT_PLAIN_NAME
#define OPT_N_NETLIST OPT_PLAIN_NAME
#define OPT_N_HOSTRULES OPT_PLAIN_NAME
#define OPT_N_ROUTES OPT_PLAIN_NAME
#define OPT_N_PROXY OPT_PLAIN_NAME
#define OPT_N_RESPONSES OPT_PLAIN_NAME
#define OPT_N_CURFEW OPT_PLAIN_NAME
#define OPT_N_SOCKET OPT_PLAIN_NAME
#define OPT_N_SOCKETS OPT_PLAIN_NAME
#define OPT_N_SERVERS OPT_PLAIN_NAME
#define OPT_N_PATHS OPT_PLAIN_NAME

#define OPT_FIELD(type, name) OPT_C_##type OPT_N_##type(name);
#define OPT_NO_FIELD(type, name)

#define OPT_IN_CONN_CONN OPT_FIELD
#define OPT_IN_CONN_DELIV OPT_NO_FIELD
#define OPT_IN_CONN_SCHED OPT_NO_FIELD
#define OPT_IN_CONN_GLOBAL OPT_NO_FIELD
#define OPT_IN_CONN_SPECIAL OPT_NO_FIELD
#define OPT_IN_DELIV_CONN OPT_NO_FIELD
#define OPT_IN_DELIV_DELIV OPT_FIELD
#define OPT_IN_DELIV_SCHED OPT_NO_FIELD
#define OPT_IN_DELIV_GLOBAL OPT_NO_FIELD
#define OPT_IN_DELIV_SPECIAL OPT_NO_FIELD
#define OPT_IN_SCHED_CONN OPT_NO_FIELD
#define OPT_IN_SCHED_DELIV OPT_NO_FIELD
#define OPT_IN_SCHED_SCHED OPT_FIELD
#define OPT_IN_SCHED_GLOBAL OPT_NO_FIELD
#define OPT_IN_SCHED_SPECIAL OPT_NO_FIELD
#define OPT_IN_GLOBAL_CONN OPT_NO_FIELD
#define OPT_IN_GLOBAL_DELIV OPT_NO_FIELD
#define OPT_IN_GLOBAL_SCHED OPT_NO_FIELD
#define OPT_IN_GLOBAL_GLOBAL OPT_FIELD
#define OPT_IN_GLOBAL_SPECIAL OPT_NO_FIELD

/* What a connection is like. `ehlo_hostname` is the name to say (never "__hostname__"). */
struct conn_options {
#define OPTION(name, type, part, scopes, def, min, max, text) OPT_IN_CONN_##part(type, name)
#include "conf/options.def"
};

/* Retry, expiry, reports. */
struct deliv_options {
#define OPTION(name, type, part, scopes, def, min, max, text) OPT_IN_DELIV_##part(type, name)
#include "conf/options.def"
};

/* What a scope's own object needs. */
struct sched_options {
#define OPTION(name, type, part, scopes, def, min, max, text) OPT_IN_SCHED_##part(type, name)
#include "conf/options.def"
	uint32_t server_total;  /* server_max_outbound_connections of global */
	uint32_t binding_total; /* the same of the binding or its group, 0 = no limit */
};

/* One value for the machine. */
struct global_options {
#define OPTION(name, type, part, scopes, def, min, max, text) OPT_IN_GLOBAL_##part(type, name)
#include "conf/options.def"
	uint32_t server_max_outbound_connections;
};

/* bindpost.json: section_name */
struct process_options {
#define PROCESS(section, name, type, def, min, max, reload, text) OPT_FIELD(type, section##_##name)
#define PROCESS_TOP(name, type, def, min, max, reload, text) OPT_FIELD(type, name)
#include "conf/options.def"
};

bool conn_options_equal(const struct conn_options *, const struct conn_options *);
uint64_t conn_options_hash(const struct conn_options *);
/* A copy that owns its strings: conn_options_free() */
void conn_options_copy(struct conn_options *to, const struct conn_options *from);
void conn_options_free(struct conn_options *);

#endif
