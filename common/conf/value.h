/*
 * value - one option's value: read from JSON, printed as JSON
 *
 * Purpose    One function per type of options.def, so that an option is a row and no code. Reading reports
 * every mistake it meets (a list may hold several) with its place and what would be right. Ownership  Values
 * live in the pool they were read into. Threads    Values.
 */
#ifndef CONF_VALUE_H
#define CONF_VALUE_H

#include "conf/option_table.h"
#include "conf/place.h"

struct bind_addresses {
	struct addr source[2]; /* [0] IPv4, [1] IPv6; AF_UNSPEC = none */
	bool any;              /* "*" */
};

union value {
	uint64_t u;
	const char *s; /* NULL = none */
	struct rate rate;
	const struct net_list *nets;
	const struct host_rule_list *host_rules;
	const struct response_rule_list *responses;
	const struct curfew_list *curfew;
	const struct sockspec *socket; /* NULL = none */
	const struct sockspec_list *sockets;
	const struct dns_server_list *servers;
	const struct path_list *paths;
	const struct bind_addresses *addresses; /* NULL = none */
};

struct value_reader {
	struct pool *pool;
	struct errors *errors;
};

/* False if there was an error; *out is then not to be used. */
bool value_read(struct value_reader *, const struct place *, const struct option_row *, const json_t *,
        union value *out);
/* From the default column of the row; the place is where relative paths count from. An error there is our
 * mistake. */
union value value_default(struct pool *, const struct place *, const struct option_row *);
/* As it would be written in the file: a new reference */
json_t *value_json(const struct option_row *, union value);
bool value_equal(const struct option_row *, union value, union value);

/* min, max of the row as numbers (0 and UINT64_MAX where there is none) */
void value_range(const struct option_row *, uint64_t *min, uint64_t *max);
/* "20m" -> 1200, "50MB" -> bytes */
bool duration_parse(const char *, uint64_t *seconds);
bool size_parse(const char *, uint64_t *bytes);
/* rate = count [ "/" duration ] ; without a duration one second */
bool rate_parse(const char *, struct rate *);

#endif
