#include "config.h"
#include "t/lib/sim_disk.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include "base/mem.h"

#define SECTOR 512u

struct sim_write {
	uint64_t at;
	size_t n;
	uint8_t *bytes; /* owns */
};

struct sim_entry {
	char *name; /* owns */
	struct sim_inode *inode;
};
struct sim_names {
	struct sim_entry *list;
	size_t n;
};

/* A change of a folder that is not yet synced. */
struct sim_change {
	char *add, *remove; /* own; NULL = nothing */
	struct sim_inode *inode;
};

struct sim_inode {
	uint64_t number;
	bool folder;
	/* file */
	bool sick;               /* created under a sick name */
	uint8_t *seen, *durable; /* own */
	size_t seen_n, durable_n;
	struct sim_write *writes; /* own: not synced */
	size_t n_writes;
	size_t reserved; /* by allocate */
	/* folder */
	struct sim_names names, durable_names;
	struct sim_change *changes; /* own: not synced */
	size_t n_changes;
};

struct sim_handle {
	struct sim_inode *inode; /* NULL = free */
	bool locked;
};

/* ---- chance ---- */

static uint64_t chance(struct sim_disk *d, uint64_t below)
{
	d->random ^= d->random << 13;
	d->random ^= d->random >> 7;
	d->random ^= d->random << 17;
	return (d->random >> 11) % below;
}

/* ---- names ---- */

static struct sim_entry *name_find(const struct sim_names *names, const char *name)
{
	for (size_t i = 0; i < names->n; i++)
		if (strcmp(names->list[i].name, name) == 0)
			return &names->list[i];
	return NULL;
}

static void name_remove(struct sim_names *names, const char *name)
{
	struct sim_entry *e = name_find(names, name);

	if (e == NULL)
		return;
	mem_free(&e->name);
	*e = names->list[--names->n];
}

static void name_set(struct sim_names *names, const char *name, struct sim_inode *inode)
{
	name_remove(names, name);
	names->list = mem_array(names->list, names->n + 1, sizeof(*names->list));
	names->list[names->n++] = (struct sim_entry){.name = mem_strdup(name), .inode = inode};
}

static void names_free(struct sim_names *names)
{
	while (names->n > 0)
		name_remove(names, names->list[0].name);
	mem_free(&names->list);
}

static void names_copy(struct sim_names *to, const struct sim_names *from)
{
	names_free(to);
	for (size_t i = 0; i < from->n; i++)
		name_set(to, from->list[i].name, from->list[i].inode);
}

static void change_apply(struct sim_names *names, const struct sim_change *c)
{
	struct sim_entry *e;

	if (c->remove != NULL) {
		e = name_find(names, c->remove);
		if (e != NULL && e->inode == c->inode)
			name_remove(names, c->remove);
	}
	if (c->add != NULL)
		name_set(names, c->add, c->inode);
}

static void changes_free(struct sim_inode *folder)
{
	for (size_t i = 0; i < folder->n_changes; i++) {
		mem_free(&folder->changes[i].add);
		mem_free(&folder->changes[i].remove);
	}
	mem_free(&folder->changes);
	folder->n_changes = 0;
}

static void change(struct sim_inode *folder, const char *add, const char *remove, struct sim_inode *inode)
{
	const struct sim_change c = {
	        .add = add != NULL ? mem_strdup(add) : NULL,
	        .remove = remove != NULL ? mem_strdup(remove) : NULL,
	        .inode = inode,
	};

	folder->changes = mem_array(folder->changes, folder->n_changes + 1, sizeof(*folder->changes));
	folder->changes[folder->n_changes++] = c;
	change_apply(&folder->names, &c);
}

/* ---- inodes ---- */

static struct sim_inode *inode_new(struct sim_disk *d, bool folder)
{
	struct sim_inode *inode = mem_zalloc(sizeof(*inode));

	inode->folder = folder;
	inode->number = ++d->last_number;
	d->inodes = mem_array(d->inodes, d->n_inodes + 1, sizeof(struct sim_inode *));
	d->inodes[d->n_inodes++] = inode;
	return inode;
}

static void writes_free(struct sim_inode *inode)
{
	for (size_t i = 0; i < inode->n_writes; i++)
		mem_free(&inode->writes[i].bytes);
	mem_free(&inode->writes);
	inode->n_writes = 0;
}

