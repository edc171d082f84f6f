#include "control/cli_explain.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"

/* --- the command line --------------------------------------------------------------------------------------------- */

static void add_word(const char ***list, size_t *n, const char *word)
{
	*list = mem_array(*list, *n + 1, sizeof(**list));
	(*list)[(*n)++] = word;
}

static bool parse_word(struct cli *cli, int *i, struct explain *x)
{
	const struct {
		const char *name, **value;
	} options[] = {{"--from", &x->from}, {"--client", &x->client}, {"--client-name", &x->client_name},
	        {"--helo", &x->helo}, {"--auth", &x->auth}, {"--recv-ip", &x->recv_ip},
	        {"--recv-port", &x->recv_port}, {"--daemon-name", &x->daemon_name}, {"--size", &x->size},
	        {"--id", &x->id}, {"--body-file", &x->body_file}, {"--message", &x->message_file}};
	const char *value;

	for (size_t k = 0; k < array_len(options); k++)
		if ((value = cli_option(cli, i, options[k].name))) {
			*options[k].value = value;
			return true;
		}
	if ((value = cli_option(cli, i, "--to")))
		add_word(&x->recipients, &x->n_recipients, value);
	else if ((value = cli_option(cli, i, "--header")))
		add_word(&x->headers, &x->n_headers, value);
	else if (strcmp(cli->argv[*i], "--live") == 0)
		x->live = true;
	else
		return false;
	return true;
}

static int parse(struct cli *cli, struct explain *x)
{
	for (int i = 0; i < cli->argc; i++)
		if (!parse_word(cli, &i, x))
			return cli_usage(
			        "explain: unexpected \"%s\", or it lacks its value; known here: --from --to "
			        "--client "
			        "--client-name --helo --auth --header --body-file --message --size --recv-ip "
			        "--recv-port --daemon-name --id --live",
			        cli->argv[i]);
	if (!x->from)
		return cli_usage("explain needs --from ADDRESS (\"\" for the null reverse-path)");
	if (x->body_file && x->message_file)
		return cli_usage("explain: a message has its own body: --message or --body-file");
	return CLI_DONE;
}

/* --- --live ------------------------------------------------------------------------------------------------------- */

static int get(struct cli *cli, const char *spec, const char *path, const char *binding, const char *hop,
        json_t **items)
{
	struct str url;
	json_t *answer = NULL;
	int code;

	str_init(&url);
	str_printf(&url, "%s?binding=", path);
	cli_url_add(&url, binding);
	if (hop) {
		str_add(&url, "&domain=");
		cli_url_add(&url, hop);
	}
	code = cli_request(cli, spec, "GET", url.data, &answer);
	*items = json_incref(json_object_get(answer, "items"));
	json_decref(answer);
	str_free(&url);
	return code;
}

static int add_live(struct cli *cli, const char *spec, json_t *binding)
{
	const char *name = json_string_value(json_object_get(binding, "binding"));
	const char *hop = json_string_value(json_object_get(json_object_get(binding, "route"), "next_hop"));
	json_t *rows = NULL, *queues = NULL, *live = json_object();
	int code = get(cli, spec, "/v1/bindings", name, NULL, &rows);

	if (code == CLI_DONE)
		code = get(cli, spec, "/v1/queues", name, hop, &queues);
	if (code == CLI_DONE) {
		json_t *row = json_array_get(rows, 0);

		json_object_set_new(live, "binding", row ? json_incref(row) : json_null());
		json_object_set(live, "queues", queues);
		json_object_set(binding, "live", live);
	}
	json_decref(rows);
	json_decref(queues);
	json_decref(live);
	return code;
}

struct live {
	struct cli *cli;
	const char *spec;
	int code;
};

static json_t *live_row(void *ctx, const char *binding)
{
	struct live *live = ctx;
	json_t *rows = NULL, *row = NULL;

	if (live->code == CLI_DONE)
		live->code = get(live->cli, live->spec, "/v1/bindings", binding, NULL, &rows);
	if (live->code == CLI_DONE)
		row = json_incref(json_array_get(rows, 0));
	json_decref(rows);
	return row;
}

/* The files' word stands also when deliveryd does not answer; the exit code says that it did not. */
static int add_all_live(struct live *live, json_t *answer)
{
	size_t i, k;
	json_t *recipient, *binding;

	json_array_foreach (json_object_get(answer, "recipients"), i, recipient) {
		json_array_foreach (json_object_get(recipient, "bindings"), k, binding) {
			if (live->code == CLI_DONE)
				live->code = add_live(live->cli, live->spec, binding);
		}
	}
	return live->code;
}

static json_t *explain_live(struct cli *cli, struct explain *x, int *code)
{
	struct live live = {.cli = cli, .code = CLI_DONE};
	struct error err;
	struct str spec;
	json_t *answer;

	str_init(&spec);
	if (!cli_socket(cli, false, &spec, &err)) {
		fprintf(stderr, "bindpost: %s\n", err.text);
		live.code = CLI_UNREACHABLE;
	}
	live.spec = spec.data;
	x->live_row = live_row;
	x->live_ctx = &live;
	answer = explain_json(x);
	*code = add_all_live(&live, answer);
	str_free(&spec);
	return answer;
}

/* --- all ---------------------------------------------------------------------------------------------------------- */

/* Errors found: 1. */
static int judge_recipients(const json_t *answer)
{
	const json_t *recipient;
	size_t i;
	int code = CLI_DONE;

	json_array_foreach (json_object_get(answer, "recipients"), i, recipient) {
		const char *why = json_string_value(json_object_get(recipient, "error"));

		if (!why)
			continue;
		fprintf(stderr, "bindpost: explain: --to: \"%s\" %s\n",
		        json_string_value(json_object_get(recipient, "recipient")), why);
		code = CLI_REFUSED;
	}
	return code;
}

static int explain(struct cli *cli, struct explain *x)
{
	struct error err;
	json_t *answer;
	int code = CLI_DONE;

	if (!explain_facts(x, &err))
		return cli_usage("explain: %s", err.text);
	answer = x->live ? explain_live(cli, x, &code) : explain_json(x);
	if (cli->json) {
		json_dumpf(answer, stdout, JSON_INDENT(2));
		putchar('\n');
	} else {
		explain_text(answer);
	}
	if (code == CLI_DONE)
		code = judge_recipients(answer);
	json_decref(answer);
	return code;
}

int cmd_explain(struct cli *cli)
{
	struct explain x = {.pool = pool_new(4096)};
	struct errors errors = {0};
	int code = parse(cli, &x);

	str_init(&x.body);
	if (code == CLI_DONE) {
		x.policy = policy_load(cli->config_path, &errors);
		if (!x.policy)
			conf_print_errors(&errors, stderr);
		code = x.policy ? explain(cli, &x) : CLI_REFUSED;
	}
	errors_free(&errors);
	policy_unref(&x.policy);
	str_free(&x.body);
	mem_free(&x.fact_headers);
	mem_free(&x.recipients);
	mem_free(&x.headers);
	pool_free(&x.pool);
	return code;
}
