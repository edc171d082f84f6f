/*
 * JSON configuration: any bytes as bindpost.json and policy file, with a line "---" between. Whatever loads is asked
 * for values and compared with itself.
 */
#include "config.h"
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include "base/mem.h"
#include "conf/conf.h"
#include "conf/route_item.h"

int LLVMFuzzerTestOneInput(const uint8_t *, size_t);

/* What a list of routes is expanded to can be read again, item by item, and is printed as it was. */
static void use_routes(const struct conn_options *o)
{
	struct str list, again;
	const char *at, *item;
	size_t len;

	str_init(&list);
	str_init(&again);
	routes_expand(o->routes, o, "gmail.com", &list);
	for (at = list.data; (item = routes_next(&at, &len));) {
		struct route_item r;
		if (!route_item_parse(item, len, &r, NULL) || !r.has_pref ||
		        (r.kind != ROUTE_ITEM_UNIX && !r.port))
			abort();
		if (again.len)
			str_add_char(&again, ' ');
		route_item_print(&r, &again);
	}
	if (strcmp(list.data, again.data) != 0)
		abort();
	str_free(&list);
	str_free(&again);
}

static void use(struct conf *c)
{
	struct conn_options conn;
	struct deliv_options deliv;
	struct sched_options sched;
	struct host_limits limits;
	struct conf_origin origin;
	struct error err;
	json_t *diff = json_object();

	for (uint32_t i = 0; i < conf_n_bindings(c); i++) {
		conf_resolve(c, conf_binding(c, i), "gmail.com", &conn, &deliv, &sched);
		if (conn.routes)
			use_routes(&conn);
		conf_resolve_host(c, conf_binding(c, i), "mx.example.com", &limits);
		conf_eval(c, "gateway", conf_binding(c, i), "example.com", &origin, &err);
	}
	conf_diff_json(c, c, diff);
	if (json_array_size(json_object_get(diff, "changed")) ||
	        json_array_size(json_object_get(diff, "options")))
		abort(); /* a configuration differs from itself */
	json_decref(diff);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t n)
{
	char *text = mem_strndup((const char *)bytes, n), *cut = strstr(text, "\n---\n");
	struct errors errors = {0};

	if (cut)
		*cut = '\0';
	struct conf *c = conf_load_text(text, cut ? cut + 5 : NULL, &errors);
	if ((c == NULL) != (errors.n_errors > 0))
		abort();
	if (c)
		use(c);
	conf_unref(&c);
	errors_free(&errors);
	mem_free(&text);
	return 0;
}
