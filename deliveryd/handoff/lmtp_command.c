#include "config.h"
#include "handoff/lmtp_command.h"

#include <string.h>
#include "base/utf8.h"
#include "base/xtext.h"
#include "message.h"

#define ENVID_MAX 100 /* RFC 3461 4.4 */
#define ORCPT_MAX 500 /* 4.2 */

enum argument { ARG_NONE, ARG_SOME, ARG_ANY };

static const struct {
	const char *name;
	enum argument argument;
} verbs[LMTP_N_VERBS] = {
#define VERB(name, argument) [LMTP_##name] = {#name, ARG_##argument},
#include "handoff/lmtp_command.def"
#undef VERB
};

static const char *const lacking[] = {
#define VERB(name, argument)
#define LACKING(name) #name,
#include "handoff/lmtp_command.def"
#undef VERB
};

/* A token of a line, without copying */
struct token {
	const char *p;
	size_t len;
};

static bool token_is(struct token token, const char *name)
{
	return ascii_ieq_mem(token.p, token.len, name, strlen(name));
}

/* Control characters, or bytes that are no UTF-8 */
static bool has_bad_bytes(const char *p, size_t len)
{
	uint32_t code;
	size_t n;

	for (size_t i = 0; i < len; i += n) {
		n = utf8_next(p + i, len - i, &code);
		if (n == 0 || utf8_is_control(code))
			return true;
	}
	return false;
}

static bool has_8bit(const char *p, size_t len)
{
	for (size_t i = 0; i < len; i++)
		if ((unsigned char)p[i] > '~')
			return true;
	return false;
}

static void skip_spaces(const char **p, const char *end)
{
	while (*p < end && **p == ' ')
		(*p)++;
}

enum reply lmtp_command_parse(const char *line, size_t len, struct lmtp_command *command)
{
	const char *p = line, *end = line + len;
	struct token verb;

	if (has_bad_bytes(line, len))
		return REPLY_BAD_BYTES;
	bool eight = has_8bit(line, len);
	skip_spaces(&p, end);
	verb.p = p;
	while (p < end && *p != ' ')
		p++;
	verb.len = (size_t)(p - verb.p);
	if (verb.len == 0)
		return REPLY_NO_COMMAND;
	skip_spaces(&p, end);
	while (end > p && end[-1] == ' ')
		end--;
	command->arg = p;
	command->arg_len = (size_t)(end - p);
	for (size_t i = 0; i < LMTP_N_VERBS; i++) {
		if (!token_is(verb, verbs[i].name))
			continue;
		/* RFC 6531 3.4: in addresses only; whether it may be there their own parsers know */
		if (eight && i != LMTP_MAIL && i != LMTP_RCPT)
			return REPLY_BAD_BYTES;
		command->verb = (enum lmtp_verb)i;
		if (verbs[i].argument == ARG_NONE && command->arg_len)
			return REPLY_BAD_ARGUMENT;
		if (verbs[i].argument == ARG_SOME && !command->arg_len)
			return REPLY_BAD_ARGUMENT;
		return REPLY_NONE;
	}
	if (eight)
		return REPLY_BAD_BYTES;
	for (size_t i = 0; i < sizeof(lacking) / sizeof(lacking[0]); i++)
		if (token_is(verb, lacking[i]))
			return REPLY_NOT_IMPLEMENTED;
	return REPLY_UNKNOWN_COMMAND;
}

bool lmtp_line_is_http(const char *line, size_t len)
{
	static const char *const methods[] = {
	        "GET ", "POST ", "PUT ", "HEAD ", "CONNECT ", "OPTIONS ", "DELETE ", "PATCH "};

	for (size_t i = 0; i < sizeof(methods) / sizeof(methods[0]); i++)
		if (len > strlen(methods[i]) && memcmp(line, methods[i], strlen(methods[i])) == 0)
			return true;
	return false;
}

enum reply lmtp_hello_parse(const struct lmtp_command *command)
{
	if (mail_domain_check(command->arg, command->arg_len) ||
	        mail_literal_check(command->arg, command->arg_len))
		return REPLY_NONE;
	return REPLY_BAD_HELLO;
}

/* --- parameters ------------------------------------------------------------------------------------------- */

/* parameter = keyword [ "=" value ]; keyword of RFC 5321 4.1.2: (ALPHA / DIGIT) *(ALPHA / DIGIT / "-") */
struct parameter {
	struct token keyword, value;
	bool has_value;
};

