#include "queue/schedule.h"

#include <math.h>

/*
 * Momentum's curve (its manual draws it for a maximum of 32): max * (1 - e^(-n/tau)). It is there so that a queue that
 * begins to fill does not burst onto a receiver; a small maximum is gentle enough by itself, so below 32 the curve of
 * 32 is cut at the maximum, or a limit of 3 would need a hundred waiting messages before it is used.
 */
#define CURVE_FLOOR 32
#define TAU_NORMAL 105.0
#define TAU_HIGH 43.0

uint32_t schedule_goal(uint32_t active, uint32_t max, enum allocation how)
{
	if (active == 0 || max == 0)
		return 0;
	double tau = how == ALLOCATION_HIGH ? TAU_HIGH : TAU_NORMAL;
	double scale = max < CURVE_FLOOR ? CURVE_FLOOR : max;
	double wanted = ceil(scale * (1.0 - exp(-(double)active / tau)));
	uint32_t goal = wanted < 1.0 ? 1 : (uint32_t)wanted;
	if (goal > max)
		goal = max;
	return goal < active ? goal : active;
}

uint64_t schedule_retry_us(const struct deliv_options *o, uint32_t attempts, struct rnd *rnd)
{
	uint64_t wait_s = o->retry_interval_s;
	for (uint32_t i = 1; i < attempts && wait_s < o->max_retry_interval_s; i++)
		wait_s *= 2;
	if (wait_s > o->max_retry_interval_s)
		wait_s = o->max_retry_interval_s;
	uint64_t wait_us = wait_s * SECOND_US;
	uint64_t spread = wait_us / 5;
	return wait_us - (spread ? rnd_below(rnd, spread + 1) : 0);
}

bool schedule_exhausted(const struct deliv_options *o, uint32_t attempts, uint64_t age_us)
{
	if (age_us >= o->message_expiration_s * SECOND_US)
		return true;
	return o->max_retries != UINT32_MAX && attempts > o->max_retries;
}
