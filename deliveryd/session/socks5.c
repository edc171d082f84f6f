/*
 * RFC 1928 3 to 6, RFC 1929 2:
 *
 *   greeting   = %x05 %x01 ( %x00 / %x02 )      ; one method: without credentials none, with them no other
 *   choice     = %x05 OCTET                     ; %xff = none of them
 *   login      = %x01 len user len pass
 *   verdict    = OCTET OCTET                    ; version (some say 5), 0 = welcome
 *   connect    = %x05 %x01 %x00 address         ; address = ( %x01 4OCTET / %x04 16OCTET ) 2OCTET
 *   reply      = %x05 OCTET OCTET address       ; 0 = connected, then the address it connected from
 */
#include "session/socks5.h"

#include <assert.h>
#include <string.h>
#include "base/mem.h"

enum {
	VERSION = 5,
	METHOD_NONE = 0,
	METHOD_PASSWORD = 2,
	METHOD_REFUSED = 0xff,
	CMD_CONNECT = 1,
	ATYP_V4 = 1,
	ATYP_V6 = 4
};

static void put(struct str *out, unsigned octet)
{
	str_add_char(out, (char)octet);
}

static void put_text(struct str *out, const char *text)
{
	size_t len = strlen(text);

	assert(len <= 255);
	put(out, (unsigned)len);
	str_add_mem(out, text, len);
}

void socks5_start(struct socks5 *s, const struct socks5_target *to, struct str *out)
{
	*s = (struct socks5){.stage = SOCKS5_METHOD};
	put(out, VERSION);
	put(out, 1);
	put(out, to->user ? METHOD_PASSWORD : METHOD_NONE);
}

static void put_login(const struct socks5_target *to, struct str *out)
{
	put(out, 1);
	put_text(out, to->user);
	put_text(out, to->pass ? to->pass : "");
}

static void put_connect(const struct socks5_target *to, struct str *out)
{
	bool v6 = to->peer->family == AF_INET6;

	put(out, VERSION);
	put(out, CMD_CONNECT);
	put(out, 0);
	put(out, v6 ? ATYP_V6 : ATYP_V4);
	str_add_mem(out, (const char *)to->peer->ip, v6 ? 16 : 4);
	put(out, to->peer->port >> 8);
	put(out, to->peer->port & 0xff);
}

static enum socks5_step fail(struct socks5 *s, enum socks5_blame blame, const char *why)
{
	s->blame = blame;
	s->why = why;
	return SOCKS5_FAILED;
}

static enum socks5_step refused(struct socks5 *s, unsigned code)
{
	static const struct {
		enum socks5_blame blame;
		const char *why;
	} codes[] = {
	        [1] = {SOCKS5_OF_PEER, "general SOCKS server failure"},
	        [2] = {SOCKS5_OF_PEER, "connection not allowed by its rules"},
	        [3] = {SOCKS5_OF_PEER, "network unreachable"},
	        [4] = {SOCKS5_OF_PEER, "host unreachable"},
	        [5] = {SOCKS5_OF_PEER, "connection refused"},
	        [6] = {SOCKS5_OF_PEER, "timed out (TTL expired)"},
	        [7] = {SOCKS5_OF_PROXY, "command not supported"},
	        [8] = {SOCKS5_OF_PEER, "address type not supported"},
	};

	if (code < array_len(codes))
		return fail(s, codes[code].blame, codes[code].why);
	return fail(s, SOCKS5_OF_PROXY, "a reply that RFC 1928 does not know");
}

static void next(struct socks5 *s, enum socks5_stage stage)
{
	s->stage = stage;
	s->len = 0;
}

/* The choice of a method, whole */
static enum socks5_step chosen(struct socks5 *s, const struct socks5_target *to, struct str *out)
{
	if (s->raw[0] != VERSION)
		return fail(s, SOCKS5_OF_PROXY, "it does not speak SOCKS5");
	if (s->raw[1] == METHOD_REFUSED)
		return fail(s, SOCKS5_OF_PROXY,
		        to->user ? "it takes no user name and password"
		                 : "it wants credentials (egress_proxy_user)");
	if (s->raw[1] != (to->user ? METHOD_PASSWORD : METHOD_NONE))
		return fail(s, SOCKS5_OF_PROXY, "it chose a method of authentication that was not offered");
	if (to->user) {
		put_login(to, out);
		next(s, SOCKS5_AUTH);
	} else {
		put_connect(to, out);
		next(s, SOCKS5_REPLY);
	}
	return SOCKS5_MORE;
}

static enum socks5_step judged(struct socks5 *s, const struct socks5_target *to, struct str *out)
{
	if (s->raw[0] != 1 && s->raw[0] != VERSION)
		return fail(s, SOCKS5_OF_PROXY, "it does not speak SOCKS5");
	if (s->raw[1] != 0)
		return fail(s, SOCKS5_OF_PROXY, "it refused user name and password");
	put_connect(to, out);
	next(s, SOCKS5_REPLY);
	return SOCKS5_MORE;
}

static enum socks5_step replied(struct socks5 *s)
{
	bool v6 = s->raw[3] == ATYP_V6;
	size_t at = v6 ? 20 : 8;

	s->bound = (struct addr){.family = v6 ? AF_INET6 : AF_INET};
	memcpy(s->bound.ip, s->raw + 4, v6 ? 16 : 4);
	s->bound.port = (uint16_t)(s->raw[at] << 8 | s->raw[at + 1]);
	addr_unmap(&s->bound);
	return SOCKS5_DONE;
}

/* How long the answer will be as far as can be told from its beginning; the beginning itself may settle the matter. */
static enum socks5_step look(struct socks5 *s, const struct socks5_target *to, struct str *out)
{
	if (s->stage != SOCKS5_REPLY) {
		if (s->len < 2)
			return SOCKS5_MORE;
		return s->stage == SOCKS5_METHOD ? chosen(s, to, out) : judged(s, to, out);
	}
	if (s->len >= 1 && s->raw[0] != VERSION)
		return fail(s, SOCKS5_OF_PROXY, "it does not speak SOCKS5");
	if (s->len >= 2 && s->raw[1] != 0)
		return refused(s, s->raw[1]);
	if (s->len >= 4 && s->raw[3] != ATYP_V4 && s->raw[3] != ATYP_V6)
		return fail(s, SOCKS5_OF_PROXY, "it does not tell the address it connected from");
	if (s->len < 10 || (s->raw[3] == ATYP_V6 && s->len < 22))
		return SOCKS5_MORE;
	return replied(s);
}

enum socks5_step socks5_feed(struct socks5 *s, const struct socks5_target *to, const char *raw, size_t len,
        size_t *used, struct str *out)
{
	enum socks5_step step = SOCKS5_MORE;

	for (*used = 0; *used < len && step == SOCKS5_MORE;) {
		assert(s->len < sizeof(s->raw));
		s->raw[s->len++] = (uint8_t)raw[(*used)++];
		step = look(s, to, out);
	}
	return step;
}

const char *socks5_stage_words(enum socks5_stage stage)
{
	switch (stage) {
	case SOCKS5_METHOD:
		return "waiting for its choice of authentication";
	case SOCKS5_AUTH:
		return "waiting for its word on user name and password";
	case SOCKS5_REPLY:
		break;
	}
	return "waiting until it has connected";
}
