/*
 * queue - what is to be delivered, when, and over which connection
 *
 * Purpose    Owns deliveries, queues (binding x next hop x profile), limits, retry timers, health of MX addresses,
 *            the resolver's consumer side. Gives jobs to sessions, turns outcomes into results for the spool.
 * Threads    The queue's loop. From elsewhere: queue_enqueue_mail() (posted by the spool), queue_ask() and
 *            queue_change() (control).
 */
#ifndef QUEUE_QUEUE_H
#define QUEUE_QUEUE_H

#include "base/json_write.h"
#include "handoff/handoff.h"
#include "queue/change.h"
#include "route/route.h"
#include "session/local_addrs.h"
#include "session/session.h"
#include "spool/spool.h"

struct queue_config {
	struct loop *loop;
	struct rnd *rnd;
	struct spool *spool;
	struct router *router;
	struct local_addrs *local;
	struct event_log *events;
	struct metrics *metrics;
	struct session_net *const *nets; /* sessions are dealt out over these */
	unsigned n_nets;
	uint32_t sessions_max; /* as many as this process may have; 0 = no bound of that kind */
	struct handoff_shared *handoff; /* its queue_full mark is ours to set */
	struct policy *policy;          /* borrows; the queue takes a reference of its own */
};
struct queue;
struct queue *queue_new(const struct queue_config *);
/* Replay: before the loops run. Same signature as spool_live_fn / spool_setting_fn. */
void queue_restore(void *queue, const struct spool_live *);
void queue_restore_setting(void *queue, const char *key, const char *value);
void queue_start(struct queue *);
/* Whether a binding or group of that name was drained to another: mail for it is taken. Any thread. */
bool queue_has_alias(void *queue, const char *name);
/* Whether a delivery may be taken for a target, and what becomes of the count when it is not stored. Any thread. */
enum quota_verdict queue_quota_take(void *queue, const char *target, uint64_t bytes);
void queue_quota_give_back(void *queue, const char *target, uint64_t bytes);
/* spool_add.queue_mail.take; spool_add.ctx is the queue */
void queue_enqueue_mail(struct mail *);
/*
 * The new snapshot takes effect; queues are re-keyed in slices. With queue_take() what it no longer has stays as it was
 * (the milter may still choose it) until queue_drop(); queue_reconfigure() is both at once.
 */
void queue_take(struct queue *, struct policy *takes_ref);
void queue_drop(struct queue *);
void queue_reconfigure(struct queue *, struct policy *takes_ref);
/* False when `next` (NULL = the snapshot in force) lacks a binding or group known here that has mail: each is an error
 * that says how to drain it. */
bool queue_may_drop(struct queue *, const struct policy *next, struct errors *);
/* No new job; `done` when all sessions have closed. */
void queue_stop(struct queue *, uint64_t transaction_deadline_mono_us, uint64_t final_deadline_mono_us,
        void (*done)(void *ctx), void *ctx);
void queue_free(struct queue **);

/*
 * Questions of the control role: answered on the queue's loop in at most 5 ms each; long lists by cursor (at most 500
 * rows an answer). The answer is JSON text as the API gives it.
 */
enum queue_question {
	QUEUE_SUMMARY,
	QUEUE_QUEUES,
	QUEUE_BINDINGS,
	QUEUE_MESSAGES,
	QUEUE_MESSAGE,
	QUEUE_CONNECTIONS,
	QUEUE_RULES, /* what response rules did and is in force */
	QUEUE_TOP    /* what moves most */
};
struct queue_ask {
	struct mail mail;
	struct queue *queue;
	enum queue_question question;
	char binding[65], domain[256]; /* filters, "" = none */
	bool must_exist;               /* QUEUE_BINDINGS: `binding` is that one, not a filter */
	uint64_t id;                   /* QUEUE_MESSAGE */
	uint64_t cursor;               /* 0 = from the start */
	unsigned limit;                /* rows, at most 500 */
	struct loop *reply_loop;
	struct mail reply;
	struct str json; /* the answer */
	bool found;
	void *ctx;
};
void queue_ask(struct queue_ask *); /* any thread */

#endif
