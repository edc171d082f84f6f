/*
 * secrets - passwords and tokens that stand in files of their own
 *
 * Purpose    A token lives for an hour, and another program writes it anew: a file is read again when what is known of
 *            it is older than a few seconds, after secret_doubt(), and after a reload. By a worker thread: the loop
 *            does not wait for the disk.
 * Follows    The first line counts. The file may be neither readable by others nor writable by its group.
 * Threads    The loop's.
 */
#ifndef SESSION_SECRETS_H
#define SESSION_SECRETS_H

#include "base/error.h"
#include "base/loop.h"

#define SECRET_MAX 8192

struct secrets;
struct secrets *secrets_new(struct loop *, unsigned threads /* 0: read at once (tests) */);
void secrets_free(struct secrets **); /* nobody waits any more */
void secrets_reload(struct secrets *);

/* In whoever waits; zeroed before use. */
struct secret_wait {
	struct secret_wait *next, **link;
	/* Once, from the loop. secret: borrowed for the call; NULL: why */
	void (*ready)(void *ctx, const char *secret, const struct error *why);
	void *ctx;
};
void secret_get(struct secrets *, const char *path, struct secret_wait *);
void secret_cancel(struct secret_wait *);
/* The other side did not like it: the file is looked at before it is used again. */
void secret_doubt(struct secrets *, const char *path);

#endif
