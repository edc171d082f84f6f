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

int LLVMFuzzerTestOneInput(const uint8_t *, size_t);

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
