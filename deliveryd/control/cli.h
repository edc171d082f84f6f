/*
 * cli - the `bindpost` command: what its parts share
 *
 * Exit codes (design 10): 0 done, 1 refused, errors found, or nothing matched a change, 2 usage, 3 daemon not reachable.
 */
#ifndef CONTROL_CLI_H
#define CONTROL_CLI_H

#include <jansson.h>
#include <stdbool.h>

#include "base/error.h"
#include "base/str.h"

enum cli_exit { CLI_DONE = 0, CLI_REFUSED = 1, CLI_USAGE = 2, CLI_UNREACHABLE = 3 };

struct cli {
	const char *config_path; /* -c, or the built-in place */
	const char *socket; /* --socket: where deliveryd's control socket is; NULL = from the configuration */
	bool json;
	int argc; /* the command's own arguments, without its name and the global options */
	char **argv;
};

/* Says what is wrong with the command line and how to ask for help; returns CLI_USAGE. */
int cli_usage(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
/* The value of "--name VALUE" or "--name=VALUE" at argv[*i] (moves *i), or NULL when argv[*i] is another word. */
const char *cli_option(struct cli *, int *i, const char *name);

/* One request. Returns CLI_DONE with the parsed answer (caller: json_decref), or says what went wrong on stderr. */
int cli_request(struct cli *, const char *socket_spec, const char *method, const char *path, json_t **answer);
/* POST with parameters as a form has them, "name=value&name=value" (may be NULL). */
int cli_post(struct cli *, const char *socket_spec, const char *path, const char *form, json_t **answer);
/* GET of what is no JSON object: its bytes as they come, false = enough, or no more can be taken (say why). */
typedef bool cli_sink(void *ctx, const char *data, size_t len);
/* go_on() (or NULL) is asked about once a second whether to go on; when it says no the answer is CLI_DONE. */
int cli_stream(struct cli *, const char *path, cli_sink *, bool (*go_on)(void *ctx), void *ctx);
/* A request of deliveryd whose answer is one object: printed as it is, or key by key. */
int cli_show(struct cli *, const char *path);
/* Foreign bytes for a terminal: lines and tabs as they are, every other control character and what is not UTF-8 as \xNN. */
void cli_add_visible(struct str *, const char *raw, size_t len);
/* Where deliveryd (milter = false) or the milter listens for control; false with the reason. */
bool cli_socket(struct cli *, bool milter, struct str *spec, struct error *);

/* Numbers with a fraction as they came, not as their binary form would print. */
#define CLI_REAL JSON_REAL_PRECISION(15)

/* A list of objects as aligned columns. `more` rows of a later page use the same widths. */
struct cli_column {
	const char *title, *key; /* key may be NULL in the last row */
	int width;               /* smallest */
	bool number;
};
void cli_table_head(const struct cli_column *, size_t n);
void cli_table_row(const struct cli_column *, size_t n, const json_t *row);
/* Any JSON scalar as text; "-" for null and absent. Control characters are not printed. */
void cli_print_value(const json_t *, struct str *out);

/* Appends text as one value of a URL's query. */
void cli_url_add(struct str *url, const char *text);

int cmd_check(struct cli *);
int cmd_explain(struct cli *);
int cmd_stamp(struct cli *);
int cmd_config(struct cli *);
int cmd_summary(struct cli *);
int cmd_queues(struct cli *);
int cmd_bindings(struct cli *);
int cmd_messages(struct cli *);
int cmd_message(struct cli *);
int cmd_connections(struct cli *);
int cmd_reroute(struct cli *);
int cmd_rules(struct cli *);
int cmd_trace(struct cli *);
int cmd_top(struct cli *);
int cmd_reload(struct cli *);
int cmd_dns(struct cli *);
int cmd_suspend(struct cli *);
int cmd_resume(struct cli *);
int cmd_flush(struct cli *);
int cmd_delay(struct cli *);
int cmd_hold(struct cli *);
int cmd_release(struct cli *);
int cmd_fail(struct cli *);
int cmd_delete(struct cli *);
int cmd_rebind(struct cli *);
int cmd_drain(struct cli *);
int cmd_spool(struct cli *);

#endif
