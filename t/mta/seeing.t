#!/usr/bin/env python3
"""What an operator looks at: a message's own bytes (also where they attack his terminal), connections, config eval."""
import fcntl
import http.client
import json
import os
import pty
import signal
import smtplib
import socket
import struct
import subprocess
import sys
import termios
import threading

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))
from mta import run, standard_domains, standard_policy, wait_for  # noqa: E402

NAUGHTY = b"\x1b]0;owned\x07\x1b[2J \xc2\x9b31m\x9b tab\there \xe2\x82\xac\x7f\r\nbare\x08\x08 end\r\n"


def hand_over(rig, recipient, raw, sender="news@acme.example"):
    with smtplib.LMTP(rig.ip(24), 2424, timeout=60) as client:
        assert not client.sendmail(sender, [recipient], raw)


def get(rig, path):
    """Status, content type and bytes."""
    s = socket.socket(socket.AF_UNIX)
    s.connect(rig.sock("control.sock"))
    c = http.client.HTTPConnection("localhost")
    c.sock = s
    c.request("GET", path)
    answer = c.getresponse()
    value = (answer.status, answer.headers["Content-Type"], answer.read())
    c.close()
    return value


def raw_command(rig, *args):
    return subprocess.run([rig.program("bindpost"), "-c", rig.config, *args], capture_output=True, timeout=60, check=False)


def on_terminal(rig, *args):
    """What a terminal gets to see."""
    master, slave = pty.openpty()
    proc = subprocess.Popen([rig.program("bindpost"), "-c", rig.config, *args], stdout=slave, stderr=slave,
                            stdin=subprocess.DEVNULL)
    os.close(slave)
    out = b""
    try:
        while True:
            more = os.read(master, 65536)
            if not more:
                break
            out += more
    except OSError:  # its other end was closed
        pass
    os.close(master)
    assert proc.wait(60) == 0, out
    return out.replace(b"\r\n", b"\n")


def message_bytes(tap, rig):
    headers = b"From: <news@acme.example>\r\nSubject: \x1b[31mred\r\nX-Folded: a\r\n b\r\n"
    rig.bindpost("suspend", "acme")
    hand_over(rig, "small@d0.example", headers + b"\r\n" + NAUGHTY)
    big = b"".join(b"%07d %s\r\n" % (i, b"x" * 60) for i in range(30000))  # in a file of its own
    hand_over(rig, "big@d0.example", headers + b"\r\n" + big)
    ids = wait_for("both", lambda: (lambda rows: {r["recipient"][0].split("@")[0]: r["id"] for r in rows} if len(rows) == 2 else None)(
        rig.bindpost_json("messages")["items"]))
    for name, text in (("small", NAUGHTY), ("big", big)):
        whole = get(rig, "/v1/messages/%s/raw" % ids[name])
        tap.ok(whole[:2] == (200, "message/rfc822") and whole[2].endswith(headers + b"\r\n" + text) and whole[2].startswith(b"Received: "),
               name + ": raw is the message as it will leave", whole[:2], whole[2][:300])
        top = raw_command(rig, "message", ids[name], "--headers")
        below = raw_command(rig, "message", ids[name], "--body")
        both = raw_command(rig, "message", "--headers", "--body", ids[name])
        tap.equal((top.returncode, below.returncode, both.returncode), (0, 0, 0), name + ": --headers, --body, both: exit 0")
        tap.ok(below.stdout == text, name + ": --body in a pipe: its very bytes", below.stdout[:200], below.stderr)
        tap.ok(top.stdout.endswith(headers + b"\r\n") and b"xxxx" not in top.stdout, name + ": --headers: header alone", top.stdout[:500])
        tap.ok(both.stdout == top.stdout + below.stdout == whole[2], name + ": both: the whole")
        tap.equal(int(rig.bindpost_json("message", ids[name])["size"]), len(whole[2]), name + ": as long as `message` says")
        answer = rig.bindpost_json("message", ids[name], "--body")
        tap.ok(answer["id"] == ids[name] and len(answer["body"]) > 30 and "headers" not in answer, name + ": --json")
    shown = on_terminal(rig, "message", ids["small"], "--headers", "--body")
    tap.equal([b for b in shown if b < 32 and b not in (9, 10) or b == 127], [], "on a terminal no control character comes through")
    tap.ok(b"\\x1B]0;owned\\x07\\x1B[2J \\xC2\\x9B31m\\x9B tab\there \xe2\x82\xac\\x7F\n" in shown, "they are made visible, text stays", shown)
    tap.ok(on_terminal(rig, "message", ids["big"], "--body") == big.replace(b"\r\n", b"\n"), "and a large one is all there")
    return ids


