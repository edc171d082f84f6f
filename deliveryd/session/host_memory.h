/*
 * host_memory - hosts to which something applies for a while
 *
 * Purpose    A small table by address: bounded, the newest entry of a place counts. To forget costs no more than another
 *            try.
 * Threads    Its loop's.
 */
#ifndef SESSION_HOST_MEMORY_H
#define SESSION_HOST_MEMORY_H

#include "base/addr.h"

struct host_memory;
struct host_memory *host_memory_new(void);
void host_memory_free(struct host_memory **);
void host_memory_set(struct host_memory *, const struct addr *, uint64_t until_us);
bool host_memory_has(const struct host_memory *, const struct addr *, uint64_t now_us);

#endif