static void inode_free(struct sim_inode *inode)
{
	writes_free(inode);
	changes_free(inode);
	names_free(&inode->names);
	names_free(&inode->durable_names);
	mem_free(&inode->seen);
	mem_free(&inode->durable);
	mem_free(&inode);
}

static bool named_in(const struct sim_names *names, const struct sim_inode *inode)
{
	for (size_t i = 0; i < names->n; i++)
		if (names->list[i].inode == inode)
			return true;
	return false;
}

static bool in_changes(const struct sim_inode *folder, const struct sim_inode *inode)
{
	for (size_t i = 0; i < folder->n_changes; i++)
		if (folder->changes[i].inode == inode)
			return true;
	return false;
}

static bool used(const struct sim_disk *d, const struct sim_inode *inode, bool by_crash_too)
{
	for (size_t i = 0; i < d->n_handles; i++)
		if (d->handles[i].inode == inode)
			return true;
	for (size_t i = 0; i < d->n_inodes; i++) {
		const struct sim_inode *f = d->inodes[i];

		if (named_in(&f->names, inode))
			return true;
		if (by_crash_too && (named_in(&f->durable_names, inode) || in_changes(f, inode)))
			return true;
	}
	return false;
}

static size_t inode_bytes(const struct sim_inode *inode)
{
	return inode->seen_n > inode->reserved ? inode->seen_n : inode->reserved;
}

uint64_t sim_disk_used(const struct sim_disk *d)
{
	uint64_t sum = d->held;

	for (size_t i = 1; i < d->n_inodes; i++)
		if (used(d, d->inodes[i], false))
			sum += inode_bytes(d->inodes[i]);
	return sum;
}

/* Those nobody can ever see again. */
static void collect(struct sim_disk *d)
{
	for (size_t i = 1; i < d->n_inodes;) {
		if (used(d, d->inodes[i], true)) {
			i++;
			continue;
		}
		inode_free(d->inodes[i]);
		d->inodes[i] = d->inodes[--d->n_inodes];
	}
}

static void poke(uint8_t **bytes, size_t *have, uint64_t at, const uint8_t *from, size_t n)
{
	if (at + n > *have) {
		*bytes = mem_array(*bytes, at + n, 1);
		memset(*bytes + *have, 0, at + n - *have);
		*have = at + n;
	}
	if (n > 0)
		memcpy(*bytes + at, from, n);
}

/* ---- accidents ---- */

/* What this call is to do: SIM_NONE = its work. */
static enum sim_accident next_call(struct sim_disk *d)
{
	if (d->off)
		return SIM_EIO;
	if (++d->calls != d->accident_at || d->accident == SIM_SYNC_FAILS)
		return SIM_NONE;
	d->happened = true;
	if (d->accident == SIM_CUT)
		d->off = true;
	return d->accident;
}

static int fails(struct sim_disk *d, bool may_lack_space)
{
	switch (next_call(d)) {
	case SIM_EIO:
	case SIM_CUT:
		errno = EIO;
		return -1;
	case SIM_ENOSPC:
		if (!may_lack_space)
			break;
		errno = ENOSPC;
		return -1;
	case SIM_SHORT:
	case SIM_SYNC_FAILS:
	case SIM_NONE:
		break;
	}
	return 0;
}

static bool ends_so(const char *name, const char *suffix)
{
	size_t n = strlen(name), k = strlen(suffix);

	return n >= k && strcmp(name + n - k, suffix) == 0;
}

static int fails_on(struct sim_disk *d, const char *name, bool may_lack_space)
{
	if (d->sick == NULL || !ends_so(name, d->sick))
		return fails(d, may_lack_space);
	d->happened = true;
	errno = EIO;
	return -1;
}

static void tell_removing(struct sim_disk *d, const char *name)
{
	if (d->removing != NULL)
		d->removing(d->removing_ctx, name);
}

/* Each sector on its own: the disk has some of them. */
static void arrive_some(struct sim_disk *d, struct sim_inode *inode)
{
	unsigned share = (unsigned)chance(d, 5); /* of 4: from nothing to all */

	for (size_t i = 0; i < inode->n_writes; i++) {
		const struct sim_write *w = &inode->writes[i];

		for (size_t at = 0, n; at < w->n; at += n) {
			n = SECTOR - (w->at + at) % SECTOR;
			if (n > w->n - at)
				n = w->n - at;
			if (chance(d, 4) < share)
				poke(&inode->durable, &inode->durable_n, w->at + at, w->bytes + at, n);
		}
	}
	writes_free(inode);
}