def message_errors(tap, rig, ids):
    none = "0000000000000abc"
    for args, code in (((none, "--body"), 1), ((none, "--headers"), 1), (("zzz", "--body"), 2), (("--body",), 2),
                       ((ids["small"], none), 2), ((ids["small"], "--nonsense"), 2)):
        done = raw_command(rig, "message", *args)
        tap.ok(done.returncode == code and not done.stdout and done.stderr, "message %s: exit %d" % (" ".join(args), code), done)
    for path, status in (("/v1/messages/%s/body" % none, 404), ("/v1/messages/%s/nothing" % ids["small"], 404),
                         ("/v1/messages/%s/body/" % ids["small"], 404), ("/v1/messages/%s/" % ids["small"], 404),
                         ("/v1/messages/%s0/body" % ids["small"], 400), ("/v1/messages//body", 400),
                         ("/v1/messages/%s/body?x=1" % ids["small"], 400)):
        answer = get(rig, path)
        tap.ok(answer[0] == status and "error" in json.loads(answer[2]), "GET %s: %d" % (path, status), answer)


def connections(tap, rig):
    rig.mx_option("mx1.example", "hold=60000")
    hand_over(rig, "slow@d1.example", b"Subject: x\r\n\r\nx\r\n", sender="x@coyote.example")
    row = wait_for("its session", lambda: [r for r in rig.bindpost_json("connections")["items"]
                                         if r["binding"] == "coyote" and r["state"] == "busy"])[0]
    tap.equal((row["next_hop"], row["mx"], row["peer"], row["source"]), ("d1.example", "mx1.example", rig.ip(12), rig.ip(103)),
              "connections: from where to where")
    tap.ok(row["state"] == "busy" and row["age"] >= 0, "its state and age", row)
    tap.equal([r["next_hop"] for r in rig.bindpost_json("connections", "--domain", "D1.Example", "--binding", "coyote")["items"]], ["d1.example"],
              "by next hop, however it is written")
    tap.equal(rig.bindpost("bindings", "--domain", "d1.example", check=False).returncode, 2, "a filter that a list has not is refused")
    rig.mx_option("mx1.example", None)
    rig.stop("mx")  # else stopping would wait for its reply


