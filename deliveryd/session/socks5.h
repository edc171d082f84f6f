/*
 * socks5 - the client's side of SOCKS5 (RFC 1928) with user name and password (RFC 1929), CONNECT only
 *
 * Purpose    Says what is to be sent, and reads what the proxy answers, in pieces of any size. Addresses are sent, never
 *            names: who resolves is us. The proxy chooses the source address and tells it in its reply; whether that is the
 *            right one is the caller's to say.
 * Ownership  A value. The target's strings are borrowed during each call.
 * Threads    The loop of the session.
 */
#ifndef SESSION_SOCKS5_H
#define SESSION_SOCKS5_H

#include "base/addr.h"
#include "base/str.h"

enum socks5_stage { SOCKS5_METHOD, SOCKS5_AUTH, SOCKS5_REPLY };
/* Whose failure it is. */
enum socks5_blame {
	SOCKS5_OF_PROXY, /* not SOCKS5, credentials refused, command not known: the proxy is of no use */
	SOCKS5_OF_PEER,  /* that destination cannot be reached through it, whoever is to blame */
};
enum socks5_step { SOCKS5_MORE, SOCKS5_DONE, SOCKS5_FAILED };

struct socks5_target {
	const char *user, *pass; /* NULL = none; 1 to 255 octets each */
	const struct addr *peer; /* with port */
};

struct socks5 {
	enum socks5_stage stage;
	uint8_t raw[22]; /* of the answer due: the longest is a reply with an IPv6 address */
	uint8_t len;
	/* DONE: */
	struct addr bound;
	/* FAILED: */
	enum socks5_blame blame;
	const char *why; /* constant text */
};

void socks5_start(struct socks5 *, const struct socks5_target *, struct str *out);
/* Appends to out what is to be sent next. *used: the bytes taken; what stands behind DONE is the peer's. */
enum socks5_step socks5_feed(struct socks5 *, const struct socks5_target *, const char *raw, size_t len,
        size_t *used, struct str *out);
const char *socks5_stage_words(enum socks5_stage);

#endif