static void arrive_all(struct sim_inode *inode)
{
	for (size_t i = 0; i < inode->n_writes; i++)
		poke(&inode->durable, &inode->durable_n, inode->writes[i].at, inode->writes[i].bytes,
		        inode->writes[i].n);
	writes_free(inode);
}

/* The folder's journal: a part from its beginning, or for each file a part of its own. */
static void folder_survive(struct sim_disk *d, struct sim_inode *f)
{
	size_t whole = (size_t)chance(d, f->n_changes + 1);
	bool each = chance(d, 2) == 0;
	uint64_t salt = chance(d, UINT32_MAX);

	for (size_t i = 0; i < f->n_changes; i++) {
		uint64_t own = (f->changes[i].inode->number + salt) * 0x9e3779b97f4a7c15u >> 40;
		size_t until = each ? (size_t)(own % (f->n_changes + 1)) : whole;

		if (i < until)
			change_apply(&f->durable_names, &f->changes[i]);
	}
	changes_free(f);
	names_copy(&f->names, &f->durable_names);
}

static void handles_close(struct sim_disk *d)
{
	for (size_t i = 0; i < d->n_handles; i++)
		d->handles[i] = (struct sim_handle){0};
}

void sim_disk_restart(struct sim_disk *d)
{
	handles_close(d);
	for (size_t i = 0; i < d->n_inodes; i++) {
		struct sim_inode *inode = d->inodes[i];

		if (inode->folder) {
			folder_survive(d, inode);
			continue;
		}
		arrive_some(d, inode);
		inode->seen = mem_array(inode->seen, inode->durable_n, 1);
		inode->seen_n = inode->durable_n;
		if (inode->durable_n > 0)
			memcpy(inode->seen, inode->durable, inode->durable_n);
	}
	collect(d);
	d->held = 0;
	d->off = d->happened = false;
	d->accident_at = 0;
}

void sim_disk_kill(struct sim_disk *d)
{
	handles_close(d);
	collect(d);
	d->happened = false;
	d->accident_at = 0;
}

void sim_disk_tick(struct sim_disk *d)
{
	d->held = 0;
}

void sim_disk_plan(struct sim_disk *d, uint64_t calls_from_now, enum sim_accident accident)
{
	d->accident_at = d->calls + calls_from_now;
	d->accident = accident;
	d->happened = false;
}

/* ---- the calls ---- */

static struct sim_disk *sim_of(struct disk_io *io)
{
	return container_of(io, struct sim_disk, io);
}

static struct sim_inode *inode_of(struct sim_disk *d, int fd)
{
	if (fd == AT_FDCWD)
		return d->inodes[0];
	assert(fd >= 0 && (size_t)fd < d->n_handles && d->handles[fd].inode != NULL);
	return d->handles[fd].inode;
}

static int handle_new(struct sim_disk *d, struct sim_inode *inode)
{
	size_t i = 0;

	while (i < d->n_handles && d->handles[i].inode != NULL)
		i++;
	if (i == d->n_handles) {
		d->handles = mem_array(d->handles, ++d->n_handles, sizeof(*d->handles));
	}
	d->handles[i] = (struct sim_handle){.inode = inode};
	return (int)i;
}

static int sim_open(struct disk_io *io, int dir, const char *name, int flags, mode_t mode)
{
	struct sim_disk *d = sim_of(io);
	struct sim_inode *folder, *inode;
	struct sim_entry *e;

	(void)mode;
	if (fails(d, (flags & O_CREAT) != 0) < 0)
		return -1;
	folder = inode_of(d, dir);
	e = name_find(&folder->names, name);
	if (e == NULL && d->sick != NULL && ends_so(name, d->sick) && chance(d, 2) == 0)
		return fails_on(d, name, true);
	if (e == NULL && (flags & O_CREAT) == 0) {
		errno = ENOENT;
		return -1;
	}
	if (e != NULL && (flags & O_EXCL) != 0) {
		errno = EEXIST;
		return -1;
	}
	inode = e != NULL ? e->inode : inode_new(d, false);
	if (e == NULL)
		change(folder, name, NULL, inode);
	inode->sick = d->sick != NULL && ends_so(name, d->sick);
	if ((flags & O_TRUNC) != 0) {
		/* the truncation itself is not modelled as lost: what it empties is checked as a whole anyway */
		writes_free(inode);
		mem_free(&inode->seen);
		mem_free(&inode->durable);
		inode->seen_n = inode->durable_n = inode->reserved = 0;
	}
	return handle_new(d, inode);
}