def trace(tap, rig):
    rig.bindpost("resume", "acme")
    wait_for("the mail of before", lambda: rig.bindpost_json("messages", "--binding", "acme")["items"] == [])
    wait_for("its sessions' end", lambda: rig.bindpost_json("connections", "--binding", "acme")["items"] == [])
    tracers = {}
    for name, args in (("json", ("--json", "trace", "--binding", "acme")), ("text", ("trace", "--domain", "D1.example")),
                       ("other", ("--json", "trace", "--binding", "bravo")), ("short", ("trace", "--for", "1s"))):
        out = open(rig.path("trace-" + name), "w+b")
        tracers[name] = (subprocess.Popen([rig.program("bindpost"), "-c", rig.config, *args], stdout=out, stderr=subprocess.STDOUT), out)

    def said(name):
        with open(rig.path("trace-" + name), "rb") as f:
            return f.read()

    for name in ("json", "text", "other"):
        wait_for(name + " to begin", lambda: b"tracing" in said(name))
    hand_over(rig, "traced@d1.example", b"Subject: secret subject\r\n\r\nbody of it\r\n")
    wait_for("the dialogue's end", lambda: b'"closed"' in said("json") and b"closed" in said("text"))
    rows = [json.loads(line) for line in said("json").splitlines()]
    talk = ["%s %s" % (r["direction"], r["text"].split(" ")[0].split("-")[0]) for r in rows]
    want = ["* tracing", "* connecting", "* connected", "< 220", "> EHLO", "> MAIL", "> RCPT", "> DATA", "< 354", "> (message", "< 250", "> QUIT", "< 221", "* closed"]
    tap.ok([t for t in talk if t in want] and all(t in talk for t in want), "trace shows the dialogue", talk)
    keys = {"time", "session", "ms", "binding", "next_hop", "domain", "mx", "peer", "source", "direction", "text"}
    tap.equal([r for r in rows[1:] if set(r) | {"domain"} != keys or r["binding"] != "acme" or r.get("domain", "d1.example") != r["next_hop"] or r["source"] != rig.ip(101)],
              [], "each line says whose it is")
    tap.equal([r["ms"] for r in rows[1:]], sorted(r["ms"] for r in rows[1:]), "and how many ms after its session began")
    tap.ok(b"secret subject" not in said("json") and b"body of it" not in said("json"), "nothing of the message but its size")
    tap.ok(b"> RCPT TO:<traced@d1.example>\n" in said("text") and b" acme mx1.example " in said("text"), "by domain, for people", said("text"))
    tap.equal(len(said("other").splitlines()), 1, "nothing of it for who looks at another binding")
    tap.equal(tracers["short"][0].wait(60), 0, "--for ends it: exit 0")
    rig.stop("deliveryd")
    tap.equal([tracers[n][0].wait(60) for n in ("json", "other")], [3, 3], "when deliveryd stops: 3")
    tap.ok(b"ended early" in said("other"), "and why")
    tracers["text"][0].wait(60)
    for args, code in ((("--for", "x"), 2), (("now",), 2), ((), 3)):
        tap.equal(rig.bindpost("trace", *args, check=False).returncode, code, "trace %s without a daemon: exit %d" % (" ".join(args), code))
    rig.start_deliveryd()
    for args in (("--binding", "a b"), ("--domain", "a..b")):
        tap.equal(rig.bindpost("trace", *args, check=False).returncode, 2, "trace %s: exit 2" % " ".join(args))
    for _, out in tracers.values():
        out.close()


class Terminal:
    """The command on a terminal of its own; a thread reads what it draws."""

    def __init__(self, rig, *args, size=(24, 80)):
        self.master, slave = pty.openpty()
        self.slave = slave
        self.resize(*size)
        self.before = termios.tcgetattr(slave)
        self.proc = subprocess.Popen([rig.program("bindpost"), "-c", rig.config, *args], stdin=slave, stdout=slave, stderr=slave,
                                     start_new_session=True, preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0))
        self.drawn = b""
        self.reader = threading.Thread(target=self.read, daemon=True)
        self.reader.start()

    def read(self):
        try:
            while True:
                self.drawn += os.read(self.master, 65536)
        except OSError:
            pass

    def resize(self, rows, columns):
        fcntl.ioctl(self.slave, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))

    def frames(self):
        return self.drawn.split(b"\x1b[H")[1:]

    def last_whole(self):
        """The frame before the one that may be being drawn."""
        return self.frames()[-2].decode().replace("\x1b[K", "").replace("\x1b[J", "").replace("\r", "").split("\n")

    def end(self):
        code = self.proc.wait(60)
        wait_for("its last words", lambda: b"\x1b[?1049l" in self.drawn)
        as_before = termios.tcgetattr(self.slave)[3] == self.before[3]
        os.close(self.slave)
        self.reader.join(60)
        os.close(self.master)
        return code, as_before, self.drawn.endswith(b"\x1b[?25h\x1b[?1049l")


