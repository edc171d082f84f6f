/*
 * session_rig - outgoing sessions alone: net loop and owner on one loop, fake clock, an owner that remembers
 */
#ifndef T_LIB_SESSION_RIG_H
#define T_LIB_SESSION_RIG_H

#include "session/local_addrs.h"
#include "session/session.h"
#include "t/lib/fake_body.h"
#include "t/lib/scripted_mx.h"

#define RIG_SOURCE "127.0.0.77"

struct rig {
	struct fake_clock clock;
	struct loop *loop;
	struct metrics *metrics;
	struct local_addrs *local;
	struct session_net *net;
	struct profile profile;
	struct scripted_mx *mx;
	struct session_owner owner;

	/* what the next session is opened with */
	struct session_open open;

	/* what came back, oldest first */
	struct session *session; /* NULL = none open */
	unsigned ready, wants, closed;
	struct session_job *jobs[64];
	unsigned n_jobs;
	struct outcome why;
	uint32_t completed;
	struct addr source, peer; /* of the facts, when closed */
	char ehlo[256], tls_version[16], tls_verified[16];
	bool tls_resumed;
	struct str story; /* "ready want done:ok done:transient/lost closed" */

	/* what the owner does */
	struct session_job *next[16]; /* given one by one when asked */
	unsigned n_next, next_given;
	bool says_no; /* session_no_job() when there is none */
};

void rig_init(struct rig *);
/* Checks that nothing is left open, and that the MX has no complaint. */
void rig_end(struct rig *);
/* recipients: separated by blanks */
struct session_job *rig_job(const char *sender, const char *recipients, const char *body);
struct session_job *rig_job_body(
        const char *sender, const char *recipients, struct body *takes, uint32_t flags);
void rig_open(struct rig *, struct session_job *first);
void rig_give(struct rig *, struct session_job *); /* when next asked */
/* Steps until nothing more happens (time stands). */
void rig_run(struct rig *);
void rig_advance(struct rig *, unsigned seconds); /* running whatever falls due on the way */
void rig_forget(struct rig *);                    /* frees what came back, clears the story */

#endif
