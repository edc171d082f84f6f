/*
 * A connection is used again if, and only if, all is the same that may tell two messages' connections apart: binding and
 * source, EHLO name, TLS demand, credentials, XCLIENT data, connection options. Random configurations and messages; what
 * counts is what the receiver saw.
 */
#include "t/lib/test.h"

#include <stdio.h>
#include <string.h>
#include "base/mem.h"
#include "t/lib/smtp_world.h"

#define DOMAINS 4
#define ROUNDS 16
#define PAIRS 8
#define MANY 60

struct options { /* of a domain */
	const char *ehlo, *tls, *auth_type, *auth_user, *xclient, *timeout;
};

struct letter {
	unsigned domain;
	const char *binding, *sender_domain, *client;
	uint32_t flags;
};

static const char *one_of(struct rnd *rnd, const char *const *list, size_t n)
{
	return list[rnd_below(rnd, n)];
}
#define ONE_OF(rnd, ...)                                                                                     \
	one_of(rnd, (const char *const[]){__VA_ARGS__},                                                      \
	        sizeof((const char *const[]){__VA_ARGS__}) / sizeof(char *))

static struct options random_options(struct rnd *rnd)
{
	struct options o = {
	        .ehlo = ONE_OF(rnd, "", "", "x.test", "__message__"),
	        .tls = ONE_OF(rnd, "no", "ifavailable"),
	        .auth_type = ONE_OF(rnd, "none", "none", "plain", "login"),
	        .auth_user = ONE_OF(rnd, "u1", "u2"),
	        .xclient = ONE_OF(rnd, "no", "no", "ifavailable"),
	        .timeout = ONE_OF(rnd, "300", "300", "200"),
	};
	return o;
}

static void set(struct world *w, unsigned domain, const char *option, const char *value)
{
	static const char *const bindings[] = {"acme", "beta"};
	char path[100], json[80];
	struct error err;

	snprintf(json, sizeof(json), "\"%s\"", value);
	for (size_t i = 0; i < array_len(bindings); i++) {
		snprintf(path, sizeof(path), "bindings/%s/domains/d%u.test/%s", bindings[i], domain, option);
		if (!world_set(w, path, json, &err))
			fail_msg("%s", err.text);
	}
}

static void configure(struct world *w, struct rnd *rnd, struct options all[DOMAINS])
{
	struct error err;
	unsigned i;

	for (i = 0; i < DOMAINS; i++) {
		struct options *o = &all[i];

		*o = i > 0 && rnd_below(rnd, 2) ? all[0] : random_options(rnd); /* twins are common */
		if (*o->ehlo)
			set(w, i, "ehlo_hostname", o->ehlo);
		set(w, i, "tls", o->tls);
		set(w, i, "outbound_smtp_auth_type", o->auth_type);
		set(w, i, "outbound_smtp_auth_user", o->auth_user);
		set(w, i, "outbound_smtp_auth_pass", "p");
		set(w, i, "xclient", o->xclient);
		set(w, i, "mailfrom_timeout", o->timeout);
	}
	if (!world_set(w, "global/outbound_smtp_auth_clear", "true", &err) ||
	        !world_set(w, "global/idle_timeout", "\"30s\"", &err) ||
	        !world_set(w, "global/eight_bit", "\"send\"", &err) || !world_start(w, &err))
		fail_msg("%s", err.text);
}

static struct letter random_letter(struct rnd *rnd)
{
	struct letter l = {
	        .domain = (unsigned)rnd_below(rnd, DOMAINS),
	        .binding = ONE_OF(rnd, "acme", "acme", "beta"),
	        .sender_domain = ONE_OF(rnd, "one.test", "two.test"),
	        .client = ONE_OF(rnd, "192.0.2.1", "192.0.2.2"),
	        .flags = rnd_below(rnd, 4) == 0 ? MESSAGE_TLS_OPTIONAL : 0,
	};
	return l;
}

/* Written down by itself, not by the code under test. */
static char *key_of(const struct letter *l, const struct options *o)
{
	bool says_message = strcmp(o->ehlo, "__message__") == 0;
	bool tls = strcmp(o->tls, "no") != 0;

	return mem_printf("%s|%s %s|%s%s|%s %s|%s %s|%s", l->binding, o->ehlo,
	        says_message ? l->sender_domain : "", o->tls, tls && l->flags ? " optional" : "",
	        o->auth_type, o->auth_user, o->xclient, strcmp(o->xclient, "no") != 0 ? l->client : "",
	        o->timeout);
}

