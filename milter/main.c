/*
 * bindpost-milter - decides the binding of each message and stamps it
 *
 * Threads    The main thread waits for signals. libmilter runs on a thread of its own (and one per connection); SIGHUP,
 *            SIGTERM and SIGINT are blocked everywhere but in the main thread, and libmilter's signal thread, which
 *            would stop on SIGHUP, gets none (sigwait below). The control socket has the third thread.
 */
#include "config.h"

#include <errno.h>
#include <getopt.h>
#include <libmilter/mfapi.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/stat.h>
#include <systemd/sd-daemon.h>
#include <time.h>
#include <unistd.h>
#include "base/log.h"
#include "base/mem.h"
#include "base/privilege.h"
#include "milter/milter.h"
#include "milter/milter_callbacks.h"
#include "milter/milter_control.h"

#define BACKLOG 512
#define STOP_WAIT_MS 10000         /* for messages between MAIL and their end */
#define LAST_REPLY_MS 200          /* libmilter sends the last reply after our callback has returned */
#define PACKET_MAX ((1 << 20) - 1) /* an MTA may let headers be longer than libmilter's built-in 64 KB */

struct options {
	const char *conf_path;
	bool test;
};

/* Written by the handler, read by main(): the one thing a signal can reach. */
static int signal_fd = -1;

static void on_signal(int number)
{
	int saved = errno;
	/* above 2^32: stop; below: how many reloads */
	uint64_t what = number == SIGHUP ? 1 : UINT64_C(1) << 32;
	(void)!write(signal_fd, &what, sizeof(what));
	errno = saved;
}

/*
 * Stands before libc's for libmilter, whose signal thread alone calls it. The kernel prefers the main thread for a
 * process's signals, but one that still waits for it goes to whoever comes to sigwait() first: a SIGHUP soon after the
 * start would end the milter.
 */
int sigwait(const sigset_t *set, int *number)
{
	(void)set;
	(void)number;
	for (;;)
		pause();
}

static void set_signals(int how)
{
	sigset_t set;
	sigemptyset(&set);
	sigaddset(&set, SIGHUP);
	sigaddset(&set, SIGTERM);
	sigaddset(&set, SIGINT);
	pthread_sigmask(how, &set, NULL);
}

static void catch_signals(void)
{
	struct sigaction act = {.sa_handler = on_signal, .sa_flags = SA_RESTART};
	signal_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	sigemptyset(&act.sa_mask);
	sigaction(SIGHUP, &act, NULL);
	sigaction(SIGTERM, &act, NULL);
	sigaction(SIGINT, &act, NULL);
	signal(SIGPIPE, SIG_IGN);
}

static int usage(FILE *out, int code)
{
	fputs("usage: bindpost-milter [-t] [-c FILE]\n"
	      "  -c FILE  configuration (" SYSCONFDIR "/bindpost/bindpost.json)\n"
	      "  -t       check the configuration and exit\n"
	      "  -V       print the version and exit\n",
	        out);
	return code;
}

/* -1: go on; else the exit status. */
static int parse_options(int argc, char **argv, struct options *o)
{
	int c;
	*o = (struct options){.conf_path = SYSCONFDIR "/bindpost/bindpost.json"};
	while ((c = getopt(argc, argv, "c:thV")) != -1) {
		switch (c) {
		case 'c':
			o->conf_path = optarg;
			break;
		case 't':
			o->test = true;
			break;
		case 'h':
			return usage(stdout, 0);
		case 'V':
			puts("bindpost-milter " PACKAGE_VERSION);
			return 0;
		default:
			return usage(stderr, 2);
		}
	}
	return optind < argc ? usage(stderr, 2) : -1;
}

static struct snapshot *load(const char *path)
{
	struct errors errors = {.n = 0};
	struct snapshot *s = snapshot_load(path, NULL, NULL, &errors);
	conf_print_errors(&errors, stderr);
	errors_free(&errors);
	return s;
}

