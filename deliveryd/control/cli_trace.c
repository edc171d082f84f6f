/*
 * bindpost trace: the stream of /v1/trace, a line for each line said.
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "base/mem.h"
#include "conf/value.h"
#include "control/cli.h"

struct tracing {
	struct cli *cli;
	struct str held; /* of a line, as far as it has come */
	time_t until;    /* CLOCK_MONOTONIC; 0 = for ever */
	bool over;
};

static const char *text_of(const json_t *row, const char *key)
{
	const char *text = json_string_value(json_object_get(row, key));

	return text ? text : "";
}

/* "20:15:01.123456  #7 acme mx1.example.net     12 ms > MAIL FROM:<news@acme.example>" */
static void print_row(const json_t *row)
{
	const char *time = text_of(row, "time");
	struct str text;

	str_init(&text);
	if (strlen(time) > 26)
		str_printf(&text, "%.12s", time + 11);
	if (json_object_get(row, "session"))
		str_printf(&text, " #%" JSON_INTEGER_FORMAT " %s %s %6" JSON_INTEGER_FORMAT " ms",
		        json_integer_value(json_object_get(row, "session")), text_of(row, "binding"),
		        *text_of(row, "mx") ? text_of(row, "mx") : text_of(row, "next_hop"),
		        json_integer_value(json_object_get(row, "ms")));
	str_printf(&text, " %s ", text_of(row, "direction"));
	cli_add_visible(&text, text_of(row, "text"), strlen(text_of(row, "text")));
	puts(text.data);
	str_free(&text);
}

static bool print_line(struct tracing *t, const char *line, size_t len)
{
	json_error_t why;
	json_t *row;

	if (t->cli->json) {
		fwrite(line, 1, len, stdout);
		putchar('\n');
	} else if ((row = json_loadb(line, len, 0, &why))) {
		print_row(row);
		json_decref(row);
	}
	return !ferror(stdout);
}

static bool time_is_over(const struct tracing *t)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return t->until && now.tv_sec >= t->until;
}

static bool take(void *ctx, const char *data, size_t len)
{
	struct tracing *t = ctx;
	bool ok = true;

	while (ok && len > 0) {
		const char *lf = memchr(data, '\n', len);
		size_t n = lf ? (size_t)(lf - data) : len;

		str_add_mem(&t->held, data, n);
		if (lf) {
			ok = print_line(t, t->held.data, t->held.len);
			str_clear(&t->held);
		}
		n += lf != NULL;
		data += n;
		len -= n;
	}
	if (ok && fflush(stdout) != 0)
		ok = false;
	if (!ok)
		fprintf(stderr, "bindpost: cannot write: %s\n", strerror(errno));
	return ok;
}

/* Asked about once a second while nothing comes. */
static bool go_on(void *ctx)
{
	struct tracing *t = ctx;

	t->over = time_is_over(t);
	return !t->over;
}

static int parse(struct cli *cli, struct str *path, struct tracing *t)
{
	const char *comma = "?";
	uint64_t seconds;

	for (int i = 0; i < cli->argc; i++) {
		const char *value, *name = "binding";

		if ((value = cli_option(cli, &i, "--for"))) {
			struct timespec now;

			if (!duration_parse(value, &seconds) || seconds == 0)
				return cli_usage(
				        "--for takes a duration such as 90s or 10m, not \"%s\"", value);
			clock_gettime(CLOCK_MONOTONIC, &now);
			t->until = now.tv_sec + (time_t)seconds;
			continue;
		}
		if (!(value = cli_option(cli, &i, "--binding"))) {
			name = "domain";
			value = cli_option(cli, &i, "--domain");
		}
		if (!value)
			return cli_usage(
			        "trace takes --binding, --domain and --for, not \"%s\"", cli->argv[i]);
		str_printf(path, "%s%s=", comma, name);
		cli_url_add(path, value);
		comma = "&";
	}
	return CLI_DONE;
}

int cmd_trace(struct cli *cli)
{
	struct tracing t = {.cli = cli};
	struct str path;
	int code;

	str_init(&path);
	str_init(&t.held);
	str_add(&path, "/v1/trace");
	code = parse(cli, &path, &t);
	if (code == CLI_DONE)
		code = cli_stream(cli, path.data, take, go_on, &t);
	if (t.over)
		code = CLI_DONE;
	str_free(&t.held);
	str_free(&path);
	return code;
}
