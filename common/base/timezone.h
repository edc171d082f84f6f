/*
 * timezone - what clocks show in a place, from the system's time zone files
 *
 * Purpose    The C library knows one zone for the whole process (TZ, tzset(3)); here each zone is an object of its own,
 *            so that several can be asked at once and from any thread.
 * Follows    RFC 8536 (TZif, versions 1 to 4), POSIX TZ strings for the time after a file's last transition.
 * Ownership  timezone_free(); immutable in between.
 * Threads    Any.
 */
#ifndef BASE_TIMEZONE_H
#define BASE_TIMEZONE_H

#include <stdint.h>
#include "base/error.h"

struct time_zone;
/* "Europe/Berlin"; "UTC"; "local" is this machine's (/etc/localtime). NULL: there is none; err says why. */
struct time_zone *timezone_new(const char *name, struct error *);
/* From the bytes of a TZif file */
struct time_zone *timezone_parse(const void *bytes, size_t n, struct error *);
void timezone_free(struct time_zone **);

/* Seconds east of UTC at that time (s since 1970) */
int32_t timezone_offset(const struct time_zone *, int64_t utc_s);
/*
 * When clocks show that time (s since 1970 as if it were UTC). A time that comes twice is its first; one that is left out
 * is the moment at which it is left out.
 */
int64_t timezone_to_utc(const struct time_zone *, int64_t local_s);

#endif
