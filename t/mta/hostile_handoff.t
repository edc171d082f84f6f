#!/usr/bin/env python3
"""Hostile commands and clients at the handoff: each reply of design section 7, and nobody harms anybody else."""
import os
import signal
import socket
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))
from hostile import Client, Gone, dotted, hostile, received, short, wait_for  # noqa: E402

OK, SENDER, RCPT, BYE = "250 2.0.0", "250 2.1.0", "250 2.1.5", "221 2.0.0"
SEQUENCE, SYNTAX, UNKNOWN, LONG = "503 5.5.1", "501 5.5.4", "500 5.5.1", "500 5.5.2"
PARAMETER = "555 5.5.4"
LHLO, MAIL, TO = "LHLO client.example\r\n", "MAIL FROM:<a@b.example>\r\n", "RCPT TO:<x@d0.example>\r\n"
# what a case begins with, and how many replies that makes
BEGIN = {"new": "", "hello": LHLO, "mail": LHLO + MAIL, "rcpt": LHLO + MAIL + TO,
         "EHLO": LHLO.replace("LHLO", "EHLO"), "HELO": LHLO.replace("LHLO", "HELO"),
         "EHLO mail": LHLO.replace("LHLO", "EHLO") + MAIL, "EHLO rcpt": LHLO.replace("LHLO", "EHLO") + MAIL + TO}
LOCAL64, LABEL63 = "l" * 64, "d" * 63