static bool user_is_named(const struct conf *conf)
{
	struct conf_origin origin;
	return conf_eval(conf, "user", NULL, NULL, &origin, NULL) && strcmp(origin.where, "built-in") != 0;
}

/* libmilter replaces whatever lies there; somebody's living socket is not ours to take. */
static bool check_unused(const struct sockspec *spec, struct error *err)
{
	struct stat st;
	if (spec->type != SOCKSPEC_UNIX || stat(spec->path, &st) != 0)
		return true;
	if (!S_ISSOCK(st.st_mode))
		return error_set(err, "%s is there already, and not a socket", spec->path);
	int fd = sockspec_connect(spec, NULL);
	if (fd < 0)
		return true;
	close(fd);
	return error_set(err, "%s: another program listens there", spec->path);
}

static bool open_milter(const struct sockspec *spec, struct error *err)
{
	struct str text;
	bool ok;
	str_init(&text);
	if (!sockspec_libmilter(spec, &text))
		ok = error_set(err, "libmilter takes no sockets from systemd: use unix: or inet:");
	else if (!check_unused(spec, err))
		ok = false;
	else {
		/* nobody connects before mode and group are as written */
		mode_t before = umask(0177);
		ok = smfi_setconn(text.data) == MI_SUCCESS && smfi_opensocket(true) == MI_SUCCESS;
		umask(before);
		ok = ok ? sockspec_apply_mode(spec, err) : error_sys(err, "%s", text.data);
	}
	str_free(&text);
	return ok || error_at(err, "milter.listen");
}

static bool prepare_folder(
        const struct sockspec *spec, const char *option, const char *user, bool named, struct error *err)
{
	return spec == NULL || spec->type != SOCKSPEC_UNIX ||
	       privilege_prepare_parent(spec->path, 0755, user, named, err) || error_at(err, "%s", option);
}

#define CONTROL_FDS 4

struct sockets {
	int control[CONTROL_FDS];
	int n_control;
};

/* What needs root, then no longer root. */
static bool open_and_drop(const struct conf *conf, struct sockets *s, struct error *err)
{
	const struct process_options *o = conf_process(conf);
	bool named = user_is_named(conf);
	s->n_control = 0;
	if (!privilege_check_user(o->user, named, err) ||
	        !prepare_folder(o->milter_listen, "milter.listen", o->user, named, err) ||
	        !prepare_folder(o->milter_control, "milter.control", o->user, named, err))
		return false;
	if (!open_milter(o->milter_listen, err))
		return false;
	if (o->milter_control != NULL) {
		s->n_control = sockspec_listen(o->milter_control, 16, s->control, CONTROL_FDS, err);
		if (s->n_control < 0)
			return error_at(err, "milter.control");
	}
	return privilege_drop(o->user, named, err);
}

static void *run_libmilter(void *arg)
{
	(void)arg;
	if (smfi_main() != MI_SUCCESS)
		log_error("libmilter has given up (its reason is in syslog)");
	on_signal(SIGTERM); /* it returns only when it stops */
	return NULL;
}

static uint64_t mono_us(void)
{
	return clock_system.mono_us(&clock_system);
}

static void reload(struct milter *m)
{
	struct errors errors = {.n = 0};
	sd_notifyf(0, "RELOADING=1\nMONOTONIC_USEC=%llu", (unsigned long long)mono_us());
	milter_reload(m, &errors, NULL);
	errors_free(&errors);
	sd_notify(0, "READY=1");
}

static void wait_for_signals(struct milter *m)
{
	struct pollfd p = {.fd = signal_fd, .events = POLLIN};
	for (;;) {
		uint64_t what;
		if (poll(&p, 1, -1) < 0 || read(signal_fd, &what, sizeof(what)) != sizeof(what))
			continue;
		if (what >> 32)
			return;
		reload(m);
	}
}

static void unlink_socket(const struct sockspec *spec)
{
	if (spec != NULL && spec->type == SOCKSPEC_UNIX)
		unlink(spec->path);
}

