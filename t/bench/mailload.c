/*
 * mailload - the two ends of a throughput measurement, cheap enough not to be its bound
 *
 *   mailload sink --listen ADDR:PORT [--listen ...] [--rtt MS | --hold SECONDS] [--cert FILE [--no-tickets]]
 *                [--chunking]
 *        SMTP sink. Prints "ready", then on SIGTERM or SIGINT one JSON object: messages, bytes, connections, the most at
 *        once and how many were closed without QUIT, TLS handshakes and how many of them resumed a session, messages by source address, first and last message
 *        (monotonic seconds). --rtt: whatever it says (banner, replies, its part of a handshake) is said so much later,
 *        as over a line of that round trip time; the window never is what bounds. --cert: STARTTLS, with certificate and key
 *        in one PEM file; --no-tickets: no TLS session can be resumed. --chunking: BDAT. --hold: the reply to each end of
 *        data comes so much later.
 *   mailload gen --to ADDR:PORT|/unix/path [--lmtp] [--sessions 20] [--messages 100000] [--size 5120]
 *                [--domains 100] [--domain d] [--zone bench] [--bindings 4] [--binding b] [--stamp] [--rate N]
 *        Recipients are at d0.bench, d1.bench ...; --rate is in messages a second, of all sessions together.
 *        Sends MAIL, RCPT, DATA in one write, then the message; with --stamp the message carries X-Binding: bN, else the
 *        sender's domain says the binding (sN.example). Prints one JSON object at the end.
 *
 * One thread, epoll, no copies that can be avoided. Replies are taken by their first digit: a line that is not 2yz or
 * 3yz ends the program, because a measurement with refusals measures nothing.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <gnutls/gnutls.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#define IN_SIZE (64 << 10)
#define MAX_SOURCES 64
#define MAX_BODY (16 << 20)

static volatile sig_atomic_t stop;

static void on_signal(int number)
{
	(void)number;
	stop = 1;
}

static void die(const char *what)
{
	fprintf(stderr, "mailload: %s: %s\n", what, errno ? strerror(errno) : "protocol");
	exit(1);
}

static double now_s(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static double cpu_s(void)
{
	struct timespec t;

	clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
	return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static socklen_t parse_addr(const char *text, struct sockaddr_storage *ss)
{
	struct sockaddr_in *in = (struct sockaddr_in *)ss;
	struct sockaddr_un *un = (struct sockaddr_un *)ss;
	char host[64];
	const char *colon = strrchr(text, ':');

	memset(ss, 0, sizeof(*ss));
	if (text[0] == '/') {
		un->sun_family = AF_UNIX;
		snprintf(un->sun_path, sizeof(un->sun_path), "%s", text);
		return sizeof(*un);
	}
	if (!colon || (size_t)(colon - text) >= sizeof(host))
		die(text);
	memcpy(host, text, (size_t)(colon - text));
	host[colon - text] = 0;
	in->sin_family = AF_INET;
	in->sin_port = htons((uint16_t)atoi(colon + 1));
	if (inet_pton(AF_INET, host, &in->sin_addr) != 1)
		die(text);
	return sizeof(*in);
}

static void watch(int epoll, int fd, uint32_t events, void *ptr)
{
	struct epoll_event e = {.events = events, .data.ptr = ptr};

	if (epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &e) < 0)
		die("epoll_ctl");
}

/* Small replies never fill a socket buffer: a write that cannot finish is a broken measurement. */
static void write_small(int fd, const char *data, size_t len)
{
	if (send(fd, data, len, MSG_NOSIGNAL) != (ssize_t)len)
		die("send");
}

/* --- sink --------------------------------------------------------------------------------------------------- */

struct sink;
struct sink_conn {
	struct sink *sink;
	int fd; /* -1 = closed, and there are words under way */
	bool listening, in_data, quit, left;
	gnutls_session_t tls; /* NULL = clear */
	bool shaking;         /* in the handshake */
	unsigned under_way;
	bool in_chunk;
	uint64_t chunk; /* bytes of a BDAT chunk still to come */
	bool last_chunk;
	int source;
	size_t len;
	char *in;     /* IN_SIZE; commands, or the last bytes of data */
	char tail[5]; /* last bytes of the data so far */
	unsigned n_tail;
};

/* Said, and not there yet. The delay is the same for all, so that one line in order of time will do. */
struct words {
	struct words *next;
	double due;
	struct sink_conn *to;
	size_t len;
	char text[];
};