# (where, what is sent, the replies it must get)
COMMANDS = [
    # verbs and their order
    ("new", "MAIL FROM:<a@b.example>", SEQUENCE), ("new", "RCPT TO:<a@b.example>", SEQUENCE),
    ("new", "DATA", SEQUENCE), ("new", "NOOP", OK), ("new", "RSET", OK), ("new", "QUIT", BYE),
    ("hello", "RCPT TO:<a@b.example>", SEQUENCE), ("hello", "DATA", SEQUENCE),
    ("mail", "DATA", SEQUENCE), ("mail", "MAIL FROM:<c@d.example>", SEQUENCE), ("mail", "MAIL FROM:<>", SEQUENCE),
    ("EHLO mail", "DATA", SEQUENCE), ("rcpt", "MAIL FROM:<c@d.example>", SEQUENCE),
    ("mail", "RSET\r\nRCPT TO:<a@b.example>", OK, SEQUENCE), ("rcpt", "RSET\r\nDATA", OK, SEQUENCE),
    ("rcpt", "LHLO again.example\r\nDATA", "250", SEQUENCE), ("rcpt", "EHLO again.example\r\nDATA", "250", SEQUENCE),
    ("rcpt", "LHLO\r\nDATA\r\n.", SYNTAX, "354", "250 2.0.0"),
    ("hello", "noop", OK), ("hello", "NoOp with words", OK), ("hello", "rset", OK),
    ("hello", "RSET now", SYNTAX), ("rcpt", "DATA now", SYNTAX), ("hello", "QUIT now", SYNTAX),
    ("hello", "VRFY someone", "252 2.0.0"), ("hello", "VRFY", SYNTAX), ("hello", "HELP", "214 2.0.0"),
    ("hello", "EXPN list", "502 5.5.1"), ("hello", "STARTTLS", "502 5.5.1"), ("hello", "AUTH PLAIN", "502 5.5.1"),
    ("hello", "BDAT 10 LAST", "502 5.5.1"), ("hello", "TURN", "502 5.5.1"), ("hello", "XCLIENT ADDR=192.0.2.1", "502 5.5.1"),
    ("hello", "FROBNICATE", UNKNOWN), ("hello", "MAILFROM:<a@b.example>", UNKNOWN), ("hello", "X", UNKNOWN),
    ("hello", "DATA\x2c", UNKNOWN), ("hello", "", LONG), ("hello", "   ", LONG), ("hello", " NOOP", OK),
    ("hello", "GET / HTTP/1.1", UNKNOWN), ("hello", "250 2.0.0 Ok", UNKNOWN),
    # greeting
    ("new", "LHLO", SYNTAX), ("new", "EHLO", SYNTAX), ("new", "HELO", SYNTAX), ("new", "LHLO two words", SYNTAX),
    ("new", "LHLO <x>", SYNTAX), ("new", "LHLO a..b", SYNTAX), ("new", "LHLO .a", SYNTAX), ("new", "LHLO a@b", SYNTAX),
    ("new", "LHLO [1.2.3]", SYNTAX), ("new", "LHLO [1.2.3.4", SYNTAX), ("new", "LHLO [::1]", SYNTAX),
    ("new", "LHLO " + "x" * 64, SYNTAX), ("new", "LHLO " + ".".join(["x" * 60] * 5), SYNTAX),
    ("new", "LHLO\r\nMAIL FROM:<>", SYNTAX, SEQUENCE),
    ("new", "LHLO localhost", "250"), ("new", "LHLO [192.0.2.1]", "250"), ("new", "LHLO [IPv6:2001:db8::1]", "250"),
    ("new", "lhlo a_b.example", "250"), ("new", "EHLO x", "250"), ("new", "HELO x", "250"),
    ("new", "LHLO 127.0.0.1", "250"), ("new", "LHLO x \r\nMAIL FROM:<>", "250", SENDER),
    # what ends a command, and what has no place in one
    ("hello", "NOOP\nNOOP", SYNTAX), ("hello", "NOOP\rNOOP", SYNTAX), ("hello", "NOOP\r\r\nNOOP", SYNTAX, OK),
    ("hello", "NOOP\n\r\nNOOP", SYNTAX, OK), ("hello", "NOOP\0", SYNTAX), ("hello", "\0", SYNTAX),
    ("hello", "NO\0OP", SYNTAX), ("hello", "NOOP \x80", SYNTAX), ("hello", "NOOP caf\xc3\xa9", SYNTAX),
    ("hello", "NOOP\t", SYNTAX), ("hello", "NOOP\tx", SYNTAX), ("hello", "NOOP \x7f", SYNTAX), ("hello", "\xff\xf4\xff\xfd", SYNTAX),
    ("hello", "MAIL FROM:<a@b.example>\nRCPT TO:<x@d0.example>\nDATA", SYNTAX),
    ("hello", "MAIL FROM:<a\0b@b.example>", SYNTAX), ("hello", "MAIL FROM:<caf\xc3\xa9@b.example>", SYNTAX),
    ("mail", "RCPT TO:<caf\xc3\xa9@d0.example>", SYNTAX), ("mail", "RCPT TO:<x@caf\xe9.example>", SYNTAX),
    ("mail", "RCPT TO:<x@d0.example>\nDATA", SYNTAX), ("mail", "RCPT TO:<x\r@d0.example>", SYNTAX),
    ("rcpt", "DATA\n", SYNTAX), ("rcpt", "DATA\r", SYNTAX), ("hello", "\x16\x03\x01\x02\x00\x01\xfc", SYNTAX),
    ("hello", "QUIT\n", SYNTAX), ("hello", "LHLO caf\xe9", SYNTAX), ("new", "EHLO \x01", SYNTAX),
    # overlong: one reply for all of it
    ("hello", "NOOP " + "x" * 100000, LONG), ("new", "x" * 70000, LONG), ("new", "LHLO " + "x" * 70000, LONG),
    ("hello", "NOOP " + "x\n" * 40000, LONG), ("hello", "NOOP " + "x\r" * 40000 + "x", LONG),
    ("hello", "NOOP " + "\0" * 200000, LONG), ("hello", "\r" * 65537, LONG), ("hello", "\n" * 65537, LONG),
    ("hello", "x" * 70000 + "\r\n" + "y" * 70000 + "\r\nNOOP", LONG, LONG, OK),
    ("mail", "RCPT TO:<" + "x" * 100000 + "@d0.example>", LONG), ("hello", "MAIL FROM:<a@b.example>" + " " * 70000, LONG),
    ("rcpt", "DATA" + " " * 70000, LONG), ("hello", "x" * 65535 + "\r", LONG), ("hello", "x" * 65534, LONG),
    ("hello", "NOOP " + "x" * 500, OK), ("hello", "NOOP " + "x" * 1000, OK),
    # parameters
    ("hello", "MAIL FROM:<a@b.example> SIZE=1000", SENDER), ("hello", "mail from:<a@b.example> size=1 body=7bit", SENDER),
    ("hello", "MAIL FROM:<a@b.example> BODY=8BITMIME", SENDER), ("hello", "MAIL FROM:<a@b.example> BODY=8bitmime", SENDER),
    ("hello", "MAIL FROM:<a@b.example> SIZE=0", SENDER), ("hello", "MAIL FROM:<>", SENDER),
    ("hello", "MAIL FROM:<a@b.example> SIZE=52428800", SENDER), ("hello", "MAIL FROM:<a@b.example> SIZE=52428801", "552 5.3.4"),
    ("hello", "MAIL FROM:<a@b.example> SIZE=4294967296", "552 5.3.4"),
    ("hello", "MAIL FROM:<a@b.example> SIZE=18446744073709551615", "552 5.3.4"),
    ("hello", "MAIL FROM:<a@b.example> SIZE=18446744073709551616", "552 5.3.4"),
    ("hello", "MAIL FROM:<a@b.example> SIZE=99999999999999999999", "552 5.3.4"),
    ("hello", "MAIL FROM:<a@b.example> SIZE=00000000000000000001", SENDER),
    ("hello", "MAIL FROM:<a@b.example> SIZE=" + "9" * 21, SYNTAX), ("hello", "MAIL FROM:<a@b.example> SIZE=-1", SYNTAX),
    ("hello", "MAIL FROM:<a@b.example> SIZE=+1", SYNTAX), ("hello", "MAIL FROM:<a@b.example> SIZE=1k", SYNTAX),
    ("hello", "MAIL FROM:<a@b.example> SIZE=0x10", SYNTAX), ("hello", "MAIL FROM:<a@b.example> SIZE=", SYNTAX),
    ("hello", "MAIL FROM:<a@b.example> SIZE", SYNTAX), ("hello", "MAIL FROM:<a@b.example> SIZE= 1", SYNTAX),
    ("hello", "MAIL FROM:<a@b.example> SIZE=1 SIZE=1", SYNTAX), ("hello", "MAIL FROM:<a@b.example> SIZE=1 size=2", SYNTAX),
    ("hello", "MAIL FROM:<a@b.example> BODY=7BIT BODY=7BIT", SYNTAX), ("hello", "MAIL FROM:<a@b.example> BODY=", SYNTAX),
    ("hello", "MAIL FROM:<a@b.example> BODY=BINARYMIME", SYNTAX), ("hello", "MAIL FROM:<a@b.example> BODY", SYNTAX),
    ("hello", "MAIL FROM:<a@b.example> SMTPUTF8", SENDER), ("hello", "MAIL FROM:<a@b.example> SMTPUTF8=1", SYNTAX), ("hello", "MAIL FROM:<a@b.example> RET=FULL", SENDER),
    ("hello", "MAIL FROM:<a@b.example> RET=ALL", SYNTAX), ("hello", "MAIL FROM:<a@b.example> ENVID=x", SENDER),
    ("hello", "MAIL FROM:<a@b.example> ENVID=" + "x" * 101, SYNTAX), ("hello", "MAIL FROM:<a@b.example> ENVID=a+b", SYNTAX),
    ("HELO", "MAIL FROM:<a@b.example> ENVID=x", PARAMETER), ("hello", "MAIL FROM:<a@b.example> AUTH=<>", PARAMETER),
    ("hello", "MAIL FROM:<a@b.example> REQUIRETLS", SENDER), ("hello", "MAIL FROM:<a@b.example> REQUIRETLS=1", SYNTAX),
    ("hello", "MAIL FROM:<a@b.example> REQUIRETLS REQUIRETLS", SYNTAX), ("HELO", "MAIL FROM:<a@b.example> REQUIRETLS", PARAMETER), ("hello", "MAIL FROM:<a@b.example> SIZE=1 HOLDFOR=1", PARAMETER),
    ("hello", "MAIL FROM:<a@b.example> X", PARAMETER), ("hello", "MAIL FROM:<a@b.example> =", SYNTAX),
    ("hello", "MAIL FROM:<a@b.example> =x", SYNTAX), ("hello", "MAIL FROM:<a@b.example> S\"IZE=1", SYNTAX),
    ("hello", "MAIL FROM:<a@b.example>SIZE=1", SYNTAX), ("hello", "MAIL FROM:<a@b.example> <c@d.example>", SYNTAX),
    ("mail", "RCPT TO:<x@d0.example> NOTIFY=NEVER", RCPT), ("mail", "RCPT TO:<x@d0.example> ORCPT=rfc822;x", RCPT),
    ("mail", "RCPT TO:<x@d0.example> NOTIFY=NEVER,DELAY", SYNTAX), ("mail", "RCPT TO:<x@d0.example> ORCPT=rfc822;+zz", SYNTAX),
    ("mail", "RCPT TO:<x@d0.example> ORCPT=rfc822;" + "x" * 494, SYNTAX),
    ("mail", "RCPT TO:<x@d0.example> SIZE=1", PARAMETER), ("mail", "RCPT TO:<x@d0.example> =", SYNTAX),
    ("mail", "RCPT TO:<x@d0.example> X=\r\nRCPT TO:<x@d0.example>", SYNTAX, RCPT),
    ("HELO", "MAIL FROM:<a@b.example> SIZE=1", PARAMETER), ("HELO", "MAIL FROM:<a@b.example>", SENDER),
    # XFORWARD
    ("new", "XFORWARD NAME=x", SEQUENCE), ("hello", "XFORWARD", SYNTAX), ("hello", "XFORWARD NAME", SYNTAX),
    ("hello", "XFORWARD NAME=", SYNTAX), ("hello", "XFORWARD FOO=x", SYNTAX), ("hello", "XFORWARD ADDR=300.1.1.1", SYNTAX),
    ("hello", "XFORWARD ADDR=1.2.3.4%eth0", SYNTAX), ("hello", "XFORWARD ADDR=[1.2.3.4]", SYNTAX),
    ("hello", "XFORWARD PORT=0", SYNTAX), ("hello", "XFORWARD PORT=65536", SYNTAX), ("hello", "XFORWARD PORT=4294967297", SYNTAX),
    ("hello", "XFORWARD NAME=a NAME=b", SYNTAX), ("hello", "XFORWARD NAME=+0D+0ARCPT", SYNTAX),
    ("hello", "XFORWARD HELO=+00", SYNTAX), ("hello", "XFORWARD NAME=+4", SYNTAX), ("hello", "XFORWARD NAME=+zz", SYNTAX),
    ("hello", "XFORWARD HELO=" + "x" * 300, SYNTAX), ("hello", "XFORWARD PROTO=" + "x" * 100, SYNTAX),
    ("hello", "XFORWARD SOURCE=ELSEWHERE", SYNTAX), ("mail", "XFORWARD NAME=x", SEQUENCE),
    ("hello", "XFORWARD NAME=[UNAVAILABLE] ADDR=[UNAVAILABLE] PORT=[UNAVAILABLE]", OK),
    ("hello", "XFORWARD NAME=x.example ADDR=192.0.2.7 PORT=1234 PROTO=ESMTP HELO=x.example IDENT=ABC SOURCE=REMOTE", OK),
    ("hello", "XFORWARD ADDR=IPv6:2001:db8::7", OK), ("hello", "xforward addr=2001:db8::7", OK),
    ("hello", "XFORWARD NAME=x+2Ey", OK),
]

