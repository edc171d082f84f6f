/* Bindings suspended, changed by a reload, removed; the members of groups. */
#include "t/lib/queue_rig.h"
#include "t/lib/test.h"

static void test_suspended_and_resumed(void **state)
{
	(void)state;
	struct rig *rig = rig_new(
	        "{'bindings': {'acme': {'bind_address': '192.0.2.20', 'domains': "
	        "{'example.com': {'suspend_delivery': true}}}, 'default': {'bind_address': '192.0.2.1'}}}");
	rig_route(rig, "example.com", "10 203.0.113.1");
	rig_route(rig, "example.net", "10 203.0.113.1");
	rig_start(rig);
	rig_send_many(rig, "acme", "example.com", 3);
	rig_send_many(rig, "acme", "example.net", 2);
	rig_run(rig, 60 * SECOND_US);
	assert_int_equal(rig_mx(rig, "203.0.113.1")->jobs, 2);
	char *json = rig_ask(rig, QUEUE_SUMMARY, "", 0, 0, 0);
	assert_non_null(strstr(json, "\"held\":3"));
	mem_free(&json);
	rig_reload(rig, RIG_TWO_BINDINGS);
	rig_run(rig, SECOND_US);
	assert_int_equal(rig_mx(rig, "203.0.113.1")->jobs, 5);
	assert_int_equal(rig_count(rig, "deferral"), 0);
	rig_free(&rig);
}

static void test_default_binding_suspended(void **state)
{
	(void)state;
	struct rig *rig = rig_new("{'global': {'default_binding': 'suspended'}}");
	rig_route(rig, "example.com", "10 203.0.113.1");
	rig_start(rig);
	rig_send_many(rig, "default", "example.com", 3);
	rig_run(rig, 60 * SECOND_US);
	assert_int_equal(rig_mx(rig, "203.0.113.1")->connects, 0);
	rig_reload(rig, "{}");
	rig_run(rig, SECOND_US);
	assert_int_equal(rig_mx(rig, "203.0.113.1")->jobs, 3);
	rig_free(&rig);
}

/* After a reload no job goes out from the old address, whatever was open. */
static void test_reload_changes_source(void **state)
{
	(void)state;
	struct rig *rig = rig_new("{'bindings': {'acme': {'bind_address': '192.0.2.20'}, 'default': "
	                          "{'bind_address': '192.0.2.1'}}}");
	rig_route(rig, "example.com", "10 203.0.113.1");
	rig_start(rig);
	rig_send_many(rig, "acme", "example.com", 400);
	rig_run(rig, SECOND_US / 4);
	rig_reload(rig, "{'bindings': {'acme': {'bind_address': '192.0.2.21'}, 'default': {'bind_address': "
	                "'192.0.2.1'}}}");
	rig_run(rig, 11 * 1000); /* running jobs end */
	unsigned old = 0;
	for (unsigned i = 0; i < rig->n_log; i++)
		old += strcmp(rig->log[i].type, "delivery") == 0;
	rig_run(rig, 20 * SECOND_US);
	assert_int_equal(rig_open(rig), 0);
	for (unsigned i = 0, n = 0; i < rig->n_log; i++) {
		if (strcmp(rig->log[i].type, "delivery") == 0 && n++ >= old + 32)
			assert_string_equal(rig->log[i].source, "192.0.2.21");
	}
	rig_free(&rig);
}

#define WITHOUT_OTHER                                                                                        \
	"{'bindings': {'acme': {'bind_address': '192.0.2.20'}, 'default': {'bind_address': '192.0.2.1'}}}"

/* What the error says when it may not: the binding's name and the command that helps. */
static bool may_drop(struct rig *rig, const char *next_json, const char *named)
{
	struct errors errors = {0};
	struct policy *next = rig_policy(next_json);
	bool may = queue_may_drop(rig->queue, next, &errors);
	policy_unref(&next);
	assert_int_equal(errors.n_errors, may ? 0 : 1);
	if (!may && named) {
		char *command = mem_printf("bindpost drain %s --to", named);
		assert_non_null(strstr(errors.items[0].text, command));
		mem_free(&command);
	}
	errors_free(&errors);
	return may;
}

