/*
 * json_write - prints JSON, quickly, for hot output (events) and answers of the control socket
 *
 * Strings are any bytes: control characters are escaped, bytes that are not UTF-8 become U+FFFD, so the
 * result is always valid JSON on one line. Commas are put where needed.
 */
#ifndef BASE_JSON_WRITE_H
#define BASE_JSON_WRITE_H

#include <stdbool.h>
#include <stdint.h>
#include "base/str.h"

struct json_out {
	struct str *out; /* borrows */
	uint64_t comma;  /* bit per depth: something stands before */
	unsigned depth;
};
void json_out_init(struct json_out *, struct str *);
/* key NULL inside arrays and at top level */
void jw_object(struct json_out *, const char *key);
void jw_array(struct json_out *, const char *key);
void jw_end_object(struct json_out *);
void jw_end_array(struct json_out *);
void jw_str(struct json_out *, const char *key, const char *value /* NULL = null */);
void jw_strn(struct json_out *, const char *key, const char *value, size_t len);
void jw_uint(struct json_out *, const char *key, uint64_t);
void jw_int(struct json_out *, const char *key, int64_t);
void jw_seconds(struct json_out *, const char *key, uint64_t us); /* 12.345 */
void jw_bool(struct json_out *, const char *key, bool);
void jw_time(struct json_out *, const char *key, uint64_t wall_us); /* RFC 3339, µs */

#endif
