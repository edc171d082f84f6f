/*
 * bindpost spool: a stopped deliveryd's spool, checked, taken out and put in.
 */
#include <stdio.h>
#include <string.h>

#include "base/json_write.h"
#include "base/mem.h"
#include "base/names.h"
#include "conf/conf.h"
#include "control/cli_spool.h"

/* --- check ---------------------------------------------------------------------------------------------------------- */

struct check {
	struct offline *spool;
	bool json;
	uint64_t messages, deliveries, recipients, bytes, bodies_lost;
	struct str lost; /* JSON */
	struct json_out j;
};

static bool no_sink(void *ctx, const void *bytes, size_t n)
{
	(void)bytes;
	*(uint64_t *)ctx += n;
	return true;
}

static void body_lost(struct check *c, uint64_t id, const char *why)
{
	char text[ID_TEXT_SIZE];

	c->bodies_lost++;
	if (!c->json)
		printf("message %s: %s\n", id_print(id, text), why);
	jw_object(&c->j, NULL);
	jw_str(&c->j, "id", id_print(id, text));
	jw_str(&c->j, "reason", why);
	jw_end_object(&c->j);
}

static void check_message(void *ctx, const struct spool_live *live)
{
	struct check *c = ctx;
	struct error err = {.text = ""};
	uint64_t n = 0;

	c->messages++;
	c->deliveries += live->n_deliveries;
	for (uint32_t i = 0; i < live->n_deliveries; i++)
		c->recipients += live->deliveries[i].open
		                         ? live->deliveries[i].n_open
		                         : live->message->deliveries[live->deliveries[i].index].n_recipients;
	c->bytes += live->message->body_size;
	if (!offline_body(c->spool, live->message->id, no_sink, &n, &err))
		body_lost(c, live->message->id, err.text);
}

static void no_setting(void *ctx, const char *key, const char *value)
{
	(void)ctx;
	(void)key;
	(void)value;
}

static bool is_sound(const struct check *c, const struct offline_found *f)
{
	return f->damaged == 0 && f->unreadable == 0 && c->bodies_lost == 0;
}

static void print_check_json(const struct check *c, const char *path, const struct offline_found *f)
{
	struct str out;
	struct json_out j;

	str_init(&out);
	json_out_init(&j, &out);
	jw_object(&j, NULL);
	jw_str(&j, "path", path);
	jw_bool(&j, "ok", is_sound(c, f));
	jw_uint(&j, "segments", f->segments);
	jw_uint(&j, "messages", c->messages);
	jw_uint(&j, "deliveries", c->deliveries);
	jw_uint(&j, "recipients", c->recipients);
	jw_uint(&j, "size", c->bytes);
	jw_uint(&j, "damaged_places", f->damaged);
	jw_uint(&j, "unreadable_envelopes", f->unreadable);
	jw_uint(&j, "unreadable_bodies", c->bodies_lost);
	jw_end_object(&j);
	out.data[--out.len] = '\0'; /* the list is text already */
	printf("%s,\"bodies\":%s}\n", out.data, c->lost.data);
	str_free(&out);
}

static void print_check(const struct check *c, const char *path, const struct offline_found *f)
{
	printf("%s: %llu messages, %llu deliveries, %llu recipients, %.1f MB of mail in %llu segments\n",
	        path, (unsigned long long)c->messages, (unsigned long long)c->deliveries,
	        (unsigned long long)c->recipients, (double)c->bytes / (1 << 20),
	        (unsigned long long)f->segments);
	if (is_sound(c, f)) {
		puts("sound: every byte was read and checked");
		return;
	}
	printf("DAMAGED: %llu places; %llu envelopes and %llu bodies cannot be read\n",
	        (unsigned long long)f->damaged, (unsigned long long)f->unreadable,
	        (unsigned long long)c->bodies_lost);
	puts("deliveryd starts on it all the same and keeps what can be read; a message without its body is\n"
	     "not sent. What is damaged stays beside the rest as NUMBER.damaged. To look at it elsewhere:\n"
	     "`bindpost spool export --to FOLDER`.");
}

int cli_spool_check(struct cli *cli, const char *path)
{
	struct check c = {.json = cli->json};
	struct offline_found found = {0};
	struct error err;
	bool ok;

	c.spool = offline_open(path, NULL, &err);
	if (!c.spool) {
		fprintf(stderr, "bindpost: %s\n", err.text);
		return CLI_REFUSED;
	}
	str_init(&c.lost);
	json_out_init(&c.j, &c.lost);
	jw_array(&c.j, NULL);
	ok = offline_walk(c.spool, check_message, no_setting, &c, &err);
	jw_end_array(&c.j);
	if (ok) {
		offline_found(c.spool, &found);
		(cli->json ? print_check_json : print_check)(&c, path, &found);
		ok = is_sound(&c, &found);
	} else {
		fprintf(stderr, "bindpost: %s\n", err.text);
	}
	str_free(&c.lost);
	offline_close(&c.spool);
	return ok ? CLI_DONE : CLI_REFUSED;
}

/* --- the command ---------------------------------------------------------------------------------------------------- */

/* Given, or what the configuration says; to be freed. */
static char *spool_path(struct cli *cli, const char *given)
{
	struct errors errors = {0};
	struct conf *conf;
	char *path = NULL;

	if (given)
		return mem_strdup(given);
	conf = conf_load_anyway(cli->config_path, &errors);
	if (conf)
		path = mem_strdup(conf_process(conf)->spool_path);
	else
		conf_print_errors(&errors, stderr);
	conf_unref(&conf);
	errors_free(&errors);
	return path;
}

struct words {
	const char *what, *to, *other[2];
	int n_other;
};

static int read_words(struct cli *cli, struct words *w)
{
	for (int i = 0; i < cli->argc; i++) {
		const char *value = cli_option(cli, &i, "--to");

		if (value)
			w->to = value;
		else if (cli->argv[i][0] == '-')
			return cli_usage("spool: unknown option %s", cli->argv[i]);
		else if (!w->what)
			w->what = cli->argv[i];
		else if (w->n_other < 2)
			w->other[w->n_other++] = cli->argv[i];
		else
			return cli_usage("spool %s: too many words", w->what);
	}
	return CLI_DONE;
}

int cmd_spool(struct cli *cli)
{
	struct words w = {0};
	bool check, export, import;
	char *path;
	int code = read_words(cli, &w);

	if (code != CLI_DONE)
		return code;
	check = w.what && strcmp(w.what, "check") == 0;
	export = w.what && strcmp(w.what, "export") == 0;
	import = w.what && strcmp(w.what, "import") == 0;
	if (!check && !export && !import)
		return cli_usage("spool: check, export or import");
	if (w.n_other > (import ? 2 : 1) || (w.to != NULL) != export)
		return cli_usage("spool %s: wrong words", w.what);
	if (import && w.n_other == 0)
		return cli_usage("spool import: from which folder?");
	path = spool_path(cli, w.other[import ? 1 : 0]);
	if (!path)
		return CLI_REFUSED;
	code = check    ? cli_spool_check(cli, path)
	       : export ? cli_spool_export(cli, path, w.to)
	                : cli_spool_import(cli, path, w.other[0]);
	mem_free(&path);
	return code;
}