# (path, the reply as sender, the reply as recipient)
BAD = ("501 5.1.7", "501 5.1.3")
GOOD = (SENDER, RCPT)
PATHS = [(p, GOOD) for p in (
    "<a@b.example>", "<a.b+c@b.example>", "<A!#$%&'*+-/=?^_`{|}~@b.example>", "<\"quoted local\"@b.example>",
    "<\"a@b\"@c.example>", "<\"a\\\"b\"@c.example>", "<\"a\\\\\"@c.example>", "<\"\"@c.example>", "<\">\"@c.example>",
    "<@r.example:a@b.example>", "<@r.example,@s.example:a@b.example>", "<a@[192.0.2.1]>", "<a@[IPv6:2001:db8::1]>",
    "<a@[ipv6:::1]>", "<a@xn--caf-dma.example>", "<a@B.EXAMPLE>", "<" + LOCAL64 + "@b.example>", "<a@" + LABEL63 + ".example>",
    "<a@b_c.example>", "<a@1.2.3.4>", " <a@b.example>", "<.a@b.example>", "<a..b@b.example>", "<postmaster>")]
PATHS += [(p, BAD) for p in (
    "a@b.example", "<a@b.example", "a@b.example>", "", "<", ">", "><", "<<a@b.example>>", "< a@b.example>",
    "<a@b.example >", "<a @b.example>", "<a@ b.example>", "<a@>", "<@>", "<@b.example>", "<a@b..example>", "<a@.example>",
    "<a@b.example.>", "<a@b@c.example>", "<a b@c.example>", "<(comment)a@b.example>", "<a@b.example(comment)>",
    "<\"a@b.example>", "<\"a\"b@c.example>", "<a\"b\"@c.example>", "<\"a\\\"@b.example>", "<a@\"b.example\">",
    "<a@[192.0.2.300]>", "<a@[192.0.2.1>", "<a@192.0.2.1]>", "<a@[]>", "<a@[::1]>", "<a@[IPv6:zz]>", "<a@[fe80::1%lo]>",
    "<a@[192.0.2.1]x>", "<@r.example,a@b.example>", "<@r.example:>", "<@:a@b.example>", "<@r.example;a@b.example>",
    "<@r..example:a@b.example>", "<a,b@c.example>", "<a:b@c.example>", "<a;b@c.example>", "<a@b,c.example>", "<a@b/c.example>",
    "<a@b.example:25>", "<a@b%c.example>", "<a@" + "x" * 64 + ".example>", "<a@" + ".".join(["x" * 60] * 5) + ">",
    "Someone <a@b.example>", "<a@b!c>", "<a\\@b.example>", "<a@b\\.example>")]
