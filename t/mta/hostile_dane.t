#!/usr/bin/env python3
"""Hostile TLSA answers: what hides records makes mail wait, never go in clear text; what is none or cannot be used says so."""
import os
import socket
import struct
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))
from certs import Authority, tlsa  # noqa: E402
from fake_resolver import A, CNAME, MX, record, wire  # noqa: E402
from hostile import RigError, dotted, hostile, received, short, standard_policy, wait_for  # noqa: E402

TLSA = 52
SELF = b"\xc0\x0c"
AD, PLAIN, TC = 0x81a0, 0x8180, 0x83a0
SOA = record("bad", 6, wire("ns.bad") + wire("a.bad") + struct.pack(">IIIII", 1, 3600, 600, 86400, 60))
WRONG = bytes([3, 1, 1]) + bytes(32)


def rec(*rdata, owner=SELF, **more):
    return [record(owner, TLSA, r, **more) for r in rdata]


def lies(length):
    """A record that lies about its length."""
    return [SELF + struct.pack(">HHIH", TLSA, 1, 60, length) + WRONG]


def alias(n, loop):
    def f(q):
        names = [q.name] + ["t%d.%s" % (i, q.name) for i in range(n)]
        rows = [record(a, CNAME, wire(b)) for a, b in zip(names, names[1:])]
        rows += [record(names[-1], CNAME, wire(q.name))] if loop else rec(WRONG, owner=names[-1])
        return [q.answer(rows, flags=AD)]
    return f


def framed(datagram):
    return struct.pack(">H", len(datagram)) + datagram


# --- records may be hidden: the mail waits -------------------------------------------------------------------------
HIDDEN = {
    "silence": lambda q: [], "one byte": lambda q: [q.raw[:1]], "noise": lambda q: [os.urandom(200)],
    "SERVFAIL": lambda q: [q.answer(rcode=2, flags=AD)], "REFUSED": lambda q: [q.answer(rcode=5)], "NOTIMP": lambda q: [q.answer(rcode=4)],
    "rcode 15": lambda q: [q.answer(rcode=15, flags=AD)], "SERVFAIL with records": lambda q: [q.answer(rec(WRONG), rcode=2, flags=AD)],
    "another id": lambda q: [q.answer(flags=AD, ident=q.id ^ 1, authority=[SOA])],
    "another name": lambda q: [q.answer(flags=AD, question=wire("x.example") + q.question[-4:], authority=[SOA])],
    "records promised, none there": lambda q: [q.answer(flags=AD, counts=(1, 9, 0, 0))],
    "longer than the datagram": lambda q: [q.answer(lies(5000), flags=AD)], "shorter than its data": lambda q: [q.answer(lies(5), flags=AD)],
    "cut": lambda q: [q.answer(rec(WRONG), flags=AD)[:-4]], "NXDOMAIN with records": lambda q: [q.answer(rec(WRONG), rcode=3, flags=AD)],
    "an alias of itself": lambda q: [q.answer([record(SELF, CNAME, wire(q.name))], flags=AD)], "aliases in a circle": alias(3, True),
    "100 aliases": alias(100, False), "truncated, and TCP closes": (lambda q: [q.answer(flags=TC)], lambda q: b""),
    "truncated, and TCP is noise": (lambda q: [q.answer(flags=TC)], lambda q: os.urandom(300)),
    "truncated, and TCP is cut": (lambda q: [q.answer(flags=TC)], lambda q: framed(q.answer(rec(WRONG), flags=AD))[:-9]),
    "a referral": lambda q: [q.answer(flags=PLAIN, authority=[record("bad", 2, wire("ns.bad"))])],
}
# --- records that cannot be used: TLS, whatever the certificate; without STARTTLS the mail waits -----------------------
UNUSABLE = {
    "no data": [b""], "one byte": [b"\3"], "two bytes": [b"\3\1"], "three bytes": [b"\3\1\1"], "a digest of 31 bytes": [WRONG[:-1]],
    "a digest of 33 bytes": [WRONG + b"x"], "SHA-512 of 32 bytes": [b"\3\1\2" + bytes(32)], "usage 0": [b"\0" + WRONG[1:]], "usage 255": [b"\xff" + WRONG[1:]],
    "selector 255": [b"\3\xff" + WRONG[2:]], "matching 255": [b"\3\1\xff" + bytes(32)], "a certificate that is noise": [b"\3\0\0" + os.urandom(500)],
    "an authority that is noise": [b"\2\0\0" + os.urandom(500)], "a key that is noise": [b"\2\1\0" + os.urandom(90)], "a key of one byte": [b"\3\1\0x"],
    "60,000 bytes of noise": [b"\2\0\0" + os.urandom(60000)], "DER without end": [b"\3\0\0" + b"\x30\x84\xff\xff\xff\xff" + bytes(100)],
    "DER in DER in DER": [b"\3\0\0" + b"\x30\x80" * 2000], "all of that": [b"", b"\3", b"\3\1", b"\3\1\1", b"\0" + WRONG[1:], b"\2\0\0" + b"\x30\x80" * 50],
}
# --- records that do not match: the mail waits -----------------------------------------------------------------------
WRONG_ONES = {
    "one": [WRONG], "150": [bytes([3, 1, 1]) + i.to_bytes(32, "big") for i in range(150)], "one among those that cannot be used": [b"\3\1", WRONG, b"\1\1\1"],
    "a strong one beside a weak one that is right": None,  # filled in below
}
# --- nothing there, or not signed: no DANE -----------------------------------------------------------------------------
NONE = {
    "a signed denial": lambda q: [q.answer(flags=AD, authority=[SOA])], "a signed NXDOMAIN": lambda q: [q.answer(rcode=3, flags=AD, authority=[SOA])],
    "an unsigned denial": lambda q: [q.answer(authority=[SOA])], "records that are not signed": lambda q: [q.answer(rec(WRONG))],
    "records of somebody else": lambda q: [q.answer(rec(WRONG, owner="x.example"), flags=AD, authority=[SOA])],
    "records of another class": lambda q: [q.answer(rec(WRONG, klass=3), flags=AD, authority=[SOA])],
    "noise first": lambda q: [os.urandom(100), q.raw, q.answer(rec(WRONG), flags=AD, ident=q.id ^ 1), q.answer(flags=AD, authority=[SOA])],
}


