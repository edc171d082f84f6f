/*
 * Fuzz target: the stamp. What is read as good must print to a stamp that reads to the same decision.
 */
#include <assert.h>
#include <stdint.h>
#include <string.h>
#include "policy/stamp.h"

int LLVMFuzzerTestOneInput(const uint8_t *, size_t);

static bool any(void *ctx, const char *target)
{
	(void)ctx;
	return target[0] != '\0';
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct decision d, d2;
	struct str first, second;
	if (stamp_read_known((const char *)data, size, any, NULL, NULL, 3600, 0, NULL, &d) != STAMP_OK)
		return 0;
	str_init(&first);
	str_init(&second);
	stamp_print(&d, NULL, 0, NULL, &first);
	assert(stamp_read_known(first.data, first.len, any, NULL, NULL, 3600, 0, NULL, &d2) == STAMP_OK);
	assert(d2.n_open == d.n_open && d2.claimed == d.claimed && d2.priority == d.priority);
	stamp_print(&d2, NULL, 0, NULL, &second);
	assert(strcmp(first.data, second.data) == 0);
	decision_free(&d);
	decision_free(&d2);
	str_free(&first);
	str_free(&second);
	return 0;
}
