/*
 * cron - moments that a crontab line names: "30 22 * * 1-5"
 *
 * Purpose    When such a moment came last and when it comes next, by the clocks of a time zone. A moment that a change to
 *            daylight saving leaves out is the moment of the change; one that comes twice is its first.
 * Follows    crontab(5): minute hour day-of-month month day-of-week; lists, ranges, steps, names; where both kinds of day
 *            are given either will do.
 * Threads    Values.
 */
#ifndef BASE_CRON_H
#define BASE_CRON_H

#include "base/timezone.h"

struct cron {
	uint64_t minutes;
	uint32_t hours, days, months; /* bit 0 = 0; days and months from bit 1 */
	uint8_t weekdays;             /* bit 0 = Sunday */
	bool any_day, any_weekday;
};

bool cron_parse(const char *text, struct cron *, struct error *);
/* Seconds since 1970. False if there is none within five years. */
bool cron_last(const struct cron *, const struct time_zone *, int64_t until_s, int64_t *at_s); /* <= until_s */
bool cron_next(const struct cron *, const struct time_zone *, int64_t after_s, int64_t *at_s); /* > after_s */

#endif
