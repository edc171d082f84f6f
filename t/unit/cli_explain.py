#!/usr/bin/env python3
"""`bindpost explain` and `bindpost stamp`: on a configuration of its own, without a daemon."""
import hashlib
import json
import os
import re
import socket
import stat
import subprocess
import sys
import tempfile

BUILD = os.environ.get("builddir") or os.getcwd()
n = failed = 0


def ok(good, what, *why):
    global n, failed
    n += 1
    failed += not good
    print("%sok %d - %s" % ("" if good else "not ", n, what), flush=True)
    if not good:
        for line in "\n".join(str(w) for w in why).splitlines():
            print("# " + line)


def equal(got, want, what):
    ok(got == want, what, "got  %r" % (got,), "want %r" % (want,))


PROCESS = {"hostname": "mta1.example.net", "milter": {"body_limit": 20},
           "control": {"listen": "unix:control.sock"}}
POLICY = {
    "global": {"bind_address": "192.0.2.9", "idle_timeout": "5s"},
    "bindings": {
        "default": {"bind_address": "192.0.2.10"},
        "acme": {"bind_address": ["192.0.2.20", "2001:db8::20"], "ehlo_hostname": "acme.example.net",
                 "match_domain": ["acme.example"], "match_domain_from": ["10.0.0.0/8"],
                 "max_outbound_connections": 20, "domains": {"gmail.com": {"max_outbound_connections": 5}}},
        "vip": {"bind_address": "192.0.2.40", "suspend_delivery": True}},
    "binding_groups": {"shared": {"server_max_outbound_connections": 50, "bindings": {
        "shared1": {"bind_address": "192.0.2.31"}, "shared2": {"bind_address": "192.0.2.32", "weight": 3}}}},
    "domains": {"local.example.com": {"gateway": "10.10.10.20:2400", "delivery_method": "lmtp"},
                "routed.example": {"routes": ["hub.example.net", "__mx__"]}},
    "rules": [
        {"name": "big", "when": "size > '900' AND NOT helo == 'x'", "bind": "acme"},
        {"name": "word", "when": "body =~ 'needle'", "bind": "acme"},
        {"name": "vips", "when": "header:X-Vip == 'yes' AND rcptto == 'boss@gmail.com'", "bind": "vip", "priority": "high"},
        {"name": "lists", "when": "header:X-List =~ '^a b\\tc$'", "bind": ["acme", "group:shared"], "sticky": "mailfrom"},
        {"name": "named", "when": "sender_ip in '10.9.0.0/16'", "bind": {"header": "X-Customer"}},
        {"name": "pool", "when": "mailfrom_domain == 'pool.example'", "bind": "group:shared"}]}


class Folder:
    def __init__(self, path):
        self.path = path
        self.write("bindpost.json", json.dumps(PROCESS))
        self.write("policy.json", json.dumps(POLICY))

    def write(self, name, text):
        with open(os.path.join(self.path, name), "wb") as f:
            f.write(text if isinstance(text, bytes) else text.encode())
        return os.path.join(self.path, name)

    def run(self, *args):
        return subprocess.run([os.path.join(BUILD, "bindpost"), "-c", os.path.join(self.path, "bindpost.json"), *args],
                              text=True, capture_output=True, timeout=60)

    def explain(self, *args):
        done = self.run("--json", "explain", *args)
        if done.returncode:
            ok(False, "explain " + " ".join(args), done.stderr)
        return json.loads(done.stdout)


def decided(answer):
    return answer["decision"]["target"], answer["decision"]["rule"]


def rules(d):
    a = d.explain("--from", "News@ACME.example", "--to", "bob@GMAIL.com", "--client", "10.0.0.1")
    equal(decided(a), ("acme", "match_domain"), "match_domain")
    equal(a["match_domain"], {"domain": "acme.example", "binding": "acme", "believed": True}, "what it asked")
    equal(a["stamp"], "X-Binding: acme; b=match_domain", "the stamp as it would be written")
    equal([r["rule"] for r in a["rules"]], ["big", "word", "vips", "lists", "named", "pool"], "all rules were tried")
    equal(a["message"]["unknown"], ["--helo", "--body-file", "--size"], "what rules ask for and was not given")
    test = a["rules"][0]["tests"]
    equal([(t["test"], t["known"], t["result"]) for t in test],
          [("size > '900'", False, False), ("helo == 'x'", False, False)], "each test and its result")
    a = d.explain("--from", "news@acme.example", "--client", "192.0.2.1")
    equal((decided(a), a["match_domain"]["believed"]), (("default", "default"), False), "match_domain_from")
    a = d.explain("--from", "<>", "--to", "x@y.example")
    equal(decided(a), ("default", "default"), "the null reverse-path")
    a = d.explain("--from", "a@b.example", "--size", "1000", "--helo", "y")
    equal((decided(a), len(a["rules"])), (("acme", "big"), 1), "rules after the one that decides are not tried")
    a = d.explain("--from", "a@b.example", "--client", "10.9.1.1", "--header", "X-customer: vip")
    equal((decided(a), a["rules"][4]["chosen_by"]), (("vip", "named"), "header x-customer"), "a target a header names")
    a = d.explain("--from", "a@b.example", "--header", "X-List: other", "--header", "x-list: a b\tc")
    equal(a["rules"][3]["tests"][0]["value"], "a b\tc", "of several header fields the one that a test holds for")
    a = d.explain("--from", "a@b.example", "--header", "X-List: a b\tc")
    equal(a["rules"][3]["choices"], [{"target": "acme", "weight": 1.0}, {"target": "group:shared", "weight": 1.0}],
          "a list: what was chosen among")
    equal(a["rules"][3]["chosen_by"], "sticky mailfrom", "and how")
    equal(decided(a), decided(d.explain("--from", "a@b.example", "--header", "X-List: a b\tc")), "the same each time")


