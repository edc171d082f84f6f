/*
 * The commands that need no daemon: they read the files.
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/mem.h"
#include "conf/option_table.h"
#include "control/cli.h"
#include "control/cli_host.h"
#include "policy/policy.h"
#include "policy/stamp.h"

/* With its own words: the built-in socket may be that of another daemon. */
static bool names_socket(const struct conf *conf, bool milter)
{
	struct conf_origin origin;

	return conf &&
	       conf_eval(conf, milter ? "milter.control" : "control.listen", NULL, NULL, &origin, NULL) &&
	       strcmp(origin.where, "built-in") != 0;
}

/* What runs can be asked, and mended by command, while the files are half edited. */
bool cli_socket(struct cli *cli, bool milter, struct str *spec, struct error *err)
{
	struct errors errors = {0};
	struct conf *conf;
	const struct sockspec *where;

	if (cli->socket && !milter) {
		str_add(spec, cli->socket);
		return true;
	}
	conf = conf_load_anyway(cli->config_path, &errors);
	if (errors.n_errors && !names_socket(conf, milter)) {
		conf_print_errors(&errors, stderr);
		errors_free(&errors);
		conf_unref(&conf);
		return error_set(err,
		        "the daemon's socket stands in %s, which has errors: name it with --socket, e.g. "
		        "--socket unix:/run/bindpost/control.sock",
		        cli->config_path);
	}
	if (errors.n_errors)
		fprintf(stderr, "bindpost: warning: the configuration has errors, see `bindpost check`\n");
	where = milter ? conf_process(conf)->milter_control : conf_process(conf)->control_listen;
	if (where)
		sockspec_print(where, spec);
	else
		error_set(err, "%s: %s.%s names no socket", cli->config_path, milter ? "milter" : "control",
		        milter ? "control" : "listen");
	conf_unref(&conf);
	errors_free(&errors);
	return where != NULL;
}

static void check_json(const struct errors *errors)
{
	json_t *answer = json_object(), *bad = json_array(), *warnings = json_array();

	for (size_t i = 0; i < errors->n; i++)
		json_array_append_new(errors->items[i].level == ERROR_WARNING ? warnings : bad,
		        json_string(errors->items[i].text));
	json_object_set_new(answer, "ok", json_boolean(errors->n_errors == 0));
	json_object_set_new(answer, "errors", bad);
	json_object_set_new(answer, "warnings", warnings);
	json_dumpf(answer, stdout, JSON_INDENT(2));
	putchar('\n');
	json_decref(answer);
}

/* Who checks need not be who runs the daemons: keys kept from him are no error. */
static void check_keys(const struct policy *policy, struct errors *errors)
{
	const char *path = conf_process(policy_conf(policy))->stamp_key_file;
	struct stamp_keys *keys;

	if (path && access(path, R_OK) != 0 && errno == EACCES) {
		errors_add(
		        errors, ERROR_WARNING, "stamp.key_file: %s: not checked: you may not read it", path);
		return;
	}
	keys = stamp_keys_of(policy_conf(policy), errors);
	stamp_keys_free(&keys);
}

int cmd_check(struct cli *cli)
{
	const char *path = cli->config_path;
	struct errors errors = {0};
	struct policy *policy;
	bool host = false;
	int code, files = 0;

	for (int i = 0; i < cli->argc; i++) {
		if (strcmp(cli->argv[i], "--host") == 0)
			host = true;
		else if (cli->argv[i][0] == '-' || files++ > 0)
			return cli_usage("check takes --host and one file");
		else
			path = cli->argv[i];
	}
	policy = policy_load(path, &errors);
	if (policy)
		check_keys(policy, &errors);
	if (errors.n_errors)
		policy_unref(&policy);
	if (policy && host) {
		host_check_access(policy_conf(policy), &errors);
		host_check(policy_conf(policy), &errors);
		host_check_names(policy_conf(policy), &errors);
	}
	code = policy ? CLI_DONE : CLI_REFUSED;
	if (cli->json)
		check_json(&errors);
	else
		conf_print_errors(&errors, stderr);
	if (!cli->json && policy)
		printf("%s: good: %zu bindings, %zu rules%s\n", path, conf_n_bindings(policy_conf(policy)),
		        conf_n_rules(policy_conf(policy)), errors.n ? " (with warnings)" : "");
	policy_unref(&policy);
	errors_free(&errors);
	return code;
}

struct eval {
	const char *option, *binding, *domain;
};

