/*
 * The HTTP client of the `bindpost` command: libcurl over the daemons' Unix sockets.
 */
#include <curl/curl.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/sockspec.h"
#include "control/cli.h"

#define ANSWER_MAX ((size_t)64 << 20) /* bytes: a page of 500 rows is well under 1 MB */

struct exchange {
	struct sockspec spec;
	const char *method, *path, *form;
	cli_sink *sink; /* NULL: all of the answer goes to `body` */
	bool (*go_on)(void *ctx);
	void *ctx;
	struct str body;
	CURL *curl;
	long status;
	char why[CURL_ERROR_SIZE];
};

/* An error is told in JSON, whatever the answer would have been. */
static size_t take_bytes(char *data, size_t size, size_t n, void *ctx)
{
	struct exchange *x = ctx;

	curl_easy_getinfo(x->curl, CURLINFO_RESPONSE_CODE, &x->status);
	if (x->sink && x->status == 200)
		return x->sink(x->ctx, data, size * n) ? size * n : 0;
	str_add_mem(&x->body, data, size * n);
	return x->body.failed ? 0 : size * n;
}

static int progress(void *ctx, curl_off_t a, curl_off_t b, curl_off_t c, curl_off_t d)
{
	struct exchange *x = ctx;

	(void)a, (void)b, (void)c, (void)d;
	return !x->go_on(x->ctx);
}

static bool set_target(CURL *curl, const struct sockspec *spec, const char *path, struct str *url)
{
	char text[ADDR_TEXT_SIZE];

	switch (spec->type) {
	case SOCKSPEC_UNIX:
		curl_easy_setopt(curl, CURLOPT_UNIX_SOCKET_PATH, spec->path);
		str_printf(url, "http://localhost%s", path);
		return true;
	case SOCKSPEC_INET:
		str_printf(url, "http://%s%s", addr_print_port(&spec->addr, text), path);
		return true;
	case SOCKSPEC_SYSTEMD:
		break;
	}
	return false;
}

static CURLcode perform(struct exchange *x)
{
	CURL *curl = x->curl = curl_easy_init();
	CURLcode code = CURLE_FAILED_INIT;
	struct str url;

	if (!curl)
		return code;
	str_init(&url);
	curl_easy_setopt(curl, CURLOPT_ERRORBUFFER, x->why);
	if (set_target(curl, &x->spec, x->path, &url)) {
		curl_easy_setopt(curl, CURLOPT_URL, url.data);
		curl_easy_setopt(curl, CURLOPT_PROXY, "");
		curl_easy_setopt(curl, CURLOPT_NOSIGNAL, 1L);
		curl_easy_setopt(curl, CURLOPT_CONNECTTIMEOUT, 30L);
		if (!x->sink) /* what streams takes as long as it takes */
			curl_easy_setopt(curl, CURLOPT_TIMEOUT, 120L);
		if (x->go_on) {
			curl_easy_setopt(curl, CURLOPT_NOPROGRESS, 0L);
			curl_easy_setopt(curl, CURLOPT_XFERINFOFUNCTION, progress);
			curl_easy_setopt(curl, CURLOPT_XFERINFODATA, x);
		}
		curl_easy_setopt(curl, CURLOPT_WRITEFUNCTION, take_bytes);
		curl_easy_setopt(curl, CURLOPT_WRITEDATA, x);
		if (strcmp(x->method, "POST") == 0)
			curl_easy_setopt(curl, CURLOPT_POSTFIELDS, x->form ? x->form : "");
		code = curl_easy_perform(curl);
		curl_easy_getinfo(curl, CURLINFO_RESPONSE_CODE, &x->status);
	}
	str_free(&url);
	curl_easy_cleanup(curl);
	return code;
}

