/*
 * view - the operators' SQLite file: what is in the spool, to be asked in SQL
 *
 * Purpose    Follows the log some seconds behind, by a thread of its own that has the lowest priority. It is only a view:
 *            nothing depends on it, and nobody waits for it. A lock that somebody holds on the file makes it older; when
 *            the log has gone on meanwhile and what it needs is gone, or the file is missing, damaged or of another
 *            version, it is made anew from the log. While space is short it is not written.
 * Ownership  Borrows the spool, which must live longer.
 * Threads    view_start() and view_stop(): the main thread. view_round(): the view's own thread, or a test instead of it.
 * Errors     Are logged, once each until it is well again.
 */
#ifndef SPOOL_VIEW_H
#define SPOOL_VIEW_H

#include "spool/spool.h"

#define VIEW_FILE "view.db" /* in spool.path */

struct view;
struct view *view_new(struct spool *, const char *path);
/* Reads on to what is synced now. True: the file says it all. */
bool view_round(struct view *);
bool view_has_room(const struct spool *);       /* else it is not written */
bool view_start(struct view *, struct error *); /* rounds every few seconds */
void view_stop(struct view **);                 /* NULL is fine */

#endif
