/*
 * settings - keys and their newest values, as the log has them
 *
 * Purpose    Few entries (suspensions, overrides, rule effects, throttle windows): kept in memory, so that the
 *            cleaner writes them anew without reading.
 * Threads    The spool loop (replay before it runs).
 */
#ifndef SPOOL_SETTINGS_H
#define SPOOL_SETTINGS_H

#include <stdbool.h>
#include <uthash.h>
#include "spool/index.h"

struct setting {
	char *key, *value; /* owns */
	struct where at;
	UT_hash_handle hh;
};

struct settings {
	struct setting *table; /* in the order first set; HASH_ITER */
};

/* value NULL: removed. live() hears of the old place and of the new one. */
void settings_put(struct settings *, const char *key, const char *value, const struct where *,
        void (*live)(void *ctx, const struct where *, bool more), void *ctx);
struct setting *settings_find(struct settings *, const char *key);
void settings_free(struct settings *);

#endif
