/*
 * route_item - one item of the option routes
 *
 * Purpose    Reads and prints it. Grammar:
 *
 *                item      = "__mx__" / hostport / url / unix
 *                url       = ( "smtp://" / "lmtp://" ) hostport [ "?" query ]
 *                unix      = "lmtp:unix:/" path [ "?" query ]
 *                hostport  = HOST / ADDRESS / "[" ADDRESS "]" , each with or without ":" port
 *                query     = parameter *( "&" parameter )        ; each once
 *                parameter = "pref=" 0-65535 / "ttl=" seconds / "port=" 1-65535 / "type=" ( "mx" / "a" )
 *
 *            The value of routes is kept as text: its items, separated by blanks. routes_expand() makes of it what a
 *            next hop is called: all options that the items leave open are filled in, so equal names are equal ways,
 *            and "__mx__" becomes "mx://DOMAIN:PORT".
 * Threads    Pure functions.
 */
#ifndef CONF_ROUTE_ITEM_H
#define CONF_ROUTE_ITEM_H

#include "base/error.h"
#include "base/names.h"
#include "base/str.h"
#include "conf/options.h"

#define ROUTES_MAX 32      /* items */
#define ROUTE_PATH_MAX 107 /* sun_path */
#define ROUTE_TTL_NONE UINT32_MAX

enum route_item_kind { ROUTE_ITEM_HOST, ROUTE_ITEM_MX, ROUTE_ITEM_UNIX };
enum route_method { ROUTE_METHOD_OPTION, ROUTE_METHOD_SMTP, ROUTE_METHOD_LMTP }; /* OPTION: delivery_method */

struct route_item {
	enum route_item_kind kind;
	enum route_method method;
	bool literal; /* addr stands */
	struct addr addr;
	char host[DOMAIN_MAX +
	          64]; /* name in normal form, the literal's text, a path; of MX: the domain, or "" */
	uint16_t port; /* 0 = the option's */
	bool has_pref, only_address;
	uint16_t pref;
	uint32_t ttl_s;
};

bool route_item_parse(const char *, size_t len, struct route_item *, struct error *);
void route_item_print(const struct route_item *, struct str *);

/* The items of a list as text, one by one: *at moves on; NULL at the end. */
const char *routes_next(const char **at, size_t *len);
/* `domain` in normal form. An item without pref comes right after the one before it. */
void routes_expand(const char *routes, const struct conn_options *, const char *domain, struct str *);

#endif
