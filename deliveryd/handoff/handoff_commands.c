#include "config.h"
#include "handoff/handoff_session.h"

#include <string.h>

static void say(struct handoff_session *s, enum reply reply)
{
	reply_add(&s->out, reply);
}

/* --- who may, and whether there is room (design section 7) ---------------------------------------------------- */

static bool is_relay_host(const struct handoff_session *s, const struct process_options *o)
{
	if (s->peer.family == AF_UNSPEC)
		return true;
	for (size_t i = 0; i < o->handoff_relay_hosts.n; i++)
		if (addr_net_contains(&o->handoff_relay_hosts.nets[i], &s->peer))
			return true;
	return false;
}

/* A session beyond the mark stays so until there is room again; those that were here before go on as if nothing was. */
static bool is_overloaded(struct handoff_session *s)
{
	struct handoff *h = s->handoff;

	if (!s->over_mark)
		return false;
	handoff_make_room(h);
	s->over_mark = atomic_load(&h->shared->sessions) > handoff_session_mark(h);
	return s->over_mark;
}

static enum reply check_room(const struct handoff_shared *shared, uint64_t size)
{
	switch (spool_health(shared->spool)) {
	case SPOOL_OK:
		break;
	case SPOOL_LOW_SPACE:
		return REPLY_NO_SPACE;
	default:
		return REPLY_SPOOL_FAILED;
	}
	if (atomic_load_explicit(&shared->queue_full, memory_order_relaxed))
		return REPLY_NO_MEMORY;
	return spool_has_room_for(shared->spool, size) ? REPLY_NONE : REPLY_NO_SPACE;
}

static enum reply check_mail(
        struct handoff_session *s, const struct process_options *o, const struct lmtp_mail *mail)
{
	struct handoff_shared *shared = s->handoff->shared;

	if (!is_relay_host(s, o))
		return REPLY_NOT_RELAY;
	if (s->handoff->stopping || atomic_load_explicit(&shared->stopping, memory_order_relaxed))
		return REPLY_SHUTTING_DOWN;
	if (is_overloaded(s)) {
		metric_add(s->handoff->metrics.overload, 1);
		return REPLY_OVERLOAD;
	}
	if (mail->size > o->handoff_max_message_size)
		return REPLY_TOO_BIG;
	return check_room(shared, mail->size);
}

/* RFC 8689: what comes from this machine cannot be read on the way, TLS or not. */
static bool is_protected(const struct handoff_session *s)
{
	return s->peer.family == AF_UNSPEC || addr_is_loopback(&s->peer);
}

/* --- commands ----------------------------------------------------------------------------------------------- */

static void hello(
        struct handoff_session *s, const struct lmtp_command *command, enum handoff_protocol protocol)
{
	const struct policy_view *view;
	const struct process_options *o;
	enum reply reply = lmtp_hello_parse(command);

	if (reply != REPLY_NONE) {
		say(s, reply);
		return;
	}
	s->protocol = protocol;
	memcpy(s->helo, command->arg, command->arg_len);
	s->helo[command->arg_len] = '\0';
	transaction_clear(&s->t);
	handoff_session_enter(s, HANDOFF_READY);
	view = policy_cell_view(s->handoff->shared->policy);
	o = conf_process(policy_conf(view->policy));
	if (protocol == PROTOCOL_SMTP)
		str_printf(&s->out, "250 %s\r\n", o->hostname);
	else
		str_printf(&s->out,
		        "250-%s\r\n250-PIPELINING\r\n250-SIZE "
		        "%llu\r\n250-8BITMIME\r\n250-SMTPUTF8\r\n250-ENHANCEDSTATUSCODES\r\n250-DSN\r\n"
		        "%s250 XFORWARD " XFORWARD_ATTRIBUTES "\r\n",
		        o->hostname, (unsigned long long)o->handoff_max_message_size,
		        is_protected(s) ? "250-REQUIRETLS\r\n" : "");
	policy_view_unref(&view);
}

static void command_LHLO(struct handoff_session *s, const struct lmtp_command *command)
{
	hello(s, command, PROTOCOL_LMTP);
}

static void command_EHLO(struct handoff_session *s, const struct lmtp_command *command)
{
	hello(s, command, PROTOCOL_ESMTP);
}

static void command_HELO(struct handoff_session *s, const struct lmtp_command *command)
{
	hello(s, command, PROTOCOL_SMTP);
}

static void command_XFORWARD(struct handoff_session *s, const struct lmtp_command *command)
{
	const struct policy_view *view;
	enum reply reply;

	if (s->protocol == PROTOCOL_NONE || s->protocol == PROTOCOL_SMTP) {
		say(s, REPLY_NEED_HELLO);
		return;
	}
	if (s->state != HANDOFF_READY) {
		say(s, REPLY_NESTED_MAIL);
		return;
	}
	view = policy_cell_view(s->handoff->shared->policy);
	if (is_relay_host(s, conf_process(policy_conf(view->policy))))
		reply = xforward_parse(command, &s->t.xforward);
	else
		reply = REPLY_XFORWARD_REFUSED;
	policy_view_unref(&view);
	say(s, reply == REPLY_NONE ? REPLY_OK : reply);
}

