#!/usr/bin/env python3
"""A hostile name server: whatever it answers is transient, nothing is sent where it must not go, and mail leaves after."""
import os
import socket
import struct
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))
from fake_resolver import A, AAAA, CNAME, MX, record, wire  # noqa: E402
from hostile import RigError, dotted, hostile, received, short, standard_policy, wait_for  # noqa: E402

SELF, FORWARD = b"\xc0\x0c", b"\xc0\xff"  # pointer to the question; to what lies behind
TC = 0x8380


def mx(host="mx0.example", preference=10, owner=SELF, **more):
    return record(owner, MX, struct.pack(">H", preference) + (wire(host) if isinstance(host, str) else host), **more)


def rr(owner, kind, data, length):
    """A record that lies about its length."""
    return owner + struct.pack(">HHIH", kind, 1, 60, length) + data


def only(kind, f):
    """f answers this type, NODATA the others."""
    return lambda q: f(q) if q.type == kind else [q.answer()]


def once_wrong(wrong):
    """The wrong datagrams, then the right one behind."""
    return lambda q: wrong(q) + [q.answer([mx()])] if q.type == MX else [q.answer()]


def spoofed(q):
    """The answer an attacker would like, from another port and another address; nothing from the server itself."""
    for source in ("", "127.0.0.99"):
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as s:
            s.bind((source, 0))
            s.sendto(q.answer([mx("trap.example")]), q.peer)
    return []


def chain(n, loop):
    """A chain of n aliases from the question; at its end the first again, or an MX."""
    def f(q):
        names = [q.name] + ["c%d.%s" % (i, q.name) for i in range(n)]
        rows = [record(a, CNAME, wire(b)) for a, b in zip(names, names[1:])]
        rows.append(record(names[-1], CNAME, wire(q.name)) if loop else mx(owner=names[-1]))
        return [q.answer(rows)]
    return f


def opt(rcode_high):
    return b"\0" + struct.pack(">HHIH", 41, 1232, rcode_high << 24, 0)


# --- what is transient: name -> f(query) ---------------------------------------------------------------------------
TRANSIENT = {
    "silence": lambda q: [], "an empty datagram": lambda q: [b""], "one byte": lambda q: [q.raw[:1]], "eleven bytes": lambda q: [q.answer()[:11]],
    "a header alone": lambda q: [q.answer()[:12]], "half a question": lambda q: [q.answer()[:16]], "noise": lambda q: [os.urandom(n) for n in (12, 40, 512)],
    "noise behind the id": lambda q: [q.raw[:2] + os.urandom(200)], "60,000 zeros": lambda q: [q.raw[:2] + b"\0" * 60000], "the query itself": lambda q: [q.raw],
    "another id": lambda q: [q.answer([mx("trap.example")], ident=q.id ^ 1)], "another name": lambda q: [q.answer([mx("trap.example")], question=wire("x.example") + q.question[-4:])],
    "another type": lambda q: [q.answer([mx("trap.example")], question=q.question[:-4] + struct.pack(">HH", 16, 1))],
    "another class": lambda q: [q.answer([mx("trap.example")], question=q.question[:-2] + b"\0\3")],
    "no question": lambda q: [q.answer([mx("trap.example", owner=q.name)], question=b"")],
    "two questions": lambda q: [q.answer([mx("trap.example")], question=q.question * 2, counts=(2, 1, 0, 0))],
    "QR not set": lambda q: [q.answer([mx("trap.example")], flags=0x0180)], "opcode NOTIFY": lambda q: [q.answer([mx("trap.example")], flags=0xa180)],
    "another source": spoofed,
}
for code, word in ((1, "FORMERR"), (2, "SERVFAIL"), (4, "NOTIMP"), (5, "REFUSED"), (6, "YXDOMAIN"), (9, "NOTAUTH"), (11, "rcode 11"), (15, "rcode 15")):
    TRANSIENT[word] = lambda q, code=code: [q.answer(rcode=code)]
    if code > 2:
        TRANSIENT[word + " with an answer"] = lambda q, code=code: [q.answer([mx("trap.example")], rcode=code)]
