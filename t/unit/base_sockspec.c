#include "config.h"
#include "t/lib/test.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <pwd.h>
#include <signal.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>
#include "base/mem.h"
#include "base/sockspec.h"

static void test_parse(void **state)
{
	static const char *const cases[][3] = {
	        /* as written, printed, for libmilter (NULL: cannot) */
	        {"inet:127.0.0.1:2424", "inet:127.0.0.1:2424", "inet:2424@127.0.0.1"},
	        {"inet:localhost:25", "inet:127.0.0.1:25", "inet:25@127.0.0.1"},
	        {"inet:*:25", "inet:*:25", "inet:25"},
	        {"inet:[::1]:25", "inet:[::1]:25", "inet6:25@::1"},
	        {"unix:/run/x.sock", "unix:/run/x.sock", "unix:/run/x.sock"},
	        {"unix:/run/x.sock?mode=0660&group=postfix", "unix:/run/x.sock?mode=0660&group=postfix",
	                "unix:/run/x.sock"},
	        {"unix:x?group=g&mode=600&user=u", "unix:x?mode=0600&group=g&user=u", "unix:x"},
	        {"systemd:handoff", "systemd:handoff", NULL},
	};
	struct sockspec spec, again;
	struct error err;
	struct str text;

	(void)state;
	str_init(&text);
	for (size_t i = 0; i < array_len(cases); i++) {
		if (!sockspec_parse(cases[i][0], &spec, &err))
			fail_msg("%s", err.text);
		str_clear(&text);
		sockspec_print(&spec, &text);
		assert_string_equal(text.data, cases[i][1]);
		assert_true(sockspec_parse(text.data, &again, &err));
		assert_memory_equal(&again, &spec, sizeof(spec));
		str_clear(&text);
		assert_int_equal(sockspec_libmilter(&spec, &text), cases[i][2] != NULL);
		assert_string_equal(text.data, cases[i][2] != NULL ? cases[i][2] : "");
	}
	str_free(&text);
}

static void test_parse_refuses(void **state)
{
	static const char *const cases[][2] = {
	        {"", "is not a socket"},
	        {"/run/x.sock", "is not a socket"},
	        {"tcp:127.0.0.1:25", "is not a socket"},
	        {"inet:127.0.0.1", "has no port"},
	        {"inet:127.0.0.1:0", "is not inet:HOST:PORT"},
	        {"inet:127.0.0.1:65536", "is not inet:HOST:PORT"},
	        {"inet:example.com:25", "is not inet:HOST:PORT"},
	        {"inet:::1:25", "has no port"},
	        {"inet:*", "is not inet:HOST:PORT"},
	        {"inet:localhost", "is not inet:HOST:PORT"},
	        {"inet:localhost:999999999999999999999999999999999999", "has no port"},
	        {"unix:", "has no path"},
	        {"unix:?mode=0600", "has no path"},
	        {"unix:/x?mode=0888", "has a wrong mode"},
	        {"unix:/x?mode=01777", "has a wrong mode"},
	        {"unix:/x?mode=0", "has a wrong mode"},
	        {"unix:/x?mode=000", "has a wrong mode"},
	        {"unix:/x?mode=0600&mode=0660", "has mode twice"},
	        {"unix:/x?group=", "has a wrong group"},
	        {"unix:/x?owner=me", "has a parameter other than"},
	        {"unix:/x?mode", "has a parameter that is not key=value"},
	        {"unix:/x?", "has a parameter that is not key=value"},
	        {"unix:/x?mode=0600&", "has a parameter that is not key=value"},
	        {"systemd:", "has no name"},
	        {"systemd:a:b", "has no name"},
	};
	struct sockspec spec;
	struct error err;
	char path[140] = "unix:/";

	(void)state;
	for (size_t i = 0; i < array_len(cases); i++) {
		if (sockspec_parse(cases[i][0], &spec, &err))
			fail_msg("%s was taken", cases[i][0]);
		if (strstr(err.text, cases[i][1]) == NULL)
			fail_msg("%s: %s", cases[i][0], err.text);
	}
	memset(path + 6, 'p', 106);
	assert_true(sockspec_parse(path, &spec, &err)); /* 107 bytes */
	path[112] = 'p';
	assert_false(sockspec_parse(path, &spec, &err));
}

static struct sockspec unix_spec(const char *folder, const char *rest)
{
	char *text = mem_printf("unix:%s/%s", folder, rest);
	struct sockspec spec;

	assert_true(sockspec_parse(text, &spec, NULL));
	mem_free(&text);
	return spec;
}