/*
 * Messages under way get their stamp; new ones are answered 421. smfi_stop() is not called: it waits up to 5 s for a
 * lock that libmilter's listener holds while nobody connects, and the process ends anyway.
 */
static void stop(struct milter *m)
{
	struct pollfd p = {.fd = m->wake_fd, .events = POLLIN};
	uint64_t end = mono_us() + STOP_WAIT_MS * 1000;
	sd_notify(0, "STOPPING=1");
	atomic_store(&m->stopping, true);
	while (atomic_load(&m->active) > 0 && mono_us() < end)
		poll(&p, 1, 100);
	poll(NULL, 0, LAST_REPLY_MS);
	if (atomic_load(&m->active) > 0)
		log_warning("stopped with %u messages under way: the MTA will see a failure",
		        atomic_load(&m->active));
}

static int serve(struct milter *m, const struct process_options *o, const struct sockets *s)
{
	struct error err;
	pthread_t thread;
	set_signals(SIG_BLOCK); /* for all threads to come */
	catch_signals();
	struct milter_control *control = NULL;
	if (s->n_control > 0 && (control = milter_control_start(m, s->control, s->n_control, &err)) == NULL) {
		log_error("%s", err.text);
		return 1;
	}
	if (pthread_create(&thread, NULL, run_libmilter, NULL) != 0)
		abort();
	set_signals(SIG_UNBLOCK);
	log_notice("ready, version " PACKAGE_VERSION);
	sd_notify(0, "READY=1");
	wait_for_signals(m);
	unlink_socket(o->milter_listen); /* new connections fail at once, to be tried again */
	stop(m);
	milter_control_free(&control);
	unlink_socket(o->milter_control);
	log_notice("stopped");
	return 0;
}

/* What root could read at the start must be readable for a reload too; better said now than then. */
static void warn_unreadable(void *ctx, const char *path, int error)
{
	(void)ctx;
	log_warning(
	        "%s: cannot be read by the user we run as: %s; a reload will fail", path, strerror(error));
}

static int start(struct milter *m)
{
	struct sockets sockets;
	struct error err;
	const struct process_options *o = conf_process(policy_conf(m->current->policy));
	log_set_level(o->log_level);
	m->header = mem_strdup(o->stamp_header);
	m->header_len = strlen(m->header);
	smfi_setbacklog(BACKLOG);
	smfi_setmaxdatasize(PACKET_MAX);
	if (!milter_callbacks_register(m)) {
		log_error("libmilter refuses to register: is it another version than we were built with?");
		return 1;
	}
	struct conf *conf =
	        conf_ref(policy_conf(m->current->policy)); /* what `o` borrows from outlives reloads */
	bool ok = open_and_drop(conf, &sockets, &err);
	if (!ok)
		log_error("%s", err.text);
	else
		conf_each_unreadable(policy_conf(m->current->policy), warn_unreadable, NULL);
	int code = ok ? serve(m, o, &sockets) : 1;
	conf_unref(&conf);
	return code;
}

int main(int argc, char **argv)
{
	struct options options;
	int code = parse_options(argc, argv, &options);
	if (code >= 0)
		return code;
	log_init("bindpost-milter", LOG_LEVEL_INFO);
	struct snapshot *snapshot = load(options.conf_path);
	if (snapshot == NULL)
		return 1;
	if (options.test) {
		snapshot_unref(&snapshot);
		return 0;
	}
	static struct milter m; /* libmilter's threads may outlive main() */
	m = (struct milter){.conf_path = options.conf_path,
	        .rnd = &rnd_system,
	        .clock = &clock_system,
	        .lock = PTHREAD_MUTEX_INITIALIZER,
	        .reload_lock = PTHREAD_MUTEX_INITIALIZER,
	        .current = snapshot,
	        .started_us = clock_system.wall_us(&clock_system),
	        .wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)};
	return start(&m);
}
