#include "t/lib/smtp_script.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "base/mem.h"
#include "t/lib/smtp_world.h"

#define WORDS_MAX 64
#define DEFAULT_BODY "From: a@acme.test\r\nSubject: hello\r\n\r\nHello\r\n"

struct script {
	struct world *world;
	struct error *err;
	/* the line being run */
	char *line;
	const char *words[WORDS_MAX];
	unsigned n;
};

typedef bool step_fn(struct script *);

/* --- words ------------------------------------------------------------------------------------------ */

/* The byte that the escape at *in stands for; *in is left at its last character. */
static char escaped(char **in)
{
	char hex[3] = "";
	char c = *++*in;

	if (c != 'x' || strspn(*in + 1, "0123456789abcdef") < 2)
		return c == 'r' ? '\r' : c == 'n' ? '\n' : c;
	memcpy(hex, *in + 1, 2);
	*in += 2;
	return (char)strtoul(hex, NULL, 16);
}

/* Takes one word from *p, in place; quotes may stand anywhere in it. */
static char *word_next(char **p)
{
	char *in = *p + strspn(*p, " \t");
	char *word = in, *out = in;
	bool quoted = false;

	if (*in == '\0')
		return NULL;
	for (; *in != '\0' && (quoted || (*in != ' ' && *in != '\t')); in++) {
		if (*in == '"') {
			quoted = !quoted;
		} else if (quoted && *in == '\\' && in[1] != '\0') {
			*out++ = escaped(&in);
		} else {
			*out++ = *in;
		}
	}
	*p = *in != '\0' ? in + 1 : in;
	*out = '\0';
	return word;
}

static bool words_split(struct script *s, char *copy)
{
	char *word;

	s->n = 0;
	while ((word = word_next(&copy))) {
		if (s->n == WORDS_MAX)
			return error_set(s->err, "too many words");
		s->words[s->n++] = word;
	}
	return true;
}

/* The value of "key=value" among the words; NULL if there is none. */
static const char *option(const struct script *s, const char *key)
{
	size_t len = strlen(key);
	unsigned i;

	for (i = 1; i < s->n; i++) {
		if (strncmp(s->words[i], key, len) == 0 && s->words[i][len] == '=')
			return s->words[i] + len + 1;
	}
	return NULL;
}

static bool flag(const struct script *s, const char *name)
{
	unsigned i;

	for (i = 1; i < s->n; i++) {
		if (strcmp(s->words[i], name) == 0)
			return true;
	}
	return false;
}

/* What stands behind the first `words` words of the line, as it is. */
static const char *rest_of_line(const struct script *s, unsigned words)
{
	const char *p = s->line;

	for (; words > 0; words--) {
		p += strspn(p, " \t");
		p += strcspn(p, " \t");
	}
	return p + strspn(p, " \t");
}

static bool parse_duration(const char *text, uint64_t *us)
{
	static const struct {
		char unit;
		uint64_t seconds;
	} units[] = {{'s', 1}, {'m', 60}, {'h', 3600}, {'d', 86400}};
	char *end;
	uint64_t n = strtoull(text, &end, 10);
	size_t i;

	for (i = 0; i < array_len(units); i++) {
		if (end > text && *end == units[i].unit && end[1] == '\0') {
			*us = n * units[i].seconds * SECOND_US;
			return true;
		}
	}
	return false;
}

/* --- steps: the surroundings ------------------------------------------------------------------------- */

static bool ready(struct script *s)
{
	return world_start(s->world, s->err);
}

static bool step_mx(struct script *s)
{
	if (s->n == 4)
		world_host(s->world, s->words[3], true);
	return world_dns(s->world, s->line, s->err);
}

static bool step_dns(struct script *s)
{
	return world_dns(s->world, s->line, s->err);
}

static bool step_set(struct script *s)
{
	if (s->n < 3)
		return error_set(s->err, "set PATH JSON");
	return world_set(s->world, s->words[1], rest_of_line(s, 2), s->err);
}

static bool step_reload(struct script *s)
{
	return ready(s) && world_reload(s->world, s->err);
}

static bool step_file(struct script *s)
{
	if (s->n != 4)
		return error_set(s->err, "file NAME MODE TEXT");
	return world_file(
	        s->world, s->words[1], (unsigned)strtoul(s->words[2], NULL, 8), s->words[3], s->err);
}

