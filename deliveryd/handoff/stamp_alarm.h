/*
 * stamp_alarm - the daemon's own words about mail that comes without a good stamp
 *
 * Purpose    Such mail waits in the MTA, all of it when the milter and deliveryd are at odds. Each has its counter and
 *            event; who looks into the journal is told why and what to do, once a minute for each reason.
 * Threads    Those of the handoff it belongs to.
 */
#ifndef HANDOFF_STAMP_ALARM_H
#define HANDOFF_STAMP_ALARM_H

#include <stdbool.h>
#include <stdint.h>
#include "policy/stamp.h"

#define STAMP_ALARM_EVERY_S 60

struct stamp_alarm { /* STAMP_OK stands for no stamp at all */
	uint64_t next_us[STAMP_N_REASONS];
	uint64_t unsaid[STAMP_N_REASONS]; /* since it was last said */
};

void stamp_alarm(struct stamp_alarm *, enum stamp_reason, uint64_t id, uint64_t now_us);

#endif
