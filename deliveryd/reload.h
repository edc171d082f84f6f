/*
 * reload - the configuration is read again, and taken whole or not at all
 *
 * Purpose    Loads the files, asks the queue whether what disappears still has mail, and puts the new snapshot into
 *            force: queue, handoff, router, event log. A bad file changes nothing. Options that need a restart keep
 *            their old effect and are named in the answer.
 * Threads    One caller at a time: the control loop's thread (it may read files and wait for the queue's answer).
 */
#ifndef DELIVERYD_RELOAD_H
#define DELIVERYD_RELOAD_H

#include "handoff/handoff.h"
#include "queue/queue.h"

struct reload_parts {
	const char *config_path; /* borrows */
	struct loop *queue_loop;
	struct queue *queue;
	struct policy_cell *cell;
	struct event_log *events;
	void (*apply)(void *ctx, const struct policy *); /* on the queue's loop: router, resolver */
	void *ctx;
};
struct reload;
struct reload *reload_new(const struct reload_parts *, struct policy *in_force /* takes a reference */);
void reload_free(struct reload **);
/*
 * step: "check" (nothing changes), "take" (the new policy is in force), "drop" and "all". The answer is a JSON object:
 * {"ok", "errors": [...], "warnings": [...], "added", "removed", "changed", "restart"}. False = refused.
 */
bool reload_run(struct reload *, const char *step, bool force, struct str *json);

#endif
