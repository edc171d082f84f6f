/*
 * Fuzz target: the rule language. What parses must print to a text that parses to the same text.
 */
#include <assert.h>
#include <stdint.h>
#include <string.h>
#include "base/log.h"
#include "policy/rule.h"

int LLVMFuzzerTestOneInput(const uint8_t *, size_t);

static void drop(void *ctx, enum log_level level, const char *line)
{
	(void)ctx;
	(void)level;
	(void)line;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct pool *pool = pool_new(4096);
	struct error err;
	struct str normal, again;
	log_capture(drop, NULL);
	const char *text = pool_strndup(pool, (const char *)data, size);
	struct rule_expr *e = rule_expr_parse(text, "fuzz", pool, &err);
	if (e == NULL) {
		assert(strncmp(err.text, "column ", 7) == 0);
		pool_free(&pool);
		return 0;
	}
	str_init(&normal);
	str_init(&again);
	rule_expr_print(e, &normal);
	rule_expr_print_split(e, &again);
	str_clear(&again);
	struct rule_expr *e2 = rule_expr_parse(normal.data, "fuzz", pool, &err);
	assert(e2 != NULL);
	rule_expr_print(e2, &again);
	assert(strcmp(normal.data, again.data) == 0);
	rule_expr_release(e);
	rule_expr_release(e2);
	str_free(&normal);
	str_free(&again);
	pool_free(&pool);
	return 0;
}