static bool step_restart(struct script *s)
{
	return ready(s) && world_restart(s->world, s->err);
}

static bool step_source(struct script *s)
{
	struct addr a;

	if (s->n != 3 || !addr_parse(s->words[1], &a, s->err))
		return error_at(s->err, "source ADDR on|off");
	local_addrs_fake_set(s->world->local, &a, strcmp(s->words[2], "on") == 0);
	return true;
}

/* --- steps: what happens -------------------------------------------------------------------------------- */

static char *make_text(const struct script *s, size_t *len)
{
	const char *body = option(s, "body"), *size = option(s, "size");
	struct str text;
	unsigned line = 0;

	str_init(&text);
	str_add(&text, body ? body : DEFAULT_BODY);
	while (size && text.len < strtoull(size, NULL, 10))
		str_printf(&text, "%08u a line of a message that is long enough for the size it has\r\n",
		        line++);
	*len = text.len;
	return str_steal(&text);
}

static bool header_is_8bit(const char *text)
{
	const char *end = strstr(text, "\r\n\r\n");

	return (message_text_flags(text, end ? (size_t)(end - text) : strlen(text)) & MESSAGE_8BIT) != 0;
}

/* RFC 3461 and XFORWARD */
static void set_envelope(const struct script *s, struct world_message *m)
{
	const char *ret = option(s, "ret"), *notify = option(s, "notify"), *orcpt = option(s, "orcpt");
	const char *client = option(s, "client");

	m->ret = !ret ? RET_NONE : strcmp(ret, "full") == 0 ? RET_FULL : RET_HDRS;
	m->envid = option(s, "envid");
	if (notify)
		m->notify = (strstr(notify, "never") ? NOTIFY_NEVER : 0) |
		            (strstr(notify, "success") ? NOTIFY_SUCCESS : 0) |
		            (strstr(notify, "failure") ? NOTIFY_FAILURE : 0) |
		            (strstr(notify, "delay") ? NOTIFY_DELAY : 0);
	if (orcpt && strcmp(orcpt, "same") == 0)
		m->notify |= NOTIFY_ORCPT_SAME;
	else
		m->orcpt = orcpt;
	m->client_name = option(s, "name");
	m->client_helo = option(s, "helo");
	m->client_proto = option(s, "proto");
	if (client)
		addr_parse(client, &m->client_addr, NULL);
}

static bool step_send(struct script *s)
{
	const char *to = option(s, "to"), *from = option(s, "from"), *binding = option(s, "binding");
	const char *times = option(s, "times");
	struct world_message m = {
	        .binding = binding ? binding : "acme", .sender = from ? from : "a@acme.test"};
	unsigned i, n = times ? (unsigned)atoi(times) : 1;
	char *recipients, *text, *p;

	if (!to)
		return error_set(s->err, "send: to= is missing");
	if (!ready(s))
		return false;
	recipients = mem_strdup(to);
	for (p = recipients; *p; p++) {
		if (*p == ',')
			*p = ' ';
	}
	text = make_text(s, &m.body_len);
	m.body = text;
	m.recipients = recipients;
	set_envelope(s, &m);
	m.flags = (flag(s, "8bit") ? MESSAGE_8BIT | MESSAGE_BODY_8BITMIME : 0) |
	          (flag(s, "requiretls") ? MESSAGE_REQUIRETLS : 0) |
	          (flag(s, "tls_optional") ? MESSAGE_TLS_OPTIONAL : 0) |
	          (flag(s, "utf8") ? MESSAGE_SMTPUTF8 : 0) |
	          (flag(s, "utf8") && header_is_8bit(text) ? MESSAGE_UTF8_HEADER : 0) |
	          (*text == '.' || strstr(text, "\n.") ? MESSAGE_DOT_LINES : 0);
	for (i = 0; i < n; i++) {
		if (world_send(s->world, &m) == 0)
			break;
	}
	mem_free(&recipients);
	mem_free(&text);
	return i == n || error_set(s->err, "the spool did not take it");
}

static bool step_advance(struct script *s)
{
	uint64_t us;

	if (s->n != 2 || !parse_duration(s->words[1], &us))
		return error_set(s->err, "advance 90s|15m|2h|5d");
	if (!ready(s))
		return false;
	world_advance(s->world, us);
	return true;
}

