#include "config.h"
#include "base/sockspec.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "base/log.h"
#include "base/names.h"

static bool refuse(const char *text, const char *why, struct error *err)
{
	char quoted[256];

	return error_set(err, "%s %s", log_quote(text, strlen(text), quoted, sizeof(quoted)), why);
}

/* HOST:PORT behind "inet:". "*" is AF_UNSPEC: all addresses of both families. */
static bool parse_inet(const char *text, const char *rest, struct sockspec *spec, struct error *err)
{
	const char *host = rest;
	char replaced[32];

	spec->type = SOCKSPEC_INET;
	if (strncmp(host, "localhost:", 10) == 0 || strncmp(host, "*:", 2) == 0) {
		if (snprintf(replaced, sizeof(replaced), "127.0.0.1%s", strchr(host, ':')) >=
		        (int)sizeof(replaced))
			return refuse(text, "has no port from 1 to 65535 (inet:HOST:PORT)", err);
		host = replaced;
	}
	if (!addr_parse_port(host, 0, &spec->addr, NULL))
		return refuse(text,
		        "is not inet:HOST:PORT (HOST an IP address, IPv6 in brackets, localhost or *; PORT 1 "
		        "to 65535)",
		        err);
	if (spec->addr.port == 0)
		return refuse(text, "has no port (inet:HOST:PORT)", err);
	if (rest[0] == '*')
		spec->addr = (struct addr){.port = spec->addr.port};
	return true;
}

static bool parse_mode(const char *value, mode_t *mode)
{
	unsigned v = 0;
	size_t len = strlen(value);

	if (len < 3 || len > 4 || strspn(value, "01234567") != len)
		return false;
	for (size_t i = 0; i < len; i++)
		v = v * 8 + (unsigned)(value[i] - '0');
	*mode = v;
	return v > 0 && v <= 0777;
}

static bool parse_word(const char *value, char *out, size_t size)
{
	size_t len = strlen(value);

	if (len == 0 || len >= size)
		return false;
	memcpy(out, value, len + 1);
	return true;
}

/* One "key=value" of "?mode=0660&group=postfix" */
static bool parse_parameter(const char *text, char *parameter, struct sockspec *spec, struct error *err)
{
	char *value = strchr(parameter, '='), why[160];
	bool known = true, good = false, again = false;

	if (value == NULL)
		return refuse(text, "has a parameter that is not key=value", err);
	*value++ = '\0';
	if (strcmp(parameter, "mode") == 0) {
		again = spec->mode != 0;
		good = parse_mode(value, &spec->mode);
	} else if (strcmp(parameter, "group") == 0) {
		again = spec->group[0] != '\0';
		good = parse_word(value, spec->group, sizeof(spec->group));
	} else if (strcmp(parameter, "user") == 0) {
		again = spec->user[0] != '\0';
		good = parse_word(value, spec->user, sizeof(spec->user));
	} else {
		known = false;
	}
	if (known && good && !again)
		return true;
	if (!known)
		return refuse(text, "has a parameter other than mode, group and user", err);
	(void)snprintf(why, sizeof(why),
	        again ? "has %.16s twice" : "has a wrong %.16s (e.g. mode=0660, group=mail)", parameter);
	return refuse(text, why, err);
}

static bool parse_unix(const char *text, const char *rest, struct sockspec *spec, struct error *err)
{
	const char *question = strchr(rest, '?');
	size_t len = question != NULL ? (size_t)(question - rest) : strlen(rest);
	char parameters[256], *next;

	spec->type = SOCKSPEC_UNIX;
	if (len == 0)
		return refuse(text, "has no path (unix:/path)", err);
	if (len >= sizeof(spec->path))
		return refuse(text, "has a path longer than 107 bytes, the most a Unix socket can have", err);
	memcpy(spec->path, rest, len);
	spec->path[len] = '\0';
	if (question == NULL)
		return true;
	if (strlen(question + 1) >= sizeof(parameters))
		return refuse(text, "has too long parameters", err);
	(void)snprintf(parameters, sizeof(parameters), "%s", question + 1);
	for (char *p = parameters; p != NULL; p = next) {
		next = strchr(p, '&');
		if (next != NULL)
			*next++ = '\0';
		if (!parse_parameter(text, p, spec, err))
			return false;
	}
	return true;
}

bool sockspec_parse(const char *text, struct sockspec *spec, struct error *err)
{
	*spec = (struct sockspec){0};
	if (strncmp(text, "inet:", 5) == 0)
		return parse_inet(text, text + 5, spec, err);
	if (strncmp(text, "unix:", 5) == 0)
		return parse_unix(text, text + 5, spec, err);
	if (strncmp(text, "systemd:", 8) == 0) {
		spec->type = SOCKSPEC_SYSTEMD;
		/* FileDescriptorName= (systemd.socket(5)): ASCII without control characters and colon */
		if (parse_word(text + 8, spec->path, sizeof(spec->path)) && strchr(spec->path, ':') == NULL)
			return true;
		return refuse(text, "has no name (systemd:NAME)", err);
	}
	return refuse(text, "is not a socket (inet:HOST:PORT, unix:/path, systemd:NAME)", err);
}

void sockspec_print(const struct sockspec *spec, struct str *out)
{
	char text[ADDR_TEXT_SIZE], separator = '?';

	switch (spec->type) {
	case SOCKSPEC_SYSTEMD:
		str_printf(out, "systemd:%s", spec->path);
		return;
	case SOCKSPEC_INET:
		if (spec->addr.family == AF_UNSPEC)
			str_printf(out, "inet:*:%u", spec->addr.port);
		else
			str_printf(out, "inet:%s", addr_print_port(&spec->addr, text));
		return;
	case SOCKSPEC_UNIX:
		break;
	}
	str_printf(out, "unix:%s", spec->path);
	if (spec->mode != 0) {
		str_printf(out, "%cmode=%04o", separator, (unsigned)spec->mode);
		separator = '&';
	}
	if (spec->group[0] != '\0') {
		str_printf(out, "%cgroup=%s", separator, spec->group);
		separator = '&';
	}
	if (spec->user[0] != '\0')
		str_printf(out, "%cuser=%s", separator, spec->user);
}

bool sockspec_libmilter(const struct sockspec *spec, struct str *out)
{
	char text[ADDR_TEXT_SIZE];

	switch (spec->type) {
	case SOCKSPEC_UNIX:
		str_printf(out, "unix:%s", spec->path);
		return true;
	case SOCKSPEC_INET:
		str_printf(out, "%s:%u", spec->addr.family == AF_INET6 ? "inet6" : "inet", spec->addr.port);
		if (spec->addr.family != AF_UNSPEC) /* without a host: all */
			str_printf(out, "@%s", addr_print(&spec->addr, text));
		return true;
	case SOCKSPEC_SYSTEMD:
		break;
	}
	return false;
}