TRANSIENT.update({
    "BADVERS": lambda q: [q.answer(additional=[opt(1)])], "extended rcode 0xfff": lambda q: [q.answer(rcode=15, additional=[opt(255)])],
    "NXDOMAIN that is extended": lambda q: [q.answer(rcode=3, additional=[opt(1)])], "SERVFAIL without EDNS, FORMERR with": lambda q: [q.answer(rcode=1 if len(q.raw) > 12 + len(q.question) else 2)],
    "one record promised, none there": lambda q: [q.answer(counts=(1, 1, 0, 0))], "65,535 promised": lambda q: [q.answer([mx()], counts=(1, 65535, 0, 0))],
    "promised in the authority section": lambda q: [q.answer([mx()], counts=(1, 1, 9, 0))], "promised in the additional section": lambda q: [q.answer([mx()], counts=(1, 1, 0, 9))],
    "cut in the record": lambda q: [q.answer([mx()])[:-4]], "cut in the record's header": lambda q: [q.answer([mx()])[:12 + len(q.question) + 5]],
    "NXDOMAIN, cut": lambda q: [q.answer([mx()], rcode=3)[:-4]], "NXDOMAIN that promises": lambda q: [q.answer(rcode=3, counts=(1, 1, 0, 0))],
    "NXDOMAIN with the record": lambda q: [q.answer([mx()], rcode=3)],
    "a pointer to itself": lambda q: [q.answer([mx(owner=struct.pack(">H", 0xc000 | 12 + len(q.question)))])],
    "a pointer forward": lambda q: [q.answer([mx(owner=b"\xc0\x80") + b"\0" * 200])], "a pointer past the end": lambda q: [q.answer([mx(owner=FORWARD)])],
    "a pointer into the header": lambda q: [q.answer([mx(owner=b"\xc0\0")])], "two pointers to each other": lambda q: [q.answer([mx(
        host=struct.pack(">H", 0xc000 | 12 + len(q.question) + 16) + struct.pack(">H", 0xc000 | 12 + len(q.question) + 14))])],
    "half a pointer": lambda q: [q.answer([mx(host=b"\xc0")])], "an exchange that points to itself": lambda q: [q.answer([mx(host=struct.pack(">H", 0xc000 | 12 + len(q.question) + 14))])],
    "a label type 0x40": lambda q: [q.answer([mx(owner=b"\x41x\0")])], "a label type 0x80": lambda q: [q.answer([mx(owner=b"\x81x\0")])],
    "an owner of 300 bytes": lambda q: [q.answer([mx(owner=(b"\x3f" + b"x" * 63) * 5 + b"\0")])],
    "an exchange of 300 bytes": lambda q: [q.answer([mx(host=(b"\x3f" + b"x" * 63) * 5 + b"\0")])], "an exchange without its end": lambda q: [q.answer([mx(host=b"\x03abc")])],
    "rdata longer than the datagram": lambda q: [q.answer([rr(SELF, MX, b"\0\x0a" + wire("trap.example"), 5000)])],
    "rdata shorter than its name": lambda q: [q.answer([rr(SELF, MX, b"\0\x0a" + wire("trap.example"), 6)])],
    "rdata longer than its name": lambda q: [q.answer([rr(SELF, MX, b"\0\x0a" + wire("trap.example") + b"xx", 2 + len(wire("trap.example")) + 2)])],
    "an MX of one byte": lambda q: [q.answer([rr(SELF, MX, b"\0", 1)])], "an empty MX": lambda q: [q.answer([rr(SELF, MX, b"", 0)])],
    "an alias of itself": lambda q: [q.answer([record(SELF, CNAME, wire(q.name))])], "two aliases of each other": chain(1, True),
    "eight in a circle": chain(7, True), "100 aliases": chain(100, False), "aliases without end": lambda q: [q.answer([record(SELF, CNAME, wire("n." + q.name))])],
    "two aliases of one name": lambda q: [q.answer([record(SELF, CNAME, wire("c1." + q.name)), record(SELF, CNAME, wire("c2." + q.name))])],
    # the exchange is known, its address is what is wrong
    "an exchange whose address fails": lambda q: [q.answer([mx("host." + q.name)]) if q.type == MX else q.answer(rcode=2)],
    "an exchange whose address is cut": lambda q: [q.answer([mx("host." + q.name)]) if q.type == MX else q.answer([record(SELF, q.type, b"\x7f\0\0")])],
    "an exchange with an address of five bytes": lambda q: [q.answer([mx("host." + q.name)]) if q.type == MX else q.answer([record(SELF, q.type, b"\x7f\0\0\x01\x01")])],
    "an exchange that is an alias in a circle": lambda q: [q.answer([mx("host." + q.name)]) if q.type == MX else chain(2, True)(q)[0]],
    "one exchange that does not exist, one that fails": lambda q: [q.answer([mx("no." + q.name), mx("fails." + q.name)]) if q.type == MX else q.answer(
        rcode=3 if q.name.startswith("no.") else 2)],
    "MX fails, A answers": lambda q: [q.answer(rcode=2) if q.type == MX else q.answer([record(SELF, A, socket.inet_aton("127.0.0.1"))] if q.type == A else [])],
    "no MX, A fails": lambda q: [q.answer(rcode=2 if q.type == A else 0)], "no MX, no A, AAAA fails": lambda q: [q.answer(rcode=2 if q.type == AAAA else 0)],
    "no MX, then NXDOMAIN for A that is cut": lambda q: [q.answer() if q.type == MX else q.answer([mx()], rcode=3)[:-4]],
})

