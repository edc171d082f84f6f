#include "base/timezone.h"

#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "base/calendar.h"
#include "base/mem.h"

#define FOLDER "/usr/share/zoneinfo/"
#define LOCAL "/etc/localtime"
#define FILE_MAX ((size_t)256 << 10)
#define NAME_LEN_MAX 64
#define TRANSITIONS_MAX 10000u
#define OFFSET_MAX (26 * 3600) /* RFC 8536: -25 h to 26 h */
#define DAY 86400

/* When daylight saving begins or ends: "M3.5.0/2", "J60", "59" */
struct change {
	enum { CHANGE_WEEKDAY, CHANGE_JULIAN, CHANGE_DAY } type;
	int month, week, day;
	int32_t at_s; /* of the day, local; may be negative or beyond the day */
};
struct rule { /* a POSIX TZ string */
	bool has_dst;
	int32_t offset, dst_offset;
	struct change begin, end;
};

struct time_zone {
	int64_t *at;     /* owns; ascending */
	int32_t *offset; /* owns; from at[i] on */
	size_t n;
	int32_t first; /* before at[0] */
	bool has_rule;
	struct rule rule; /* after the last */
};

/* --- POSIX TZ strings: std offset [dst [offset] [,start[/time],end[/time]]] ----------------------------------------- */

static bool skip_name(const char **p)
{
	const char *from = *p;
	if (**p == '<') {
		while (**p && **p != '>')
			(*p)++;
		return *(*p)++ == '>';
	}
	while (isalpha((unsigned char)**p))
		(*p)++;
	return *p - from >= 3;
}

static bool read_int(const char **p, int most, int *out)
{
	int n = 0;
	if (!isdigit((unsigned char)**p))
		return false;
	for (; isdigit((unsigned char)**p); (*p)++) {
		n = n * 10 + (**p - '0');
		if (n > most)
			return false;
	}
	*out = n;
	return true;
}

/* [+-]hh[:mm[:ss]] */
static bool read_time(const char **p, int32_t *out)
{
	int h, m = 0, s = 0;
	bool minus = **p == '-';
	if (**p == '+' || **p == '-')
		(*p)++;
	if (!read_int(p, 167, &h))
		return false;
	if (**p == ':' && ((*p)++, !read_int(p, 59, &m)))
		return false;
	if (**p == ':' && ((*p)++, !read_int(p, 59, &s)))
		return false;
	*out = (h * 3600 + m * 60 + s) * (minus ? -1 : 1);
	return true;
}

static bool read_change(const char **p, struct change *c)
{
	c->at_s = 2 * 3600;
	if (**p == 'M') {
		c->type = CHANGE_WEEKDAY;
		(*p)++;
		if (!read_int(p, 12, &c->month) || c->month < 1 || *(*p)++ != '.' ||
		        !read_int(p, 5, &c->week) || c->week < 1 || *(*p)++ != '.' ||
		        !read_int(p, 6, &c->day))
			return false;
	} else {
		c->type = **p == 'J' ? CHANGE_JULIAN : CHANGE_DAY;
		*p += **p == 'J';
		if (!read_int(p, 365, &c->day))
			return false;
	}
	if (**p != '/')
		return true;
	(*p)++;
	return read_time(p, &c->at_s);
}

static bool read_rule(const char *p, struct rule *r)
{
	int32_t west;
	*r = (struct rule){0};
	if (!skip_name(&p) || !read_time(&p, &west))
		return false;
	r->offset = -west;
	if (!*p)
		return true;
	r->has_dst = true;
	r->dst_offset = r->offset + 3600;
	if (!skip_name(&p))
		return false;
	if (*p && *p != ',') {
		if (!read_time(&p, &west))
			return false;
		r->dst_offset = -west;
	}
	return *p++ == ',' && read_change(&p, &r->begin) && *p++ == ',' && read_change(&p, &r->end) && !*p;
}

