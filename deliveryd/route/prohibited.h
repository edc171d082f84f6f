/*
 * prohibited - which MX hosts mail is never sent to, which are passed over, and which are ourselves
 *
 * Purpose    prohibited_hosts and skip_hosts against what recipients' domains name; our own listeners against loops,
 *            whoever named them; our own names and addresses, for RFC 5321 5.1: a relay that finds itself among the MX
 *            hosts uses none of the same or worse preference.
 * Threads    The queue's loop.
 */
#ifndef ROUTE_PROHIBITED_H
#define ROUTE_PROHIBITED_H

#include "route/route.h"

enum prohibited_why { PROHIBITED_NOT, PROHIBITED_HOST, PROHIBITED_SKIPPED, PROHIBITED_OWN_LISTENER };

struct judgement {
	enum prohibited_why why;
	const struct host_rule *rule; /* PROHIBITED_HOST, _SKIPPED */
	bool us;                      /* an address of this machine: for MX hosts of domains */
};

struct prohibited_set;
struct prohibited_set *prohibited_set_new(const struct prohibited *); /* copies all but `local` */
/* `host` as in the MX record, address and port as they would be connected to. `of_domain`: found by the MX look-up of a
 * recipient's domain, else named by the operator. */
struct judgement prohibited_judge(
        const struct prohibited_set *, const char *host, const struct addr *, bool of_domain);
/* An MX host of that name is this machine. */
bool prohibited_own_name(const struct prohibited_set *, const char *host);
void prohibited_set_free(struct prohibited_set **);

#endif
