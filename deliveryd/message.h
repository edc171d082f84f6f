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
	MESSAGE_DOT_LINES = 1 << 0,     /* some line begins with a dot: must be stuffed on the way out */
	MESSAGE_8BIT = 1 << 1,          /* bytes over 127 in header or body */
	MESSAGE_SMTPUTF8 = 1 << 2,      /* MAIL said SMTPUTF8 */
	MESSAGE_BODY_8BITMIME = 1 << 3, /* MAIL said BODY=8BITMIME */
	MESSAGE_REQUIRETLS = 1 << 4,    /* MAIL said REQUIRETLS (RFC 8689) */
	MESSAGE_DSN = 1 << 5,         /* a report of our own: goes to notify.via */
	MESSAGE_UTF8_HEADER = 1 << 6, /* MAIL said SMTPUTF8, and the header has bytes over 127 */
	/* what RFC 3461 brought, so that only mail with something unusual has its envelope read back */
	MESSAGE_ORCPT = 1 << 8, /* each recipient came with its own address as ORCPT, and nothing else came */
	MESSAGE_DSN_KEPT = 1 << 9,           /* something else: it is in the spool */
	MESSAGE_CLIENT_NAME_LATER = 1 << 11, /* the client's name could not be looked up for now */
	MESSAGE_NOTIFY_SUCCESS = 1 << 10,    /* some NOTIFY has SUCCESS */
	MESSAGE_TLS_OPTIONAL = 1 << 12, /* its header says "TLS-Required: No", and MAIL did not say REQUIRETLS */
};

/* RFC 3461 4.1, 4.3; the spool keeps these numbers */
enum recipient_notify {
	NOTIFY_NEVER = 1 << 0,
	NOTIFY_SUCCESS = 1 << 1,
	NOTIFY_FAILURE = 1 << 2,
	NOTIFY_DELAY = 1 << 3,
	NOTIFY_ORCPT_SAME = 1 << 4, /* ORCPT was given, and it is the address */
};
enum message_ret { RET_NONE, RET_FULL, RET_HDRS };

struct recipient {
	const char *address; /* as given at the handoff, without <>; UTF-8 only with MESSAGE_SMTPUTF8 */
	const char
	        *orcpt; /* "rfc822;" and the like, then xtext (RFC 3461); NULL = none, or NOTIFY_ORCPT_SAME */
	uint8_t notify; /* enum recipient_notify; 0 = nothing was given */
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
	bool counted;           /* the handoff has counted it, with so many bytes, as on its way to the queue (queue/quota.h) */
	uint64_t counted_bytes;
};

struct message {
	atomic_uint refs;
	uint64_t id;		 /* from spool_new_id() */
	uint64_t received_wall_us;
	uint32_t flags;		 /* enum message_flags */
	const char *sender;	 /* without <>; "" = null reverse-path */
	const char *client_name, *client_helo, *client_proto; /* XFORWARD or the connection; NULL = unknown */
	struct addr client_addr; /* AF_UNSPEC = unknown */
	const char *envid;       /* xtext; NULL */
	uint8_t ret;             /* enum message_ret */
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
/* MESSAGE_ORCPT, MESSAGE_DSN_KEPT and MESSAGE_NOTIFY_SUCCESS as its deliveries, RET and ENVID ask for. */
uint32_t message_dsn_flags(const struct message *);

#endif
