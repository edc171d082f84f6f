/*
 * Fuzz target: the envelope that `bindpost spool import` reads. What is read as good can be stored, and prints to an
 * envelope that reads to the same.
 */
#include <assert.h>
#include <stdint.h>
#include <string.h>
#include "base/mem.h"
#include "control/cli_spool.h"
#include "spool/payload.h"

int LLVMFuzzerTestOneInput(const uint8_t *, size_t);

static void print(const struct message *m, struct str *out)
{
	struct spool_live live = {.message = m, .n_deliveries = m->n_deliveries};

	live.deliveries = mem_zalloc(m->n_deliveries * sizeof(*live.deliveries));
	for (uint32_t i = 0; i < m->n_deliveries; i++)
		live.deliveries[i].index = i;
	envelope_print(&live, true, out);
	mem_free(&live.deliveries);
}

static void can_be_stored(const struct message *m)
{
	const struct payload_file none = {.number = 0};
	struct message *again;
	struct str meta;

	str_init(&meta);
	assert(payload_put_message(&meta, m, &none));
	again = payload_get_message((const uint8_t *)meta.data, meta.len, m->id);
	assert(again != NULL);
	message_unref(&again);
	str_free(&meta);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct spool_results *states = spool_results_new();
	struct error err;
	struct str first, second;
	struct message *m = envelope_parse((const char *)data, size, states, &err), *again;

	spool_results_free(&states);
	if (m == NULL)
		return 0;
	can_be_stored(m);
	str_init(&first);
	str_init(&second);
	print(m, &first);
	states = spool_results_new();
	again = envelope_parse(first.data, first.len, states, &err);
	spool_results_free(&states);
	assert(again != NULL);
	print(again, &second);
	assert(strcmp(first.data, second.data) == 0);
	str_free(&first);
	str_free(&second);
	message_unref(&again);
	message_unref(&m);
	return 0;
}
