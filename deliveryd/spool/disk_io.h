/*
 * disk_io - the file system as the spool sees it
 *
 * Purpose    All of the spool's calls to the disk go through one struct, so that tests run the real code on a
 *            simulated disk that forgets what was not synced, tears blocks and fails any call.
 * Threads    Any; the calls block.
 * Errors     Like the system calls: -1 with errno. EINTR never comes out.
 */
#ifndef SPOOL_DISK_IO_H
#define SPOOL_DISK_IO_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>
#include <sys/uio.h>

#define DISK_BLOCK 4096u

struct disk_io {
	/* dir: a descriptor of a folder, or AT_FDCWD */
	int (*open)(struct disk_io *, int dir, const char *name, int flags, mode_t mode);
	int (*close)(struct disk_io *, int fd);
	ssize_t (*pread)(struct disk_io *, int fd, void *buf, size_t len, uint64_t at);
	ssize_t (*pwritev)(struct disk_io *, int fd, const struct iovec *iov, int n, uint64_t at);
	int (*allocate)(
	        struct disk_io *, int fd, uint64_t len); /* reserves the space, or fails with ENOSPC */
	int (*datasync)(struct disk_io *, int fd);
	int (*sync_dir)(struct disk_io *, int dir);
	int (*mkdir)(struct disk_io *, int dir, const char *name, mode_t mode);
	int (*rename)(struct disk_io *, int dir, const char *from, const char *to);
	int (*link)(struct disk_io *, int dir, const char *from, const char *to);
	int (*unlink)(struct disk_io *, int dir, const char *name);
	int (*size)(struct disk_io *, int fd, uint64_t *bytes);
	int (*list)(struct disk_io *, int dir, void (*each)(void *ctx, const char *name), void *ctx);
	int (*space)(struct disk_io *, int dir, uint64_t *free_bytes); /* what we may still use */
	int (*lock)(struct disk_io *, int dir, unsigned wait_s);       /* EWOULDBLOCK: another has it still */
};

extern struct disk_io disk_io_system;

/* All of it, whatever the number of iovecs and however short the writes. Changes the iovecs. */
bool disk_write_all(struct disk_io *, int fd, struct iovec *iov, size_t n, uint64_t at);
/* Up to len bytes; fewer only at the file's end. -1 on error. */
ssize_t disk_read_full(struct disk_io *, int fd, void *buf, size_t len, uint64_t at);
/* ENOSPC and EDQUOT: no harm done, there may be space later */
bool disk_errno_is_space(int error);
/* EIO and EROFS: the disk is not to be trusted any more */
bool disk_errno_is_fatal(int error);

#endif
