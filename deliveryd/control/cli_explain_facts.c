/*
 * The message that is to be explained, as the milter would see it: facts from the command line, or a file.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "base/names.h"
#include "control/cli_explain.h"
#include "session/smtp_commands.h"

bool explain_address(const char *text, struct error *err)
{
	char *inside = mem_strdup(text);
	size_t len = strlen(inside);
	bool ok;

	if (len >= 2 && inside[0] == '<' && inside[len - 1] == '>') {
		memmove(inside, inside + 1, len - 2);
		inside[len - 2] = 0;
	}
	ok = smtp_address_ok(inside, true) ||
	     error_set(err, "is not an address: a blank, <, > or a control character outside of quotes");
	mem_free(&inside);
	return ok;
}

static bool read_file(const char *path, struct str *out, struct error *err)
{
	bool input = strcmp(path, "-") == 0;
	FILE *file = input ? stdin : fopen(path, "re");
	char buf[65536];
	size_t n;

	if (!file)
		return error_sys(err, "%s", path);
	while ((n = fread(buf, 1, sizeof(buf), file)) > 0)
		str_add_mem(out, buf, n);
	bool ok = !ferror(file) || error_sys(err, "%s", path);
	if (!input)
		fclose(file);
	return ok;
}

/* Line ends as SMTP sends them. */
static void to_crlf(struct str *text)
{
	struct str out;

	str_init(&out);
	for (size_t i = 0; i < text->len; i++) {
		if (text->data[i] == '\n' && (i == 0 || text->data[i - 1] != '\r'))
			str_add_char(&out, '\r');
		str_add_char(&out, text->data[i]);
	}
	if (out.len > 0 && out.data[out.len - 1] != '\n')
		str_add(&out, "\r\n");
	str_free(text);
	*text = out;
}

static void add_header(struct explain *x, const char *line, size_t len, const char *stamp_header)
{
	const char *colon = memchr(line, ':', len);
	size_t name_len = (size_t)(colon - line);

	while (name_len > 0 && (line[name_len - 1] == ' ' || line[name_len - 1] == '\t'))
		name_len--;
	if (ascii_ieq_mem(line, name_len, stamp_header, strlen(stamp_header)))
		return; /* the milter takes it off before it asks */
	x->facts.n_headers++;
	x->fact_headers = mem_array(x->fact_headers, x->facts.n_headers, sizeof(*x->fact_headers));
	struct fact_header *h = &x->fact_headers[x->facts.n_headers - 1];
	h->name = pool_strndup(x->pool, line, name_len);
	h->name_len = name_len;
	h->value_len = len - (size_t)(colon + 1 - line);
	h->value = pool_strndup(x->pool, colon + 1, h->value_len);
	if (!x->message_id && ascii_ieq_mem(line, name_len, "Message-ID", 10))
		x->message_id = h->value;
	if (x->facts.size >= 0)
		x->facts.size += (int64_t)len + 2;
}

/* Where the line ends that begins here, folded lines included: at its last CRLF. */
static const char *header_end(const char *p, const char *end)
{
	const char *eol;

	for (const char *at = p; (eol = memchr(at, '\n', (size_t)(end - at))) != NULL; at = eol + 1)
		if (eol + 1 == end || (eol[1] != ' ' && eol[1] != '\t'))
			return eol - 1;
	return end;
}

/* Header lines up to the empty line; what is no header line ends the header too. Returns where the body begins. */
static const char *take_headers(struct explain *x, const struct str *message, const char *stamp_header)
{
	const char *p = message->data, *end = p + message->len;

	if (message->len >= 5 && memcmp(p, "From ", 5) == 0) { /* as in an mbox */
		const char *eol = header_end(p, end);
		p = eol + 2 <= end ? eol + 2 : end;
	}
	while (p < end) {
		const char *eol = header_end(p, end);

		if (eol == p)
			return eol + 2 <= end ? eol + 2 : end;
		if (!memchr(p, ':', (size_t)(eol - p)))
			return p;
		add_header(x, p, (size_t)(eol - p), stamp_header);
		p = eol + 2 <= end ? eol + 2 : end;
	}
	return end;
}