/* Between "take" and "drop" what goes works on as it was; mail that came meanwhile stops the drop. */
static void test_taken_but_not_dropped(void **state)
{
	(void)state;
	struct rig *rig = rig_new(RIG_TWO_BINDINGS);
	struct errors errors = {0};
	rig_route(rig, "example.com", "10 203.0.113.1");
	rig_start(rig);
	assert_true(may_drop(rig, WITHOUT_OTHER, NULL));
	queue_take(rig->queue, rig_policy(WITHOUT_OTHER));
	rig_send(rig, "other", "a@b.example", "x@example.com");
	rig_run(rig, 20 * SECOND_US); /* also its connection ends */
	assert_string_equal(rig_event(rig, "delivery", 0)->source, "192.0.2.30");
	assert_true(queue_may_drop(rig->queue, NULL, &errors));
	rig_mx(rig, "203.0.113.1")->mode = MX_REFUSE;
	rig_send(rig, "other", "a@b.example", "y@example.com");
	rig_run(rig, 20 * SECOND_US);
	assert_false(queue_may_drop(rig->queue, NULL, &errors));
	assert_int_equal(errors.n_errors, 1);
	errors_free(&errors);
	queue_drop(rig->queue); /* forced */
	rig_mx(rig, "203.0.113.1")->mode = MX_OK;
	rig_run(rig, 7200 * SECOND_US);
	assert_int_equal(rig_count(rig, "delivery"), 1);
	rig_free(&rig);
}

/* More reloads without the last step than are kept: the oldest and the newest are. */
static void test_taken_again_and_again(void **state)
{
	(void)state;
	struct rig *rig = rig_new(RIG_TWO_BINDINGS);
	rig_route(rig, "example.com", "10 203.0.113.1");
	rig_start(rig);
	for (unsigned i = 0; i < 2 * POLICY_KEPT_MAX; i++) {
		char *json = mem_printf("{'bindings': {'b%u': {'bind_address': '192.0.2.%u'}, 'default': "
		                        "{'bind_address': '192.0.2.1'}}}",
		        i, i % 2 ? 20 : 21);
		queue_take(rig->queue, rig_policy(json));
		mem_free(&json);
	}
	rig_send(rig, "other", "a@b.example", "x@example.com");
	rig_send(rig, "b6", "a@b.example", "x@example.com");
	rig_send(rig, "b1", "a@b.example", "x@example.com");
	rig_run(rig, 20 * SECOND_US);
	assert_int_equal(rig_count(rig, "delivery"), 2);
	queue_drop(rig->queue);
	rig_run(rig, SECOND_US);
	rig_free(&rig);
}

/* A group that goes, and the member its mail is with. */
static void test_removed_group(void **state)
{
	(void)state;
	static const char gone[] = "{'bindings': {'default': {'bind_address': '192.0.2.1'}}}";
	static const char to_default[] =
	        "{'global': {'removed_bindings': 'default'}, 'bindings': {'default': "
	        "{'bind_address': '192.0.2.1'}}}";
	struct rig *rig =
	        rig_new("{'binding_groups': {'pool': {'bindings': {'p1': {'bind_address': "
	                "'192.0.2.31'}}}}, 'bindings': {'default': {'bind_address': '192.0.2.1'}}}");
	rig_route(rig, "example.com", "10 203.0.113.1");
	rig_mx(rig, "203.0.113.1")->mode = MX_REFUSE;
	rig_start(rig);
	rig_send(rig, "group:pool", "a@b.example", "x@example.com");
	rig_run(rig, SECOND_US);
	assert_false(may_drop(rig, gone, NULL));
	queue_take(rig->queue, rig_policy(gone));
	rig_mx(rig, "203.0.113.1")->mode = MX_OK;
	rig_send(rig, "group:pool", "a@b.example", "y@example.com");
	rig_run(rig, 1300 * SECOND_US);
	assert_int_equal(rig_count(rig, "delivery"), 2);
	assert_string_equal(rig_event(rig, "delivery", 1)->source, "192.0.2.31");
	rig_run(rig, 20 * SECOND_US);
	rig_mx(rig, "203.0.113.1")->mode = MX_REFUSE;
	rig_send(rig, "group:pool", "a@b.example", "z@example.com");
	rig_run(rig, SECOND_US);
	rig_reload(rig, gone);
	rig_mx(rig, "203.0.113.1")->mode = MX_OK;
	rig_run(rig, 7200 * SECOND_US);
	assert_int_equal(rig_count(rig, "delivery"), 2);
	rig_reload(rig, to_default);
	rig_run(rig, SECOND_US);
	assert_int_equal(rig_count(rig, "delivery"), 3);
	assert_string_equal(rig_event(rig, "delivery", 2)->source, "192.0.2.1");
	rig_free(&rig);
}

