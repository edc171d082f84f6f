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

static size_t take_bytes(char *data, size_t size, size_t n, void *ctx)
{
	struct str *out = ctx;

	str_add_mem(out, data, size * n);
	return out->failed ? 0 : size * n;
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

static CURLcode perform(const struct sockspec *spec, const char *method, const char *path, const char *form,
        struct str *body, long *status, char *why)
{
	CURL *curl = curl_easy_init();
	CURLcode code = CURLE_FAILED_INIT;
	struct str url;

	if (!curl)
		return code;
	str_init(&url);
	curl_easy_setopt(curl, CURLOPT_ERRORBUFFER, why);
	if (set_target(curl, spec, path, &url)) {
		curl_easy_setopt(curl, CURLOPT_URL, url.data);
		curl_easy_setopt(curl, CURLOPT_PROXY, "");
		curl_easy_setopt(curl, CURLOPT_NOSIGNAL, 1L);
		curl_easy_setopt(curl, CURLOPT_TIMEOUT, 120L);
		curl_easy_setopt(curl, CURLOPT_WRITEFUNCTION, take_bytes);
		curl_easy_setopt(curl, CURLOPT_WRITEDATA, body);
		if (strcmp(method, "POST") == 0)
			curl_easy_setopt(curl, CURLOPT_POSTFIELDS, form ? form : "");
		code = curl_easy_perform(curl);
		curl_easy_getinfo(curl, CURLINFO_RESPONSE_CODE, status);
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

static int ask(
        const char *socket_spec, const char *method, const char *path, const char *form, json_t **answer)
{
	char why[CURL_ERROR_SIZE] = "";
	struct sockspec spec;
	struct error err;
	struct str body;
	CURLcode code;
	long status = 0;
	int exit_code;

	*answer = NULL;
	if (!sockspec_parse(socket_spec, &spec, &err)) {
		fprintf(stderr, "bindpost: %s\n", err.text);
		return CLI_USAGE;
	}
	str_init_max(&body, ANSWER_MAX);
	code = perform(&spec, method, path, form, &body, &status, why);
	if (code != CURLE_OK) {
		say_unreachable(&spec, socket_spec, *why ? why : curl_easy_strerror(code));
		exit_code = CLI_UNREACHABLE;
	} else {
		exit_code = judge(&body, status, socket_spec, answer);
	}
	str_free(&body);
	return exit_code;
}

int cli_request(
        struct cli *cli, const char *socket_spec, const char *method, const char *path, json_t **answer)
{
	(void)cli;
	return ask(socket_spec, method, path, NULL, answer);
}

int cli_post(struct cli *cli, const char *socket_spec, const char *path, const char *form, json_t **answer)
{
	(void)cli;
	return ask(socket_spec, "POST", path, form, answer);
}
