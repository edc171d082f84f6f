/*
 * message_header - the header section, as its bytes come
 *
 * Purpose    Stands between data_scan and the body: passes everything on but the stamp, and notes what the handoff
 *            needs to know: the stamp, Received fields (own and all), the first Message-ID; and, while `capture` is
 *            set, the fields themselves and the first bytes of the body, for rules that deliveryd has to evaluate.
 * Follows    Design section 6: a line named like the stamp in any case, also with blanks before the colon, is a stamp,
 *            with its continuation lines; the section ends at the first empty line.
 * Memory     Lines are handed on from the caller's chunk; only what a chunk border cuts is copied, up to
 *            HEADER_LINE_HELD. The values kept have bounds of their own; see the .c file.
 * Threads    Belongs to its session.
 */
#ifndef HANDOFF_MESSAGE_HEADER_H
#define HANDOFF_MESSAGE_HEADER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "base/str.h"
#include "policy/policy.h"

#define HEADER_LINE_HELD 4096
#define HEADER_VALUE_MAX (128 * 1024)    /* stamp, Message-ID: more is no stamp of ours */
#define HEADER_CAPTURE_MAX (1024 * 1024) /* what rules get to see of the header section */

enum header_class {
	HEADER_NONE /* no field */,
	HEADER_OTHER,
	HEADER_STAMP,
	HEADER_RECEIVED,
	HEADER_MESSAGE_ID,
	HEADER_TLS_REQUIRED
};

struct message_header {
	/* results */
	unsigned n_stamps, n_received, n_own_received;
	struct str stamp; /* raw value of the first, folded; `failed` when longer than HEADER_VALUE_MAX */
	unsigned n_tls_required;
	struct str tls_required; /* raw value of the first */
	struct str message_id;   /* of the first, unfolded and trimmed by message_header_end() */
	bool has_message_id;
	bool has_8bit;      /* in what was passed on of it */
	bool done;          /* the empty line has come */
	uint64_t kept, cut; /* bytes passed on up to and with the empty line; bytes of stamps */

	/* capture; the caller sets the two switches, at any time, and `body_max` */
	bool capture_fields, capture_body;
	const struct policy *looks; /* borrows; only fields that its rules look at. NULL = all */
	bool find_8bit;             /* `has_8bit` is wanted */
	size_t body_max;
	struct str fields; /* raw */
	struct str body;

	/* the parser's */
	const char *stamp_name, *own_token;
	void (*sink)(void *ctx, const char *, size_t);
	void *ctx;
	struct str line;         /* what has come of a line that a chunk border cut */
	struct str received;     /* value of the Received at hand, cut */
	enum header_class class; /* of the field at hand */
	bool in_long_line;       /* past HEADER_LINE_HELD of a line: its class is known */
	bool field_captured;     /* the field at hand is what rules look at */
	bool field_kept;         /* the field at hand's value goes to stamp or message_id: it is the first */
	struct field_place {
		uint32_t start, colon, end; /* within `fields` */
	} * places;
	uint32_t n_places, max_places;
};

/* stamp_name: "X-Binding"; own_token: what a Received field of ours contains. Both borrowed. */
void message_header_init(struct message_header *, const char *stamp_name, const char *own_token,
        void (*sink)(void *ctx, const char *, size_t), void *ctx);
void message_header_feed(struct message_header *, const char *, size_t);
/* No more bytes: hands on what is held. */
void message_header_end(struct message_header *);
void message_header_free(struct message_header *);
/* "TLS-Required: No", once (RFC 8689 3); anything else of that name means nothing. */
bool message_header_tls_optional(const struct message_header *);
/* Bytes held in capture, for the bound over all sessions */
size_t message_header_captured(const struct message_header *);
void message_header_drop_capture(struct message_header *);
/* The captured fields, as rules see them; borrowed from the header, the array is the caller's (mem_free()). */
struct fact_header *message_header_facts(const struct message_header *, size_t *n);

#endif