struct sink {
	int epoll;
	double rtt_s, hold_s; /* one of them is 0 */
	struct words *first_words, **last_words;
	gnutls_certificate_credentials_t cert;
	gnutls_priority_t priority;
	gnutls_datum_t ticket_key;
	bool tickets, chunking;
	uint64_t handshakes, resumed, open, peak, without_quit;
	uint64_t messages, bytes, connections;
	double first, last;
	uint32_t source_addr[MAX_SOURCES];
	uint64_t source_messages[MAX_SOURCES];
	int n_sources;
};

static void put(int fd, const char *text, size_t len)
{
	/* a client that has gone is seen when it is read from */
	if (fd >= 0 && send(fd, text, len, MSG_NOSIGNAL) < 0 && errno != EPIPE && errno != ECONNRESET)
		die("send");
}

/* From here on it is closed as far as we are concerned; the client's close is only read to end it. */
static void leave(struct sink_conn *c)
{
	if (c->left)
		return;
	c->left = true;
	c->sink->open--;
	shutdown(c->fd, SHUT_WR);
}

static void say_later(struct sink_conn *c, const char *text, size_t len, double wait)
{
	struct sink *s = c->sink;
	struct words *w = malloc(sizeof(*w) + len);

	w->next = NULL;
	w->due = now_s() + wait;
	w->to = c;
	w->len = len;
	memcpy(w->text, text, len);
	*s->last_words = w;
	s->last_words = &w->next;
	c->under_way++;
}

static void say_raw(struct sink_conn *c, const char *text, size_t len)
{
	if (c->sink->rtt_s > 0)
		say_later(c, text, len, c->sink->rtt_s);
	else
		put(c->fd, text, len);
}

static void say(struct sink_conn *c, const char *text, size_t len)
{
	if (!c->tls)
		say_raw(c, text, len);
	else if (gnutls_record_send(c->tls, text, len) != (ssize_t)len)
		die("TLS record");
}

static void sink_free(struct sink_conn *c)
{
	if (c->fd >= 0 || c->under_way)
		return;
	if (c->tls)
		gnutls_deinit(c->tls);
	free(c->in);
	free(c);
}

/* What has arrived by now. Returns how long until the next does, in ms. */
static int sink_arrivals(struct sink *s)
{
	while (s->first_words) {
		struct words *w = s->first_words;
		double wait = w->due - now_s();

		if (wait > 0)
			return wait > 1 ? 1000 : (int)(wait * 1000) + 1;
		s->first_words = w->next;
		if (!s->first_words)
			s->last_words = &s->first_words;
		put(w->to->fd, w->text, w->len);
		w->to->under_way--;
		if (w->to->quit && !w->to->under_way && w->to->fd >= 0)
			leave(w->to);
		sink_free(w->to);
		free(w);
	}
	return 1000;
}

/* --- sink: TLS --------------------------------------------------------------------------------------------- */

static ssize_t tls_push(gnutls_transport_ptr_t ptr, const void *data, size_t len)
{
	say_raw(ptr, data, len);
	return (ssize_t)len;
}

static ssize_t tls_pull(gnutls_transport_ptr_t ptr, void *data, size_t len)
{
	struct sink_conn *c = ptr;
	ssize_t n = recv(c->fd, data, len, 0);

	if (n < 0)
		gnutls_transport_set_errno(c->tls, errno);
	return n;
}

static void tls_begin(struct sink_conn *c)
{
	struct sink *s = c->sink;

	if (gnutls_init(&c->tls, GNUTLS_SERVER | GNUTLS_NONBLOCK) < 0 || gnutls_priority_set(c->tls, s->priority) < 0 ||
	        gnutls_credentials_set(c->tls, GNUTLS_CRD_CERTIFICATE, s->cert) < 0)
		die("TLS");
	if (s->tickets)
		gnutls_session_ticket_enable_server(c->tls, &s->ticket_key);
	gnutls_transport_set_ptr(c->tls, c);
	gnutls_transport_set_push_function(c->tls, tls_push);
	gnutls_transport_set_pull_function(c->tls, tls_pull);
	c->shaking = true;
}

static bool tls_shake(struct sink_conn *c)
{
	int done = gnutls_handshake(c->tls);

	if (done == GNUTLS_E_AGAIN || done == GNUTLS_E_INTERRUPTED)
		return false;
	if (done < 0)
		return false; /* its end will be read */
	c->shaking = false;
	c->sink->handshakes++;
	c->sink->resumed += gnutls_session_is_resumed(c->tls) != 0;
	return true;
}

