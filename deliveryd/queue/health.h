/*
 * health - which MX addresses a binding had better leave alone
 *
 * Purpose    Per binding and address, because a receiver may block one binding and not another (design section 8): a
 *            failure puts the address aside for host_failure_retry. After that it is on probation, one session at a
 *            time, until one succeeds. What a host could not do for one demand only (TLS, credentials) is kept beside
 *            that, by the demand: other mail of the binding may still go there.
 * Threads    The queue's loop only.
 */
#ifndef QUEUE_HEALTH_H
#define QUEUE_HEALTH_H

#include "route/route.h"

struct health;
struct health *health_new(void);
void health_free(struct health **);

enum health_state { HEALTH_UNKNOWN, HEALTH_GOOD, HEALTH_FAILED, HEALTH_PROBATION };
struct health_who {
	uint32_t binding;
	uint32_t demand; /* 0 = any: the host itself */
};
/* `until` (may be NULL) is set with HEALTH_FAILED. */
enum health_state health_of(const struct health *, struct health_who, const struct route_addr *,
        uint64_t now_us, uint64_t *until_us);
void health_fail(
        struct health *, struct health_who, const struct route_addr *, uint64_t now_us, uint64_t until_us);
/* It has failed because it cannot do what is demanded of it, which is no other at another time. */
void health_set_unfit(struct health *, struct health_who, const struct route_addr *);
bool health_is_unfit(const struct health *, struct health_who, const struct route_addr *);
void health_succeed(struct health *, struct health_who, const struct route_addr *, uint64_t now_us);
/* What was put aside before `now_us` is tried again, on probation. */
void health_recall(struct health *, uint32_t binding, uint64_t now_us);
uint32_t health_count(const struct health *);

#endif
