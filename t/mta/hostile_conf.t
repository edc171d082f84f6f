#!/usr/bin/env python3
"""Broken configurations: each of the three programs says which file, where and why, exits with 1, and never crashes."""
import json
import os
import random
import re
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))
from hostile import COMPLAINTS  # noqa: E402
from mta import run  # noqa: E402

PROCESS = {"hostname": "mta1.example.net", "policy": ["policy.json"], "milter": {"listen": "unix:m.sock", "control": "unix:mc.sock"},
           "handoff": {"listen": ["unix:h.sock", "inet:127.0.0.1:2424"]}, "spool": {"path": "spool"}, "control": {"listen": "unix:c.sock"},
           "log": {"events": "events.jsonl"}}
POLICY = {"global": {"retry_interval": "20m"}, "bindings": {
    "acme": {"bind_address": ["192.0.2.20", "2001:db8::20"], "match_domain": ["acme.example"], "domains": {"gmail.com": {"max_outbound_connections": 5}}},
    "default": {"bind_address": "192.0.2.10"}},
    "binding_groups": {"shared": {"bindings": {"s1": {"bind_address": "192.0.2.31"}}}}, "domains": {"/^(a|b)\\.fr$/": {"max_outbound_connections": 3}},
    "rules": [{"name": "one", "when": "mailfrom == 'a@b.example'", "bind": "acme"}, {"when": "mailfrom =~ 'x$'", "bind": "group:shared"}]}

DROP = object()


def at(path, value, *more):
    """One change of a configuration: path as in an error's text."""
    return (path, value) + more


# (where, value, what the error says besides file and place); the place is the path unless given
PROCESS_CASES = [
    at("hostname", 5), at("hostname", ""), at("hostname", "a b"), at("hostname", "x" * 300), 
    at("policy", 5), at("policy", [5]), at("policy", ["missing.json"], "missing.json"), at("policy", "missing.json", "missing.json"), at("policy", ["."]),
    at("polcy", "x"), at("handoff", 5), at("handoff", []), at("handoff", None), at("handoff", "x"), at("handoff.lisen", "x"), at("handoff.listen", []), at("handoff.listen", 5),
    at("handoff.listen", "2424"), at("handoff.listen", "inet:127.0.0.1"), at("handoff.listen", "inet:127.0.0.1:0"), at("handoff.listen", "inet:127.0.0.1:65536"),
    at("handoff.listen", "inet:127.0.0.1:x"), at("handoff.listen", "inet:::1:25"), at("handoff.listen", "inet:[::1:25"), at("handoff.listen", "unix:"),
    at("handoff.listen", "unix:/x?mode=999"), at("handoff.listen", "unix:/x?mode="), at("handoff.listen", "unix:/x?nonsense=1"), at("handoff.listen", "unix:/" + "x" * 200),
    at("handoff.listen", "tcp:127.0.0.1:25"), at("handoff.listen", ["unix:a.sock", "unix:a.sock"]), at("handoff.listen", {"a": 1}), at("handoff.listen", "systemd:"),
    at("handoff.relay_hosts", "10.0.0.0/33"), at("handoff.relay_hosts", ["x"]), at("handoff.relay_hosts", ["::1/129"]), at("handoff.relay_hosts", 5), at("handoff.relay_hosts", ["10.0.0.0/-1"]),
    at("handoff.max_message_size", "50XB"), at("handoff.max_message_size", -1), at("handoff.max_message_size", 1.5), at("handoff.max_message_size", "1.5MB"), at("handoff.max_message_size", 0),
    at("handoff.max_message_size", "99999999999999999999MB"), at("handoff.max_message_size", "18446744073709551615GB"), at("handoff.max_message_size", True), at("handoff.max_message_size", ""),
    at("handoff.max_recipients", 0), at("handoff.max_recipients", "many"), at("handoff.max_recipients", 2**33), at("handoff.max_recipients", 10**18), at("handoff.max_recipients", [1]),
    at("handoff.unstamped", "maybe"), at("handoff.unstamped", "Policy"), at("handoff.unstamped", True), at("handoff.bad_stamp", ""), at("handoff.bad_stamp", ["tempfail"]),
    at("stamp.header", "X Binding"), at("stamp.header", "X-Binding:"), at("stamp.header", ""), at("stamp.header", "Received"), at("stamp.lifetime", "0"), at("stamp.lifetime", "forever"),
    at("stamp.lifetime", "-1d"), at("stamp.lifetime", "1d1h"), at("stamp.lifetime", "99999999999d"), at("stamp.key_file", 5), at("stamp.key_file", "missing.key", "missing.key"),
    at("stamp.key_file", "short.key", "short.key"), at("stamp.key_file", "open.key", "open.key"), at("stamp.key_file", "empty.key", "empty.key"), at("stamp.key_file", "."),
    at("milter.on_error", "panic"), at("milter.body_limit", "x"), at("milter.listen", "unix:h.sock"), at("milter.listen", ["unix:a", "unix:b"]), at("spool.path", ""), at("spool.path", 5),
    at("spool.min_free", "-1"), at("spool.segment_size", "1KB"), at("spool.segment_size", "2GB"), at("dns.servers", ["nameserver"]), at("dns.servers", ["127.0.0.1:0"]), at("dns.servers", []),
    at("dns.servers", [{"address": "127.0.0.1", "trust": True}]), at("dns.servers", [{"trust_ad": True}]), at("dns.servers", [{"address": "127.0.0.1", "trust_ad": "yes"}]), at("dns.servers", [None]), at("delivery.threads", -1), at("delivery.threads", 257), at("delivery.threads", "two"), at("notify.via", "127.0.0.1"),
    at("control.listen", None), at("control.metrics", "inet:0.0.0.0"), at("log.level", "loud"), at("log.events", 5), at("stop_timeout", "0"), at("stop_timeout", "2h"), at("user", ""), at("user", 5),
]

