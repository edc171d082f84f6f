/*
 * offline - a spool that no deliveryd uses, looked through without changing a byte of it
 *
 * Purpose    `bindpost spool check` and `export`: every byte is read and checked as a start would, index files are not
 *            trusted, damage is logged and counted. Bodies can be read while the message is handed out.
 * Ownership  The folder is locked from offline_open() to offline_close(): refused while a deliveryd has it.
 * Threads    One; it blocks.
 */
#ifndef SPOOL_OFFLINE_H
#define SPOOL_OFFLINE_H

#include "spool/spool.h"

struct offline;
struct offline *offline_open(const char *path, struct disk_io * /* NULL = the system's */, struct error *);
void offline_close(struct offline **); /* NULL is fine */
/* Once. Hands out what lives, oldest message first. */
bool offline_walk(struct offline *, spool_live_fn *, spool_setting_fn *, void *ctx, struct error *);

/* Of the message being handed out: its body, piece by piece, each checked before it is handed out. False: it cannot be
 * read, or write() said so (then error is untouched). */
bool offline_body(struct offline *, uint64_t id, bool (*write)(void *ctx, const void *, size_t), void *ctx,
        struct error *);

/* After the walk. */
struct offline_found {
	uint64_t segments, bytes; /* in use */
	uint64_t damaged;         /* places */
	uint64_t unreadable;      /* messages whose envelope cannot be read */
};
void offline_found(const struct offline *, struct offline_found *);

#endif