static void tls_load(struct sink *s, const char *file)
{
	if (gnutls_certificate_allocate_credentials(&s->cert) < 0 ||
	        gnutls_certificate_set_x509_key_file(s->cert, file, file, GNUTLS_X509_FMT_PEM) < 0 ||
	        gnutls_priority_init(&s->priority, "NORMAL", NULL) < 0 || gnutls_session_ticket_key_generate(&s->ticket_key) < 0)
		die(file);
	s->tickets = true;
}

static ssize_t sink_recv(struct sink_conn *c, char *to, size_t size)
{
	ssize_t n;

	if (!c->tls) {
		n = recv(c->fd, to, size, 0);
		return n < 0 && (errno == EAGAIN || errno == EINTR) ? -1 : n < 0 ? 0 : n;
	}
	if (c->shaking && !tls_shake(c)) {
		char probe; /* the client's close, if that is what it was */

		n = recv(c->fd, &probe, 1, MSG_PEEK);
		return n == 0 || (n < 0 && errno != EAGAIN) ? 0 : -1;
	}
	n = gnutls_record_recv(c->tls, to, size);
	return n == GNUTLS_E_AGAIN || n == GNUTLS_E_INTERRUPTED ? -1 : n < 0 ? 0 : n;
}

/* --- sink: connections ---------------------------------------------------------------------------------------- */

static int sink_source(struct sink *s, uint32_t addr)
{
	for (int i = 0; i < s->n_sources; i++)
		if (s->source_addr[i] == addr)
			return i;
	if (s->n_sources == MAX_SOURCES)
		return MAX_SOURCES - 1;
	s->source_addr[s->n_sources] = addr;
	return s->n_sources++;
}

static void sink_accept(struct sink *s, int listener)
{
	struct sockaddr_in peer;
	socklen_t len = sizeof(peer);
	int fd, one = 1;

	while ((fd = accept4(listener, (struct sockaddr *)&peer, &len, SOCK_NONBLOCK | SOCK_CLOEXEC)) >= 0) {
		struct sink_conn *c = calloc(1, sizeof(*c));

		setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
		c->fd = fd;
		c->in = malloc(IN_SIZE);
		c->source = sink_source(s, peer.sin_addr.s_addr);
		c->sink = s;
		s->connections++;
		if (++s->open > s->peak)
			s->peak = s->open;
		watch(s->epoll, fd, EPOLLIN, c);
		say(c, "220 sink ESMTP\r\n", 16);
		len = sizeof(peer);
	}
}

/* Finds CRLF.CRLF over the border of reads. Returns the bytes consumed up to and including it, or -1. */
static ssize_t sink_find_end(struct sink_conn *c, const char *p, size_t n)
{
	char join[10];
	const char *hit;
	size_t head = n < 4 ? n : 4;

	memcpy(join, c->tail, c->n_tail);
	memcpy(join + c->n_tail, p, head);
	hit = memmem(join, c->n_tail + head, "\r\n.\r\n", 5);
	if (hit && (size_t)(hit - join) + 5 > c->n_tail)
		return (ssize_t)((size_t)(hit - join) + 5 - c->n_tail);
	hit = memmem(p, n, "\r\n.\r\n", 5);
	if (hit)
		return hit - p + 5;
	if (n >= 4) {
		memcpy(c->tail, p + n - 4, 4);
		c->n_tail = 4;
	} else {
		size_t keep = c->n_tail + n > 4 ? 4 - n : c->n_tail;

		memmove(c->tail, c->tail + c->n_tail - keep, keep);
		memcpy(c->tail + keep, p, n);
		c->n_tail = (unsigned)(keep + n);
	}
	return -1;
}