static int sim_close(struct disk_io *io, int fd)
{
	struct sim_disk *d = sim_of(io);
	struct sim_inode *inode;

	if (d->off || fd < 0 || (size_t)fd >= d->n_handles || d->handles[fd].inode == NULL)
		return 0; /* of an earlier life */
	inode = d->handles[fd].inode;
	d->handles[fd] = (struct sim_handle){0};
	if (d->delay_free && !used(d, inode, false))
		d->held += inode_bytes(inode);
	return 0;
}

static ssize_t sim_pread(struct disk_io *io, int fd, void *buf, size_t len, uint64_t at)
{
	struct sim_disk *d = sim_of(io);
	struct sim_inode *inode;

	if (fails(d, false) < 0)
		return -1;
	inode = inode_of(d, fd);
	if (at >= inode->seen_n)
		return 0;
	if (len > inode->seen_n - at)
		len = inode->seen_n - at;
	memcpy(buf, inode->seen + at, len);
	return (ssize_t)len;
}

static bool space_for(struct sim_disk *d, const struct sim_inode *inode, uint64_t end)
{
	size_t has = inode_bytes(inode);

	return end <= has || sim_disk_used(d) + (end - has) <= d->capacity;
}

static void write_at(struct sim_inode *inode, uint64_t at, const uint8_t *bytes, size_t n)
{
	struct sim_write w = {.at = at, .n = n, .bytes = mem_alloc(n)};

	memcpy(w.bytes, bytes, n);
	inode->writes = mem_array(inode->writes, inode->n_writes + 1, sizeof(*inode->writes));
	inode->writes[inode->n_writes++] = w;
	poke(&inode->seen, &inode->seen_n, at, bytes, n);
}

static ssize_t sim_pwritev(struct disk_io *io, int fd, const struct iovec *iov, int n, uint64_t at)
{
	struct sim_disk *d = sim_of(io);
	enum sim_accident accident = next_call(d);
	struct sim_inode *inode;
	size_t total = 0, done = 0, may;

	if (accident == SIM_EIO && (d->off || chance(d, 2) == 0)) {
		errno = EIO;
		return -1;
	}
	inode = inode_of(d, fd);
	if (inode->sick) {
		d->happened = true;
		errno = EIO;
		return -1;
	}
	for (int i = 0; i < n; i++)
		total += iov[i].iov_len;
	if (accident == SIM_ENOSPC || (accident == SIM_NONE && !space_for(d, inode, at + total))) {
		errno = ENOSPC;
		return -1;
	}
	may = accident != SIM_NONE && total > 0 ? (size_t)chance(d, total) : total;
	if (accident == SIM_SHORT && may == 0)
		may = 1;
	for (int i = 0; i < n && done < may; i++) {
		size_t part = iov[i].iov_len < may - done ? iov[i].iov_len : may - done;

		write_at(inode, at + done, iov[i].iov_base, part);
		done += part;
	}
	if (accident == SIM_EIO || accident == SIM_CUT) {
		errno = EIO;
		return -1;
	}
	return (ssize_t)done;
}

static int sim_allocate(struct disk_io *io, int fd, uint64_t len)
{
	struct sim_disk *d = sim_of(io);
	struct sim_inode *inode;

	if (fails(d, true) < 0)
		return -1;
	inode = inode_of(d, fd);
	if (!space_for(d, inode, len)) {
		errno = ENOSPC;
		return -1;
	}
	inode->reserved = len;
	return 0;
}

static int sim_datasync(struct disk_io *io, int fd)
{
	struct sim_disk *d = sim_of(io);
	bool failed = fails(d, false) < 0;

	if (failed && d->off)
		return -1;
	if (d->accident == SIM_SYNC_FAILS && d->accident_at != 0 && d->calls >= d->accident_at &&
	        !d->happened)
		failed = d->happened = true;
	if (failed)
		arrive_some(d, inode_of(d, fd)); /* the rest is clean for the kernel, and nowhere */
	else
		arrive_all(inode_of(d, fd));
	if (failed)
		errno = EIO;
	return failed ? -1 : 0;
}

