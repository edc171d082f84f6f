/*
 * stamp_print - a decision as the value of the header
 *
 * X-Binding: TARGET [; b=RULE|match_domain|default] [; s=8HEX] [; p=high|normal|low] [; r=NAME/DIGEST/TARGET[/8HEX],...]
 *            [; t=UNIX; m=0|1; h=MAC]
 */
#include "policy/stamp_internal.h"

#include <stdio.h>
#include <string.h>

#define LINE_MAX_BYTES 900
#define NAME_BYTES 100 /* of the first line: the header's name and ": " */

struct folder {
	struct str *out;     /* borrows */
	struct str *compact; /* borrows; the same without white space, for the MAC; NULL = not wanted */
	size_t line;         /* bytes on this line so far */
};

static void put(struct folder *f, const char *text)
{
	str_add(f->out, text);
	f->line += strlen(text);
	if (f->compact != NULL)
		str_add(f->compact, text);
}

/* The separator is text; the white space behind it, or the fold, is not. */
static void put_next(struct folder *f, const char *separator, const char *blank, const char *text)
{
	put(f, separator);
	/* 1: the separator that may follow the text on this line */
	if (f->line + strlen(blank) + strlen(text) + 1 > LINE_MAX_BYTES) {
		str_add(f->out, "\n\t");
		f->line = 1;
	} else {
		str_add(f->out, blank);
		f->line += strlen(blank);
	}
	put(f, text);
}

static void put_param(struct folder *f, const char *name, const char *value)
{
	char text[400];
	snprintf(text, sizeof(text), "%s=%s", name, value);
	put_next(f, ";", " ", text);
}

static void put_open(struct folder *f, const struct decision *d)
{
	for (size_t i = 0; i < d->n_open; i++) {
		const struct open_rule *o = &d->open[i];
		char text[400];
		int n = snprintf(text, sizeof(text), "%s%s/%s/%s", i == 0 ? "r=" : "", o->name, o->digest,
		        o->target.name);
		if (o->target.has_sticky)
			snprintf(text + n, sizeof(text) - (size_t)n, "/%08x", (unsigned)o->target.sticky);
		put_next(f, i == 0 ? ";" : ",", i == 0 ? " " : "", text);
	}
}

static void put_mac(struct folder *f, const struct stamp_keys *keys, uint64_t wall_us, const char *message_id)
{
	char text[STAMP_MAC_LEN + 32];
	snprintf(text, sizeof(text), "%llu", (unsigned long long)(wall_us / SECOND_US));
	put_param(f, "t", text);
	put_param(f, "m", message_id != NULL ? "1" : "0");
	stamp_mac(keys, 0, f->compact->data, f->compact->len, message_id, text);
	put_param(f, "h", text);
}

void stamp_print(const struct decision *d, const struct stamp_keys *keys, uint64_t wall_us,
        const char *message_id, struct str *out)
{
	struct str compact;
	str_init(&compact);
	struct folder f = {.out = out, .compact = keys != NULL ? &compact : NULL, .line = NAME_BYTES};
	put(&f, d->target.name);
	if (d->rule != NULL)
		put_param(&f, "b", d->rule);
	if (d->target.has_sticky) {
		char hex[9];
		snprintf(hex, sizeof(hex), "%08x", (unsigned)d->target.sticky);
		put_param(&f, "s", hex);
	}
	if (d->priority != PRIORITY_NONE)
		put_param(&f, "p", priority_name(d->priority));
	put_open(&f, d);
	if (keys != NULL)
		put_mac(&f, keys, wall_us, message_id);
	str_free(&compact);
}