static void sink_command(struct sink_conn *c, const char *line, char *out, size_t *n_out)
{
	const struct sink *s = c->sink;
	char ehlo[160];
	const char *reply = "250 ok\r\n";

	if (strncasecmp(line, "EHLO", 4) == 0 || strncasecmp(line, "LHLO", 4) == 0) {
		snprintf(ehlo, sizeof(ehlo), "250-sink\r\n250-PIPELINING\r\n%s%s250-SIZE 104857600\r\n250 8BITMIME\r\n",
		        s->cert && !c->tls ? "250-STARTTLS\r\n" : "", s->chunking ? "250-CHUNKING\r\n" : "");
		reply = ehlo;
	} else if (strncasecmp(line, "STARTTLS", 8) == 0 && s->cert && !c->tls) {
		c->shaking = true;
		reply = "220 go\r\n";
	} else if (strncasecmp(line, "BDAT ", 5) == 0 && s->chunking) {
		c->chunk = strtoull(line + 5, NULL, 10);
		c->last_chunk = strstr(line, "LAST") != NULL;
		c->in_chunk = true;
		return;
	} else if (strncasecmp(line, "DATA", 4) == 0) {
		reply = "354 go\r\n";
		c->in_data = true;
		memcpy(c->tail, "\r\n", 2); /* the line end of DATA counts */
		c->n_tail = 2;
	} else if (strncasecmp(line, "QUIT", 4) == 0) {
		reply = "221 bye\r\n";
		c->quit = true;
	}
	memcpy(out + *n_out, reply, strlen(reply));
	*n_out += strlen(reply);
}

static void sink_taken(struct sink *s, const struct sink_conn *c)
{
	s->messages++;
	s->source_messages[c->source]++;
	s->last = now_s();
	if (s->messages == 1)
		s->first = s->last;
}

static void sink_take(struct sink *s, struct sink_conn *c)
{
	char out[8192];
	size_t n_out = 0, at = 0;
	uint64_t before = s->messages;

	while ((at < c->len || (c->in_chunk && !c->chunk)) && n_out < sizeof(out) - 256) {
		if (c->in_data) {
			ssize_t end = sink_find_end(c, c->in + at, c->len - at);

			if (end < 0) {
				s->bytes += c->len - at;
				at = c->len;
				break;
			}
			s->bytes += (uint64_t)end;
			at += (size_t)end;
			c->in_data = false;
			sink_taken(s, c);
			memcpy(out + n_out, "250 taken\r\n", 11);
			n_out += 11;
		} else if (c->in_chunk) {
			size_t step = c->len - at < c->chunk ? c->len - at : (size_t)c->chunk;

			s->bytes += step;
			at += step;
			c->chunk -= step;
			if (c->chunk)
				break;
			c->in_chunk = false;
			if (c->last_chunk)
				sink_taken(s, c);
			memcpy(out + n_out, "250 taken\r\n", 11);
			n_out += 11;
		} else {
			char *nl = memchr(c->in + at, '\n', c->len - at);

			if (!nl)
				break;
			*nl = 0;
			sink_command(c, c->in + at, out, &n_out);
			at = (size_t)(nl - c->in) + 1;
		}
	}
	memmove(c->in, c->in + at, c->len - at);
	c->len -= at;
	if (n_out && s->hold_s > 0 && s->messages != before)
		say_later(c, out, n_out, s->hold_s);
	else if (n_out)
		say(c, out, n_out);
	if (c->shaking)
		tls_begin(c);
	if (c->quit && !c->under_way)
		leave(c);
}

static void sink_read(struct sink *s, struct sink_conn *c)
{
	ssize_t n;

	do {
		n = sink_recv(c, c->in + c->len, IN_SIZE - c->len);
		if (n < 0)
			return;
		if (n == 0) {
			close(c->fd);
			c->fd = -1;
			if (!c->left) {
				s->open--;
				s->without_quit++;
			}
			sink_free(c);
			return;
		}
		c->len += (size_t)n;
		sink_take(s, c);
	} while (c->tls && !c->shaking && gnutls_record_check_pending(c->tls));
}

static void sink_report(const struct sink *s)
{
	printf("{\"messages\": %lu, \"bytes\": %lu, \"connections\": %lu, \"peak\": %lu, \"without_quit\": %lu, \"handshakes\": %lu, "
	       "\"resumed\": %lu, \"seconds\": %.3f, \"cpu\": %.3f, \"sources\": {",
	        s->messages, s->bytes, s->connections, s->peak, s->without_quit, s->handshakes, s->resumed, s->last - s->first, cpu_s());
	for (int i = 0; i < s->n_sources; i++) {
		struct in_addr a = {.s_addr = s->source_addr[i]};

		printf("%s\"%s\": %lu", i ? ", " : "", inet_ntoa(a), s->source_messages[i]);
	}
	printf("}, \"first\": %.6f, \"last\": %.6f}\n", s->first, s->last);
}