static void test_unix(void **state)
{
	char *folder = test_folder_new(), byte = 'x';
	struct sockspec spec = unix_spec(folder, "s?mode=0620");
	mode_t mask = umask(077);
	struct error err;
	struct stat st;
	int fd, second, client, peer;

	(void)state;
	if (sockspec_listen(&spec, 5, &fd, 1, &err) != 1)
		fail_msg("%s", err.text);
	(void)umask(mask);
	assert_int_equal(stat(spec.path, &st), 0);
	assert_int_equal(st.st_mode & 07777, 0620); /* whatever the umask */
	assert_true(fcntl(fd, F_GETFL) & O_NONBLOCK);
	assert_true(fcntl(fd, F_GETFD) & FD_CLOEXEC);
	client = sockspec_connect(&spec, &err);
	assert_true(client >= 0);
	peer = accept(fd, NULL, NULL);
	assert_true(peer >= 0);
	assert_int_equal(write(client, &byte, 1), 1);
	assert_int_equal(read(peer, &byte, 1), 1);
	/* somebody listens */
	assert_int_equal(sockspec_listen(&spec, 5, &second, 1, &err), -1);
	assert_non_null(strstr(err.text, "another process listens there already"));
	assert_int_equal(stat(spec.path, &st), 0);
	(void)close(peer);
	(void)close(client);
	(void)close(fd);
	/* nobody does any more */
	assert_int_equal(sockspec_connect(&spec, &err), -1);
	assert_non_null(strstr(err.text, "connect: Connection refused"));
	assert_int_equal(sockspec_listen(&spec, 5, &fd, 1, &err), 1);
	(void)close(fd);
	test_folder_remove(&folder);
}

static void test_unix_misfortunes(void **state)
{
	char *folder = test_folder_new(), *path;
	struct sockspec spec = unix_spec(folder, "file");
	struct error err;
	int fd;

	(void)state;
	test_file_write(spec.path, "precious", 8);
	assert_int_equal(sockspec_listen(&spec, 5, &fd, 1, &err), -1);
	assert_non_null(strstr(err.text, "exists and is not a socket"));
	path = test_file_read(spec.path, NULL);
	assert_string_equal(path, "precious");
	mem_free(&path);
	spec = unix_spec(folder, "missing/s");
	assert_int_equal(sockspec_listen(&spec, 5, &fd, 1, &err), -1);
	assert_non_null(strstr(err.text, "No such file or directory"));
	spec = unix_spec(folder, "s?group=no-such-group");
	assert_int_equal(sockspec_listen(&spec, 5, &fd, 1, &err), -1);
	assert_non_null(strstr(err.text, "there is no group no-such-group"));
	assert_int_equal(access(spec.path, F_OK), -1); /* nothing half-done is left */
	spec = unix_spec(folder, "s?user=no-such-user");
	assert_int_equal(sockspec_listen(&spec, 5, &fd, 1, &err), -1);
	assert_non_null(strstr(err.text, "there is no user no-such-user"));
	test_folder_remove(&folder);
}

static void test_apply_mode(void **state)
{
	char *folder = test_folder_new(), *rest;
	struct group *group = getgrgid(getegid());
	struct passwd *user = getpwuid(geteuid());
	struct sockspec spec;
	struct error err;
	struct stat st;

	(void)state;
	assert_non_null(group);
	assert_non_null(user);
	rest = mem_printf("s?mode=0604&group=%s&user=%s", group->gr_name, user->pw_name);
	spec = unix_spec(folder, rest);
	mem_free(&rest);
	assert_false(sockspec_apply_mode(&spec, &err));
	test_file_write(spec.path, "", 0);
	if (!sockspec_apply_mode(&spec, &err))
		fail_msg("%s", err.text);
	assert_int_equal(stat(spec.path, &st), 0);
	assert_int_equal(st.st_mode & 07777, 0604);
	assert_int_equal(st.st_gid, getegid());
	spec = (struct sockspec){.type = SOCKSPEC_INET};
	assert_true(sockspec_apply_mode(&spec, &err));
	test_folder_remove(&folder);
}

static uint16_t port_of(int fd)
{
	struct sockaddr_storage ss;
	socklen_t len = sizeof(ss);
	struct addr addr;

	assert_int_equal(getsockname(fd, (struct sockaddr *)&ss, &len), 0);
	assert_true(addr_from_sockaddr((struct sockaddr *)&ss, &addr));
	return addr.port;
}

