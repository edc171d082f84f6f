#include "config.h"
#include "base/names.h"

#include <idn2.h>
#include <string.h>
#include <strings.h>
#include "base/addr.h"
#include "base/log.h"
#include "base/mem.h"

#define DOMAIN_TEXT_MAX                                                                                      \
	253 /* RFC 1035 2.3.4: 255 on the wire, without the root's and the first label's length */
#define LABEL_MAX 63

static bool domain_refuse(const char *raw, size_t len, const char *why, struct error *err)
{
	char quoted[320];

	return error_set(err, "%s is not a domain: %s", log_quote(raw, len, quoted, sizeof(quoted)), why);
}

static bool is_ascii(const char *raw, size_t len)
{
	for (size_t i = 0; i < len; i++)
		if ((unsigned char)raw[i] >= 0x80)
			return false;
	return true;
}

/* Letters, digits, hyphen; the underscore, too, which DNS names do have. */
static bool is_label_char(char c)
{
	return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '-' ||
	       c == '_';
}

/* Why these labels are no domain; NULL if they are one. */
static const char *labels_wrong(const char *text, size_t len)
{
	size_t label = 0;

	if (len == 0)
		return "it is empty";
	if (len > DOMAIN_TEXT_MAX)
		return "it is longer than 253 bytes";
	for (size_t i = 0; i <= len; i++) {
		if (i < len && text[i] != '.') {
			if (!is_label_char(text[i]))
				return "it has characters that no host name has";
			label++;
			continue;
		}
		if (label == 0)
			return "a label is empty";
		if (label > LABEL_MAX)
			return "a label is longer than 63 bytes";
		label = 0;
	}
	return NULL;
}

static void lower_into(char *out, const char *text, size_t len)
{
	for (size_t i = 0; i < len; i++)
		out[i] = ascii_lower(text[i]);
	out[len] = '\0';
}

static size_t without_final_dot(const char *text, size_t len)
{
	return len > 0 && text[len - 1] == '.' ? len - 1 : len;
}

/* RFC 5321 4.1.3 General-address-literal: a tag and printable bytes without brackets and backslash. */
static bool is_general_literal(const char *text, size_t len)
{
	size_t i = 0;

	while (i < len && is_label_char(text[i]) && text[i] != '_')
		i++;
	if (i == 0 || text[i - 1] == '-' || i + 1 >= len || text[i] != ':')
		return false;
	for (i++; i < len; i++)
		if (text[i] < 33 || text[i] > 126 || (text[i] >= '[' && text[i] <= ']'))
			return false;
	return true;
}

static bool is_literal(const char *raw, size_t len)
{
	return len > 0 && raw[0] == '[';
}

/* "[192.0.2.1]", "[IPv6:2001:db8::1]", "[tag:anything]" */
static bool literal_normalize(const char *raw, size_t len, char out[DOMAIN_MAX + 64], struct error *err)
{
	struct addr addr;
	bool tagged;

	if (len < 3 || raw[len - 1] != ']' || len > DOMAIN_TEXT_MAX || memchr(raw, '\0', len) != NULL)
		return domain_refuse(raw, len, "it is no address literal", err);
	lower_into(out, raw, len);
	tagged = strncmp(out, "[ipv6:", 6) == 0;
	if (tagged)
		memcpy(out, "[IPv6:", 6);
	if (addr_parse(out, &addr, NULL) && addr.scope == 0 && (addr.family == AF_INET || tagged))
		return true;
	if (!tagged && is_ascii(raw, len) && is_general_literal(raw + 1, len - 2) &&
	        !addr_parse(out, &addr, NULL))
		return true;
	return domain_refuse(raw, len, "it is no address literal", err);
}

/* UTS 46 maps what people type (capitals, wide forms, ideographic full stops); then IDNA 2008 judges. */
static bool idn_normalize(const char *raw, size_t len, char out[DOMAIN_MAX + 64], struct error *err)
{
	char *copy, *ascii = NULL;
	const char *wrong = NULL;
	size_t n;
	int rc;

	/* four bytes of UTF-8 stand for at least one of the result */
	if (len > 4 * (size_t)DOMAIN_MAX)
		return domain_refuse(raw, len, "it is longer than 253 bytes", err);
	if (memchr(raw, '\0', len) != NULL)
		return domain_refuse(raw, len, "it has characters that no host name has", err);
	copy = mem_strndup(raw, len);
	rc = idn2_to_ascii_8z(copy, &ascii, IDN2_NFC_INPUT | IDN2_NONTRANSITIONAL);
	mem_free(&copy);
	if (rc != IDN2_OK)
		return domain_refuse(raw, len, idn2_strerror(rc), err);
	n = without_final_dot(ascii, strlen(ascii));
	wrong = labels_wrong(ascii, n);
	if (wrong == NULL)
		lower_into(out, ascii, n);
	idn2_free(ascii);
	return wrong == NULL || domain_refuse(raw, len, wrong, err);
}

