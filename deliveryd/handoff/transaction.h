/*
 * transaction - one MAIL to its replies: envelope, bytes, decision, message
 *
 * Purpose    What the session's commands fill in and the data runs through. Knows nothing of sockets and timers.
 * Ownership  Lives inside its session, begun and cleared once per MAIL. The message (and its pool, which has the
 *            envelope's text from MAIL on) goes to the spool with transaction_take_message().
 * Threads    Its session's loop.
 */
#ifndef HANDOFF_TRANSACTION_H
#define HANDOFF_TRANSACTION_H

#include "handoff/data_scan.h"
#include "handoff/decide.h"
#include "handoff/deliveries.h"

struct transaction_rcpt {
	const char *address, *domain; /* in the message's pool */
	enum reply verdict;           /* after data: REPLY_NONE = taken */
	uint32_t delivery;            /* then: which one it belongs to */
	const char *orcpt;            /* as in struct recipient */
	uint8_t notify;
};

struct transaction {
	struct handoff_shared *shared;   /* borrows */
	const struct policy_view *view;  /* owns one reference; NULL outside a transaction */
	const struct process_options *o; /* borrows from the view */
	struct message *message;         /* owns */
	uint64_t announced;              /* SIZE, 0 = not given */
	struct xforward xforward; /* outlives a MAIL that was refused; cleared at the transaction's end */
	struct transaction_rcpt *rcpts; /* owns */
	uint32_t n_rcpts, max_rcpts;
	unsigned refused_rcpts; /* RCPTs that were answered 4yz or 5yz */

	/* from DATA on */
	bool receiving;
	enum reply refusal; /* why the message as a whole is refused, REPLY_NONE so far */
	struct data_scan scan;
	struct message_header header;
	struct decide_needs needs;
	struct body_writer *writer; /* owns; NULL once it is refused */
	uint64_t captured;          /* our part of shared->captured */
	uint32_t trace_size;
	char *own_token; /* owns; what our Received fields contain */
	enum stamp_reason stamp_reason;
	bool unstamped; /* it was asked for, and there was none */
	struct deliveries deliveries;
	unsigned refused_by_quota[N_QUOTA_VERDICTS]; /* deliveries */
	unsigned n_taken; /* recipients whose verdict is REPLY_NONE */
};

/* What a session knows of its client that goes into the message */
struct transaction_client {
	const struct addr *addr; /* AF_UNSPEC = Unix socket */
	const char *helo, *protocol;
};

void transaction_init(struct transaction *, struct handoff_shared *);
/* view: takes the reference */
void transaction_begin(struct transaction *, const struct policy_view *view, const struct lmtp_mail *);
enum reply transaction_add_rcpt(struct transaction *, const struct lmtp_rcpt *);
/* Gives everything back; facts of XFORWARD too. Outside a transaction it does only that. */
void transaction_clear(struct transaction *);

/* Before 354. REPLY_NONE = go on. */
enum reply transaction_start_data(struct transaction *, struct loop *, const struct transaction_client *);
/* Returns how many bytes were data; *end when they were the last */
size_t transaction_feed(struct transaction *, const char *, size_t, bool *end);
/* The message as a whole is refused: what comes is still read, and forgotten. The first reason stays. */
void transaction_refuse(struct transaction *, enum reply);
/* At the end of data: sets each recipient's verdict. False when nothing is to be stored. `all_or_none`: SMTP's way. */
bool transaction_decide(struct transaction *, bool all_or_none);
/* The body is complete: takes it, returns the whole message, the caller's. */
struct message *transaction_take_message(struct transaction *, struct body *takes);

#endif