PATHS += [("<>", (SENDER, BAD[1])), ("<local>", (SENDER, BAD[1])), ("< >", BAD), ("<a@b.example>>", (SYNTAX, SYNTAX))]


def commands(tap, h):
    places = {"TCP": h.tcp, "Unix": h.unix}
    for where, sent, *want in COMMANDS:
        for place, address in places.items():
            with h.client(address) as c:
                begin = BEGIN[where]
                c.send(begin + sent + "\r\n" + ("" if want[-1] == BYE else "NOOP\r\n"))
                c.replies(begin.count("\r\n"))
                got = [short(r) for r in c.replies(len(want))]
                last = OK if want[-1] == BYE and c.ended() else None if want[-1] == BYE else short(c.reply())
                good = got == list(want) and last == OK and (want[-1] == BYE or c.quiet())
                if not good or place == "TCP":
                    tap.ok(good, "%s, after %s: %.70s" % (place, where, ascii(sent)), got, list(want), last)
    h.check_up("commands")


def paths(tap, h):
    for path, (sender, rcpt) in PATHS:
        with h.client() as c:
            c.send(LHLO + "MAIL FROM:" + path + "\r\nRSET\r\n" + MAIL + "RCPT TO:" + path + "\r\nNOOP\r\n")
            got = [short(r) for r in c.replies(6)][1:]
            tap.equal(got, [sender, OK, SENDER, rcpt, OK], "path %.70s" % path)
    for line, want in (("MAIL <a@b.example>", BAD[0]), ("MAIL FROM <a@b.example>", BAD[0]), ("MAIL FROM", BAD[0]),
                       ("MAIL TO:<a@b.example>", BAD[0]), ("MAIL", SYNTAX), ("MAIL FROM :<a@b.example>", BAD[0]),
                       ("MAIL  FROM:<a@b.example>  ", SENDER)):
        with h.client() as c:
            c.say("LHLO x")
            tap.equal(short(c.say(line)), want, ascii(line))
    h.check_up("paths")