static bool is_keyword(struct token token)
{
	for (size_t i = 0; i < token.len; i++) {
		char c = ascii_lower(token.p[i]);

		if (!((c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || (c == '-' && i > 0)))
			return false;
	}
	return token.len > 0;
}

/* The next parameter at *p, which stands behind the previous one. False at the end; *bad when it is malformed. */
static bool next_parameter(const char **p, const char *end, struct parameter *parameter, bool *bad)
{
	const char *start, *equals;

	*bad = false;
	if (*p == end)
		return false;
	*bad = **p != ' ';
	skip_spaces(p, end);
	start = *p;
	while (*p < end && **p != ' ')
		(*p)++;
	equals = memchr(start, '=', (size_t)(*p - start));
	parameter->has_value = equals != NULL;
	parameter->keyword = (struct token){start, (size_t)((equals ? equals : *p) - start)};
	parameter->value = (struct token){NULL, 0};
	if (equals)
		parameter->value = (struct token){equals + 1, (size_t)(*p - equals - 1)};
	if (!is_keyword(parameter->keyword) || (equals && parameter->value.len == 0))
		*bad = true;
	return true;
}

/* size-value = 1*20DIGIT (RFC 1870 3); what does not fit in 64 bits is just as much too big */
static bool parse_size(struct token value, uint64_t *size)
{
	*size = 0;
	if (value.len == 0 || value.len > 20)
		return false;
	for (size_t i = 0; i < value.len; i++) {
		if (value.p[i] < '0' || value.p[i] > '9')
			return false;
		if (__builtin_mul_overflow(*size, (uint64_t)10, size) ||
		        __builtin_add_overflow(*size, (uint64_t)(value.p[i] - '0'), size)) {
			*size = UINT64_MAX;
			break;
		}
	}
	/* the rest must be digits too */
	for (size_t i = 0; i < value.len; i++)
		if (value.p[i] < '0' || value.p[i] > '9')
			return false;
	return true;
}

/* ret-value = "FULL" / "HDRS" */
static bool parse_ret(struct token value, uint8_t *ret)
{
	if (token_is(value, "FULL"))
		*ret = RET_FULL;
	else if (token_is(value, "HDRS"))
		*ret = RET_HDRS;
	else
		return false;
	return true;
}

static enum reply mail_parameter(const struct parameter *parameter, unsigned *seen, struct lmtp_mail *mail)
{
	enum {
		SEEN_SIZE = 1,
		SEEN_BODY = 2,
		SEEN_SMTPUTF8 = 4,
		SEEN_RET = 8,
		SEEN_ENVID = 16,
		SEEN_TLS = 32
	};
	unsigned bit;

	if (token_is(parameter->keyword, "SIZE")) {
		bit = SEEN_SIZE;
		if (!parse_size(parameter->value, &mail->size))
			return REPLY_BAD_PARAMETER;
	} else if (token_is(parameter->keyword, "BODY")) {
		bit = SEEN_BODY;
		mail->body_8bitmime = token_is(parameter->value, "8BITMIME");
		if (!mail->body_8bitmime && !token_is(parameter->value, "7BIT"))
			return REPLY_BAD_PARAMETER;
	} else if (token_is(parameter->keyword, "SMTPUTF8")) {
		bit = SEEN_SMTPUTF8;
		if (parameter->has_value)
			return REPLY_BAD_PARAMETER;
		mail->smtputf8 = true;
	} else if (token_is(parameter->keyword, "REQUIRETLS")) {
		bit = SEEN_TLS;
		if (parameter->has_value)
			return REPLY_BAD_PARAMETER;
		mail->requiretls = true;
	} else if (token_is(parameter->keyword, "RET")) {
		bit = SEEN_RET;
		if (!parse_ret(parameter->value, &mail->ret))
			return REPLY_BAD_PARAMETER;
	} else if (token_is(parameter->keyword, "ENVID")) {
		bit = SEEN_ENVID;
		mail->envid = parameter->value.p;
		mail->envid_len = parameter->value.len;
		if (mail->envid_len == 0 || mail->envid_len > ENVID_MAX ||
		        !xtext_ok(mail->envid, mail->envid_len))
			return REPLY_BAD_PARAMETER;
	} else {
		return REPLY_UNKNOWN_PARAMETER;
	}
	if (*seen & bit)
		return REPLY_BAD_PARAMETER;
	*seen |= bit;
	return REPLY_NONE;
}

/* Steps over "FROM:" or "TO:" and the path. Blanks after the colon are common enough to be let through. */
static bool parse_path(
        const struct lmtp_command *command, const char *word, struct mail_path *path, const char **after)
{
	const char *p = command->arg, *end = p + command->arg_len;
	size_t n = strlen(word), used;

	if (command->arg_len < n || !ascii_ieq_mem(p, n, word, n))
		return false;
	p += n;
	skip_spaces(&p, end);
	if (!mail_path_parse(p, (size_t)(end - p), path, &used))
		return false;
	*after = p + used;
	return true;
}

static enum reply parse_mail(const struct lmtp_command *command, bool extensions, struct lmtp_mail *mail)
{
	const char *p, *end = command->arg + command->arg_len;
	struct parameter parameter;
	unsigned seen = 0;
	bool bad;

	memset(mail, 0, sizeof(*mail));
	if (!parse_path(command, "FROM:", &mail->path, &p))
		return REPLY_BAD_SENDER;
	while (next_parameter(&p, end, &parameter, &bad)) {
		enum reply reply = REPLY_BAD_PARAMETER;

		if (!bad)
			reply = extensions ? mail_parameter(&parameter, &seen, mail)
			                   : REPLY_UNKNOWN_PARAMETER;
		if (reply != REPLY_NONE)
			return reply;
	}
	return REPLY_NONE;
}

enum reply lmtp_mail_parse(const struct lmtp_command *command, bool extensions, struct lmtp_mail *mail)
{
	enum reply reply = parse_mail(command, extensions, mail);

	/* the parameter stands behind what it allows */
	return !mail->smtputf8 && has_8bit(command->arg, command->arg_len) ? REPLY_BAD_BYTES : reply;
}

/* postmaster is the one recipient that needs no domain */
static bool rcpt_has_place(const struct mail_path *path)
{
	if (path->domain_len)
		return true;
	return ascii_ieq_mem(path->address, path->address_len, "postmaster", strlen("postmaster"));
}

/* notify-value = "NEVER" / notify-item *( "," notify-item ); notify-item = "SUCCESS" / "FAILURE" / "DELAY" */
static bool parse_notify(struct token value, uint8_t *notify)
{
	static const struct {
		const char *word;
		uint8_t bit;
	} items[] = {{"SUCCESS", NOTIFY_SUCCESS}, {"FAILURE", NOTIFY_FAILURE}, {"DELAY", NOTIFY_DELAY}};
	const char *p = value.p, *end = value.p + value.len;

	if (token_is(value, "NEVER")) {
		*notify |= NOTIFY_NEVER;
		return true;
	}
	while (p <= end) {
		const char *comma = memchr(p, ',', (size_t)(end - p));
		struct token item = {p, (size_t)((comma ? comma : end) - p)};
		uint8_t bit = 0;

		for (size_t i = 0; i < sizeof(items) / sizeof(items[0]); i++)
			if (token_is(item, items[i].word))
				bit = items[i].bit;
		if (!bit)
			return false;
		*notify |= bit;
		p = (comma ? comma : end) + 1;
	}
	return true;
}

/*
 * original-recipient-address = atom ";" xtext. RFC 6533 3 adds the type utf-8, whose addresses may have UTF-8 as it is
 * where the transaction is SMTPUTF8.
 */
static bool parse_orcpt(struct token value, struct lmtp_rcpt *rcpt)
{
	const char *semicolon = memchr(value.p, ';', value.len);
	size_t type_len = semicolon ? (size_t)(semicolon - value.p) : 0;
	const char *p, *end = value.p + value.len;

	if (type_len == 0 || value.len > ORCPT_MAX || semicolon + 1 == end)
		return false;
	for (size_t i = 0; i < type_len; i++)
		if ((unsigned char)value.p[i] > '~' || strchr("()<>@,:\\\".[]+=", value.p[i]))
			return false;
	for (p = semicolon + 1; p < end;) {
		const char *start = p;

		while (p < end && (unsigned char)*p <= '~')
			p++;
		if (!xtext_ok(start, (size_t)(p - start)))
			return false;
		if (p < end && !ascii_ieq_mem(value.p, type_len, "utf-8", strlen("utf-8")))
			return false;
		while (p < end && (unsigned char)*p > '~')
			p++;
	}
	rcpt->orcpt = value.p;
	rcpt->orcpt_len = value.len;
	return true;
}

static enum reply rcpt_parameter(const struct parameter *parameter, struct lmtp_rcpt *rcpt)
{
	bool ok;

	if (token_is(parameter->keyword, "NOTIFY"))
		ok = parameter->has_value && rcpt->notify == 0 &&
		     parse_notify(parameter->value, &rcpt->notify);
	else if (token_is(parameter->keyword, "ORCPT"))
		ok = parameter->has_value && !rcpt->orcpt && parse_orcpt(parameter->value, rcpt);
	else
		return REPLY_UNKNOWN_PARAMETER;
	return ok ? REPLY_NONE : REPLY_BAD_PARAMETER;
}

enum reply lmtp_rcpt_parse(
        const struct lmtp_command *command, bool extensions, bool smtputf8, struct lmtp_rcpt *rcpt)
{
	const char *p, *end = command->arg + command->arg_len;
	struct parameter parameter;
	bool bad;

	memset(rcpt, 0, sizeof(*rcpt));
	if (!smtputf8 && has_8bit(command->arg, command->arg_len))
		return REPLY_BAD_BYTES;
	if (!parse_path(command, "TO:", &rcpt->path, &p) || !rcpt_has_place(&rcpt->path))
		return REPLY_BAD_RCPT;
	while (next_parameter(&p, end, &parameter, &bad)) {
		enum reply reply = REPLY_BAD_PARAMETER;

		if (!bad)
			reply = extensions ? rcpt_parameter(&parameter, rcpt) : REPLY_UNKNOWN_PARAMETER;
		if (reply != REPLY_NONE)
			return reply;
	}
	return REPLY_NONE;
}
