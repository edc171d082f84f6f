/*
 * The commands that change mail and bindings: options to parameters of one request, the answer for people.
 */
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/mem.h"
#include "control/cli.h"

struct flag {
	const char *option, *parameter;
	bool value;
};

static const struct flag selectors[] = {
        {"--binding", "binding", true},
        {"--domain", "domain", true},
        {"--sender", "sender", true},
        {"--recipient", "recipient", true},
        {"--header", "header", true},
        {"--id", "id", true},
        {"--older-than", "older_than", true},
        {"--all", "all", false},
        {"--dry-run", "dry_run", false},
};
#define KNOWN_SELECTORS "--binding --domain --sender --recipient --header --id --older-than --all --dry-run"

static void add_parameter(struct str *form, const char *name, const char *value)
{
	if (form->len)
		str_add_char(form, '&');
	str_printf(form, "%s=", name);
	cli_url_add(form, value);
}

static bool take_flag(struct cli *cli, int *i, const struct flag *flags, size_t n, struct str *form)
{
	for (size_t f = 0; f < n; f++) {
		const char *value;

		if (!flags[f].value) {
			if (strcmp(cli->argv[*i], flags[f].option) != 0)
				continue;
			add_parameter(form, flags[f].parameter, "1");
			return true;
		}
		if ((value = cli_option(cli, i, flags[f].option))) {
			add_parameter(form, flags[f].parameter, value);
			return true;
		}
	}
	return false;
}

static int request(struct cli *cli, const char *path, const struct str *form, json_t **answer)
{
	struct str spec;
	struct error err;
	int code;

	*answer = NULL;
	str_init(&spec);
	if (cli_socket(cli, false, &spec, &err)) {
		code = cli_post(cli, spec.data, path, form->data, answer);
	} else {
		fprintf(stderr, "bindpost: %s\n", err.text);
		code = CLI_REFUSED;
	}
	str_free(&spec);
	return code;
}

static void print_json(const json_t *answer)
{
	json_dumpf(answer, stdout, JSON_INDENT(2));
	putchar('\n');
}

/* --- mail --------------------------------------------------------------------------------------------------------- */

static json_int_t number(const json_t *answer, const char *key)
{
	return json_integer_value(json_object_get(answer, key));
}

static void print_rows(const json_t *rows)
{
	static const struct cli_column columns[] = {
	        {"ID", "id", 16, false},
	        {"BINDING", "binding", 12, false},
	        {"SENDER", "sender", 24, false},
	        {"RECIPIENT", "recipient", 24, false},
	        {"STATE", "state", 9, false},
	        {"TRIES", "attempt", 5, true},
	        {"LAST REPLY", "reply", 0, false},
	};
	size_t i;
	json_t *row;

	cli_table_head(columns, array_len(columns));
	json_array_foreach ((json_t *)rows, i, row)
		cli_table_row(columns, array_len(columns), row);
}

static void print_change(const char *did, const json_t *answer)
{
	json_int_t matched = number(answer, "matched"), sending = number(answer, "sending");
	json_int_t unknown = number(answer, "unknown");
	const json_t *rows = json_object_get(answer, "items");

	if (unknown)
		printf("%" JSON_INTEGER_FORMAT
		       " stay: what the rules would have to know of them is not known any more\n",
		        unknown);
	if (json_is_true(json_object_get(answer, "dry_run"))) {
		if (matched)
			print_rows(rows);
		if (matched > (json_int_t)json_array_size(rows))
			printf("and %" JSON_INTEGER_FORMAT " more\n",
			        matched - (json_int_t)json_array_size(rows));
		printf("%" JSON_INTEGER_FORMAT " would be %s\n", matched, did);
		return;
	}
	printf("%" JSON_INTEGER_FORMAT " %s\n", number(answer, "changed"), did);
	if (sending)
		printf("%" JSON_INTEGER_FORMAT " left alone, being sent just now\n", sending);
}

/* Nothing matched a change: 1 (design 10) */
static int judge(const json_t *answer)
{
	const char *key = json_is_true(json_object_get(answer, "dry_run")) ? "matched" : "changed";

	if (number(answer, key) > 0)
		return CLI_DONE;
	fputs("bindpost: nothing matched\n", stderr);
	return CLI_REFUSED;
}

