#!/usr/bin/env python3
"""Hosts that misbehave in STARTTLS and TLS: mail goes out in clear text only where the operator lets it, on a new connection,
and never because a certificate was refused; nothing of it bounces."""
import os
import socket
import ssl
import sys
import threading
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))
from certs import Authority  # noqa: E402
from hostile import (RigError, close, dotted, endless, hostile, received, reset, short, silent,  # noqa: E402
                     standard_policy, wait_for)

GO = b"220 2.0.0 go\r\n"


class Host:
    """One address. Its case is what it does at STARTTLS; what that returns is the connection to go on with."""

    def __init__(self, ip, port, starttls, after=None):
        self.starttls, self.after, self.taken, self.connections = starttls, after, [], 0
        self.listener = socket.socket()
        self.listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self.listener.bind((ip, port))
        self.listener.listen(16)
        threading.Thread(target=self.serve, daemon=True).start()

    def serve(self):
        while True:
            s, _ = self.listener.accept()
            self.connections += 1
            threading.Thread(target=self.session, args=(s, self.connections), daemon=True).start()

    def session(self, s, number):
        s.settimeout(30)
        try:
            self.dialogue(s, number)
        except (OSError, EOFError, ValueError):
            pass
        finally:
            s.close()

    def dialogue(self, s, number):
        f, tls = s.makefile("rb"), False
        s.sendall(b"220 mx ESMTP\r\n")
        while True:
            line = f.readline()
            if not line:
                return
            verb = line[:4].upper()
            if verb == b"EHLO":
                if tls and self.after:
                    self.after(s)
                s.sendall(b"250-mx\r\n250-PIPELINING\r\n" + (b"" if tls else b"250-STARTTLS\r\n") + b"250 8BITMIME\r\n")
            elif verb == b"STAR":
                under = self.starttls(s)
                if under:
                    s, f, tls = under, under.makefile("rb"), True
            elif verb == b"DATA":
                s.sendall(b"354 go\r\n")
                while f.readline() not in (b".\r\n", b""):
                    pass
                self.taken.append((number, tls))
                s.sendall(b"250 2.0.0 taken\r\n")
            elif verb == b"QUIT":
                s.sendall(b"221 2.0.0 bye\r\n")
                return
            else:
                s.sendall(b"250 2.0.0 ok\r\n")


# --- instead of TLS ---------------------------------------------------------------------------------------------------
def says(text, f=None):
    def g(s):
        s.sendall(text)
        return f(s) if f else None
    return g


def later(f):
    """Not in the packet of the reply, where it would be an answer to nothing."""
    def g(s):
        s.recv(65536)  # the client's first flight
        return f(s)
    return g


def drip(text):
    def f(s):
        while True:
            for i in range(len(text)):
                s.sendall(text[i:i + 1])
                time.sleep(0.1)
    return f


def tls(pem, authority=None, versions=None, ciphers=None):
    def f(s):
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(pem)
        if authority:
            context.verify_mode = ssl.CERT_OPTIONAL
            context.load_verify_locations(authority)
        if versions:
            context.minimum_version, context.maximum_version = versions
        if ciphers:
            context.set_ciphers(ciphers)
        return context.wrap_socket(s, server_side=True)
    return f


ALERT = b"\x15\x03\x03\0\x02\x02\x28"
# what -> (at STARTTLS, whether the reply was the refusal)
REFUSALS = {"454": says(b"454 4.7.0 not now\r\n"), "502": says(b"502 5.5.1 what?\r\n"), "554": says(b"554 5.7.3 no\r\n"),
            "503 in two lines": says(b"503-5.5.1 not\r\n503 5.5.1 here\r\n")}
BROKEN = {
    "closes": says(GO, close), "resets": says(GO, reset), "is silent": says(GO, silent), "an alert": says(GO, later(says(ALERT, close))),
    "an alert, and stays": says(GO, later(says(ALERT, silent))), "plain text": says(GO, later(says(b"250 mx\r\n", silent))), "zeros": says(GO, later(endless(b"\0" * 4096))),
    "warnings without end": says(GO, later(endless(b"\x15\x03\x03\0\x02\x01\x5a" * 500))), "records without end": says(GO, later(endless(b"\x16\x03\x03\0\x01\x02" * 500))),
    "a record, byte by byte": says(GO, later(drip(b"\x16\x03\x03\x40\0" + b"\x02" * 60))), "a record of 65,535": says(GO, later(says(b"\x16\x03\x03\xff\xff" + b"a" * 70000, close))),
    "half a record": says(GO, later(says(b"\x16\x03\x03\x01\0\x02\0", close))), "its own hello": says(GO, lambda s: s.sendall(s.recv(65536)) or silent(s)),
    "noise": says(GO, later(lambda s: s.sendall(os.urandom(3000)) or close(s))),
}
# what the reply says is not TLS's business: no clear text, next host
PROTOCOL = {"more than the reply": says(GO + b"250 mx\r\n250 ok\r\n", silent), "a TLS record behind it": says(GO + ALERT, silent), "334": says(b"334 x\r\n", silent),
            "not SMTP": says(b"yes\r\n", silent), "421": says(b"421 4.3.2 bye\r\n", close), "nothing": silent}


