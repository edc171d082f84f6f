/*
 * message - what a message is, from the handoff's last byte to its last recipient
 *
 * Purpose    The immutable record that goes handoff -> spool -> queue. Built once by its writer (handoff, DSN,
 *            spool replay), then only read.
 * Ownership  Counted. All memory hangs from its pool; the body is counted by itself.
 * Threads    Any, once posted.
 */
#ifndef DELIVERYD_MESSAGE_H
#define DELIVERYD_MESSAGE_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include "base/addr.h"
#include "base/mem.h"
#include "policy/policy.h" /* enum priority */

struct body; /* spool/body.h */

enum message_flags {
	MESSAGE_DOT_LINES = 1 << 0, /* some line begins with a dot: must be stuffed on the way out */
	MESSAGE_8BIT = 1 << 1,	    /* bytes over 127 in header or body */
	MESSAGE_SMTPUTF8 = 1 << 2,  /* MAIL said SMTPUTF8 */
	MESSAGE_BODY_8BITMIME = 1 << 3, /* MAIL said BODY=8BITMIME */
	MESSAGE_REQUIRETLS = 1 << 4,
	MESSAGE_DSN = 1 << 5,	    /* a report of our own: goes to notify.via */
	MESSAGE_UTF8_HEADER = 1 << 6, /* MAIL said SMTPUTF8, and the header has bytes over 127 */
};

struct recipient {
	const char *address; /* as given at the handoff, without <>; UTF-8 only with MESSAGE_SMTPUTF8 */
	const char *orcpt;   /* NULL; RFC 3461 */
	uint8_t notify;	     /* RFC 3461 bits; 0 = not given */
};

/* One delivery: one binding (or group), one recipient domain, its recipients. Its number is its place in the array. */
struct delivery_spec {
	const char *target; /* binding name or "group:NAME", as decided; never NULL */
	const char *rule;   /* deciding rule, "match_domain", "default" */
	uint32_t sticky;    /* for the group's member choice, when has_sticky */
	bool has_sticky;
	uint8_t priority;   /* enum priority */
	const char *domain; /* recipient domain, normal form (names.h) */
	struct recipient *recipients;
	uint32_t n_recipients;
};

struct message {
	atomic_uint refs;
	uint64_t id;		 /* from spool_new_id() */
	uint64_t received_wall_us;
	uint32_t flags;		 /* enum message_flags */
	const char *sender;	 /* without <>; "" = null reverse-path */
	const char *client_name, *client_helo, *client_proto; /* XFORWARD or the connection; NULL = unknown */
	struct addr client_addr; /* AF_UNSPEC = unknown */
	const char *envid;	 /* NULL */
	uint8_t ret;		 /* RFC 3461: 0 not given, 1 FULL, 2 HDRS */
	struct delivery_spec *deliveries;
	uint32_t n_deliveries;
	struct body *body;	 /* owns one reference; complete; NULL when dropped from memory (read back from the spool) */
	uint64_t body_size;	 /* bytes, our Received included, stamp not */
	uint32_t header_size;	 /* bytes up to and including the empty line */
	struct pool *pool;	 /* owns everything above and this struct itself */
};

struct message *message_new(void); /* refs 1, in its own pool */
struct message *message_ref(struct message *);
void message_unref(struct message **);
/* MESSAGE_DOT_LINES and MESSAGE_8BIT as these bytes ask for: who makes a body of his own must set them. */
uint32_t message_text_flags(const char *text, size_t len);

#endif
