/* What etc/ offers to start from loads without errors and without warnings, rules and all. */
#include "config.h"
#include "t/lib/test.h"
#include "base/mem.h"
#include "policy/policy.h"

static void complain(struct errors *errors)
{
	for (size_t i = 0; i < errors->n; i++)
		print_message("# %s\n", errors->items[i].text);
	assert_int_equal(errors->n, 0);
	errors_free(errors);
}

/* bindpost.json with policy.json beside it, as they would be installed */
static void test_main_files(void **state)
{
	struct errors errors = {0};
	char *path = test_source_path("etc/bindpost.json");
	struct policy *p = policy_load(path, &errors);

	(void)state;
	complain(&errors);
	assert_non_null(p);
	assert_non_null(conf_binding_named(policy_conf(p), "acme"));
	assert_int_equal(conf_group_named(policy_conf(p), "shared")->n_members, 2);
	policy_unref(&p);
	free(path);
}

/* Each example in the place of policy.json */
static void load_example(const char *name)
{
	struct errors errors = {0};
	char *path = test_source_path("etc/examples/%s.json", name), *text = test_file_read(path, NULL);
	struct conf *c = conf_load_text("{ \"hostname\": \"mta1.example.net\" }", text, &errors);
	struct policy *p = c ? policy_new(c, &errors) : NULL;

	if (errors.n)
		print_message("# in %s\n", path);
	complain(&errors);
	assert_non_null(p);
	policy_unref(&p);
	free(text);
	free(path);
}

static void test_examples(void **state)
{
	(void)state;
	load_example("two-customers");
	load_example("pool-with-weights");
	load_example("esp-customer-header");
	load_example("limits");
	load_example("receivers-replies");
	load_example("smart-host-lmtp");
	load_example("own-gateway");
}

static const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_main_files),
        cmocka_unit_test(test_examples),
};
TEST_MAIN("etc_examples", tests)
