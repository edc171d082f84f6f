/*
 * sick_disk - makes the disk under a program fail, from outside (LD_PRELOAD)
 *
 * While the file named by SICK_DISK exists, calls on files below SICK_DIR fail as its first word says: "sync" (fdatasync
 * and fsync give EIO), "write" (pwritev gives EIO), "read" (pread gives EIO), "readonly" (writes give EROFS), "full"
 * (what would make a file grow gives ENOSPC).
 */
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

static int sick(int fd, const char *what)
{
	const char *flag = getenv("SICK_DISK"), *dir = getenv("SICK_DIR");
	char link[64], path[4096], word[16] = "";
	int in = flag ? open(flag, O_RDONLY | O_CLOEXEC) : -1;
	ssize_t n;

	if (in < 0)
		return 0;
	n = read(in, word, sizeof(word) - 1);
	close(in);
	if (n < 0 || strncmp(word, what, strlen(what)) != 0)
		return 0;
	snprintf(link, sizeof(link), "/proc/self/fd/%d", fd);
	n = readlink(link, path, sizeof(path) - 1);
	if (n <= 0)
		return 0;
	path[n] = 0;
	return dir && strncmp(path, dir, strlen(dir)) == 0;
}

static int fail(int error)
{
	errno = error;
	return -1;
}

int fdatasync(int fd)
{
	int (*real)(int) = (int (*)(int))dlsym(RTLD_NEXT, "fdatasync");

	return sick(fd, "sync") ? fail(EIO) : real(fd);
}

int fsync(int fd)
{
	int (*real)(int) = (int (*)(int))dlsym(RTLD_NEXT, "fsync");

	return sick(fd, "sync") ? fail(EIO) : real(fd);
}

static ssize_t writev_at(int fd, const struct iovec *iov, int n, off_t at)
{
	ssize_t (*real)(int, const struct iovec *, int, off_t) =
		(ssize_t(*)(int, const struct iovec *, int, off_t))dlsym(RTLD_NEXT, "pwritev64");
	struct stat st;
	off_t end = at;

	for (int i = 0; i < n; i++)
		end += (off_t)iov[i].iov_len;
	if (sick(fd, "write"))
		return fail(EIO);
	if (sick(fd, "readonly"))
		return fail(EROFS);
	if (sick(fd, "full") && fstat(fd, &st) == 0 && end > st.st_size)
		return fail(ENOSPC);
	return real(fd, iov, n, at);
}

ssize_t pwritev(int fd, const struct iovec *iov, int n, off_t at)
{
	return writev_at(fd, iov, n, at);
}

ssize_t pwritev64(int fd, const struct iovec *iov, int n, off_t at)
{
	return writev_at(fd, iov, n, at);
}

static int allocate(int fd, int mode, off_t at, off_t len)
{
	int (*real)(int, int, off_t, off_t) = (int (*)(int, int, off_t, off_t))dlsym(RTLD_NEXT, "fallocate64");

	return sick(fd, "full") ? fail(ENOSPC) : real(fd, mode, at, len);
}

int fallocate(int fd, int mode, off_t at, off_t len)
{
	return allocate(fd, mode, at, len);
}

int fallocate64(int fd, int mode, off_t at, off_t len)
{
	return allocate(fd, mode, at, len);
}

static ssize_t read_at(int fd, void *buf, size_t n, off_t at)
{
	ssize_t (*real)(int, void *, size_t, off_t) =
		(ssize_t(*)(int, void *, size_t, off_t))dlsym(RTLD_NEXT, "pread64");

	return sick(fd, "read") ? fail(EIO) : real(fd, buf, n, at);
}

ssize_t pread(int fd, void *buf, size_t n, off_t at)
{
	return read_at(fd, buf, n, at);
}

ssize_t pread64(int fd, void *buf, size_t n, off_t at)
{
	return read_at(fd, buf, n, at);
}
