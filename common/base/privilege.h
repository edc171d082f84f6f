/*
 * privilege - root only as long as needed
 *
 * Purpose    Programs started as root open what needs it, then become `user` for good (design 10). Not started as
 *            root, nothing changes and `user` is ignored.
 *            The built-in user may be missing (a trial from the build tree): then a warning says so and root stays;
 *            a user the configuration names must exist.
 * Threads    At start, before any other thread.
 */
#ifndef BASE_PRIVILEGE_H
#define BASE_PRIVILEGE_H

#include <stdbool.h>
#include <sys/stat.h>
#include "base/error.h"

/* As root: the user exists, or is the built-in one. */
bool privilege_check_user(const char *user, bool user_named, struct error *);
/* Makes the folder when it is missing (not its parents) and, as root, gives it to the user. */
bool privilege_prepare_dir(const char *path, mode_t, const char *user, bool user_named, struct error *);
/* The same for the folder a file lies in. */
bool privilege_prepare_parent(const char *file, mode_t, const char *user, bool user_named, struct error *);
/* After privilege_drop(): may the user make files there? What stood before belongs to whom the operator gave it. */
bool privilege_check_dir(const char *path, struct error *);
bool privilege_check_parent(const char *file, struct error *);
/* setgid, supplementary groups, setuid; checks that it cannot be taken back. */
bool privilege_drop(const char *user, bool user_named, struct error *);

#endif
