/*
 * spool_model - what a spool was asked to keep, what it confirmed, and what it may therefore have after an accident
 *
 * Purpose    Drives a rig at random (messages, states, moves, dones, settings, DSN-like pairs, reads, time), notes what
 *            was posted and what was confirmed, and compares a replay with it: what was confirmed is there, once and
 *            intact, with the newest confirmed state or a later posted one; what was confirmed done is not.
 */
#ifndef T_LIB_SPOOL_MODEL_H
#define T_LIB_SPOOL_MODEL_H

#include "t/lib/spool_rig.h"

#define MODEL_DELIVERIES 4u
#define MODEL_SETTINGS 6u

struct model_delivery {
	uint32_t state, move;           /* the newest posted */
	uint32_t state_kept, move_kept; /* the newest confirmed */
	bool done, done_kept;
};
enum model_fate { MODEL_ASKED, MODEL_STORED, MODEL_REFUSED, MODEL_UNKNOWN };
struct model_message {
	uint64_t id;
	size_t body;
	uint32_t n_deliveries, n_recipients;
	enum model_fate fate;
	struct rig_add *add;     /* not yet answered */
	struct model_post *with; /* its results */
	struct model_delivery d[MODEL_DELIVERIES];
};
struct model {
	struct rig *rig;
	uint64_t random;
	struct model_message **messages; /* own */
	size_t n;
	struct model_post *posts; /* own: not yet confirmed */
	uint32_t setting[MODEL_SETTINGS], setting_kept[MODEL_SETTINGS];
	size_t body_max;
	unsigned done_share; /* of 10: how often a result is done */
	unsigned max_live;   /* above, more is done than added */
	bool finishes;       /* now and then all that is open is done at once */
	unsigned unreadable; /* bodies that could not be read back while it ran */
	char fault[256];     /* what was wrong; "" = nothing */
};

void model_init(struct model *, struct rig *, uint64_t seed);
void model_free(struct model *);
void model_step(struct model *);
/* Takes in what has been answered. */
void model_settle(struct model *);
/* After a close: what was not answered may be there or not. */
void model_unanswered(struct model *);
/* Compares with the replay just done; then what was found is what is confirmed. False: see fault. */
bool model_check(struct model *, bool bodies);
size_t model_live(const struct model *);
uint64_t model_random(struct model *, uint64_t below);

#endif