POLICY_CASES = [
    at("global", 5), at("global", []), at("global.retry_interval", "x"), at("global.retry_interval", 0), at("global.retry_interval", -5), at("global.retry_interval", "20 m"), at("global.retry_interval", "9e9"),
    at("global.retry_intervall", "20m"), at("global.max_retries", "never"), at("global.max_outbound_connections", 0), at("global.max_outbound_connections", 10**9), at("global.remote_smtp_port", 65536),
    at("global.default_binding", "acme"), at("global.removed_bindings", "drop"), at("global.prohibited_hosts", "x"), at("global.use_ipv6", "yes"), at("global.delivery_method", "uucp"), at("global.gateway", ""),
    at("global.gateway", "a b"), at("global.gateway", "host:0"), at("global.gateway", "host:99999"), at("global.gateway", "[::1"), at("global.gateway", 25), at("global.ehlo_hostname", "a b"), at("global.ehlo_hostname", ""),
    at("bindings", []), at("bindings", None), at("bindings.acme", 5), at("bindings.acme", None), at("bindings.acme.bind_address", "192.0.2.300"), at("bindings.acme.bind_address", ["192.0.2.1", "192.0.2.2"]),
    at("bindings.acme.bind_address", []), at("bindings.acme.bind_address", 5), at("bindings.acme.bind_address", "*", "bindings.acme: "), at("bindings.acme.bind_address", ""), at("bindings.acme.bind_address", "192.0.2.1:25"),
    at("bindings.acme.bind_address", "192.0.2.0/24"), at("bindings.acme.bind_address", DROP, "bindings.acme: "), at("bindings.default.bind_address", DROP, "bindings.default: "), at("bindings.default.bind_address", "*", "bindings.default: "),
    at("bindings.acme.bind_address", "0.0.0.0"), at("bindings.acme.bind_address", "::"), at("bindings.acme.bind_address", "224.0.0.1"), at("bindings.acme.bind_address", "255.255.255.255"), at("bindings.acme.bind_addres", "192.0.2.1"),
    at("bindings.default.match_domain", ["acme.example"], "acme.example"), at("bindings.acme.match_domain", [""]), at("bindings.acme.match_domain", [5]),
    at("bindings.acme.match_domain", ["a b"]), at("bindings.acme.match_domain", ["*.example"]), at("bindings.acme.match_domain", ["a@b.example"]), at("bindings.acme.domains", []), at("bindings.acme.domains.gmail.com", 5),
    at("bindings.acme.domains", {"g mail.com": {}}), at("bindings.acme.domains", {"": {}}), at("bindings.acme.domains", {"/(/": {}}), at("bindings.acme.domains", {"/x": {}}),
    at("bindings.acme.domains", {"gmail.com": {"bind_address": "192.0.2.1"}}, "bind_address"), at("bindings.acme.domains", {"Gmail.com": {"max_outbound_connections": 1}, "gmail.com": {"max_outbound_connections": 2}}, "gmail.com.max_outbound_connections"), at("bindings.acme.hosts", 5),
    at("bindings.acme.prohibited_hosts", []), at("bindings.acme.default_binding", "none"), at("bindings.acme.weight", 5), at("bindings", {"default": {"bind_address": "192.0.2.10"}, "a b": {"bind_address": "192.0.2.1"}}, "a b"),
    at("bindings", {"default": {"bind_address": "192.0.2.10"}, "": {"bind_address": "192.0.2.1"}}), at("bindings", {"default": {"bind_address": "192.0.2.10"}, "x" * 65: {"bind_address": "192.0.2.1"}}),
    at("bindings", {"default": {"bind_address": "192.0.2.10"}, "a;b": {"bind_address": "192.0.2.1"}}, "a;b"), at("bindings", {"default": {"bind_address": "192.0.2.10"}, "a/b": {"bind_address": "192.0.2.1"}}),
    at("bindings", {"default": {"bind_address": "192.0.2.10"}, "caf\u00e9": {"bind_address": "192.0.2.1"}}), at("bindings", {"default": {"bind_address": "192.0.2.10"}, "s1": {"bind_address": "192.0.2.1"}}, "s1"),
    at("binding_groups", 5), at("binding_groups.shared", []), at("binding_groups.shared.bindings", 5), at("binding_groups.shared.bindings.s1.weight", 0), at("binding_groups.shared.bindings.s1.weight", -1),
    at("binding_groups.shared.bindings.s1.weight", "x"), at("binding_groups.shared.weight", 5), at("binding_groups.shared.bindings", {"default": {"bind_address": "192.0.2.9"}}), at("binding_groups.shared.nonsense", 1),
    at("binding_groups.shared.bindings", {"acme": {"bind_address": "192.0.2.9"}}, "acme"), at("domains", 5), at("domains", {"/[/": {}}), at("domains", {"a.example": {"rules": []}}, "rules"), at("domains", {"a.example": 5}),
    at("domains", {"a.example": {"max_outbound_connections": "x"}}, "max_outbound_connections"), at("domains", {"x" * 300: {}}), at("domains", {"a..b": {}}), at("hosts", 5), at("hosts", {"mx.example": {"retry_interval": 5}}, "retry_interval"),
    at("hosts", {"mx.example": {"max_outbound_connections": 0}}, "max_outbound_connections"), at("hosts", {"m x": {}}), at("rules", {}), at("rules", [5]), at("rules", [None]), at("rules", [{}]), at("rules", [[]]),
    at("nonsense", {}), at("Global", {}), at("bindings.acme.suspend_delivery", "no"), at("bindings.acme.suspend_delivery", 1),
]


