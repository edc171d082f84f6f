/*
 * The event log. A caller's line is printed into a buffer of its own and handed to the log thread under a mutex held
 * for an append only; the thread wakes every 50 ms or when 64 KB have gathered, swaps the buffer and writes it.
 */
#include "report/event.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "base/json_write.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/names.h"

#define EVENT_WAKE_BYTES (64u << 10)
#define EVENT_WAKE_US 50000u
#define EVENT_BACKLOG_MAX (64u << 20)

struct event_log {
	int fd; /* written by the log thread, replaced under the mutex */
	struct clock *clock;
	metric *posted, *dropped, *failed, *backlog;
	bool threaded;
	bool failing, torn; /* the log thread's: the last write was not whole; it ended within a line */
	void (*tap)(void *ctx, const char *line);
	void *tap_ctx;

	pthread_mutex_t lock; /* guards what follows */
	pthread_cond_t wake;
	struct str pending;
	uint64_t n_dropped; /* since the last line that said so */
	bool stopping;
	pthread_t thread;
};

static const char *const type_names[] = {
        [EVENT_RECEPTION] = "reception",
        [EVENT_DELIVERY] = "delivery",
        [EVENT_DEFERRAL] = "deferral",
        [EVENT_BOUNCE] = "bounce",
        [EVENT_EXPIRATION] = "expiration",
        [EVENT_UNCERTAIN] = "uncertain",
        [EVENT_DSN] = "dsn",
        [EVENT_SUSPEND] = "suspend",
        [EVENT_RESUME] = "resume",
        [EVENT_THROTTLE] = "throttle",
        [EVENT_SOURCE_DOWN] = "source_down",
        [EVENT_SOURCE_UP] = "source_up",
        [EVENT_STALE_RULE] = "stale_rule",
        [EVENT_BAD_STAMP] = "bad_stamp",
        [EVENT_REBIND] = "rebind",
        [EVENT_REROUTE] = "reroute",
        [EVENT_ADMIN] = "admin",
        [EVENT_RELOAD] = "reload",
        [EVENT_START] = "start",
        [EVENT_STOP] = "stop",
};

const char *event_type_name(enum event_type type)
{
	return type_names[type];
}

static void print_opt(struct json_out *j, const char *key, const char *value)
{
	if (value)
		jw_str(j, key, value);
}

static void print_addr(struct json_out *j, const char *key, const struct addr *a)
{
	char text[ADDR_TEXT_SIZE];

	if (a->family != AF_UNSPEC)
		jw_str(j, key, addr_print(a, text));
}

static void print_who(struct json_out *j, const struct event *e)
{
	char id[ID_TEXT_SIZE];

	if (e->id)
		jw_str(j, "id", id_print(e->id, id));
	print_opt(j, "binding", e->binding);
	print_opt(j, "group", e->group);
	print_opt(j, "rule", e->rule);
	print_opt(j, "sender", e->sender);
	print_opt(j, "recipient", e->recipient);
	print_opt(j, "domain", e->domain);
}

static void print_where(struct json_out *j, const struct event *e)
{
	char text[ADDR_TEXT_SIZE];

	print_opt(j, "next_hop", e->next_hop);
	print_opt(j, "mx", e->mx);
	print_addr(j, "peer", &e->peer);
	print_addr(j, "source", &e->source);
	if (e->claimed)
		jw_bool(j, "claimed", true);
	if (e->proxy.family != AF_UNSPEC)
		jw_str(j, "proxy", addr_print_port(&e->proxy, text));
	print_opt(j, "ehlo", e->ehlo);
}

static void print_how(struct json_out *j, const struct event *e)
{
	if (e->has_attempt)
		jw_uint(j, "attempt", e->attempt);
	print_opt(j, "state", e->state);
	if (e->code)
		jw_int(j, "code", e->code);
	if (e->enhanced && *e->enhanced)
		jw_str(j, "enhanced", e->enhanced);
	print_opt(j, "reply", e->reply);
	print_opt(j, "class", e->class_);
	if (e->has_size)
		jw_uint(j, "size", e->size);
	if (e->has_delay)
		jw_seconds(j, "delay", e->delay_us);
	print_opt(j, "reason", e->reason);
	if (e->count || e->has_count)
		jw_uint(j, "count", e->count);
	print_opt(j, "who", e->who);
	if (e->until_wall_us)
		jw_time(j, "until", e->until_wall_us);
	print_opt(j, "detail", e->detail);
}