/* Local seconds of that moment in that year */
static int64_t change_in(const struct change *c, int year)
{
	int64_t day;
	if (c->type == CHANGE_WEEKDAY) {
		day = calendar_days(year, c->month, 1);
		day += (c->day - calendar_weekday(day) + 7) % 7 + (int64_t)(c->week - 1) * 7;
		int64_t next_month =
		        c->month == 12 ? calendar_days(year + 1, 1, 1) : calendar_days(year, c->month + 1, 1);
		while (day >= next_month)
			day -= 7;
	} else {
		day = calendar_days(year, 1, 1) + c->day;
		/* J counts from 1 and never February 29 */
		if (c->type == CHANGE_JULIAN)
			day -= !(calendar_is_leap(year) && c->day >= 60);
	}
	return day * DAY + c->at_s;
}

static int32_t rule_offset(const struct rule *r, int64_t utc_s)
{
	struct calendar_day d;
	if (!r->has_dst)
		return r->offset;
	calendar_of_days((utc_s + r->offset) / DAY - ((utc_s + r->offset) % DAY < 0), &d);
	int64_t begin = change_in(&r->begin, d.year) - r->offset,
	        end = change_in(&r->end, d.year) - r->dst_offset;
	bool dst = begin < end ? utc_s >= begin && utc_s < end : utc_s >= begin || utc_s < end;
	return dst ? r->dst_offset : r->offset;
}

/* --- TZif ------------------------------------------------------------------------------------------------------------ */

struct counts {
	uint32_t isutc, isstd, leap, times, types, chars;
};

static uint32_t be32(const unsigned char *p)
{
	return (uint32_t)p[0] << 24 | (uint32_t)p[1] << 16 | (uint32_t)p[2] << 8 | p[3];
}

static int64_t be64(const unsigned char *p)
{
	return (int64_t)((uint64_t)be32(p) << 32 | be32(p + 4));
}

#define HEADER 44

static bool read_counts(const unsigned char *p, size_t n, struct counts *c)
{
	if (n < HEADER || memcmp(p, "TZif", 4) != 0)
		return false;
	c->isutc = be32(p + 20);
	c->isstd = be32(p + 24);
	c->leap = be32(p + 28);
	c->times = be32(p + 32);
	c->types = be32(p + 36);
	c->chars = be32(p + 40);
	return c->times <= TRANSITIONS_MAX && c->types >= 1 && c->types <= 256 && c->chars <= 4096 &&
	       c->leap <= 4096 && c->isutc <= 256 && c->isstd <= 256;
}

static size_t block_size(const struct counts *c, size_t time_size)
{
	return c->times * (time_size + 1) + c->types * 6 + c->chars + c->leap * (time_size + 4) + c->isstd +
	       c->isutc;
}

static bool offset_of_type(const unsigned char *types, const struct counts *c, unsigned type, int32_t *out)
{
	if (type >= c->types)
		return false;
	*out = (int32_t)be32(types + type * 6);
	return *out >= -OFFSET_MAX && *out <= OFFSET_MAX;
}

static bool read_block(struct time_zone *tz, const unsigned char *p, const struct counts *c, size_t time_size)
{
	const unsigned char *index = p + c->times * time_size, *types = index + c->times;
	tz->at = mem_array(NULL, c->times + 1, sizeof(*tz->at));
	tz->offset = mem_array(NULL, c->times + 1, sizeof(*tz->offset));
	if (!offset_of_type(types, c, 0, &tz->first))
		return false;
	for (uint32_t i = 0; i < c->times; i++) {
		tz->at[i] = time_size == 8 ? be64(p + i * 8) : (int32_t)be32(p + i * 4);
		if ((i > 0 && tz->at[i] <= tz->at[i - 1]) ||
		        !offset_of_type(types, c, index[i], &tz->offset[i]))
			return false;
	}
	tz->n = c->times;
	return true;
}

/* Between two line breaks after the second block */
static void read_footer(struct time_zone *tz, const unsigned char *p, size_t n)
{
	char text[128];
	const unsigned char *end = n > 1 && *p == '\n' ? memchr(p + 1, '\n', n - 1) : NULL;
	size_t len = end ? (size_t)(end - p - 1) : 0;
	if (len == 0 || len >= sizeof(text) || memchr(p + 1, 0, len))
		return;
	memcpy(text, p + 1, len);
	text[len] = 0;
	tz->has_rule = read_rule(text, &tz->rule);
}

