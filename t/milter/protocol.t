#!/usr/bin/env python3
"""bindpost-milter against the milter protocol itself: reply codes, indexes, sizes, old MTAs, broken and large packets,
many connections, stopping in the middle of a message."""
import json
import os
import shutil
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import threading
import time
import traceback

src = os.path.abspath(os.environ.get("srcdir") or os.path.join(os.path.dirname(__file__), "..", ".."))
build = os.path.abspath(os.environ.get("builddir") or src)
sys.path.insert(0, os.path.join(src, "t/lib"))
import milter_client as mc  # noqa: E402
from unix_http import Connection  # noqa: E402

TESTS = []


def test(fn):
    TESTS.append(fn)
    return fn


class Milter:
    """bindpost-milter with a policy, in a folder of its own."""

    def __init__(self, policy, **milter):
        self.dir = tempfile.mkdtemp(prefix="milter.")
        self.sock = os.path.join(self.dir, "m.sock")
        self.policy(policy)
        config = {"hostname": "mta.example", "user": "root", "policy": "policy.json",
                  "milter": {"listen": "unix:" + self.sock, "control": "unix:%s/c.sock" % self.dir, **milter}}
        with open(os.path.join(self.dir, "bindpost.json"), "w", encoding="utf-8") as f:
            json.dump(config, f)
        with open(os.path.join(self.dir, "log"), "wb") as log:
            self.process = subprocess.Popen([os.path.join(build, "bindpost-milter"), "-c", self.dir + "/bindpost.json"],
                                            stderr=log)
        end = time.monotonic() + 20
        while time.monotonic() < end:
            try:
                with socket.socket(socket.AF_UNIX) as control:  # the last of the two to listen
                    control.connect(self.dir + "/c.sock")
                return mc.Client(self.sock, negotiate=False).close()
            except OSError:
                time.sleep(0.02)
        raise AssertionError("does not start: " + self.log())

    def policy(self, policy):
        base = {"bindings": {"acme": {"bind_address": "192.0.2.1"}, "default": {"bind_address": "192.0.2.9"}}}
        with open(os.path.join(self.dir, "policy.json"), "w", encoding="utf-8") as f:
            json.dump({**base, **policy}, f)

    def log(self):
        with open(os.path.join(self.dir, "log"), encoding="utf-8") as f:
            return f.read()

    def control(self, method, path):
        c = Connection(self.dir + "/c.sock")
        c.request(method, path)
        answer = c.getresponse()
        return answer.status, json.loads(answer.read())

    def status(self):
        return self.control("GET", "/v1/status")[1]

    def client(self, **options):
        c = mc.Client(self.sock, **options)
        c.connect()
        c.helo()
        return c

    def __enter__(self):
        return self

    def __exit__(self, *exc):
        if self.process.poll() is None:
            self.process.terminate()
        code = self.process.wait(20)
        text = self.log()
        shutil.rmtree(self.dir)
        if exc[0] is None:
            assert code == 0, "exit %d: %s" % (code, text)


def rules(*whens):
    return {"rules": [{"name": "r%d" % n, "when": when, "bind": "acme"} for n, when in enumerate(whens, 1)]}


def stamp_of(changes):
    inserts = [c for c in changes if c[0] == "insert"]
    assert len(inserts) == 1 and inserts[0][1:3] == (0, b"X-Binding"), changes
    return inserts[0][3].strip().decode()


@test
def stamps_are_removed_from_the_highest_index_down():
    with Milter({}) as m:
        changes, reply = m.client().message([("x-binding", "a"), ("Subject", "b"), ("X-Binding ", "c"), ("X-BINDING", "d")])
        assert reply[0] == b"a", reply
        assert [c[:4] for c in changes] == [("change", i, b"X-Binding", b"") for i in (3, 2, 1)] + [
            ("insert", 0, b"X-Binding", b" default; b=default")], changes
        assert m.status()["stamps_removed"] == 3 and m.status()["stamped"] == 1


