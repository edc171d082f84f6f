#include "config.h"
#include "t/lib/handoff_rig.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

const char rig_bindpost_json[] = "{\"hostname\": \"mta1.example.net\","
                                 " \"handoff\": {\"max_message_size\": \"1MB\", \"max_recipients\": 20}}";
const char rig_policy_json[] =
        "{\"bindings\": {\"default\": {\"bind_address\": \"192.0.2.1\"},"
        " \"acme\": {\"bind_address\": \"192.0.2.20\", \"match_domain\": [\"acme.example\"]},"
        " \"beta\": {\"bind_address\": \"192.0.2.30\"}},"
        " \"binding_groups\": {\"shared\": {\"bindings\": {\"s1\": {\"bind_address\": \"192.0.2.31\"},"
        " \"s2\": {\"bind_address\": \"192.0.2.32\"}}}}}";

static void on_event(void *ctx, const char *line)
{
	struct rig *rig = ctx;

	str_add(&rig->event_lines, line);
	str_add_char(&rig->event_lines, '\n');
}

static struct policy *load(const char *bindpost_json, const char *policy_json)
{
	struct errors errors = {0};
	struct conf *conf = conf_load_text(bindpost_json ? bindpost_json : rig_bindpost_json,
	        policy_json ? policy_json : rig_policy_json, &errors);
	struct policy *policy = conf ? policy_new(conf, &errors) : NULL;

	for (size_t i = 0; i < errors.n && !policy; i++)
		fprintf(stderr, "# %s\n", errors.items[i].text);
	errors_free(&errors);
	return policy;
}

bool rig_configure(
        struct rig *rig, const char *bindpost_json, const char *policy_json, struct stamp_keys *takes)
{
	struct policy *policy = load(bindpost_json, policy_json);

	if (!policy)
		return false;
	policy_cell_set(rig->shared.policy, policy, takes);
	return true;
}

bool rig_take(struct rig *rig, const char *policy_json, struct stamp_keys *takes)
{
	struct policy *policy = load(NULL, policy_json);

	if (!policy)
		return false;
	policy_cell_take(rig->shared.policy, policy, takes);
	return true;
}

void rig_init(struct rig *rig, const char *bindpost_json, const char *policy_json)
{
	struct policy *policy = load(bindpost_json, policy_json);
	struct error error;

	if (!policy)
		abort();
	memset(rig, 0, sizeof(*rig));
	fake_clock_init(&rig->clock, 1763654400 * SECOND_US);
	rig->loop = loop_new("test", &rig->clock.clock);
	fake_spool_init(&rig->spool, rig->loop);
	rig->metrics = metrics_new();
	rig->events = event_log_open("/dev/null", &rig->clock.clock, rig->metrics, false, &error);
	if (!rig->events)
		abort();
	str_init(&rig->event_lines);
	event_log_tap(rig->events, on_event, rig);
	rig->shared.spool = &rig->spool;
	rig->shared.policy = policy_cell_new(policy, NULL);
	rig->shared.events = rig->events;
	rig->shared.metrics = rig->metrics;
	rig->shared.queue_loop = rig->loop;
	rig->shared.enqueue = fake_spool_enqueue;
	rig->shared.queue = &rig->spool;
	rig->handoff = handoff_new(&rig->shared, rig->loop);
}

void rig_free(struct rig *rig)
{
	handoff_free(&rig->handoff);
	rig->spool.hold_adds = rig->spool.hold_bodies = false;
	fake_spool_release(&rig->spool);
	rig_settle(rig);
	assert(rig->shared.sessions == 0);
	assert(rig->shared.captured == 0);
	fake_spool_close(&rig->spool);
	policy_cell_free(&rig->shared.policy);
	event_log_close(&rig->events);
	metrics_free(&rig->metrics);
	loop_free(&rig->loop);
	str_free(&rig->event_lines);
}

void rig_settle(struct rig *rig)
{
	while (loop_step(rig->loop))
		;
}

void rig_connect_from(struct rig *rig, struct rig_client *client, const char *ip)
{
	struct sockaddr_storage peer = {.ss_family = AF_UNIX};
	struct addr addr;
	int fds[2];

	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, fds) < 0)
		abort();
	if (ip[0]) {
		if (!addr_parse(ip, &addr, NULL))
			abort();
		addr_to_sockaddr(&addr, &peer);
	}
	*client = (struct rig_client){.fd = fds[0]};
	str_init(&client->said);
	handoff_accept(rig->handoff, fds[1], (struct sockaddr *)&peer);
	rig_read(rig, client);
}

void rig_connect(struct rig *rig, struct rig_client *client)
{
	rig_connect_from(rig, client, "");
}

void rig_read(struct rig *rig, struct rig_client *client)
{
	char buffer[16384];

	for (;;) {
		ssize_t n;

		rig_settle(rig);
		if (client->closed || client->fd < 0)
			return;
		n = recv(client->fd, buffer, sizeof(buffer), 0);
		if (n < 0 && errno == EAGAIN)
			return;
		if (n <= 0) {
			client->closed = true;
			return;
		}
		str_add_mem(&client->said, buffer, (size_t)n);
	}
}

void rig_send(struct rig *rig, struct rig_client *client, const void *bytes, size_t len)
{
	const char *p = bytes;
	int stuck = 0;

	while (len) {
		ssize_t n = send(client->fd, p, len, MSG_NOSIGNAL);

		if (n > 0) {
			p += n;
			len -= (size_t)n;
			stuck = 0;
		} else if (n < 0 && errno != EAGAIN) {
			break;
		} else if (++stuck > 2) {
			break; /* it does not read just now */
		}
		rig_read(rig, client);
	}
	rig_read(rig, client);
}

void rig_say(struct rig *rig, struct rig_client *client, const char *text)
{
	rig_send(rig, client, text, strlen(text));
}

void rig_hang_up(struct rig *rig, struct rig_client *client)
{
	if (client->fd >= 0)
		close(client->fd);
	client->fd = -1;
	rig_settle(rig);
	str_free(&client->said);
}

void rig_advance(struct rig *rig, uint64_t seconds)
{
	for (uint64_t i = 0; i < seconds * 10; i++) {
		fake_clock_advance(&rig->clock, SECOND_US / 10);
		rig_settle(rig);
	}
}

void rig_replies(const struct rig_client *client, struct str *out)
{
	const char *p = client->said.data, *end = p + client->said.len;

	while (p < end) {
		const char *lf = memchr(p, '\n', (size_t)(end - p));
		unsigned a, b, c;
		int used = 0;

		if (!lf || lf == p || lf[-1] != '\r') {
			str_add(out, "?");
			return;
		}
		if (lf - p > 4 && p[3] == '-') {
			p = lf + 1;
			continue;
		}
		if (out->len)
			str_add_char(out, '|');
		str_add_mem(out, p, 3);
		if (sscanf(p + 3, " %1u.%3u.%3u%n", &a, &b, &c, &used) == 3 && p[3 + used] == ' ')
			str_printf(out, " %u.%u.%u", a, b, c);
		p = lf + 1;
	}
}