static int sim_sync_dir(struct disk_io *io, int dir)
{
	struct sim_disk *d = sim_of(io);
	struct sim_inode *folder;

	if (fails(d, false) < 0)
		return -1;
	folder = inode_of(d, dir);
	changes_free(folder);
	names_copy(&folder->durable_names, &folder->names);
	return 0;
}

static int sim_mkdir(struct disk_io *io, int dir, const char *name, mode_t mode)
{
	struct sim_disk *d = sim_of(io);
	struct sim_inode *folder, *inode;

	(void)mode;
	if (fails(d, true) < 0)
		return -1;
	folder = inode_of(d, dir);
	if (name_find(&folder->names, name) != NULL) {
		errno = EEXIST;
		return -1;
	}
	inode = inode_new(d, true);
	change(folder, name, NULL, inode);
	return 0;
}

static int entry_needed(struct sim_disk *d, int dir, const char *name, struct sim_entry **e)
{
	*e = name_find(&inode_of(d, dir)->names, name);
	if (*e != NULL)
		return 0;
	errno = ENOENT;
	return -1;
}

static int sim_rename(struct disk_io *io, int dir, const char *from, const char *to)
{
	struct sim_disk *d = sim_of(io);
	struct sim_entry *e;

	if (fails_on(d, from, true) < 0 || entry_needed(d, dir, from, &e) < 0)
		return -1;
	tell_removing(d, from);
	change(inode_of(d, dir), to, from, e->inode);
	return 0;
}

static int sim_link(struct disk_io *io, int dir, const char *from, const char *to)
{
	struct sim_disk *d = sim_of(io);
	struct sim_entry *e;

	if (fails_on(d, to, true) < 0 || entry_needed(d, dir, from, &e) < 0)
		return -1;
	if (name_find(&inode_of(d, dir)->names, to) != NULL) {
		errno = EEXIST;
		return -1;
	}
	change(inode_of(d, dir), to, NULL, e->inode);
	return 0;
}

static int sim_unlink(struct disk_io *io, int dir, const char *name)
{
	struct sim_disk *d = sim_of(io);
	struct sim_entry *e;
	struct sim_inode *inode;

	if (fails_on(d, name, false) < 0 || entry_needed(d, dir, name, &e) < 0)
		return -1;
	tell_removing(d, name);
	inode = e->inode;
	change(inode_of(d, dir), NULL, name, inode);
	if (d->delay_free && !used(d, inode, false))
		d->held += inode_bytes(inode);
	return 0;
}

static int sim_size(struct disk_io *io, int fd, uint64_t *bytes)
{
	struct sim_disk *d = sim_of(io);

	if (fails(d, false) < 0)
		return -1;
	*bytes = inode_of(d, fd)->seen_n;
	return 0;
}

static int sim_list(struct disk_io *io, int dir, void (*each)(void *ctx, const char *name), void *ctx)
{
	struct sim_disk *d = sim_of(io);
	struct sim_names names = {0};

	if (fails(d, false) < 0)
		return -1;
	names_copy(&names, &inode_of(d, dir)->names);
	for (size_t i = 0; i < names.n; i++)
		each(ctx, names.list[i].name);
	names_free(&names);
	return 0;
}

static int sim_space(struct disk_io *io, int dir, uint64_t *free_bytes)
{
	struct sim_disk *d = sim_of(io);
	uint64_t has = sim_disk_used(d);

	(void)dir;
	if (fails(d, false) < 0)
		return -1;
	*free_bytes = d->capacity > has ? d->capacity - has : 0;
	return 0;
}

static int sim_lock(struct disk_io *io, int dir, unsigned wait_s)
{
	struct sim_disk *d = sim_of(io);
	struct sim_inode *inode;

	(void)wait_s;
	if (fails(d, false) < 0)
		return -1;
	inode = inode_of(d, dir);
	for (size_t i = 0; i < d->n_handles; i++) {
		if (d->handles[i].inode == inode && d->handles[i].locked) {
			errno = EWOULDBLOCK;
			return -1;
		}
	}
	d->handles[dir].locked = true;
	return 0;
}

