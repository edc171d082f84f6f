/*
 * mem - allocation that succeeds or ends the process
 *
 * Accepted mail is on disk and the MTA in front defers without us: ending is safe, carrying on half-way is
 * not.
 */
#ifndef BASE_MEM_H
#define BASE_MEM_H

#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

void *mem_alloc(size_t) __attribute__((malloc, returns_nonnull));
void *mem_zalloc(size_t) __attribute__((malloc, returns_nonnull));
/*
 * For what is built once and then read at random places: begins on a cache line, not zeroed. A big one is asked to lie
 * in huge pages, without which each look would miss the TLB too.
 */
#define MEM_CACHE_LINE ((size_t)64)
void *mem_table(size_t) __attribute__((malloc, returns_nonnull));
/* n * size is checked for overflow */
void *mem_array(void *old, size_t n, size_t size) __attribute__((returns_nonnull));
char *mem_strdup(const char *) __attribute__((malloc, returns_nonnull));
char *mem_strndup(const char *, size_t) __attribute__((malloc, returns_nonnull));
char *mem_printf(const char *fmt, ...) __attribute__((malloc, returns_nonnull, format(printf, 1, 2)));
char *mem_vprintf(const char *fmt, va_list) __attribute__((malloc, returns_nonnull, format(printf, 1, 0)));
/* free(*p); *p = NULL */
void mem_free(void *pp);

#define container_of(ptr, type, member) ((type *)((char *)(ptr)-offsetof(type, member)))
#define array_len(a) (sizeof(a) / sizeof((a)[0]))

/* Bump allocator for objects with one lifetime. Everything goes with pool_free(). */
struct pool;
struct pool *pool_new(size_t first_block_bytes);
void *pool_alloc(struct pool *, size_t) __attribute__((returns_nonnull)); /* aligned to 8, zeroed */
char *pool_strdup(struct pool *, const char *) __attribute__((returns_nonnull));
char *pool_strndup(struct pool *, const char *, size_t) __attribute__((returns_nonnull));
void pool_free(struct pool **);

#endif