def greetings(tap, h):
    for place in (h.tcp, h.unix):
        with h.client(place) as c:
            tap.equal(c.banner.split()[:2], ["220", "mta1.bindpost.example"], "banner")
            for hello in ("LHLO", "EHLO"):
                said = c.say(hello + " client.example").split("\n")
                tap.equal(said[0], "250-mta1.bindpost.example", hello + ": our name")
                tap.equal(sorted(line[4:].split(" ")[0] for line in said[1:]), sorted(
                    ["PIPELINING", "SIZE", "8BITMIME", "SMTPUTF8", "ENHANCEDSTATUSCODES", "DSN", "REQUIRETLS", "XFORWARD"]), hello + ": what is honoured")
                tap.ok("SIZE 52428800" in "\n".join(said), hello + ": the size")
    with h.client() as c:
        tap.equal(c.say("HELO client.example"), "250 mta1.bindpost.example", "HELO: our name alone")
    for first in ("GET /v1/reload HTTP/1.1", "POST / HTTP/1.1", "CONNECT x:25 HTTP/1.1"):
        with h.client() as c:
            c.send(first + "\r\nHost: x\r\n\r\nLHLO x\r\nMAIL FROM:<>\r\n")
            tap.equal((short(c.reply()), c.ended()), ("421 4.7.0", True), "a web client first: " + first)


def recipients(tap, h):
    with h.client() as c:
        c.mail("a@b.example")
        c.send("".join("RCPT TO:<n%d@d0.example>\r\n" % i for i in range(10001)))
        got = [short(r) for r in c.replies(10001)]
        tap.equal((set(got[:10000]), got[10000]), ({RCPT}, "452 4.5.3"), "10,000 recipients, and no more")
        tap.equal(short(c.say("RSET")), OK, "and the session goes on")
    h.reconfigure(handoff={"max_recipients": 2})
    with h.client() as c:
        c.mail("a@b.example")
        name = [h.name() for _ in range(4)]
        got = [short(c.say("RCPT TO:<%s>" % n)) for n in name]
        tap.equal(got, [RCPT, RCPT, "452 4.5.3", "452 4.5.3"], "past max_recipients")
        tap.equal([short(r) for r in c.data(dotted(received(name[0])), 2)], [OK, OK], "the others are taken")
        c.send("NOOP\r\n")
        tap.equal((short(c.reply()), c.quiet()), (OK, True), "one reply each, and no more")
    for n in name[:2]:
        h.arrived(n)
    # no valid recipient, and data that was sent all the same
    for hello, refusal in (("LHLO", SEQUENCE), ("EHLO", "554 5.5.1")):
        with h.client() as c:
            c.send(hello + " x\r\n" + MAIL + "RCPT TO:<bad\r\nDATA\r\nNOOP\r\n")
            tap.equal([short(r) for r in c.replies(5)][2:], ["501 5.1.3", refusal, OK], hello + ": no recipient is valid")
    h.reconfigure()


