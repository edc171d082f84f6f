#include "conf/egress_proxy.h"

#include <string.h>
#include "base/mem.h"

static const char *const schemes[] = {[EGRESS_PROXY_V2] = "proxy://", [EGRESS_SOCKS5] = "socks5://"};

bool egress_proxy_parse(const char *text, struct egress_proxy *proxy, struct error *err)
{
	size_t kind = 0;

	while (kind < array_len(schemes) && strncmp(text, schemes[kind], strlen(schemes[kind])) != 0)
		kind++;
	if (kind == array_len(schemes))
		return error_set(err, "write proxy://ADDRESS:PORT or socks5://ADDRESS:PORT");
	text += strlen(schemes[kind]);
	proxy->kind = (enum egress_proxy_kind)kind;
	if (!addr_parse_port(text, 0, &proxy->addr, NULL))
		return error_set(err, "write ADDRESS:PORT after the slashes (names are not looked up here)");
	if (proxy->addr.port == 0)
		return error_set(err, "no port: write ADDRESS:PORT, or [IPv6]:PORT");
	if (addr_is_any(&proxy->addr))
		return error_set(err, "nothing can be reached at that address");
	return true;
}

void egress_proxy_print(const struct egress_proxy *proxy, struct str *out)
{
	char text[ADDR_TEXT_SIZE];

	str_printf(out, "%s%s", schemes[proxy->kind], addr_print_port(&proxy->addr, text));
}
