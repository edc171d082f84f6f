/*
 * stamp_internal - between stamp_print.c, stamp_read.c and stamp_key.c
 */
#ifndef POLICY_STAMP_INTERNAL_H
#define POLICY_STAMP_INTERNAL_H

#include "base/mem.h"
#include "policy/stamp.h"

#define STAMP_MAC_LEN 43 /* 32 bytes as unpadded base64url */

size_t stamp_keys_count(const struct stamp_keys *);
/*
 * MAC = base64url(HMAC-SHA-256(key, value before "; h=" without white space, LF, first Message-ID)). `value` is
 * already without white space; message_id NULL = none goes in.
 */
void stamp_mac(const struct stamp_keys *, size_t key, const char *value, size_t len, const char *message_id,
        char out[STAMP_MAC_LEN + 1]);

#endif