def top(tap, rig):
    for i in range(5):
        hand_over(rig, "top%d@d0.example" % i, b"Subject: x\r\n\r\nx\r\n")
    rig.mx_option("mx1.example", "rcpt=451 4.7.1 \x01 caf later")
    hand_over(rig, "late@d1.example", b"Subject: x\r\n\r\nx\r\n")
    wait_for("them", lambda: rig.bindpost_json("top")["summary"]["deferred"] and len(rig.events("delivery")) >= 5)

    def moving():
        """Rates are of some seconds: on a machine that needs longer than that to ask, there has to be something new."""
        hand_over(rig, "more@d0.example", b"Subject: x\r\n\r\nx\r\n")
        hand_over(rig, "later@d1.example", b"Subject: x\r\n\r\nx\r\n")
        now = rig.bindpost_json("top")
        seen = {r["next_hop"]: r["per_second"] for r in now["destinations"] if r["binding"] == "acme"}
        return now if seen["d0.example"]["delivered"] > 0 and seen["d1.example"]["deferrals"] > 0 else None

    answer = wait_for("rates", moving, 120)
    rows = {r["next_hop"]: r for r in answer["destinations"] if r["binding"] == "acme"}
    tap.ok(rows["d0.example"]["per_second"]["delivered"] > 0 and rows["d1.example"]["per_second"]["deferrals"] > 0, "top --json: rates by destination", rows)
    tap.equal((rows["d1.example"]["code"], rows["d0.example"]["code"]), (451, 250), "with the last reply")
    acme = [r for r in answer["bindings"] if r["binding"] == "acme"][0]
    tap.ok(acme["per_second"]["received"] > 0 and acme["deferred"] >= 1, "and by binding", acme)
    tap.equal(rig.bindpost_json("top", "--binding", "bravo")["destinations"], [], "of one binding")
    tap.equal([r["next_hop"] for r in rig.bindpost_json("top", "--domain", "d1.example")["destinations"]], ["d1.example"], "of one destination")
    done = rig.bindpost("top")
    tap.ok("\x1b" not in done.stdout and "d1.example" in done.stdout and "451" in done.stdout, "without a terminal one frame, as text", done.stdout)
    tap.ok("\x1b" not in on_terminal(rig, "top", "--once").decode(), "--once: so it is on a terminal")
    for args in (("--interval", "0"), ("--interval", "x"), ("now",), ("--bogus",)):
        tap.equal(rig.bindpost("top", *args, check=False).returncode, 2, "top %s: usage" % " ".join(args))
    t = Terminal(rig, "top", "--interval", "1s")
    wait_for("some frames", lambda: len(t.frames()) >= 3, 120)
    tap.ok(t.drawn.startswith(b"\x1b[?1049h\x1b[?25l"), "live: on another screen")
    lines = t.last_whole()
    tap.ok(lines[0].startswith("bindpost top") and any("d0.example" in line for line in lines) and len(lines) <= 24
           and max(len(line) for line in lines) <= 80, "a frame fits the terminal", lines)
    t.resize(12, 50)
    n = len(t.frames())
    wait_for("more frames", lambda: len(t.frames()) >= n + 4, 120)
    lines = t.last_whole()
    tap.ok(len(lines) <= 12 and max(len(line) for line in lines) <= 50, "and so it does when that has become smaller", lines)
    os.write(t.master, b"xq")
    tap.equal(t.end(), (0, True, True), "q ends it: exit 0, the terminal as it was")
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        t = Terminal(rig, "top")
        wait_for("a frame", lambda t=t: t.frames(), 120)
        t.proc.send_signal(number)
        tap.equal(t.end(), (-number, True, True), "%s ends it, the terminal as it was" % number.name)
    t = Terminal(rig, "top", "--interval", "1s")
    wait_for("a frame", lambda: t.frames(), 120)
    rig.stop("deliveryd")
    tap.equal((t.proc.wait(60), b"nobody listens there" in wait_for("its words", lambda: t.drawn if b"listens" in t.drawn else None)), (3, True),
              "without a daemon: exit 3, and why, on the old screen")
    rig.start_deliveryd()
    rig.mx_option("mx1.example", None)


