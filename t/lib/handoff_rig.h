/*
 * handoff_rig - a handoff over socket pairs, with fake spool and fake clock
 *
 * Purpose    Tests and fuzz targets speak to a real handoff as an MTA would, a chunk at a time, and see every byte it
 *            says and every message it stores. Nothing waits: rig_settle() turns the loop until nothing is left to do.
 */
#ifndef T_LIB_HANDOFF_RIG_H
#define T_LIB_HANDOFF_RIG_H

#include "handoff/handoff.h"
#include "t/lib/fake_spool.h"

struct rig {
	struct fake_clock clock;
	struct loop *loop;
	struct spool spool;
	struct metrics *metrics;
	struct event_log *events;
	struct handoff_shared shared;
	struct handoff *handoff;
	struct str event_lines; /* all events, a line each */
};

/* One end of a session. */
struct rig_client {
	int fd;
	struct str said; /* what the handoff said so far */
	bool closed;     /* it closed the connection */
};

/* bindpost_json: NULL = rig's own. policy_json: NULL = bindings acme, beta, group shared. */
void rig_init(struct rig *, const char *bindpost_json, const char *policy_json);
void rig_free(struct rig *); /* asserts that nothing was left behind */
/* The configuration becomes this one; false when it has errors (printed). */
bool rig_configure(
        struct rig *, const char *bindpost_json, const char *policy_json, struct stamp_keys *takes);
/* The same with the rig's own bindpost.json; what was in force stays known, as between a reload's "take" and "drop". */
bool rig_take(struct rig *, const char *policy_json, struct stamp_keys *takes);

void rig_connect(struct rig *, struct rig_client *);
/* As if from this address; "" = Unix socket */
void rig_connect_from(struct rig *, struct rig_client *, const char *ip);
void rig_send(struct rig *, struct rig_client *, const void *,
        size_t); /* turns the loop until all is taken, or refused */
void rig_say(struct rig *, struct rig_client *, const char *);
void rig_settle(struct rig *);
void rig_read(struct rig *, struct rig_client *);
void rig_hang_up(struct rig *, struct rig_client *);
void rig_advance(struct rig *, uint64_t seconds); /* in steps, so that every timer has its turn */

/*
 * The replies as one line: code and enhanced code of each reply, "|" between: "220|250|250 2.1.0". A multi-line
 * reply counts once. Anything that is no reply shows as "?".
 */
void rig_replies(const struct rig_client *, struct str *out);
extern const char rig_bindpost_json[], rig_policy_json[];

#endif
