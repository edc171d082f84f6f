#include "config.h"
#include "spool/offline.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include "spool/body_file.h"
#include "spool/crc.h"
#include "spool/payload.h"
#include "spool/spool_int.h"
#include "spool/start.h"

/* The disk as it is for who may not write: what a start would repair is done to nobody's disk. */
struct read_only {
	struct disk_io io;
	struct disk_io *disk; /* borrows */
	const char *path;     /* borrows */
};

struct offline {
	struct read_only ro;
	int lock; /* a descriptor of the folder */
	struct metrics *metrics;
	struct spool *spool;
	uint64_t n_handed_out;
};

static const char *path_of(struct disk_io *io)
{
	return container_of(io, struct read_only, io)->path;
}

static struct disk_io *disk_of(struct disk_io *io)
{
	return container_of(io, struct read_only, io)->disk;
}

static int ro_open(struct disk_io *io, int dir, const char *name, int flags, mode_t mode)
{
	int fd;

	if (flags & (O_CREAT | O_TRUNC)) {
		errno = EROFS;
		return -1;
	}
	flags = (flags & ~O_ACCMODE) | O_RDONLY;
	fd = disk_of(io)->open(disk_of(io), dir, name, flags, mode);
	/* a spool without the folder of large bodies is one in which none of them is found */
	if (fd < 0 && errno == ENOENT && strcmp(name, "bodies") == 0)
		fd = disk_of(io)->open(disk_of(io), AT_FDCWD, path_of(io), flags, mode);
	return fd;
}

static int ro_close(struct disk_io *io, int fd)
{
	return disk_of(io)->close(disk_of(io), fd);
}

static ssize_t ro_pread(struct disk_io *io, int fd, void *buf, size_t len, uint64_t at)
{
	return disk_of(io)->pread(disk_of(io), fd, buf, len, at);
}

static ssize_t ro_pwritev(struct disk_io *io, int fd, const struct iovec *iov, int n, uint64_t at)
{
	ssize_t sum = 0;

	(void)io;
	(void)fd;
	(void)at;
	for (int i = 0; i < n; i++)
		sum += (ssize_t)iov[i].iov_len;
	return sum;
}

static int ro_allocate(struct disk_io *io, int fd, uint64_t len)
{
	(void)io;
	(void)fd;
	(void)len;
	return 0;
}

static int ro_sync(struct disk_io *io, int fd)
{
	(void)io;
	(void)fd;
	return 0;
}

static int ro_mkdir(struct disk_io *io, int dir, const char *name, mode_t mode)
{
	(void)io;
	(void)dir;
	(void)name;
	(void)mode;
	errno = EEXIST;
	return -1;
}

static int ro_rename(struct disk_io *io, int dir, const char *from, const char *to)
{
	(void)io;
	(void)dir;
	(void)from;
	(void)to;
	return 0;
}

static int ro_unlink(struct disk_io *io, int dir, const char *name)
{
	(void)io;
	(void)dir;
	(void)name;
	return 0;
}

static int ro_size(struct disk_io *io, int fd, uint64_t *bytes)
{
	return disk_of(io)->size(disk_of(io), fd, bytes);
}

static int ro_list(struct disk_io *io, int dir, void (*each)(void *ctx, const char *name), void *ctx)
{
	return disk_of(io)->list(disk_of(io), dir, each, ctx);
}

static int ro_space(struct disk_io *io, int dir, uint64_t *free_bytes)
{
	return disk_of(io)->space(disk_of(io), dir, free_bytes);
}

static int ro_lock(struct disk_io *io, int dir, unsigned wait_s) /* we have it already */
{
	(void)io;
	(void)dir;
	(void)wait_s;
	return 0;
}

static void read_only_init(struct read_only *ro, struct disk_io *disk)
{
	ro->disk = disk;
	ro->io = (struct disk_io){
	        .open = ro_open,
	        .close = ro_close,
	        .pread = ro_pread,
	        .pwritev = ro_pwritev,
	        .allocate = ro_allocate,
	        .datasync = ro_sync,
	        .sync_dir = ro_sync,
	        .mkdir = ro_mkdir,
	        .rename = ro_rename,
	        .link = ro_rename,
	        .unlink = ro_unlink,
	        .size = ro_size,
	        .list = ro_list,
	        .space = ro_space,
	        .lock = ro_lock,
	};
}

/* ---- opening ---- */

static bool lock_folder(struct offline *o, const char *path, struct error *err)
{
	struct disk_io *disk = o->ro.disk;

	o->lock = disk->open(disk, AT_FDCWD, path, O_RDONLY | O_DIRECTORY, 0);
	if (o->lock < 0)
		return error_sys(err, "%s: open", path);
	if (disk->lock(disk, o->lock, 0) == 0)
		return true;
	if (errno == EWOULDBLOCK)
		return error_set(err, "%s: a deliveryd uses this spool: stop it first", path);
	return error_sys(err, "%s: flock", path);
}

struct offline *offline_open(const char *path, struct disk_io *io, struct error *err)
{
	struct offline *o = mem_zalloc(sizeof(*o));
	struct spool_config cfg = {
	        .path = path,
	        .segment_size = (uint64_t)64 * 1024 * 1024,
	        .clock = &clock_system,
	        .rnd = &rnd_system,
	};

	read_only_init(&o->ro, io != NULL ? io : &disk_io_system);
	o->ro.path = path;
	o->metrics = metrics_new();
	cfg.metrics = o->metrics;
	cfg.io = &o->ro.io;
	if (lock_folder(o, path, err))
		o->spool = spool_open(&cfg, err);
	if (o->spool == NULL)
		offline_close(&o);
	return o;
}