static void print_tls(struct json_out *j, const struct event *e)
{
	if (!e->tls_version)
		return;
	jw_object(j, "tls");
	jw_str(j, "version", e->tls_version);
	print_opt(j, "cipher", e->tls_cipher);
	print_opt(j, "verified", e->tls_verified);
	print_opt(j, "sni", e->tls_sni);
	jw_bool(j, "resumed", e->tls_resumed);
	if (e->tls_insecure_mx)
		jw_bool(j, "mx_secure", false);
	jw_end_object(j);
}

static void event_print(struct event_log *log, const struct event *e, struct str *out)
{
	struct json_out j;

	json_out_init(&j, out);
	jw_object(&j, NULL);
	jw_time(&j, "time", e->time_wall_us ? e->time_wall_us : log->clock->wall_us(log->clock));
	jw_str(&j, "event", event_type_name(e->type));
	print_who(&j, e);
	print_where(&j, e);
	print_how(&j, e);
	print_tls(&j, e);
	jw_end_object(&j);
	str_add_char(out, '\n');
}

/* How many bytes could be written; errno says why not all. */
static size_t write_some(int fd, const char *data, size_t len)
{
	size_t done = 0;

	while (done < len) {
		ssize_t n = write(fd, data + done, len - done);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			break;
		done += (size_t)n;
	}
	return done;
}

/* A line that was cut short is ended before the next one, so that only the cut one cannot be read. */
static bool write_whole(struct event_log *log, const struct str *lines)
{
	size_t done;

	if (log->torn && write_some(log->fd, "\n", 1) < 1)
		return false;
	log->torn = false;
	done = write_some(log->fd, lines->data, lines->len);
	log->torn = done < lines->len && done > 0 && lines->data[done - 1] != '\n';
	return done == lines->len;
}

static void write_out(struct event_log *log, const struct str *lines)
{
	if (!lines->len)
		return;
	if (write_whole(log, lines)) {
		if (log->failing)
			log_notice("event log: can be written again");
		log->failing = false;
		return;
	}
	if (!log->failing)
		log_error("event log: write: %s; events are lost until this is mended", strerror(errno));
	log->failing = true;
	metric_add(log->failed, 1);
}

static void *log_thread(void *arg)
{
	struct event_log *log = arg;
	struct str lines;
	bool stopping;

	str_init(&lines);
	do {
		struct timespec until;
		struct str swap;

		clock_gettime(CLOCK_MONOTONIC, &until);
		until.tv_nsec += EVENT_WAKE_US * 1000L;
		if (until.tv_nsec >= 1000000000L) {
			until.tv_nsec -= 1000000000L;
			until.tv_sec++;
		}
		pthread_mutex_lock(&log->lock);
		while (!log->stopping && log->pending.len < EVENT_WAKE_BYTES)
			if (pthread_cond_timedwait(&log->wake, &log->lock, &until) == ETIMEDOUT)
				break;
		stopping = log->stopping;
		swap = log->pending;
		log->pending = lines;
		lines = swap;
		metric_set(log->backlog, 0);
		if (log->n_dropped) {
			struct event e = {.type = EVENT_ADMIN,
			        .reason = "events_dropped",
			        .count = log->n_dropped,
			        .detail = "the event log could not be written fast enough"};

			event_print(log, &e, &lines);
			log->n_dropped = 0;
		}
		pthread_mutex_unlock(&log->lock);
		write_out(log, &lines);
		str_clear(&lines);
	} while (!stopping);
	str_free(&lines);
	return NULL;
}

static int open_file(const char *path, struct error *err)
{
	int fd = open(path, O_WRONLY | O_APPEND | O_CREAT | O_EXCL | O_CLOEXEC | O_NOCTTY, 0640);

	if (fd >= 0)
		(void)fchmod(
		        fd, 0640); /* whatever the umask is: whom the operator puts into the group may read */
	else if (errno == EEXIST)
		fd = open(path, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC | O_NOCTTY, 0640);
	if (fd < 0)
		error_sys(err, "cannot open the event log %s", path);
	return fd;
}

