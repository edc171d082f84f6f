/*
 * bindpost reload (design 5): checked once, then in three steps over both control sockets, so that deliveryd knows a
 * new binding before the milter stamps it, and the milter has forgotten one before deliveryd drops it.
 *
 * What the first step that refuses says is the answer; deliveryd's own list of changes (of "take") else.
 */
#include <stdio.h>
#include <string.h>

#include "control/cli.h"

static void print_lines(FILE *out, const char *title, const json_t *list)
{
	size_t i;
	json_t *item;
	struct str text;

	str_init(&text);
	json_array_foreach ((json_t *)list, i, item) {
		str_clear(&text);
		cli_print_value(item, &text);
		fprintf(out, "%s%s\n", title, text.data);
	}
	str_free(&text);
}

static void print_answer(const json_t *answer)
{
	static const struct {
		const char *key, *title;
	} lists[] = {{"added", "binding added: "}, {"removed", "binding removed: "},
	        {"changed", "binding changed: "}, {"rules_added", "rule added: "},
	        {"rules_removed", "rule removed: "}, {"rules_changed", "rule changed: "},
	        {"options", "option changed: "},
	        {"restart", "needs a restart, keeps its old value until then: "}};
	size_t listed = 0;

	print_lines(stderr, "", json_object_get(answer, "errors"));
	print_lines(stderr, "warning: ", json_object_get(answer, "warnings"));
	for (size_t i = 0; i < sizeof(lists) / sizeof(lists[0]); i++) {
		const json_t *list = json_object_get(answer, lists[i].key);

		listed += strncmp(lists[i].key, "rules_", 6) == 0 ? json_array_size(list) : 0;
		print_lines(stdout, lists[i].title, list);
	}
	if (json_is_true(json_object_get(answer, "rules")) && listed == 0)
		puts("rules changed: their order");
}

struct step {
	bool milter;
	const char *step;
	const char *if_refused; /* what state that leaves behind */
};

static const struct step all_steps[] = {
        {false, "check", "nothing was changed"},
        {true, "check", "nothing was changed"}, /* it is there, and reads the same files */
        {false, "take", "nothing was changed"},
        {true, "all",
                "deliveryd works by the new configuration and still knows the previous one; the milter works "
                "by the "
                "previous one: when that is mended, run `bindpost reload` again"},
        {false, "drop",
                "both work by the new configuration, and what it no longer has is still known to deliveryd: "
                "when its "
                "mail is gone, run `bindpost reload` again"},
};
static const struct step without_milter[] = {{false, "all", "nothing was changed"}};

static int ask(struct cli *cli, const struct step *s, bool force, json_t **answer)
{
	struct str spec, path;
	struct error err;
	int code = CLI_REFUSED;

	str_init(&spec);
	str_init(&path);
	str_printf(&path, "/v1/reload?step=%s%s", s->step, force && !s->milter ? "&force=1" : "");
	if (!cli_socket(cli, s->milter, &spec, &err))
		fprintf(stderr, "bindpost: %s\n", err.text);
	else
		code = cli_request(cli, spec.data, "POST", path.data, answer);
	str_free(&spec);
	str_free(&path);
	return code;
}

/* The steps up to the first that fails; *answer as said above. */
static int run_steps(struct cli *cli, const struct step *steps, size_t n, bool force, json_t **answer)
{
	for (size_t i = 0; i < n; i++) {
		json_t *said = NULL;
		int code = ask(cli, &steps[i], force, &said);

		if (code != CLI_DONE || strcmp(steps[i].step, "take") == 0 || n == 1) {
			json_decref(*answer);
			*answer = json_incref(said);
		}
		json_decref(said);
		if (code == CLI_UNREACHABLE && steps[i].milter)
			fputs("bindpost: (without a milter: bindpost reload --no-milter)\n", stderr);
		if (code != CLI_DONE) {
			fprintf(stderr, "bindpost: not reloaded: %s\n", steps[i].if_refused);
			return code;
		}
	}
	return CLI_DONE;
}

static void print_result(struct cli *cli, json_t *answer, int code)
{
	if (cli->json) {
		json_object_set_new(answer, "ok", json_boolean(code == CLI_DONE));
		json_dumpf(answer, stdout, JSON_INDENT(2));
		putchar('\n');
		return;
	}
	print_answer(answer);
	if (code == CLI_DONE)
		puts("reloaded");
}

int cmd_reload(struct cli *cli)
{
	bool force = false, milter = true;
	json_t *answer = NULL;
	int code;

	for (int i = 0; i < cli->argc; i++) {
		if (strcmp(cli->argv[i], "--force") == 0)
			force = true;
		else if (strcmp(cli->argv[i], "--no-milter") == 0)
			milter = false;
		else
			return cli_usage("reload takes --force and --no-milter, not \"%s\"", cli->argv[i]);
	}
	if (milter)
		code = run_steps(cli, all_steps, sizeof(all_steps) / sizeof(all_steps[0]), force, &answer);
	else
		code = run_steps(cli, without_milter, 1, force, &answer);
	if (answer)
		print_result(cli, answer, code);
	json_decref(answer);
	return code;
}