static void test_removed_binding_is_held(void **state)
{
	(void)state;
	struct rig *rig = rig_new(RIG_TWO_BINDINGS);
	rig_route(rig, "example.com", "10 203.0.113.1");
	rig_mx(rig, "203.0.113.1")->mode = MX_REFUSE;
	rig_start(rig);
	rig_send_many(rig, "other", "example.com", 3);
	rig_run(rig, SECOND_US);
	assert_false(may_drop(rig, WITHOUT_OTHER, "other"));
	assert_true(may_drop(rig, RIG_TWO_BINDINGS, NULL));
	rig_reload(rig, "{'bindings': {'acme': {'bind_address': '192.0.2.20'}, 'default': {'bind_address': "
	                "'192.0.2.1'}}}");
	rig_mx(rig, "203.0.113.1")->mode = MX_OK;
	rig_run(rig, 7200 * SECOND_US);
	assert_int_equal(rig_mx(rig, "203.0.113.1")->jobs, 0);
	rig_restart(rig);
	rig_run(rig, 7200 * SECOND_US);
	assert_int_equal(rig_mx(rig, "203.0.113.1")->jobs, 0);
	rig_reload(rig, RIG_TWO_BINDINGS); /* it is back */
	rig_run(rig, 2 * SECOND_US);
	assert_int_equal(rig_mx(rig, "203.0.113.1")->jobs, 3);
	assert_string_equal(rig_event(rig, "delivery", 0)->source, "192.0.2.30");
	rig_free(&rig);
}

static void test_removed_binding_to_default(void **state)
{
	(void)state;
	struct rig *rig = rig_new(RIG_TWO_BINDINGS);
	rig_route(rig, "example.com", "10 203.0.113.1");
	rig_mx(rig, "203.0.113.1")->mode = MX_REFUSE;
	rig_start(rig);
	uint64_t id = rig_send(rig, "other", "a@b.example", "x@example.com");
	rig_run(rig, SECOND_US);
	rig_reload(rig, "{'global': {'removed_bindings': 'default'}, 'bindings': {'acme': {'bind_address': "
	                "'192.0.2.20'}, 'default': {'bind_address': '192.0.2.1'}}}");
	rig_mx(rig, "203.0.113.1")->mode = MX_OK;
	rig_run(rig, 1300 * SECOND_US);
	assert_true(rig_delivery(rig, id, 0)->done);
	assert_string_equal(rig_delivery(rig, id, 0)->binding, "default");
	assert_string_equal(rig_event(rig, "delivery", 0)->source, "192.0.2.1");
	assert_int_equal(rig_count(rig, "rebind"), 1);
	rig_free(&rig);
}

#define GROUP(extra)                                                                                         \
	"{'binding_groups': {'pool': {'bindings': {'p1': {'bind_address': '192.0.2.31'" extra                \
	"}, 'p2': {'bind_address': '192.0.2.32'}, 'p3': {'bind_address': '192.0.2.33'}}}}, "                 \
	"'bindings': {'default': {'bind_address': '192.0.2.1'}}}"

