/*
 * bindpost dns: what deliveryd knows of DNS, and making it forget
 */
#include <stdio.h>
#include <string.h>

#include "base/mem.h"
#include "control/cli.h"

static void print_plain(const char *key, const json_t *value, int indent)
{
	struct str text;

	str_init(&text);
	cli_print_value(value, &text);
	printf("%*s%-*s  %s\n", indent, "", 20 - indent, key, text.data ? text.data : "");
	str_free(&text);
}

static void print_lookup(const json_t *answer)
{
	const char *key;
	json_t *value;
	size_t i;

	json_object_foreach ((json_t *)answer, key, value)
		if (!json_is_array(value))
			print_plain(key, value, 0);
	json_array_foreach (json_object_get(answer, "records"), i, value)
		print_plain("record", value, 0);
}

static void print_stats(const json_t *answer)
{
	static const struct cli_column columns[] = {
	        {"SERVER", "address", 24, false},
	        {"STATE", "state", 7, false},
	        {"UNANSWERED", "unanswered", 10, true},
	        {"EDNS", "edns", 4, false},
	        {"TRUST AD", "trust_ad", 8, false},
	        {"VALIDATES", "validates", 0, false},
	};
	const char *key, *inner;
	json_t *value, *one;
	size_t i;

	cli_table_head(columns, array_len(columns));
	json_array_foreach (json_object_get(answer, "servers"), i, value)
		cli_table_row(columns, array_len(columns), value);
	putchar('\n');
	json_object_foreach ((json_t *)answer, key, value) {
		if (json_is_object(value)) {
			printf("%s\n", key);
			json_object_foreach (value, inner, one)
				print_plain(inner, one, 2);
		} else if (!json_is_array(value)) {
			print_plain(key, value, 0);
		}
	}
}

static void print_refresh(const json_t *answer)
{
	printf("%lld answers forgotten\n",
	        (long long)json_integer_value(json_object_get(answer, "forgotten")));
}

static int ask(struct cli *cli, const char *method, const char *path, void (*print)(const json_t *))
{
	struct str spec;
	struct error err;
	json_t *answer = NULL;
	const char *result;
	int code;

	str_init(&spec);
	if (!cli_socket(cli, false, &spec, &err)) {
		fprintf(stderr, "bindpost: %s\n", err.text);
		str_free(&spec);
		return CLI_REFUSED;
	}
	code = cli_request(cli, spec.data, method, path, &answer);
	if (answer && cli->json) {
		json_dumpf(answer, stdout, JSON_INDENT(2));
		putchar('\n');
	} else if (code == CLI_DONE) {
		print(answer);
	}
	result = json_string_value(json_object_get(answer, "result"));
	if (code == CLI_DONE && result && strcmp(result, "failed") == 0)
		code = CLI_REFUSED;
	json_decref(answer);
	str_free(&spec);
	return code;
}

static int ask_name(struct cli *cli, const char *method, const char *path, const char *type,
        void (*print)(const json_t *))
{
	struct str url;
	int code;

	str_init(&url);
	str_printf(&url, "%s?name=", path);
	cli_url_add(&url, cli->argv[1]);
	if (type) {
		str_add(&url, "&type=");
		cli_url_add(&url, type);
	}
	code = ask(cli, method, url.data, print);
	str_free(&url);
	return code;
}

int cmd_dns(struct cli *cli)
{
	const char *what = cli->argc ? cli->argv[0] : "";

	if (strcmp(what, "stats") == 0 && cli->argc == 1)
		return ask(cli, "GET", "/v1/dns/stats", print_stats);
	if (strcmp(what, "refresh") == 0 && cli->argc == 2)
		return ask_name(cli, "POST", "/v1/dns/refresh", NULL, print_refresh);
	if (strcmp(what, "lookup") == 0 && cli->argc == 3)
		return ask_name(cli, "GET", "/v1/dns/lookup", cli->argv[2], print_lookup);
	return cli_usage("dns takes: refresh DOMAIN, lookup NAME TYPE, or stats");
}
