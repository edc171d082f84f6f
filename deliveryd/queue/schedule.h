/*
 * schedule - how many sessions, and when again: the arithmetic of the queue
 *
 * Threads    Pure functions.
 */
#ifndef QUEUE_SCHEDULE_H
#define QUEUE_SCHEDULE_H

#include "base/clock.h"
#include "conf/conf.h"

/*
 * How many sessions a queue of `active` deliveries should have: grows with the queue, at least 1 (if active > 0), at
 * most `active` and `max`.
 */
uint32_t schedule_goal(uint32_t active, uint32_t max, enum allocation);

/* The wait after the attempts-th failed attempt (1 = the first): doubled up to the cap, times 0.8 to 1.0. */
uint64_t schedule_retry_us(const struct deliv_options *, uint32_t attempts, struct rnd *);

/* Whether a recipient that has just failed for the attempts-th time is given up. */
bool schedule_exhausted(const struct deliv_options *, uint32_t attempts, uint64_t age_us);

#endif
