/*
 * quota - how much mail is taken over for a binding or group
 *
 * Purpose    max_queued_messages, max_queued_bytes, inbound_throttle_messages. The queue counts what it has, and what the
 *            handoff has taken but the queue has not got yet is counted by the handoff: a delivery moves from one count to
 *            the other when it is in the queue, so that it is never in neither.
 * Follows    What counts: a delivery, that is a message and one of its recipient domains.
 * Ownership  One object for each target ("acme", "group:shared") that was ever known; they stay until the queue goes, so
 *            that net threads find them without a lock.
 * Threads    quota_take(), quota_give_back() any; the rest the queue's loop.
 */
#ifndef QUEUE_QUOTA_H
#define QUEUE_QUOTA_H

#include <stdbool.h>
#include <stdint.h>
#include "conf/conf.h"

enum quota_verdict {
	QUOTA_NONE,  /* there is no limit anywhere: taken, not counted */
	QUOTA_TAKEN, /* counted: quota_settle() by the queue, or quota_give_back() */
	QUOTA_MESSAGES,
	QUOTA_BYTES,
	QUOTA_RATE,
	N_QUOTA_VERDICTS
};
/* The option that refuses. Here for those who do not link the queue. */
static inline const char *quota_option(enum quota_verdict v)
{
	return v == QUOTA_MESSAGES ? "max_queued_messages"
	       : v == QUOTA_BYTES  ? "max_queued_bytes"
	       : v == QUOTA_RATE   ? "inbound_throttle_messages"
	                           : NULL;
}

struct quotas;
struct quota;
struct quotas *quotas_new(void);
void quotas_free(struct quotas **);

enum quota_verdict quota_take(struct quotas *, const char *target, uint64_t bytes, uint64_t now_mono_us);
void quota_give_back(struct quotas *, const char *target, uint64_t bytes);

struct quota *quota_get(struct quotas *, const char *target); /* made when new */
/* max 0 = no limit; rate.count 0 = none. True if something is limited by it: then quotas_in_use() must be told. */
bool quota_set(struct quota *, uint64_t max_messages, uint64_t max_bytes);
bool quota_set_inbound(struct quotas *, struct quota *, const char *place, struct rate);
void quotas_in_use(struct quotas *, bool);
void quota_queued(struct quota *, int64_t messages, int64_t bytes); /* more, or less */
void quota_settle(struct quotas *, const char *target, uint64_t bytes);
uint64_t quota_bytes(const struct quota *); /* queued */
/* Why nothing more is taken at the moment; QUOTA_TAKEN: it would be. Not the rate, which changes all the time. */
enum quota_verdict quota_state(const struct quota *);

#endif
