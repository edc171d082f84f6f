/*
 * The commands that look: each asks deliveryd, page by page, and prints as it goes.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "control/cli.h"

struct filters {
	const char *binding, *domain;
	long limit; /* rows in all, -1 = no bound */
	json_int_t cursor;
};

void cli_url_add(struct str *url, const char *text)
{
	for (; *text; text++) {
		unsigned char c = (unsigned char)*text;

		if ((c >= '0' && c <= '9') || (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') ||
		        strchr("-._~", c))
			str_add_char(url, (char)c);
		else
			str_printf(url, "%%%02X", c);
	}
}

static void make_url(struct str *url, const char *path, const struct filters *f, json_int_t cursor)
{
	str_clear(url);
	str_printf(url, "%s?cursor=%" JSON_INTEGER_FORMAT, path, cursor);
	if (f->limit >= 0 && f->limit < 500)
		str_printf(url, "&limit=%ld", f->limit);
	if (f->binding) {
		str_add(url, "&binding=");
		cli_url_add(url, f->binding);
	}
	if (f->domain) {
		str_add(url, "&domain=");
		cli_url_add(url, f->domain);
	}
}

static int parse_filters(struct cli *cli, struct filters *f)
{
	f->binding = f->domain = NULL;
	f->limit = -1;
	f->cursor = 0;
	for (int i = 0; i < cli->argc; i++) {
		const char *value;

		if ((value = cli_option(cli, &i, "--binding")))
			f->binding = value;
		else if ((value = cli_option(cli, &i, "--domain")))
			f->domain = value;
		else if ((value = cli_option(cli, &i, "--limit"))) {
			char *end;

			f->limit = strtol(value, &end, 10);
			if (*end || f->limit < 1)
				return cli_usage("--limit takes a number above 0, not \"%s\"", value);
		} else if ((value = cli_option(cli, &i, "--cursor"))) {
			char *end;

			f->cursor = strtoll(value, &end, 10);
			if (*end || f->cursor < 0)
				return cli_usage(
				        "--cursor takes what a list's \"next\" was, not \"%s\"", value);
		} else {
			return cli_usage("unexpected \"%s\"; known here: --binding --domain --limit --cursor",
			        cli->argv[i]);
		}
	}
	return CLI_DONE;
}

/* Prints {"items": [...]} of all pages, or rows. */
static int list(struct cli *cli, const char *path, const struct cli_column *columns, size_t n_columns,
        struct filters *f)
{
	json_int_t cursor = f->cursor;
	const char *comma = "\n";
	struct str spec, url;
	struct error err;
	int code = CLI_DONE;
	bool first = true;

	str_init(&spec);
	str_init(&url);
	if (!cli_socket(cli, false, &spec, &err)) {
		fprintf(stderr, "bindpost: %s\n", err.text);
		code = CLI_REFUSED;
	}
	while (code == CLI_DONE) {
		json_t *answer, *row, *next;
		size_t i;

		make_url(&url, path, f, cursor);
		code = cli_request(cli, spec.data, "GET", url.data, &answer);
		if (code != CLI_DONE) {
			json_decref(answer);
			break;
		}
		if (first && cli->json)
			fputs("{\"items\": [", stdout);
		else if (first)
			cli_table_head(columns, n_columns);
		json_array_foreach (json_object_get(answer, "items"), i, row) {
			if (f->limit == 0)
				break;
			if (f->limit > 0)
				f->limit--;
			if (!cli->json) {
				cli_table_row(columns, n_columns, row);
			} else {
				fputs(comma, stdout);
				comma = ",\n";
				json_dumpf(row, stdout, JSON_COMPACT | CLI_REAL);
			}
		}
		first = false;
		next = json_object_get(answer, "next");
		cursor = json_is_string(next) ? strtoll(json_string_value(next), NULL, 10)
		                              : json_integer_value(next);
		json_decref(answer);
		if (!cursor || f->limit == 0)
			break;
	}
	if (code == CLI_DONE && cli->json && cursor)
		printf("\n], \"next\": \"%" JSON_INTEGER_FORMAT "\"}\n", cursor);
	else if (code == CLI_DONE && cli->json)
		fputs("\n], \"next\": null}\n", stdout);
	str_free(&spec);
	str_free(&url);
	return code;
}

int cmd_queues(struct cli *cli)
{
	static const struct cli_column columns[] = {
	        {"BINDING", "binding", 12, false},
	        {"NEXT HOP", "next_hop", 24, false},
	        {"ACTIVE", "active", 7, true},
	        {"DEFERRED", "deferred", 8, true},
	        {"HELD", "held", 5, true},
	        {"CONN", "connections", 4, true},
	        {"LIMIT", "limit", 5, true},
	        {"NEXT ATTEMPT", "next_attempt", 27, false},
	        {"WAITS FOR", "reason", 0, false},
	};
	struct filters f;
	int code = parse_filters(cli, &f);

	return code != CLI_DONE ? code : list(cli, "/v1/queues", columns, array_len(columns), &f);
}

int cmd_bindings(struct cli *cli)
{
	static const struct cli_column columns[] = {
	        {"BINDING", "binding", 12, false},
	        {"GROUP", "group", 10, false},
	        {"SOURCE", "source", 24, false},
	        {"ACTIVE", "active", 7, true},
	        {"DEFERRED", "deferred", 8, true},
	        {"HELD", "held", 5, true},
	        {"CONN", "connections", 4, true},
	        {"RECEIVED", "received", 8, true},
	        {"DELIVERED", "delivered", 9, true},
	        {"BOUNCED", "bounced", 7, true},
	        {"STATE", "state", 11, false},
	        {"WAITS FOR", "reason", 0, false},
	};
	struct filters f;
	struct str path;
	int code;

	str_init(&path);
	str_add(&path, "/v1/bindings");
	if (cli->argc && cli->argv[0][0] != '-') { /* bindings NAME: there is one, or it is an error */
		str_add_char(&path, '/');
		cli_url_add(&path, cli->argv[0]);
		cli->argc--;
		cli->argv++;
	}
	code = parse_filters(cli, &f);
	if (code == CLI_DONE)
		code = list(cli, path.data, columns, array_len(columns), &f);
	str_free(&path);
	return code;
}

int cmd_messages(struct cli *cli)
{
	static const struct cli_column columns[] = {
	        {"ID", "id", 16, false},
	        {"BINDING", "binding", 12, false},
	        {"DOMAIN", "domain", 20, false},
	        {"SENDER", "sender", 24, false},
	        {"RCPTS", "recipients", 5, true},
	        {"SIZE", "size", 8, true},
	        {"STATE", "state", 9, false},
	        {"TRIES", "attempt", 5, true},
	        {"NEXT ATTEMPT", "next_attempt", 27, false},
	        {"CODE", "code", 4, true},
	        {"LAST REPLY", "reply", 0, false},
	};
	struct filters f;
	int code = parse_filters(cli, &f);

	return code != CLI_DONE ? code : list(cli, "/v1/messages", columns, array_len(columns), &f);
}

int cmd_connections(struct cli *cli)
{
	static const struct cli_column columns[] = {
	        {"BINDING", "binding", 12, false},
	        {"SOURCE", "source", 16, false},
	        {"NEXT HOP", "next_hop", 24, false},
	        {"MX", "mx", 24, false},
	        {"PEER", "peer", 16, false},
	        {"STATE", "state", 9, false},
	        {"DELIVERED", "delivered", 9, true},
	};
	struct filters f;
	int code = parse_filters(cli, &f);

	return code != CLI_DONE ? code : list(cli, "/v1/connections", columns, array_len(columns), &f);
}

int cmd_rules(struct cli *cli)
{
	static const struct cli_column columns[] = {
	        {"BINDING", "binding", 12, false},
	        {"DOMAIN", "domain", 24, false},
	        {"NEXT HOP", "next_hop", 24, false},
	        {"RULE", "rule", 16, false},
	        {"ACTION", "action", 22, false},
	        {"UNTIL", "until", 27, false},
	        {"REPLY", "reply", 0, false},
	};
	struct filters f;
	int code = parse_filters(cli, &f);

	return code != CLI_DONE ? code : list(cli, "/v1/rules", columns, array_len(columns), &f);
}

/* --- one object ------------------------------------------------------------------------------------------ */

static void print_object(const json_t *object, int indent)
{
	const char *key;
	json_t *value;
	struct str text;

	str_init(&text);
	json_object_foreach ((json_t *)object, key, value) {
		size_t i;
		json_t *item;

		if (json_is_object(value)) {
			printf("%*s%s\n", indent, "", key);
			print_object(value, indent + 2);
			continue;
		}
		if (json_is_array(value) && json_is_object(json_array_get(value, 0))) {
			json_array_foreach (value, i, item) {
				printf("%*s%s %zu\n", indent, "", key, i + 1);
				print_object(item, indent + 2);
			}
			continue;
		}
		str_clear(&text);
		cli_print_value(value, &text);
		printf("%*s%-*s  %s\n", indent, "", 24 - indent, key, text.data);
	}
	str_free(&text);
}

int cli_show(struct cli *cli, const char *path)
{
	struct str spec;
	struct error err;
	json_t *answer = NULL;
	int code;

	str_init(&spec);
	if (!cli_socket(cli, false, &spec, &err)) {
		fprintf(stderr, "bindpost: %s\n", err.text);
		str_free(&spec);
		return CLI_REFUSED;
	}
	code = cli_request(cli, spec.data, "GET", path, &answer);
	if (answer && cli->json) {
		json_dumpf(answer, stdout, JSON_INDENT(2) | CLI_REAL);
		putchar('\n');
	} else if (code == CLI_DONE) {
		print_object(answer, 0);
	}
	json_decref(answer);
	str_free(&spec);
	return code;
}

int cmd_summary(struct cli *cli)
{
	if (cli->argc)
		return cli_usage("summary takes no arguments");
	return cli_show(cli, "/v1/summary");
}
