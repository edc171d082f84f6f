/*
 * bindpost top: /v1/summary and /v1/top, drawn again and again.
 */
#include "control/cli_top.h"

#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/mem.h"
#include "conf/value.h"
#include "control/cli.h"

#define HEAD_ROWS 5
#define ROWS_WITHOUT_TERMINAL 40

struct top {
	struct cli *cli;
	struct str spec, path;
	unsigned interval_ms;
	bool once;
};

static json_int_t number(const json_t *o, const char *key)
{
	return json_integer_value(json_object_get(o, key));
}

static const char *text_of(const json_t *o, const char *key)
{
	const char *text = json_string_value(json_object_get(o, key));

	return text ? text : "";
}

/* --- what is shown --------------------------------------------------------------------------------------------------- */

static void put_age(struct str *out, double seconds)
{
	unsigned long s = (unsigned long)seconds;

	if (s >= 86400)
		str_printf(out, "%lud %02luh", s / 86400, s / 3600 % 24);
	else
		str_printf(out, "%02lu:%02lu:%02lu", s / 3600, s / 60 % 60, s % 60);
}

static void put_head(struct str *out, const json_t *summary, const json_t *top)
{
	const json_t *minute = json_object_get(summary, "last_minute"),
	             *spool = json_object_get(summary, "spool");

	str_printf(out, "bindpost top  %.8s  up ",
	        text_of(top, "time") + 11 * (strlen(text_of(top, "time")) > 19));
	put_age(out, json_number_value(json_object_get(summary, "uptime")));
	str_printf(out, "  bindings %lld  queues %lld  spool %s, %lld MB free\n", number(summary, "bindings"),
	        number(summary, "queues"), text_of(spool, "health"), number(spool, "free_bytes") >> 20);
	str_printf(out,
	        "messages %lld  active %lld  deferred %lld  held %lld  connections %lld of %lld  memory %lld "
	        "MB\n",
	        number(summary, "messages"), number(summary, "active"), number(summary, "deferred"),
	        number(summary, "held"), number(summary, "connections"), number(summary, "limit"),
	        number(summary, "memory") >> 20);
	str_printf(out,
	        "last minute  received %lld  delivered %lld  deferrals %lld  bounced %lld  expired %lld  "
	        "uncertain %lld\n\n",
	        number(minute, "received"), number(minute, "delivered"), number(minute, "deferrals"),
	        number(minute, "bounced"), number(minute, "expired"), number(minute, "uncertain"));
}

static double per_second(const json_t *row, const char *key)
{
	return json_number_value(json_object_get(json_object_get(row, "per_second"), key));
}

/* Text of others: one line, nothing that could move the cursor. */
static void put_foreign(struct str *out, const char *text)
{
	struct str visible;

	str_init(&visible);
	cli_add_visible(&visible, text, strlen(text));
	for (size_t i = 0; i < visible.len; i++)
		if (visible.data[i] == '\n' || visible.data[i] == '\t')
			visible.data[i] = ' ';
	str_add_mem(out, visible.data, visible.len);
	str_free(&visible);
}

static void put_row(struct str *out, const json_t *row, bool destination)
{
	struct str name;

	str_init(&name);
	put_foreign(&name, text_of(row, "binding"));
	str_printf(out, "%-14.64s", name.data);
	if (destination) {
		str_clear(&name);
		put_foreign(&name, text_of(row, "next_hop"));
		str_printf(out, " %-26s", name.data);
	}
	str_free(&name);
	str_printf(out, " %8.1f %8.1f %8.1f %8.1f %8lld %8lld %6lld %5lld  ", per_second(row, "received"),
	        per_second(row, "delivered"), per_second(row, "deferrals"), per_second(row, "bounced"),
	        number(row, "active"), number(row, "deferred"), number(row, "held"),
	        number(row, "connections"));
	if (number(row, "code"))
		str_printf(out, "%lld ", number(row, "code"));
	put_foreign(out, text_of(row, "reply"));
	str_add_char(out, '\n');
}

static void put_list(struct str *out, const json_t *rows, unsigned most, bool destinations)
{
	const json_t *row;
	size_t i;

	str_printf(out, "%-14s", "BINDING");
	if (destinations)
		str_printf(out, " %-26s", "NEXT HOP");
	str_add(out, "   RECV/S  DELIV/S  DEFER/S BOUNCE/S   ACTIVE DEFERRED   HELD  CONN  LAST REPLY\n");
	json_array_foreach ((json_t *)rows, i, row) {
		if (i == most)
			break;
		put_row(out, row, destinations);
	}
}