def rule(when="mailfrom == 'a'", bind="acme", **more):
    return [dict({"when": when, "bind": bind}, **more)]


DEEP = "(" * 5000 + "mailfrom == 'a'" + ")" * 5000
RULES = [rule(when=w) for w in (
    "", " ", "mailfrom", "mailfrom ==", "mailfrom == a", "mailfrom == 'a", "mailfrom = 'a'", "mailfrom === 'a'", "nonsense == 'a'", "Mailfrom == 'a'", "mailfrom == 'a' AND", "AND mailfrom == 'a'",
    "mailfrom == 'a' and mailfrom == 'b'", "mailfrom == 'a' mailfrom == 'b'", "mailfrom == 'a' OR OR mailfrom == 'b'", "(mailfrom == 'a'", "mailfrom == 'a')", "()", "NOT", "NOT NOT mailfrom == 'a' NOT", "mailfrom =~ '('", "mailfrom =~ '[a'",
    "mailfrom =~ '(?<x'", "mailfrom =~ '*'", "mailfrom =~ 'a{99999999999}'", "mailfrom =~ '\\\\'", "mailfrom < '5'", "size < 'x'", "size < '-1'", "size < ''", "size == ", "sender_ip in '10.0.0.0/99'", "sender_ip in 'x'", "sender_ip in ''", "sender_ip == 'x'",
    "header: == 'a'", "header:X Y == 'a'", "header == 'a'", "header:X:Y == 'a'", "recv_port == 'x'", "recv_port < '99999999999999999999999'", "mailfrom == 'a' OR rcptto == 'b'", "NOT (mailfrom == 'a' AND rcptto == 'b')",
    "(rcptto == 'a' OR size > '5') AND mailfrom == 'x'", "\xff\xfe", "mailfrom == 'a' ; DROP", "mailfrom == \"a\"", DEEP + ")")]
