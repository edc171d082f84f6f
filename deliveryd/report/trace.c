/*
 * Lines are printed for each reader that wants them, under one mutex held for that alone, as the event log's are. The
 * mutex is met only while somebody looks.
 */
#include "report/trace.h"

#include <pthread.h>
#include <stdatomic.h>
#include <string.h>

#include "base/json_write.h"
#include "base/mem.h"

struct trace_reader {
	struct trace *trace;
	char *binding, *domain; /* owns; NULL = any */
	struct loop *loop;
	void (*ready)(void *ctx);
	void *ctx;
	struct mail mail;
	bool ended; /* the loop's: the mail on its way is the last that knows of it */
	/* under the mutex */
	bool posted, told; /* the mail is on its way; ready() knows, or will, of lines not taken yet */
	struct str waiting;
	uint64_t dropped;
	struct trace_reader *next, **link;
};

struct trace {
	struct clock *clock;
	atomic_uint n_readers;
	atomic_uint_least64_t sessions;
	pthread_mutex_t lock; /* guards what follows */
	struct trace_reader *readers;
};

struct trace *trace_new(struct clock *clock)
{
	struct trace *t = mem_zalloc(sizeof(*t));

	t->clock = clock;
	pthread_mutex_init(&t->lock, NULL);
	return t;
}

void trace_free(struct trace **p)
{
	if (!*p)
		return;
	pthread_mutex_destroy(&(*p)->lock);
	mem_free(p);
}

/* --- speaking -------------------------------------------------------------------------------------------------- */

bool trace_on(const struct trace *t)
{
	return t && atomic_load_explicit(&t->n_readers, memory_order_relaxed) > 0;
}

uint64_t trace_number(struct trace *t)
{
	return atomic_fetch_add_explicit(&t->sessions, 1, memory_order_relaxed) + 1;
}

static bool wants(const struct trace_reader *r, const struct trace_line *l)
{
	if (r->binding && (!l->binding || strcmp(r->binding, l->binding) != 0))
		return false;
	return !r->domain || (l->domain && strcmp(r->domain, l->domain) == 0) ||
	       (l->next_hop && strcmp(r->domain, l->next_hop) == 0);
}

static void put_text(struct json_out *j, const char *key, const char *value)
{
	if (value && *value)
		jw_str(j, key, value);
}

static void put_addr(struct json_out *j, const char *key, const struct addr *a)
{
	char text[ADDR_TEXT_SIZE];

	if (a->family != AF_UNSPEC)
		jw_str(j, key, addr_print(a, text));
}

static void print_line(struct trace *t, const struct trace_line *l, struct str *out)
{
	char direction[2] = {l->direction, 0};
	struct json_out j;

	json_out_init(&j, out);
	jw_object(&j, NULL);
	jw_time(&j, "time", t->clock->wall_us(t->clock));
	jw_uint(&j, "session", l->session);
	jw_uint(&j, "ms", l->since_us / 1000);
	put_text(&j, "binding", l->binding);
	put_text(&j, "next_hop", l->next_hop);
	put_text(&j, "domain", l->domain);
	put_text(&j, "mx", l->mx);
	put_addr(&j, "peer", &l->peer);
	put_addr(&j, "source", &l->source);
	jw_str(&j, "direction", direction);
	jw_strn(&j, "text", l->text, l->len);
	jw_end_object(&j);
	str_add_char(out, '\n');
}

/* Once a line is dropped all are, until the reader has been here: what he gets has one gap, at its end. */
static void give(struct trace_reader *r, const struct str *line)
{
	if (r->dropped || r->waiting.len + line->len > TRACE_WAITING_MAX)
		r->dropped++;
	else
		str_add_mem(&r->waiting, line->data, line->len);
	if (!r->told && !r->posted)
		loop_post(r->loop, &r->mail);
	r->posted |= !r->told;
	r->told = true;
}

void trace_post(struct trace *t, const struct trace_line *l)
{
	struct str line;

	if (!trace_on(t))
		return;
	str_init(&line);
	pthread_mutex_lock(&t->lock);
	for (struct trace_reader *r = t->readers; r; r = r->next) {
		if (!wants(r, l))
			continue;
		if (line.len == 0)
			print_line(t, l, &line);
		give(r, &line);
	}
	pthread_mutex_unlock(&t->lock);
	str_free(&line);
}

/* --- looking ---------------------------------------------------------------------------------------------------- */

static void reader_free(struct trace_reader *r)
{
	mem_free(&r->binding);
	mem_free(&r->domain);
	str_free(&r->waiting);
	mem_free(&r);
}

static void take_mail(struct mail *mail)
{
	struct trace_reader *r = container_of(mail, struct trace_reader, mail);
	struct trace *t = r->trace;

	pthread_mutex_lock(&t->lock);
	r->posted = false;
	pthread_mutex_unlock(&t->lock);
	if (r->ended)
		reader_free(r);
	else
		r->ready(r->ctx);
}

struct trace_reader *trace_read(struct trace *t, const char *binding, const char *domain, struct loop *loop,
        void (*ready)(void *ctx), void *ctx)
{
	struct trace_reader *r;

	if (atomic_fetch_add(&t->n_readers, 1) >= TRACE_READERS_MAX) {
		atomic_fetch_sub(&t->n_readers, 1);
		return NULL;
	}
	r = mem_zalloc(sizeof(*r));
	r->trace = t;
	r->binding = binding ? mem_strdup(binding) : NULL;
	r->domain = domain ? mem_strdup(domain) : NULL;
	r->loop = loop;
	r->ready = ready;
	r->ctx = ctx;
	r->mail.take = take_mail;
	str_init(&r->waiting);
	pthread_mutex_lock(&t->lock);
	r->next = t->readers;
	r->link = &t->readers;
	if (r->next)
		r->next->link = &r->next;
	t->readers = r;
	pthread_mutex_unlock(&t->lock);
	return r;
}

static void print_dropped(struct trace *t, uint64_t n, struct str *out)
{
	struct json_out j;
	struct str text;

	str_init(&text);
	str_printf(&text, "%llu lines were dropped here: they came faster than they were taken",
	        (unsigned long long)n);
	json_out_init(&j, out);
	jw_object(&j, NULL);
	jw_time(&j, "time", t->clock->wall_us(t->clock));
	jw_uint(&j, "dropped", n);
	jw_str(&j, "direction", "*");
	jw_strn(&j, "text", text.data, text.len);
	jw_end_object(&j);
	str_add_char(out, '\n');
	str_free(&text);
}

void trace_take(struct trace_reader *r, struct str *out)
{
	struct trace *t = r->trace;
	uint64_t dropped;

	pthread_mutex_lock(&t->lock);
	r->told = false;
	str_add_mem(out, r->waiting.data, r->waiting.len);
	str_clear(&r->waiting);
	dropped = r->dropped;
	r->dropped = 0;
	pthread_mutex_unlock(&t->lock);
	if (dropped)
		print_dropped(t, dropped, out);
}

void trace_end(struct trace_reader **p)
{
	struct trace_reader *r = *p;
	struct trace *t;
	bool posted;

	*p = NULL;
	if (!r)
		return;
	t = r->trace;
	pthread_mutex_lock(&t->lock);
	*r->link = r->next;
	if (r->next)
		r->next->link = r->link;
	posted = r->posted;
	r->ended = true;
	pthread_mutex_unlock(&t->lock);
	atomic_fetch_sub(&t->n_readers, 1);
	if (!posted)
		reader_free(r);
}
