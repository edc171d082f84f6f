#!/usr/bin/env python3
"""Hostile MX hosts: nothing they say or leave unsaid loses, doubles or bounces mail it does not concern, or gets into
what operators read; and what waited for them leaves when they behave."""
import os
import re
import socket
import sys
import threading
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))
from hostile import (RigError, close, dotted, endless, hostile, received, reset, short, silent,  # noqa: E402
                     standard_policy, wait_for)


# --- what a host can do instead of answering --------------------------------------------------------------------------
def drip(text, pause=0.05):
    def f(s):
        for i in range(len(text)):
            s.sendall(text[i:i + 1])
            time.sleep(pause)
    return f


def then(text, f):
    def both(s):
        s.sendall(text)
        f(s)
    return both


EHLO = b"250-mx\r\n250-PIPELINING\r\n250-ENHANCEDSTATUSCODES\r\n250 8BITMIME\r\n"
PLAIN = b"250 mx\r\n"  # no PIPELINING: one command at a time
ESC = b"\x1b]0;owned\x07\x1b[2J\x00\x08\x7f\xff\xfe\"}],\\<script>%s%n\r"


class Host:
    """One address; does what its case says, until it is told to behave."""
    polite = threading.Event()

    def __init__(self, ip, port, says):
        self.says, self.taken, self.connections, self.lock = says, [], 0, threading.Lock()
        self.listener = socket.socket()
        self.listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self.listener.bind((ip, port))
        self.listener.listen(64)
        threading.Thread(target=self.serve, daemon=True).start()

    def serve(self):
        while True:
            try:
                s, _ = self.listener.accept()
            except OSError:
                return
            self.connections += 1
            threading.Thread(target=self.session, args=(s,), daemon=True).start()

    def say(self, s, what, good):
        do = good if Host.polite.is_set() else self.says.get(what, good)
        if callable(do):
            do(s)
        else:
            s.sendall(do)
        return do

    def session(self, s):
        with s:
            s.settimeout(30)
            try:
                self.dialogue(s)
            except (OSError, EOFError):
                pass

    def dialogue(self, s):
        f = s.makefile("rb")
        self.say(s, "banner", b"220 mx ESMTP\r\n")
        recipients = []
        while True:
            line = f.readline()
            if not line:
                return
            verb = line[:4].upper().decode("latin-1")
            if verb == "DATA":
                if b"354" in (self.say(s, verb, b"354 go\r\n") if not callable(self.says.get(verb)) or Host.polite.is_set() else b""):
                    text = self.text(f)
                    if text is None:
                        return
                    with self.lock:
                        self.taken.append((recipients, text))
                    self.say(s, "dot", b"250 2.0.0 taken\r\n")
                recipients = []
                continue
            if verb == "RCPT":
                recipients.append(line[9:-3].decode("latin-1"))
            good = {"EHLO": EHLO, "MAIL": b"250 2.1.0 ok\r\n", "RCPT": b"250 2.1.5 ok\r\n", "QUIT": b"221 2.0.0 bye\r\n"}
            self.say(s, verb, good.get(verb, b"250 2.0.0 ok\r\n"))
            if verb == "QUIT":
                return

    @staticmethod
    def text(f):
        lines = []
        while True:
            line = f.readline()
            if not line:
                return None
            if line == b".\r\n":
                return b"".join(lines)
            lines.append(line)


