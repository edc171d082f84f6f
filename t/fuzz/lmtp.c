/*
 * A whole session: the bytes are what the MTA sends. Whatever they are, replies are replies, no byte is refused that
 * should not be stored, and nothing is left behind (rig_free() sees to that). The first byte chooses how the rest is
 * cut into chunks; the replies must not depend on it.
 */
#include "config.h"
#include "t/lib/handoff_rig.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *, size_t);

static void run(const uint8_t *bytes, size_t len, size_t chunk, struct str *said, struct str *stored)
{
	struct rig rig;
	struct rig_client client;

	rig_init(&rig, NULL, NULL);
	rig_connect(&rig, &client);
	for (size_t i = 0; i < len && !client.closed; i += chunk)
		rig_send(&rig, &client, bytes + i, len - i < chunk ? len - i : chunk);
	str_init(said);
	str_init(stored);
	str_add_mem(said, client.said.data, client.said.len);
	for (unsigned i = 0; i < rig.spool.n_stored; i++)
		str_add_mem(stored, rig.spool.stored[i].body, rig.spool.stored[i].len);
	rig_hang_up(&rig, &client);
	rig_free(&rig);
}

static void check_stored(const struct str *stored)
{
	for (size_t i = 0; i < stored->len; i++) {
		char c = stored->data[i];

		if (c == '\0' || (c == '\n' && (i == 0 || stored->data[i - 1] != '\r')) ||
		        (c == '\r' && (i + 1 == stored->len || stored->data[i + 1] != '\n')))
			abort();
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t len)
{
	struct str said, stored, said_whole, stored_whole, codes;
	struct rig_client client;

	if (len < 2)
		return 0;
	run(bytes + 1, len - 1, len, &said_whole, &stored_whole);
	run(bytes + 1, len - 1, 1 + bytes[0] % 64, &said, &stored);
	if (said.len != said_whole.len || memcmp(said.data, said_whole.data, said.len) != 0 ||
	        stored.len != stored_whole.len || memcmp(stored.data, stored_whole.data, stored.len) != 0)
		abort();
	check_stored(&stored);
	client.said = said;
	str_init(&codes);
	rig_replies(&client, &codes);
	if (strchr(codes.data, '?'))
		abort();
	str_free(&codes);
	str_free(&said);
	str_free(&stored);
	str_free(&said_whole);
	str_free(&stored_whole);
	return 0;
}