/* --- steps: what must have come of it ---------------------------------------------------------------------- */

static const char *const event_words[][2] = {
        {"delivered", "delivery"},
        {"deferred", "deferral"},
        {"bounced", "bounce"},
        {"expired", "expiration"},
};
static const char *const key_words[][2] = {
        {"to", "recipient"},
        {"from", "sender"},
        {"dsn", "enhanced"},
};

static const char *translate(const char *const (*table)[2], size_t n, const char *word)
{
	size_t i;

	for (i = 0; i < n; i++) {
		if (strcmp(table[i][0], word) == 0)
			return table[i][1];
	}
	return word;
}

static const char *event_name(const json_t *event)
{
	const char *name = json_string_value(json_object_get(event, "event"));

	return name ? name : "";
}

/* Text of an event's value; numbers are printed. */
static const char *value_text(const json_t *value, char *buf, size_t size)
{
	if (!value)
		return NULL;
	if (json_is_string(value))
		return json_string_value(value);
	if (json_is_boolean(value))
		return json_is_true(value) ? "true" : "false";
	if (json_is_integer(value))
		snprintf(buf, size, "%lld", (long long)json_integer_value(value));
	else
		snprintf(buf, size, "%g", json_number_value(value));
	return buf;
}

/* "tls.version": a key within an object. */
static const json_t *json_at(const json_t *json, const char *path)
{
	const char *dot = strchr(path, '.');
	char *key;

	if (!dot)
		return json_object_get(json, translate(key_words, array_len(key_words), path));
	key = mem_strndup(path, (size_t)(dot - path));
	json = json_object_get(json, key);
	mem_free(&key);
	return json_at(json, dot + 1);
}

/* One condition: key=value, key~part, key= (must be absent). */
static bool condition_holds(const json_t *event, const char *condition)
{
	size_t len = strcspn(condition, "=~");
	char *key = mem_strndup(condition, len);
	const char *wanted = condition[len] != '\0' ? condition + len + 1 : "";
	char buf[64];
	const char *is = value_text(json_at(event, key), buf, sizeof(buf));

	mem_free(&key);
	if (condition[len] == '~')
		return is && strstr(is, wanted);
	return is ? strcmp(is, wanted) == 0 : *wanted == '\0';
}

static bool event_fits(const struct script *s, const json_t *event, const char *type)
{
	unsigned i;

	if (strcmp(event_name(event), type) != 0)
		return false;
	for (i = 2; i < s->n; i++) {
		if (!condition_holds(event, s->words[i]))
			return false;
	}
	return true;
}

/* What is not worth a word in a script; the delivery of a report is known by its `dsn` event. */
static bool is_routine(const json_t *event)
{
	const char *name = event_name(event);
	const char *binding = json_string_value(json_object_get(event, "binding"));

	if (binding && *binding == ':' && strcmp(name, "delivery") == 0)
		return true;
	return strcmp(name, "reception") == 0 || strcmp(name, "start") == 0 || strcmp(name, "stop") == 0;
}

/* The events not yet expected, for the message of a failure. */
static void print_unseen(const struct world *w, struct str *out)
{
	unsigned i;
	char *text;

	for (i = 0; i < w->n_log; i++) {
		if (w->log[i].seen || is_routine(w->log[i].json))
			continue;
		text = json_dumps(w->log[i].json, JSON_COMPACT);
		str_printf(out, "\n#   %s", text);
		free(text);
	}
	if (out->len == 0)
		str_add(out, " none");
}

static bool unseen_error(struct script *s, const char *what)
{
	struct str text;

	str_init(&text);
	print_unseen(s->world, &text);
	error_set(s->err, "%s; events not yet expected:%s", what, text.data);
	str_free(&text);
	return false;
}

static bool expect_nothing(struct script *s)
{
	unsigned i;

	for (i = 0; i < s->world->n_log; i++) {
		if (!s->world->log[i].seen && !is_routine(s->world->log[i].json))
			return unseen_error(s, "something happened");
	}
	return true;
}