static int judge(const struct str *body, long status, const char *spec, json_t **answer)
{
	json_error_t why;
	json_t *root = json_loadb(body->data, body->len, 0, &why);
	const char *said = json_string_value(json_object_get(root, "error"));

	if (!root) {
		fprintf(stderr, "bindpost: %s answered something that is not JSON (HTTP %ld)\n", spec,
		        status);
		return CLI_UNREACHABLE;
	}
	*answer = root;
	if (status == 200)
		return CLI_DONE;
	if (said)
		fprintf(stderr, "bindpost: %s\n", said);
	return status == 400 ? CLI_USAGE : CLI_REFUSED;
}

/* curl hides what the system said to connect(): that is asked again. */
static void say_unreachable(const struct sockspec *spec, const char *socket_spec, const char *why)
{
	struct error err;
	int fd, code;

	errno = 0;
	fd = sockspec_connect(spec, &err);
	code = fd < 0 ? errno : 0;
	if (fd >= 0)
		close(fd);
	if (code == ENOENT || code == ECONNREFUSED)
		fprintf(stderr,
		        "bindpost: %s: nobody listens there: the daemon is not running, or not with this "
		        "configuration\n",
		        socket_spec);
	else if (code == EACCES)
		fprintf(stderr,
		        "bindpost: %s: Permission denied: the socket's mode and group say who may use it\n",
		        socket_spec);
	else
		fprintf(stderr, "bindpost: %s: %s\n", socket_spec, code ? strerror(code) : why);
	if (fd >= 0)
		fputs("bindpost: is that deliveryd's control socket?\n", stderr);
}

static int ask(const char *socket_spec, struct exchange *x, json_t **answer)
{
	struct error err;
	CURLcode code;
	int exit_code;

	*answer = NULL;
	if (!sockspec_parse(socket_spec, &x->spec, &err)) {
		fprintf(stderr, "bindpost: %s\n", err.text);
		return CLI_USAGE;
	}
	str_init_max(&x->body, ANSWER_MAX);
	code = perform(x);
	if (code == CURLE_ABORTED_BY_CALLBACK || (code == CURLE_OK && x->sink && x->status == 200)) {
		exit_code = CLI_DONE;
	} else if (code == CURLE_WRITE_ERROR && x->sink && x->status == 200) {
		exit_code = CLI_REFUSED; /* the sink has said why */
	} else if (code != CURLE_OK && x->sink && x->status == 200) {
		fprintf(stderr, "bindpost: the answer ended early: %s\n",
		        *x->why ? x->why : curl_easy_strerror(code));
		exit_code = CLI_UNREACHABLE;
	} else if (code != CURLE_OK) {
		say_unreachable(&x->spec, socket_spec, *x->why ? x->why : curl_easy_strerror(code));
		exit_code = CLI_UNREACHABLE;
	} else {
		exit_code = judge(&x->body, x->status, socket_spec, answer);
	}
	str_free(&x->body);
	return exit_code;
}

int cli_request(
        struct cli *cli, const char *socket_spec, const char *method, const char *path, json_t **answer)
{
	struct exchange x = {.method = method, .path = path};

	(void)cli;
	return ask(socket_spec, &x, answer);
}

int cli_post(struct cli *cli, const char *socket_spec, const char *path, const char *form, json_t **answer)
{
	struct exchange x = {.method = "POST", .path = path, .form = form};

	(void)cli;
	return ask(socket_spec, &x, answer);
}

int cli_stream(struct cli *cli, const char *path, cli_sink *sink, bool (*go_on)(void *ctx), void *ctx)
{
	struct exchange x = {.method = "GET", .path = path, .sink = sink, .go_on = go_on, .ctx = ctx};
	json_t *answer = NULL;
	struct str spec;
	struct error err;
	int code = CLI_REFUSED;

	str_init(&spec);
	if (cli_socket(cli, false, &spec, &err))
		code = ask(spec.data, &x, &answer);
	else
		fprintf(stderr, "bindpost: %s\n", err.text);
	json_decref(answer);
	str_free(&spec);
	return code;
}