def refusals(tap, h):
    h.reconfigure(handoff={"relay_hosts": ["127.1.2.3", "10.0.0.0/8"], "max_message_size": "64KB"})
    with h.client() as c:
        tap.equal(c.banner[:4], "220 ", "a stranger is greeted")
        tap.equal(c.say("LHLO x")[:3], "250", "and LHLO answered")
        tap.equal([short(c.say(x)) for x in ("MAIL FROM:<a@b.example>", "MAIL FROM:<>", "XFORWARD NAME=x", "RCPT TO:<x@d0.example>",
                                             "DATA")],
                  ["550 5.7.1", "550 5.7.1", "550 5.7.1", SEQUENCE, SEQUENCE], "but refused at MAIL")
    with h.client(source="127.1.2.3") as c:
        tap.equal(short(c.mail("a@b.example")), SENDER, "who is named in relay_hosts may")
    with h.client(h.unix) as c:
        tap.equal(short(c.mail("a@b.example")), SENDER, "who comes by the Unix socket may")
        c.say("RSET")
        tap.equal(short(c.say("MAIL FROM:<a@b.example> SIZE=65537")), "552 5.3.4", "SIZE above the limit")
        tap.equal(short(c.say("MAIL FROM:<a@b.example> SIZE=65536")), SENDER, "SIZE at the limit")
    for size, want in ((65536, OK), (65537, "552 5.3.4"), (200000, "552 5.3.4"), (3000000, "552 5.3.4")):
        for claim in ("", " SIZE=10"):
            name = h.name()
            with h.client(h.unix) as c:
                c.say("LHLO x")
                c.say("MAIL FROM:<a@b.example>" + claim)
                c.say("RCPT TO:<%s>" % name)
                head = received(name, body="")
                line = b"x" * 98 + b"\r\n"
                n, rest = divmod(size - len(head) - 200, 100)
                text = head + b"y" * (198 + rest) + b"\r\n" + line * n
                said = c.data(dotted(text))
                tap.equal((short(said[0]), short(c.say("NOOP"))), (want, OK), "%d bytes%s" % (size, claim))
            if want == OK:
                tap.equal(len(h.bytes_of(h.arrived(name))), size, "and they arrive")
    h.reconfigure(spool={"min_free": "1024TB"})
    with h.client() as c:
        c.say("LHLO x")
        wait_for("the lack of space to be known", lambda: short(c.say("MAIL FROM:<a@b.example>")) != SENDER or c.say("RSET")[0] != "2")
        got = [short(c.say(x)) for x in ("MAIL FROM:<a@b.example>", "MAIL FROM:<> SIZE=10", "RCPT TO:<x@d0.example>", "NOOP")]
        tap.equal(got, ["452 4.3.1", "452 4.3.1", SEQUENCE, OK], "no space: 452 at MAIL")
        h.reconfigure()
        wait_for("the space to be known", lambda: short(c.say("MAIL FROM:<a@b.example>")) == SENDER)
        tap.ok(True, "and then there is space again")
    h.check_up("refusals")