static void test_inet(void **state)
{
	struct sockspec spec = {.type = SOCKSPEC_INET};
	struct error err;
	int fd, second, client, fds[2], n;

	(void)state;
	assert_true(addr_parse("127.0.0.1", &spec.addr, &err)); /* port 0: the kernel finds one */
	assert_int_equal(sockspec_listen(&spec, 5, &fd, 1, &err), 1);
	spec.addr.port = port_of(fd);
	client = sockspec_connect(&spec, &err);
	assert_true(client >= 0);
	assert_int_equal(sockspec_listen(&spec, 5, &second, 1, &err), -1);
	assert_non_null(strstr(err.text, "inet:127.0.0.1:"));
	assert_non_null(strstr(err.text, "bind: Address already in use"));
	(void)close(client);
	(void)close(fd);
	assert_int_equal(sockspec_listen(&spec, 5, &fd, 1, &err), 1);
	(void)close(fd);
	assert_int_equal(sockspec_connect(&spec, &err), -1);
	/* all addresses: IPv4, and IPv6 if there is any, on the same port */
	spec.addr = (struct addr){.port = spec.addr.port};
	n = sockspec_listen(&spec, 5, fds, 2, &err);
	assert_in_range(n, 1, 2);
	for (int i = 0; i < n; i++) {
		assert_int_equal(port_of(fds[i]), spec.addr.port);
		(void)close(fds[i]);
	}
	assert_int_equal(sockspec_connect(&spec, &err), -1);
	assert_non_null(strstr(err.text, "not connect"));
}

/* A child that systemd "started" with two sockets of one name. */
static int systemd_child(void)
{
	struct sockspec spec, other;
	struct error err;
	char pid[32];
	int fds[3];

	(void)snprintf(pid, sizeof(pid), "%ld", (long)getpid());
	if (setenv("LISTEN_PID", pid, 1) != 0 || setenv("LISTEN_FDS", "3", 1) != 0 ||
	        setenv("LISTEN_FDNAMES", "handoff:other:handoff", 1) != 0)
		return 1;
	if (!sockspec_parse("systemd:handoff", &spec, &err) || sockspec_listen(&spec, 5, fds, 3, &err) != 2)
		return 2;
	if (fds[0] != 3 || fds[1] != 5 || (fcntl(5, F_GETFL) & O_NONBLOCK) == 0 ||
	        (fcntl(5, F_GETFD) & FD_CLOEXEC) == 0)
		return 3;
	if (sockspec_listen(&spec, 5, fds, 1, &err) != -1 || strstr(err.text, "more than 1") == NULL)
		return 4;
	if (!sockspec_parse("systemd:nothing", &other, &err) ||
	        sockspec_listen(&other, 5, fds, 3, &err) != -1 ||
	        strstr(err.text, "FileDescriptorName=nothing") == NULL)
		return 5;
	if (!sockspec_parse("systemd:other", &other, &err) ||
	        sockspec_listen(&other, 5, fds, 3, &err) != -1 ||
	        strstr(err.text, "not a listening stream socket") == NULL)
		return 6;
	return 0;
}

static void test_systemd(void **state)
{
	struct sockspec spec;
	struct error err;
	int status, fd;
	pid_t pid;

	(void)state;
	assert_true(sockspec_parse("systemd:handoff", &spec, &err));
	assert_int_equal(sockspec_listen(&spec, 5, &fd, 1, &err), -1);
	assert_int_equal(sockspec_connect(&spec, &err), -1);
	pid = fork();
	assert_true(pid >= 0);
	if (pid == 0) {
		struct sockspec any = {.type = SOCKSPEC_INET};
		int a, b, lonely = socket(AF_INET, SOCK_STREAM, 0);

		(void)addr_parse("127.0.0.1", &any.addr, NULL);
		if (sockspec_listen(&any, 5, &a, 1, NULL) != 1 || sockspec_listen(&any, 5, &b, 1, NULL) != 1)
			_exit(7);
		/* away from 3 to 5 first, so that none overwrites another */
		a = fcntl(a, F_DUPFD, 20);
		b = fcntl(b, F_DUPFD, 20);
		lonely = fcntl(lonely, F_DUPFD, 20);
		_exit(dup2(a, 3) == 3 && dup2(lonely, 4) == 4 && dup2(b, 5) == 5 ? systemd_child() : 8);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_true(WIFEXITED(status));
	assert_int_equal(WEXITSTATUS(status), 0);
}

static const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_parse),
        cmocka_unit_test(test_parse_refuses),
        cmocka_unit_test(test_unix),
        cmocka_unit_test(test_unix_misfortunes),
        cmocka_unit_test(test_apply_mode),
        cmocka_unit_test(test_inet),
        cmocka_unit_test(test_systemd),
};
TEST_MAIN("base_sockspec", tests)
