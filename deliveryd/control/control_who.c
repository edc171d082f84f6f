#include <event2/bufferevent.h>
#include <pwd.h>
#include <stdlib.h>
#include <sys/socket.h>

#include "base/mem.h"
#include "control/control_in.h"

static void name_of(uid_t uid, struct str *who)
{
	struct passwd entry, *found = NULL;
	char space[4096];

	if (getpwuid_r(uid, &entry, space, sizeof(space), &found) == 0 && found)
		str_printf(who, "%s (uid %u)", found->pw_name, (unsigned)uid);
	else
		str_printf(who, "uid %u", (unsigned)uid);
}

void control_who(struct evhttp_request *req, struct str *who)
{
	struct evhttp_connection *conn = evhttp_request_get_connection(req);
	int fd = bufferevent_getfd(evhttp_connection_get_bufferevent(conn));
	struct sockaddr_storage own;
	socklen_t own_len = sizeof(own);
	struct ucred peer;
	socklen_t len = sizeof(peer);
	char *address = NULL;
	ev_uint16_t port;

	if (getsockname(fd, (struct sockaddr *)&own, &own_len) == 0 && own.ss_family == AF_UNIX &&
	        getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &len) == 0 && peer.uid != (uid_t)-1) {
		name_of(peer.uid, who);
		return;
	}
	evhttp_connection_get_peer(conn, &address, &port);
	str_add(who, address && *address ? address : "unknown");
}
