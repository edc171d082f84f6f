/*
 * milter - what the parts of bindpost-milter share
 *
 * Purpose    main.c owns one `struct milter` and hands it down. libmilter calls back on threads of its own, one per
 *            connection; all a connection has hangs from smfi_setpriv().
 * Snapshot   Policy and keys are swapped whole. A message takes one reference at MAIL and drops it at its end, so a
 *            reload in between changes nothing for it.
 */
#ifndef MILTER_MILTER_H
#define MILTER_MILTER_H

#include <jansson.h>
#include <pthread.h>
#include <stdatomic.h>
#include "policy/policy.h"
#include "policy/stamp.h"

struct snapshot {
	_Atomic uint32_t refs;
	struct policy *policy;   /* owns a reference */
	struct stamp_keys *keys; /* owns; NULL = stamps are not signed */
	struct policy_needs needs;
	uint64_t loaded_us; /* wall */
};

/* Loads configuration, policy and keys; NULL with everything that is wrong in errors. `running`, `changes`: see
 * policy_reload(); NULL at start. */
struct snapshot *snapshot_load(
        const char *conf_path, const struct policy *running, json_t *changes, struct errors *);
void snapshot_unref(struct snapshot **);

struct milter_counts {
	_Atomic uint64_t connections; /* open now */
	_Atomic uint64_t messages;    /* stamped */
	_Atomic uint64_t removed;     /* stamps that came with a message */
	_Atomic uint64_t unclaimed;   /* 451: default_binding none */
	_Atomic uint64_t reconnect;   /* 421: negotiated less than the policy now needs */
	_Atomic uint64_t errors;      /* on_error */
	_Atomic uint64_t reloads, reloads_refused;
};

struct milter {
	const char *conf_path; /* borrows */
	struct rnd *rnd;
	struct clock *clock;
	/* of the configuration at start; a change needs a restart */
	const char *header;
	size_t header_len;

	pthread_mutex_t lock; /* current */
	struct snapshot *current;
	pthread_mutex_t reload_lock; /* one reload at a time */

	struct milter_counts counts;
	uint64_t started_us;     /* wall */
	_Atomic bool stopping;   /* 421 at MAIL */
	_Atomic uint32_t active; /* messages between MAIL and their end */
	int wake_fd;             /* eventfd: written when the last active message ends while stopping */
};

struct snapshot *milter_snapshot(struct milter *); /* a new reference */
/* All or nothing. What was said is in errors; `changes` (an object, may be NULL) takes conf_diff_json(). */
bool milter_reload(struct milter *, struct errors *, json_t *changes);

#endif
