"""hostile - what the tests t/mta/hostile_*.t share: deliveryd alone between a raw client and MX hosts

Black-box: only what design section 7 and its neighbours promise to the outside is looked at. A group of cases ends
with a check-up: the daemon lives, no sanitizer has complained, and a normal message still arrives.
"""
import collections
import json
import os
import re
import resource
import select
import signal
import socket
import sys
import tempfile
import time

sys.dont_write_bytecode = True
sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from fake_resolver import FakeResolver  # noqa: E402
from rig import RigError  # noqa: E402
from mta import run, standard_policy, wait_for  # noqa: E402,F401

PATIENCE = 20
COMPLAINTS = re.compile(r"ERROR: \w+Sanitizer|SUMMARY: \w+Sanitizer|runtime error:|Assertion|WARNING: ThreadSanitizer")


class Gone(Exception):
    """The other side closed the connection."""


class Client:
    """One connection to the handoff, byte by byte under the test's control."""

    def __init__(self, where, source=None):
        if isinstance(where, str):
            self.sock = socket.socket(socket.AF_UNIX)
        else:
            self.sock = socket.socket(socket.AF_INET)
            self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.sock.settimeout(PATIENCE)
        if source:
            self.sock.bind((source, 0))
        self.sock.connect(where)
        self.buffer, self.lines = b"", collections.deque()
        self.banner = self.reply()

    def __enter__(self):
        return self

    def __exit__(self, *exc):
        self.sock.close()

    def line(self):
        while not self.lines:
            more = self.sock.recv(65536)
            if not more:
                raise Gone(self.buffer)
            *lines, self.buffer = (self.buffer + more).split(b"\n")
            self.lines.extend(lines)
        line = self.lines.popleft()
        if not line.endswith(b"\r"):
            raise AssertionError("a reply line without CR: %r" % line)
        return line[:-1].decode("ascii")

    def reply(self):
        """One reply, its lines joined by newlines."""
        lines = []
        while True:
            lines.append(self.line())
            if not re.match(r"[2-5][0-9][0-9][ -]", lines[-1]):
                raise AssertionError("not a reply: %r" % lines[-1])
            if lines[-1][3] == " ":
                return "\n".join(lines)

    def replies(self, n):
        return [self.reply() for _ in range(n)]

    def send(self, data):
        self.sock.sendall(data if isinstance(data, bytes) else data.encode("latin-1"))

    def say(self, line):
        """A command line and its reply."""
        self.send((line if isinstance(line, bytes) else line.encode("latin-1")) + b"\r\n")
        return self.reply()

    def quiet(self):
        """Whether nothing more has come; asked after an answer that would have come behind it."""
        if self.buffer or self.lines:
            return False
        ready, _, _ = select.select([self.sock], [], [], 0)
        return not ready

    def ended(self):
        """Whether the other side closes without another byte."""
        try:
            while True:
                more = self.sock.recv(65536)
                if not more:
                    break
                self.buffer += more
        except ConnectionResetError:
            pass
        return not self.buffer and not self.lines

    def mail(self, sender, *recipients, hello="LHLO"):
        """Hello and envelope; the last reply that is not 2yz, or the last one."""
        said = self.say(hello + " client.example") if hello else ""
        for line in ["MAIL FROM:<%s>" % sender] + ["RCPT TO:<%s>" % r for r in recipients]:
            said = self.say(line)
            if said[0] != "2":
                break
        return said

    def data(self, raw, n=1):
        """DATA with these raw bytes (which hold their own end), then n replies."""
        said = self.say("DATA")
        if said[:3] != "354":
            return [said]
        self.send(raw)
        return self.replies(n)


# --- what a host can do instead of answering, with its socket or TLS session ------------------------------------------
def close(_):
    raise EOFError


def reset(s):
    s.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    raise EOFError


def silent(s):
    """Until the other side closes."""
    while s.recv(65536):
        pass
    raise EOFError


def endless(piece):
    def f(s):
        while True:
            s.sendall(piece)
    return f


