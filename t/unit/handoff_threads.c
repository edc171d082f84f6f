/*
 * What several threads share: the policy in force, and the handoffs of several net loops behind one listener.
 */
#include "config.h"
#include "base/mem.h"
#include "base/sockspec.h"
#include "t/lib/handoff_rig.h"
#include "t/lib/test.h"

#include <pthread.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#define N_VIEWS 20000
#define N_SWAPS 300
#define N_CLIENTS 40

static struct policy *load(void)
{
	struct errors errors = {0};
	struct conf *conf = conf_load_text(rig_bindpost_json, rig_policy_json, &errors);
	struct policy *policy = conf ? policy_new(conf, &errors) : NULL;

	errors_free(&errors);
	assert_non_null(policy);
	return policy;
}

static void *look(void *ctx)
{
	struct policy_cell *cell = ctx;
	uintptr_t good = 0;

	for (int i = 0; i < N_VIEWS; i++) {
		const struct policy_view *view = policy_cell_view(cell);
		struct policy *policy = policy_cell_get(cell);

		good += strcmp(conf_process(policy_conf(view->policy))->hostname, "mta1.example.net") == 0;
		policy_unref(&policy);
		policy_view_unref(&view);
	}
	return (void *)good;
}

static void test_cell(void **state)
{
	struct policy_cell *cell = policy_cell_new(load(), NULL);
	pthread_t threads[2];
	void *good;

	(void)state;
	for (int i = 0; i < 2; i++)
		assert_int_equal(pthread_create(&threads[i], NULL, look, cell), 0);
	for (int i = 0; i < N_SWAPS; i++)
		policy_cell_set(cell, load(), NULL);
	for (int i = 0; i < 2; i++) {
		assert_int_equal(pthread_join(threads[i], &good), 0);
		assert_int_equal((uintptr_t)good, N_VIEWS);
	}
	policy_cell_free(&cell);
}

static void *run(void *ctx)
{
	loop_run(ctx);
	return NULL;
}

struct stop {
	struct mail mail;
	struct handoff *handoff;
	struct loop *loop;
};

static void stop_loop(void *ctx)
{
	loop_stop(ctx);
}

static void take_stop(struct mail *mail)
{
	struct stop *stop = container_of(mail, struct stop, mail);

	handoff_stop(stop->handoff, stop_loop, stop->loop);
}

static int talk(const char *path)
{
	static const char hello[] =
	        "LHLO a\r\nMAIL FROM:<a@acme.example>\r\nRSET\r\nMAIL FROM:<>\r\nQUIT\r\n";
	struct sockaddr_un to = {.sun_family = AF_UNIX};
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	char buffer[2000];
	size_t len = 0;
	ssize_t n;

	snprintf(to.sun_path, sizeof(to.sun_path), "%s", path);
	if (connect(fd, (struct sockaddr *)&to, sizeof(to)) < 0 ||
	        send(fd, hello, sizeof(hello) - 1, MSG_NOSIGNAL) < 0) {
		close(fd);
		return 0;
	}
	while (len < sizeof(buffer) - 1 && (n = read(fd, buffer + len, sizeof(buffer) - 1 - len)) > 0)
		len += (size_t)n;
	buffer[len] = '\0';
	close(fd);
	return strstr(buffer, "221 2.0.0") != NULL;
}

/* Two net loops on threads of their own behind one listener, the mark so low that sessions of the other loop have to
 * make room: under ThreadSanitizer this is where sharing would show. */
static void test_listener_and_two_loops(void **state)
{
	char *folder = test_folder_new(), *text = mem_printf("unix:%s/handoff.sock", folder);
	struct loop *loops[2];
	struct handoff *handoffs[2];
	struct stop stops[2];
	struct handoff_listener *listener;
	struct sockspec spec;
	struct error error;
	pthread_t threads[2];
	struct rig rig;
	int listen_fd, good = 0;

	(void)state;
	rig_init(&rig, NULL, NULL); /* for its shared part */
	rig.shared.max_sessions = 3;
	assert_true(sockspec_parse(text, &spec, &error));
	assert_int_equal(sockspec_listen(&spec, 64, &listen_fd, 1, &error), 1);
	for (int i = 0; i < 2; i++) {
		loops[i] = loop_new("net", &clock_system);
		handoffs[i] = handoff_new(&rig.shared, loops[i]);
		stops[i] = (struct stop){.mail.take = take_stop, .handoff = handoffs[i], .loop = loops[i]};
	}
	listener = handoff_listener_new(&rig.shared, loops[0], &listen_fd, 1, handoffs, loops, 2);
	for (int i = 0; i < 2; i++)
		assert_int_equal(pthread_create(&threads[i], NULL, run, loops[i]), 0);
	for (int i = 0; i < N_CLIENTS; i++)
		good += talk(spec.path);
	for (int i = 0; i < 2; i++)
		loop_post(loops[i], &stops[i].mail);
	for (int i = 0; i < 2; i++)
		assert_int_equal(pthread_join(threads[i], NULL), 0);
	assert_int_equal(good, N_CLIENTS);
	handoff_listener_free(&listener);
	for (int i = 0; i < 2; i++) {
		handoff_free(&handoffs[i]);
		loop_free(&loops[i]);
	}
	rig_free(&rig);
	mem_free(&text);
	test_folder_remove(&folder);
}

static const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_cell),
        cmocka_unit_test(test_listener_and_two_loops),
};

TEST_MAIN("handoff_threads", tests)
