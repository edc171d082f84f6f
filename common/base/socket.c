#include "config.h"
#include "base/sockspec.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <poll.h>
#include <pwd.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <systemd/sd-daemon.h>
#include <unistd.h>
#include "base/mem.h"

/* The place in front of an error: the socket as configured. Closes fd if there is one. Returns -1. */
static int spec_failed(const struct sockspec *spec, int fd, struct error *err)
{
	struct str text;
	int code = errno; /* callers may ask what it was */

	if (fd >= 0)
		(void)close(fd);
	str_init(&text);
	sockspec_print(spec, &text);
	(void)error_at(err, "%s", text.data);
	str_free(&text);
	errno = code;
	return -1;
}

/* ---- Unix ---- */

static socklen_t unix_address(const struct sockspec *spec, struct sockaddr_un *un)
{
	memset(un, 0, sizeof(*un));
	un->sun_family = AF_UNIX;
	memcpy(un->sun_path, spec->path, strlen(spec->path));
	return (socklen_t)(offsetof(struct sockaddr_un, sun_path) + strlen(spec->path) + 1);
}

/* Takes away a socket file that a process which is gone has left; never one that somebody listens on. */
static bool remove_stale(
        const struct sockspec *spec, const struct sockaddr_un *un, socklen_t len, struct error *err)
{
	struct stat st;
	int fd, rc;

	if (lstat(spec->path, &st) != 0)
		return errno == ENOENT || error_sys(err, "%s", spec->path);
	if (!S_ISSOCK(st.st_mode))
		return error_set(err, "%s exists and is not a socket", spec->path);
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd < 0)
		return error_sys(err, "socket");
	rc = connect(fd, (const struct sockaddr *)un, len) == 0 ? 0 : errno;
	(void)close(fd);
	/* EAGAIN: its backlog is full, so it lives */
	if (rc == 0 || rc == EAGAIN)
		return error_set(err, "another process listens there already");
	if (rc != ECONNREFUSED && rc != ENOENT) {
		errno = rc;
		return error_sys(err, "connect");
	}
	if (unlink(spec->path) != 0 && errno != ENOENT)
		return error_sys(err, "unlink");
	return true;
}

static bool find_group(const char *name, gid_t *gid, struct error *err)
{
	char buf[16384];
	struct group group, *found = NULL;
	int rc = getgrnam_r(name, &group, buf, sizeof(buf), &found);

	if (rc != 0) {
		errno = rc;
		return error_sys(err, "group %s", name);
	}
	if (found == NULL)
		return error_set(err, "there is no group %s", name);
	*gid = found->gr_gid;
	return true;
}

static bool find_user(const char *name, uid_t *uid, struct error *err)
{
	char buf[16384];
	struct passwd user, *found = NULL;
	int rc = getpwnam_r(name, &user, buf, sizeof(buf), &found);

	if (rc != 0) {
		errno = rc;
		return error_sys(err, "user %s", name);
	}
	if (found == NULL)
		return error_set(err, "there is no user %s", name);
	*uid = found->pw_uid;
	return true;
}

/* Owner first: until then the mode gives nobody more than it will in the end. */
static bool apply_mode(const struct sockspec *spec, struct error *err)
{
	uid_t uid = (uid_t)-1;
	gid_t gid = (gid_t)-1;

	if (spec->group[0] != '\0' && !find_group(spec->group, &gid, err))
		return false;
	if (spec->user[0] != '\0' && !find_user(spec->user, &uid, err))
		return false;
	if ((uid != (uid_t)-1 || gid != (gid_t)-1) && lchown(spec->path, uid, gid) != 0)
		return error_sys(err, "chown");
	if (spec->mode != 0 && chmod(spec->path, spec->mode) != 0)
		return error_sys(err, "chmod");
	return true;
}

bool sockspec_apply_mode(const struct sockspec *spec, struct error *err)
{
	if (spec->type != SOCKSPEC_UNIX || apply_mode(spec, err))
		return true;
	(void)spec_failed(spec, -1, err);
	return false;
}

static int listen_unix(const struct sockspec *spec, int backlog, struct error *err)
{
	struct sockaddr_un un;
	socklen_t len = unix_address(spec, &un);
	int fd;

	if (!remove_stale(spec, &un, len, err))
		return spec_failed(spec, -1, err);
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd < 0) {
		(void)error_sys(err, "socket");
		return spec_failed(spec, fd, err);
	}
	/* bind() makes the file with the socket's own mode, less the umask: so it is never open wider than
	 * wanted */
	if (spec->mode != 0 && fchmod(fd, spec->mode) != 0) {
		(void)error_sys(err, "fchmod");
		return spec_failed(spec, fd, err);
	}
	if (bind(fd, (struct sockaddr *)&un, len) != 0) {
		(void)error_sys(err, "bind");
		return spec_failed(spec, fd, err);
	}
	if (!apply_mode(spec, err) || (listen(fd, backlog) != 0 && !error_sys(err, "listen"))) {
		(void)unlink(spec->path);
		return spec_failed(spec, fd, err);
	}
	return fd;
}

/* ---- inet ---- */

static int listen_addr(const struct addr *addr, int backlog, struct error *err)
{
	struct sockaddr_storage ss;
	socklen_t len = addr_to_sockaddr(addr, &ss);
	const int on = 1;
	int code, fd = socket(addr->family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	const char *step = "socket";

	if (fd < 0)
		goto failed;
	step = "setsockopt";
	if (setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on)) != 0)
		goto failed;
	if (addr->family == AF_INET6 && setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &on, sizeof(on)) != 0)
		goto failed;
	step = "bind";
	if (bind(fd, (struct sockaddr *)&ss, len) != 0)
		goto failed;
	step = "listen";
	if (listen(fd, backlog) == 0)
		return fd;