static int change(struct cli *cli, const char *path, const char *did, const struct flag *more, size_t n_more)
{
	struct str form;
	json_t *answer = NULL;
	int code = CLI_DONE;

	str_init(&form);
	for (int i = 0; i < cli->argc && code == CLI_DONE; i++)
		if (!take_flag(cli, &i, selectors, array_len(selectors), &form) &&
		        !take_flag(cli, &i, more, n_more, &form))
			code = cli_usage("unexpected \"%s\"; selectors are " KNOWN_SELECTORS, cli->argv[i]);
	if (code == CLI_DONE)
		code = request(cli, path, &form, &answer);
	if (answer && cli->json)
		print_json(answer);
	else if (code == CLI_DONE)
		print_change(did, answer);
	if (code == CLI_DONE)
		code = judge(answer);
	json_decref(answer);
	str_free(&form);
	return code;
}

int cmd_flush(struct cli *cli)
{
	return change(cli, "/v1/flush", "tried again now", NULL, 0);
}

int cmd_delay(struct cli *cli)
{
	static const struct flag more[] = {{"--for", "for", true}};

	return change(cli, "/v1/delay", "delayed", more, array_len(more));
}

int cmd_hold(struct cli *cli)
{
	return change(cli, "/v1/hold", "held", NULL, 0);
}

int cmd_release(struct cli *cli)
{
	return change(cli, "/v1/release", "released", NULL, 0);
}

int cmd_fail(struct cli *cli)
{
	static const struct flag more[] = {
	        {"--code", "code", true},
	        {"--enhanced", "enhanced", true},
	        {"--text", "text", true},
	        {"--no-dsn", "no_dsn", false},
	};

	return change(cli, "/v1/fail", "failed", more, array_len(more));
}

int cmd_rebind(struct cli *cli)
{
	static const struct flag more[] = {{"--to", "to", true}, {"--policy", "policy", false}};

	return change(cli, "/v1/rebind", "moved", more, array_len(more));
}

int cmd_reroute(struct cli *cli)
{
	static const struct flag more[] = {{"--to", "to", true}};

	return change(cli, "/v1/reroute", "rerouted", more, array_len(more));
}

int cmd_delete(struct cli *cli)
{
	return change(cli, "/v1/delete", "deleted", NULL, 0);
}

/* --- bindings ------------------------------------------------------------------------------------------------------- */

static void print_state(const json_t *answer)
{
	const char *domain = json_string_value(json_object_get(answer, "domain"));
	const char *until = json_string_value(json_object_get(answer, "until"));

	printf("%s%s%s: %s%s%s\n", json_string_value(json_object_get(answer, "binding")),
	        domain ? " to " : "", domain ? domain : "",
	        json_string_value(json_object_get(answer, "state")), until ? " until " : "",
	        until ? until : "");
}

static int change_binding(struct cli *cli, const char *path, const struct flag *flags, size_t n)
{
	struct str form;
	json_t *answer = NULL;
	bool named = false;
	int code = CLI_DONE;

	str_init(&form);
	for (int i = 0; i < cli->argc && code == CLI_DONE; i++) {
		if (take_flag(cli, &i, flags, n, &form))
			continue;
		if (named || cli->argv[i][0] == '-')
			code = cli_usage("unexpected \"%s\"", cli->argv[i]);
		else
			add_parameter(&form, "binding", cli->argv[i]);
		named = true;
	}
	if (code == CLI_DONE && !named)
		code = cli_usage("which binding?");
	if (code == CLI_DONE)
		code = request(cli, path, &form, &answer);
	if (answer && cli->json)
		print_json(answer);
	else if (code == CLI_DONE)
		print_state(answer);
	json_decref(answer);
	str_free(&form);
	return code;
}

static const struct flag of_bindings[] = {
        {"--domain", "domain", true}, {"--dry-run", "dry_run", false},
        {"--for", "for", true}, /* suspend only: the last */
};

int cmd_suspend(struct cli *cli)
{
	return change_binding(cli, "/v1/suspend", of_bindings, array_len(of_bindings));
}

int cmd_resume(struct cli *cli)
{
	return change_binding(cli, "/v1/resume", of_bindings, array_len(of_bindings) - 1);
}

/* --- drain ---------------------------------------------------------------------------------------------------------- */

#define BAR 40

