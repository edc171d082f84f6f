/*
 * milter_message - one message as the MTA tells it: only what the rules need is kept
 *
 * Ownership  Belongs to its connection, from MAIL to end of message, abort, or the next MAIL. Holds one reference to the
 *            snapshot in force at MAIL.
 */
#ifndef MILTER_MESSAGE_H
#define MILTER_MESSAGE_H

#include "base/str.h"
#include "milter/milter.h"

/* Values of headers that rules look at; more than this is a failure of ours (milter.on_error). */
#define MESSAGE_HEADERS_MAX ((size_t)4 << 20)

struct milter_message {
	struct snapshot *snapshot; /* owns a reference */
	struct pool *pool;
	const char *mailfrom;
	struct fact_header *headers; /* owns; those the policy looks at */
	size_t n_headers, header_bytes;
	const char *message_id; /* raw, of the first; NULL = none yet */
	struct str body;        /* up to milter.body_limit */
	size_t body_limit;
	int64_t size;
	unsigned n_stamps; /* instances of the stamp's header that came with it */
	bool overflow;     /* MESSAGE_HEADERS_MAX */
};

struct milter_message *milter_message_new(struct snapshot *takes_ref, const char *mailfrom);
void milter_message_free(struct milter_message **);
/* value as libmilter gives it; lead_space: it begins behind the colon (SMFIP_HDR_LEADSPC) */
void milter_message_header(
        struct milter_message *, const struct milter *, const char *name, const char *value, bool lead_space);
/* True when no more of the body is wanted. */
bool milter_message_body(struct milter_message *, const unsigned char *chunk, size_t);
/* Header, body and size as facts; what the connection knows is the caller's. */
void milter_message_facts(const struct milter_message *, struct facts *);

#endif
