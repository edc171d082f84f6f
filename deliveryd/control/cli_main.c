/*
 * bindpost - operates both daemons: looks, checks, reloads
 */
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "config.h"
#include "control/cli.h"

#define DEFAULT_CONFIG SYSCONFDIR "/bindpost/bindpost.json"

static const struct command {
	const char *name, *arguments, *text;
	int (*run)(struct cli *);
} commands[] = {
        {"check", "[--host] [FILE]", "check the configuration; says every error with file, path and remedy",
                cmd_check},
        {"config", "eval OPTION [--binding B] [--domain D] | list bindings|groups|options",
                "an option's value and where it comes from; names",
                cmd_config},
        {"explain", "--from A [--to B]... [--client IP] [--header 'N: V']... [--message FILE] [--live]",
                "which binding a message gets and why; with what source, route, limits", cmd_explain},
        {"stamp", "--new-key [FILE]", "prints a new key for stamp.key_file, or puts it first in FILE",
                cmd_stamp},
        {"summary", "", "totals: queues, connections, spool, rates", cmd_summary},
        {"bindings", "[NAME]", "bindings with their addresses, queues, connections", cmd_bindings},
        {"queues", "[--binding B] [--domain D] [--limit N] [--cursor C]",
                "queues: binding, next hop, counts, limits", cmd_queues},
        {"messages", "[--binding B] [--domain D] [--limit N] [--cursor C]", "messages in the queues",
                cmd_messages},
        {"message", "ID [--headers] [--body]",
                "one message: envelope, deliveries, last replies; or its own bytes", cmd_message},
        {"connections", "[--binding B] [--domain D] [--limit N] [--cursor C]", "outgoing connections", cmd_connections},
        {"top", "[--binding B] [--domain D] [--interval 2s] [--once]",
                "what moves most, live: rates, queues, connections, last replies; q ends it", cmd_top},
        {"trace", "[--binding B] [--domain D] [--for 10m]",
                "what sessions and other sides say to each other, as they say it; secrets are hidden", cmd_trace},
        {"rules", "[--binding B] [--domain D] [--limit N] [--cursor C]",
                "what response_rules did and is in force; resume undoes it", cmd_rules},
        {"suspend", "BINDING [--domain D] [--for 2h]", "take mail, but send none; BINDING may be group:NAME",
                cmd_suspend},
        {"resume", "BINDING [--domain D]", "send again", cmd_resume},
        {"flush", "SELECTOR...", "try again now", cmd_flush},
        {"delay", "SELECTOR... --for 2h", "try again only then", cmd_delay},
        {"hold", "SELECTOR...", "keep back until released", cmd_hold},
        {"release", "SELECTOR...", "send what was held", cmd_release},
        {"fail", "SELECTOR... [--code 554] [--enhanced 5.0.0] [--text T] [--no-dsn]",
                "give up, and tell the sender", cmd_fail},
        {"delete", "SELECTOR...", "drop without telling anyone", cmd_delete},
        {"rebind", "SELECTOR... --to BINDING | --policy",
                "move to another binding, or to group:NAME, or where the rules say now", cmd_rebind},
        {"reroute", "SELECTOR... --to DOMAIN", "deliver as mail of that domain is", cmd_reroute},
        {"drain", "BINDING --to OTHER", "move all it has and all that still comes, and wait until it is empty", cmd_drain},
        {"spool", "check | export --to FOLDER | import FOLDER  [PATH]",
                "a stopped deliveryd's spool: is it sound; its mail as files; such files back into it", cmd_spool},
        {"dns", "refresh DOMAIN | lookup NAME TYPE | stats",
                "what deliveryd knows of DNS; refresh makes it ask again", cmd_dns},
        {"reload", "[--force] [--no-milter]",
                "both daemons take the changed configuration, whole or not at all", cmd_reload},
};

static void print_help(FILE *out)
{
	fputs("usage: bindpost [-c FILE] [--socket SPEC] [--json] COMMAND ...\n\n", out);
	for (size_t i = 0; i < array_len(commands); i++) {
		fprintf(out, "  %s%s%s\n      %s\n", commands[i].name, *commands[i].arguments ? " " : "",
		        commands[i].arguments, commands[i].text);
	}
	fputs("\n  -c FILE        configuration (" DEFAULT_CONFIG ")\n"
	      "  --socket SPEC  deliveryd's control socket, e.g. unix:/run/bindpost/control.sock (from the "
	      "configuration)\n"
	      "  --json         answers as JSON, with the keys of the event log\n"
	      "  -V             version\n\n"
	      "exit: 0 done, 1 refused or errors found, 2 usage, 3 daemon not reachable\n",
	        out);
}

int cli_usage(const char *fmt, ...)
{
	va_list ap;

	fputs("bindpost: ", stderr);
	va_start(ap, fmt);
	vfprintf(stderr, fmt, ap);
	va_end(ap);
	fputs("; `bindpost --help` lists the commands\n", stderr);
	return CLI_USAGE;
}

const char *cli_option(struct cli *cli, int *i, const char *name)
{
	const char *word = cli->argv[*i];
	size_t len = strlen(name);

	if (strncmp(word, name, len) != 0)
		return NULL;
	if (word[len] == '=')
		return word + len + 1;
	if (word[len] == 0 && *i + 1 < cli->argc)
		return cli->argv[++*i];
	return NULL;
}

/* Takes the global options out of argv wherever they stand; what is left is the command and its arguments. */
static int split(struct cli *cli, int argc, char **argv, char **rest, int *n_rest)
{
	struct cli all = {.argc = argc, .argv = argv};

	for (int i = 1; i < argc; i++) {
		const char *value;

		if ((value = cli_option(&all, &i, "-c")) || (value = cli_option(&all, &i, "--config")))
			cli->config_path = value;
		else if ((value = cli_option(&all, &i, "--socket")))
			cli->socket = value;
		else if (strcmp(argv[i], "--json") == 0)
			cli->json = true;
		else if (strcmp(argv[i], "-h") == 0 || strcmp(argv[i], "--help") == 0) {
			print_help(stdout);
			return CLI_DONE;
		} else if (strcmp(argv[i], "-V") == 0 || strcmp(argv[i], "--version") == 0) {
			puts("bindpost " PACKAGE_VERSION);
			return CLI_DONE;
		} else {
			rest[(*n_rest)++] = argv[i];
		}
	}
	return -1;
}

int main(int argc, char **argv)
{
	struct cli cli = {.config_path = DEFAULT_CONFIG};
	char **rest = mem_zalloc(sizeof(*rest) * ((size_t)argc + 1));
	int n_rest = 0;
	int code = split(&cli, argc, argv, rest, &n_rest);

	if (code < 0 && n_rest == 0) {
		print_help(stderr);
		code = CLI_USAGE;
	}
	for (size_t i = 0; code < 0 && i < array_len(commands); i++) {
		if (strcmp(rest[0], commands[i].name) != 0)
			continue;
		cli.argc = n_rest - 1;
		cli.argv = rest + 1;
		code = commands[i].run(&cli);
	}
	if (code < 0)
		code = cli_usage("unknown command \"%s\"", rest[0]);
	mem_free(&rest);
	if (fflush(stdout) != 0 && code == CLI_DONE)
		code = CLI_REFUSED;
	return code;
}