D, B, U, OK = "deferral", "bounce", "uncertain", "delivery"
# (what, {when: what is said}, the first event of the recipient, its state (None: any), its enhanced code or ...)
CASES = [
    ("no banner", {"banner": silent}, D, "banner"), ("closes at once", {"banner": close}, D, "banner"), ("resets at once", {"banner": reset}, D, None),
    ("banner 554", {"banner": b"554 5.7.1 go away\r\n"}, D, "banner"), ("banner 421", {"banner": b"421 4.3.2 later\r\n"}, D, "banner"),
    ("banner 250", {"banner": b"250 mx\r\n"}, OK, None), ("banner 120", {"banner": b"120 wait\r\n"}, D, "banner"), ("banner 22", {"banner": b"22 mx\r\n"}, D, "banner"),
    ("banner 2200", {"banner": b"2200 mx\r\n"}, D, "banner"), ("banner abc", {"banner": b"abc\r\n"}, D, "banner"), ("an empty line", {"banner": b"\r\n"}, D, "banner"),
    ("SSH", {"banner": b"SSH-2.0-OpenSSH_9.2\r\n"}, D, "banner"), ("HTTP", {"banner": b"HTTP/1.1 400 Bad Request\r\n\r\n"}, D, "banner"), ("TLS", {"banner": b"\x16\x03\x01\x02\x00\x01"}, D, "banner"),
    ("a banner of zeros", {"banner": b"\0" * 5000 + b"\r\n"}, D, "banner"), ("an endless banner line", {"banner": endless(b"220" + b"x" * 65536)}, D, "banner"),
    ("endless banner lines", {"banner": endless(b"220-x\r\n" * 1000)}, D, "banner"), ("a banner that stalls", {"banner": then(b"220 mx", silent)}, D, "banner"),
    ("a banner that drips for ever", {"banner": drip(b"220-x\r\n" * 1000)}, D, "banner"), ("banner lines of two codes", {"banner": b"220-a\r\n421 b\r\n"}, D, "banner"),
    ("banner with escapes", {"banner": b"554 " + ESC + b"\n"}, D, "banner"), ("half a banner, closed", {"banner": then(b"220 mx", close)}, D, "banner"),
    ("a banner without text", {"banner": b"220\r\n"}, OK, None), ("a banner of 20 lines", {"banner": b"220-x\r\n" * 19 + b"220 x\r\n"}, OK, None), ("a banner with a bare LF", {"banner": b"220 mx\n"}, None, None),
    ("EHLO 421", {"EHLO": b"421 4.3.2 later\r\n"}, D, "ehlo"), ("EHLO and HELO 550", {"EHLO": b"550 no\r\n", "HELO": b"550 no\r\n"}, D, "ehlo"), ("EHLO silent", {"EHLO": silent}, D, "ehlo"),
    ("EHLO closes", {"EHLO": close}, D, "ehlo"), ("EHLO resets", {"EHLO": reset}, D, None), ("EHLO 354", {"EHLO": b"354 go\r\n"}, D, "ehlo"), ("EHLO garbage", {"EHLO": b"hello\r\n"}, D, "ehlo"),
    ("EHLO endless", {"EHLO": endless(b"250-X-NOISE\r\n" * 1000)}, D, "ehlo"), ("EHLO endless line", {"EHLO": endless(b"250-" + b"y" * 65536)}, D, "ehlo"), ("EHLO drips", {"EHLO": drip(b"250-x\r\n" * 1000)}, D, "ehlo"),
    ("EHLO two codes", {"EHLO": b"250-a\r\n550 b\r\n", "HELO": b"550 no\r\n"}, D, "ehlo"), ("EHLO without end", {"EHLO": then(b"250-a\r\n250-b\r\n", silent)}, D, "ehlo"),
    ("EHLO refused, HELO taken", {"EHLO": b"502 5.5.1 what\r\n"}, OK, None), ("EHLO with 300 keywords", {"EHLO": b"250-X" + b"Y" * 60 + b"\r\n" + b"250-X Y Z\r\n" * 298 + b"250 8BITMIME\r\n"}, OK, None),
    ("EHLO with odd keywords", {"EHLO": b"250-mx\r\n250-\r\n250- \r\n250-SIZE -1\r\n250-SIZE x\r\n250-SIZE 99999999999999999999999\r\n250-PIPELINING=yes\r\n250-" + ESC[:10] + b"\r\n250 \xff\r\n"}, OK, None),
    ("MAIL 451", {"MAIL": b"451 4.3.0 later\r\n"}, D, "mail", "4.3.0"), ("MAIL 550", {"MAIL": b"550 5.7.1 no\r\n"}, B, "mail", "5.7.1"), ("MAIL 421", {"MAIL": b"421 4.3.2 bye\r\n"}, D, "mail"), ("MAIL silent", {"MAIL": silent}, D, "mail"),
    ("MAIL closes", {"MAIL": close}, D, "mail"), ("MAIL resets", {"MAIL": reset}, D, None), ("MAIL 354", {"MAIL": b"354 go\r\n", "EHLO": PLAIN}, D, "mail"), ("MAIL garbage", {"MAIL": b"what?\r\n"}, D, "mail"),
    ("MAIL 99", {"MAIL": b"99 x\r\n"}, D, "mail"), ("MAIL 650", {"MAIL": b"650 5.7.1 x\r\n"}, D, "mail"), ("MAIL 5501", {"MAIL": b"5501 x\r\n"}, D, "mail"), ("MAIL 550 of 2,000 lines", {"MAIL": b"550-5.7.1 x\r\n" * 2000 + b"550 5.7.1 x\r\n"}, None, None),
    ("MAIL endless", {"MAIL": endless(b"550-5.7.1 x\r\n" * 1000)}, D, "mail"), ("MAIL endless line", {"MAIL": endless(b"550 " + b"z" * 65536)}, D, "mail"), ("MAIL two codes", {"MAIL": b"250-a\r\n550 5.7.1 b\r\n", "EHLO": PLAIN}, None, None),
    ("MAIL 550 with escapes", {"MAIL": b"550 5.7.1 " + ESC + b"\n"}, B, "mail", "5.7.1"), ("MAIL 450 with escapes", {"MAIL": b"450 " + ESC + b"\n"}, D, "mail"), ("MAIL 452, closes", {"MAIL": then(b"452 4.2.2 x\r\n", close)}, D, "mail"),
    ("RCPT 450", {"RCPT": b"450 4.2.0 later\r\n"}, D, "rcpt", "4.2.0"), ("RCPT 550", {"RCPT": b"550 5.1.1 nobody\r\n"}, B, "rcpt", "5.1.1"), ("RCPT 251", {"RCPT": b"251 forwarded\r\n"}, OK, None), ("RCPT 421", {"RCPT": b"421 4.3.2 bye\r\n"}, D, "rcpt"),
    ("RCPT silent", {"RCPT": silent}, D, "rcpt"), ("RCPT closes", {"RCPT": close}, D, "rcpt"), ("RCPT garbage", {"RCPT": b"\xff\xff\r\n"}, D, "rcpt"), ("RCPT 550 with escapes", {"RCPT": b"550-5.1.1 " + ESC + b"\n550 5.1.1 " + ESC + b"\n"}, B, "rcpt", "5.1.1"),
    ("RCPT 550 of 100 KB", {"RCPT": b"550-5.1.1 " + b"x" * 900 + b"\r\n" + b"550 5.1.1 x\r\n"}, B, "rcpt", "5.1.1"), ("RCPT 450 that claims 5.1.1", {"RCPT": b"450 5.1.1 x\r\n"}, D, "rcpt"), ("RCPT 550 that claims 4.1.1", {"RCPT": b"550 4.1.1 x\r\n"}, B, "rcpt"),
    ("RCPT 550 9.9.9", {"RCPT": b"550 9.9.9 x\r\n"}, B, "rcpt"), ("RCPT 550 5.99999.1", {"RCPT": b"550 5.99999.1 x\r\n"}, B, "rcpt"), ("RCPT 550 that looks like a DSN", {"RCPT": b"550 5.1.1 x\rFinal-Recipient: rfc822; y\r\r\r\n"}, B, "rcpt"),
    ("RCPT 354", {"RCPT": b"354 go\r\n", "EHLO": PLAIN}, D, "rcpt"), ("RCPT 550 without text", {"RCPT": b"550\r\n"}, B, "rcpt"),
    ("DATA 451", {"DATA": b"451 4.3.0 later\r\n"}, D, "data", "4.3.0"), ("DATA 554", {"DATA": b"554 5.6.0 no\r\n"}, B, "data", "5.6.0"), ("DATA 250", {"DATA": b"250 ok\r\n"}, D, "data"), ("DATA 421", {"DATA": b"421 4.3.2 bye\r\n"}, D, "data"),
    ("DATA silent", {"DATA": silent}, D, "data"), ("DATA closes", {"DATA": close}, D, "data"), ("DATA 354, closes", {"DATA": then(b"354 go\r\n", close)}, D, None), ("DATA 354, resets", {"DATA": then(b"354 go\r\n", reset)}, D, None),
    ("DATA 354 and at once 250", {"DATA": b"354 go\r\n250 2.0.0 taken\r\n", "dot": silent}, None, None), ("DATA 354 and at once 550", {"DATA": b"354 go\r\n550 5.7.1 no\r\n", "dot": silent}, None, None),
    ("dot 451", {"dot": b"451 4.3.0 later\r\n"}, D, "dot", "4.3.0"), ("dot 550", {"dot": b"550 5.7.1 spam\r\n"}, B, "dot", "5.7.1"), ("dot 421", {"dot": b"421 4.3.2 bye\r\n"}, D, "dot"), ("dot closes", {"dot": close}, U, "dot"), ("dot resets", {"dot": reset}, U, "dot"),
    ("dot silent", {"dot": silent}, U, "dot"), ("dot without end", {"dot": then(b"250-ok\r\n", close)}, U, "dot"), ("dot half a reply", {"dot": then(b"25", close)}, U, "dot"), ("dot garbage", {"dot": b"what?\r\n"}, U, "dot"), ("dot 354", {"dot": b"354 go on\r\n"}, None, None),
    ("dot drips for ever", {"dot": drip(b"250-x\r\n" * 1000)}, U, "dot"), ("dot endless", {"dot": endless(b"250-x\r\n" * 1000)}, None, None), ("dot 550 with escapes", {"dot": b"550 5.7.1 " + ESC + b"\n"}, B, "dot", "5.7.1"),
    ("dot 250, closes", {"dot": then(b"250 2.0.0 ok\r\n", close)}, OK, None), ("dot 250, resets", {"dot": then(b"250 2.0.0 ok\r\n", lambda s: (time.sleep(0.2), reset(s)))}, OK, None), ("dot 250 twice", {"dot": b"250 2.0.0 ok\r\n250 2.0.0 ok\r\n"}, OK, None),
    ("dot 250 and garbage", {"dot": b"250 2.0.0 ok\r\n\xff\xff\xff"}, OK, None), ("dot 299", {"dot": b"299 x\r\n"}, OK, None), ("dot drips 250", {"dot": drip(b"250 2.0.0 ok\r\n")}, OK, None), ("dot 250 with escapes", {"dot": b"250 2.0.0 " + ESC + b"\n"}, OK, None),
    ("QUIT silent", {"QUIT": silent}, OK, None), ("QUIT endless", {"QUIT": endless(b"221-x\r\n" * 1000)}, OK, None), ("QUIT resets", {"QUIT": reset}, OK, None), ("all replies drip", {"banner": drip(b"220 mx\r\n", 0.01), "EHLO": drip(EHLO, 0.01), "MAIL": drip(b"250 ok\r\n", 0.01)}, OK, None),
]