# --- truncated, and what TCP then says: name -> f(query), bytes written before the connection is closed --------------
TCP = {
    "closes": lambda q: b"", "half a length": lambda q: b"\0", "length 0": lambda q: b"\0\0", "length 1": lambda q: b"\0\1x", "length 11": lambda q: b"\0\x0b" + q.answer()[:11],
    "length 65,535 and closes": lambda q: b"\xff\xff" + q.answer([mx()]), "noise": lambda q: os.urandom(400), "length 65,535 of noise": lambda q: b"\xff\xff" + os.urandom(65535),
    "another id": lambda q: framed(q.answer([mx("trap.example")], ident=q.id ^ 1)), "another name": lambda q: framed(q.answer([mx("trap.example")], question=wire("x.y") + q.question[-4:])),
    "QR not set": lambda q: framed(q.answer([mx("trap.example")], flags=0x0180)), "truncated again": lambda q: framed(q.answer([mx()], flags=TC)),
    "SERVFAIL": lambda q: framed(q.answer(rcode=2)), "cut": lambda q: framed(q.answer([mx()])[:-3]), "100 answers to others": lambda q: framed(q.answer([mx("trap.example")], ident=q.id ^ 1)) * 100,
    "length shorter than the answer": lambda q: struct.pack(">H", 20) + q.answer([mx("trap.example")]),
}
TCP_GOOD = {"another's answer first": lambda q: framed(q.answer([mx("trap.example")], ident=q.id ^ 1)) + framed(q.answer([mx()])),
            "300 records": lambda q: framed(q.answer([mx("mx0.example", i) for i in range(300)])), "the answer twice": lambda q: framed(q.answer([mx()])) * 2}

# --- odd, and yet an answer ------------------------------------------------------------------------------------------
GOOD = {
    "another id first": once_wrong(lambda q: [q.answer([mx("trap.example")], ident=q.id ^ i) for i in range(1, 50)]),
    "another name first": once_wrong(lambda q: [q.answer([mx("trap.example")], question=wire("x.example") + q.question[-4:])]),
    "noise first": once_wrong(lambda q: [b"", b"x", os.urandom(12), os.urandom(100), q.raw[:2], q.raw]), "QR not set first": once_wrong(lambda q: [q.answer([mx("trap.example")], flags=0x0180)]),
    "twice the same": only(MX, lambda q: [q.answer([mx()])] * 2), "a second one that differs": only(MX, lambda q: [q.answer([mx()]), q.answer([mx("trap.example")]), q.answer(rcode=3)]),
    "records of others beside": only(MX, lambda q: [q.answer([mx("trap.example", 0, owner="other.example"), mx(), record("mx0.example", A, socket.inet_aton("127.0.0.99"))],
                                                           additional=[record("mx0.example", A, socket.inet_aton("127.0.0.99"))])]),
    "records of another class beside": only(MX, lambda q: [q.answer([mx("trap.example", 0, klass=3), mx()])]), "a TTL of 2^32-1": only(MX, lambda q: [q.answer([mx(ttl=2**32 - 1)])]),
    "a TTL of 0": only(MX, lambda q: [q.answer([mx(ttl=0)])]), "an unknown type beside": only(MX, lambda q: [q.answer([record(SELF, 65280, os.urandom(20)), mx()])]),
    "an alias": only(MX, chain(1, False)), "five aliases": only(MX, chain(5, False)), "name in upper case": only(MX, lambda q: [q.answer([mx(owner=q.name.upper())])]),
    "an exchange that fails beside": lambda q: [q.answer([mx("fails." + q.name, 1), mx()]) if q.type == MX else q.answer(rcode=2)],
    "an exchange that does not exist beside": lambda q: [q.answer([mx("no." + q.name, 1), mx()]) if q.type == MX else q.answer(rcode=3)],
}

# --- answers that do decide ------------------------------------------------------------------------------------------
PERMANENT = {
    "NXDOMAIN": ("5.1.2", lambda q: [q.answer(rcode=3)]), "null MX": ("5.1.10", only(MX, lambda q: [q.answer([mx(host=b"\0", preference=0)])])),
    "an alias of nothing": ("5.1.2", lambda q: [q.answer([record(SELF, CNAME, wire("c." + q.name))], rcode=3)]),
    "no exchange exists": ("5.4.4", lambda q: [q.answer([mx("a." + q.name), mx("b." + q.name)]) if q.type == MX else q.answer(rcode=3)]),
    "nothing at all": ("5.4.4 5.1.2", lambda q: [q.answer()]),
}