static bool expect_counts(struct script *s)
{
	json_t *summary = world_summary(s->world);
	unsigned i;
	bool ok = true;
	char *text;

	for (i = 1; i < s->n && ok; i++)
		ok = condition_holds(summary, s->words[i]);
	if (!ok) {
		text = json_dumps(summary, JSON_COMPACT);
		error_set(s->err, "%s does not hold: %s", s->words[i - 1], text);
		free(text);
	}
	json_decref(summary);
	return ok;
}

static bool step_expect(struct script *s)
{
	const char *type;
	unsigned i;

	if (s->n < 2)
		return error_set(s->err, "expect what?");
	if (!ready(s))
		return false;
	if (strcmp(s->words[1], "nothing") == 0)
		return expect_nothing(s);
	if (strchr(s->words[1], '='))
		return expect_counts(s);
	type = translate(event_words, array_len(event_words), s->words[1]);
	for (i = 0; i < s->world->n_log; i++) {
		struct world_event *e = &s->world->log[i];

		if (!e->seen && event_fits(s, e->json, type)) {
			e->seen = true;
			return true;
		}
	}
	return unseen_error(s, "no such event");
}

/* Events of this kind so far need not be expected one by one. */
static bool step_ignore(struct script *s)
{
	const char *type;
	unsigned i;

	if (s->n != 2)
		return error_set(s->err, "ignore EVENT");
	type = translate(event_words, array_len(event_words), s->words[1]);
	for (i = 0; i < s->world->n_log; i++) {
		if (strcmp(event_name(s->world->log[i].json), type) == 0)
			s->world->log[i].seen = true;
	}
	return true;
}

/* --- steps: an MX host ------------------------------------------------------------------------------------- */

static const char *mail_value(const struct scripted_mail *m, const char *key)
{
	if (strcmp(key, "source") == 0)
		return m->source;
	if (strcmp(key, "hello") == 0)
		return m->hello;
	if (strcmp(key, "sender") == 0)
		return m->sender;
	if (strcmp(key, "recipients") == 0)
		return m->recipients;
	if (strcmp(key, "params") == 0)
		return m->params;
	if (strcmp(key, "body") == 0)
		return m->body;
	return NULL;
}

static bool host_mail(struct script *s, const struct scripted_mx *mx)
{
	unsigned i = s->n > 2 ? (unsigned)atoi(s->words[2]) : 0;
	const char *is;

	if (s->n != 5)
		return error_set(s->err, "HOST mail I KEY VALUE");
	if (i >= scripted_mx_n_mails(mx))
		return error_set(s->err, "it got %u messages only", scripted_mx_n_mails(mx));
	is = mail_value(scripted_mx_mail(mx, i), s->words[3]);
	if (!is)
		return error_set(s->err, "no such key: %s", s->words[3]);
	if (*s->words[4] == '~')
		return strstr(is, s->words[4] + 1) || error_set(s->err, "is \"%s\"", is);
	if (*s->words[4] == '!')
		return !strstr(is, s->words[4] + 1) || error_set(s->err, "is \"%s\"", is);
	return strcmp(is, s->words[4]) == 0 || error_set(s->err, "is \"%s\"", is);
}

static bool host_saw(struct script *s, const struct scripted_mx *mx)
{
	bool not = s->n > 2 && strcmp(s->words[2], "not") == 0;
	const char *text = rest_of_line(s, not ? 3 : 2);
	bool found = strstr(scripted_mx_log(mx), text) != NULL;

	return found != not || error_set(s->err, "it saw: %s", scripted_mx_log(mx));
}

static bool host_number(struct script *s, const struct scripted_mx *mx)
{
	static const struct {
		const char *word;
		unsigned (*get)(const struct scripted_mx *);
	} numbers[] = {{"got", scripted_mx_n_mails}, {"connections", scripted_mx_connections},
	        {"open", scripted_mx_open}, {"most", scripted_mx_most}};
	size_t i;

	for (i = 0; i < array_len(numbers) && s->n == 3; i++) {
		if (strcmp(numbers[i].word, s->words[1]) == 0) {
			unsigned is = numbers[i].get(mx);

			return is == (unsigned)atoi(s->words[2]) ||
			       error_set(s->err, "%s is %u", s->words[1], is);
		}
	}
	return error_set(s->err, "not understood");
}

