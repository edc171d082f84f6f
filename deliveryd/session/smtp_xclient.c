/*
 * XCLIENT: tells one of our own gateways whose mail this is (Postfix's XCLIENT_README).
 *
 * The data came with the session and hold for all its messages. Only what the server announced is said; a command stays
 * within 512 octets, so there may be several. After each the server begins anew, and EHLO is said again.
 */
#include "session/smtp_session.h"

#include <string.h>
#include "queue/profile.h"

#define LINE_MAX_OCTETS 512

static bool announced(const struct session *s, const char *word, size_t len)
{
	const char *equals = memchr(word, '=', len);
	size_t name = equals ? (size_t)(equals - word) : len;

	return (s->offer.xclient & smtp_xclient_attribute(word, name)) != 0;
}

/* The next attribute to be said, from *at on; its length, 0 = none. */
static size_t next_attribute(const struct session *s, size_t *at)
{
	while (s->xclient[*at] != '\0') {
		size_t len;

		*at += strspn(s->xclient + *at, " ");
		len = strcspn(s->xclient + *at, " ");
		if (len > 0 && len + strlen("XCLIENT \r\n") <= LINE_MAX_OCTETS &&
		        announced(s, s->xclient + *at, len))
			return len;
		*at += len;
	}
	return 0;
}

static void fail(struct session *s, const char *what)
{
	struct outcome why;

	outcome_own(&why, OUTCOME_TRANSIENT, STATE_XCLIENT, 451, "4.7.6", "%s", what);
	smtp_session_fail(s, &why, SMTP_PEER, SMTP_END_QUIT);
}

enum smtp_xclient_choice smtp_xclient_choose(struct session *s)
{
	size_t at = s->xclient_at;

	if (!s->xclient)
		return SMTP_XCLIENT_DONE;
	if (s->xclient_at == 0 && (s->offer.extensions & SMTP_EXT_XCLIENT) == 0) {
		if (s->o->xclient != XCLIENT_REQUIRED)
			return SMTP_XCLIENT_DONE;
		fail(s, "XCLIENT is required, and not offered");
		return SMTP_XCLIENT_FAILED;
	}
	return next_attribute(s, &at) > 0 ? SMTP_XCLIENT_SAY : SMTP_XCLIENT_DONE;
}

void smtp_xclient_command(struct session *s, struct str *out)
{
	size_t start = out->len, len;

	str_add(out, "XCLIENT");
	while ((len = next_attribute(s, &s->xclient_at)) > 0 &&
	        out->len - start + 1 + len + strlen("\r\n") <= LINE_MAX_OCTETS) {
		str_add_char(out, ' ');
		str_add_mem(out, s->xclient + s->xclient_at, len);
		s->xclient_at += len;
	}
	str_add_mem(out, "\r\n", 2);
	s->xclient_said++;
}

bool smtp_xclient_may_do_without(const struct session *s)
{
	/* with some of it taken nobody knows whose mail the server would think it is */
	return s->o->xclient == XCLIENT_IFAVAILABLE && s->xclient_said == 1;
}
