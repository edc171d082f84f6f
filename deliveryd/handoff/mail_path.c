#include "config.h"
#include "handoff/mail_path.h"

#include <string.h>
#include "base/addr.h"

#define LABEL_MAX 63
#define NAME_MAX_LEN 253

static bool is_alnum(char c)
{
	return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9');
}

/* Part of a UTF-8 character, which is known to be one (RFC 6531 3.3) */
static bool is_8bit(char c)
{
	return (unsigned char)c > 127;
}

/* atext of RFC 5322 3.2.3, and the dot */
static bool is_atom_or_dot(char c)
{
	return is_alnum(c) || is_8bit(c) || (c && strchr("!#$%&'*+-/=?^_`{|}~.", c));
}

bool mail_domain_check(const char *p, size_t len)
{
	size_t label = 0;

	if (len == 0 || len > NAME_MAX_LEN)
		return false;
	for (size_t i = 0; i < len; i++) {
		if (p[i] == '.') {
			if (label == 0)
				return false;
			label = 0;
		} else if (is_8bit(p[i])) {
			label = 1; /* what it comes to as an A-label is seen when it is made one */
		} else if (is_alnum(p[i]) || p[i] == '-' || p[i] == '_') {
			if (++label > LABEL_MAX)
				return false;
		} else {
			return false;
		}
	}
	return label > 0;
}

bool mail_literal_check(const char *p, size_t len)
{
	char text[ADDR_TEXT_SIZE];
	struct addr addr;

	if (len < 3 || p[0] != '[' || p[len - 1] != ']' || len - 2 >= sizeof(text))
		return false;
	memcpy(text, p + 1, len - 2);
	text[len - 2] = '\0';
	/* addr_parse() also takes brackets and a scope: neither belongs inside a literal; and a v6 one has its tag */
	if (strpbrk(text, "[]%"))
		return false;
	if (!addr_parse(text, &addr, NULL))
		return false;
	return addr.family == AF_INET || strncasecmp(text, "IPv6:", 5) == 0;
}

/* How far the quoted string at p goes, closing quote included; 0 = it is none. qtext and quoted-pair: printable. */
static size_t quoted_len(const char *p, size_t len)
{
	for (size_t i = 1; i < len; i++) {
		if (p[i] == '"')
			return i + 1;
		if (p[i] == '\\')
			i++;
		if (i >= len || ((p[i] < ' ' || p[i] > '~') && !is_8bit(p[i])))
			return 0;
	}
	return 0;
}

static size_t local_len(const char *p, size_t len)
{
	size_t n = 0;

	if (len && p[0] == '"')
		return quoted_len(p, len);
	while (n < len && is_atom_or_dot(p[n]))
		n++;
	return n;
}

/* How far the domain or literal at p goes; 0 = there is none. */
static size_t domain_len(const char *p, size_t len)
{
	size_t n = 0;

	if (len && p[0] == '[') {
		const char *close = memchr(p, ']', len);

		n = close ? (size_t)(close - p) + 1 : 0;
		return n && mail_literal_check(p, n) ? n : 0;
	}
	while (n < len && !strchr(",:> ", p[n]))
		n++;
	return mail_domain_check(p, n) ? n : 0;
}

/* Steps over the source route, if there is one (RFC 5321 appendix C: accept and ignore). */
static bool skip_route(const char **p, const char *end)
{
	while (*p < end && **p == '@') {
		size_t n = domain_len(*p + 1, (size_t)(end - *p - 1));

		if (n == 0)
			return false;
		*p += 1 + n;
		if (*p == end || (**p != ',' && **p != ':'))
			return false;
		if (*(*p)++ == ':')
			return true;
		if (*p == end || **p != '@')
			return false;
	}
	return true;
}

bool mail_path_parse(const char *text, size_t len, struct mail_path *path, size_t *used)
{
	const char *p = text, *end = text + len;

	memset(path, 0, sizeof(*path));
	if (len < 2 || *p++ != '<')
		return false;
	path->address = p;
	if (*p == '>') {
		*used = 2;
		return true;
	}
	if (!skip_route(&p, end))
		return false;
	path->address = p;
	p += local_len(p, (size_t)(end - p));
	if (p == path->address)
		return false;
	if (p < end && *p == '@') {
		path->domain = p + 1;
		path->domain_len = domain_len(p + 1, (size_t)(end - p - 1));
		if (path->domain_len == 0)
			return false;
		p = path->domain + path->domain_len;
	}
	path->address_len = (size_t)(p - path->address);
	if (p == end || *p != '>')
		return false;
	*used = (size_t)(p + 1 - text);
	return true;
}