static bool step_host(struct script *s, struct scripted_mx *mx)
{
	const char *what = s->n > 1 ? s->words[1] : "";

	if (strcmp(what, "forget") == 0) {
		scripted_mx_forget(mx);
		return true;
	}
	if (strcmp(what, "mail") == 0)
		return host_mail(s, mx);
	if (strcmp(what, "tls") == 0) {
		world_host_tls(s->world, mx, s->n > 2 ? s->words[2] : s->words[0]);
		return true;
	}
	if (strcmp(what, "tlsa") == 0)
		return world_host_tlsa(s->world, s->words[0], s->n > 2 ? s->words[2] : "", s->n > 3, s->err);
	if (strcmp(what, "saw") == 0)
		return host_saw(s, mx);
	if (strcmp(what, "log") == 0)
		return strcmp(scripted_mx_log(mx), rest_of_line(s, 2)) == 0 ||
		       error_set(s->err, "it is: %s", scripted_mx_log(mx));
	if (*what >= 'A' && *what <= 'Z')
		return scripted_mx_line(mx, rest_of_line(s, 1)) || error_set(s->err, "POINT: ACTION...");
	return host_number(s, mx);
}

/* --- lines ----------------------------------------------------------------------------------------------------- */

static const struct {
	const char *word;
	step_fn *step;
} steps[] = {
        {"mx", step_mx},
        {"addr", step_dns},
        {"nodata", step_dns},
        {"nxdomain", step_dns},
        {"servfail", step_dns},
        {"silent", step_dns},
        {"delay", step_dns},
        {"ttl", step_dns},
        {"answer", step_dns},
        {"forget", step_dns},
        {"secure", step_dns},
        {"cname", step_dns},
        {"tlsa", step_dns},
        {"set", step_set},
        {"file", step_file},
        {"reload", step_reload},
        {"restart", step_restart},
        {"source", step_source},
        {"send", step_send},
        {"advance", step_advance},
        {"expect", step_expect},
        {"ignore", step_ignore},
};

static bool run_words(struct script *s)
{
	struct scripted_mx *mx;
	size_t i;

	for (i = 0; i < array_len(steps); i++) {
		if (strcmp(steps[i].word, s->words[0]) == 0)
			return steps[i].step(s);
	}
	mx = world_host(s->world, s->words[0], false);
	return mx ? step_host(s, mx) : error_set(s->err, "unknown word or host: %s", s->words[0]);
}

static bool run_line(struct script *s, char *line)
{
	char *copy;
	bool ok = true;

	line += strspn(line, " \t");
	if (*line == '\0' || *line == '#')
		return true;
	copy = mem_strdup(line);
	s->line = line;
	ok = words_split(s, copy);
	if (ok && s->n > 0)
		ok = run_words(s);
	if (ok && s->world->started)
		world_run(s->world);
	mem_free(&copy);
	return ok && (!s->world->spool_failed || error_set(s->err, "the spool has failed"));
}

static bool check_hosts(struct script *s)
{
	unsigned i;

	for (i = 0; i < s->world->n_hosts; i++) {
		const char *offence = scripted_mx_offence(s->world->hosts[i].mx);

		if (offence)
			return error_set(s->err, "%s saw: %s", s->world->hosts[i].name, offence);
	}
	return true;
}

static bool run_lines(struct script *s, char *text)
{
	unsigned number = 1, first;
	char *line = text, *end;

	while (*line != '\0') {
		first = number;
		end = line;
		for (;;) { /* up to a line end without '\' in front */
			end += strcspn(end, "\n");
			if (*end != '\0')
				number++;
			if (*end == '\0' || end == line || end[-1] != '\\')
				break;
			end[-1] = ' ';
			*end = ' ';
		}
		if (*end != '\0')
			*end++ = '\0';
		if (!run_line(s, line))
			return error_at(s->err, "line %u: %s", first, line);
		line = end;
	}
	return (expect_nothing(s) && check_hosts(s)) || error_at(s->err, "at the end");
}

bool smtp_script_run(const char *name, const char *text, struct error *err)
{
	struct script s = {.world = world_new(), .err = err};
	char *copy = mem_strdup(text);
	bool ok = run_lines(&s, copy);

	if (!ok)
		error_at(err, "%s", name);
	mem_free(&copy);
	world_free(&s.world);
	return ok;
}
