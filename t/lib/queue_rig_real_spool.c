/* The queue's rig with the real spool, in a folder of its own. */
#include "t/lib/queue_rig.h"
#include "t/lib/test.h"

struct part {
	char *folder;
	struct workers *workers;
};

static void fatal(void *ctx, const struct error *err)
{
	(void)ctx;
	fail_msg("%s", err->text);
}

struct spool *rig_spool_new(struct rig *rig)
{
	struct part *part = rig->spool_part;
	struct error err;
	if (!part) {
		part = rig->spool_part = mem_zalloc(sizeof(*part));
		part->folder = test_folder_new();
		part->workers = workers_new("disk", 0);
	}
	struct spool_config c = {
	        .path = part->folder,
	        .segment_size = 1 << 20,
	        .memory = 1 << 20,
	        .clock = &rig->clock.clock,
	        .rnd = &rig->rnd.rnd,
	        .disk = part->workers,
	        .metrics = rig->metrics,
	        .on_fatal = fatal,
	        .lock_wait_s = 1,
	};
	struct spool *s = spool_open(&c, &err);
	if (!s)
		fail_msg("%s", err.text);
	return s;
}

void rig_spool_restore(struct rig *rig, struct queue *q)
{
	struct error err;
	if (!spool_replay(rig->spool, queue_restore, queue_restore_setting, q, &err))
		fail_msg("%s", err.text);
	spool_start(rig->spool, rig->loop);
}

void rig_spool_close(struct rig *rig)
{
	spool_close(&rig->spool);
}

void rig_spool_free(struct rig *rig)
{
	struct part *part = rig->spool_part;
	workers_free(&part->workers);
	test_folder_remove(&part->folder);
	mem_free(&rig->spool_part);
}

struct sending {
	struct spool_add add;
	struct rig *rig;
};

static void stored(struct mail *mail)
{
	struct sending *s = container_of(mail, struct sending, add.reply);
	assert_int_equal(s->add.result, SPOOL_STORED);
	if (atomic_fetch_sub(&s->add.refs, 1) == 1)
		mem_free(&s);
}

static void written(void *ctx, struct body *takes, enum body_error error)
{
	struct sending *s = ctx;
	assert_int_equal(error, BODY_OK);
	s->add.message->body = takes;
	s->add.message->body_size = body_size(takes);
	s->add.ctx = s->rig->queue;
	s->add.queue_loop = s->add.reply_loop = s->rig->loop;
	s->add.queue_mail.take = queue_enqueue_mail;
	s->add.reply.take = stored;
	spool_add(s->rig->spool, &s->add);
}

void rig_spool_send(struct rig *rig, struct message *m)
{
	static const char text[] = "From: a@b\r\nSubject: original\r\n\r\nHello\r\n";
	struct sending *s = mem_zalloc(sizeof(*s));
	s->rig = rig;
	s->add.message = m;
	m->header_size = sizeof(text) - 1 - strlen("Hello\r\n");
	struct body_writer *w = body_writer_new(rig->spool, rig->loop, 0);
	body_writer_add(w, text, sizeof(text) - 1);
	body_writer_finish(w, written, s);
	rig_settle(rig);
}

unsigned rig_open(struct rig *rig)
{
	char *json = rig_ask(rig, QUEUE_SUMMARY, "", 0, 0, 0);
	unsigned active = 0, deferred = 0, held = 0;
	int n = sscanf(json, "{\"active\":%u,\"deferred\":%u,\"held\":%u", &active, &deferred, &held);
	assert_int_equal(n, 3);
	mem_free(&json);
	return active + deferred + held;
}

void rig_hold_commits(struct rig *rig, bool hold)
{
	(void)rig;
	(void)hold;
}