static void print_progress(const char *binding, json_int_t left, json_int_t most, bool end)
{
	json_int_t gone = most - left, filled = most ? gone * BAR / most : BAR;

	if (!isatty(STDOUT_FILENO)) {
		printf("%s: %" JSON_INTEGER_FORMAT " of %" JSON_INTEGER_FORMAT " gone\n", binding, gone,
		        most);
	} else {
		printf("\r%s [", binding);
		for (json_int_t i = 0; i < BAR; i++)
			putchar(i < filled ? '#' : '.');
		printf("] %" JSON_INTEGER_FORMAT "/%" JSON_INTEGER_FORMAT "%s", gone, most, end ? "\n" : "");
	}
	fflush(stdout);
}

/* What a binding has by its counters, which cost nothing; a group has none of its own. */
static bool count_left(struct cli *cli, const char *binding, json_int_t *left)
{
	struct str spec, path;
	struct error err;
	json_t *answer = NULL;

	if (strncmp(binding, "group:", 6) == 0)
		return false;
	str_init(&spec);
	str_init(&path);
	str_add(&path, "/v1/bindings?binding=");
	cli_url_add(&path, binding);
	bool ok = cli_socket(cli, false, &spec, &err) &&
	          cli_request(cli, spec.data, "GET", path.data, &answer) == CLI_DONE;
	const json_t *row = json_array_get(json_object_get(answer, "items"), 0);
	*left = number(row, "active") + number(row, "deferred") + number(row, "held");
	json_decref(answer);
	str_free(&spec);
	str_free(&path);
	return ok;
}

/* Until nothing is left at the binding, what is being sent included. `form` asks for each delivery how much there is: to
 * begin with, and once the counters say that it is empty. */
static int wait_until_empty(struct cli *cli, const char *binding, const struct str *form, json_int_t *most)
{
	static const struct timespec quick = {.tv_nsec = 100000000}, second = {.tv_sec = 1};

	for (unsigned turn = 0;; turn++) {
		json_t *answer;
		json_int_t left;

		if (turn == 0 || !count_left(cli, binding, &left) || left == 0) {
			int code = request(cli, "/v1/rebind", form, &answer);

			left = code == CLI_DONE ? number(answer, "matched") : 0;
			json_decref(answer);
			if (code != CLI_DONE)
				return code;
		}
		*most = left > *most ? left : *most;
		if (!cli->json)
			print_progress(binding, left, *most, left == 0);
		if (left == 0)
			return CLI_DONE;
		nanosleep(turn == 0 ? &quick : &second, NULL);
	}
}

static int drain_to(struct cli *cli, const char *binding, const char *to, bool dry_run)
{
	json_t *answer = NULL;
	json_int_t most = 0;
	struct str form;
	int code;

	str_init(&form);
	add_parameter(&form, "binding", binding);
	add_parameter(&form, "to", to);
	if (dry_run)
		add_parameter(&form, "dry_run", "1");
	code = request(cli, "/v1/drain", &form, &answer);
	if (code == CLI_DONE) {
		most = number(answer, "queued");
		if (!dry_run) {
			add_parameter(&form, "dry_run", "1");
			code = wait_until_empty(cli, binding, &form, &most);
		}
	}
	if (code == CLI_DONE && cli->json) {
		json_object_set_new(answer, "queued", json_integer(most));
		json_object_set_new(answer, "left", json_integer(dry_run ? most : 0));
		print_json(answer);
	} else if (code == CLI_DONE && dry_run) {
		printf("%" JSON_INTEGER_FORMAT " would be moved to %s\n", most, to);
	} else if (code == CLI_DONE) {
		printf("%s is empty; mail that still names it goes to %s until %s\n", binding, to,
		        json_string_value(json_object_get(answer, "until")));
	}
	json_decref(answer);
	str_free(&form);
	return code;
}

int cmd_drain(struct cli *cli)
{
	const char *binding = NULL, *to = NULL;
	bool dry_run = false;

	for (int i = 0; i < cli->argc; i++) {
		const char *value = cli_option(cli, &i, "--to");

		if (value)
			to = value;
		else if (strcmp(cli->argv[i], "--dry-run") == 0)
			dry_run = true;
		else if (binding || cli->argv[i][0] == '-')
			return cli_usage("unexpected \"%s\"", cli->argv[i]);
		else
			binding = cli->argv[i];
	}
	if (!binding || !to)
		return cli_usage("drain takes BINDING --to OTHER");
	return drain_to(cli, binding, to, dry_run);
}
