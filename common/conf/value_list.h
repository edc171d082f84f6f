/*
 * value_list - the types of options that are lists or made of several parts: networks, sockets, servers,
 * addresses
 *
 * Part of value; used by value.c and, for keys outside the table (match_domain_from), by the policy loader.
 */
#ifndef CONF_VALUE_LIST_H
#define CONF_VALUE_LIST_H

#include "conf/value.h"

bool read_nets(struct value_reader *, const struct place *, const json_t *, union value *);
bool read_routes(struct value_reader *, const struct place *, const json_t *, union value *);
bool read_socket(struct value_reader *, const struct place *, const struct option_row *, const json_t *,
        union value *);
bool read_sockets(struct value_reader *, const struct place *, const json_t *, union value *);
bool read_servers(struct value_reader *, const struct place *, const json_t *, union value *);
bool read_paths(struct value_reader *, const struct place *, const json_t *, union value *);
bool read_addresses(struct value_reader *, const struct place *, const json_t *, union value *);
/* Networks and one word that stands for something else; *word is set when it is met. */
bool read_nets_or_word(struct value_reader *, const struct place *, const json_t *,
        const char *word /* NULL = none */, struct net_list *out, bool *has_word);

/* curfew.c */
bool read_curfew(struct value_reader *, const struct place *, const json_t *, union value *);
json_t *curfew_json(const struct curfew_list *);
/* response_rule.c */
bool read_response_rules(struct value_reader *, const struct place *, const json_t *, union value *);
json_t *response_rules_json(const struct response_rule_list *);

json_t *net_json(const struct addr_net *);
json_t *nets_json(const struct net_list *);
json_t *routes_json(const char *);
json_t *socket_json(const struct sockspec *);
json_t *sockets_json(const struct sockspec_list *);
json_t *servers_json(const struct dns_server_list *);
json_t *paths_json(const struct path_list *);
json_t *addresses_json(const struct bind_addresses *);

/* A value that may be one item or a list of them: item i with its place. */
struct items {
	const json_t *json;
	const struct place *place;
	struct place item; /* of the one returned last */
	size_t i, n;
};
struct items items_of(const json_t *, const struct place *);
const json_t *items_next(struct items *, const struct place **place);

#endif
