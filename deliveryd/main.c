/*
 * deliveryd - takes stamped mail over from the MTA, keeps it, delivers it from its binding's address
 *
 * The main thread only starts, waits for signals and stops; the roles run on threads of their own (daemon.c).
 */
#include <errno.h>
#include <event2/event.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <systemd/sd-daemon.h>
#include <unistd.h>

#include "base/log.h"
#include "base/log_thread.h"
#include "base/mem.h"
#include "base/privilege.h"
#include "config.h"
#include "conf/conf.h"
#include "daemon.h"
#include "policy/stamp.h"

#define DEFAULT_CONFIG SYSCONFDIR "/bindpost/bindpost.json"

static int usage(FILE *out)
{
	fputs("usage: deliveryd [-c FILE] [-t] [-V]\n"
	      "  -c FILE  configuration (" DEFAULT_CONFIG ")\n"
	      "  -t       check the configuration and exit: 0 good, 1 errors\n"
	      "  -V       version\n",
	        out);
	return 2;
}

static void print_errors(const struct errors *errors)
{
	for (size_t i = 0; i < errors->n; i++)
		if (errors->items[i].level == ERROR_WARNING)
			log_warning("%s", errors->items[i].text);
		else
			log_error("%s", errors->items[i].text);
}

/* Sessions in both directions, segments, large bodies: as many descriptors as the system lets us have. */
static void raise_descriptors(void)
{
	struct rlimit limit;

	if (getrlimit(RLIMIT_NOFILE, &limit) == 0 && limit.rlim_cur < limit.rlim_max) {
		limit.rlim_cur = limit.rlim_max;
		setrlimit(RLIMIT_NOFILE, &limit);
	}
}

static void block_signals(sigset_t *set)
{
	sigemptyset(set);
	sigaddset(set, SIGHUP);
	sigaddset(set, SIGTERM);
	sigaddset(set, SIGINT);
	sigaddset(set, SIGUSR1); /* our own: the spool's disk failed */
	pthread_sigmask(SIG_BLOCK, set, NULL);
	signal(SIGPIPE, SIG_IGN);
}

struct fatal {
	pthread_t main_thread;
	_Atomic bool failed;
};

static void on_fatal(void *ctx, const struct error *err)
{
	struct fatal *fatal = ctx;

	log_error("%s; ending, so that nothing is accepted or delivered that cannot be recorded", err->text);
	fatal->failed = true;
	pthread_kill(fatal->main_thread, SIGUSR1);
}

static int serve_logged(const char *config_path, struct policy *policy, struct daemon_sockets *sockets,
        const sigset_t *signals)
{
	struct fatal fatal = {.main_thread = pthread_self()};
	struct error err;
	struct daemon *daemon = daemon_start(config_path, policy, sockets, on_fatal, &fatal, &err);
	int signal_number = 0;

	if (!daemon) {
		log_error("%s", err.text);
		return 1;
	}
	log_notice("ready, version " PACKAGE_VERSION);
	sd_notify(0, "READY=1");
	while (!fatal.failed) {
		if (sigwait(signals, &signal_number) != 0)
			continue;
		if (signal_number == SIGHUP)
			daemon_post_reload(daemon);
		else
			break;
	}
	sd_notify(0, "STOPPING=1");
	if (fatal.failed) {
		daemon_abandon(daemon);
		return 1;
	}
	log_notice("stopping on signal %d", signal_number);
	daemon_stop(&daemon);
	return 0;
}

/* libevent's own words, which would go straight to stderr. */
static void libevent_says(int severity, const char *text)
{
	if (severity == EVENT_LOG_ERR)
		log_error("libevent: %s", text);
	else if (severity == EVENT_LOG_WARN)
		log_warning("libevent: %s", text);
}

/* No loop waits for whoever reads stderr. */
static int serve(const char *config_path, struct policy *policy, struct daemon_sockets *sockets,
        const sigset_t *signals)
{
	struct error err;
	int code = 1;

	event_set_log_callback(libevent_says);
	if (log_thread_start(&err))
		code = serve_logged(config_path, policy, sockets, signals);
	else
		log_error("%s", err.text);
	log_thread_stop();
	return code;
}

