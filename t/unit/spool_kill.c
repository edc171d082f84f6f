/*
 * kill -9 on the real disk: a child with real threads stores, defers and ends mail, and tells us by a pipe what was
 * confirmed; it is killed in mid-run, again and again, and each time what is in the folder must agree.
 * SPOOL_KILL_ROUNDS=N makes it longer.
 */
#include "config.h"
#include "t/lib/test.h"

#include <dirent.h>
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>
#include <uthash.h>
#include "base/log.h"
#include "t/lib/spool_rig.h"
#include "t/lib/view_check.h"

#define SEGMENT ((uint64_t)1024 * 1024)
#define OUTSTANDING 40

enum said { SAID_STORED, SAID_STATE_POSTED, SAID_STATE, SAID_DONE_POSTED, SAID_DONE };
struct saying {
	uint64_t id;
	uint32_t what, value; /* value: size, attempts */
};

/* ---- the child ---- */

struct child {
	struct spool *spool;
	struct loop *loop, *spool_loop;
	struct fake_rnd rnd;
	int pipe;
	uint64_t live[4096]; /* to be ended */
	size_t n_live;
	uint32_t attempts;
};

struct child_add {
	struct spool_add add;
	struct child *child;
	struct message *message;
	uint64_t id;
	uint32_t size;
};

struct child_post {
	struct mail committed;
	struct child *child;
	struct saying said;
};

static void say(struct child *c, uint64_t id, enum said what, uint32_t value)
{
	const struct saying saying = {.id = id, .what = what, .value = value};

	if (write(c->pipe, &saying, sizeof(saying)) != sizeof(saying))
		_exit(3);
}

static void child_store(struct child *c);

static void child_committed(struct mail *mail)
{
	struct child_post *p = container_of(mail, struct child_post, committed);

	say(p->child, p->said.id, (enum said)p->said.what, p->said.value);
	free(p);
}

static void child_result(struct child *c)
{
	size_t i = rnd_below(&c->rnd.rnd, c->n_live);
	struct spool_results *r = spool_results_new();
	struct child_post *p = calloc(1, sizeof(*p));
	uint64_t id = c->live[i];

	p->child = c;
	p->committed.take = child_committed;
	p->said = (struct saying){.id = id, .what = SAID_DONE};
	if (rnd_below(&c->rnd.rnd, 4) == 0) {
		p->said.what = SAID_STATE;
		p->said.value = ++c->attempts;
		say(c, id, SAID_STATE_POSTED, p->said.value);
		spool_results_state(r, id, 0,
		        &(struct spool_state){.attempts = p->said.value, .last_reply = "450 later"});
	} else {
		say(c, id, SAID_DONE_POSTED, 0);
		spool_results_done(r, id, 0);
		c->live[i] = c->live[--c->n_live];
	}
	spool_results_on_commit(r, c->loop, &p->committed);
	spool_results_post(c->spool, &r);
}

static void child_queued(struct mail *mail)
{
	struct child_add *a = container_of(mail, struct child_add, add.queue_mail);

	message_unref(&a->add.message);
}

static void child_replied(struct mail *mail)
{
	struct child_add *a = container_of(mail, struct child_add, add.reply);
	struct child *c = a->child;

	if (a->add.result != SPOOL_STORED)
		_exit(4);
	say(c, a->id, SAID_STORED, a->size);
	if (c->n_live < array_len(c->live))
		c->live[c->n_live++] = a->id;
	while (c->n_live > 300)
		child_result(c);
	free(a);
	child_store(c);
}

static void child_body(void *ctx, struct body *body, enum body_error error)
{
	struct child_add *a = ctx;

	if (error != BODY_OK)
		_exit(5);
	a->message->body = body;
	a->add.message = a->message;
	spool_add(a->child->spool, &a->add);
}

