/*
 * lit_table - finds a number by a text: literals of rules, domains, digests
 *
 * Purpose    Built while a policy is compiled, then only read; one look costs the same at ten entries and at a
 *            hundred thousand.
 * Ownership  Keys are copied.
 */
#ifndef POLICY_LIT_TABLE_H
#define POLICY_LIT_TABLE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct lit_table;
struct lit_table *lit_table_new(void);
void lit_table_free(struct lit_table **);
/* The place of the value for the key; a new one holds `fresh`, and *added says so. Valid until the next put. */
uint32_t *lit_table_put(struct lit_table *, const char *key, size_t len, uint32_t fresh, bool *added);
bool lit_table_get(const struct lit_table *, const char *key, size_t len, uint32_t *value);
/*
 * The same in steps: a look that is announced well before it happens (first its slot, then the record) finds its
 * memory near.
 */
uint32_t lit_table_hash(const char *key, size_t len);
void lit_table_expect(const struct lit_table *, uint32_t hash);
void lit_table_expect_record(const struct lit_table *, uint32_t hash);
bool lit_table_get_hashed(
        const struct lit_table *, uint32_t hash, const char *key, size_t len, uint32_t *value);
size_t lit_table_count(const struct lit_table *);

#endif