/* A third of the rows for the bindings, or as few as there are. */
static void put_frame(struct str *out, const json_t *summary, const json_t *top, unsigned rows)
{
	const json_t *bindings = json_object_get(top, "bindings");
	unsigned room = rows > HEAD_ROWS + 4 ? rows - HEAD_ROWS - 2 : 2, for_bindings = room / 3 + 1;

	if (json_array_size(bindings) < for_bindings)
		for_bindings = (unsigned)json_array_size(bindings);
	put_head(out, summary, top);
	put_list(out, bindings, for_bindings, false);
	str_add_char(out, '\n');
	put_list(out, json_object_get(top, "destinations"), room - for_bindings, true);
}

/* --- asking ---------------------------------------------------------------------------------------------------------- */

static int frame(struct top *t, unsigned rows, struct str *out)
{
	json_t *summary = NULL, *top = NULL;
	int code = cli_request(t->cli, t->spec.data, "GET", "/v1/summary", &summary);

	if (code == CLI_DONE)
		code = cli_request(t->cli, t->spec.data, "GET", t->path.data, &top);
	if (code == CLI_DONE && t->cli->json) {
		json_object_set(top, "summary", summary);
		json_dumpf(top, stdout, JSON_INDENT(2) | CLI_REAL);
		putchar('\n');
	} else if (code == CLI_DONE) {
		put_frame(out, summary, top, rows);
	}
	json_decref(summary);
	json_decref(top);
	return code;
}

static int once(struct top *t)
{
	struct str out;
	int code;

	str_init(&out);
	code = frame(t, ROWS_WITHOUT_TERMINAL, &out);
	fputs(out.data, stdout);
	str_free(&out);
	return code;
}

static uint64_t now_ms(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
}

static int live(struct top *t)
{
	enum screen_event event = SCREEN_TIME;
	int code = CLI_DONE;
	struct str out;

	str_init(&out);
	screen_begin();
	while (code == CLI_DONE && event != SCREEN_QUIT) {
		uint64_t next = now_ms() + t->interval_ms, now;
		unsigned columns, rows;

		screen_size(&columns, &rows);
		str_clear(&out);
		code = frame(t, rows, &out);
		if (code == CLI_DONE)
			screen_draw(&out);
		event = code == CLI_DONE ? SCREEN_TIME : SCREEN_QUIT;
		while (event == SCREEN_TIME && (now = now_ms()) < next)
			event = screen_wait((unsigned)(next - now));
	}
	screen_end();
	if (code != CLI_DONE && !screen_signal()) /* what was said stood on the other screen */
		code = once(t);
	str_free(&out);
	return code;
}

static int parse(struct cli *cli, struct top *t)
{
	const char *comma = "?";
	uint64_t seconds;

	for (int i = 0; i < cli->argc; i++) {
		const char *value, *name = "binding";

		if (strcmp(cli->argv[i], "--once") == 0) {
			t->once = true;
			continue;
		}
		if ((value = cli_option(cli, &i, "--interval"))) {
			if (!duration_parse(value, &seconds) || seconds == 0 || seconds > 3600)
				return cli_usage(
				        "--interval takes a duration from 1s to 1h, not \"%s\"", value);
			t->interval_ms = (unsigned)seconds * 1000;
			continue;
		}
		if (!(value = cli_option(cli, &i, "--binding"))) {
			name = "domain";
			value = cli_option(cli, &i, "--domain");
		}
		if (!value)
			return cli_usage("top takes --binding, --domain, --interval and --once, not \"%s\"",
			        cli->argv[i]);
		str_printf(&t->path, "%s%s=", comma, name);
		cli_url_add(&t->path, value);
		comma = "&";
	}
	return CLI_DONE;
}

int cmd_top(struct cli *cli)
{
	struct top t = {.cli = cli, .interval_ms = 2000};
	struct error err;
	int code;

	str_init(&t.spec);
	str_init(&t.path);
	str_add(&t.path, "/v1/top");
	code = parse(cli, &t);
	if (code == CLI_DONE && !cli_socket(cli, false, &t.spec, &err)) {
		fprintf(stderr, "bindpost: %s\n", err.text);
		code = CLI_REFUSED;
	}
	if (code == CLI_DONE)
		code = t.once || cli->json || !isatty(STDOUT_FILENO) ? once(&t) : live(&t);
	str_free(&t.spec);
	str_free(&t.path);
	if (screen_signal()) { /* as if we had not known it */
		signal(screen_signal(), SIG_DFL);
		raise(screen_signal());
	}
	return code;
}