@test
def another_header_for_the_stamp():
    with Milter({}) as m:
        with open(m.dir + "/bindpost.json", encoding="utf-8") as f:
            config = json.load(f)
        config["stamp"] = {"header": "X-Way"}
        with open(m.dir + "/bindpost.json", "w", encoding="utf-8") as f:
            json.dump(config, f)
        status, answer = m.control("POST", "/v1/reload")
        assert status == 200 and answer["restart"] == ["stamp.header"], answer
        changes, _ = m.client().message([("X-Way", "a"), ("X-Binding", "b")])
        assert changes[0] == ("change", 1, b"X-Binding", b""), "changed without a restart: %r" % changes


@test
def unclaimed_is_451():
    with Milter({"global": {"default_binding": "none"}}) as m:
        c = m.client()
        changes, reply = c.message([("X-Binding", "acme")])
        assert reply == (b"y", b"451 4.7.1 no binding claims this message\0"), reply
        assert m.status()["unclaimed"] == 1
        changes, reply = c.message(sender="<>")
        assert reply[0] == b"a" and stamp_of(changes) == "default; b=default", reply


@test
def too_little_negotiated_is_421():
    with Milter({}) as m:
        old = m.client()
        old.message()
        m.policy(rules("body =~ 'x'"))
        assert m.control("POST", "/v1/reload")[0] == 200
        assert old.mail() == (b"y", b"421 4.3.2 policy has changed, please reconnect\0")
        assert stamp_of(m.client().message(body=b"x\r\n")[0]) == "acme; b=r1"
        assert m.status()["reconnect"] == 1


@test
def size_is_what_was_sent():
    headers = [("Subject", "ab"), ("X-Binding", "acme"), ("A", "b\n c"), ("B", "b\r\n c")]
    size = len(b"Subject: ab\r\nA: b\r\n c\r\nB: b\r\n c\r\n\r\n12345678\r\n")
    for steps in (mc.ALL_STEPS, mc.ALL_STEPS & ~mc.LEADSPC):
        with Milter(rules("size == '%d'" % size)) as m:
            c = m.client(steps=steps)
            assert stamp_of(c.message(headers, b"12345678\r\n")[0]) == "acme; b=r1"
            assert stamp_of(c.message(headers, b"1234567\r\n")[0]) == "default; b=default"


@test
def leading_space_only_where_it_was_negotiated():
    with Milter({}) as m:
        assert m.client().message()[0][0][3] == b" default; b=default"
        assert m.client(steps=mc.ALL_STEPS & ~mc.LEADSPC).message()[0][0][3] == b"default; b=default"


@test
def old_mtas_say_every_step():
    with Milter(rules("header:X-A == '1' AND NOT body =~ 'zzz'")) as m:
        for version, steps in ((2, 0), (2, 0x7f), (4, 0x3ff), (6, mc.SKIP)):
            c = m.client(version=version, actions=mc.ADDHDRS | mc.CHGHDRS, steps=steps)
            c.mail()
            c.send(b"R", b"<a@b>\0")
            assert c.read()[0] == b"c"
            c.header("X-A", "1")
            c.header("x-binding", "evil")
            if not c.steps & 0x40:
                c.send(b"N")
                assert c.read()[0] == b"c"
            c.body(b"x" * 100)
            changes, reply = c.end()
            assert reply[0] == b"a" and stamp_of(changes) == "acme; b=r1", (version, steps, changes, reply)
            assert changes[0] == ("change", 1, b"X-Binding", b""), changes


@test
def an_mta_that_allows_no_changes_is_refused():
    with Milter({}) as m:
        for actions in (0x2, mc.ADDHDRS, mc.CHGHDRS):
            try:
                m.client(actions=actions)
                raise AssertionError("negotiated")
            except EOFError:
                pass
        assert "nothing can be stamped" in m.log()
        assert m.status()["connections"] == 0


@test
def macros_are_asked_for_as_needed():
    with Milter({}) as m:
        assert m.client().macros == {0: ["i"], 1: ["i"], 2: ["i"], 5: ["i"]}
        m.policy(rules("recv_port == '25' AND recv_ip == '192.0.2.1' AND auth_user == 'x' AND daemon_name == 'y'"))
        m.control("POST", "/v1/reload")
        macros = m.client().macros
        assert {"{daemon_addr}", "{if_addr}", "{daemon_port}", "{daemon_name}"} <= set(macros[0]), macros
        assert "{auth_authen}" in macros[2], macros


