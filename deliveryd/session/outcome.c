#include "session/outcome.h"

#include <assert.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include "base/mem.h"

static const char *const state_names[] = {
        [STATE_RESOLVE] = "resolve",
        [STATE_CONNECT] = "connect",
        [STATE_BANNER] = "banner",
        [STATE_EHLO] = "ehlo",
        [STATE_STARTTLS] = "starttls",
        [STATE_AUTH] = "auth",
        [STATE_XCLIENT] = "xclient",
        [STATE_MAIL] = "mail",
        [STATE_RCPT] = "rcpt",
        [STATE_DATA] = "data",
        [STATE_DOT] = "dot",
};

static const char *const class_names[] = {
        [OUTCOME_NONE] = "none",
        [OUTCOME_OK] = "ok",
        [OUTCOME_TRANSIENT] = "transient",
        [OUTCOME_PERMANENT] = "permanent",
        [OUTCOME_UNCERTAIN] = "uncertain",
};

const char *outcome_state_name(enum outcome_state state)
{
	assert((size_t)state < array_len(state_names));
	return state_names[state];
}

const char *outcome_class_name(enum outcome_class class)
{
	assert((size_t) class < array_len(class_names));
	return class_names[class];
}

void outcome_own(struct outcome *o, enum outcome_class class, enum outcome_state state, int code,
        const char *enhanced, const char *fmt, ...)
{
	va_list args;

	o->class = class;
	o->state = state;
	o->ours = true;
	o->lost = false;
	o->proxy = false;
	o->unfit = false;
	o->put_off = false;
	o->code = (uint16_t)code;
	snprintf(o->enhanced, sizeof(o->enhanced), "%s", enhanced);
	va_start(args, fmt);
	vsnprintf(o->reply, sizeof(o->reply), fmt, args);
	va_end(args);
}

void outcome_print(const struct outcome *o, struct str *out)
{
	size_t len = strlen(o->enhanced);
	const char *gap = "";

	if (o->code != 0) {
		str_printf(out, "%03u", (unsigned)o->code);
		gap = " ";
	}
	if (len > 0 && strncmp(o->reply, o->enhanced, len) != 0) {
		str_printf(out, "%s%s", gap, o->enhanced);
		gap = " ";
	}
	if (o->reply[0] != '\0')
		str_printf(out, "%s%s", gap, o->reply);
}