RULES += [rule(bind=b) for b in ("nobody", "", "group:", "group:nobody", "group:default", "group:acme", 5, None, [], {}, [5], ["nobody"], ["acme", "acme"], {"acme": 0}, {"acme": -1}, {"acme": "x"}, {"nobody": 1}, {"acme": 10**12},
                                {"header": ""}, {"header": 5}, {"header": "X Y"}, {"header": "X", "acme": 1}, ["acme", ["bravo"]], True, "shared", "ACME")]
RULES += [rule(name=n) for n in ("", "a b", "x" * 65, "default", "match_domain", "0123abcd", "a;b", "a/b", 5, None, "caf\u00e9")]
RULES += [rule(sticky=s) for s in ("rcptto", "nonsense", "", 5, "rcptto_domain", "header:")] + [rule(priority=p) for p in ("urgent", 5, "")] + [rule(nonsense=1), [{"when": "mailfrom == 'a'"}], [{"bind": "acme"}]]
RULES += [rule(name="twice") + rule(name="twice"), rule(when=5), rule(when=None), rule(when=["mailfrom == 'a'"])]
POLICY_CASES += [at("rules", r, "", "rules[") for r in RULES]

# whole files that are no configuration
TEXTS = ["", " ", "{", "}", "[]", "5", "null", "\"x\"", "{\"a\"}", "{\"global\": }", "{\"global\": {},}", "{,}", "{\"a\": 1 \"b\": 2}", "{'global': {}}", "{} {}", "{}x", "// x\n{}", "\ufeff{}", "{\"global\": {\"retry_interval\": 01}}",
         "{\"global\": {\"retry_interval\": \"20m\", \"retry_interval\": \"21m\"}}", "{\"global\": {}, \"global\": {}}", "{\"global\": {\"comment\": \"\\ud800\"}}", "{\"global\": {\"comment\": \"\\u0000\"}}x", "{\"global\": {\"retry_interval\": 1e999}}",
         "{\"global\": {\"retry_interval\": 99999999999999999999999}}", "{\"global\": {\"retry_interval\": NaN}}", "{\"global\": {\"x\": \"" + "y" * 1000000, "[" * 100000, "{\"a\":" * 100000, "{\"global\": {\"comment\": \"\x01\"}}", "{\"global\":\0{}}", "\0", "\xff\xfe{\0}\0",
         "{\"bindings\": {\"default\": {\"bind_address\": \"\\u0000\"}}}", "{\"bindings\": {\"a\\u0000b\": {}}}"]


def patched(base, path, value):
    copy = json.loads(json.dumps(base))
    *parents, last = re.split(r"\.(?!com)", path)
    place = copy
    for name in parents:
        place = place.setdefault(name, {})
    if value is DROP:
        del place[last]
    else:
        place[last] = value
    return copy


class Folder:
    """A configuration in a folder of its own, judged by the three programs."""

    def __init__(self, rig, name, process, policy):
        self.rig, self.dir = rig, rig.path("conf", name)
        os.makedirs(self.dir)
        for file, value in (("bindpost.json", process), ("policy.json", policy)):
            with open(os.path.join(self.dir, file), "wb") as f:
                f.write(value if isinstance(value, bytes) else json.dumps(value).encode())
        for file, mode, text in (("short.key", 0o600, "abcd\n"), ("open.key", 0o644, "a" * 64 + "\n"), ("empty.key", 0o600, "# none\n\n")):
            with open(os.path.join(self.dir, file), "w", encoding="ascii") as f:
                f.write(text)
            os.chmod(os.path.join(self.dir, file), mode)

    def judge(self, which=(0, 1, 2)):
        config = os.path.join(self.dir, "bindpost.json")
        said = []
        programs = (["bindpost", "check", config], ["deliveryd", "-t", "-c", config], ["bindpost-milter", "-t", "-c", config])
        for argv in [programs[i] for i in which]:
            try:
                done = subprocess.run([self.rig.program(argv[0])] + argv[1:], capture_output=True, timeout=60, cwd="/")
                said.append((argv[0], done.returncode, (done.stdout + done.stderr).decode("utf-8", "backslashreplace")))
            except subprocess.TimeoutExpired:
                said.append((argv[0], "hangs", ""))
        return said


def verdict(said, wanted):
    """What is wrong about it; wanted: texts that each program must say."""
    wrong = []
    for program, code, text in said:
        if code != 1:
            wrong.append((program, "exit", code, text[-300:]))
        elif COMPLAINTS.search(text):
            wrong.append((program, "sanitizer", text[-600:]))
        elif re.search(r"[\x00-\x08\x0b-\x1f\x7f]", text):
            wrong.append((program, "control bytes in the text", ascii(text[:300])))
        else:
            wrong += [(program, "does not say", w, text[:300]) for w in wanted if w not in text]
    return wrong