bool domain_normalize(const char *raw, size_t len, char out[DOMAIN_MAX + 64], struct error *err)
{
	const char *wrong;
	size_t n;

	out[0] = '\0';
	if (is_literal(raw, len)) {
		if (literal_normalize(raw, len, out, err))
			return true;
		out[0] = '\0';
		return false;
	}
	if (!is_ascii(raw, len))
		return idn_normalize(raw, len, out, err);
	n = without_final_dot(raw, len);
	wrong = labels_wrong(raw, n);
	if (wrong != NULL)
		return domain_refuse(raw, len, wrong, err);
	lower_into(out, raw, n);
	return true;
}

/* Where the mailbox begins behind "@one,@two:" (RFC 5321 4.1.2 A-d-l); -1 if that does not end. The colons of
 * address literals are inside brackets. */
static ptrdiff_t skip_route(const char *raw, size_t len)
{
	bool literal = false;

	if (len == 0 || raw[0] != '@')
		return 0;
	for (size_t i = 0; i < len; i++) {
		if (raw[i] == '[')
			literal = true;
		else if (raw[i] == ']')
			literal = false;
		else if (raw[i] == ':' && !literal)
			return (ptrdiff_t)i + 1;
	}
	return -1;
}

static bool strip_brackets(const char **raw, size_t *len)
{
	bool open = *len > 0 && (*raw)[0] == '<', close = *len > 0 && (*raw)[*len - 1] == '>';

	/* an address may end in a quoted '>' only before an '@', so these are the path's */
	if (!open)
		return !close;
	if (!close || *len < 2)
		return false;
	(*raw)++;
	*len -= 2;
	return true;
}

/* The last '@' outside quotes; len if there is none, -1 if a quote does not end. */
static ptrdiff_t find_at(const char *raw, size_t len)
{
	size_t at = len;
	bool quoted = false;

	for (size_t i = 0; i < len; i++) {
		if (raw[i] == '\\' && i + 1 < len && (quoted || raw[i + 1] == '"' || raw[i + 1] == '\\'))
			i++;
		else if (raw[i] == '"')
			quoted = !quoted;
		else if (raw[i] == '@' && !quoted)
			at = i;
	}
	return quoted ? -1 : (ptrdiff_t)at;
}

bool mailaddr_split(const char *raw, size_t len, struct mailaddr *out)
{
	ptrdiff_t route, at;

	*out = (struct mailaddr){.local = raw, .domain = raw};
	if (!strip_brackets(&raw, &len))
		return false;
	route = skip_route(raw, len);
	if (route < 0)
		return false;
	raw += route;
	len -= (size_t)route;
	if (route > 0 && len == 0)
		return false;
	at = find_at(raw, len);
	if (at < 0 || (at == 0 && len > 0) || (size_t)at + 1 == len)
		return false; /* no local part, or nothing behind the '@' */
	out->local = raw;
	out->local_len = (size_t)at;
	out->domain = raw + len;
	if ((size_t)at < len) {
		out->domain = raw + at + 1;
		out->domain_len = len - (size_t)at - 1;
	}
	return true;
}

void mailaddr_normalize(const char *raw, size_t len, struct str *out)
{
	char domain[DOMAIN_MAX + 64];
	struct mailaddr a;

	if (!mailaddr_split(raw, len, &a)) {
		/* as it is, so that a rule can still match it */
		(void)strip_brackets(&raw, &len);
		str_add_mem(out, raw, len);
		return;
	}
	str_add_mem(out, a.local, a.local_len);
	if (a.domain_len == 0)
		return;
	str_add_char(out, '@');
	if (domain_normalize(a.domain, a.domain_len, domain, NULL)) {
		str_add(out, domain);
		return;
	}
	for (size_t i = 0; i < a.domain_len; i++)
		str_add_char(out, ascii_lower(a.domain[i]));
}

bool name_check(const char *what, const char *name, struct error *err)
{
	size_t len = strlen(name);
	char quoted[160];

	if (len >= 1 && len <= 64 && strcspn(name, ":;,/\"'") == len) {
		size_t i = 0;

		while (i < len && name[i] > 0x20 && name[i] < 0x7F)
			i++;
		if (i == len)
			return true;
	}
	return error_set(err, "%s %s: a name is 1 to 64 bytes of printable ASCII without space : ; , / \" '",
	        what, log_quote(name, len, quoted, sizeof(quoted)));
}

const char *id_print(uint64_t id, char buf[ID_TEXT_SIZE])
{
	for (int i = 15; i >= 0; i--, id >>= 4)
		buf[i] = "0123456789abcdef"[id & 15];
	buf[16] = '\0';
	return buf;
}

bool id_parse(const char *text, uint64_t *id)
{
	uint64_t v = 0;

	for (int i = 0; i < 16; i++) {
		char c = text[i];

		if (c >= '0' && c <= '9')
			v = v << 4 | (uint64_t)(c - '0');
		else if (c >= 'a' && c <= 'f')
			v = v << 4 | (uint64_t)(c - 'a' + 10);
		else
			return false;
	}
	if (text[16] != '\0')
		return false;
	*id = v;
	return true;
}