static void command_MAIL(struct handoff_session *s, const struct lmtp_command *command)
{
	const struct policy_view *view;
	struct lmtp_mail mail;
	enum reply reply;

	if (s->state != HANDOFF_READY) {
		say(s, s->state == HANDOFF_CONNECTED ? REPLY_NEED_HELLO : REPLY_NESTED_MAIL);
		return;
	}
	reply = lmtp_mail_parse(command, s->protocol != PROTOCOL_SMTP, &mail);
	if (reply == REPLY_NONE && mail.requiretls && !is_protected(s))
		reply = REPLY_UNKNOWN_PARAMETER; /* not announced */
	if (reply != REPLY_NONE) {
		say(s, reply);
		return;
	}
	view = policy_cell_view(s->handoff->shared->policy);
	reply = check_mail(s, conf_process(policy_conf(view->policy)), &mail);
	if (reply != REPLY_NONE) {
		policy_view_unref(&view);
		if (reply_code(reply) == 421)
			handoff_session_end(s, reply);
		else
			say(s, reply);
		return;
	}
	transaction_begin(&s->t, view, &mail);
	s->transaction_deadline_us = loop_now_us(s->handoff->loop) + TRANSACTION_MAX_US;
	handoff_session_enter(s, HANDOFF_ENVELOPE);
	say(s, REPLY_SENDER_OK);
}

static void command_RCPT(struct handoff_session *s, const struct lmtp_command *command)
{
	struct lmtp_rcpt rcpt;
	enum reply reply;

	if (s->state != HANDOFF_ENVELOPE) {
		say(s, s->state == HANDOFF_CONNECTED ? REPLY_NEED_HELLO : REPLY_NEED_MAIL);
		return;
	}
	reply = lmtp_rcpt_parse(
	        command, s->protocol != PROTOCOL_SMTP, (s->t.message->flags & MESSAGE_SMTPUTF8) != 0, &rcpt);
	if (reply == REPLY_NONE)
		reply = transaction_add_rcpt(&s->t, &rcpt);
	if (reply == REPLY_NONE) {
		say(s, REPLY_RCPT_OK);
		return;
	}
	s->t.refused_rcpts++;
	say(s, reply);
}

/* Without recipients: 503 by RFC 2033 4.2; in SMTP 554 where there was at least a try (RFC 5321 3.3). */
static void command_DATA(struct handoff_session *s, const struct lmtp_command *command)
{
	(void)command;
	if (s->state == HANDOFF_CONNECTED)
		say(s, REPLY_NEED_HELLO);
	else if (s->state != HANDOFF_ENVELOPE)
		say(s, REPLY_NEED_MAIL);
	else if (s->t.n_rcpts == 0)
		say(s, s->protocol != PROTOCOL_LMTP && s->t.refused_rcpts ? REPLY_NO_VALID_RCPT
		                                                          : REPLY_NEED_RCPT);
	else
		handoff_data_start(s);
}

static void command_RSET(struct handoff_session *s, const struct lmtp_command *command)
{
	(void)command;
	transaction_clear(&s->t);
	if (s->state == HANDOFF_ENVELOPE)
		handoff_session_enter(s, HANDOFF_READY);
	say(s, REPLY_OK);
}

static void command_NOOP(struct handoff_session *s, const struct lmtp_command *command)
{
	(void)command;
	say(s, REPLY_OK);
}

static void command_VRFY(struct handoff_session *s, const struct lmtp_command *command)
{
	(void)command;
	say(s, REPLY_VRFY);
}

static void command_HELP(struct handoff_session *s, const struct lmtp_command *command)
{
	(void)command;
	say(s, REPLY_HELP);
}

static void command_QUIT(struct handoff_session *s, const struct lmtp_command *command)
{
	(void)command;
	s->quit = true;
	handoff_session_end(s, REPLY_BYE);
}

static void (*const commands[LMTP_N_VERBS])(struct handoff_session *, const struct lmtp_command *) = {
#define VERB(name, argument) [LMTP_##name] = command_##name,
#include "handoff/lmtp_command.def"
#undef VERB
};

void handoff_command(struct handoff_session *s, const char *line, size_t len)
{
	struct lmtp_command command;
	enum reply reply = lmtp_command_parse(line, len, &command);

	if (s->state == HANDOFF_CONNECTED && lmtp_line_is_http(line, len)) {
		/* Somebody else's request, steered at our port: its body must not become commands. */
		handoff_session_end(s, REPLY_NOT_MAIL);
		return;
	}
	if (reply == REPLY_NONE)
		commands[command.verb](s, &command);
	else
		say(s, reply);
	if (handoff_session_input(s) == INPUT_COMMANDS) {
		handoff_session_restart_clock(s);
		if (s->is_idle)
			handoff_idle(s, true); /* to the end of the list */
	}
}
