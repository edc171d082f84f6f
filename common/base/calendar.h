/*
 * calendar - days since 1970-01-01 and dates (Gregorian, proleptic)
 */
#ifndef BASE_CALENDAR_H
#define BASE_CALENDAR_H

#include <stdbool.h>
#include <stdint.h>

struct calendar_day {
	int year, month, day; /* month and day from 1 */
};

static inline bool calendar_is_leap(int year)
{
	return year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
}

/* The year is taken to begin in March, so that February's end is the year's. */
static inline int64_t calendar_days(int year, int month, int day)
{
	int64_t y = month > 2 ? year : year - 1, era = (y >= 0 ? y : y - 399) / 400, in_era = y - era * 400;
	int64_t in_year = (153 * (month > 2 ? month - 3 : month + 9) + 2) / 5 + day - 1;
	return era * 146097 + in_era * 365 + in_era / 4 - in_era / 100 + in_year - 719468;
}

static inline void calendar_of_days(int64_t days, struct calendar_day *out)
{
	days += 719468;
	int64_t era = (days >= 0 ? days : days - 146096) / 146097, in_era = days - era * 146097;
	int64_t y = (in_era - in_era / 1460 + in_era / 36524 - in_era / 146096) / 365;
	int64_t in_year = in_era - (365 * y + y / 4 - y / 100), m = (5 * in_year + 2) / 153;
	out->day = (int)(in_year - (153 * m + 2) / 5 + 1);
	out->month = (int)(m < 10 ? m + 3 : m - 9);
	out->year = (int)(y + era * 400 + (out->month <= 2));
}

/* 0 = Sunday */
static inline int calendar_weekday(int64_t days)
{
	return (int)((days % 7 + 11) % 7);
}

#endif