@test
def without_an_address():
    with Milter(rules("sender_ip != '10.0.0.1'", "NOT sender_ip == '10.0.0.1'")) as m:
        c = mc.Client(m.sock)
        c.connect("localhost", None)
        assert stamp_of(c.message()[0]) == "acme; b=r2"
        c = mc.Client(m.sock)
        c.connect("client", "IPv6:2001:db8::1")
        assert stamp_of(c.message()[0]) == "acme; b=r1"


@test
def large_headers():
    with Milter(rules("header:X-Big =~ '^y+z$'")) as m:
        c = m.client()
        for n in (1000, 65530, 100000, 1000000):
            changes, reply = c.message([("X-Big", "y" * n + "z")], b"b\r\n")
            assert stamp_of(changes) == "acme; b=r1", n
            changes, reply = c.message([("X-Other", "y" * n + "z")], b"b\r\n")
            assert stamp_of(changes) == "default; b=default", n
        # more of it than we keep is a failure of ours
        changes, reply = c.message([("X-Big", "y" * 1000000)] * 5)
        assert changes == [] and reply[0] == b"t", reply
        assert stamp_of(c.message()[0]) == "default; b=default"
        assert m.status()["errors"] == 1


@test
def on_error_accept_still_takes_forged_stamps_off():
    with Milter(rules("header:X-Big == 'a'"), on_error="accept") as m:
        changes, reply = m.client().message([("X-Binding", "acme")] + [("X-Big", "y" * 1000000)] * 5)
        assert changes == [("change", 1, b"X-Binding", b"")] and reply[0] == b"a", (changes, reply)


@test
def on_error_reject():
    with Milter(rules("header:X-Big == 'a'"), on_error="reject") as m:
        changes, reply = m.client().message([("X-Big", "y" * 1000000)] * 5)
        assert changes == [] and reply[0] == b"r", reply


@test
def thousands_of_stamps_are_an_attack():
    with Milter({}) as m:
        c = m.client()
        changes, reply = c.message([("X-Binding", "a")] * 1000)
        assert len(changes) == 1001 and reply[0] == b"a"
        changes, reply = c.message([("X-Binding", "a")] * 1001)
        assert changes == [] and reply[1].startswith(b"550 5.6.0 "), reply


@test
def a_stamp_too_long_for_the_protocol_is_an_error():
    names = ["n%060d" % n for n in range(1000)]
    policy = {"rules": [{"name": n, "when": "rcptto == '%s@x.example'" % n, "bind": "acme"} for n in names]}
    with Milter(policy) as m:
        changes, reply = m.client().message([("X-Binding", "acme")])
        assert reply[0] == b"t" and not [c for c in changes if c[0] == "insert"], reply
        assert "1000 rules on recipients are open" in m.log()


@test
def many_open_rules_are_folded():
    policy = {"rules": [{"name": "n%060d" % n, "when": "rcptto == 'r%d@x.example'" % n, "bind": "acme"} for n in range(300)]}
    with Milter(policy) as m:
        stamp = stamp_of(m.client().message()[0])
        assert stamp.count("\n\t") > 20 and all(len(line) <= 889 for line in stamp.split("\n"))


@test
def broken_packets_end_only_their_connection():
    with Milter(rules("body =~ 'x'")) as m:
        good = m.client()
        for junk in (b"\0\0\0\0", b"\xff\xff\xff\xff" + b"x" * 100, b"GET / HTTP/1.0\r\n\r\n", struct.pack(">I", 5) + b"Oabcd",
                     struct.pack(">I", 100) + b"O", struct.pack(">I", 1) + b"\x01", struct.pack(">I", 3) + b"Lab"):
            c = mc.Client(m.sock, negotiate=False)
            c.socket.sendall(junk)
            c.close()
            c = m.client()
            c.mail()
            c.socket.sendall(junk)
            c.close()
        assert stamp_of(good.message(body=b"x\r\n")[0]) == "acme; b=r1"


@test
def mail_again_without_abort():
    with Milter(rules("header:X-A == '1'")) as m:
        c = m.client()
        c.mail()
        c.header("X-A", "1")
        assert stamp_of(c.message()[0]) == "default; b=default"
        assert m.status()["active"] == 0


