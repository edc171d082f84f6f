"""mta - what the tests in t/mta share: TAP, a rig per test file, messages with known bytes"""
import hashlib
import os
import shutil
import sys
import tempfile
import traceback

sys.dont_write_bytecode = True
sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import rig as rigs  # noqa: E402
from rig import wait_for  # noqa: E402,F401


class Tap:
    def __init__(self):
        self.n = self.failed = 0

    def ok(self, good, what, *why):
        self.n += 1
        if not good:
            self.failed += 1
        print("%sok %d - %s" % ("" if good else "not ", self.n, what), flush=True)
        if not good:
            for line in "\n".join(str(w) for w in why).splitlines()[:40]:
                print("# " + line[:600])
        return bool(good)

    def equal(self, got, want, what):
        return self.ok(got == want, what, "got  %r" % (got,), "want %r" % (want,))


def run(body):
    """Runs body(tap, rig) in a folder of its own; on failure says what the daemons' logs end with."""
    tap = Tap()
    folder = tempfile.mkdtemp(prefix="bindpost-mta-")
    rig = rigs.Rig(folder)
    rigs.end_on_signals()
    try:
        body(tap, rig)
    except BaseException:  # whatever it was, a signal too, it failed the test; the trace says where
        tap.ok(False, "runs to its end", traceback.format_exc())
    if tap.failed:
        for name in ("deliveryd", "milter", "postfix", "sendmail"):
            for line in rig.tail(name).splitlines():
                print("# %s: %s" % (name, line[:200]))
    rig.close()
    print("1..%d" % tap.n, flush=True)
    if tap.failed and os.environ.get("KEEP"):
        print("# everything stays in " + folder)
    else:
        shutil.rmtree(folder, ignore_errors=True)
    sys.exit(1 if tap.failed else 0)


def message(number, sender, recipient, headers="", body=None):
    """A message whose bytes are known: CRLF, a line with dots, 8-bit, a long line, its own number in it."""
    if body is None:
        body = "Message %d.\r\n.\r\n..two dots\r\n.leading\r\n%s\r\ncaf\u00e9\r\n" % (number, "x" * 1500)
    text = ("From: <%s>\r\nTo: <%s>\r\nSubject: %d\r\nMessage-ID: <%d@test.example>\r\n"
            "Date: Fri, 20 Nov 2026 12:00:00 +0000\r\n%s\r\n%s") % (
        sender, recipient, number, number, headers, body)
    return text.encode("utf-8")


def standard_policy(rig, **more):
    policy = {
        "global": {"remote_smtp_port": rig.mx_port, "prohibited_hosts": [], "retry_interval": "2s"},
        "bindings": {
            "acme": {"bind_address": rig.ip(101), "ehlo_hostname": "acme.mta.example", "match_domain": ["acme.example"]},
            "bravo": {"bind_address": rig.ip(102), "ehlo_hostname": "bravo.mta.example"},
            "coyote": {"bind_address": rig.ip(103), "ehlo_hostname": "coyote.mta.example"},
            "default": {"bind_address": rig.ip(100), "ehlo_hostname": "mta1.bindpost.example"}},
        "rules": [
            {"name": "bravo", "when": "header:X-Customer == 'bravo'", "bind": "bravo"},
            {"name": "coyote", "when": "mailfrom =~ '@.*coyote\\.example$'", "bind": "coyote"}],
    }
    for key, value in more.items():
        if isinstance(value, dict):
            policy.setdefault(key, {}).update(value)
        else:
            policy[key] = value
    return policy


def standard_domains(rig, n=10):
    """d0..d(n-1).example, each with one MX host mxN.example."""
    for i in range(n):
        rig.mx("mx%d.example" % i, 11 + i)
        rig.record("d%d.example. MX 10 mx%d.example." % (i, i))


def sha(data):
    return hashlib.sha256(data).hexdigest()


def without_trace(raw, n_received):
    """The message less its first n Received fields (folded lines included) and what the MTA in front put before."""
    lines = raw.split(b"\r\n")
    while n_received:
        assert lines[0].lower().startswith(b"received:"), lines[0]
        lines.pop(0)
        while lines[0][:1] in (b" ", b"\t"):
            lines.pop(0)
        n_received -= 1
    return b"\r\n".join(lines)
