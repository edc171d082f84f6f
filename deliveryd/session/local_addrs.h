/*
 * local_addrs - which addresses are on this machine (design section 9, 1)
 *
 * Purpose    An address is on this machine if the kernel's local routing table covers it (AnyIP ranges count). Read
 *            once by netlink at start, then kept by its notifications.
 * Threads    local_addrs_has() any thread; the rest on the loop it was given.
 */
#ifndef SESSION_LOCAL_ADDRS_H
#define SESSION_LOCAL_ADDRS_H

#include "base/addr.h"
#include "base/error.h"
#include "base/loop.h"

struct local_addrs;
struct local_addrs *local_addrs_new(struct loop *, struct error *);
/* Tests: a fixed table, changed with _fake_set(). */
struct local_addrs *local_addrs_fake(void);
void local_addrs_fake_set(struct local_addrs *, const struct addr *, bool present);
bool local_addrs_has(const struct local_addrs *, const struct addr *);
/* changed() runs on the loop after any change of the table */
void local_addrs_on_change(struct local_addrs *, void (*changed)(void *ctx), void *ctx);
void local_addrs_free(struct local_addrs **);

#endif
