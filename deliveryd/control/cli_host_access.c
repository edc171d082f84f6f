/*
 * What a start and a reload need of this machine: the user, the groups, the folders, and files that the user can read.
 */
#include "control/cli_host.h"

#include <errno.h>
#include <grp.h>
#include <pwd.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/mem.h"

static bool is_folder(const char *path)
{
	struct stat st;

	return stat(path, &st) == 0 && S_ISDIR(st.st_mode);
}

/* The daemons make a folder, but not the one it lies in. */
static void check_folder(struct errors *errors, const char *option, const char *path)
{
	char *dir = mem_strdup(path), *slash;

	if (!is_folder(dir) && (slash = strrchr(dir, '/')) != NULL && slash != dir) {
		*slash = '\0';
		if (!is_folder(dir))
			errors_add(errors, ERROR_WARNING,
			        "%s: there is no folder %s for it: make it, or name another", option, dir);
	}
	mem_free(&dir);
}

static void check_folder_of(struct errors *errors, const char *option, const char *file)
{
	char *dir = mem_strdup(file), *slash = strrchr(dir, '/');

	if (slash && slash != dir) {
		*slash = '\0';
		check_folder(errors, option, dir);
	}
	mem_free(&dir);
}

static void check_socket(struct errors *errors, const char *option, const struct sockspec *s)
{
	if (!s || s->type != SOCKSPEC_UNIX)
		return;
	if (s->group[0] && !getgrnam(s->group))
		errors_add(
		        errors, ERROR_WARNING, "%s: there is no group %s on this machine", option, s->group);
	if (s->user[0] && !getpwnam(s->user))
		errors_add(errors, ERROR_WARNING, "%s: there is no user %s on this machine", option, s->user);
	check_folder_of(errors, option, s->path);
}

struct reader {
	struct errors *errors;
	const char *user;
};

static void report_unreadable(void *ctx, const char *path, int error)
{
	const struct reader *r = ctx;

	errors_add(r->errors, ERROR_WARNING, "%s: user %s cannot read it: %s; a reload will fail", path,
	        r->user, strerror(error));
}

/* As root: with that user's eyes. */
static void check_readable(const struct conf *conf, const struct passwd *pw, struct errors *errors)
{
	struct reader reader = {errors, pw->pw_name};
	gid_t before[256];
	int n = getgroups(256, before);

	if (geteuid() != 0 || pw->pw_uid == 0 || n < 0)
		return;
	if (initgroups(pw->pw_name, pw->pw_gid) == 0 && setegid(pw->pw_gid) == 0 && seteuid(pw->pw_uid) == 0)
		conf_each_unreadable(conf, report_unreadable, &reader);
	if (seteuid(0) != 0 || setegid(0) != 0 || setgroups((size_t)n, before) != 0)
		errors_add(errors, ERROR_WARNING, "cannot become root again: %s", strerror(errno));
}

static void check_user(const struct conf *conf, struct errors *errors)
{
	const char *user = conf_process(conf)->user;
	const struct passwd *pw = getpwnam(user);

	if (pw)
		check_readable(conf, pw, errors);
	else
		errors_add(errors, ERROR_WARNING,
		        "user: there is no user \"%s\" on this machine: create it (systemd-sysusers), or "
		        "name another",
		        user);
}

void host_check_access(const struct conf *conf, struct errors *errors)
{
	const struct process_options *p = conf_process(conf);

	check_user(conf, errors);
	check_socket(errors, "milter.listen", p->milter_listen);
	check_socket(errors, "milter.control", p->milter_control);
	for (size_t i = 0; i < p->handoff_listen.n; i++)
		check_socket(errors, "handoff.listen", &p->handoff_listen.items[i]);
	check_socket(errors, "control.listen", p->control_listen);
	check_socket(errors, "control.observe", p->control_observe);
	check_socket(errors, "control.metrics", p->control_metrics);
	check_folder(errors, "spool.path", p->spool_path);
	check_folder_of(errors, "log.events", p->log_events);
}