def recipients(d):
    a = d.explain("--from", "n@acme.example", "--client", "10.0.0.1", "--to", "boss@gmail.com", "--to", "<x@gmail.com>",
                  "--to", "l@local.example.com", "--to", "postmaster", "--header", "X-Vip: yes")
    digest = hashlib.sha256(b"header:x-vip == 'yes' AND rcptto == 'boss@gmail.com'").hexdigest()[:8]
    equal(a["decision"]["open"], [{"rule": "vips", "digest": digest, "target": "vip"}], "a rule on recipients stays open")
    equal(a["stamp"], "X-Binding: acme; b=match_domain; r=vips/%s/vip" % digest, "and is stamped")
    boss, other, local, here = a["recipients"]
    equal((boss["target"], boss["rule"], boss["priority"], boss["rules"][0]["matched"]), ("vip", "vips", "high", True),
          "it decides for its recipient")
    equal((other["target"], other["rule"], other["rules"][0]["matched"]), ("acme", "match_domain", False), "and for no other")
    equal(boss["bindings"][0]["suspended"], True, "a suspended binding is said to be")
    b = other["bindings"][0]
    equal((b["source"], b["source_origin"]), (["192.0.2.20", "2001:db8::20"], "policy.json: bindings.acme"), "source")
    equal((b["ehlo"], b["ehlo_origin"]), ("acme.example.net", "policy.json: bindings.acme"), "EHLO name")
    equal((b["route"]["type"], b["route"]["next_hop"], b["route"]["port"]), ("mx", "gmail.com", 25), "MX of the domain")
    equal((b["limits"]["max_outbound_connections"], b["limits"]["binding_total"], b["limits"]["server_total"]),
          (5, None, 20000), "limits")
    equal(b["options"], [
        {"option": "ehlo_hostname", "value": "acme.example.net", "origin": "policy.json: bindings.acme"},
        {"option": "max_outbound_connections", "value": 5, "origin": "policy.json: bindings.acme.domains.gmail.com"}],
        "options that differ from the built-in ones, and no other, with their origin")
    r = local["bindings"][0]["route"]
    equal((r["type"], r["next_hop"], r["method"], r["origin"]),
          ("gateway", "10.10.10.20:2400", "lmtp", "policy.json: domains.local.example.com"), "a gateway")
    a = d.explain("--from", "a@b.example", "--to", "x@routed.example")
    r = a["recipients"][0]["bindings"][0]["route"]
    equal((r["type"], r["next_hop"], r["origin"]),
          ("routes", ["smtp://hub.example.net:25?pref=0", "mx://routed.example:25?pref=1"], "policy.json: domains.routed.example"),
          "routes, with what they leave open filled in")
    equal(here["domain"], "mta1.example.net", "a recipient without a domain is of this machine")
    done = d.run("--json", "explain", "--from", "a@b.example", "--to", "a@[192.0.2.7]", "--to", "a@-x..y", "--to", "a b", "--to", "a@b.example>x")
    a = json.loads(done.stdout)
    equal((done.returncode, ['"a b" is not an address' in done.stderr]), (1, [True]), "what is no address is an error")
    ok("error" in a["recipients"][2] and "error" in a["recipients"][3], "also with a blank, or more behind")
    equal(d.run("explain", "--from", "a b@c.example", "--to", "x@y.example").returncode, 2, "so is such a sender")
    equal(a["recipients"][0]["bindings"][0]["route"]["type"], "address", "an address literal")
    ok("error" in a["recipients"][1], "an address that is none")