static void child_store(struct child *c)
{
	struct child_add *a = calloc(1, sizeof(*a));
	struct message *m = message_new();
	struct body_writer *w = body_writer_new(c->spool, c->loop, 0);
	uint8_t *bytes;

	a->child = c;
	a->message = m;
	a->id = m->id = spool_new_id(c->spool);
	a->size = (uint32_t)rnd_below(&c->rnd.rnd, rnd_below(&c->rnd.rnd, 40) == 0 ? 400000 : 8000);
	m->sender = "a@example.org";
	m->n_deliveries = 1;
	m->deliveries = pool_alloc(m->pool, sizeof(*m->deliveries));
	m->deliveries->target = "acme";
	m->deliveries->domain = "example.net";
	m->deliveries->n_recipients = 1;
	m->deliveries->recipients = pool_alloc(m->pool, sizeof(struct recipient));
	m->deliveries->recipients->address = "b@example.net";
	m->body_size = a->size;
	a->add.queue_loop = a->add.reply_loop = c->loop;
	a->add.queue_mail.take = child_queued;
	a->add.reply.take = child_replied;
	bytes = malloc(a->size + 1);
	rig_body(a->id, a->size, bytes);
	body_writer_add(w, bytes, a->size);
	free(bytes);
	body_writer_finish(w, child_body, a);
}

static void child_live(void *ctx, const struct spool_live *live)
{
	struct child *c = ctx;

	if (c->n_live < array_len(c->live))
		c->live[c->n_live++] = live->message->id;
}

static void child_setting(void *ctx, const char *key, const char *value)
{
	(void)ctx;
	(void)key;
	(void)value;
}

static void child_fatal(void *ctx, const struct error *err)
{
	(void)ctx;
	(void)err;
	_exit(6);
}

static void *child_spool_thread(void *ctx)
{
	loop_run(ctx);
	return NULL;
}

/* The operators' file, read on without a pause. */
static void *child_view_thread(void *ctx)
{
	for (;;)
		(void)view_round(ctx);
	return NULL;
}

static void child_view(struct spool *s, const char *path)
{
	char *file = mem_printf("%s/" VIEW_FILE, path);
	pthread_t thread;

	if (pthread_create(&thread, NULL, child_view_thread, view_new(s, file)) != 0)
		_exit(8);
	mem_free(&file);
}

static void child_main(const char *path, int pipe, uint64_t seed)
{
	struct child c = {.pipe = pipe, .attempts = (uint32_t)seed * 100000};
	struct spool_config cfg = {
	        .path = path,
	        .segment_size = SEGMENT,
	        .memory = 1 << 20,
	        .clock = &clock_system,
	        .rnd = &rnd_system,
	        .disk = workers_new("disk", 2),
	        .metrics = metrics_new(),
	        .on_fatal = child_fatal,
	};
	struct error err;
	pthread_t thread;

	fake_rnd_init(&c.rnd, seed);
	c.loop = loop_new("main", &clock_system);
	c.spool_loop = loop_new("spool", &clock_system);
	c.spool = spool_open(&cfg, &err);
	if (c.spool == NULL || !spool_replay(c.spool, child_live, child_setting, &c, &err))
		_exit(7);
	spool_start(c.spool, c.spool_loop);
	if (pthread_create(&thread, NULL, child_spool_thread, c.spool_loop) != 0)
		_exit(8);
	child_view(c.spool, path);
	for (int i = 0; i < OUTSTANDING; i++)
		child_store(&c);
	loop_run(c.loop);
	_exit(9);
}

/* ---- the parent ---- */

struct known {
	uint64_t id;
	bool stored, done_posted, done;
	uint32_t size, state_posted, state;
	UT_hash_handle hh;
};

static struct known *know(struct known **all, uint64_t id)
{
	struct known *k;

	HASH_FIND(hh, *all, &id, sizeof(id), k);
	if (k != NULL)
		return k;
	k = calloc(1, sizeof(*k));
	k->id = id;
	HASH_ADD(hh, *all, id, sizeof(k->id), k);
	return k;
}

static void heard(struct known **all, const struct saying *s)
{
	struct known *k = know(all, s->id);

	switch ((enum said)s->what) {
	case SAID_STORED:
		k->stored = true;
		k->size = s->value;
		break;
	case SAID_STATE_POSTED:
		k->state_posted = s->value;
		break;
	case SAID_STATE:
		k->state = s->value;
		break;
	case SAID_DONE_POSTED:
		k->done_posted = true;
		break;
	case SAID_DONE:
		k->done = true;
		break;
	}
}

