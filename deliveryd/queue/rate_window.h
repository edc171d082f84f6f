/*
 * rate_window - never more than N events in any S seconds
 *
 * Purpose    The arithmetic of a throttle. An event is taken when it begins and counts until S seconds after it is done,
 *            because the other side may see it happen at any moment in between: in no S seconds of its own clock are
 *            there more than N. What all events take (the fastest of the last 64 and more, less a good margin) need not be
 *            waited for, as it shifts them all alike. One that takes much longer is taken for done after a while
 *            (rate_window_patience_us()): a peer that never answers must not keep the throttle from the others.
 * Memory     Done events are counted in at most 257 sub-windows of S/256, each of which is over S seconds after its last
 *            event. That costs less than 1/256 of the rate, so what is wanted all the time gets at least 0.99 N of it; less
 *            only where the other side is now fast, now slow, by more than S/200.
 * Even flow  What was idle may burst. Once events had to wait they are let go one after the other, a little faster than
 *            the rate, until for S seconds none had to; this also keeps each of them short.
 * Threads    Its owner's.
 */
#ifndef QUEUE_RATE_WINDOW_H
#define QUEUE_RATE_WINDOW_H

#include <stdbool.h>
#include <stdint.h>
#include "conf/options.h"

#define RATE_SUB_WINDOWS 256

struct rate_group {
	uint64_t first_us;  /* mono */
	uint32_t length_us; /* to the last; a sub-window of a day is below 2^32 us */
	uint32_t n;
};

struct rate_window {
	struct rate rate;
	struct rate_group *groups; /* owns: a ring */
	uint32_t first, n_groups, size;
	uint64_t done;                       /* in all groups */
	uint64_t under_way;                  /* taken, neither done nor given back */
	struct rate_ticket *oldest, *newest; /* begun and under way, in their order */
	uint64_t fastest_us, slowest_us;     /* of the last era of events; */
	uint64_t era_fastest, era_slowest;   /* so far of this one, */
	uint32_t era_n;                      /* which has had so many */
	uint64_t pace_us;                    /* when the next one is due by the even flow */
	uint64_t denied_us;                  /* until when one had to wait last, 0 = never */
};

/* One event under way: embedded in whoever makes it happen. */
enum rate_ticket_state { TICKET_NONE, TICKET_RESERVED, TICKET_BEGUN, TICKET_LATE /* taken for done */ };
struct rate_ticket {
	struct rate_window *of;
	struct rate_ticket *prev, *next;
	uint64_t begun_us;
	enum rate_ticket_state state;
};

void rate_window_init(struct rate_window *, struct rate);
void rate_window_free(struct rate_window *); /* what is inside; no ticket is out */
void rate_window_set(struct rate_window *, struct rate);
/* Whether one more may begin now; if not, *until is when to ask again, unless one is given back or done sooner. */
bool rate_window_allows(struct rate_window *, uint64_t now_us, uint64_t *until);
uint64_t rate_window_patience_us(const struct rate_window *);

/* It is allowed. Reserved: it counts, and may be given back or begin later, however long that takes. */
void rate_ticket_reserve(struct rate_ticket *, struct rate_window *, uint64_t now_us);
void rate_ticket_begin(struct rate_ticket *, uint64_t now_us);
void rate_ticket_give_back(struct rate_ticket *); /* it did not happen; fine for one that is none */
void rate_ticket_done(struct rate_ticket *, uint64_t now_us); /* it did, in the time since it began */

/* For events that take no time and are not made to flow evenly: one more if it is allowed. */
bool rate_window_count(struct rate_window *, uint64_t now_us);

/* When everything in it will be over, if nothing more comes: now or before when it is empty. */
uint64_t rate_window_empty_us(struct rate_window *, uint64_t now_us);
/* Of an earlier life: n were done by then (mono, not in the future; in their order). */
void rate_window_restore(struct rate_window *, uint64_t done_us, uint32_t n);

#endif