struct sim_disk *sim_disk_new(uint64_t seed)
{
	struct sim_disk *d = mem_zalloc(sizeof(*d));

	d->random = seed * 0x9e3779b97f4a7c15u + 1;
	d->capacity = UINT64_MAX / 2;
	d->io = (struct disk_io){
	        .open = sim_open,
	        .close = sim_close,
	        .pread = sim_pread,
	        .pwritev = sim_pwritev,
	        .allocate = sim_allocate,
	        .datasync = sim_datasync,
	        .sync_dir = sim_sync_dir,
	        .mkdir = sim_mkdir,
	        .rename = sim_rename,
	        .link = sim_link,
	        .unlink = sim_unlink,
	        .size = sim_size,
	        .list = sim_list,
	        .space = sim_space,
	        .lock = sim_lock,
	};
	(void)inode_new(d, true);
	/* the spool's own folder is the operator's: it is there */
	name_set(&d->inodes[0]->names, "spool", inode_new(d, true));
	names_copy(&d->inodes[0]->durable_names, &d->inodes[0]->names);
	return d;
}

void sim_disk_free(struct sim_disk **disk)
{
	struct sim_disk *d = *disk;

	if (d == NULL)
		return;
	for (size_t i = 0; i < d->n_inodes; i++)
		inode_free(d->inodes[i]);
	mem_free(&d->inodes);
	mem_free(&d->handles);
	mem_free(disk);
}

/* ---- from outside ---- */

static struct sim_inode *folder_named(struct sim_disk *d, const char *folder)
{
	struct sim_inode *spool = name_find(&d->inodes[0]->names, "spool")->inode;
	struct sim_entry *e;

	if (strcmp(folder, "spool") == 0)
		return spool;
	e = name_find(&spool->names, folder);
	return e != NULL ? e->inode : NULL;
}

uint64_t sim_disk_used_by(const struct sim_disk *d, const char *suffix)
{
	uint64_t sum = 0;

	for (size_t i = 0; i < d->n_inodes; i++)
		for (size_t k = 0; k < d->inodes[i]->names.n; k++)
			if (ends_so(d->inodes[i]->names.list[k].name, suffix))
				sum += inode_bytes(d->inodes[i]->names.list[k].inode);
	return sum;
}

uint8_t *sim_disk_bytes(struct sim_disk *d, const char *folder, const char *name, size_t *n)
{
	struct sim_inode *f = folder_named(d, folder);
	struct sim_entry *e = f != NULL ? name_find(&f->names, name) : NULL;

	if (e == NULL)
		return NULL;
	*n = e->inode->seen_n;
	return e->inode->seen;
}

const uint8_t *sim_disk_durable(struct sim_disk *d, const char *folder, const char *name, size_t *n)
{
	struct sim_inode *f = folder_named(d, folder);
	struct sim_entry *e = f != NULL ? name_find(&f->durable_names, name) : NULL;

	if (e == NULL)
		return NULL;
	*n = e->inode->durable_n;
	return e->inode->durable;
}

void sim_disk_spoil(struct sim_disk *d, const char *folder, const char *name, size_t at, size_t n)
{
	struct sim_inode *inode = name_find(&folder_named(d, folder)->names, name)->inode;

	arrive_all(inode);
	for (size_t i = 0; i < n; i++) {
		inode->seen[at + i] ^= 0x5a;
		inode->durable[at + i] = inode->seen[at + i];
	}
}

void sim_disk_remove_all(struct sim_disk *d, const char *suffix)
{
	for (size_t i = 0; i < d->n_inodes; i++) {
		struct sim_inode *f = d->inodes[i];

		for (size_t k = 0; k < f->names.n;) {
			if (ends_so(f->names.list[k].name, suffix))
				name_remove(&f->names, f->names.list[k].name);
			else
				k++;
		}
		if (f->folder && f->n_changes == 0)
			names_copy(&f->durable_names, &f->names);
	}
}

void sim_disk_names(
        struct sim_disk *d, const char *folder, void (*fn)(void *ctx, const char *name), void *ctx)
{
	struct sim_inode *f = folder_named(d, folder);

	for (size_t i = 0; f != NULL && i < f->names.n; i++)
		fn(ctx, f->names.list[i].name);
}
