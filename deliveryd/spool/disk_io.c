#include "config.h"
#include "spool/disk_io.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <time.h>
#include <unistd.h>

static int sys_open(struct disk_io *io, int dir, const char *name, int flags, mode_t mode)
{
	int fd;

	(void)io;
	do
		fd = openat(dir, name, flags | O_CLOEXEC, mode);
	while (fd < 0 && errno == EINTR);
	return fd;
}

static int sys_close(struct disk_io *io, int fd)
{
	(void)io;
	return close(fd);
}

static ssize_t sys_pread(struct disk_io *io, int fd, void *buf, size_t len, uint64_t at)
{
	ssize_t n;

	(void)io;
	do
		n = pread(fd, buf, len, (off_t)at);
	while (n < 0 && errno == EINTR);
	return n;
}

static ssize_t sys_pwritev(struct disk_io *io, int fd, const struct iovec *iov, int n, uint64_t at)
{
	ssize_t written;

	(void)io;
	do
		written = pwritev(fd, iov, n, (off_t)at);
	while (written < 0 && errno == EINTR);
	return written;
}

static int sys_allocate(struct disk_io *io, int fd, uint64_t len)
{
	int result;

	(void)io;
	do
		result = fallocate(fd, 0, 0, (off_t)len);
	while (result < 0 && errno == EINTR);
	/* File systems without it are no worse off: the zeros are written anyway. */
	return result < 0 && errno == EOPNOTSUPP ? 0 : result;
}

/* A sync is not repeated, whatever it says: after a failure the kernel may call pages clean that never arrived. */
static int sys_datasync(struct disk_io *io, int fd)
{
	(void)io;
	return fdatasync(fd);
}

static int sys_sync_dir(struct disk_io *io, int dir)
{
	(void)io;
	return fsync(dir);
}

static int sys_mkdir(struct disk_io *io, int dir, const char *name, mode_t mode)
{
	(void)io;
	return mkdirat(dir, name, mode);
}

static int sys_rename(struct disk_io *io, int dir, const char *from, const char *to)
{
	(void)io;
	return renameat(dir, from, dir, to);
}

static int sys_link(struct disk_io *io, int dir, const char *from, const char *to)
{
	(void)io;
	return linkat(dir, from, dir, to, 0);
}

static int sys_unlink(struct disk_io *io, int dir, const char *name)
{
	(void)io;
	return unlinkat(dir, name, 0);
}

static int sys_size(struct disk_io *io, int fd, uint64_t *bytes)
{
	struct stat st;

	(void)io;
	if (fstat(fd, &st) < 0)
		return -1;
	*bytes = (uint64_t)st.st_size;
	return 0;
}

static int sys_list(struct disk_io *io, int dir, void (*each)(void *ctx, const char *name), void *ctx)
{
	/* its own descriptor: the position is not to be shared with another listing */
	int fd = sys_open(io, dir, ".", O_RDONLY | O_DIRECTORY, 0), error;
	DIR *d = fd < 0 ? NULL : fdopendir(fd);
	struct dirent *entry;

	if (d == NULL) {
		error = errno;
		if (fd >= 0)
			(void)close(fd);
		errno = error;
		return -1;
	}
	for (errno = 0; (entry = readdir(d)) != NULL; errno = 0)
		if (strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0)
			each(ctx, entry->d_name);
	error = errno;
	(void)closedir(d);
	errno = error;
	return error == 0 ? 0 : -1;
}

static int sys_space(struct disk_io *io, int dir, uint64_t *free_bytes)
{
	struct statvfs vfs;

	(void)io;
	if (fstatvfs(dir, &vfs) < 0)
		return -1;
	*free_bytes = (uint64_t)vfs.f_bavail * vfs.f_frsize;
	return 0;
}

static int sys_lock(struct disk_io *io, int dir, unsigned wait_s)
{
	const struct timespec pause = {.tv_nsec = 50 * 1000 * 1000};

	(void)io;
	for (unsigned tries = wait_s * 20; flock(dir, LOCK_EX | LOCK_NB) < 0; tries--) {
		if (errno != EWOULDBLOCK && errno != EINTR)
			return -1;
		if (tries == 0) {
			errno = EWOULDBLOCK;
			return -1;
		}
		(void)nanosleep(&pause, NULL);
	}
	return 0;
}

struct disk_io disk_io_system = {
        .open = sys_open,
        .close = sys_close,
        .pread = sys_pread,
        .pwritev = sys_pwritev,
        .allocate = sys_allocate,
        .datasync = sys_datasync,
        .sync_dir = sys_sync_dir,
        .mkdir = sys_mkdir,
        .rename = sys_rename,
        .link = sys_link,
        .unlink = sys_unlink,
        .size = sys_size,
        .list = sys_list,
        .space = sys_space,
        .lock = sys_lock,
};

bool disk_write_all(struct disk_io *io, int fd, struct iovec *iov, size_t n, uint64_t at)
{
	while (n > 0) {
		ssize_t written = io->pwritev(io, fd, iov, n > IOV_MAX ? IOV_MAX : (int)n, at);

		if (written < 0)
			return false;
		if (written == 0) { /* no progress and no reason: the disk is not to be trusted */
			errno = EIO;
			return false;
		}
		at += (uint64_t)written;
		while (n > 0 && (size_t)written >= iov->iov_len) {
			written -= (ssize_t)iov->iov_len;
			iov++;
			n--;
		}
		if (n > 0) {
			iov->iov_base = (char *)iov->iov_base + written;
			iov->iov_len -= (size_t)written;
		}
	}
	return true;
}

ssize_t disk_read_full(struct disk_io *io, int fd, void *buf, size_t len, uint64_t at)
{
	size_t done = 0;

	while (done < len) {
		ssize_t got = io->pread(io, fd, (char *)buf + done, len - done, at + done);

		if (got < 0)
			return -1;
		if (got == 0)
			break;
		done += (size_t)got;
	}
	return (ssize_t)done;
}

bool disk_errno_is_space(int error)
{
	return error == ENOSPC || error == EDQUOT;
}

bool disk_errno_is_fatal(int error)
{
	return error == EIO || error == EROFS;
}