def groups(d):
    a = d.explain("--from", "a@pool.example", "--to", "x@y.example")
    r = a["recipients"][0]
    equal((r["target"], r["chosen_by"], r["member"]), ("group:shared", "id", None), "a group's member is chosen by the id")
    equal(r["members"], [{"binding": "shared1", "weight": 1.0}, {"binding": "shared2", "weight": 3.0}], "among these")
    equal([b["binding"] for b in r["bindings"]], ["shared1", "shared2"], "without --id all are shown")
    equal(r["bindings"][0]["limits"]["binding_total"], 50, "a member's total is its group's")
    got = [d.explain("--from", "a@pool.example", "--to", "x@y.example", "--id", "%016x" % (i * 7919))["recipients"][0]
           for i in range(40)]
    equal([len(r["bindings"]) for r in got], [1] * 40, "with --id the one it gets is")
    members = [r["member"] for r in got]
    ok(20 <= members.count("shared2") < 40, "by weight", members.count("shared2"))
    text = d.run("explain", "--from", "a@pool.example", "--to", "x@y.example", "--id", "0" * 15 + "7").stdout
    ok("chosen among shared1 (weight 1), shared2 (weight 3) by the queue id" in text, "the text says so", text)


def messages(d):
    text = (b"Received: from x\r\n\tby y\r\nX-Binding: forged; b=x\r\nX-Vip:\r\n yes\r\nMessage-ID: <1@x>\r\n"
            b"Subject: caf\xe9\r\n\r\nneedle\r\n")
    path = d.write("m.eml", text)
    a = d.explain("--from", "a@b.example", "--message", path, "--to", "boss@gmail.com")
    equal(decided(a), ("acme", "word"), "a message file: its body")
    equal(a["message"]["size"], len(text) - len(b"X-Binding: forged; b=x\r\n"), "its size, without a stamp that came")
    unix = d.write("u.eml", b"From x Mon\n" + text.replace(b"\r\n", b"\n").replace(b"needle", b"other") + b"..........needle")
    a = d.explain("--from", "a@b.example", "--message", unix, "--to", "boss@gmail.com")
    equal([r["rule"] for r in a["rules"] if r["matched"]], ["vips"], "an mbox file with Unix line ends; milter.body_limit; folding")
    a = d.explain("--from", "a@b.example", "--body-file", d.write("body", "x needle"))
    equal(decided(a), ("acme", "word"), "a body alone")
    done = d.run("explain", "--from", "a@b.example", "--message", unix, "--to", "boss@gmail.com")
    equal((done.returncode, done.stderr), (0, ""), "as text")


def text_form(d):
    done = d.run("explain", "--from", "n@acme.example", "--client", "10.0.0.1", "--to", "bob@gmail.com")
    tail = done.stdout[done.stdout.index("Decision"):]
    equal(tail, """Decision: acme, by match_domain
  X-Binding: acme; b=match_domain

Recipient bob@gmail.com: acme, by match_domain
  binding acme    policy.json: bindings.acme
    source   192.0.2.20,2001:db8::20    policy.json: bindings.acme
    EHLO     acme.example.net    policy.json: bindings.acme
    route    MX hosts of gmail.com; esmtp, port 25
    TLS      ifavailable, from version 1.0 on, tls_verify no; DANE ifavailable, which goes before them
    limits   5 connections to this next hop, 20000 in all; 100 recipients at a time
    options that differ from the built-in ones
      ehlo_hostname = "acme.example.net"    policy.json: bindings.acme
      max_outbound_connections = 5    policy.json: bindings.acme.domains.gmail.com
""", "the text of a recipient")
    done = d.run("explain", "--from", "n@acme.example\x1b[2J", "--to", "x@y.example", "--header", "X-List: \x1b]0;x\x07")
    ok("\x1b" not in done.stdout and "\x07" not in done.stdout, "nothing given reaches the terminal raw", repr(done.stdout))


def refusals(d):
    for args, code, what in ((["--to", "x@y"], 2, "--from"), (["--from", "a@b", "--what"], 2, "--what"),
                             (["--from", "a@b", "--client", "nonsense"], 2, "--client"),
                             (["--from", "a@b", "--recv-ip", "nonsense"], 2, "--recv-ip"),
                             (["--from", "a@b", "--header", "no colon"], 2, "--header"),
                             (["--from", "a@b", "--id", "12"], 2, "--id"),
                             (["--from", "a@b", "--message", "/nonexistent"], 2, "/nonexistent"),
                             (["--from", "a@b", "--to", "x@y.example", "--live"], 3, "control.sock")):
        done = d.run("explain", *args)
        equal((done.returncode, what in done.stderr), (code, True), "explain %s: %d" % (" ".join(args), code))
    strict = dict(POLICY, **{"global": {"default_binding": "none"}})
    d.write("policy.json", json.dumps(strict))
    a = d.explain("--from", "a@b.example", "--to", "x@y.example")
    equal(a["decision"]["reply"], "451 4.7.1 no binding claims this message", "default_binding none: what the milter answers")
    equal(d.explain("--from", "", "--to", "x@y.example")["decision"]["reply"], None, "but never to the null reverse-path")
    d.write("policy.json", json.dumps(dict(POLICY, rules=[{"when": "nonsense", "bind": "acme"}])))
    equal(d.run("explain", "--from", "a@b").returncode, 1, "a bad configuration is refused")
    d.write("policy.json", json.dumps(POLICY))


