/*
 * AUTH (RFC 4954): PLAIN (RFC 4616), LOGIN, XOAUTH2.
 *
 * What must hold: with credentials configured no message goes out without them; they go out under TLS, unless the
 * operator allows clear text; and nothing of them comes back to a log, not even when the other side repeats it.
 */
#include "session/smtp_session.h"

#include <gnutls/gnutls.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "base/mem.h"
#include "queue/profile.h"

static const struct {
	const char *name;
	enum smtp_extension extension;
} mechanisms[] = {
        [AUTH_PLAIN] = {"PLAIN", SMTP_EXT_AUTH_PLAIN},
        [AUTH_LOGIN] = {"LOGIN", SMTP_EXT_AUTH_LOGIN},
        [AUTH_XOAUTH2] = {"XOAUTH2", SMTP_EXT_AUTH_XOAUTH2},
};

static const char *password(const struct session *s)
{
	return s->o->outbound_smtp_auth_pass_file ? s->secret : s->o->outbound_smtp_auth_pass;
}

static void fail(struct session *s, const char *what)
{
	struct outcome why;

	outcome_own(&why, OUTCOME_TRANSIENT, STATE_AUTH, 451, "4.7.0", "AUTH %s is wanted, but %s",
	        mechanisms[s->o->outbound_smtp_auth_type].name, what);
	smtp_session_fail(s, &why, SMTP_PEER, SMTP_END_QUIT);
}

bool smtp_auth_wanted(struct session *s)
{
	const struct conn_options *o = s->o;

	if (o->outbound_smtp_auth_type == AUTH_NONE)
		return false;
	s->auth_step = 0;
	if (!o->outbound_smtp_auth_user || (!o->outbound_smtp_auth_pass && !o->outbound_smtp_auth_pass_file))
		fail(s, "there is no user or no password");
	else if (!s->tls && !o->outbound_smtp_auth_clear)
		fail(s, "not in clear text, and there is no TLS");
	else if ((s->offer.extensions & mechanisms[o->outbound_smtp_auth_type].extension) == 0)
		fail(s, "not offered");
	else
		return true;
	return false;
}

static void add_base64(struct str *out, const char *text, size_t len)
{
	gnutls_datum_t raw = {(unsigned char *)text, (unsigned)len}, encoded;

	if (gnutls_base64_encode2(&raw, &encoded) != GNUTLS_E_SUCCESS)
		abort(); /* memory */
	str_add_mem(out, (const char *)encoded.data, encoded.size);
	explicit_bzero(encoded.data, encoded.size);
	gnutls_free(encoded.data);
}

/* The message of PLAIN or XOAUTH2, encoded. */
static void add_initial(struct str *out, const struct session *s)
{
	const struct conn_options *o = s->o;
	struct str text;

	str_init(&text);
	if (o->outbound_smtp_auth_type == AUTH_PLAIN) {
		str_add_char(&text, '\0');
		str_add(&text, o->outbound_smtp_auth_user);
		str_add_char(&text, '\0');
		str_add(&text, password(s));
	} else {
		str_add(&text, "user=");
		str_add(&text, o->outbound_smtp_auth_user);
		str_add(&text, "\001auth=Bearer ");
		str_add(&text, password(s));
		str_add(&text, "\001\001");
	}
	add_base64(out, text.data, text.len);
	explicit_bzero(text.data, text.len);
	str_free(&text);
}

static void on_secret(void *ctx, const char *secret, const struct error *why)
{
	struct session *s = ctx;
	struct outcome own;

	if (secret) {
		s->secret = mem_strdup(secret);
		smtp_session_enter(s, SMTP_AUTH);
		smtp_io_pump(s);
		return;
	}
	outcome_own(&own, OUTCOME_TRANSIENT, STATE_AUTH, 451, "4.3.0", "no password: %s", why->text);
	smtp_session_fail(s, &own, SMTP_OURS, SMTP_END_QUIT);
	smtp_io_pump(s);
}

void smtp_auth_secret(struct session *s)
{
	smtp_auth_forget(s);
	s->secret_wait.ready = on_secret;
	s->secret_wait.ctx = s;
	secret_get(s->net->secrets, s->o->outbound_smtp_auth_pass_file, &s->secret_wait);
}

void smtp_auth_forget(struct session *s)
{
	secret_cancel(&s->secret_wait);
	if (s->secret)
		explicit_bzero(s->secret, strlen(s->secret));
	mem_free(&s->secret);
}

void smtp_auth_command(struct session *s, struct str *out)
{
	const struct conn_options *o = s->o;

	str_add(out, "AUTH ");
	str_add(out, mechanisms[o->outbound_smtp_auth_type].name);
	if (o->outbound_smtp_auth_type != AUTH_LOGIN) {
		str_add_char(out, ' ');
		add_initial(out, s);
	}
	str_add_mem(out, "\r\n", 2);
}

bool smtp_auth_respond(struct session *s, struct str *out)
{
	const struct conn_options *o = s->o;
	const char *text = s->auth_step == 0 ? o->outbound_smtp_auth_user : password(s);
	unsigned step = s->auth_step++;

	switch (o->outbound_smtp_auth_type) {
	case AUTH_LOGIN:
		if (step > 1)
			return false;
		add_base64(out, text, strlen(text));
		break;
	case AUTH_XOAUTH2: /* the error in detail; an empty line is the answer, then comes the 5yz */
		if (step > 0)
			return false;
		break;
	case AUTH_PLAIN:
	case AUTH_NONE:
		return false;
	}
	str_add_mem(out, "\r\n", 2);
	return true;
}

bool smtp_auth_repeats(const struct session *s, const char *text)
{
	const char *pass = password(s);
	struct str encoded, initial;
	bool found;

	if (s->o->outbound_smtp_auth_type == AUTH_NONE || !s->o->outbound_smtp_auth_user || !pass || !*pass)
		return false;

	str_init(&encoded);
	str_init(&initial);
	add_base64(&encoded, pass, strlen(pass));
	add_initial(&initial, s);
	found = strstr(text, pass) || strstr(text, encoded.data) || strstr(text, initial.data);
	explicit_bzero(encoded.data, encoded.len);
	explicit_bzero(initial.data, initial.len);
	str_free(&encoded);
	str_free(&initial);
	return found;
}

void smtp_auth_hide(struct session *s, struct outcome *said)
{
	if (smtp_auth_repeats(s, s->reply.text))
		snprintf(said->reply, sizeof(said->reply), "AUTH was refused in words that are not shown");
}