def descriptors(tap, rig):
    """Clients that open connections and leave them open take nothing from mail."""
    rig.stop("deliveryd")
    rig.prefix = ["prlimit", "--nofile=400:400", "--"]
    rig.start_deliveryd()
    rig.prefix = []
    clients = []
    for _ in range(380):
        s = socket.socket(socket.AF_UNIX)
        s.connect(rig.sock("control.sock"))  # the line of those not taken yet is long
        clients.append(s)
    wait_for("it to notice", lambda: "few descriptors are left" in rig.tail("deliveryd", 100))
    hand_over(rig, "few@d0.example", b"Subject: x\r\n\r\nx\r\n")
    wait_for("its delivery", lambda: [e for e in rig.events("delivery") if e["recipient"] == "few@d0.example"])
    tap.ok(True, "beside 380 connections of a process with 400 descriptors mail is taken and delivered")
    for s in clients:
        s.close()
    wait_for("it to answer again", lambda: rig.bindpost("summary", check=False).returncode == 0, 60)
    tap.ok(True, "and it answers when they have gone")
    rig.stop("deliveryd")
    rig.start_deliveryd()


def own_words(tap, rig):
    """A failure in our own words reads the same in events and messages."""
    hand_over(rig, "nobody@d0.example", b"Subject: x\r\n\r\nx\r\n")  # its MX host has gone
    event = wait_for("a deferral", lambda: [e for e in rig.events("deferral") if e["recipient"] == "nobody@d0.example"])[-1]
    row = wait_for("it to wait", lambda: [r for r in rig.bindpost_json("messages")["items"] if r["recipient"] == ["nobody@d0.example"] and r.get("reply")])[0]
    tap.equal([row[k] for k in ("code", "enhanced", "reply")], [event[k] for k in ("code", "enhanced", "reply")],
              "messages has code, enhanced and reply as the event has")
    tap.equal(rig.stop("deliveryd"), 0, "a restart")
    rig.start_deliveryd()
    row = [r for r in rig.bindpost_json("messages")["items"] if r["recipient"] == ["nobody@d0.example"]][0]
    tap.equal(row["enhanced"], event["enhanced"], "also after a restart")
    tap.ok(not row["reply"].startswith(row["enhanced"]), "with its words", row)


def config_eval(tap, rig):
    both = [rig.bindpost_json("config", "eval", "retry_interval", *more) for more in ((), ("--binding", "acme"), ("--binding", "acme", "--domain", "d0.example"))]
    tap.equal([r["value"] for r in both], ["2s", "2s", "7s"], "config eval: a domain within a binding goes before")
    tap.ok("bindings.acme.domains.d0.example" in json.dumps(both[2]), "and it says where that stands", both[2])
    for args, code in ((("no_such_option",), 1), ((), 2), (("retry_interval", "--binding", "nobody"), 1)):
        done = rig.bindpost("config", "eval", *args, check=False)
        tap.ok(done.returncode == code and done.stderr, "config eval %s: exit %d" % (" ".join(args), code), done)


def body(tap, rig):
    standard_domains(rig, 2)
    policy = standard_policy(rig)
    policy["global"]["idle_timeout"] = "1s"
    policy["bindings"]["acme"]["domains"] = {"d0.example": {"retry_interval": "7s"}}
    rig.write_config(policy, handoff={"relay_hosts": [rig.net + ".0/24", "127.0.0.0/8"]})
    rig.start_dns()
    rig.start_mx()
    rig.start_deliveryd()
    ids = message_bytes(tap, rig)
    message_errors(tap, rig, ids)
    trace(tap, rig)
    top(tap, rig)
    descriptors(tap, rig)
    connections(tap, rig)
    own_words(tap, rig)
    config_eval(tap, rig)
    tap.equal(rig.stop("deliveryd"), 0, "SIGTERM ends it")


if __name__ == "__main__":
    run(body)
