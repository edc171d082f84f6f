#include "session/smtp_reply.h"

#include <stdio.h>
#include <string.h>

void smtp_reply_init(struct smtp_reply *r, smtp_reply_line_fn *on_line, void *ctx)
{
	r->code = 0;
	r->enhanced[0] = '\0';
	r->text[0] = '\0';
	r->digits = 0;
	r->line_code = 0;
	r->more = false;
	r->in_text = false;
	r->lines = 0;
	r->line_enhanced_code = 0;
	r->bytes = 0;
	r->text_len = 0;
	r->line_len = 0;
	r->on_line = on_line;
	r->ctx = ctx;
}

bool smtp_reply_begun(const struct smtp_reply *r)
{
	return r->bytes > 0;
}

static size_t digits_at(const char *p, const char *end)
{
	size_t n = 0;

	while (p + n < end && p[n] >= '0' && p[n] <= '9')
		n++;
	return n;
}

/*
 * RFC 2034: text = status SP *text ; status = ("2" / "4" / "5") "." 1*3DIGIT "." 1*3DIGIT
 * Kept if its class is that of the line's digits: who says "450 5.7.1" means a transient failure.
 */
static void take_enhanced(struct smtp_reply *r)
{
	const char *end = r->line + r->line_len;
	const char *p = r->line;
	size_t n;

	if (r->line_len < 5 || p[0] != (char)('0' + r->line_code / 100) || p[0] == '3' || p[1] != '.')
		return;
	p += 2;
	n = digits_at(p, end);
	if (n < 1 || n > 3 || p + n >= end || p[n] != '.')
		return;
	p += n + 1;
	n = digits_at(p, end);
	if (n < 1 || n > 3)
		return;
	p += n;
	if (p < end && *p != ' ' && *p != '\t')
		return;
	snprintf(r->enhanced, sizeof(r->enhanced), "%.*s", (int)(p - r->line), r->line);
	r->line_enhanced_code = r->line_code;
}

static void join_text(struct smtp_reply *r)
{
	size_t room = sizeof(r->text) - 1 - r->text_len;
	size_t len = r->line_len;

	if (r->lines > 0 && room > 0) {
		r->text[r->text_len++] = ' ';
		room--;
	}
	if (len > room)
		len = room;
	memcpy(r->text + r->text_len, r->line, len);
	r->text_len += len;
	r->text[r->text_len] = '\0';
}

static void end_line(struct smtp_reply *r)
{
	if (r->line_len > 0 && r->line[r->line_len - 1] == '\r')
		r->line_len--;
	take_enhanced(r);
	join_text(r);
	if (r->on_line)
		r->on_line(r->ctx, r->lines, r->line, r->line_len);
	r->lines++;
	r->code = r->line_code;
	r->digits = 0;
	r->line_code = 0;
	r->line_len = 0;
	r->in_text = false;
	/* An enhanced code of an earlier line stands for the reply only as long as the classes agree. */
	if (!r->more && r->line_enhanced_code / 100 != r->code / 100)
		r->enhanced[0] = '\0';
}

/* The part of a line from behind the digits to its LF or the end of what is there. */
static const char *eat_text(struct smtp_reply *r, const char *p, const char *end, bool *complete)
{
	const char *lf = memchr(p, '\n', (size_t)(end - p));
	size_t len = (size_t)((lf ? lf : end) - p);
	size_t room = sizeof(r->line) - r->line_len;
	size_t i;

	*complete = lf != NULL;
	if (len > room)
		len = room;
	for (i = 0; i < len; i++)
		r->line[r->line_len++] = p[i] != '\0' ? p[i] : '?';
	return lf ? lf + 1 : end;
}

/* One byte of the digits or the separator. */
static bool eat_head(struct smtp_reply *r, char c)
{
	if (r->digits < 3) {
		if (c < '0' || c > '9' || (r->digits == 0 && (c < '2' || c > '5')))
			return false;
		r->line_code = r->line_code * 10 + (unsigned)(c - '0');
		r->digits++;
		return true;
	}
	r->more = c == '-';
	r->in_text = true;
	return c < '0' ||
	       c > '9'; /* four digits are no reply code, but perhaps the rest of one and the next */
}

enum smtp_reply_result smtp_reply_feed(struct smtp_reply *r, const char *raw, size_t len, size_t *used)
{
	const char *p = raw;
	const char *end = raw + len;
	const char *before;
	bool complete;

	while (p < end) {
		if (!r->in_text) {
			bool separator = r->digits == 3;

			if (r->bytes++ >= SMTP_REPLY_MAX_BYTES || r->lines >= SMTP_REPLY_MAX_LINES ||
			        !eat_head(r, *p))
				return SMTP_REPLY_BAD;
			/* "250\r\n" and "250text" have no separator: the byte belongs to the text */
			if (!separator || *p == ' ' || *p == '-' || *p == '\t') {
				p++;
				continue;
			}
			r->bytes--;
		}
		before = p;
		p = eat_text(r, p, end, &complete);
		r->bytes += (uint32_t)(p - before);
		if (r->bytes > SMTP_REPLY_MAX_BYTES)
			return SMTP_REPLY_BAD;
		if (!complete)
			break;
		end_line(r);
		if (!r->more) {
			*used = (size_t)(p - raw);
			return SMTP_REPLY_DONE;
		}
	}
	*used = len;
	return SMTP_REPLY_MORE;
}

void smtp_reply_outcome(const struct smtp_reply *r, enum outcome_state state, struct outcome *o)
{
	unsigned first = r->code / 100;

	o->class = first == 2 ? OUTCOME_OK : first == 5 ? OUTCOME_PERMANENT : OUTCOME_TRANSIENT;
	o->state = state;
	o->ours = false;
	o->lost = false;
	o->proxy = false;
	o->unfit = false;
	o->put_off = false;
	o->code = (uint16_t)r->code;
	memcpy(o->enhanced, r->enhanced, sizeof(o->enhanced));
	memcpy(o->reply, r->text, r->text_len + 1);
}
