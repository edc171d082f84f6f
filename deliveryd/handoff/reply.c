#include "config.h"
#include "handoff/reply.h"

#include <assert.h>

static const struct {
	int code;
	const char *enhanced, *text;
} replies[REPLY_N] = {
        [REPLY_NONE] = {0, "", ""},
#define REPLY(name, code, enhanced, text) [REPLY_##name] = {code, enhanced, text},
#include "handoff/reply.def"
#undef REPLY
};

int reply_code(enum reply reply)
{
	assert(reply < REPLY_N);
	return replies[reply].code;
}

bool reply_is_transient(enum reply reply)
{
	return reply_code(reply) / 100 == 4;
}

void reply_add(struct str *out, enum reply reply)
{
	int code = reply_code(reply);
	char digits[4] = {
	        (char)('0' + code / 100), (char)('0' + code / 10 % 10), (char)('0' + code % 10), ' '};

	assert(reply != REPLY_NONE);
	str_add_mem(out, digits, sizeof(digits));
	if (replies[reply].enhanced[0]) {
		str_add(out, replies[reply].enhanced);
		str_add_char(out, ' ');
	}
	str_add(out, replies[reply].text);
	str_add(out, "\r\n");
}
