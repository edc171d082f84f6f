#include "config.h"
#include "base/clock.h"

#include <time.h>
#include "base/mem.h"

static uint64_t read_clock(clockid_t id)
{
	struct timespec ts;

	(void)clock_gettime(id, &ts); /* cannot fail for these ids */
	return (uint64_t)ts.tv_sec * SECOND_US + (uint64_t)ts.tv_nsec / 1000;
}

static uint64_t system_mono_us(struct clock *clock)
{
	(void)clock;
	return read_clock(CLOCK_MONOTONIC);
}

static uint64_t system_wall_us(struct clock *clock)
{
	(void)clock;
	return read_clock(CLOCK_REALTIME);
}

struct clock clock_system = {system_mono_us, system_wall_us};

static uint64_t fake_mono_us(struct clock *clock)
{
	return container_of(clock, struct fake_clock, clock)->mono;
}

static uint64_t fake_wall_us(struct clock *clock)
{
	return container_of(clock, struct fake_clock, clock)->wall;
}

void fake_clock_init(struct fake_clock *fake, uint64_t wall_us)
{
	fake->clock.mono_us = fake_mono_us;
	fake->clock.wall_us = fake_wall_us;
	fake->mono = 1000 * SECOND_US; /* not 0: catches who takes it for "never" */
	fake->wall = wall_us;
}

void fake_clock_advance(struct fake_clock *fake, uint64_t us)
{
	fake->mono += us;
	fake->wall += us;
}

struct civil {
	unsigned year, month, day, weekday, hour, minute, second;
};

/*
 * The date of a day number since 1970 in the Gregorian calendar. Years are counted from March, so that the
 * leap day ends them; 719468 days lie between 0000-03-01 and 1970-01-01. Ours, since gmtime_r() takes a lock.
 */
static void civil_from_days(uint64_t days, struct civil *c)
{
	uint64_t z = days + 719468, era = z / 146097, day_of_era = z % 146097;
	uint64_t year_of_era =
	        (day_of_era - day_of_era / 1460 + day_of_era / 36524 - day_of_era / 146096) / 365;
	uint64_t day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
	uint64_t month = (5 * day_of_year + 2) / 153; /* 0 = March */

	c->day = (unsigned)(day_of_year - (153 * month + 2) / 5 + 1);
	c->month = (unsigned)(month < 10 ? month + 3 : month - 9);
	c->year = (unsigned)(year_of_era + era * 400 + (c->month <= 2 ? 1 : 0));
	c->weekday = (unsigned)((days + 4) % 7); /* 1970-01-01 was a Thursday */
}

static void civil_from_us(uint64_t wall_us, struct civil *c)
{
	uint64_t seconds = wall_us / SECOND_US, of_day = seconds % 86400;

	civil_from_days(seconds / 86400, c);
	c->hour = (unsigned)(of_day / 3600);
	c->minute = (unsigned)(of_day / 60 % 60);
	c->second = (unsigned)(of_day % 60);
}

static char *put(char *p, unsigned value, unsigned digits)
{
	for (unsigned i = digits; i-- > 0; value /= 10)
		p[i] = (char)('0' + value % 10);
	return p + digits;
}

const char *time_print(uint64_t wall_us, char buf[TIME_TEXT_SIZE])
{
	struct civil c;
	char *p = buf;

	civil_from_us(wall_us, &c);
	p = put(p, c.year, 4);
	*p++ = '-';
	p = put(p, c.month, 2);
	*p++ = '-';
	p = put(p, c.day, 2);
	*p++ = 'T';
	p = put(p, c.hour, 2);
	*p++ = ':';
	p = put(p, c.minute, 2);
	*p++ = ':';
	p = put(p, c.second, 2);
	*p++ = '.';
	p = put(p, (unsigned)(wall_us % SECOND_US), 6);
	*p++ = 'Z';
	*p = '\0';
	return buf;
}

static char *put_text(char *p, const char *text, size_t n)
{
	for (size_t i = 0; i < n; i++)
		*p++ = text[i];
	return p;
}

const char *time_print_rfc5322(uint64_t wall_us, char buf[TIME_TEXT_SIZE])
{
	static const char days[] = "SunMonTueWedThuFriSat";
	static const char months[] = "JanFebMarAprMayJunJulAugSepOctNovDec";
	struct civil c;
	char *p = buf;

	civil_from_us(wall_us, &c);
	p = put_text(p, days + 3 * (size_t)c.weekday, 3);
	p = put_text(p, ", ", 2);
	p = put(p, c.day, c.day < 10 ? 1 : 2);
	*p++ = ' ';
	p = put_text(p, months + 3 * ((size_t)c.month - 1), 3);
	*p++ = ' ';
	p = put(p, c.year, 4);
	*p++ = ' ';
	p = put(p, c.hour, 2);
	*p++ = ':';
	p = put(p, c.minute, 2);
	*p++ = ':';
	p = put(p, c.second, 2);
	p = put_text(p, " +0000", 6);
	*p = '\0';
	return buf;
}
