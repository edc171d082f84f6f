#include "session/smtp_commands.h"

#include <assert.h>
#include <string.h>
#include "base/mem.h"
#include "base/utf8.h"
#include "base/xtext.h"

static const struct {
	const char *keyword;
	enum smtp_extension extension;
} known[] = {
        {"PIPELINING", SMTP_EXT_PIPELINING},
        {"SIZE", SMTP_EXT_SIZE},
        {"8BITMIME", SMTP_EXT_8BITMIME},
        {"SMTPUTF8", SMTP_EXT_SMTPUTF8},
        {"STARTTLS", SMTP_EXT_STARTTLS},
        {"DSN", SMTP_EXT_DSN},
        {"XCLIENT", SMTP_EXT_XCLIENT},
        {"REQUIRETLS", SMTP_EXT_REQUIRETLS},
        {"CHUNKING", SMTP_EXT_CHUNKING},
};

/* RFC 1870 6.1: SIZE [SP 1*20DIGIT]. What is no number counts as none, past 2^64 too. */
static uint64_t parse_size(const char *p, const char *end)
{
	uint64_t value = 0;

	while (p < end && (*p == ' ' || *p == '='))
		p++;
	for (; p < end && *p >= '0' && *p <= '9'; p++) {
		if (value > (UINT64_MAX - 9) / 10)
			return 0;
		value = value * 10 + (uint64_t)(*p - '0');
	}
	return p == end || *p == ' ' ? value : 0;
}

/* RFC 4954 3: a list of mechanisms */
static unsigned parse_auth(const char *p, const char *end)
{
	static const struct {
		const char *name;
		enum smtp_extension extension;
	} mechanisms[] = {
	        {"PLAIN", SMTP_EXT_AUTH_PLAIN},
	        {"LOGIN", SMTP_EXT_AUTH_LOGIN},
	        {"XOAUTH2", SMTP_EXT_AUTH_XOAUTH2},
	};
	unsigned found = 0;

	while (p < end) {
		const char *word;

		while (p < end && (*p == ' ' || *p == '\t' || *p == '='))
			p++;
		word = p;
		while (p < end && *p != ' ' && *p != '\t')
			p++;
		for (size_t i = 0; i < array_len(mechanisms); i++)
			if (ascii_ieq_mem(
			            word, (size_t)(p - word), mechanisms[i].name, strlen(mechanisms[i].name)))
				found |= mechanisms[i].extension;
	}
	return found;
}

unsigned smtp_xclient_attribute(const char *name, size_t len)
{
	static const char *const names[] = {"NAME", "ADDR", "PORT", "PROTO", "HELO"};

	for (size_t i = 0; i < array_len(names); i++)
		if (ascii_ieq_mem(name, len, names[i], strlen(names[i])))
			return 1u << i;
	return 0;
}

static unsigned parse_xclient(const char *p, const char *end)
{
	unsigned found = 0;

	while (p < end) {
		const char *word;

		while (p < end && (*p == ' ' || *p == '\t'))
			p++;
		word = p;
		while (p < end && *p != ' ' && *p != '\t')
			p++;
		found |= smtp_xclient_attribute(word, (size_t)(p - word));
	}
	return found;
}

void smtp_offer_line(struct smtp_offer *offer, const char *raw, size_t len)
{
	size_t word = 0, i;

	while (len > 0 && (raw[len - 1] == ' ' || raw[len - 1] == '\t'))
		len--;
	/* '=' for the sake of old servers ("AUTH=LOGIN") */
	while (word < len && raw[word] != ' ' && raw[word] != '\t' && raw[word] != '=')
		word++;
	if (ascii_ieq_mem(raw, word, "AUTH", 4))
		offer->extensions |= parse_auth(raw + word, raw + len);
	for (i = 0; i < array_len(known); i++) {
		if (!ascii_ieq_mem(raw, word, known[i].keyword, strlen(known[i].keyword)))
			continue;
		offer->extensions |= known[i].extension;
		if (known[i].extension == SMTP_EXT_XCLIENT)
			offer->xclient = parse_xclient(raw + word, raw + len);
		if (known[i].extension == SMTP_EXT_SIZE)
			offer->max_size = parse_size(raw + word, raw + len);
	}
}

bool smtp_address_is_ascii(const char *address)
{
	const unsigned char *p = (const unsigned char *)address;

	while (*p != '\0' && *p < 128)
		p++;
	return *p == '\0';
}

