#include "session/stream.h"

#include <errno.h>
#include <sys/socket.h>
#include <unistd.h>

static ssize_t plain_read(struct stream *s, void *buf, size_t size)
{
	ssize_t n;

	do
		n = recv(s->fd, buf, size, 0);
	while (n < 0 && errno == EINTR);
	return n;
}

static ssize_t plain_writev(struct stream *s, const struct iovec *iov, int n)
{
	/* sendmsg() and not writev(): MSG_NOSIGNAL, so that no program needs to ignore SIGPIPE for our sake
	 */
	struct msghdr msg = {.msg_iov = (struct iovec *)iov, .msg_iovlen = (size_t)n};
	ssize_t sent;

	do
		sent = sendmsg(s->fd, &msg, MSG_NOSIGNAL);
	while (sent < 0 && errno == EINTR);
	return sent;
}

static const struct stream_ops plain_ops = {.read = plain_read, .writev = plain_writev};

void stream_init(struct stream *s)
{
	*s = (struct stream){.ops = &plain_ops, .fd = -1};
}

void stream_plain(struct stream *s, int fd)
{
	*s = (struct stream){.ops = &plain_ops, .fd = fd};
}

void stream_replace(struct stream *s, const struct stream_ops *ops, void *layer)
{
	s->ops = ops;
	s->layer = layer;
}

void stream_drop_layer(struct stream *s)
{
	int fd = s->fd;

	if (s->ops->end)
		s->ops->end(s);
	stream_plain(s, fd);
}

void stream_close(struct stream *s, bool reset)
{
	struct linger linger = {.l_onoff = 1, .l_linger = 0};

	if (s->fd < 0)
		return;
	if (s->ops->end)
		s->ops->end(s);
	if (reset)
		setsockopt(s->fd, SOL_SOCKET, SO_LINGER, &linger, sizeof(linger));
	close(s->fd);
	stream_init(s);
}
