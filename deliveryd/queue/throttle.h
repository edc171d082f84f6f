/*
 * throttle - outbound_throttle_messages and _connections: one count for all that take it from one place
 *
 * Purpose    Finds the throttle of a place by its path, so that a reload keeps what was counted; lets those who found it
 *            full wait in its line (struct limit); wakes them when there is room again. What was sent is written down
 *            ahead in settings of the spool, so that a restart within the window does not begin anew.
 * Ownership  Throttles belong to the table. Users hold one by throttle_use()/throttle_unuse(), tickets keep it as well;
 *            one without either goes when its window is empty.
 * Threads    The queue's loop only.
 */
#ifndef QUEUE_THROTTLE_H
#define QUEUE_THROTTLE_H

#include "base/json_write.h"
#include "base/loop.h"
#include "queue/lease.h"
#include "queue/rate_window.h"

struct queue;
struct throttles; /* all of a queue's */
struct throttle;

enum throttle_kind { THROTTLE_MESSAGES, THROTTLE_CONNECTIONS, N_THROTTLE_KINDS };

struct throttles *throttles_new(struct queue *);
void throttles_free(struct throttles **);
/* `place`: the path of the place it stands in. A rate that has changed holds from here on. */
struct throttle *throttle_get(struct throttles *, enum throttle_kind, const char *place, struct rate);
struct throttle *throttle_find(struct throttles *, enum throttle_kind, const char *place); /* NULL if not in use */
struct throttle *throttle_use(struct throttle *);
void throttle_unuse(struct throttle **);

/* The line of those who wait for it, as it stands now: limit_has_room() tells whether one more may begin. */
struct limit *throttle_limit(struct throttle *);
bool limit_is_throttle(const struct limit *);
struct throttle *throttle_of_limit(struct limit *);
/* "outbound_throttle_messages 60/3 of bindings.acme"; when it will let the next one through (mono); 0 = it is not full, and
 * without room waits for the spool only */
void throttle_print(const struct throttle *, struct str *);
uint64_t throttle_until_us(const struct throttle *);
/* Somebody waits in its line now. */
void throttle_held_back(struct throttle *);

/* limit_has_room(): takes its place. Begin, done and given back as in rate_window.h. */
void throttle_reserve(struct throttle *, struct rate_ticket *);
void throttle_begin(struct throttles *, struct rate_ticket *);
void throttle_done(struct throttles *, struct rate_ticket *);
void throttle_give_back(struct throttles *, struct rate_ticket *);

bool throttle_has(const struct throttle *, const struct rate_ticket *);

bool throttle_restore(struct throttles *, const char *key, const char *value); /* false: not one */
void throttles_start(struct throttles *);
void throttles_committed(struct throttles *); /* results have become durable */

#endif