void offline_close(struct offline **offline)
{
	struct offline *o = *offline;

	*offline = NULL;
	if (o == NULL)
		return;
	spool_close(&o->spool);
	if (o->lock >= 0)
		(void)o->ro.disk->close(o->ro.disk, o->lock);
	metrics_free(&o->metrics);
	mem_free(&o);
}

struct walk {
	struct offline *o;
	spool_live_fn *live;
	spool_setting_fn *setting;
	void *ctx;
};

static void walk_live(void *ctx, const struct spool_live *live)
{
	struct walk *w = ctx;

	w->o->n_handed_out++;
	w->live(w->ctx, live);
}

static void walk_setting(void *ctx, const char *key, const char *value)
{
	struct walk *w = ctx;

	w->setting(w->ctx, key, value);
}

bool offline_walk(
        struct offline *o, spool_live_fn *live, spool_setting_fn *setting, void *ctx, struct error *err)
{
	struct walk w = {.o = o, .live = live, .setting = setting, .ctx = ctx};

	return start_look_through(o->spool->start, walk_live, walk_setting, &w, err);
}

void offline_found(const struct offline *o, struct offline_found *found)
{
	const struct spool *s = o->spool;

	*found = (struct offline_found){
	        .segments = segment_count(s),
	        .damaged = metric_get(s->m.damaged),
	        .unreadable = s->index.n - o->n_handed_out,
	};
	for (size_t i = 0; i < s->segments.n; i++)
		if (s->segments.list[i] != NULL)
			found->bytes += s->segments.list[i]->size;
}

/* ---- bodies ---- */

struct sink {
	bool (*write)(void *ctx, const void *, size_t);
	void *ctx;
};

static bool read_exact(struct spool *s, int fd, void *buf, size_t n, uint64_t at, struct error *err)
{
	ssize_t got = disk_read_full(s->io, fd, buf, n, at);

	if (got == (ssize_t)n)
		return true;
	if (got < 0)
		return error_sys(err, "reading its body");
	return error_set(err, "its body is cut short on the disk");
}

static bool write_pieces(
        struct spool *s, int fd, const struct payload_file *file, const struct sink *sink, struct error *err)
{
	size_t table_n = (size_t)((file->size + BODY_PIECE - 1) / BODY_PIECE) * 4;
	uint8_t *table = mem_alloc(table_n), *piece = mem_alloc(BODY_PIECE);
	bool ok = read_exact(s, fd, table, table_n, file->size, err);

	if (ok && crc32c(0, table, table_n) != file->table_crc)
		ok = error_set(err, "its body file is damaged");
	for (uint64_t at = 0; ok && at < file->size; at += BODY_PIECE) {
		size_t n = file->size - at < BODY_PIECE ? (size_t)(file->size - at) : BODY_PIECE;

		ok = read_exact(s, fd, piece, n, at, err);
		if (ok && crc32c(0, piece, n) != get_u32(table + at / BODY_PIECE * 4))
			ok = error_set(err, "its body file is damaged");
		ok = ok && sink->write(sink->ctx, piece, n);
	}
	mem_free(&table);
	mem_free(&piece);
	return ok;
}

static bool write_file(
        struct spool *s, const struct payload_file *file, const struct sink *sink, struct error *err)
{
	char name[FORMAT_NAME_SIZE];
	uint64_t size = 0;
	int fd = s->io->open(s->io, s->bodies_dir, format_name(name, FILE_BODY, file->number), O_RDONLY, 0);
	bool ok;

	if (fd < 0)
		return error_sys(err, "its body file %s", name);
	if (s->io->size(s->io, fd, &size) < 0)
		ok = error_sys(err, "its body file %s", name);
	else if (size < file->size) /* also keeps what is allocated within what there is */
		ok = error_set(err, "its body is cut short on the disk");
	else
		ok = write_pieces(s, fd, file, sink, err);
	(void)s->io->close(s->io, fd);
	return ok;
}

static bool write_record(struct spool *s, const struct record *r, const struct sink *sink, struct error *err)
{
	struct payload_head head;

	if (r->flags & RECORD_BODY_LOST)
		return error_set(err, "its body was lost to damage before");
	if (!record_body_ok(r))
		return error_set(err, "its body is damaged");
	if (!(r->flags & RECORD_BODY_FILE))
		return sink->write(sink->ctx, r->body, record_body_len(r));
	if (!payload_get_head(r->meta, r->meta_len, &head) || head.file.number == 0)
		return error_set(err, "it is damaged");
	return write_file(s, &head.file, sink, err);
}

bool offline_body(struct offline *o, uint64_t id, bool (*write)(void *ctx, const void *, size_t), void *ctx,
        struct error *err)
{
	struct spool *s = o->spool;
	const struct sink sink = {.write = write, .ctx = ctx};
	const struct index_entry *e = index_find(&s->index, id);
	const struct segment *seg = e != NULL ? segment_get(s, e->at.segment) : NULL;
	uint8_t *bytes;
	struct record r;
	bool ok;

	if (seg == NULL)
		return error_set(err, "it is not in the spool");
	bytes = mem_alloc(e->at.length);
	ok = read_exact(s, seg->fd, bytes, e->at.length, e->at.offset, err);
	if (ok && (!record_read(bytes, e->at.length, true, seg->record_max, seg->seed, &r) || r.id != id ||
	                  r.type != RECORD_MESSAGE || r.part != 0))
		ok = error_set(err, "it is damaged");
	ok = ok && write_record(s, &r, &sink, err);
	mem_free(&bytes);
	return ok;
}