class Case:
    def __init__(self, h, number, group, what, f, host, tcp=None):
        self.h, self.group, self.what, self.f, self.host = h, group, what, f, host
        self.domain = "evil%d.bad" % number
        self.name = "x@" + self.domain
        h.dns.evil[self.domain] = self.answer
        if tcp:
            h.dns.evil_tcp[self.domain] = tcp

    def answer(self, q):
        if q.type == TLSA:
            return self.f(q)
        if q.type == MX and q.name == self.domain:
            return [q.answer([record(SELF, MX, struct.pack(">H", 10) + wire("h." + self.domain))], flags=AD)]
        if q.type == A and q.name.startswith("h."):
            return [q.answer([record(SELF, A, socket.inet_aton(self.h.rig.ip(self.host)))], flags=AD)]
        return [q.answer(flags=AD, authority=[SOA])]

    def told(self, *kinds):
        return [e for e in self.h.rig.events(*kinds) if e.get("recipient") == self.name]


CLEAR, TLS = 11, 21  # hosts, by their addresses


def make_cases(h):
    rows = []
    for what, f in HIDDEN.items():
        f, tcp = f if isinstance(f, tuple) else (f, None)
        rows.append(("hidden", what, f, CLEAR, tcp))
    for what, rdata in UNUSABLE.items():
        big = sum(len(r) for r in rdata) > 1000
        for group, host in (("unusable", TLS), ("unusable in clear text", CLEAR)):
            udp = (lambda q: [q.answer(flags=TC)]) if big else lambda q, r=rdata: [q.answer(rec(*r), flags=AD)]
            rows.append((group, what, udp, host, (lambda q, r=rdata: framed(q.answer(rec(*r), flags=AD))) if big else None))
    right = tlsa(h.rig.path("certs", "tls.pem"), 3, 1, 1).split()[3]
    WRONG_ONES["a strong one beside a weak one that is right"] = [bytes([3, 1, 1]) + bytes.fromhex(right), bytes([3, 1, 2]) + bytes(64)]
    for what, rdata in WRONG_ONES.items():
        rows.append(("wrong", what, lambda q: [q.answer(flags=TC)], TLS, lambda q, r=rdata: framed(q.answer(rec(*r), flags=AD))))
    for what, f in NONE.items():
        rows.append(("none", what, f, CLEAR, None))
    return [Case(h, i, *row) for i, row in enumerate(rows)]


def hand_over(h, names):
    with h.client(h.unix) as c:
        said = []
        for name in names:
            c.mail("news@acme.example", name)
            said += c.data(dotted(received(name, headers="X-Binding: acme\r\n")))
    return all(short(s) == "250 2.0.0" for s in said)


WANTED = {"hidden": ("deferral", "4.7.5"), "unusable": ("delivery", "no"), "unusable in clear text": ("deferral", "4.7.6"),
          "wrong": ("deferral", "4.7.5"), "none": ("delivery", None)}


def decide(tap, cases):
    end = time.monotonic() + 300
    for c in cases:
        try:
            wait_for(c.what, lambda c=c: c.told("delivery", "deferral", "bounce"), max(1, end - time.monotonic()))
            e = c.told("delivery", "deferral", "bounce")[0]
            got = (e["event"], e["enhanced"] if e["event"] != "delivery" else e.get("tls", {}).get("verified"))
            tap.ok(got == WANTED[c.group], "%s: %s" % (c.group, c.what), e)
        except RigError as e:
            tap.ok(False, "%s: %s" % (c.group, c.what), e)


def body(tap, h):
    cases = make_cases(h)
    tap.ok(hand_over(h, [c.name for c in cases]), "%d messages are accepted" % len(cases))
    tap.equal(h.normal(), True, "a normal message is not held up")
    decide(tap, cases)
    tap.equal([c.what for c in cases if WANTED[c.group][0] == "deferral" and (h.rows(c.name) or c.told("bounce", "expiration"))], [],
              "nothing of what waits has gone out, nor come back")
    h.check_up("hostile TLSA records")


def policy(rig):
    rig.mx("tls.example", TLS, "cert=" + Authority(rig.path("certs")).issue("tls", "tls.example"))
    return standard_policy(rig, **{"global": {"retry_interval": "1h", "idle_timeout": "1s"}})


hostile(body, policy=policy)
