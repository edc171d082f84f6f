/*
 * fake_spool - the spool's side of handoff tests: keeps messages in memory, refuses when told to
 *
 * Purpose    Implements what the handoff calls of spool/spool.h and spool/body.h. Linked instead of libspool.a.
 * Threads    One: the loop given.
 */
#ifndef T_LIB_FAKE_SPOOL_H
#define T_LIB_FAKE_SPOOL_H

#include "spool/spool.h"

struct fake_stored {
	struct message *message; /* owns one reference */
	char *body;              /* its bytes, NUL behind */
	size_t len;
};

struct spool {
	struct loop *loop;
	/* what it says */
	enum spool_health health;
	uint64_t room;    /* largest SIZE there is room for */
	uint64_t pending; /* on top of what bodies hold */
	uint64_t backlog; /* of each writer */
	bool no_writer;   /* body_writer_new() finds no space */
	enum body_error body_error;
	enum spool_result result;
	bool hold_bodies, hold_adds; /* answers wait for fake_spool_release() */
	/* what came */
	uint64_t last_id;
	struct fake_stored *stored; /* owns */
	unsigned n_stored;
	unsigned writers, bodies; /* alive */
	unsigned queued;          /* messages the "queue" took */
	/* under way */
	struct fake_held *held;
	struct body_writer *all_writers;
};

void fake_spool_init(struct spool *, struct loop *);
/* Answers all that is held. */
void fake_spool_release(struct spool *);
/* Calls the room callbacks of all writers. */
void fake_spool_room(struct spool *);
void fake_spool_forget(struct spool *); /* drops what was stored */
void fake_spool_close(struct spool *);  /* asserts that nothing is under way */
/* handoff_shared.enqueue: counts and lets go */
void fake_spool_enqueue(struct mail *queue_mail);

#endif