static void sink_listen(struct sink *s, const char *where)
{
	struct sink_conn *c = calloc(1, sizeof(*c));
	struct sockaddr_storage ss;
	socklen_t len = parse_addr(where, &ss);
	int one = 1;

	c->listening = true;
	c->fd = socket(ss.ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	setsockopt(c->fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
	if (c->fd < 0 || bind(c->fd, (struct sockaddr *)&ss, len) < 0 || listen(c->fd, 4096) < 0)
		die(where);
	watch(s->epoll, c->fd, EPOLLIN, c);
}

static void sink_options(struct sink *s, int argc, char **argv)
{
	bool tickets = true;

	for (int i = 0; i < argc; i++) {
		const char *value = i + 1 < argc ? argv[i + 1] : "";

		if (strcmp(argv[i], "--no-tickets") == 0)
			tickets = false;
		else if (strcmp(argv[i], "--chunking") == 0)
			s->chunking = true;
		else if (strcmp(argv[i], "--listen") == 0)
			sink_listen(s, value), i++;
		else if (strcmp(argv[i], "--rtt") == 0)
			s->rtt_s = atof(value) / 1000, i++;
		else if (strcmp(argv[i], "--hold") == 0)
			s->hold_s = atof(value), i++;
		else if (strcmp(argv[i], "--cert") == 0)
			tls_load(s, value), i++;
		else
			die(argv[i]);
	}
	s->tickets = s->tickets && tickets;
}

static void raise_descriptors(void)
{
	struct rlimit limit;

	if (getrlimit(RLIMIT_NOFILE, &limit) == 0) {
		limit.rlim_cur = limit.rlim_max;
		setrlimit(RLIMIT_NOFILE, &limit);
	}
}

static int sink_main(int argc, char **argv)
{
	struct sink s = {.epoll = epoll_create1(EPOLL_CLOEXEC)};
	struct epoll_event events[256];

	s.last_words = &s.first_words;
	sink_options(&s, argc, argv);
	raise_descriptors();
	puts("ready");
	fflush(stdout);
	while (!stop) {
		int n = epoll_wait(s.epoll, events, 256, sink_arrivals(&s));

		for (int i = 0; i < n; i++) {
			struct sink_conn *c = events[i].data.ptr;

			if (c->fd < 0)
				continue;
			if (c->listening)
				sink_accept(&s, c->fd);
			else
				sink_read(&s, c);
		}
	}
	sink_report(&s);
	return 0;
}

/* --- generator ----------------------------------------------------------------------------------------------- */

enum gen_state { GEN_BANNER, GEN_HELLO, GEN_ENVELOPE, GEN_DOT, GEN_QUIT };

struct gen {
	int epoll;
	const char *to;
	bool lmtp, stamp;
	const char *domain, *zone, *binding;
	unsigned sessions, domains, bindings, open;
	double rate, start; /* 0 = as fast as it goes */
	struct gen_conn **waiting; /* for their time */
	unsigned n_waiting;
	uint64_t messages, sent, done;
	size_t size;
	char *body;
	size_t body_len;
};

struct gen_conn {
	int fd;
	enum gen_state state;
	unsigned awaited; /* replies still due in this state */
	size_t len;
	char in[4096];
	uint64_t number; /* of the message under way */
	/* what could not be written yet */
	struct iovec pending[2];
	int n_pending;
	char head[256];
	size_t head_len;
};

static void gen_flush(struct gen *g, struct gen_conn *c)
{
	while (c->n_pending) {
		ssize_t n = writev(c->fd, c->pending, c->n_pending);
		struct epoll_event e = {.events = EPOLLIN | EPOLLOUT, .data.ptr = c};

		if (n < 0 && errno == EAGAIN) {
			epoll_ctl(g->epoll, EPOLL_CTL_MOD, c->fd, &e);
			return;
		}
		if (n < 0)
			die("write");
		while (n > 0 && c->n_pending) {
			size_t step = (size_t)n < c->pending[0].iov_len ? (size_t)n : c->pending[0].iov_len;

			c->pending[0].iov_base = (char *)c->pending[0].iov_base + step;
			c->pending[0].iov_len -= step;
			n -= (ssize_t)step;
			if (c->pending[0].iov_len == 0) {
				c->pending[0] = c->pending[1];
				c->n_pending--;
			}
		}
	}
}

static void gen_next(struct gen *g, struct gen_conn *c)
{
	char text[512];
	int len;

	if (g->sent == g->messages) {
		c->state = GEN_QUIT;
		c->awaited = 1;
		write_small(c->fd, "QUIT\r\n", 6);
		return;
	}
	if (g->rate > 0 && (double)g->sent >= (now_s() - g->start) * g->rate) {
		g->waiting[g->n_waiting++] = c;
		return;
	}
	c->number = g->sent++;
	len = snprintf(text, sizeof(text),
	        "MAIL FROM:<u%lu@s%lu.example>\r\nRCPT TO:<r%lu@%s%lu.%s>\r\nDATA\r\n", c->number % 1000,
	        c->number % g->bindings, c->number, g->domain, c->number % g->domains, g->zone);
	write_small(c->fd, text, (size_t)len);
	c->state = GEN_ENVELOPE;
	c->awaited = 3;
}

static void gen_body(struct gen *g, struct gen_conn *c)
{
	char stamp[64] = "";

	if (g->stamp)
		snprintf(stamp, sizeof(stamp), "X-Binding: %s%lu\r\n", g->binding, c->number % g->bindings);
	c->head_len = (size_t)snprintf(
	        c->head, sizeof(c->head), "%sMessage-ID: <%lu@gen.example>\r\n", stamp, c->number);
	c->pending[0] = (struct iovec){c->head, c->head_len};
	c->pending[1] = (struct iovec){g->body, g->body_len};
	c->n_pending = 2;
	c->state = GEN_DOT;
	c->awaited = 1;
	gen_flush(g, c);
}

static void gen_hello(struct gen *g, struct gen_conn *c)
{
	c->state = GEN_HELLO;
	c->awaited = 1;
	write_small(c->fd, g->lmtp ? "LHLO gen.example\r\n" : "EHLO gen.example\r\n", 18);
}

/* A final reply line has come. */
static void gen_reply(struct gen *g, struct gen_conn *c, const char *line)
{
	if (line[0] != '2' && line[0] != '3') {
		fprintf(stderr, "mailload: refused: %s\n", line);
		exit(1);
	}
	if (--c->awaited)
		return;
	switch (c->state) {
	case GEN_BANNER:
		gen_hello(g, c);
		break;
	case GEN_ENVELOPE:
		gen_body(g, c);
		break;
	case GEN_DOT:
		g->done++;
		gen_next(g, c);
		break;
	case GEN_HELLO:
		gen_next(g, c);
		break;
	case GEN_QUIT:
		break;
	}
}

static void gen_read(struct gen *g, struct gen_conn *c)
{
	ssize_t n = read(c->fd, c->in + c->len, sizeof(c->in) - 1 - c->len);
	char *at = c->in, *nl;

	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return;
	if (n <= 0) {
		if (c->state != GEN_QUIT)
			die("connection lost");
		close(c->fd);
		free(c);
		g->open--;
		return;
	}
	c->len += (size_t)n;
	c->in[c->len] = 0;
	while ((nl = memchr(at, '\n', c->len - (size_t)(at - c->in)))) {
		*nl = 0;
		if (nl - at > 3 && at[3] != '-')
			gen_reply(g, c, at);
		at = nl + 1;
	}
	c->len -= (size_t)(at - c->in);
	memmove(c->in, at, c->len);
}

static void gen_connect(struct gen *g)
{
	struct gen_conn *c = calloc(1, sizeof(*c));
	struct sockaddr_storage ss;
	socklen_t len = parse_addr(g->to, &ss);
	int one = 1;

	c->fd = socket(ss.ss_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (c->fd < 0 || connect(c->fd, (struct sockaddr *)&ss, len) < 0)
		die(g->to);
	fcntl(c->fd, F_SETFL, O_NONBLOCK);
	if (ss.ss_family == AF_INET)
		setsockopt(c->fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
	c->awaited = 1;
	g->open++;
	watch(g->epoll, c->fd, EPOLLIN, c);
}

static void gen_make_body(struct gen *g)
{
	static const char line[] =
	        "The quick brown fox jumps over the lazy dog, again and again and again.\r\n";
	static const char header[] = "From: <a@s.example>\r\nTo: <b@d.bench>\r\nSubject: throughput\r\n"
	                             "Date: Fri, 20 Nov 2026 12:00:00 +0000\r\nX-Filler: 1\r\n\r\n";

	if (g->size > MAX_BODY)
		g->size = MAX_BODY;
	g->body = malloc(g->size + sizeof(header) + sizeof(line) + 8);
	memcpy(g->body, header, sizeof(header) - 1);
	g->body_len = sizeof(header) - 1;
	while (g->body_len < g->size) {
		memcpy(g->body + g->body_len, line, sizeof(line) - 1);
		g->body_len += sizeof(line) - 1;
	}
	memcpy(g->body + g->body_len, ".\r\n", 3);
	g->body_len += 3;
}

static void gen_options(struct gen *g, int argc, char **argv)
{
	for (int i = 0; i < argc; i++) {
		const char *value = i + 1 < argc ? argv[i + 1] : "";

		if (strcmp(argv[i], "--lmtp") == 0)
			g->lmtp = true;
		else if (strcmp(argv[i], "--stamp") == 0)
			g->stamp = true;
		else if (strcmp(argv[i], "--to") == 0)
			g->to = value, i++;
		else if (strcmp(argv[i], "--sessions") == 0)
			g->sessions = (unsigned)atoi(value), i++;
		else if (strcmp(argv[i], "--messages") == 0)
			g->messages = strtoull(value, NULL, 10), i++;
		else if (strcmp(argv[i], "--size") == 0)
			g->size = (size_t)atol(value), i++;
		else if (strcmp(argv[i], "--rate") == 0)
			g->rate = atof(value), i++;
		else if (strcmp(argv[i], "--domain") == 0)
			g->domain = value, i++;
		else if (strcmp(argv[i], "--binding") == 0)
			g->binding = value, i++;
		else if (strcmp(argv[i], "--zone") == 0)
			g->zone = value, i++;
		else if (strcmp(argv[i], "--domains") == 0)
			g->domains = (unsigned)atoi(value), i++;
		else if (strcmp(argv[i], "--bindings") == 0)
			g->bindings = (unsigned)atoi(value), i++;
		else
			die(argv[i]);
	}
}

static int gen_main(int argc, char **argv)
{
	struct gen g = {.epoll = epoll_create1(EPOLL_CLOEXEC),
	        .sessions = 20,
	        .messages = 100000,
	        .size = 5120,
	        .domains = 100,
	        .domain = "d",
	        .zone = "bench",
	        .binding = "b",
	        .bindings = 4};
	struct epoll_event events[256];
	double start;

	gen_options(&g, argc, argv);
	if (!g.to)
		die("--to is missing");
	gen_make_body(&g);
	g.waiting = calloc(g.sessions, sizeof(*g.waiting));
	g.start = start = now_s();
	for (unsigned i = 0; i < g.sessions; i++)
		gen_connect(&g);
	while (g.open && !stop) {
		int n = epoll_wait(g.epoll, events, 256, g.n_waiting ? 1 : 1000);

		while (g.n_waiting > 0) {
			unsigned before = g.n_waiting;

			gen_next(&g, g.waiting[--g.n_waiting]);
			if (g.n_waiting == before) /* it is put back: the time of none has come */
				break;
		}
		for (int i = 0; i < n; i++) {
			struct gen_conn *c = events[i].data.ptr;
			struct epoll_event e = {.events = EPOLLIN, .data.ptr = c};

			if (events[i].events & EPOLLOUT) {
				epoll_ctl(g.epoll, EPOLL_CTL_MOD, c->fd, &e);
				gen_flush(&g, c);
			}
			if (events[i].events & (EPOLLIN | EPOLLHUP | EPOLLERR))
				gen_read(&g, c);
		}
	}
	printf("{\"messages\": %lu, \"seconds\": %.3f, \"rate\": %.0f, \"cpu\": %.3f, \"first\": %.6f}\n",
	        g.done, now_s() - start, (double)g.done / (now_s() - start), cpu_s(), start);
	return g.done == g.messages ? 0 : 1;
}

int main(int argc, char **argv)
{
	struct sigaction action = {.sa_handler = on_signal};

	sigaction(SIGTERM, &action, NULL);
	sigaction(SIGINT, &action, NULL);
	signal(SIGPIPE, SIG_IGN);
	if (argc > 1 && strcmp(argv[1], "sink") == 0)
		return sink_main(argc - 2, argv + 2);
	if (argc > 1 && strcmp(argv[1], "gen") == 0)
		return gen_main(argc - 2, argv + 2);
	fputs("usage: mailload sink|gen ... (see the head of t/bench/mailload.c)\n", stderr);
	return 2;
}