static bool prepare_socket_folder(
        const struct sockspec *spec, const char *option, const char *user, bool named, struct error *err)
{
	return !spec || spec->type != SOCKSPEC_UNIX ||
	       privilege_prepare_parent(spec->path, 0755, user, named, err) || error_at(err, "%s", option);
}

/* /run is empty after each boot. */
static bool prepare_socket_folders(const struct process_options *p, bool named, struct error *err)
{
	bool ok = prepare_socket_folder(p->control_listen, "control.listen", p->user, named, err) &&
	          prepare_socket_folder(p->control_observe, "control.observe", p->user, named, err) &&
	          prepare_socket_folder(p->control_metrics, "control.metrics", p->user, named, err);

	for (size_t i = 0; ok && i < p->handoff_listen.n; i++)
		ok = prepare_socket_folder(
		        &p->handoff_listen.items[i], "handoff.listen", p->user, named, err);
	return ok;
}

/* Said with the option's name and a remedy, before something deeper says less. */
static bool check_folders(const struct process_options *p, struct error *err)
{
	if (!privilege_check_dir(p->spool_path, err))
		return error_at(err, "spool.path");
	if (access(p->log_events, W_OK) != 0 && !privilege_check_parent(p->log_events, err))
		return error_at(err, "log.events");
	return true;
}

static bool prepare_folders(const struct process_options *p, bool named, struct error *err)
{
	if (!privilege_prepare_dir(p->spool_path, 0700, p->user, named, err))
		return error_at(err, "spool.path");
	return privilege_prepare_parent(p->log_events, 0750, p->user, named, err) ||
	       error_at(err, "log.events");
}

static bool prepare(const struct process_options *p, struct daemon_sockets *sockets, struct error *err)
{
	bool named = strcmp(p->user, "bindpost") != 0; /* the built-in one may be missing in a trial */

	umask(0077);
	raise_descriptors();
	return privilege_check_user(p->user, named, err) && prepare_folders(p, named, err) &&
	       prepare_socket_folders(p, named, err) && daemon_sockets_open(p, sockets, err) &&
	       privilege_drop(p->user, named, err) && check_folders(p, err);
}

/* They are read again by the user we become. */
static void try_keys(const struct policy *policy, struct errors *errors)
{
	struct stamp_keys *keys = stamp_keys_of(policy_conf(policy), errors);

	stamp_keys_free(&keys);
}

/* What root could read at the start the user we are now must read at a reload: better said now than then. */
static void warn_unreadable(void *ctx, const char *path, int error)
{
	(void)ctx;
	log_warning(
	        "%s: cannot be read by the user we run as: %s; a reload will fail", path, strerror(error));
}

static int run(const char *config_path, bool check_only)
{
	struct daemon_sockets sockets = {0};
	struct errors errors = {0};
	struct policy *policy = policy_load(config_path, &errors);
	struct error err;
	sigset_t signals;
	bool good;

	if (policy)
		try_keys(policy, &errors);
	good = errors.n_errors == 0;
	print_errors(&errors);
	errors_free(&errors);
	if (!good || check_only) {
		policy_unref(&policy);
		return good ? 0 : 1;
	}
	block_signals(&signals);
	if (!prepare(conf_process(policy_conf(policy)), &sockets, &err)) {
		log_error("%s", err.text);
		daemon_sockets_close(&sockets);
		policy_unref(&policy);
		return 1;
	}
	conf_each_unreadable(policy_conf(policy), warn_unreadable, NULL);
	return serve(config_path, policy, &sockets, &signals);
}

int main(int argc, char **argv)
{
	const char *config_path = DEFAULT_CONFIG;
	bool check_only = false;
	int option;

	log_init("deliveryd", LOG_LEVEL_INFO);
	while ((option = getopt(argc, argv, "c:tVh")) != -1) {
		switch (option) {
		case 'c':
			config_path = optarg;
			break;
		case 't':
			check_only = true;
			break;
		case 'V':
			puts("deliveryd " PACKAGE_VERSION);
			return 0;
		case 'h':
			usage(stdout);
			return 0;
		default:
			return usage(stderr);
		}
	}
	if (optind < argc)
		return usage(stderr);
	return run(config_path, check_only);
}
