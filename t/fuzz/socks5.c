/*
 * What SOCKS5 proxies answer: the same bytes, whole and in pieces, must come to the same; nothing is sent that a proxy could
 * take for anything else. The first byte of the input is the size of the pieces, its highest bit whether we have credentials.
 */
#include <assert.h>
#include <stdlib.h>
#include <string.h>
#include "session/socks5.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static enum socks5_step feed(struct socks5 *s, const struct socks5_target *to, const uint8_t *data,
        size_t size, size_t piece, size_t *at, struct str *out)
{
	enum socks5_step step = SOCKS5_MORE;
	size_t used;

	str_init(out);
	socks5_start(s, to, out);
	for (*at = 0; *at < size && step == SOCKS5_MORE; *at += used) {
		size_t n = size - *at < piece ? size - *at : piece;
		char *exact = malloc(n); /* so that a read behind it is seen */

		assert(exact);
		memcpy(exact, data + *at, n);
		step = socks5_feed(s, to, exact, n, &used, out);
		free(exact);
		assert(used <= n && (step != SOCKS5_MORE || used == n));
	}
	return step;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct addr peer = {.family = AF_INET, .ip = {192, 0, 2, 1}, .port = 25};
	struct socks5_target to = {.peer = &peer};
	struct socks5 whole, pieces;
	struct str out, piecewise;
	size_t ends[2];

	if (size < 2)
		return 0;
	if (data[0] & 0x80) {
		to.user = "user";
		to.pass = "secret";
	}
	enum socks5_step step = feed(&whole, &to, data + 1, size - 1, size, &ends[0], &out);
	enum socks5_step in_pieces =
	        feed(&pieces, &to, data + 1, size - 1, data[0] % 16 + 1u, &ends[1], &piecewise);

	assert(step == in_pieces && ends[0] == ends[1]);
	assert(out.len == piecewise.len && memcmp(out.data, piecewise.data, out.len) == 0);
	/* greeting, login, CONNECT: no more than that, whatever is said */
	assert(out.len <= 3 + (to.user ? 3 + strlen(to.user) + strlen(to.pass) : 0) + 10);
	assert(step != SOCKS5_DONE ||
	        (whole.bound.family != AF_UNSPEC && whole.stage == SOCKS5_REPLY && ends[0] >= 12));
	assert(step != SOCKS5_FAILED ||
	        (whole.why && whole.why == pieces.why && whole.blame == pieces.blame));
	assert(*socks5_stage_words(whole.stage));
	str_free(&out);
	str_free(&piecewise);
	return 0;
}
