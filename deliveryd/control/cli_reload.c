/*
 * bindpost reload (design 5): checked once, then in three steps over both control sockets, so that deliveryd knows a
 * new binding before the milter stamps it, and the milter has forgotten one before deliveryd drops it.
 */
#include <stdio.h>
#include <string.h>

#include "control/cli.h"

static void print_lines(FILE *out, const char *title, const json_t *list)
{
	size_t i;
	json_t *item;

	json_array_foreach((json_t *)list, i, item)
		fprintf(out, "%s%s\n", title, json_string_value(item));
}

static void print_answer(const json_t *answer)
{
	print_lines(stderr, "", json_object_get(answer, "errors"));
	print_lines(stderr, "warning: ", json_object_get(answer, "warnings"));
	print_lines(stdout, "added: ", json_object_get(answer, "added"));
	print_lines(stdout, "removed: ", json_object_get(answer, "removed"));
	print_lines(stdout, "changed: ", json_object_get(answer, "changed"));
	print_lines(stdout, "needs a restart: ", json_object_get(answer, "restart"));
}

struct step {
	bool milter;
	const char *step;
	bool print; /* what changed is told once */
};

static int run_step(struct cli *cli, const struct step *s, bool force)
{
	struct str spec, path;
	struct error err;
	json_t *answer = NULL;
	int code = CLI_REFUSED;

	str_init(&spec);
	str_init(&path);
	str_printf(&path, "/v1/reload?step=%s%s", s->step, force ? "&force=1" : "");
	if (!cli_socket(cli, s->milter, &spec, &err))
		fprintf(stderr, "bindpost: %s\n", err.text);
	else
		code = cli_request(cli, spec.data, "POST", path.data, &answer);
	if (answer && cli->json && s->print) {
		json_dumpf(answer, stdout, JSON_INDENT(2));
		putchar('\n');
	} else if (answer && (s->print || code != CLI_DONE)) {
		print_answer(answer);
	}
	json_decref(answer);
	str_free(&spec);
	str_free(&path);
	return code;
}

int cmd_reload(struct cli *cli)
{
	static const struct step steps[] = {
		{false, "check", false}, {false, "take", true}, {true, "all", false}, {false, "drop", false}};
	bool force = cli->argc == 1 && strcmp(cli->argv[0], "--force") == 0;

	if (cli->argc && !force)
		return cli_usage("reload takes --force or nothing");
	for (size_t i = 0; i < sizeof(steps) / sizeof(steps[0]); i++) {
		int code = run_step(cli, &steps[i], force);

		if (code == CLI_UNREACHABLE && steps[i].milter)
			fprintf(stderr, "bindpost: the milter could not be told; it reads the new files when it starts, and at "
					"`kill -HUP`\n");
		if (code != CLI_DONE)
			return code;
	}
	if (!cli->json)
		puts("reloaded");
	return CLI_DONE;
}