static void test_group_members_share(void **state)
{
	(void)state;
	struct rig *rig = rig_new(GROUP(""));
	rig_route(rig, "example.com", "10 203.0.113.1");
	rig_start(rig);
	for (int i = 0; i < 300; i++)
		rig_send(rig, "group:pool", "a@b.example", "x@example.com");
	assert_true(rig_run_out(rig, 60 * SECOND_US));
	unsigned n[4] = {0};
	for (unsigned i = 0; i < rig->n_log; i++) {
		const struct rig_event *e = &rig->log[i];
		if (strcmp(e->type, "delivery") != 0)
			continue;
		assert_non_null(strstr(e->line, "\"group\":\"pool\""));
		assert_int_equal(e->binding[1] - '0' + 30, atoi(e->source + strlen("192.0.2.")));
		n[e->binding[1] - '0']++;
	}
	for (int i = 1; i <= 3; i++)
		assert_in_range(n[i], 60, 140);
	rig_free(&rig);
}

static void test_group_member_unusable(void **state)
{
	(void)state;
	struct rig *rig = rig_new(GROUP(""));
	rig_route(rig, "example.com", "10 203.0.113.1");
	rig_local(rig, "192.0.2.31", false);
	rig_start(rig);
	for (int i = 0; i < 100; i++)
		rig_send(rig, "group:pool", "a@b.example", "x@example.com");
	assert_true(rig_run_out(rig, 60 * SECOND_US));
	for (unsigned i = 0; i < rig->n_log; i++)
		assert_string_not_equal(rig->log[i].source, "192.0.2.31");
	/* all gone: the mail waits, and goes when one is back */
	rig_local(rig, "192.0.2.32", false);
	rig_local(rig, "192.0.2.33", false);
	rig_run(rig, 10 * SECOND_US);
	for (int i = 0; i < 10; i++)
		rig_send(rig, "group:pool", "a@b.example", "x@example.com");
	rig_run(rig, 60 * SECOND_US);
	assert_int_equal(rig_open(rig), 10);
	rig_local(rig, "192.0.2.32", true);
	rig_run(rig, 60 * SECOND_US);
	assert_int_equal(rig_open(rig), 0);
	rig_free(&rig);
}

/* The member is the same after a restart, and for all attempts; when it becomes unusable that is recorded. */
static void test_group_member_is_kept(void **state)
{
	(void)state;
	struct rig *rig = rig_new(GROUP(""));
	rig_route(rig, "example.com", "10 203.0.113.1");
	rig_mx(rig, "203.0.113.1")->mode = MX_BANNER;
	rig_start(rig);
	uint64_t ids[30];
	for (int i = 0; i < 30; i++)
		ids[i] = rig_send(rig, "group:pool", "a@b.example", "x@example.com");
	rig_run(rig, SECOND_US);
	rig_restart(rig);
	rig_run(rig, 7200 * SECOND_US);
	for (int i = 0; i < 30; i++) {
		const char *binding = NULL;
		assert_true(rig_count_for(rig, "deferral", ids[i]) >= 2);
		for (unsigned j = 0; j < rig->n_log; j++) {
			const struct rig_event *e = &rig->log[j];
			if (e->id != ids[i] || strcmp(e->type, "deferral") != 0)
				continue;
			if (binding)
				assert_string_equal(e->binding, binding);
			binding = e->binding;
		}
		assert_int_equal(rig_delivery(rig, ids[i], 0)->moves, 0);
	}
	rig_reload(rig, GROUP(", 'suspend_delivery': true"));
	rig_mx(rig, "203.0.113.1")->mode = MX_OK;
	assert_true(rig_run_out(rig, 86400 * SECOND_US));
	unsigned moved = 0;
	for (int i = 0; i < 30; i++)
		moved += rig_delivery(rig, ids[i], 0)->moves == 1;
	assert_in_range(moved, 3, 20);
	rig_free(&rig);
}

static const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_suspended_and_resumed),
        cmocka_unit_test(test_default_binding_suspended),
        cmocka_unit_test(test_reload_changes_source),
        cmocka_unit_test(test_taken_but_not_dropped),
        cmocka_unit_test(test_taken_again_and_again),
        cmocka_unit_test(test_removed_group),
        cmocka_unit_test(test_removed_binding_is_held),
        cmocka_unit_test(test_removed_binding_to_default),
        cmocka_unit_test(test_group_members_share),
        cmocka_unit_test(test_group_member_unusable),
        cmocka_unit_test(test_group_member_is_kept),
};

TEST_MAIN("queue_bindings", tests)