static bool parse(struct time_zone *tz, const unsigned char *p, size_t n)
{
	struct counts c;
	if (!read_counts(p, n, &c))
		return false;
	size_t first = HEADER + block_size(&c, 4);
	if (n < first)
		return false;
	if (p[4] < '2')
		return read_block(tz, p + HEADER, &c, 4);
	p += first;
	n -= first;
	if (!read_counts(p, n, &c) || n < HEADER + block_size(&c, 8) || !read_block(tz, p + HEADER, &c, 8))
		return false;
	read_footer(tz, p + HEADER + block_size(&c, 8), n - HEADER - block_size(&c, 8));
	return true;
}

struct time_zone *timezone_parse(const void *bytes, size_t n, struct error *err)
{
	struct time_zone *tz = mem_zalloc(sizeof(*tz));
	if (parse(tz, bytes, n))
		return tz;
	error_set(err, "not a time zone file (RFC 8536)");
	timezone_free(&tz);
	return NULL;
}

void timezone_free(struct time_zone **ptz)
{
	if (!*ptz)
		return;
	free((*ptz)->at);
	free((*ptz)->offset);
	mem_free(ptz);
}

/* --- by name ----------------------------------------------------------------------------------------------------------- */

static bool is_name(const char *name)
{
	size_t len = strlen(name);
	if (len == 0 || len > NAME_LEN_MAX || !isalpha((unsigned char)*name) || strstr(name, ".."))
		return false;
	for (; *name; name++) {
		if (!isalnum((unsigned char)*name) && !strchr("_+-/", *name))
			return false;
	}
	return true;
}

static struct time_zone *read_file(const char *path, struct error *err)
{
	struct time_zone *tz = NULL;
	FILE *file = fopen(path, "rbe");
	if (!file) {
		error_set(err, "%s: %s", path, strerror(errno));
		return NULL;
	}
	unsigned char *bytes = mem_alloc(FILE_MAX);
	size_t n = fread(bytes, 1, FILE_MAX, file);
	if (ferror(file))
		error_set(err, "%s: %s", path, strerror(errno));
	else
		tz = timezone_parse(bytes, n, err);
	fclose(file);
	free(bytes);
	return tz;
}

struct time_zone *timezone_new(const char *name, struct error *err)
{
	char path[sizeof(FOLDER) + NAME_LEN_MAX];
	struct time_zone *tz = NULL;
	if (strcmp(name, "UTC") == 0)
		return mem_zalloc(sizeof(*tz)); /* without any file */
	if (strcmp(name, "local") == 0) {
		tz = read_file(LOCAL, err);
		return tz ? tz : mem_zalloc(sizeof(*tz)); /* as the C library does */
	}
	if (!is_name(name)) {
		error_set(err, "not the name of a time zone, such as Europe/Berlin");
		return NULL;
	}
	snprintf(path, sizeof(path), FOLDER "%s", name);
	return read_file(path, err);
}

/* --- asking ------------------------------------------------------------------------------------------------------------- */

int32_t timezone_offset(const struct time_zone *tz, int64_t utc_s)
{
	size_t low = 0, high = tz->n; /* the number of transitions up to then */
	while (low < high) {
		size_t mid = (low + high) / 2;
		if (tz->at[mid] <= utc_s)
			low = mid + 1;
		else
			high = mid;
	}
	if (low == tz->n && tz->has_rule)
		return rule_offset(&tz->rule, utc_s);
	return low == 0 ? tz->first : tz->offset[low - 1];
}

int64_t timezone_to_utc(const struct time_zone *tz, int64_t local_s)
{
	int32_t before = timezone_offset(tz, local_s - OFFSET_MAX - DAY);
	int32_t after = timezone_offset(tz, local_s + OFFSET_MAX + DAY);
	int64_t a = local_s - before, b = local_s - after;
	bool a_is = timezone_offset(tz, a) == before, b_is = timezone_offset(tz, b) == after;
	if (a_is && b_is)
		return a < b ? a : b;
	if (a_is || b_is)
		return a_is ? a : b;
	/* left out: the first moment at which clocks show it or later */
	int64_t low = (a < b ? a : b) - OFFSET_MAX, high = (a > b ? a : b) + OFFSET_MAX;
	while (low + 1 < high) {
		int64_t mid = low + (high - low) / 2;
		if (mid + timezone_offset(tz, mid) >= local_s)
			high = mid;
		else
			low = mid;
	}
	return high;
}
