#include "base/cron.h"

#include <ctype.h>
#include <string.h>
#include <strings.h>
#include "base/calendar.h"
#include "base/mem.h"

#define DAYS_MAX (5 * 366)
#define DAY 86400

/* --- parsing: field = item *("," item); item = ("*" / value ["-" value]) ["/" step] --------------------------------- */

struct field {
	const char *what;
	unsigned min, max;
	const char *const *names; /* of min, min + 1, ...; NULL = none */
};

static const char *const month_names[] = {
        "jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec", NULL};
static const char *const day_names[] = {"sun", "mon", "tue", "wed", "thu", "fri", "sat", NULL};
static const struct field fields[5] = {
        {"minute", 0, 59, NULL},
        {"hour", 0, 23, NULL},
        {"day of the month", 1, 31, NULL},
        {"month", 1, 12, month_names},
        {"day of the week", 0, 7, day_names},
};

static bool read_number(const char **p, unsigned *out)
{
	unsigned n = 0, digits = 0;
	for (; isdigit((unsigned char)**p) && digits < 4; (*p)++, digits++)
		n = n * 10 + (unsigned)(**p - '0');
	*out = n;
	return digits > 0;
}

static bool read_value(const char **p, const struct field *f, unsigned *out)
{
	if (read_number(p, out))
		return *out >= f->min && *out <= f->max;
	for (unsigned i = 0; f->names && f->names[i]; i++) {
		if (strncasecmp(*p, f->names[i], 3) == 0) {
			*p += 3;
			*out = f->min + i;
			return true;
		}
	}
	return false;
}

static bool read_item(const char **p, const struct field *f, uint64_t *bits)
{
	unsigned from = f->min, to = f->max, step = 1;
	bool all = **p == '*';
	if (all) {
		(*p)++;
	} else {
		if (!read_value(p, f, &from))
			return false;
		to = from;
		if (**p == '-' && ((*p)++, !read_value(p, f, &to) || to < from))
			return false;
		all = to > from;
	}
	if (**p == '/') { /* of something that has several */
		(*p)++;
		if (!all || !read_number(p, &step) || step == 0)
			return false;
	}
	for (unsigned i = from; i <= to; i += step)
		*bits |= UINT64_C(1) << i;
	return true;
}

static bool read_field(const char **p, const struct field *f, uint64_t *bits)
{
	*bits = 0;
	do {
		if (!read_item(p, f, bits))
			return false;
	} while (*(*p)++ == ',');
	(*p)--;
	return !**p || **p == ' ' || **p == '\t';
}

bool cron_parse(const char *text, struct cron *out, struct error *err)
{
	uint64_t bits[5];
	bool any[5];
	const char *p = text;
	for (unsigned i = 0; i < 5; i++) {
		p += strspn(p, " \t");
		if (!*p)
			return error_set(
			        err, "five fields are needed: minute hour day-of-month month day-of-week");
		any[i] = *p == '*';
		if (!read_field(&p, &fields[i], &bits[i]))
			return error_set(err, "the %s is not as in crontab(5)", fields[i].what);
	}
	if (p[strspn(p, " \t")])
		return error_set(err, "more than five fields");
	*out = (struct cron){.minutes = bits[0],
	        .hours = (uint32_t)bits[1],
	        .days = (uint32_t)bits[2],
	        .months = (uint32_t)bits[3],
	        .weekdays = (uint8_t)((bits[4] | bits[4] >> 7) & 0x7f),
	        .any_day = any[2],
	        .any_weekday = any[4]};
	return true;
}

/* --- when ----------------------------------------------------------------------------------------------------------- */

static bool is_day(const struct cron *c, int64_t days)
{
	struct calendar_day d;
	calendar_of_days(days, &d);
	bool day = c->days >> d.day & 1, weekday = c->weekdays >> calendar_weekday(days) & 1;
	if (!(c->months >> d.month & 1))
		return false;
	return c->any_day || c->any_weekday ? day && weekday : day || weekday;
}

static int64_t local_day(const struct time_zone *tz, int64_t utc_s)
{
	int64_t local = utc_s + timezone_offset(tz, utc_s);
	return local / DAY - (local % DAY < 0);
}

/* Minutes of the day, in the order of `step`; the first whose moment is fit. */
static bool in_day(
        const struct cron *c, const struct time_zone *tz, int64_t day, int step, int64_t bound, int64_t *at_s)
{
	for (int m = step > 0 ? 0 : 1439; m >= 0 && m < 1440; m += step) {
		if (!(c->hours >> m / 60 & 1) || !(c->minutes >> m % 60 & 1))
			continue;
		int64_t at = timezone_to_utc(tz, day * DAY + (int64_t)m * 60);
		if (step > 0 ? at > bound : at <= bound) {
			*at_s = at;
			return true;
		}
	}
	return false;
}

static bool search(const struct cron *c, const struct time_zone *tz, int64_t bound, int step, int64_t *at_s)
{
	int64_t day = local_day(tz, bound) - step; /* a change may have put a moment into the day beside */
	for (int i = 0; i < DAYS_MAX; i++, day += step) {
		if (is_day(c, day) && in_day(c, tz, day, step, bound, at_s))
			return true;
	}
	return false;
}

bool cron_last(const struct cron *c, const struct time_zone *tz, int64_t until_s, int64_t *at_s)
{
	return search(c, tz, until_s, -1, at_s);
}

bool cron_next(const struct cron *c, const struct time_zone *tz, int64_t after_s, int64_t *at_s)
{
	return search(c, tz, after_s, 1, at_s);
}
