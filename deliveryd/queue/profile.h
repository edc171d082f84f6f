/*
 * profile - the connection options resolved for a binding and a recipient domain, interned
 *
 * Purpose    Equal option values are one object, so pointers compare. Part of a queue's key.
 * Ownership  Counted; owns its strings (it outlives the conf it came from).
 * Threads    profile_intern() on the queue's loop; reading and counts anywhere.
 */
#ifndef QUEUE_PROFILE_H
#define QUEUE_PROFILE_H

#include <stdatomic.h>
#include "conf/conf.h"

struct profile {
	atomic_uint refs;
	struct conn_options o; /* strings owned by the profile */
};
struct profile_table;
struct profile_table *profile_table_new(void);
void profile_table_free(struct profile_table **);
struct profile *profile_intern(struct profile_table *, const struct conn_options *); /* a new reference */
struct profile *profile_ref(struct profile *);
void profile_unref(struct profile **); /* any thread; the table drops unused ones when it grows */

#endif