class Case:
    def __init__(self, h, number, group, what, host, name):
        self.group, self.what = group, what
        self.domain = "evil%d.%s.bad" % (number, name)
        self.name = "x@" + self.domain
        mx, ip = "h." + self.domain, h.rig.ip(110 + number)
        self.host = Host(ip, h.rig.mx_port, *host)
        h.dns.exchanges[self.domain] = mx
        h.dns.addresses[mx] = ip


def certificates(good, other):
    """what -> (f(host name), whether tls_verify host takes it)"""
    v = ssl.TLSVersion
    return {
        "for the host": (lambda mx: tls(good.issue(mx, mx)), True), "expired": (lambda mx: tls(good.issue(mx, mx, expired=True)), False),
        "of another authority": (lambda mx: tls(other.issue(mx, mx)), False), "for another name": (lambda mx: tls(good.issue(mx, "else.test")), False),
        "TLS 1.2": (lambda mx: tls(good.issue(mx, mx), versions=(v.TLSv1_2, v.TLSv1_2)), True),
        "asks for ours": (lambda mx: tls(good.issue(mx, mx), authority=good.pem), True),
    }


def make_cases(h):
    rows = []
    for group, table in (("refusal", REFUSALS), ("broken", BROKEN), ("protocol", PROTOCOL)):
        for what, f in table.items():
            rows += [(group, what, lambda mx, f=f: (f,), name) for name in (("if", "req") if group == "refusal" else ("slow.if", "slow.req"))]
    table = certificates(h.rig.authority, Authority(h.rig.path("certs"), "other"))
    for what, (make, fits) in table.items():
        for name in ("if", "host"):
            rows.append(("tls" if name == "if" or fits else "unfit", what, lambda mx, m=make: (says(GO, m(mx)),), name))
    good = table["for the host"][0]
    for what, after in (("closes under TLS", close), ("is silent under TLS", silent)):
        rows += [("lost", what, lambda mx, a=after: (says(GO, good(mx)), a), name) for name in ("slow.if", "slow.req")]
    return [Case(h, i, group, what, host("h.evil%d.%s.bad" % (i, name)), name) for i, (group, what, host, name) in enumerate(rows)]


def first_events(h):
    first = {}
    for e in h.rig.events("delivery", "deferral", "bounce", "uncertain"):
        first.setdefault(e["recipient"], e)
    return first


def judge_one(tap, c, e):
    lax = c.domain.endswith(".if.bad")
    what = "%s (%s): %s" % (c.what, c.domain.split(".")[-2], c.group)
    if c.group == "tls":
        tap.ok(e["event"] == "delivery" and "tls" in e and c.host.taken == [(1, True)], what, e, c.host.taken)
    elif c.group in ("refusal", "broken") and lax:
        number = 1 if c.group == "refusal" else 2
        tap.ok(e["event"] == "delivery" and e["attempt"] == 1 and "tls" not in e and c.host.taken == [(number, False)], what, e, c.host.taken)
    else:
        codes = ("4.7.",) if c.group in ("refusal", "broken", "unfit") else ("4.",)
        tap.ok(e["event"] == "deferral" and e["code"] < 500 and e["enhanced"].startswith(codes) and c.host.taken == [], what, e, c.host.taken)


def body(tap, h):
    cases = make_cases(h)
    with h.client(h.unix) as c:
        for case in cases:
            c.mail("news@acme.example", case.name)
            said = c.data(dotted(received(case.name, headers="X-Binding: acme\r\n")))
            assert short(said[0]) == "250 2.0.0", said
    tap.equal(h.normal(), True, "beside %d hostile hosts a normal message goes its way" % len(cases))
    try:
        wait_for("a first event for each", lambda: all(c.name in first_events(h) for c in cases), 300)
    except RigError as e:
        tap.ok(False, "a first event for each", e, [c.what for c in cases if c.name not in first_events(h)])
    first = first_events(h)
    for c in cases:
        if c.name in first:
            judge_one(tap, c, first[c.name])
    tap.equal([c.what for c in cases if not c.domain.endswith(".if.bad") and any(not under for _, under in c.host.taken)], [], "no clear text where TLS is demanded")
    tap.equal([e["recipient"] for e in h.rig.events("bounce", "expiration")], [], "nothing bounces")
    h.check_up("hosts that cannot do TLS")


def policy(rig):
    rig.authority = Authority(rig.path("certs"))
    return standard_policy(rig, **{
        "global": {"retry_interval": "1h", "quit_timeout": "1s", "idle_timeout": "1s", "tls_ca": rig.authority.pem, "use_ipv6": False},
        # waited for is only what says nothing, and long enough for what does
        "domains": {"/\\.slow\\.req\\.bad$/": {"tls": "required", "ehlo_timeout": "20s"}, "/\\.slow\\./": {"ehlo_timeout": "20s"},
                    "/\\.req\\.bad$/": {"tls": "required"}, "/\\.host\\.bad$/": {"tls_verify": "host"}}})


hostile(body, policy=policy)