def chunks(tap, h):
    """The same conversation cut in every way has the same replies, and its message arrives once."""
    def talk(name):
        text = received(name, body=".dot\r\n..\r\nend\r\n", headers="X-Binding: acme\r\n")
        one = "MAIL FROM:<a@b.example>\r\nRCPT TO:<%s>\r\nDATA\r\n" % name
        raw = (LHLO + one).encode() + dotted(text) + b"NOOP\r\n" + one.replace(name, "2" + name).encode() + dotted(text) + b"QUIT\r\n"
        return text, raw

    want = ["250", SENDER, RCPT, "354", OK, OK, SENDER, RCPT, "354", OK, BYE]
    for size in (1, 2, 3, 7, 13, 64, 1000, 10**6):
        name = h.name()
        text, raw = talk(name)
        with h.client() as c:
            for i in range(0, len(raw), size):
                c.send(raw[i:i + size])
            got = [short(r) for r in c.replies(len(want))]
            tap.equal((got, c.ended()), (want, True), "pipelined in chunks of %d" % size)
        for n in (name, "2" + name):
            tap.equal(h.bytes_of(h.arrived(n)), text.replace(b"X-Binding: acme\r\n", b""), "chunks of %d: the bytes of %s" % (size, n))
    for cut in range(1, 12):  # around the end of data
        name = h.name()
        text, raw = talk(name)
        at = raw.index(b"\r\n.\r\n") + cut - 5
        with h.client() as c:
            c.send(raw[:at])
            c.replies(4)
            c.send(raw[at:])
            tap.equal([short(r) for r in c.replies(7)], want[4:], "cut %d bytes from the end of data" % (cut - 5))
        h.arrived("2" + name)
    # many messages in one packet
    names = [h.name() for _ in range(50)]
    raw = LHLO + "".join("MAIL FROM:<>\r\nRCPT TO:<%s>\r\nDATA\r\n%s" % (n, dotted(received(n)).decode()) for n in names)
    with h.client() as c:
        c.send(raw)
        got = [short(r) for r in c.replies(1 + 4 * 50)]
        tap.equal(got, ["250"] + [SENDER, RCPT, "354", OK] * 50, "50 messages without waiting for anything")
    for n in names:
        h.arrived(n)
    tap.equal([n for n in names if len(h.rows(n)) != 1], [], "each arrives once")
    h.check_up("chunks")


def vanish(tap, h):
    """Nothing of a transaction that its client left is stored; what was answered 250 is."""
    name = h.name("d1.example")
    text = received(name, body="x" * 300 + "\r\n")
    raw = (LHLO + "MAIL FROM:<a@b.example>\r\nRCPT TO:<%s>\r\nDATA\r\n" % name).encode() + dotted(text)
    for reset in (False, True):
        for at in list(range(0, len(raw) - 1, 23)) + list(range(len(raw) - 6, len(raw))):
            with h.client(h.tcp if reset or at % 2 else h.unix) as c:
                c.send(raw[:at])
                if reset:
                    c.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    tap.equal(h.normal(), True, "after clients that vanished at every point a normal message goes its way")
    tap.equal(h.rows(name), [], "and nothing of theirs was stored")
    tap.equal(h.rig.bindpost_json("messages")["items"], [], "nor waits in a queue")
    # shutdown(SHUT_WR) behind the end of data: the message is there once, and all replies come
    for place in (h.tcp, h.unix):
        for behind in (b"", b"QUIT\r\n", b"NOOP\r\nNOOP"):
            name = h.name("d1.example")
            with h.client(place) as c:
                c.send((LHLO + "MAIL FROM:<a@b.example>\r\nRCPT TO:<%s>\r\nDATA\r\n" % name).encode() + dotted(received(name)) + behind)
                c.sock.shutdown(socket.SHUT_WR)
                got = [short(r) for r in c.replies(5)]
                if behind:
                    c.reply()
                tap.equal((got[4], c.ended()), (OK, True), "half closed behind %r" % behind)
            h.arrived(name)
            tap.equal(len(h.rows(name)), 1, "and the message is there once")
    with h.client() as c:  # half closed with thousands of replies still to come
        c.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        c.send("NOOP\r\n" * 20000)
        c.sock.shutdown(socket.SHUT_WR)
        tap.equal({short(r) for r in c.replies(20000)}, {OK}, "half closed: all 20,000 replies come")
        tap.ok(c.ended(), "and then the end")
    with h.client() as c:  # half closed in the middle of data: nothing
        name = h.name("d1.example")
        c.mail("a@b.example", name)
        c.say("DATA")
        c.send(received(name))
        c.sock.shutdown(socket.SHUT_WR)
        tap.ok(c.ended(), "half closed in the middle of data: no reply, the end")
    h.check_up("vanishing")
    tap.equal(h.rows(name), [], "and nothing stored")