static void send_one(struct world *w, const struct letter *l, unsigned number)
{
	static const char body[] = "From: a@one.test\r\n\r\nHello\r\n";
	char sender[40], recipient[40];
	struct world_message m = {.binding = l->binding,
	        .sender = sender,
	        .recipients = recipient,
	        .body = body,
	        .body_len = strlen(body),
	        .flags = l->flags};

	snprintf(sender, sizeof(sender), "a@%s", l->sender_domain);
	snprintf(recipient, sizeof(recipient), "%u@d%u.test", number, l->domain);
	assert_true(addr_parse(l->client, &m.client_addr, NULL));
	assert_true(world_send(w, &m) != 0);
}

/* Of two messages one after the other the second goes over the first one's connection iff their keys are the same. */
static void check_pairs(struct world *w, struct scripted_mx *mx, struct rnd *rnd, const struct options *all)
{
	unsigned i;

	for (i = 0; i < PAIRS; i++) {
		struct letter a = random_letter(rnd), b = random_letter(rnd);
		char *key_a = key_of(&a, &all[a.domain]), *key_b = key_of(&b, &all[b.domain]);
		unsigned connections, mails = scripted_mx_n_mails(mx);
		bool again;

		send_one(w, &a, 1);
		world_run(w);
		connections = scripted_mx_connections(mx);
		send_one(w, &b, 2);
		world_run(w);
		assert_int_equal(scripted_mx_n_mails(mx), mails + 2);
		again = scripted_mx_connections(mx) == connections;
		if (again != (strcmp(key_a, key_b) == 0))
			fail_msg("%s, %s: %s", key_a, key_b, again ? "shared" : "not shared");
		mem_free(&key_a);
		mem_free(&key_b);
		world_advance(w, 60 * SECOND_US);
		assert_int_equal(scripted_mx_open(mx), 0);
	}
}

/* Many at once, with too few connections: what came over one connection was always of one key. */
static void check_many(struct world *w, struct scripted_mx *mx, struct rnd *rnd, const struct options *all)
{
	char *keys[MANY], **of_connection;
	unsigned i, first = scripted_mx_n_mails(mx), n_connections;

	for (i = 0; i < MANY; i++) {
		struct letter l = random_letter(rnd);

		keys[i] = key_of(&l, &all[l.domain]);
		send_one(w, &l, i);
		if (rnd_below(rnd, 8) == 0)
			world_run(w);
	}
	world_advance(w, 120 * SECOND_US);
	assert_int_equal(scripted_mx_n_mails(mx), first + MANY);
	n_connections = scripted_mx_connections(mx);
	of_connection = mem_zalloc((n_connections + 1) * sizeof(*of_connection));
	for (i = first; i < first + MANY; i++) {
		const struct scripted_mail *m = scripted_mx_mail(mx, i);
		char **at = &of_connection[m->connection];
		char *key = keys[atoi(m->recipients)];

		if (!*at)
			*at = key;
		if (strcmp(*at, key) != 0)
			fail_msg("connection %u: %s, %s", m->connection, *at, key);
		assert_string_equal(m->source, strncmp(key, "acme", 4) == 0 ? "127.0.0.21" : "127.0.0.22");
	}
	mem_free(&of_connection);
	for (i = 0; i < MANY; i++)
		mem_free(&keys[i]);
}

static void test_reuse(void **state)
{
	struct fake_rnd rnd;
	unsigned round, i;
	char line[80];

	(void)state;
	fake_rnd_init(&rnd, 20);
	for (round = 0; round < ROUNDS; round++) {
		struct world *w = world_new();
		struct options all[DOMAINS];
		struct scripted_mx *mx = world_host(w, "mx1", true);
		struct error err;

		for (i = 0; i < DOMAINS; i++) {
			snprintf(line, sizeof(line), "mx d%u.test 10 mx1", i);
			if (!world_dns(w, line, &err))
				fail_msg("%s", err.text);
		}
		world_host_tls(w, mx, "mx1");
		assert_true(
		        scripted_mx_line(mx, "EHLO: 250-mx1\\n250-PIPELINING\\n250-STARTTLS\\n250-AUTH PLAIN "
		                             "LOGIN\\n250 XCLIENT NAME ADDR"));
		assert_true(scripted_mx_line(mx, "AUTH PLAIN: 235 2.7.0 welcome"));
		assert_true(scripted_mx_line(mx, "AUTH LOGIN: 334 VXNlcm5hbWU6"));
		assert_true(scripted_mx_line(mx, "SASL: 334 UGFzc3dvcmQ6"));
		assert_true(scripted_mx_line(mx, "SASL cA==: 235 2.7.0 welcome"));
		assert_true(scripted_mx_line(mx, "XCLIENT: 220 once more"));
		configure(w, &rnd.rnd, all);
		check_pairs(w, mx, &rnd.rnd, all);
		check_many(w, mx, &rnd.rnd, all);
		assert_null(scripted_mx_offence(mx));
		world_free(&w);
	}
}

static const struct CMUnitTest tests[] = {cmocka_unit_test(test_reuse)};
TEST_MAIN("reuse_property", tests)
