/*
 * bindpost message ID: what is known of it, or its own bytes.
 *
 * The bytes go to a file or a pipe as they are. On a terminal they could move the cursor, change its title or answer for
 * the operator: there every control character is made visible.
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/json_write.h"
#include "base/names.h"
#include "base/utf8.h"
#include "control/cli.h"

#define JSON_MAX ((size_t)256 << 20) /* bytes of one that is asked for as JSON */

void cli_add_visible(struct str *out, const char *raw, size_t len)
{
	while (len > 0) {
		uint32_t code;
		size_t n = utf8_next(raw, len, &code);

		if (n == 0 || (utf8_is_control(code) && code != '\n' && code != '\t')) {
			n = n ? n : 1;
			for (size_t i = 0; i < n; i++)
				str_printf(out, "\\x%02X", (unsigned char)raw[i]);
		} else {
			str_add_mem(out, raw, n);
		}
		raw += n;
		len -= n;
	}
}

/* --- bytes --------------------------------------------------------------------------------------------------------- */

struct printing {
	bool visible;
	struct str held; /* what a piece's end has cut: a character, or CR before its LF */
};

static bool write_out(const char *data, size_t len)
{
	if (fwrite(data, 1, len, stdout) == len)
		return true;
	fprintf(stderr, "bindpost: cannot write: %s\n", strerror(errno));
	return false;
}

/* How much of the end may be the beginning of something longer. */
static size_t unfinished(const char *p, size_t len)
{
	for (size_t n = 1; n <= 3 && n <= len; n++) {
		unsigned char c = (unsigned char)p[len - n];

		if (n == 1 && c == '\r')
			return 1;
		if (c >= 0xC0)
			return (c >= 0xF0 ? 4u : c >= 0xE0 ? 3u : 2u) > n ? n : 0;
		if (c < 0x80)
			return 0;
	}
	return 0;
}

static bool print_visible(const char *data, size_t len)
{
	struct str text;
	bool ok;

	str_init(&text);
	while (len > 0) { /* CRLF is a line's end and nothing else */
		const char *lf = memchr(data, '\n', len);
		size_t line = lf ? (size_t)(lf - data) : len, shown = line;

		if (lf && line > 0 && data[line - 1] == '\r')
			shown--;
		cli_add_visible(&text, data, shown);
		if (lf)
			str_add_char(&text, '\n');
		line += lf != NULL;
		data += line;
		len -= line;
	}
	ok = write_out(text.data, text.len);
	str_free(&text);
	return ok;
}

static bool print_piece(void *ctx, const char *data, size_t len)
{
	struct printing *p = ctx;
	struct str whole;
	size_t rest;
	bool ok;

	if (!p->visible)
		return write_out(data, len);
	str_init(&whole);
	str_add_mem(&whole, p->held.data, p->held.len);
	str_add_mem(&whole, data, len);
	str_clear(&p->held);
	rest = unfinished(whole.data, whole.len);
	str_add_mem(&p->held, whole.data + whole.len - rest, rest);
	ok = print_visible(whole.data, whole.len - rest);
	str_free(&whole);
	return ok;
}

static int print_part(struct cli *cli, const char *path)
{
	struct printing p = {.visible = isatty(STDOUT_FILENO) == 1};
	int code;

	str_init(&p.held);
	code = cli_stream(cli, path, print_piece, NULL, &p);
	if (p.held.len && !print_visible(p.held.data, p.held.len))
		code = CLI_REFUSED;
	str_free(&p.held);
	return code;
}

/* --- as JSON --------------------------------------------------------------------------------------------------------- */

static bool keep_piece(void *ctx, const char *data, size_t len)
{
	struct str *all = ctx;

	str_add_mem(all, data, len);
	if (all->failed)
		fputs("bindpost: too large for --json; without it the bytes come as they are\n", stderr);
	return !all->failed;
}

/* Strings: what is not UTF-8 in them is U+FFFD. */
static int print_json(struct cli *cli, const char *id, const char *const *parts, size_t n)
{
	struct json_out j;
	struct str out, path, bytes;
	int code = CLI_DONE;

	str_init(&out);
	str_init(&path);
	str_init_max(&bytes, JSON_MAX);
	json_out_init(&j, &out);
	jw_object(&j, NULL);
	jw_str(&j, "id", id);
	for (size_t i = 0; i < n && code == CLI_DONE; i++) {
		str_clear(&path);
		str_clear(&bytes);
		str_printf(&path, "/v1/messages/%s/%s", id, parts[i]);
		code = cli_stream(cli, path.data, keep_piece, NULL, &bytes);
		jw_strn(&j, parts[i], bytes.data, bytes.len);
	}
	jw_end_object(&j);
	if (code == CLI_DONE)
		puts(out.data);
	str_free(&out);
	str_free(&path);
	str_free(&bytes);
	return code;
}

/* --- the command ------------------------------------------------------------------------------------------------------ */

static int message_part(struct cli *cli, const char *id, bool headers, bool body)
{
	const char *parts[2];
	size_t n = 0;
	struct str path;
	int code;

	if (headers)
		parts[n++] = "headers";
	if (body)
		parts[n++] = "body";
	if (cli->json)
		return print_json(cli, id, parts, n);
	str_init(&path);
	str_printf(&path, "/v1/messages/%s/%s", id, n == 2 ? "raw" : parts[0]);
	code = print_part(cli, path.data);
	str_free(&path);
	return code;
}

int cmd_message(struct cli *cli)
{
	const char *name = NULL;
	bool headers = false, body = false;
	struct str path;
	uint64_t id;
	int code;

	for (int i = 0; i < cli->argc; i++) {
		if (strcmp(cli->argv[i], "--headers") == 0)
			headers = true;
		else if (strcmp(cli->argv[i], "--body") == 0)
			body = true;
		else if (name || cli->argv[i][0] == '-')
			return cli_usage("message takes one message id, --headers and --body, not \"%s\"",
			        cli->argv[i]);
		else
			name = cli->argv[i];
	}
	if (!name)
		return cli_usage("message takes one message id");
	if (!id_parse(name, &id))
		return cli_usage("\"%s\" is not a message id (16 hexadecimal digits)", name);
	if (headers || body)
		return message_part(cli, name, headers, body);
	str_init(&path);
	str_printf(&path, "/v1/messages/%s", name);
	code = cli_show(cli, path.data);
	str_free(&path);
	return code;
}