/* Outside quotes nothing that could end the path or begin a parameter; nowhere a control byte. */
bool smtp_address_ok(const char *address, bool utf8)
{
	bool quoted = false;
	const unsigned char *p;

	for (p = (const unsigned char *)address; *p != '\0'; p++) {
		if (*p < ' ' || *p == 127 || (*p > 127 && !utf8))
			return false;
		if (quoted && *p == '\\') {
			p++;
			if (*p < ' ' || *p == 127 || (*p > 127 && !utf8))
				return false;
		} else if (*p == '"') {
			quoted = !quoted;
		} else if (!quoted && (*p == ' ' || *p == '<' || *p == '>')) {
			return false;
		}
	}
	return !quoted;
}

bool smtp_ehlo_name_ok(const char *name)
{
	const unsigned char *p = (const unsigned char *)name;

	if (*p == '\0')
		return false;
	while (*p > ' ' && *p < 127)
		p++;
	return *p == '\0';
}

void smtp_command_plain(struct str *out, const char *verb)
{
	str_add(out, verb);
	str_add_mem(out, "\r\n", 2);
}

void smtp_command_bdat(struct str *out, uint64_t bytes)
{
	str_printf(out, "BDAT %llu LAST\r\n", (unsigned long long)bytes);
}

void smtp_command_hello(struct str *out, const char *verb, const char *name)
{
	assert(smtp_ehlo_name_ok(name));
	str_add(out, verb);
	str_add_char(out, ' ');
	str_add(out, name);
	str_add_mem(out, "\r\n", 2);
}

void smtp_command_mail(
        struct str *out, const char *sender, const struct smtp_mail_params *params, const struct message *dsn)
{
	assert(smtp_address_ok(sender, params->smtputf8));
	str_add(out, "MAIL FROM:<");
	str_add(out, sender);
	str_add_char(out, '>');
	if (params->size)
		str_printf(out, " SIZE=%llu", (unsigned long long)params->bytes);
	if (params->body_8bitmime)
		str_add(out, " BODY=8BITMIME");
	if (params->requiretls)
		str_add(out, " REQUIRETLS");
	if (params->smtputf8)
		str_add(out, " SMTPUTF8");
	if (dsn && dsn->ret != RET_NONE)
		str_add(out, dsn->ret == RET_FULL ? " RET=FULL" : " RET=HDRS");
	if (dsn && dsn->envid)
		str_printf(out, " ENVID=%s", dsn->envid);
	str_add_mem(out, "\r\n", 2);
}

static void add_notify(struct str *out, unsigned notify)
{
	static const struct {
		unsigned bit;
		const char *word;
	} words[] = {{NOTIFY_NEVER, "NEVER"}, {NOTIFY_SUCCESS, "SUCCESS"}, {NOTIFY_FAILURE, "FAILURE"},
	        {NOTIFY_DELAY, "DELAY"}};
	const char *before = " NOTIFY=";

	for (size_t i = 0; i < array_len(words); i++) {
		if ((notify & words[i].bit) == 0)
			continue;
		str_add(out, before);
		str_add(out, words[i].word);
		before = ",";
	}
}

/* RFC 6533 3: outside SMTPUTF8 the characters of a utf-8 address are escaped. */
static void add_orcpt(struct str *out, const char *orcpt, bool utf8)
{
	size_t len = strlen(orcpt), n;
	uint32_t code;

	str_add(out, " ORCPT=");
	for (size_t i = 0; i < len; i += n) {
		n = utf8_next(orcpt + i, len - i, &code);
		if (n == 0) {
			n = 1;
			code = '?';
		}
		if (code > '~' && utf8)
			str_add_mem(out, orcpt + i, n);
		else if (code > '~')
			str_printf(out, "\\x{%X}", (unsigned)code);
		else
			str_add_char(out, (char)code);
	}
}

void smtp_command_rcpt(struct str *out, const char *recipient, const struct recipient *dsn, bool utf8)
{
	str_add(out, "RCPT TO:<");
	str_add(out, recipient);
	str_add_char(out, '>');
	if (dsn)
		add_notify(out, dsn->notify);
	if (dsn && dsn->orcpt) {
		add_orcpt(out, dsn->orcpt, utf8);
	} else if (dsn && (dsn->notify & NOTIFY_ORCPT_SAME) != 0 && smtp_address_is_ascii(recipient)) {
		str_add(out, " ORCPT=rfc822;");
		xtext_encode(out, recipient);
	}
	str_add_mem(out, "\r\n", 2);
}
