#include "config.h"
#include "base/mem.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

static _Noreturn void mem_out(void)
{
	static const char text[] = "out of memory\n";

	/* nothing that allocates: not log_error() */
	if (write(STDERR_FILENO, text, sizeof(text) - 1) < 0)
		_exit(EXIT_FAILURE);
	abort();
}

void *mem_alloc(size_t size)
{
	void *p = malloc(size > 0 ? size : 1);

	if (p == NULL)
		mem_out();
	return p;
}

void *mem_zalloc(size_t size)
{
	void *p = calloc(1, size > 0 ? size : 1);

	if (p == NULL)
		mem_out();
	return p;
}

#define HUGE_PAGE ((size_t)2 << 20)

void *mem_table(size_t size)
{
	size_t align = size >= HUGE_PAGE ? HUGE_PAGE : MEM_CACHE_LINE;
	size_t bytes;
	void *p;

	if (__builtin_add_overflow(size, align - 1, &bytes))
		mem_out();
	bytes = bytes / align * align;
	p = aligned_alloc(align, bytes > 0 ? bytes : align);
	if (p == NULL)
		mem_out();
	if (align == HUGE_PAGE)
		(void)madvise(p, bytes, MADV_HUGEPAGE); /* a wish: without it only slower */
	return p;
}

void *mem_array(void *old, size_t n, size_t size)
{
	size_t bytes;
	void *p;

	if (__builtin_mul_overflow(n, size, &bytes))
		mem_out();
	p = realloc(old, bytes > 0 ? bytes : 1);
	if (p == NULL)
		mem_out();
	return p;
}

char *mem_strdup(const char *s)
{
	return mem_strndup(s, strlen(s));
}

char *mem_strndup(const char *s, size_t n)
{
	size_t len = strnlen(s, n);
	char *p = mem_alloc(len + 1);

	memcpy(p, s, len);
	p[len] = '\0';
	return p;
}

char *mem_vprintf(const char *fmt, va_list ap)
{
	char *text;

	if (vasprintf(&text, fmt, ap) < 0)
		mem_out();
	return text;
}

char *mem_printf(const char *fmt, ...)
{
	va_list ap;
	char *text;

	va_start(ap, fmt);
	text = mem_vprintf(fmt, ap);
	va_end(ap);
	return text;
}

void mem_free(void *pp)
{
	void **p = pp;

	free(*p);
	*p = NULL;
}

struct pool_block {
	struct pool_block *next;
	size_t used, size;
	_Alignas(8) unsigned char data[];
};

struct pool {
	struct pool_block *blocks; /* owns; the first is the one in use */
	size_t next_size;
};

#define POOL_BLOCK_MAX ((size_t)256 * 1024)

struct pool *pool_new(size_t first_block_bytes)
{
	struct pool *pool = mem_zalloc(sizeof(*pool));

	pool->next_size = first_block_bytes > 64 ? first_block_bytes : 64;
	return pool;
}

static struct pool_block *pool_block_new(size_t size)
{
	size_t bytes;
	struct pool_block *block;

	if (__builtin_add_overflow(size, sizeof(*block), &bytes))
		mem_out();
	block = mem_zalloc(bytes);
	block->size = size;
	return block;
}

void *pool_alloc(struct pool *pool, size_t size)
{
	struct pool_block *block = pool->blocks;
	void *p;

	if (size > SIZE_MAX - 8)
		mem_out();
	size = (size + 7) & ~(size_t)7;
	if (block == NULL || block->size - block->used < size) {
		if (size > pool->next_size && block != NULL) {
			/* a big one gets a block of its own, behind the one in use, whose rest is still good
			 */
			struct pool_block *own = pool_block_new(size);

			own->used = size;
			own->next = block->next;
			block->next = own;
			return own->data;
		}
		block = pool_block_new(size > pool->next_size ? size : pool->next_size);
		block->next = pool->blocks;
		pool->blocks = block;
		if (pool->next_size < POOL_BLOCK_MAX)
			pool->next_size *= 2;
	}
	p = block->data + block->used;
	block->used += size;
	return p;
}

char *pool_strdup(struct pool *pool, const char *s)
{
	return pool_strndup(pool, s, strlen(s));
}

char *pool_strndup(struct pool *pool, const char *s, size_t n)
{
	size_t len = strnlen(s, n);
	char *p = pool_alloc(pool, len + 1);

	memcpy(p, s, len);
	return p;
}

void pool_free(struct pool **pool)
{
	struct pool_block *next;

	if (*pool == NULL)
		return;
	for (struct pool_block *block = (*pool)->blocks; block != NULL; block = next) {
		next = block->next;
		free(block);
	}
	mem_free(pool);
}