static void take_body(struct explain *x, const char *begin, size_t len)
{
	uint64_t limit = conf_process(policy_conf(x->policy))->milter_body_limit;

	str_add_mem(&x->body, begin, len < limit ? len : (size_t)limit);
	x->facts.body = x->body.len ? x->body.data : "";
	x->facts.body_len = x->body.len;
}

static bool from_message(struct explain *x, const char *stamp_header, struct error *err)
{
	struct str message;

	str_init(&message);
	bool ok = read_file(x->message_file, &message, err);
	if (ok && message.len > 0) {
		to_crlf(&message);
		x->facts.size = 0;
		const char *body = take_headers(x, &message, stamp_header);
		size_t len = message.len - (size_t)(body - message.data);
		x->facts.size += 2 + (int64_t)len;
		take_body(x, body, len);
	}
	str_free(&message);
	return ok;
}

static bool from_body_file(struct explain *x, struct error *err)
{
	struct str body;

	str_init(&body);
	bool ok = read_file(x->body_file, &body, err);
	if (ok) {
		to_crlf(&body);
		take_body(x, body.data ? body.data : "", body.len);
	}
	str_free(&body);
	return ok;
}

static bool given_headers(struct explain *x, const char *stamp_header, struct error *err)
{
	for (size_t i = 0; i < x->n_headers; i++) {
		const char *colon = strchr(x->headers[i], ':');

		if (!colon || colon == x->headers[i])
			return error_set(err, "--header: \"%s\" is not \"Name: value\"", x->headers[i]);
		add_header(x, x->headers[i], strlen(x->headers[i]), stamp_header);
	}
	return true;
}

static bool number(const char *option, const char *text, long long max, long long *out, struct error *err)
{
	char *end;

	errno = 0;
	*out = strtoll(text, &end, 10);
	if (errno || *end || end == text || *out < 0 || *out > max)
		return error_set(err, "%s: \"%s\" is not a number from 0 to %lld", option, text, max);
	return true;
}

static bool given_facts(struct explain *x, struct error *err)
{
	struct facts *f = &x->facts;
	struct addr recv;
	long long n;

	*f = (struct facts){.mailfrom = x->from,
	        .sender_host = x->client_name,
	        .helo = x->helo,
	        .auth_user = x->auth,
	        .recv_ip = x->recv_ip,
	        .daemon_name = x->daemon_name,
	        .recv_port = -1,
	        .size = -1};
	if (!explain_address(x->from, err))
		return error_set(err, "--from: \"%s\" is not an address", x->from);
	if (x->client && !addr_parse(x->client, &x->client_addr, err))
		return error_at(err, "--client");
	if (x->recv_ip && !addr_parse(x->recv_ip, &recv, err))
		return error_at(err, "--recv-ip");
	f->sender_ip = x->client ? &x->client_addr : NULL;
	if (x->recv_port) {
		if (!number("--recv-port", x->recv_port, 65535, &n, err))
			return false;
		f->recv_port = (int)n;
	}
	return !x->id || id_parse(x->id, &x->queue_id) ||
	       error_set(err, "--id: \"%s\" is not a message id (16 hexadecimal digits)", x->id);
}

bool explain_facts(struct explain *x, struct error *err)
{
	const char *stamp_header = conf_process(policy_conf(x->policy))->stamp_header;
	long long size;

	if (!given_facts(x, err) || (x->message_file && !from_message(x, stamp_header, err)) ||
	        !given_headers(x, stamp_header, err) || (x->body_file && !from_body_file(x, err)))
		return false;
	x->facts.headers = x->fact_headers;
	if (!x->size)
		return true;
	if (!number("--size", x->size, INT64_MAX, &size, err))
		return false;
	x->facts.size = size;
	return true;
}