class Case:
    def __init__(self, h, number, what, says, event, state, enhanced=None):
        self.h, self.what, self.event, self.state, self.enhanced = h, what, event, state, enhanced
        self.domain = "h%d.bad" % number
        self.names = ["a@" + self.domain, "b@" + self.domain]
        self.ip = h.rig.ip(120 + number)
        self.host = Host(self.ip, h.rig.mx_port, says)
        h.dns.exchanges[self.domain] = "mx." + self.domain
        h.dns.addresses["mx." + self.domain] = self.ip

    def arrivals(self, name):
        """Messages; the lone dot that answers a 354 behind refused recipients is none."""
        return [text for names, text in self.host.taken if name in names and text]


def first_events(h):
    first = {}
    for e in h.rig.events("deferral", "bounce", "uncertain", "delivery"):
        first.setdefault(e.get("recipient"), e)
    return first


def judge(tap, h, cases):
    """What happened to each first: the event tells."""
    try:
        wait_for("a first event for each", lambda: all(n in first_events(h) for c in cases for n in c.names), 60)
    except RigError:
        pass
    first = first_events(h)
    for c in cases:
        got = [first.get(n) for n in c.names]
        good = all(got) and all((not c.event or e["event"] == c.event) and (not c.state or e["state"] == c.state) and
                                (not c.enhanced or e["enhanced"] == c.enhanced) for e in got)
        tap.ok(good, "%s: %s" % (c.what, c.event or (got[0] or {}).get("event")), *got)