# --- text ---------------------------------------------------------------------------------------------------------------
def short(reply):
    """ "550 5.7.1" of a reply; the code alone if it has no enhanced status."""
    found = re.match(r"(\d{3})[ -](\d\.\d{1,3}\.\d{1,3})?", reply)
    return " ".join(x for x in found.groups() if x)


def dotted(raw):
    """As DATA wants it: dots stuffed, end of data behind. raw ends with CRLF or is empty."""
    return re.sub(rb"(?m)^\.", b"..", raw) + b".\r\n"


def received(recipient, subject="x", headers="", body="text\r\n"):
    return ("Subject: %s\r\nTo: <%s>\r\n%s\r\n%s" % (subject, recipient, headers, body)).encode("latin-1")


class Hostile:
    """deliveryd of the build under attack, three MX hosts, a name server in this process."""

    def __init__(self, tap, rig, policy=None, process=None):
        resource.setrlimit(resource.RLIMIT_NOFILE, (resource.getrlimit(resource.RLIMIT_NOFILE)[1],) * 2)
        self.tap, self.rig, self.serial = tap, rig, 0
        self.stamp = "acme"  # of normal messages
        for i in range(3):
            rig.mx("mx%d.example" % i, 11 + i)
        rig.mx("trap.example", 19)  # no mail may ever go there
        self.dns = FakeResolver(rig.dns, {"mx%d.example" % i: rig.ip(11 + i) for i in range(3)},
                                {"d%d.example" % i: "mx%d.example" % i for i in range(3)})
        self.policy = (policy or standard_policy)(rig)
        self.policy["global"].setdefault("idle_timeout", "1s")
        # on a machine of two cores queue and net share a thread unless told otherwise: THREADS=3 shows races
        self.base = {"delivery": {"threads": int(os.environ.get("THREADS", "0"))}, "notify": {"via": "inet:%s:%d" % (rig.ip(13), rig.mx_port)}}
        self.base.update(process(rig) if process else {})
        self.write()
        rig.start_mx(save=True)
        # leaks of memory that belongs to messages show at the end of the run
        os.environ["ASAN_OPTIONS"] = "detect_leaks=1:" + os.environ.get("ASAN_OPTIONS", "")
        rig.start_deliveryd()
        self.open_at_start = self.open_files()

    tcp = property(lambda self: (self.rig.ip(24), 2424))
    unix = property(lambda self: self.rig.sock("handoff.sock"))
    log = property(lambda self: self.rig.path("log", "deliveryd.log"))

    def write(self, **process):
        both = json.loads(json.dumps(self.base))
        for section, values in process.items():
            if isinstance(values, dict):
                both.setdefault(section, {}).update(values)
            else:
                both[section] = values
        self.rig.write_config(self.policy, **both)

    def reconfigure(self, **process):
        """New bindpost.json and self.policy by SIGHUP; returns when they are in force."""
        self.write(**process)
        before = self.logged().count("configuration reloaded")
        self.rig.procs["deliveryd"].send_signal(signal.SIGHUP)
        wait_for("the reload", lambda: self.logged().count("configuration reloaded") > before)

    def logged(self):
        with open(self.log, encoding="utf-8", errors="replace") as f:
            return f.read()

    def client(self, where=None, source=None):
        return Client(where or self.tcp, source)

    def name(self, domain="d0.example"):
        """A recipient that nobody had before."""
        self.serial += 1
        return "r%d@%s" % (self.serial, domain)

    # --- what arrived ---------------------------------------------------------------------------------------------
    def rows(self, recipient):
        return [r for r in self.rig.seen() if recipient in r["recipients"]]

    def arrived(self, recipient):
        """The row of its one arrival."""
        wait_for("the arrival of " + recipient, lambda: self.rows(recipient), PATIENCE)
        return self.rows(recipient)[0]

    def bytes_of(self, row):
        with open(self.rig.path("mx", "saved", row["file"]), "rb") as f:
            raw = f.read()
        # up to its date: a continuation line the message begins with is the message's
        found = re.match(rb"Received: (?:[^\r\n]|\r\n[ \t])*?\d\d:\d\d:\d\d [+-]\d{4}(?: \(UTC\))?\r\n", raw)
        assert found, raw[:200]
        return raw[found.end():]

    def metric(self, name):
        """A counter of /metrics, by its whole name with labels; 0 if it is not there."""
        text = self.http("GET", "/metrics", metrics=True)[1]
        found = re.search(r"(?m)^%s (\d+)" % re.escape(name), text)
        return int(found.group(1)) if found else 0

    def http(self, method, path, metrics=False):
        """Status and body of one request."""
        if metrics:
            s = socket.create_connection((self.rig.ip(24), 9125), timeout=PATIENCE)
        else:
            s = socket.socket(socket.AF_UNIX)
            s.settimeout(PATIENCE)
            s.connect(self.rig.sock("control.sock"))
        with s:
            s.sendall(("%s %s HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: 0\r\n\r\n" % (
                method, path)).encode("latin-1"))
            raw = b""
            while True:
                more = s.recv(65536)
                if not more:
                    break
                raw += more
        head, _, body = raw.partition(b"\r\n\r\n")
        return int(head.split(b" ")[1]), body.decode("utf-8")

    def open_files(self):
        return len(os.listdir("/proc/%d/fd" % self.rig.procs["deliveryd"].pid))

    # --- after each group -----------------------------------------------------------------------------------------
    def normal(self):
        recipient = self.name("d2.example")
        with self.client(self.unix) as c:
            c.mail("news@acme.example", recipient)
            said = c.data(dotted(received(recipient, headers="X-Binding: %s\r\n" % self.stamp)))
        if short(said[0]) != "250 2.0.0":
            return said
        row = self.arrived(recipient)
        return row["peer"] == self.rig.ip(101) and self.bytes_of(row) == received(recipient)

    def check_up(self, group):
        tap, proc = self.tap, self.rig.procs["deliveryd"]
        tap.equal(proc.poll(), None, "%s: deliveryd is alive" % group)
        tap.equal(self.complaints(), [], "%s: nothing for a sanitizer" % group)
        tap.equal(self.normal(), True, "%s: a normal message goes its way" % group)
        tap.equal(self.unclean(), [], "%s: log, events and metrics are clean text" % group)

    def unclean(self):
        """Bytes that must not reach what operators read; events that are no JSON fail in rig.events()."""
        with open(self.log, "rb") as f:
            bad = re.findall(rb"[^\n]*[\0-\x08\x0b-\x1f\x7f][^\n]*", f.read())
        with open(self.rig.path("log", "events.jsonl"), "rb") as f:
            bad += re.findall(rb"[^\n]*[\0-\x09\x0b-\x1f\x7f][^\n]*", f.read())
        bad += [e for e in self.rig.events() if not isinstance(e, dict) or "time" not in e or "event" not in e]
        line = re.compile(r'(# (HELP|TYPE) bindpost_\w+ .*|bindpost_\w+(\{(\w+="([^"\\\n]|\\["\\n])*",?)+\})? -?[0-9.e+]+)')
        bad += [x for x in self.http("GET", "/metrics", metrics=True)[1].splitlines() if x and not line.fullmatch(x)]
        return bad[:5]

    def complaints(self):
        return [line for line in self.logged().splitlines() if COMPLAINTS.search(line)]

    def finish(self):
        """No descriptor is left behind; deliveryd stops in good order, and (built with ASan) without leaks."""
        try:  # connections to MX hosts end after idle_timeout
            wait_for("descriptors", lambda: self.open_files() <= self.open_at_start + 4)
            self.tap.ok(True, "every descriptor was closed")
        except RigError:
            self.tap.ok(False, "every descriptor was closed", self.open_at_start, self.open_files())
        self.tap.equal(self.rig.stop("deliveryd"), 0, "SIGTERM ends it in good order")
        self.tap.equal(self.complaints(), [], "no leak and no complaint at its end")
        self.dns.close()


def hostile(body, **options):
    """Runs body(tap, hostile) with everything started; policy and process are functions of the rig."""
    def with_rig(tap, rig):
        h = Hostile(tap, rig, **options)
        body(tap, h)
        h.finish()
    run(with_rig)