/* Listens to so many sayings, then kills, then hears the rest that was in the pipe. */
static void run_and_kill(const char *path, struct known **all, uint64_t seed, unsigned sayings)
{
	int ends[2], status;
	struct saying s;
	pid_t pid;

	assert_int_equal(pipe(ends), 0);
	pid = fork();
	assert_true(pid >= 0);
	if (pid == 0) {
		close(ends[0]);
		child_main(path, ends[1], seed);
	}
	close(ends[1]);
	for (unsigned n = 0; read(ends[0], &s, sizeof(s)) == sizeof(s); n++) {
		heard(all, &s);
		if (n == sayings)
			kill(pid, SIGKILL);
	}
	close(ends[0]);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_true(WIFSIGNALED(status));
}

static void check_one(struct rig *rig, const struct rig_live *l, struct known *k)
{
	const struct rig_delivery *d = &l->deliveries[0];

	if (k->done)
		fail_msg("%llx: done, and back again", (unsigned long long)k->id);
	if (k->stored && l->body_size != k->size)
		fail_msg("%llx: another size", (unsigned long long)k->id);
	if (d->attempts < k->state || d->attempts > k->state_posted)
		fail_msg("%llx: state %u, not %u to %u", (unsigned long long)k->id, d->attempts, k->state,
		        k->state_posted);
	if (!rig_body_ok(rig, l->id, l->body_size))
		fail_msg("%llx: body of %llu not intact", (unsigned long long)k->id,
		        (unsigned long long)l->body_size);
	k->stored = true; /* from now on, whatever was said */
	k->size = (uint32_t)l->body_size;
	k->state = k->state_posted = d->attempts;
	k->done_posted = false;
}

static void check(const char *path, struct known **all)
{
	struct known *k, *next;
	struct rig rig;
	uint64_t looked, damaged;
	char *view;

	rig_init(&rig, path, NULL, SEGMENT);
	rig.view_path = view = mem_printf("%s/" VIEW_FILE, path);
	looked = rig_look_through(&rig, &damaged); /* `spool check` after a kill: sound */
	assert_int_equal(damaged, 0);
	if (!rig_open(&rig))
		fail_msg("%s", rig.error.text);
	assert_int_equal(looked, rig.n_live);
	assert_int_equal(view_number(view, "SELECT count(*) FROM deliveries"), rig.n_live);
	mem_free(&view);
	for (size_t i = 0; i < rig.n_live; i++) {
		k = know(all, rig.live[i].id);
		check_one(&rig, &rig.live[i], k);
		HASH_DEL(*all, k); /* what is left was not found */
		free(k);
	}
	HASH_ITER (hh, *all, k, next) {
		if (k->stored && !k->done_posted)
			fail_msg("%llx: lost", (unsigned long long)k->id);
		HASH_DEL(*all, k);
		free(k);
	}
	for (size_t i = 0; i < rig.n_live; i++) {
		k = know(all, rig.live[i].id);
		k->stored = true;
		k->size = (uint32_t)rig.live[i].body_size;
		k->state = k->state_posted = rig.live[i].deliveries[0].attempts;
	}
	rig_free(&rig);
}

/* They can be done without: index files, and the operators' file. */
static void remove_files(const char *path, const char *name)
{
	DIR *dir = opendir(path);
	struct dirent *entry;

	assert_non_null(dir);
	while ((entry = readdir(dir)) != NULL)
		if (strstr(entry->d_name, name) != NULL)
			assert_int_equal(unlinkat(dirfd(dir), entry->d_name, 0), 0);
	closedir(dir);
}

static void test_killed_again_and_again(void **state)
{
	unsigned rounds =
	        getenv("SPOOL_KILL_ROUNDS") != NULL ? (unsigned)atoi(getenv("SPOOL_KILL_ROUNDS")) : 30;
	char *path = test_folder_new();
	struct known *all = NULL, *k, *next;
	struct fake_rnd rnd;

	(void)state;
	fake_rnd_init(&rnd, (uint64_t)getpid());
	for (unsigned round = 1; round <= rounds; round++) {
		run_and_kill(path, &all, round, 1 + (unsigned)rnd_below(&rnd.rnd, 6000));
		if (round % 3 == 0)
			remove_files(path, ".idx");
		if (round % 4 == 0)
			remove_files(path, VIEW_FILE);
		check(path, &all);
	}
	HASH_ITER (hh, all, k, next) {
		HASH_DEL(all, k);
		free(k);
	}
	test_folder_remove(&path);
}

static const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_killed_again_and_again),
};

TEST_MAIN("spool_kill", tests)
