/*
 * loop - a role's thread: events, timers, mail from other threads
 *
 * Purpose    A role is code given a loop. main.c maps roles to loops and loops to threads; several roles may
 * share a loop. In tests all roles share one loop, driven by loop_step() under a fake clock. Threads
 * loop_post(), loop_post_chain() and loop_stop() may be called from any thread; everything else only from the
 * thread that runs the loop (or before it runs). Order      Mail from one thread to one loop arrives in the
 * order posted. Mail posted by a loop's own thread goes to that loop's outbox, one per destination, which is
 * pushed once at the end of the turn, after the turn-end hooks. Mail to one's own loop is taken in the next
 * turn. Ownership  A posted mail belongs to the reader. It carries the function that takes it.
 */
#ifndef BASE_LOOP_H
#define BASE_LOOP_H

#include <event2/event.h>
#include <stdbool.h>
#include <stdint.h>
#include "base/clock.h"

struct loop;

/* Embed in a message struct; take() runs on the reader's thread and gets back to the struct by container_of.
 */
struct mail {
	struct mail *next; /* the loop's */
	void (*take)(struct mail *);
};

struct loop *loop_new(const char *name, struct clock *); /* borrows both */
void loop_free(struct loop **);                          /* no thread may run it; mail not taken is dropped */
void loop_run(struct loop *);                            /* until loop_stop() */
void loop_stop(struct loop *);
/* One turn without waiting: due timers, ready descriptors, mail, turn-end hooks. True if anything ran. */
bool loop_step(struct loop *);
struct event_base *loop_base(struct loop *); /* for bufferevents, listeners, events */
struct clock *loop_clock(struct loop *);
const char *loop_name(struct loop *);
uint64_t loop_now_us(struct loop *);  /* mono_us, read once per turn */
uint64_t loop_wall_us(struct loop *); /* wall_us, read once per turn */
/* CPU time of the thread running this loop so far, µs (t/bench, metrics); any thread */
uint64_t loop_cpu_us(struct loop *);

/* Hand-overs so far: mail taken from other threads, mail to itself, times it had to be woken for mail; any thread */
struct loop_stats {
	uint64_t mail, own_mail, wakes;
};
struct loop_stats loop_stats(struct loop *);

void loop_post(struct loop *to, struct mail *);
void loop_post_chain(struct loop *to, struct mail *first); /* several, linked by `next`, in this order */
struct mail *loop_take_all_for_test(struct loop *);        /* tests only */

/*
 * Runs fn on another loop's thread and waits for it: for the main and control threads at start, reload and stop. No queue
 * or net role ever waits like this. Never to one's own loop.
 */
void loop_call(struct loop *to, void (*fn)(void *arg), void *arg);

/* Hooks run at the end of each turn that did anything, in the order added (e.g. the spool's commit). */
void loop_on_turn_end(struct loop *, void (*fn)(void *ctx), void *ctx);

/* A timer lives in its owner; zero-initialised by timer_init(). Arming an armed timer moves it. The heap is
 * ours; libevent gets one wake-up. timer_arm_in(0) runs in the next turn, never from inside the call. */
struct timer {
	void (*fn)(void *ctx);
	void *ctx;
	uint64_t due_us; /* mono */
	uint32_t slot;   /* the heap's; 0 = not armed */
};
void timer_init(struct timer *, void (*fn)(void *ctx), void *ctx);
void timer_arm(struct loop *, struct timer *, uint64_t due_mono_us);
void timer_arm_in(struct loop *, struct timer *, uint64_t delay_us);
void timer_cancel(struct loop *, struct timer *);
bool timer_armed(const struct timer *);
uint64_t loop_next_timer_us(struct loop *); /* due time of the earliest, UINT64_MAX if none (tests) */

/*
 * workers - threads for calls that block (the disk role)
 *
 * work->run() is called on one of the threads; then `done` is posted to `reply`. With 0 threads (tests) run()
 * is called inside workers_do() and done is posted.
 */
struct workers;
struct work {
	struct work *next;
	void (*run)(struct work *); /* on a worker thread */
	struct loop *reply;
	struct mail done; /* posted after run() */
};
struct workers *workers_new(const char *name, unsigned threads);
void workers_do(struct workers *, struct work *);
void workers_free(struct workers **); /* finishes what is queued, joins */
uint64_t workers_cpu_us(struct workers *);

#endif
