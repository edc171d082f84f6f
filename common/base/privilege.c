#include "base/privilege.h"

#include <errno.h>
#include <grp.h>
#include <pwd.h>
#include <string.h>
#include <unistd.h>

#include "base/log.h"
#include "base/mem.h"

/* False with an error when the user is needed and missing; *pw NULL when root stays. */
static bool find_user(const char *user, bool named, struct passwd **pw, struct error *err)
{
	*pw = NULL;
	if (geteuid() != 0)
		return true;
	errno = 0;
	*pw = getpwnam(user);
	if (*pw || !named)
		return true;
	return error_set(
	        err, "user: there is no user \"%s\" on this machine; create it or name another", user);
}

bool privilege_check_user(const char *user, bool named, struct error *err)
{
	struct passwd *pw;

	return find_user(user, named, &pw, err);
}

/* Only for folders just made: one that stood before belongs to whom the operator gave it. */
static bool give_dir(const char *path, const struct passwd *pw, struct error *err)
{
	if (!pw || pw->pw_uid == 0)
		return true;
	if (chown(path, pw->pw_uid, pw->pw_gid) < 0)
		return error_sys(err, "%s: cannot be given to user %s", path, pw->pw_name);
	return true;
}

bool privilege_prepare_dir(const char *path, mode_t mode, const char *user, bool named, struct error *err)
{
	struct passwd *pw;
	bool made;

	if (!find_user(user, named, &pw, err))
		return false;
	made = mkdir(path, mode) == 0;
	if (!made && errno != EEXIST)
		return error_sys(err, "cannot make the folder %s", path);
	if (made && chmod(path, mode) < 0) /* whatever the umask is */
		return error_sys(err, "cannot set the mode of the folder %s", path);
	return made ? give_dir(path, pw, err) : true;
}

bool privilege_prepare_parent(const char *file, mode_t mode, const char *user, bool named, struct error *err)
{
	char *dir = mem_strdup(file);
	char *slash = strrchr(dir, '/');
	bool ok = true;

	if (slash && slash != dir) {
		*slash = 0;
		ok = privilege_prepare_dir(dir, mode, user, named, err);
	}
	mem_free(&dir);
	return ok;
}

bool privilege_check_dir(const char *path, struct error *err)
{
	struct passwd *pw;

	if (access(path, R_OK | W_OK | X_OK) == 0)
		return true;
	if (errno != EACCES)
		return error_sys(err, "%s", path);
	pw = getpwuid(geteuid());
	return error_set(err,
	        "%s: user %s may not write there; give it the folder and what is in it (chown -R)", path,
	        pw ? pw->pw_name : "that this runs as");
}

bool privilege_check_parent(const char *file, struct error *err)
{
	char *dir = mem_strdup(file);
	char *slash = strrchr(dir, '/');
	bool ok = true;

	if (slash && slash != dir) {
		*slash = 0;
		ok = privilege_check_dir(dir, err);
	}
	mem_free(&dir);
	return ok;
}

bool privilege_drop(const char *user, bool named, struct error *err)
{
	struct passwd *pw;

	if (!find_user(user, named, &pw, err))
		return false;
	if (geteuid() != 0)
		return true;
	if (!pw) {
		log_warning("user: there is no user \"%s\" on this machine: staying root; create it, or set "
		            "\"user\"",
		        user);
		return true;
	}
	if (pw->pw_uid == 0)
		return true;
	if (initgroups(pw->pw_name, pw->pw_gid) < 0 || setgid(pw->pw_gid) < 0 || setuid(pw->pw_uid) < 0)
		return error_sys(err, "cannot become user %s", user);
	if (setuid(0) == 0)
		return error_set(err, "user %s: root could be taken back", user);
	return true;
}