static int parse_eval(struct cli *cli, struct eval *e)
{
	if (cli->argc < 2 || strcmp(cli->argv[0], "eval") != 0)
		return cli_usage("config: eval OPTION [--binding B] [--domain D], or list bindings | groups "
		                 "| options");
	e->option = cli->argv[1];
	e->binding = e->domain = NULL;
	for (int i = 2; i < cli->argc; i++) {
		const char *value;

		if ((value = cli_option(cli, &i, "--binding")))
			e->binding = value;
		else if ((value = cli_option(cli, &i, "--domain")))
			e->domain = value;
		else
			return cli_usage("config eval: unexpected \"%s\"", cli->argv[i]);
	}
	return CLI_DONE;
}

static int print_eval(struct cli *cli, const struct conf *conf, const struct eval *e)
{
	const struct conf_binding *binding = e->binding ? conf_binding_named(conf, e->binding) : NULL;
	struct conf_origin origin;
	struct error err;

	if (e->binding && !binding) {
		fprintf(stderr, "bindpost: there is no binding \"%s\"\n", e->binding);
		return CLI_REFUSED;
	}
	if (!conf_eval(conf, e->option, binding, e->domain, &origin, &err)) {
		fprintf(stderr, "bindpost: %s\n", err.text);
		return CLI_REFUSED;
	}
	if (cli->json) {
		/* as it would be written in a file */
		json_t *value = json_loads(origin.value, JSON_DECODE_ANY, NULL);
		json_t *answer = json_pack("{s:s, s:o, s:s}", "option", e->option, "value",
		        value ? value : json_string(origin.value), "origin", origin.where);

		json_dumpf(answer, stdout, JSON_INDENT(2));
		putchar('\n');
		json_decref(answer);
	} else {
		printf("%s = %s\n    from %s\n", e->option, origin.value, origin.where);
	}
	return CLI_DONE;
}

static void list_bindings(const struct conf *conf, json_t *names)
{
	for (uint32_t i = 0; i < conf_n_bindings(conf); i++)
		json_array_append_new(names, json_string(conf_binding(conf, i)->name));
}

static void list_groups(const struct conf *conf, json_t *names)
{
	for (uint32_t i = 0; i < conf_n_groups(conf); i++)
		if (strcmp(conf_group(conf, i)->name, "default") != 0) /* no target */
			json_array_append_new(names, json_string(conf_group(conf, i)->name));
}

static void list_options(const struct conf *conf, json_t *names)
{
	(void)conf;
	for (size_t i = 0; i < OPT_COUNT; i++)
		json_array_append_new(names, json_string(option_rows[i].name));
	for (size_t i = 0; i < PROC_COUNT; i++)
		json_array_append_new(names, json_string(process_rows[i].full_name));
}

static const struct {
	const char *what;
	void (*list)(const struct conf *, json_t *names);
} lists[] = {{"bindings", list_bindings}, {"groups", list_groups}, {"options", list_options}};

/* Names for people and for the shell's completion: what is known while the files are half edited. */
static int config_list(struct cli *cli)
{
	struct errors errors = {0};
	json_t *names = json_array(), *name;
	struct conf *conf;
	size_t which = 0, i;

	while (which < array_len(lists) && (cli->argc != 2 || strcmp(cli->argv[1], lists[which].what) != 0))
		which++;
	if (which == array_len(lists)) {
		json_decref(names);
		return cli_usage("config: list bindings | groups | options");
	}
	conf = conf_load_anyway(cli->config_path, &errors);
	lists[which].list(conf, names);
	json_array_foreach (names, i, name) {
		if (!cli->json)
			puts(json_string_value(name));
	}
	if (cli->json) {
		json_dumpf(names, stdout, JSON_INDENT(2));
		putchar('\n');
	}
	json_decref(names);
	conf_unref(&conf);
	errors_free(&errors);
	return CLI_DONE;
}

int cmd_config(struct cli *cli)
{
	struct errors errors = {0};
	struct conf *conf;
	struct eval e;
	int code;

	if (cli->argc && strcmp(cli->argv[0], "list") == 0)
		return config_list(cli);
	code = parse_eval(cli, &e);

	if (code != CLI_DONE)
		return code;
	conf = conf_load(cli->config_path, &errors);
	if (!conf)
		conf_print_errors(&errors, stderr);
	code = conf ? print_eval(cli, conf, &e) : CLI_REFUSED;
	conf_unref(&conf);
	errors_free(&errors);
	return code;
}
