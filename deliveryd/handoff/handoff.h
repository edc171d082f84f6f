/*
 * handoff - takes mail over from the MTA in front: LMTP and ESMTP server
 *
 * Purpose    Design section 7. One handoff per net loop; a listener's connections are spread over them. Reads
 *            commands and data, checks stamp and policy, builds the message, gives it to the spool, answers when
 *            it is durable.
 * Threads    Each handoff belongs to its loop; struct handoff_shared is read and counted by all with atomics.
 * Here       handoff_listener accepts; handoff_session (handoff_state.def, _io, _commands, _data) is one connection;
 *            lmtp_command, mail_path, xforward take commands apart, reply.def is what is said; transaction holds
 *            what MAIL began: data_scan finds the end of data, message_header takes the stamp out and counts
 *            Received, trace_field makes ours, decide asks stamp and rules, deliveries groups recipients.
 * Follows    RFC 5321, 2033, 2920, 1870, 6152, 2034; XFORWARD as Postfix's XFORWARD_README.
 */
#ifndef HANDOFF_HANDOFF_H
#define HANDOFF_HANDOFF_H

#include "base/metrics.h"
#include "policy/policy.h"
#include "policy/stamp.h"
#include "queue/quota.h"
#include "report/event.h"
#include "spool/spool.h"

/*
 * The configuration in force, as net threads see it: swapped whole by the reload. A transaction takes a view at MAIL
 * and keeps it to its end: policy and keys of one moment, alive as long as the view is held. Between a reload's steps
 * "take" and "drop" the milter may still stamp by what was in force before: that is kept in `previous`, newest first.
 */
#define POLICY_KEPT_MAX 4
struct policy_cell;
struct policy_view {
	struct policy *policy;
	const struct stamp_keys *keys; /* NULL = stamps are not authenticated */
	struct policy_previous {
		const struct policy *policy;
		const struct stamp_keys *keys;
	} previous[POLICY_KEPT_MAX];
	unsigned n_previous;
};
struct policy_cell *policy_cell_new(struct policy *takes_ref, struct stamp_keys *takes /* may be NULL */);
struct policy *policy_cell_get(struct policy_cell *); /* a new reference */
const struct policy_view *policy_cell_view(struct policy_cell *);
void policy_view_unref(const struct policy_view **);
/* One thread at a time changes a cell. _take keeps what it replaces as previous, _drop forgets that, _set is both. */
void policy_cell_take(struct policy_cell *, struct policy *takes_ref, struct stamp_keys *takes);
void policy_cell_drop(struct policy_cell *);
void policy_cell_set(struct policy_cell *, struct policy *takes_ref, struct stamp_keys *takes);
void policy_cell_free(struct policy_cell **);

struct handoff_shared {
	struct spool *spool;
	struct policy_cell *policy;
	struct event_log *events;
	struct metrics *metrics;
	struct loop *queue_loop;
	void (*enqueue)(struct mail *queue_mail); /* spool_add.queue_mail.take: the queue's */
	_Atomic uint64_t sessions;                /* all loops together */
	_Atomic uint64_t closing; /* those of them that were told to go, and have not gone yet */
	_Atomic bool queue_full;  /* set by the queue: 452 4.3.1 at MAIL */
	_Atomic bool stopping;    /* 421 */
	void *queue;              /* opaque, reaches enqueue() by spool_add.ctx */
	/* whether a stamp's binding that no policy knows was drained to another; NULL = none is */
	bool (*drained)(void *queue, const char *target);
	/* whether a delivery may be taken for a target, and that it was not stored after all; NULL = always */
	enum quota_verdict (*quota_take)(void *queue, const char *target, uint64_t bytes);
	void (*quota_give_back)(void *queue, const char *target, uint64_t bytes);
	uint64_t max_sessions;     /* the mark of design section 4; 0 = 1,000 */
	uint64_t max_pending;      /* bytes received but not yet durable; 0 = 256 MB */
	struct handoff *handoffs;  /* all of them: made before the loops run, freed after */
	_Atomic uint64_t captured; /* bytes held for rules that deliveryd evaluates: count as pending */
};

struct handoff;
struct handoff *handoff_new(struct handoff_shared *, struct loop *);
/* A connection accepted elsewhere (main spreads them); takes fd. Runs on the handoff's loop. peer NULL or AF_UNIX: a
 * Unix socket, which is always allowed to hand over. */
void handoff_accept(struct handoff *, int fd, const struct sockaddr *peer);
/* No new transaction; running ones get 30 s to reach the end of data and then wait for the spool; idle ones get 421.
 * `done` once, when the last session has gone; never from inside the call. */
void handoff_stop(struct handoff *, void (*done)(void *ctx), void *ctx);
void handoff_free(struct handoff **);

/* Listening descriptors on one loop; accepted connections are dealt out to the handoffs of all net loops. */
struct handoff_listener;
struct handoff_listener *handoff_listener_new(struct handoff_shared *, struct loop *, const int *fds,
        unsigned n_fds, struct handoff *const *handoffs, struct loop *const *loops, unsigned n);
void handoff_listener_free(struct handoff_listener **);

#endif
