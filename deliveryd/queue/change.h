/*
 * change - what operators do to queued mail: flush, delay, hold, release, fail, delete, rebind; suspend and resume bindings
 *
 * Purpose    A change selects deliveries and works on them in slices, so that none holds the queue up: it goes by number
 *            over what was there when it began; what comes later is not touched. Deliveries that are just being sent are
 *            left alone and counted, but for `hold` and `rebind`, which hold or move them when they come back.
 *            `rebind` by policy moves what the rules in force send elsewhere by what is known here (rebind_policy.c);
 *            "unknown" counts what stays because they would have to know more. `reroute` has mail delivered as that of
 *            another domain is; what comes later is not touched.
 * Answer     JSON, posted when what was changed is durable:
 *            {"matched": N, "changed": N, "sending": N}, and "items" (the first 25 as `messages` has them) with dry_run.
 *            Counted are deliveries: a message has one for each recipient domain.
 * Events     One `admin` event (and for rebind one `rebind` event) when it ends: reason = the kind, count = how many, who; suspend and resume say so too.
 * Drain      Answered when it is durable that what names the binding goes elsewhere; the deliveries move by and by.
 * Threads    queue_change() any thread; the struct and what it borrows live until the reply has been taken.
 */
#ifndef QUEUE_CHANGE_H
#define QUEUE_CHANGE_H

#include "base/loop.h"
#include "base/str.h"

struct queue;

enum queue_change_kind {
	QUEUE_FLUSH,
	QUEUE_DELAY,
	QUEUE_HOLD,
	QUEUE_RELEASE,
	QUEUE_FAIL,
	QUEUE_DELETE,
	QUEUE_REBIND,
	QUEUE_REROUTE,
	QUEUE_SUSPEND,
	QUEUE_RESUME,
	QUEUE_DRAIN,
};
const char *queue_change_name(enum queue_change_kind);

/* Different ones AND, several of one OR. Texts are borrowed. */
struct words {
	const char **at;
	unsigned n;
};
struct selection {
	struct words binding;           /* names, or "group:NAME" */
	struct words domain;            /* the recipient domain, in normal form */
	struct words sender, recipient; /* addresses, "@domain" in normal form; "" is the null sender */
	struct words header;            /* "Name: value", unfolded and trimmed; "Name" = any value */
	const uint64_t *id;
	unsigned n_id;
	uint64_t older_than_us; /* since reception; 0 = any */
	bool all;
};

struct queue_change {
	struct mail mail;
	struct queue *queue;
	enum queue_change_kind kind;
	struct selection select; /* suspend and resume: one binding, perhaps one domain */
	uint64_t for_us;         /* DELAY; SUSPEND: 0 = until resumed */
	int code;                /* FAIL: 5yz */
	const char *enhanced, *text;
	const char *to; /* REBIND, DRAIN: a binding or "group:NAME" of the configuration in force; REROUTE: a domain */
	bool policy;    /* REBIND: where the rules in force say, instead of `to` */
	bool no_dsn;
	bool dry_run;
	const char *who;
	struct loop *reply_loop;
	struct mail reply;
	enum queue_change_result { CHANGE_DONE, CHANGE_UNKNOWN, CHANGE_REFUSED } result;
	struct str json; /* the answer; with a result but DONE: {"error": ...} */
	void *ctx;
};
void queue_change(struct queue_change *);

#endif