def body(tap, h):
    cases = [Case(h, i, *row) for i, row in enumerate(CASES)]
    for c in cases:
        with h.client(h.unix) as s:
            said = s.mail("news@acme.example", *c.names)
            assert said[:3] == "250", said
            assert [short(r) for r in s.data(dotted(received(c.names[0], body="line\r\n.dot\r\n" * 200)), 2)] == ["250 2.0.0"] * 2
    tap.equal(h.normal(), True, "beside %d hostile hosts a normal message goes its way" % len(cases))
    judge(tap, h, cases)
    h.check_up("hostile hosts")
    shown(tap, h)
    permanent = [c for c in cases if c.event == B]
    bounced = {e["recipient"] for e in h.rig.events("bounce")}
    told = {n for c in cases if c.event is None for n in c.names}
    tap.equal(bounced - told, {n for c in permanent for n in c.names}, "only what was refused for good bounces")
    Host.polite.set()
    waiting = [c for c in cases if c.event in (D, U)]
    try:
        wait_for("them to go", lambda: all(len(c.arrivals(n)) for c in waiting for n in c.names), 60)
        wait_for("the queues to empty", lambda: h.rig.bindpost_json("messages")["items"] == [], 60)
    except RigError as e:
        tap.ok(False, "all of it goes when the hosts behave", e, [c.what for c in waiting if not c.arrivals(c.names[0])])
    # deferred before end of data: once; uncertain: may have been taken before, and is tried again
    tap.equal([c.what for c in waiting if c.event == D and c.state not in ("dot", None) and any(len(c.arrivals(n)) != 1 for n in c.names)], [], "what waited arrives once")
    tap.equal([c.what for c in cases if c.event == OK and any(len(c.arrivals(n)) != 1 for n in c.names)], [], "what was delivered is not sent again")
    tap.equal([c.what for c in permanent if c.state != "dot" and c.arrivals(c.names[0])], [], "nor is what bounced")
    bare = [c.what for c in cases for _, text in c.host.taken if re.search(rb"(?<!\r)\n|\r(?!\n)", text)]
    tap.equal(bare, [], "nothing with a bare CR or LF left")
    reports(tap, h, permanent)
    h.check_up("hosts that behave")


