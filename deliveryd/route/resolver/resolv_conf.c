/* resolv_conf - see resolv_conf.h */
#include "config.h"
#include "route/resolver/resolv_conf.h"

#include <stdio.h>
#include <string.h>

static bool read_line(char *line, struct resolver_server *out)
{
	static const char blanks[] = " \t\r\n";
	char *save = NULL, *word = strtok_r(line, blanks, &save), *value;

	if (!word || strcmp(word, "nameserver") != 0)
		return false;
	value = strtok_r(NULL, blanks, &save);
	memset(out, 0, sizeof(*out));
	if (!value || !addr_parse(value, &out->addr, NULL))
		return false;
	out->addr.port = 53;
	out->trust_ad = addr_is_loopback(&out->addr);
	return true;
}

unsigned resolv_conf_read(const char *path, struct resolver_server *out, unsigned max)
{
	FILE *f = fopen(path, "re");
	char line[512];
	unsigned n = 0;

	while (f && n < max && fgets(line, sizeof(line), f))
		n += read_line(line, &out[n]);
	if (f)
		(void)fclose(f);
	if (n == 0 && max > 0) {
		char loopback[] = "nameserver 127.0.0.1";
		n = read_line(loopback, &out[0]);
	}
	return n;
}

unsigned resolver_system_servers(struct resolver_server *out, unsigned max)
{
	return resolv_conf_read("/etc/resolv.conf", out, max);
}
