/*
 * sockspec - where to listen or connect, as written in the configuration (design 5)
 *
 * `inet:HOST:PORT`, `inet:[::1]:PORT`, `unix:/path?mode=0660&group=postfix`, `systemd:NAME`. HOST is an IP
 * address or "localhost" (127.0.0.1) or "*" (all addresses of both families, listen only; addr.family is
 * AF_UNSPEC then).
 */
#ifndef BASE_SOCKSPEC_H
#define BASE_SOCKSPEC_H

#include <stdbool.h>
#include <sys/stat.h>
#include "base/addr.h"
#include "base/error.h"
#include "base/str.h"

enum sockspec_type { SOCKSPEC_INET, SOCKSPEC_UNIX, SOCKSPEC_SYSTEMD };

struct sockspec {
	enum sockspec_type type;
	struct addr addr;         /* inet */
	char path[108];           /* unix path, or systemd name */
	mode_t mode;              /* unix; 0 = as umask gives */
	char group[64], user[64]; /* unix; "" = unchanged */
};

bool sockspec_parse(const char *, struct sockspec *, struct error *);
void sockspec_print(const struct sockspec *, struct str *);
/* Listening descriptors, non-blocking, close-on-exec: one, or several for systemd:NAME. A stale Unix socket
 * nobody listens on is replaced; one somebody listens on is an error. Returns the number, -1 on error. */
int sockspec_listen(const struct sockspec *, int backlog, int *fds, int max, struct error *);
/* Blocking connect, for command line tools. Returns fd or -1. */
int sockspec_connect(const struct sockspec *, struct error *);
/* What libmilter's smfi_setconn() understands: "inet:port@host", "inet6:port@host", "unix:/path". False for
 * systemd. */
bool sockspec_libmilter(const struct sockspec *, struct str *);
/* Applies mode and group to the path of a Unix socket (libmilter makes its own). */
bool sockspec_apply_mode(const struct sockspec *, struct error *);

#endif
