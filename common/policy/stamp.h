/*
 * stamp - the X-Binding header: written by the milter, read by deliveryd
 *
 * Follows    Design section 6, "The stamp": the grammar, folding (no line over 900 bytes), MAC.
 * Threads    Any.
 */
#ifndef POLICY_STAMP_H
#define POLICY_STAMP_H

#include "policy/policy.h"

/* Keys: the file's, first signs, all are accepted. */
struct stamp_keys;
struct stamp_keys *stamp_keys_load(
        const char *path, struct error *); /* mode checked: others must not read it */
/* Those of stamp.key_file. NULL: the configuration names none, or an error that says where and why was added. */
struct stamp_keys *stamp_keys_of(const struct conf *, struct errors *);
void stamp_keys_free(struct stamp_keys **);

/* libmilter and MTAs take headers of 64 KB; a stamp comes near it only with hundreds of open rules. */
#define STAMP_MAX_BYTES 60000

/* Appends the header's value (after "X-Binding: "), folded with "\n\t" as libmilter wants. message_id: the raw value of
 * the first Message-ID, NULL = none seen. Without keys nothing is signed. */
void stamp_print(const struct decision *, const struct stamp_keys *, uint64_t wall_us, const char *message_id,
        struct str *out);

enum stamp_reason { /* why a stamp is bad; each has its counter and event */
	STAMP_OK,
	STAMP_SYNTAX,
	STAMP_TWO,
	STAMP_NO_MAC,
	STAMP_BAD_MAC,
	STAMP_EXPIRED,
	STAMP_FUTURE,
	STAMP_UNKNOWN_BINDING,
	STAMP_N_REASONS
};
const char *stamp_reason_name(enum stamp_reason); /* "bad_mac" */

/* Parses the raw value (folded). keys NULL: t, m, h are ignored. On STAMP_OK fills in *out (decision_free() it).
 * Names are checked against the policy; `message_id`: the raw value of the message's first Message-ID, NULL if none.
 * A stamp without b= has rule NULL; one with b=default is not claimed. */
enum stamp_reason stamp_read(const char *raw, size_t len, const struct policy *, const struct stamp_keys *,
        uint64_t lifetime_s, uint64_t wall_us, const char *message_id, struct decision *out);
/* The same with another idea of which targets ("acme", "group:shared") exist, e.g. bindings dropped but still served. */
typedef bool stamp_known(void *ctx, const char *target);
enum stamp_reason stamp_read_known(const char *raw, size_t len, stamp_known *, void *ctx,
        const struct stamp_keys *, uint64_t lifetime_s, uint64_t wall_us, const char *message_id,
        struct decision *out);

#endif