def slow(tap, h):
    """Who reads no replies waits, others do not."""
    with h.client(h.unix) as c:
        c.sock.settimeout(1)
        sent = 0
        try:
            while sent < 4 << 20:
                sent += c.sock.send(b"NOOP\r\n" * 1000 if sent % 6 == 0 else b"NOOP\r\n"[sent % 6:])
        except socket.timeout:
            pass
        tap.ok(sent < 4 << 20, "who reads nothing is not read from for ever (%d bytes)" % sent)
        tap.equal(h.normal(), True, "others are served meanwhile")
        c.sock.settimeout(30)
        rest = b"NOOP\r\n"[sent % 6:] if sent % 6 else b""
        count = (sent + len(rest)) // 6
        tap.equal({short(r) for r in c.replies(sent // 6)}, {OK}, "and gets every reply once it reads")
        c.send(rest)
        c.replies(count - sent // 6)
        tap.ok(c.quiet(), "no more than it asked for")
    clients = [h.client(h.unix if i % 2 else h.tcp) for i in range(500)]
    for i, c in enumerate(clients):
        c.send((LHLO, "LHL", "", LHLO + MAIL, LHLO + MAIL + TO, LHLO + MAIL + TO + "DATA\r\nSubj")[i % 6])
    tap.equal(h.normal(), True, "beside 500 idle connections")
    for c in clients[::2]:
        c.sock.close()
    for i, c in enumerate(clients):
        if i % 2:
            c.replies((1, 0, 0, 2, 3, 4)[i % 6])
    c = clients[1]
    c.send("O x\r\n")
    tap.equal(c.reply()[:3], "250", "and each of them is still served")
    for c in clients:
        c.sock.close()
    h.check_up("slow clients")


def crowd(tap, h):
    """Past 1,000 sessions: greeted all the same, room made by those idle longest, 451 when there is none."""
    def told(c):
        c.sock.setblocking(False)
        try:
            return c.sock.recv(100)
        except BlockingIOError:
            return b""
        finally:
            c.sock.settimeout(20)

    wait_for("old sessions to end", lambda: h.metric("bindpost_handoff_sessions") == 0)
    idle = [h.client(h.unix) for _ in range(1000)]
    for c in idle:
        c.say("LHLO x")
    first = h.client()
    tap.equal((first.banner[:3], first.say("LHLO x")[:3]), ("220", "250"), "number 1,001 is greeted")
    evicted = [told(c) for c in idle]
    tap.ok(evicted[0].startswith(b"421 4.3.2 ") and evicted.count(b"") >= 998, "the one idle longest got 421", evicted[:4])
    idle[0].sock.close()
    wait_for("it to go", lambda: h.metric("bindpost_handoff_sessions") <= 1000)
    tap.equal(short(first.say("MAIL FROM:<a@b.example>")), SENDER, "and its place is the newcomer's")
    first.sock.close()
    for c in idle:
        c.sock.close()
    wait_for("them to end", lambda: h.metric("bindpost_handoff_sessions") == 0)
    busy = [h.client(h.unix) for _ in range(1000)]
    for c in busy:
        c.mail("a@b.example")
    late = h.client()
    tap.equal((late.banner[:3], late.say("LHLO x")[:3]), ("220", "250"), "1,000 busy: the next is greeted")
    tap.equal(short(late.say("MAIL FROM:<a@b.example>")), "451 4.3.2", "but MAIL has to wait")
    for c in busy[:10]:
        c.sock.close()
    wait_for("room", lambda: h.metric("bindpost_handoff_sessions") <= 991)
    tap.equal(short(late.say("MAIL FROM:<a@b.example>")), SENDER, "until there is room")
    for c in busy + [late]:
        c.sock.close()
    wait_for("them to end", lambda: h.metric("bindpost_handoff_sessions") == 0)
    h.check_up("crowds")


def stopping(tap, h):
    """SIGTERM: who is idle gets 421, who is in a transaction may end it, and what was answered 250 is there after."""
    name = h.name()
    idle, begun, data = h.client(), h.client(), h.client(h.unix)
    idle.say("LHLO x")
    begun.mail("a@b.example", h.name())
    data.mail("a@b.example", name)
    data.say("DATA")
    data.send(received(name))
    h.rig.procs["deliveryd"].send_signal(signal.SIGTERM)
    tap.equal((short(idle.reply()), idle.ended()), ("421 4.3.2", True), "idle: 421")
    data.send(b".\r\n")
    tap.equal(short(data.reply()), OK, "in the middle of data: taken")
    begun.say("RSET")
    try:
        said = begun.say("MAIL FROM:<a@b.example>")
    except (Gone, ConnectionError) as e:
        said = "connection lost: %s" % e
    tap.equal(short(said) if said[0] == "4" else said, "421 4.3.2", "a new transaction: 421")
    for c in (idle, begun, data):
        c.sock.close()
    tap.equal(h.rig.procs.pop("deliveryd").wait(60), 0, "and the end")
    h.rig.start_deliveryd()
    h.arrived(name)
    tap.equal(len(h.rows(name)), 1, "what was answered 250 arrives once")
    h.check_up("a stop")


def body(tap, h):
    began = time.monotonic()
    for group in (greetings, commands, paths, recipients, refusals, chunks, vanish, slow, crowd, stopping):
        group(tap, h)
        if os.environ.get("TIMES"):
            print("# %s: %.1f s" % (group.__name__, time.monotonic() - began))


hostile(body)