failed:
	code = errno;
	(void)error_set(err, "%s: %s%s", step, strerror(code),
	        code == EADDRINUSE      ? " (`ss -lntp` shows what listens there)"
	        : code == EADDRNOTAVAIL ? " (the address is not on this machine)"
	                                : "");
	if (fd >= 0)
		(void)close(fd);
	errno = code;
	return -1;
}

/* "*": IPv4, and IPv6 where the machine has it */
static int listen_all(const struct sockspec *spec, int backlog, int *fds, int max, struct error *err)
{
	struct addr v4 = {.family = AF_INET, .port = spec->addr.port};
	struct addr v6 = {.family = AF_INET6, .port = spec->addr.port};
	int fd = listen_addr(&v4, backlog, err);

	if (fd < 0)
		return spec_failed(spec, -1, err);
	fds[0] = fd;
	if (max < 2)
		return 1;
	fds[1] = listen_addr(&v6, backlog, err);
	if (fds[1] >= 0)
		return 2;
	if (errno == EAFNOSUPPORT || errno == EADDRNOTAVAIL)
		return 1;
	return spec_failed(spec, fd, err);
}

/* ---- systemd ---- */

static bool set_flags(int fd, struct error *err)
{
	int flags = fcntl(fd, F_GETFL);

	if (flags < 0 || fcntl(fd, F_SETFL, flags | O_NONBLOCK) != 0 || fcntl(fd, F_SETFD, FD_CLOEXEC) != 0)
		return error_sys(err, "fcntl");
	return true;
}

static int systemd_pick(
        const struct sockspec *spec, char **names, int n, int *fds, int max, struct error *err)
{
	int found = 0;

	for (int i = 0; i < n; i++) {
		int fd = SD_LISTEN_FDS_START + i;

		if (strcmp(names[i], spec->path) != 0)
			continue;
		if (found == max) {
			(void)error_set(err, "systemd passed more than %d sockets of this name", max);
			return -1;
		}
		if (sd_is_socket(fd, AF_UNSPEC, SOCK_STREAM, 1) <= 0) {
			(void)error_set(err, "what systemd passed is not a listening stream socket");
			return -1;
		}
		if (!set_flags(fd, err))
			return -1;
		fds[found++] = fd;
	}
	if (found == 0) {
		(void)error_set(err, "systemd passed no socket with FileDescriptorName=%s", spec->path);
		return -1;
	}
	return found;
}

static int listen_systemd(const struct sockspec *spec, int *fds, int max, struct error *err)
{
	char **names = NULL;
	int n = sd_listen_fds_with_names(0, &names), found;

	if (n < 0) {
		errno = -n;
		(void)error_sys(err, "sd_listen_fds_with_names");
		return spec_failed(spec, -1, err);
	}
	found = systemd_pick(spec, names, n, fds, max, err);
	for (int i = 0; names != NULL && names[i] != NULL; i++)
		free(names[i]);
	free(names);
	return found < 0 ? spec_failed(spec, -1, err) : found;
}

int sockspec_listen(const struct sockspec *spec, int backlog, int *fds, int max, struct error *err)
{
	switch (spec->type) {
	case SOCKSPEC_UNIX:
		fds[0] = listen_unix(spec, backlog, err);
		return fds[0] < 0 ? -1 : 1;
	case SOCKSPEC_SYSTEMD:
		return listen_systemd(spec, fds, max, err);
	case SOCKSPEC_INET:
		break;
	}
	if (spec->addr.family == AF_UNSPEC)
		return listen_all(spec, backlog, fds, max, err);
	fds[0] = listen_addr(&spec->addr, backlog, err);
	return fds[0] < 0 ? spec_failed(spec, -1, err) : 1;
}

/* A signal does not stop a connect; it only ends our waiting. */
static bool connect_wait(int fd, const struct sockaddr *sa, socklen_t sa_len)
{
	struct pollfd pfd = {.fd = fd, .events = POLLOUT};
	int code = 0;
	socklen_t len = sizeof(code);

	if (connect(fd, sa, sa_len) == 0)
		return true;
	if (errno != EINTR)
		return false;
	while (poll(&pfd, 1, -1) < 0)
		if (errno != EINTR)
			return false;
	if (getsockopt(fd, SOL_SOCKET, SO_ERROR, &code, &len) != 0)
		return false;
	errno = code;
	return code == 0;
}

int sockspec_connect(const struct sockspec *spec, struct error *err)
{
	struct sockaddr_storage ss;
	struct sockaddr_un un;
	const struct sockaddr *sa = (struct sockaddr *)&ss;
	socklen_t len;
	int fd;

	if (spec->type == SOCKSPEC_SYSTEMD ||
	        (spec->type == SOCKSPEC_INET && spec->addr.family == AF_UNSPEC)) {
		(void)error_set(err, "one can listen there, but not connect");
		return spec_failed(spec, -1, err);
	}
	if (spec->type == SOCKSPEC_UNIX) {
		len = unix_address(spec, &un);
		sa = (struct sockaddr *)&un;
	} else {
		len = addr_to_sockaddr(&spec->addr, &ss);
	}
	fd = socket(sa->sa_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (fd < 0) {
		(void)error_sys(err, "socket");
		return spec_failed(spec, fd, err);
	}
	if (connect_wait(fd, sa, len))
		return fd;
	(void)error_sys(err, "connect");
	return spec_failed(spec, fd, err);
}
