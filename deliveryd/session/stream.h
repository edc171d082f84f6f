/*
 * stream - the bytes under a dialogue: a socket, or TLS on it
 *
 * Purpose    Non-blocking reads and gathered writes on a descriptor. What is above pulls: it offers what it has
 *            each time there is room, so nothing is copied or queued here. A TLS stream takes the place of the
 *            plain one (stream_replace()) between two replies; the dialogue above does not notice. Nothing is read
 *            ahead of what stream_read() returned, so nothing from before the swap can survive it.
 * Ownership  The stream owns the descriptor; stream_close() closes it.
 * Threads    The loop of the session.
 */
#ifndef SESSION_STREAM_H
#define SESSION_STREAM_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>
#include <sys/uio.h>

struct stream;

/* Both: > 0 bytes; 0 with read = the peer closed; -1 with errno, EAGAIN = wait for the descriptor. */
struct stream_ops {
	ssize_t (*read)(struct stream *, void *buf, size_t size);
	ssize_t (*writev)(struct stream *, const struct iovec *, int n);
	/* Bytes that writev() took but that are not with the kernel yet (a half sent TLS record). NULL =
	 * never any. */
	bool (*unsent)(const struct stream *);
	/* Bytes read from the descriptor that stream_read() has yet to return. NULL = never any. */
	bool (*unread)(const struct stream *);
	/* Ends the layer's own affairs; the descriptor stays. NULL = nothing to end. */
	void (*end)(struct stream *);
};

struct stream {
	const struct stream_ops *ops;
	int fd;      /* -1 = none */
	void *layer; /* the TLS state; owned by the layer, freed by ops->end() */
};

void stream_init(struct stream *);          /* no descriptor */
void stream_plain(struct stream *, int fd); /* takes fd */
/* A layer on the same descriptor. */
void stream_replace(struct stream *, const struct stream_ops *, void *layer);
/* The layer ends, without a word to the peer; the descriptor goes on in clear. */
void stream_drop_layer(struct stream *);
/* reset: the peer gets RST, unsent bytes are dropped (SO_LINGER 0). */
void stream_close(struct stream *, bool reset);

static inline ssize_t stream_read(struct stream *s, void *buf, size_t size)
{
	return s->ops->read(s, buf, size);
}
static inline ssize_t stream_writev(struct stream *s, const struct iovec *iov, int n)
{
	return s->ops->writev(s, iov, n);
}
static inline bool stream_unsent(const struct stream *s)
{
	return s->ops->unsent && s->ops->unsent(s);
}
static inline bool stream_unread(const struct stream *s)
{
	return s->ops->unread && s->ops->unread(s);
}

#endif