static bool start_thread(struct event_log *log, struct error *err)
{
	pthread_condattr_t attr;

	pthread_condattr_init(&attr);
	pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
	pthread_cond_init(&log->wake, &attr);
	pthread_condattr_destroy(&attr);
	if (!log->threaded)
		return true;
	errno = pthread_create(&log->thread, NULL, log_thread, log);
	return errno == 0 || error_sys(err, "cannot start the log thread");
}

struct event_log *event_log_open(
        const char *path, struct clock *clock, struct metrics *metrics, bool threaded, struct error *err)
{
	int fd = open_file(path, err);
	struct event_log *log;

	if (fd < 0)
		return NULL;
	log = mem_zalloc(sizeof(*log));
	log->fd = fd;
	log->clock = clock;
	log->threaded = threaded;
	log->posted = metrics_counter(metrics, "bindpost_events_total", NULL, "Events posted.");
	log->dropped = metrics_counter(metrics, "bindpost_events_dropped_total", NULL,
	        "Events dropped because the log's backlog was full.");
	log->failed = metrics_counter(
	        metrics, "bindpost_events_write_errors_total", NULL, "Failed writes to the event log.");
	log->backlog = metrics_gauge(metrics, "bindpost_events_backlog_bytes", NULL,
	        "Events posted and not yet written; dropped above bindpost_events_backlog_max_bytes.");
	metric_set(metrics_gauge(metrics, "bindpost_events_backlog_max_bytes", NULL, "The mark of it."),
	        EVENT_BACKLOG_MAX);
	str_init(&log->pending);
	pthread_mutex_init(&log->lock, NULL);
	if (!start_thread(log, err)) {
		log->threaded = false;
		event_log_close(&log);
	}
	return log;
}

static void post_unthreaded(struct event_log *log, const struct str *line)
{
	if (log->tap) {
		char *text = mem_strndup(line->data, line->len - 1);

		log->tap(log->tap_ctx, text);
		mem_free(&text);
	}
	write_out(log, line);
}

void event_post(struct event_log *log, const struct event *e)
{
	struct str line;
	bool wake = false;

	str_init(&line);
	event_print(log, e, &line);
	metric_add(log->posted, 1);
	if (!log->threaded) {
		post_unthreaded(log, &line);
		str_free(&line);
		return;
	}
	pthread_mutex_lock(&log->lock);
	if (log->pending.len + line.len > EVENT_BACKLOG_MAX) {
		log->n_dropped++;
		metric_add(log->dropped, 1);
	} else {
		wake = log->pending.len < EVENT_WAKE_BYTES && log->pending.len + line.len >= EVENT_WAKE_BYTES;
		str_add_mem(&log->pending, line.data, line.len);
		metric_set(log->backlog, log->pending.len);
	}
	pthread_mutex_unlock(&log->lock);
	str_free(&line);
	if (wake)
		pthread_cond_signal(&log->wake);
}

bool event_log_reopen(struct event_log *log, const char *path, struct error *err)
{
	int fd = open_file(path, err);

	if (fd < 0)
		return false;
	/* dup2 is atomic: a write in progress goes to the old file, the next to the new one */
	if (dup3(fd, log->fd, O_CLOEXEC) < 0) {
		error_sys(err, "cannot switch the event log to %s", path);
		close(fd);
		return false;
	}
	close(fd);
	return true;
}

void event_log_close(struct event_log **p)
{
	struct event_log *log = *p;

	*p = NULL;
	if (!log)
		return;
	if (log->threaded) {
		pthread_mutex_lock(&log->lock);
		log->stopping = true;
		pthread_mutex_unlock(&log->lock);
		pthread_cond_signal(&log->wake);
		pthread_join(log->thread, NULL);
	}
	pthread_cond_destroy(&log->wake);
	pthread_mutex_destroy(&log->lock);
	str_free(&log->pending);
	close(log->fd);
	mem_free(&log);
}

void event_log_tap(struct event_log *log, void (*fn)(void *ctx, const char *line), void *ctx)
{
	log->tap = fn;
	log->tap_ctx = ctx;
}