def shown(tap, h):
    """What such hosts said, as the commands print it."""
    text = h.rig.bindpost("messages").stdout + h.rig.bindpost("queues").stdout + h.rig.bindpost("connections").stdout
    for row in h.rig.bindpost_json("messages")["items"]:
        text += h.rig.bindpost("message", row["id"]).stdout
        text += h.rig.bindpost("--json", "message", row["id"]).stdout.replace("\x7f", "")  # JSON may hold DEL as it is
    bad = re.findall("[^\n]*[\0-\x08\x0b-\x1f\x7f-\x9f][^\n]*", text)
    tap.equal([ascii(line)[:200] for line in bad[:3]], [], "no control byte reaches the operator's terminal")
    tap.ok("owned" in text, "while the reply itself is told", text[-2000:])


def reports(tap, h, permanent):
    """The DSNs about what such hosts said: one each, no byte in them that a mail should not have."""
    def dsns():
        return [r for r in h.rig.seen() if r["sender"] == "" and r["recipients"] == ["news@acme.example"]]

    want = {n for c in permanent for n in c.names}
    wait_for("the DSNs", lambda: len(dsns()) >= len(permanent))
    text = b""
    for row in dsns():
        with open(h.rig.path("mx", "saved", row["file"]), "rb") as f:
            text += f.read()
    named = re.findall(rb"(?mi)^Final-Recipient: rfc822; (\S+)\r$", text)
    tap.equal(sorted(n.decode() for n in named if n.decode() in want), sorted(want), "each refused recipient is named once in a DSN")
    tap.equal([n for n in named if not n.endswith(b".bad")], [], "and nobody else")
    tap.equal(re.findall(rb".*[\0-\x08\x0b\x0c\x0e-\x1f\x7f-\xff].*", text)[:3], [], "no control or 8-bit byte in them")
    tap.equal([r for r in dsns() if r["bare"]], [], "no bare CR or LF")


def policy(rig):
    short_waits = {k + "_timeout": "3s" for k in ("connect", "ehlo", "mailfrom", "rcptto", "data", "send", "body", "rset")}
    return standard_policy(rig, **{"global": dict(short_waits, retry_interval="2s", max_retry_interval="3s", host_failure_retry="1s", quit_timeout="1s")})


hostile(body, policy=policy)