def body(tap, rig):
    cases = []

    def case(what, process, policy, *wanted):
        cases.append((what, wanted, Folder(rig, str(len(cases)), process, policy)))

    good = Folder(rig, "good", PROCESS, POLICY)
    tap.equal([(p, c) for p, c, _ in good.judge() if c != 0], [], "the configuration that all others are made of is good")
    for path, value, *more in PROCESS_CASES:
        case("bindpost.json: %s = %.50r" % (path, value), patched(PROCESS, path, value), POLICY, "bindpost.json: ", path.split(".")[0], path.split(".")[-1], *more)
    for path, value, *more in POLICY_CASES:
        wanted = [w for w in more if w] or [path]
        what = "%s = %.70r" % (path, "(dropped)" if value is DROP else value)
        case("policy.json: " + what, PROCESS, patched(POLICY, path, value), "policy.json: ", path.split(".")[0], *wanted)
    for text in TEXTS:
        raw = text.encode("utf-8") if "\ufeff" in text else text.encode("latin-1")
        case("bindpost.json: %.50r" % text, raw, POLICY, "bindpost.json")
        case("policy.json: %.50r" % text, PROCESS, raw, "policy.json")
    case("bad_stamp default with default_binding none", patched(PROCESS, "handoff.bad_stamp", "default"), patched(POLICY, "global.default_binding", "none"), "handoff.bad_stamp", "default_binding")
    case("unstamped default with default_binding none", patched(PROCESS, "handoff.unstamped", "default"), patched(POLICY, "global.default_binding", "none"), "handoff.unstamped", "default_binding")
    case("many errors, all told at once", patched(patched(PROCESS, "hostname", 5), "handoff.unstamped", "x"), patched(patched(POLICY, "bindings.acme.bind_address", "x"), "global.nonsense", 1),
         "hostname", "handoff.unstamped", "bindings.acme.bind_address", "global.nonsense")
    two = Folder(rig, "two", dict(PROCESS, policy=["policy.json", "more.d"]), POLICY)
    os.mkdir(os.path.join(two.dir, "more.d"))
    with open(os.path.join(two.dir, "more.d", "a.json"), "w", encoding="ascii") as f:
        json.dump({"global": {"retry_interval": "5m"}}, f)
    cases.append(("the same option in two files", ("policy.json", "more.d/a.json", "retry_interval"), two))
    def gone(path):
        os.unlink(path)

    def folder_instead(path):
        os.unlink(path)
        os.mkdir(path)

    def fifo_instead(path):
        os.unlink(path)
        os.mkfifo(path)

    for name, make, files in (("missing", gone, 2), ("a folder", folder_instead, 1), ("a FIFO", fifo_instead, 2)):
        for file in ("bindpost.json", "policy.json")[:files]:
            folder = Folder(rig, "%s %s" % (name, file), PROCESS, POLICY)
            make(os.path.join(folder.dir, file))
            cases.append(("%s is %s" % (file, name), (file,), folder))
    dice = random.Random(int(os.environ.get("SEED", "7")))
    noise = []
    for i in range(60):  # good files with some bytes changed: any verdict, but one
        raw = [bytearray(json.dumps(x).encode()) for x in (PROCESS, POLICY)]
        for _ in range(dice.randrange(1, 4)):
            text = dice.choice(raw)
            text[dice.randrange(len(text))] = dice.randrange(256)
        noise.append(Folder(rig, "noise%d" % i, *[bytes(r) for r in raw]))
    with ThreadPoolExecutor(4) as pool:
        # one of the three programs each, every seventh case all of them: they share what judges
        answers = pool.map(lambda i: cases[i][2].judge((0, 1, 2) if i % 7 == 0 else (i % 3,)), range(len(cases)))
        for (what, wanted, _), said in zip(cases, answers):
            wrong = verdict(said, wanted)
            tap.ok(not wrong, ascii(what)[1:-1], *wrong)
        wrong = [(f.dir, said) for f, said in zip(noise, pool.map(Folder.judge, noise))
                 if len({code for _, code, _ in said}) != 1 or said[0][1] not in (0, 1) or COMPLAINTS.search(str(said))]
        tap.equal(wrong[:3], [], "60 configurations with wrong bytes: one verdict of all three, no crash")


run(body)