def well_again(h, domain):
    """The domain's exchange and every address below it; of all else nothing is known."""
    def f(q):
        if q.type == MX and q.name == domain:
            return [q.answer([mx()])]
        return [q.answer([record(SELF, A, socket.inet_aton(h.rig.ip(11)))]) if q.type == A else q.answer(rcode=2)]
    return f


def framed(message):
    return struct.pack(">H", len(message)) + message


def hand_over(h, names):
    with h.client(h.unix) as c:
        c.say("LHLO x")
        for name in names:
            c.send("MAIL FROM:<>\r\nRCPT TO:<%s>\r\nDATA\r\n%s" % (name, dotted(received(name)).decode()))
        return {short(r) for r in c.replies(4 * len(names))} == {"250 2.1.0", "250 2.1.5", "354", "250 2.0.0"}


class Case:
    def __init__(self, h, number, group, what, f, tcp=None):
        self.h, self.group, self.what = h, group, what
        self.domain = "evil%d.bad" % number
        self.name = "x@" + self.domain
        h.dns.evil[self.domain] = f
        if tcp:
            h.dns.evil_tcp[self.domain] = tcp

    def told(self, *kinds):
        return [e for e in self.h.rig.events(*kinds) if e.get("recipient") == self.name]


def truncated(q):
    return [q.answer([], flags=TC)] if q.type == MX else [q.answer()]


def decide(tap, h, cases):
    """What is no answer is transient, what is one is taken."""
    end = time.monotonic() + 45
    for c in cases:
        try:
            left = max(1, end - time.monotonic())
            if c.group in ("transient", "tcp"):
                wait_for(c.what, lambda: c.told("deferral"), left)
                event = c.told("deferral")[0]
                tap.ok(event["state"] == "resolve" and event["enhanced"].startswith("4.4"), "transient: %s (%s)" % (c.what, c.group), event)
            elif c.group == "good":
                tap.equal(h.arrived(c.name)["host"], "mx0.example", "used: " + c.what)
            else:
                wait_for(c.what, lambda: c.told("bounce"), left)
                tap.ok(c.told("bounce")[0]["enhanced"] in c.want.split(), "permanent: " + c.what, c.told("bounce")[0])
        except RigError as e:
            tap.ok(False, "%s: %s" % (c.group, c.what), e, c.told(), [a for a in h.dns.asked if a[0].endswith(c.domain)][:6])


def body(tap, h):
    table = [("transient", what, f, None) for what, f in TRANSIENT.items()] + [("tcp", what, truncated, f) for what, f in TCP.items()]
    table += [("good", what, f, None) for what, f in GOOD.items()] + [("good", what, truncated, f) for what, f in TCP_GOOD.items()]
    cases = [Case(h, i, *row) for i, row in enumerate(table)]
    for what, (want, f) in PERMANENT.items():
        cases.append(Case(h, len(cases), "permanent", what, f))
        cases[-1].want = want
    tap.ok(hand_over(h, [c.name for c in cases]), "%d messages for domains of a hostile name server are accepted" % len(cases))
    tap.equal(h.normal(), True, "a normal message is not held up")
    decide(tap, h, cases)
    tap.equal([(c.what, e["enhanced"]) for c in cases if c.group != "permanent" for e in c.told("bounce", "expiration")], [], "nothing of that bounces")
    h.check_up("hostile answers")
    # All is well again. A lookup may be half way: until each has been asked anew, what the new zone lacks must not
    # be denied, or half an old answer and half a new one would make a bounce that is right.
    for c in cases:
        h.dns.evil[c.domain] = well_again(h, c.domain)
    waiting = [c for c in cases if c.group in ("transient", "tcp")]
    try:
        wait_for("them to go", lambda: all(c.name in {n for r in h.rig.seen() for n in r["recipients"]} for c in waiting), 100)
    except RigError:
        pass
    tap.equal([c.what for c in waiting if len(h.rows(c.name)) != 1], [], "when the server is well again, each goes out once")
    tap.equal([r for r in h.rig.seen(None) if r["host"] == "trap.example" and r["peer"] != "127.0.0.1"], [], "nothing went where only a forged answer pointed")
    tap.equal(h.rig.bindpost_json("messages")["items"], [], "and nothing is left")
    h.check_up("hostile name servers")


def policy(rig):
    return standard_policy(rig, **{"global": {"retry_interval": "1s", "max_retry_interval": "2s"}})


hostile(body, policy=policy)