def live(d):
    """A deliveryd of two answers."""
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(os.path.join(d.path, "control.sock"))
    listener.listen()
    asked = []
    pid = os.fork()
    if pid == 0:
        for body in ({"items": [{"binding": "acme", "active": 1, "deferred": 2, "held": 3, "connections": 4,
                                 "source_down": True}], "next": None},
                     {"items": [{"next_hop": "gmail.com", "active": 1, "deferred": 0, "held": 0, "connections": 0,
                                 "reason": "suspended"}], "next": None}) * 2:
            conn, _ = listener.accept()
            request = b""
            while b"\r\n\r\n" not in request:
                request += conn.recv(4096)
            d.write("asked", (open(os.path.join(d.path, "asked"), "rb").read() if os.path.exists(
                os.path.join(d.path, "asked")) else b"") + request.split(b"\r\n")[0] + b"\n")
            text = json.dumps(body).encode()
            conn.sendall(b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: %d\r\n\r\n" % len(text) + text)
            conn.close()
        os._exit(0)
    args = ["--socket", "unix:" + os.path.join(d.path, "control.sock"), "--from", "n@acme.example", "--client", "10.0.0.1",
            "--to", "bob@gmail.com", "--live"]
    row = d.explain(*args)["recipients"][0]["bindings"][0]["live"]
    equal((row["binding"]["held"], row["queues"][0]["reason"]), (3, "suspended"), "--live: what deliveryd says")
    text = d.run("explain", *args).stdout
    ok("active 1, deferred 2, held 3, connections 4, SOURCE DOWN" in text and "waits: suspended" in text, "as text", text)
    os.waitpid(pid, 0)
    with open(os.path.join(d.path, "asked"), encoding="ascii") as f:
        asked = f.read().splitlines()[:2]
    equal(asked, ["GET /v1/bindings?binding=acme HTTP/1.1", "GET /v1/queues?binding=acme&domain=gmail.com HTTP/1.1"],
          "two questions per binding")


def keys(d):
    a, b = d.run("stamp", "--new-key").stdout, d.run("stamp", "--new-key").stdout
    ok(re.fullmatch("[0-9a-f]{64}\n", a) and a != b, "stamp --new-key prints a key, another each time", a, b)
    path = os.path.join(d.path, "stamp.key")
    equal(d.run("stamp", "--new-key", path).returncode, 0, "into a new file")
    equal(stat.S_IMODE(os.stat(path).st_mode), 0o600, "that only its owner reads")
    with open(path, encoding="ascii") as f:
        first = f.read()
    os.chmod(path, 0o640)
    os.symlink(path, path + ".link")
    d.run("stamp", "--new-key", path + ".link")
    with open(path, encoding="ascii") as f:
        second = f.read()
    ok(second.endswith(first) and re.fullmatch("([0-9a-f]{64}\n){2}", second), "a new key comes first, the old stays", second)
    equal((stat.S_IMODE(os.stat(path).st_mode), os.path.islink(path + ".link")), (0o640, True), "mode and link are kept")
    d.write("bindpost.json", json.dumps(dict(PROCESS, stamp={"key_file": "stamp.key"})))
    signed = d.explain("--from", "a@b.example", "--header", "Message-ID: <1@x>")["stamp"]
    ok(re.fullmatch(r"X-Binding: default; b=default; t=\d+; m=1; h=[-_A-Za-z0-9]{43}", signed), "explain signs with it", signed)
    d.write("stamp.key", "rubbish\n")
    done = d.run("stamp", "--new-key", path)
    equal((done.returncode, open(path, encoding="ascii").read(), os.path.exists(path + ".new")), (1, "rubbish\n", False),
          "a file that is no key file is left alone")
    a = d.explain("--from", "a@b.example")
    ok("stamp.key" in a["stamp_unsigned"], "keys that cannot be read: unsigned, and said so", a)
    equal(d.run("stamp").returncode, 2, "stamp without --new-key is a usage error")
    equal(d.run("stamp", "--new-key", os.path.join(d.path, "no", "file")).returncode, 1, "a folder that is not there")
    d.write("bindpost.json", json.dumps(PROCESS))


with tempfile.TemporaryDirectory(prefix="bindpost-explain-") as folder:
    where = Folder(folder)
    for part in (rules, recipients, groups, messages, text_form, refusals, live, keys):
        part(where)
print("1..%d" % n)
sys.exit(1 if failed else 0)