@test
def many_connections_at_once():
    with Milter(rules("header:X-N =~ '[02468]$'", "header:X-N =~ '[13579]$'")) as m:
        failures = []

        def work(n):
            try:
                for k in range(20):
                    c = m.client()
                    for i in range(5):
                        want = "acme; b=r%d" % (1 + (n + k + i) % 2)
                        got = stamp_of(c.message([("X-N", str(n + k + i))])[0])
                        assert got == want, (got, want)
                    c.close()
            except Exception:  # pylint: disable=broad-except
                failures.append(repr(e))

        threads = [threading.Thread(target=work, args=(n,)) for n in range(16)]
        reloads = 0
        for t in threads:
            t.start()
        while any(t.is_alive() for t in threads):
            assert m.control("POST", "/v1/reload")[0] == 200
            reloads += 1
        assert not failures, failures[:3]
        assert m.status()["stamped"] == 1600 and reloads > 0


@test
def stopping_lets_messages_end():
    with Milter(rules("header:X-A == '1'")) as m:
        c, other = m.client(), m.client()
        other.message()
        c.mail()
        c.header("X-A", "1")
        m.process.terminate()
        end = time.monotonic() + 10
        while os.path.exists(m.sock) and time.monotonic() < end:
            time.sleep(0.01)
        deadline = time.monotonic() + 10
        while True:  # "stopping" is set right after the socket is gone
            reply = other.mail()
            if reply[0] == b"y" or time.monotonic() > deadline:
                break
            other.send(b"A")
        assert reply[1].startswith(b"421 4.3.2 "), reply
        changes, reply = c.end()
        assert reply[0] == b"a" and stamp_of(changes) == "acme; b=r1"
        assert m.process.wait(10) == 0


@test
def systemd_is_told():
    folder = tempfile.mkdtemp(prefix="notify.")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as told:
        told.bind(folder + "/notify")
        told.settimeout(20)
        os.environ["NOTIFY_SOCKET"] = folder + "/notify"
        try:
            with Milter({}) as m:
                assert told.recv(200) == b"READY=1"
                m.process.send_signal(signal.SIGHUP)
                assert told.recv(200).startswith(b"RELOADING=1\nMONOTONIC_USEC=")
                assert told.recv(200) == b"READY=1"
                assert stamp_of(m.client().message()[0]) == "default; b=default"
                m.process.terminate()
                assert told.recv(200) == b"STOPPING=1"
        finally:
            del os.environ["NOTIFY_SOCKET"]
            shutil.rmtree(folder)


@test
def a_storm_of_signals():
    with Milter(rules("header:X-A == '1'")) as m:
        c = m.client()
        for _ in range(300):
            m.process.send_signal(signal.SIGHUP)
            assert stamp_of(c.message([("X-A", "1")])[0]) == "acme; b=r1"
        assert m.process.poll() is None and m.status()["reloads"] > 0


@test
def check_and_version():
    with Milter({}) as m:
        program = os.path.join(build, "bindpost-milter")
        config = m.dir + "/bindpost.json"
        assert subprocess.run([program, "-t", "-c", config], check=False).returncode == 0
        m.policy(rules("mailfrom = 'x'"))
        done = subprocess.run([program, "-t", "-c", config], capture_output=True, text=True, check=False)
        assert done.returncode == 1 and "policy.json: rules[0].when: column 10: expected an operator" in done.stderr
        assert "bindpost-milter" in subprocess.run([program, "-V"], capture_output=True, text=True, check=True).stdout
        assert subprocess.run([program, "-x"], capture_output=True, check=False).returncode == 2
        # a second one does not take the first one's socket
        m.policy({})
        done = subprocess.run([program, "-c", config], capture_output=True, text=True, timeout=20, check=False)
        assert done.returncode == 1 and "another program listens there" in done.stderr, done
        m.client().message()


def main():
    failed = 0
    print("1..%d" % len(TESTS), flush=True)
    for n, fn in enumerate(TESTS, 1):
        try:
            fn()
            print("ok %d - %s" % (n, fn.__name__), flush=True)
        except Exception:  # pylint: disable=broad-except
            failed += 1
            print("not ok %d - %s" % (n, fn.__name__), flush=True)
            print("".join("# %s\n" % line for line in traceback.format_exc().splitlines()), end="", flush=True)
    return failed != 0


if __name__ == "__main__":
    sys.exit(main())
