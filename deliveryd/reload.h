/*
 * reload - the configuration is read again, and taken whole or not at all
 *
 * Purpose    Loads the files, asks the queue whether what disappears still has mail, and puts the new snapshot into
 *            force: queue, handoff, router, event log. A bad file changes nothing. Options that need a restart keep
 *            their old value and are named in the answer.
 * Steps      Design 5: between "take" and "drop" the milter reloads. Meanwhile the new policy is in force, but a stamp
 *            that only the previous one (or its keys) explains is honoured, and bindings that the new one lacks work
 *            on as they were.
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
	void (*prepare)(
	        void *ctx, const struct policy *); /* on the control loop, right before: what reads files */
	void (*apply)(void *ctx, const struct policy *); /* on the queue's loop: router, resolver */
	void *ctx;
};
struct reload;
struct reload *reload_new(const struct reload_parts *, struct policy *in_force /* takes a reference */);
void reload_free(struct reload **);
/*
 * step: "check" (nothing changes), "take" (the new policy is in force), "drop" (what it no longer has is forgotten; the
 * files are not read) and "all" (take and drop). The answer is a JSON object: {"ok", "errors": [...], "warnings":
 * [...]}, and but for "drop" what conf_diff_json() says. False = refused.
 */
bool reload_run(struct reload *, const char *step, bool force, struct str *json);

#endif
