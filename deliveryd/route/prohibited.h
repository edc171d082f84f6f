/*
 * prohibited - which addresses mail is never sent to
 *
 * Purpose    prohibited_hosts (loopback, unspecified, this machine's, or what the operator lists) against MX
 * records that point inside, and our own listeners against loops, whoever named them. Threads    The queue's
 * loop.
 */
#ifndef ROUTE_PROHIBITED_H
#define ROUTE_PROHIBITED_H

#include "route/route.h"

enum prohibited_why { PROHIBITED_NOT, PROHIBITED_ADDRESS, PROHIBITED_OWN_LISTENER };

struct prohibited_set;
struct prohibited_set *prohibited_set_new(
        const struct prohibited *); /* copies nets and listeners, borrows `local` */
/* Address and port as they would be connected to. */
enum prohibited_why prohibited_judge(const struct prohibited_set *, const struct addr *, enum next_hop_type);
void prohibited_set_free(struct prohibited_set **);

#endif
